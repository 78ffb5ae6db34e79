"""An experiment: arms x seeds, trained in groups, examined, and put together again.

The way of a group: initial states, chunks of steps with a record after each, checkpoints, then
what its models give away. A finished group is one small file, so that a run that was stopped
goes on where it was.
"""

import shutil
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv import checkpoint, ensemble, files, leakage, recover
from jaxinv.data.splits import check_split
from jaxinv.errors import InputError
from jaxinv.losses import LOSSES
from jaxinv.models import make_model
from jaxinv.optimizers import OPTIMIZERS
from jaxinv.train import make_trainer
from jaxinv.types import Data, Dataset, Hyper


class Arm(NamedTuple):
  """One way of training, all else equal.

  Attributes:
    name: what it is called, in files too.
    optimizer: a name in `optimizers.OPTIMIZERS`.
    hyper: its hyperparameters.
  """

  name: str
  optimizer: str
  hyper: Hyper


@dataclass(frozen=True)
class Settings:
  """All that decides an experiment's numbers, but for its data set.

  Attributes:
    arms: the ways of training, compared over the same seeds, splits, batches and initial weights.
    num_seeds: seeds of each arm.
    root_seed: with a seed's number, decides all of its randomness.
    steps: steps of each run.
    batch_size: examples a step; 0 for the whole training split.
    holdout: examples of each class kept out of training.
    fixed_split: one split for all seeds, else one each.
    loss: a name in `losses.LOSSES`.
    hidden: units of each hidden layer; empty for a linear model.
    use_bias: whether layers have a bias.
    initializer: a name in `models.INITIALIZERS`.
    normalize: a name in `recover.NORMALIZATIONS`.
    width: runs a group; 0 for as many as fit.
    save_seeds: of how many seeds images and weights are kept.
    record_every: steps from one record to the next.
    watch: the class whose image is kept at each record, of each arm's first seed.
  """

  arms: tuple[Arm, ...]
  num_seeds: int = 8
  root_seed: int = 0
  steps: int = 1000
  batch_size: int = 32
  holdout: int = 2
  fixed_split: bool = False
  loss: str = "softmax"
  hidden: tuple[int, ...] = ()
  use_bias: bool = True
  initializer: str = "torch_uniform"
  normalize: str = "min-max"
  width: int = 0
  save_seeds: int = 8
  record_every: int = 20
  watch: int = 0


class Host(NamedTuple):
  """What the host does while the devices work; each may do nothing.

  Attributes:
    advanced: (text, run_steps) -> None, told how many steps of how many runs were taken.
    say: (line) -> None, told what the user should know.
    stop: () -> bool, asked between chunks.
    checkpoint_seconds: time between checkpoints; 0 for one after every chunk.
  """

  advanced: Callable[[str, int], None] = lambda text, run_steps: None
  say: Callable[[str], None] = lambda line: None
  stop: Callable[[], bool] = lambda: False
  checkpoint_seconds: float = 10.0


class Stopped(Exception):
  """The host asked to stop; what was done is saved."""


class Group(NamedTuple):
  """Runs that are trained together, each an (arm, seed); `width` counts the padding in."""

  index: int
  optimizer: str
  runs: tuple[tuple[int, int], ...]
  width: int


# What is kept of a finished group: named arrays, see `_harvest`.
Result = dict[str, np.ndarray]


class Engine(NamedTuple):
  """The compiled functions for one optimiser: train a group, then examine it."""

  program: ensemble.Program
  examine: Callable[..., leakage.Findings]


class Lab(NamedTuple):
  """Settings, data on the device and engines; another data set of the same shape can be put in.

  Attributes:
    settings: what to do.
    dataset: the data, on the host.
    inputs: its examples on the device, once.
    look: how images are made and compared.
    engines: by optimiser's name; nothing is compiled before it is used.
  """

  settings: Settings
  dataset: Dataset
  inputs: jax.Array
  look: leakage.Look
  engines: dict[str, Engine]


def make_lab(settings: Settings, dataset: Dataset) -> Lab:
  """Prepares an experiment.

  Args:
    settings: what to do.
    dataset: images with their classes.

  Returns:
    The lab.

  Raises:
    InputError: a name is unknown, a number makes no sense, or settings and data do not fit.
  """
  check(settings, dataset)
  look = leakage.Look(
    image_shape=dataset.image_shape,
    num_classes=dataset.num_classes,
    holdout=settings.holdout > 0,
    normalize=settings.normalize,
    largest=255.0 * (float(dataset.inputs.max()) if settings.normalize == "max" else 1.0),
  )
  model = make_model(dataset.num_classes, settings.hidden, settings.use_bias, settings.initializer)
  engines = {}
  for name in {arm.optimizer: None for arm in settings.arms}:
    trainer = make_trainer(model, LOSSES[settings.loss], OPTIMIZERS[name], settings.batch_size)
    program = ensemble.make_program(trainer)
    examine = leakage.examine_group(program, look)
    engines[name] = Engine(program, examine)
  return Lab(settings, dataset, jnp.asarray(dataset.inputs), look, engines)


