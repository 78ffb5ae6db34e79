"""What an experiment is: arms x seeds on a data set, and how its runs are divided into groups."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import jax
import numpy as np

from jaxinv import ensemble, gram, leakage, recover, train
from jaxinv.data import splits
from jaxinv.data.splits import check_split
from jaxinv.errors import InputError
from jaxinv.losses import LOSSES
from jaxinv.models import make_model
from jaxinv.optimizers import LINEAR, OPTIMIZERS
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
    engine: `primal`, `gram`, or `auto`: gram where it is exact and the quicker one.
    width: runs a group; 0 for as many as are quick and fit the memory.
    memory_fraction: share of the device's memory to plan with.
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
  engine: str = "auto"
  width: int = 0
  memory_fraction: float = 0.5
  save_seeds: int = 8
  record_every: int = 20
  watch: int = 0


class Group(NamedTuple):
  """Runs that are trained together, each an (arm, seed); `width` counts the padding in."""

  index: int
  optimizer: str
  runs: tuple[tuple[int, int], ...]
  width: int


class Engine(NamedTuple):
  """The compiled functions for one optimiser.

  Attributes:
    kind: `primal` or `gram`.
    program: trains a group.
    measure: places -> (first params, states, data, place, healthy) -> what is measured of a group.
    examine: (first params, states, data, i) -> what the i-th run gives away.
    watch: (states, data, i, class) -> the i-th run's weights of one class, [p].
  """

  kind: str
  program: ensemble.Program
  measure: Callable[[int], Callable[..., leakage.Measured]]
  examine: Callable[..., leakage.Findings]
  watch: Callable[..., jax.Array]


class Lab(NamedTuple):
  """Settings, data on the device and engines; another data set of the same shape can be put in.

  Attributes:
    settings: what to do.
    dataset: the data, on the host.
    data: the same on the device, once, nothing held out.
    look: how images are made and compared.
    engines: by optimiser's name; nothing is compiled before it is used.
  """

  settings: Settings
  dataset: Dataset
  data: Data
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
  engines = {
    name: _make_engine(settings, dataset, look, name)
    for name in dict.fromkeys(arm.optimizer for arm in settings.arms)
  }
  return with_data(Lab(settings, dataset, splits.whole(dataset), look, engines), dataset)


ENGINES = {"primal": train.make_trainer, "gram": gram.make_trainer}


def _make_engine(settings: Settings, dataset: Dataset, look: leakage.Look, name: str) -> Engine:
  serves = gram.serves(name, settings.hidden)
  if settings.engine == "gram" and not serves:
    raise InputError(
      f"the gram engine cannot train {name} with {len(settings.hidden)} hidden layers: it is for "
      f"linear models and {', '.join(LINEAR)}; give --engine=auto"
    )
  kind = settings.engine
  if kind == "auto":
    kind = "gram" if serves and gram.pays(*dataset.inputs.shape) else "primal"
  model = make_model(dataset.num_classes, settings.hidden, settings.use_bias, settings.initializer)
  hypers = [arm.hyper for arm in settings.arms if arm.optimizer == name]
  nothing = {"clip_norm": math.inf, "weight_decay": 0.0}
  off = {key for key, value in nothing.items() if all(getattr(h, key) == value for h in hypers)}
  parts = (model, LOSSES[settings.loss], OPTIMIZERS[name], settings.batch_size, off)
  # Where all models multiply the same examples by their weights, together they make one large
  # product, which is worth more than a core's cache.
  together = kind == "primal" and not settings.batch_size
  program = ensemble.make_program(ENGINES[kind](*parts), block=ensemble.ALL if together else 0)
  measure = cache(lambda places: leakage.measure_group(program, look, places))
  return Engine(
    kind, program, measure, leakage.examine_one(program, look), leakage.watch_one(program, look)
  )


def with_data(lab: Lab, dataset: Dataset) -> Lab:
  """Puts a data set in, of the same shape as the one before."""
  data = splits.whole(dataset)
  if any(engine.kind == "gram" for engine in lab.engines.values()):
    data = data._replace(gram=gram.gram_matrix(data.inputs, lab.settings.use_bias))
  return lab._replace(dataset=dataset, data=data)


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
  if settings.engine not in ("auto", *ENGINES):
    raise InputError(f"unknown engine '{settings.engine}': choose from auto, {', '.join(ENGINES)}")
  _check_numbers(settings, dataset)
  check_split(dataset, settings.holdout)
  num_train = len(dataset.labels) - settings.holdout * dataset.num_classes
  if settings.batch_size > num_train:
    raise InputError(
      f"a batch of {settings.batch_size} is more than the {num_train} training examples: "
      "give a smaller --batch_size, or 0 for all of them"
    )


def _check_numbers(settings: Settings, dataset: Dataset) -> None:
  least = {"num_seeds": 1, "save_seeds": 1, "record_every": 1}
  least |= dict.fromkeys(("steps", "batch_size", "holdout", "width", "watch"), 0)
  for name, low in least.items():
    if getattr(settings, name) < low:
      raise InputError(f"{name} is {getattr(settings, name)}: give {low} or more")
  if not 0 < settings.memory_fraction <= 1:
    raise InputError(
      f"memory_fraction is {settings.memory_fraction}: give a share above 0, up to 1"
    )
  if settings.watch >= dataset.num_classes:
    raise InputError(f"watch is {settings.watch}: there are {dataset.num_classes} classes")


def plan(lab: Lab, num_processes: int = 1) -> list[Group]:
  """Divides the runs of each optimiser into groups of one width, all arms' seeds in a row.

  The width is what the settings say, else the one that is quick; either way no wider than fits the
  memory, and the groups are made alike so that little of the last one is padding.

  Args:
    lab: settings, data and engines.
    num_processes: how many share the groups; there is one for each, where there are runs enough.

  Returns:
    The groups.

  Raises:
    InputError: not even one run a device fits.
  """
  groups = []
  for name in lab.engines:
    arms = [i for i, arm in enumerate(lab.settings.arms) if arm.optimizer == name]
    runs = [(arm, seed) for arm in arms for seed in range(lab.settings.num_seeds)]
    width = choose_width(lab, name, -(-len(runs) // num_processes))
    for members in ensemble.divide(len(runs), width):
      chosen = tuple(runs[i] for i in members)
      groups.append(Group(len(groups), name, chosen, width))
  return groups


def choose_width(lab: Lab, optimizer: str, num_runs: int) -> int:
  """How many runs a group of an optimiser holds; see `plan`."""
  program, devices = lab.engines[optimizer].program, len(lab.engines[optimizer].program.devices)
  width = lab.settings.width
  if not width:
    width = _even(num_runs, ensemble.widest(program), devices)
  budget = lab.settings.memory_fraction * ensemble.device_memory()
  if peak_bytes(lab, optimizer, width) <= budget:
    return width
  # Between a width that may fit and one that does not: the peak is now training's, now measuring's,
  # each a line, so that the line between the two is above it, and beyond them it would be below.
  wide = max(width, 2 * devices)
  need = ensemble.predict_memory(lambda w: peak_bytes(lab, optimizer, w), devices, wide)
  fitting = int((budget - need.fixed) // need.per_run) // devices * devices
  if fitting < devices:
    raise InputError(
      f"training one model on each device takes about {need.of(devices) / 1e9:.1f} GB, of the "
      f"{budget / 1e9:.1f} GB that may be planned with: give smaller layers, fewer examples, or "
      "more by --memory_fraction"
    )
  return _even(num_runs, fitting, devices)


def describe(lab: Lab, groups: Sequence[Group]) -> dict[str, dict]:
  """By optimiser, which engine trains it and in what groups, for config.json and for people."""
  return {
    name: {
      "engine": engine.kind,
      "width": next(group.width for group in groups if group.optimizer == name),
      "groups": sum(group.optimizer == name for group in groups),
      "devices": len(engine.program.devices),
    }
    for name, engine in lab.engines.items()
  }


def _even(num_runs: int, most: int, devices: int) -> int:
  """The width of as few groups as `most` allows, all alike; fills the devices evenly."""
  if num_runs <= devices:
    return num_runs
  num_groups = -(-num_runs // most)
  each = -(-num_runs // num_groups)
  return -(-each // devices) * devices


def places(settings: Settings, width: int) -> int:
  """The most arms that a group can span."""
  return min(len(settings.arms), 2 + (width - 1) // settings.num_seeds)


def peak_bytes(lab: Lab, optimizer: str, width: int) -> int:
  """Memory that a group takes at its worst, in bytes, told by the compiler before anything runs.

  Args:
    lab: settings, data and engines.
    optimizer: which engine.
    width: runs of the group.

  Returns:
    Bytes on one device, or of all where the devices share the host's memory.
  """
  settings, engine = lab.settings, lab.engines[optimizer]
  program = engine.program
  # Splits and keys of all runs are small: made, for their places on the devices.
  data = ensemble.shard(split_of(lab, [0] * width), program.data_axes, width)
  keys = ensemble.shard(ensemble.train_keys(0, [0] * width), 0, width)
  hypers = ensemble.shard(ensemble.stack_hypers([Hyper()] * width), 0, width)
  states = ensemble.shapes(program, keys, hypers, data)
  length = next(ensemble.chunk_lengths(settings.steps, settings.record_every), 1)
  train = ensemble.compiled_bytes(program.advance, states, hypers, data, num_steps=length)
  whom = np.zeros(width, np.int32), np.ones(width, bool)
  measured = engine.measure(places(settings, width))
  measure = ensemble.compiled_bytes(measured, states.params, states, data, *whom)
  shared = len(program.devices) if program.devices[0].platform == "cpu" else 1
  # Beside what is trained, the first parameters are kept all along.
  firsts = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(states.params))
  return max(shared * train + firsts, shared * measure)


def split_of(lab: Lab, seeds: Sequence[int]) -> Data:
  """The data as some seeds see it: all examples, and each seed's split."""
  return ensemble.split_data(
    lab.data,
    lab.dataset.num_classes,
    lab.settings.root_seed,
    seeds,
    lab.settings.holdout,
    lab.settings.fixed_split,
  )
