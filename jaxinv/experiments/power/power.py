"""How soon the blind score sees structure: models scored again and again while they are trained."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinv.attacks.weights import reshape
from jaxinv.ensemble import mapping
from jaxinv.ensemble.program import Progress, start_group, train_group
from jaxinv.ensemble.seeds import train_keys
from jaxinv.experiments import experiment
from jaxinv.experiments.experiment import Engine, Group, Lab
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


def measure_power(
  lab: Lab, alpha: float = 0.05, advanced: Callable[[str, int], None] = lambda text, steps: None
) -> Power:
  """Trains arms x seeds, and scores the class images of each model at some steps on the way.

  The attacker holds one model's weights and nothing else.

  Args:
    lab: settings, data and engines.
    alpha: false alarms allowed: the share of what is flagged that is, of each model's classes.
    advanced: told how many steps of how many runs were taken.

  Returns:
    The curves.

  Raises:
    InputError: not even one run a device fits the memory.
  """
  steps = looks(lab.settings.steps)
  null = permutation_null((*lab.dataset.image_shape, 1))
  runs = {}
  for group in experiment.plan(lab):
    found = _follow(lab, group, steps, null, alpha, advanced)
    runs |= {run: Curves(*found[:, i].T) for i, run in enumerate(group.runs)}
  arms = {}
  for i, arm in enumerate(lab.settings.arms):
    columns = zip(*(runs[i, seed] for seed in range(lab.settings.num_seeds)), strict=True)
    arms[arm.name] = Curves(*(np.stack(column, 1) for column in columns))
  return Power(steps, arms, alpha)


def _follow(
  lab: Lab,
  group: Group,
  steps: Int[np.ndarray, " t"],
  null: PermutationNull,
  alpha: float,
  advanced: Callable[[str, int], None],
) -> Float[np.ndarray, "t s 3"]:
  """Trains a group; what `Curves` holds of each run, at each of the steps."""
  engine = lab.engines[group.engine]
  arms, seeds = zip(*mapping.pad(group.runs, group.width), strict=True)
  title = ", ".join(dict.fromkeys(lab.settings.arms[arm].name for arm, _ in group.runs))
  data = mapping.shard(experiment.split_of(lab, seeds), mapping.SHARED_DATA, group.width)
  data = experiment.lesson(lab, data, seeds)
  keys = train_keys(lab.settings.root_seed, seeds)
  hypers = mapping.stack_hypers([lab.settings.arms[arm].hyper for arm in arms])
  keys, hypers = (mapping.shard(x, 0, group.width) for x in (keys, hypers))
  axes = (mapping.STATE_AXES, engine.program.data_axes)
  see = _class_images(engine, lab.dataset.image_shape)

  def look(progress: Progress) -> Float[np.ndarray, "s 3"]:
    rows = []
    for i in range(len(group.runs)):
      model = mapping.fetch_run(axes, (progress.states, data), i)
      scores = blind_scores(np.asarray(see(*model))[..., None], null)
      structured = benjamini_hochberg(scores.p_values) <= alpha
      accuracy = progress.history.holdout_accuracy[-1, i]
      rows.append((structured.mean(), scores.morans_i.mean(), accuracy))
    return np.array(rows, np.float64)

  progress = start_group(engine.program, keys, hypers, data)
  found = [look(progress)]
  for done, step in pairwise(steps.tolist()):
    # In chunks of 1, 10, 100, ...: each length is compiled once.
    chunk = 10 ** (len(str(done)) - 1)
    progress = train_group(engine.program, progress, hypers, data, step, chunk)
    found.append(look(progress))
    advanced(title, (step - done) * len(group.runs))
  return np.stack(found)


def _class_images(
  engine: Engine, image_shape: tuple[int, int]
) -> Callable[..., Float[Array, "k h w"]]:
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