def check(settings: Settings, dataset: Dataset) -> None:
  """Raises InputError, with what to do, unless the settings make sense for the data set."""
  shape = dataset.image_shape
  if shape is None or shape[0] * shape[1] != dataset.inputs.shape[1]:
    raise InputError(
      f"the data's {dataset.inputs.shape[1]} features are no image of shape {shape}: "
      "give a data set of images"
    )
  for arm in settings.arms:
    if arm.optimizer not in OPTIMIZERS:
      raise InputError(
        f"arm '{arm.name}': unknown optimizer '{arm.optimizer}': "
        f"choose from {', '.join(OPTIMIZERS)}"
      )
  names = [arm.name for arm in settings.arms]
  twice = [name for i, name in enumerate(names) if name in names[:i]]
  if twice or not names:
    raise InputError(f"arm '{twice[0]}' is named twice" if twice else "no arm is given")
  if settings.loss not in LOSSES:
    raise InputError(f"unknown loss '{settings.loss}': choose from {', '.join(LOSSES)}")
  if settings.normalize not in recover.NORMALIZATIONS:
    raise InputError(
      f"unknown normalisation '{settings.normalize}': "
      f"choose from {', '.join(recover.NORMALIZATIONS)}"
    )
  check_split(dataset, settings.holdout)
  num_train = len(dataset.labels) - settings.holdout * dataset.num_classes
  if settings.batch_size > num_train:
    raise InputError(
      f"a batch of {settings.batch_size} is more than the {num_train} training examples: "
      "give a smaller --batch_size, or 0 for all of them"
    )


def plan(lab: Lab) -> list[Group]:
  """Divides the runs of each optimiser into groups of one width, all arms' seeds in a row."""
  groups = []
  for name, engine in lab.engines.items():
    arms = [i for i, arm in enumerate(lab.settings.arms) if arm.optimizer == name]
    runs = [(arm, seed) for arm in arms for seed in range(lab.settings.num_seeds)]
    width = lab.settings.width or ensemble.fit_width(
      engine.program, lab.settings.arms[arms[0]].hyper, split_of(lab, [0])
    )
    width = min(width, len(runs))
    for members in ensemble.divide(len(runs), width):
      chosen = tuple(runs[i] for i in members)
      groups.append(Group(len(groups), name, chosen, width))
  return groups


def run_groups(lab: Lab, groups: Sequence[Group], store: Path | None, host: Host) -> list[Result]:
  """Trains and examines every group that is not finished yet.

  Args:
    lab: what to do.
    groups: the plan.
    store: folder for checkpoints and finished groups; None to keep nothing.
    host: progress, messages, when to stop.

  Returns:
    What is kept of each group, in the plan's order.

  Raises:
    Stopped: the host asked for it; the state is in the store.
  """
  results = []
  for group in groups:
    done = _load(store, group, host)
    if done is None:
      done = _run_group(lab, group, store, host)
    else:
      host.advanced(_title(lab, group), lab.settings.steps * len(group.runs))
    results.append(done)
  return results


def _run_group(lab: Lab, group: Group, store: Path | None, host: Host) -> Result:
  settings, engine = lab.settings, lab.engines[group.optimizer]
  arms, seeds = zip(*ensemble.pad(group.runs, group.width), strict=True)
  keys = ensemble.train_keys(settings.root_seed, seeds)
  hypers = ensemble.stack_hypers([settings.arms[arm].hyper for arm in arms])
  data = ensemble.shard(split_of(lab, seeds), engine.program.data_axes, group.width)
  keys, hypers = (ensemble.shard(x, 0, group.width) for x in (keys, hypers))

  folder = store / f"group-{group.index:05d}" if store else None
  progress = ensemble.start_group(engine.program, keys, hypers, data)
  frames = [_frames(lab, group, progress, data)]
  stored = checkpoint.restore(folder, (progress, frames[0]), host.say) if folder else None
  if stored is not None:
    states = ensemble.shard(stored[0].states, ensemble.STATE_AXES, group.width)
    progress, frames = stored[0]._replace(states=states), [stored[1]]
  real_runs = len(group.runs)
  host.advanced(_title(lab, group), int(progress.states.step) * real_runs)
  last_save = time.monotonic()

  def look(progress: ensemble.Progress, length: int) -> None:
    nonlocal last_save
    frames[:] = [np.concatenate([*frames, _frames(lab, group, progress, data)])]
    host.advanced(_title(lab, group), length * real_runs)
    stop = host.stop()
    if folder and (stop or time.monotonic() - last_save >= host.checkpoint_seconds):
      checkpoint.save(folder, int(progress.states.step), (progress, frames[0]))
      last_save = time.monotonic()
    if stop:
      raise Stopped(f"stopped at step {int(progress.states.step)} of {_title(lab, group)}")

  progress = ensemble.train_group(
    engine.program, progress, hypers, data, settings.steps, settings.record_every, look
  )
  findings = engine.examine(keys, hypers, progress.states, data)
  result = _harvest(lab, group, progress, findings, frames[0])
  if store:
    files.write_npz(_finished(store, group), result)
    shutil.rmtree(folder, ignore_errors=True)
  return result


