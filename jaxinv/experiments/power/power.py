"""How soon the blind score sees structure: models scored again and again while they are trained."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinv.attacks import reshape
from jaxinv.ensemble import mapping
from jaxinv.ensemble.groups import Host, Task, Training, run_task
from jaxinv.ensemble.program import Progress, advance_group, chunk_lengths, prepare, start_group
from jaxinv.experiments.engines import Engine
from jaxinv.experiments.experiment import Experiment, split_of, training_labels
from jaxinv.experiments.planning import Group, plan
from jaxinv.metrics.stats import benjamini_hochberg
from jaxinv.metrics.structure import PermutationNull, blind_scores, permutation_null
from jaxinv.types import Release


class Curves(NamedTuple):
  """What is seen of the models of one arm, by step.

  Attributes:
    structured: share of a model's classes whose image has structure: corrected for the number of
      classes, their p-values are at most alpha.
    morans_i: Moran's I, mean over a model's classes.
    holdout_accuracy: NaN where nothing was held out.
  """

  structured: Float[np.ndarray, "t s"]
  morans_i: Float[np.ndarray, "t s"]
  holdout_accuracy: Float[np.ndarray, "t s"]


class Power(NamedTuple):
  """The power of the blind score.

  Attributes:
    steps: when it was asked; first before any training.
    arms: by name.
    alpha: the share of false alarms that it allows within a model.
  """

  steps: Int[np.ndarray, " t"]
  arms: dict[str, Curves]
  alpha: float


def looks(num_steps: int) -> Int[np.ndarray, " t"]:
  """The steps 0, 1, 2, 5, 10, 20, 50 and so on, and the last."""
  powers = [digit * 10**exponent for exponent in range(len(str(num_steps))) for digit in (1, 2, 5)]
  return np.array(sorted({0, num_steps, *(step for step in powers if step < num_steps)}))


def measure_power(experiment: Experiment, alpha: float = 0.05, host: Host | None = None) -> Power:
  """Trains arms x seeds, and scores the class images of each model at some steps on the way.

  The attacker holds one model's weights and nothing else.

  Args:
    experiment: settings, data and engines.
    alpha: false alarms allowed: the share of what is flagged that is, of each model's classes.
    host: progress, and when to stop.

  Returns:
    The curves.

  Raises:
    InputError: not even one run a device fits the memory.
    Stopped: the host asked for it. Nothing is kept: it starts anew.
  """
  settings, steps = experiment.settings, looks(experiment.settings.steps)
  null = permutation_null((*experiment.dataset.image_shape, 1)[:3])
  runs = {}
  for group in plan(experiment):
    found = run_task(_task(experiment, group, steps, null, alpha), None, host or Host())["found"]
    runs |= {run: Curves(*found[:, i].T) for i, run in enumerate(group.runs)}
  arms = {}
  for i, arm in enumerate(settings.arms):
    columns = zip(*(runs[i, seed] for seed in range(settings.num_seeds)), strict=True)
    arms[arm.name] = Curves(*(np.stack(column, 1) for column in columns))
  return Power(steps, arms, alpha)


def _task(
  experiment: Experiment,
  group: Group,
  steps: Int[np.ndarray, " t"],
  null: PermutationNull,
  alpha: float,
) -> Task:
  """Trains a group; what `Curves` holds of each run, at each of the steps: [t, s, 3]."""
  settings, engine = experiment.settings, experiment.engines[group.engine]
  see = _class_images(engine, experiment.dataset.image_shape)

  def begin() -> Training:
    arms, seeds = zip(*mapping.pad(group.runs, group.width), strict=True)
    data = training_labels(experiment, split_of(experiment, seeds), seeds)
    hypers = [settings.arms[arm].hyper for arm in arms]
    members = prepare(settings.root_seed, seeds, hypers, data, engine.program.data_axes)

    def look(progress: Progress) -> Float[np.ndarray, "1 s 3"]:
      rows = []
      for i in range(len(group.runs)):
        axes = (mapping.STATE_AXES, engine.program.data_axes)
        model = mapping.fetch_run(axes, (progress.states, members[2]), i)
        images = np.asarray(see(*model))
        scores = blind_scores(images.reshape(*images.shape[:3], -1), null)
        structured = benjamini_hochberg(scores.p_values) <= alpha
        accuracy = progress.history.holdout_accuracy[-1, i]
        rows.append((structured.mean(), scores.morans_i.mean(), accuracy))
      return np.array(rows, np.float64)[None]

    def advance(state, length):
      progress = advance_group(engine.program, state[0], *members[1:], length)
      done = int(progress.states.step)
      return progress, np.concatenate([state[1], look(progress)]) if done in steps else state[1]

    start = start_group(engine.program, *members)
    return Training(
      (start, look(start)),
      place=lambda state: state,
      step=lambda state: int(state[0].states.step),
      lengths=lambda done: _lengths(steps.tolist()),
      advance=advance,
      finish=lambda state: {"found": state[1]},
    )

  names = dict.fromkeys(settings.arms[arm].name for arm, _ in group.runs)
  return Task("power", ", ".join(names), len(group.runs), settings.steps, begin)


def _lengths(steps: Sequence[int]) -> Iterator[int]:
  """Chunks of 1, 10, 100, ... from each look to the next: each length is compiled once."""
  for done, step in pairwise(steps):
    yield from chunk_lengths(step, 10 ** (len(str(done)) - 1), done)


def _class_images(
  engine: Engine, image_shape: tuple[int, ...]
) -> Callable[..., Float[Array, "k h w *c"]]:
  """Compiles (state, data) -> one raw image a class."""

  @jax.jit
  def see(state, data):
    return reshape(Release(engine.program.trainer.params(state, data)), image_shape)

  return see


def first_step(power: Power, arm: str, share: float) -> int | None:
  """The first look at which so large a share of the classes of an arm's models is flagged.

  Args:
    power: the curves.
    arm: its name.
    share: of the classes of all seeds together.

  Returns:
    The step, or None where it never is.
  """
  # Shares of each model are rounded, and so is their mean.
  reached = power.arms[arm].structured.mean(1) >= share - 1e-9
  return int(power.steps[reached.argmax()]) if reached.any() else None


def to_csv(power: Power) -> str:
  """The curves as a table, one row for each arm, seed and step; empty where there is no value."""
  rows = ["arm,seed,step,structured,morans_i,holdout_accuracy"]
  for arm, curves in power.arms.items():
    for (t, seed), _ in np.ndenumerate(curves.structured):
      values = [f"{x[t, seed]:.9g}" if np.isfinite(x[t, seed]) else "" for x in curves]
      rows.append(f"{arm},{seed},{power.steps[t]},{','.join(values)}")
  return "\n".join(rows) + "\n"