def split_of(lab: Lab, seeds: Sequence[int]) -> Data:
  """The data as some seeds see it: all examples, and each seed's split."""
  return ensemble.split_data(
    lab.dataset,
    lab.inputs,
    lab.settings.root_seed,
    seeds,
    lab.settings.holdout,
    lab.settings.fixed_split,
  )


def _title(lab: Lab, group: Group) -> str:
  """Which arms and seeds a group trains, for people."""
  names = [lab.settings.arms[arm].name for arm in dict.fromkeys(arm for arm, _ in group.runs)]
  seeds = [seed for _, seed in group.runs]
  return f"{', '.join(names)}: seeds {min(seeds)} to {max(seeds)}"


def _watched(group: Group) -> list[int]:
  """Places in the group of each arm's first seed."""
  return [i for i, (_, seed) in enumerate(group.runs) if seed == 0]


def _frames(lab: Lab, group: Group, progress: ensemble.Progress, data: Data) -> np.ndarray:
  """Weights of the watched class now, of each arm's first seed in the group: [1, arms, p]."""
  program = lab.engines[group.optimizer].program
  frames = []
  for i in _watched(group):
    state = ensemble.member(ensemble.STATE_AXES, progress.states, i)
    params = program.trainer.params(state, ensemble.member(program.data_axes, data, i))
    weights = recover.class_weights(params, data.inputs.shape[-1], lab.look.num_classes)
    frames.append(weights[lab.settings.watch])
  # A group without a first seed keeps one zero: checkpoints hold no empty arrays.
  return np.stack(jax.device_get(frames))[None] if frames else np.zeros((1, 1, 1), np.float32)


def _harvest(
  lab: Lab, group: Group, progress: ensemble.Progress, findings: leakage.Findings, frames
) -> Result:
  """What is kept of a group: scalars of every run, arrays of the first seeds, sums of weights."""
  arms, seeds = (np.array(column) for column in zip(*group.runs, strict=True))
  real = len(group.runs)
  finite = progress.history.finite[:, :real].all(0)
  saved = np.flatnonzero(seeds < lab.settings.save_seeds)
  result = {"arm": arms, "seed": seeds, "finite": finite, "saved": saved}
  for name, values in progress.history._asdict().items():
    result[f"history/{name}"] = values[:, :real]
  for attack, measures in findings.measures.items():
    for name, values in measures.items():
      result[f"measures/{attack}/{name}"] = np.asarray(values)[:real]
  for name in ("weights", "init_weights", "bias"):
    result[name] = np.asarray(getattr(findings, name)[saved])
  for attack, images in findings.images.items():
    result[f"images/{attack}"] = np.asarray(images[saved])
  if lab.settings.hidden:
    for name in ("params", "init_params"):
      for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(findings, name)):
        path = jax.tree_util.keystr(path, simple=True, separator="/")
        result[f"{name}/{path}"] = np.asarray(leaf[saved])
  for arm, total in leakage.sum_by_arm(findings.weights, arms, finite).items():
    result[f"sum/{arm}"] = np.asarray(total)
  for place, i in enumerate(_watched(group)):
    result[f"frames/{arms[i]}"] = frames[:, place]
  return result


def _finished(store: Path, group: Group) -> Path:
  return store / f"group-{group.index:05d}.npz"


def _load(store: Path | None, group: Group, host: Host) -> Result | None:
  """A finished group, or None where it is not there or damaged, which is said."""
  path = _finished(store, group) if store else None
  if path is None or not path.exists():
    return None
  try:
    return files.read_npz(path)
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    host.say(f"finished group {path} is damaged ({error}); it is trained again")
    return None
