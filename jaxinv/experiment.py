"""What an experiment is: arms x seeds on a data set, and how its runs are divided into groups."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxinv import ensemble, leakage, recover
from jaxinv.data.splits import check_split
from jaxinv.errors import InputError
from jaxinv.losses import LOSSES
from jaxinv.models import make_model
from jaxinv.optimizers import OPTIMIZERS, without_clipping
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


class Group(NamedTuple):
  """Runs that are trained together, each an (arm, seed); `width` counts the padding in."""

  index: int
  optimizer: str
  runs: tuple[tuple[int, int], ...]
  width: int


class Engine(NamedTuple):
  """The compiled functions for one optimiser.

  Attributes:
    program: trains a group.
    examine: (init states, states, data) -> what the group gives away.
    watch: (states, data, i, class) -> the i-th run's weights of one class, [p].
  """

  program: ensemble.Program
  examine: Callable[..., leakage.Findings]
  watch: Callable[..., jax.Array]


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
  for name in dict.fromkeys(arm.optimizer for arm in settings.arms):
    optimizer = OPTIMIZERS[name]
    if all(math.isinf(arm.hyper.clip_norm) for arm in settings.arms if arm.optimizer == name):
      optimizer = without_clipping(optimizer)
    trainer = make_trainer(model, LOSSES[settings.loss], optimizer, settings.batch_size)
    program = ensemble.make_program(trainer)
    examine = leakage.examine_group(program, look)
    engines[name] = Engine(program, examine, leakage.watch_group(program, look))
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
  if settings.watch >= dataset.num_classes:
    raise InputError(f"watch is {settings.watch}: there are {dataset.num_classes} classes")


def plan(lab: Lab) -> list[Group]:
  """Divides the runs of each optimiser into groups of one width, all arms' seeds in a row."""
  groups = []
  for name, engine in lab.engines.items():
    arms = [i for i, arm in enumerate(lab.settings.arms) if arm.optimizer == name]
    runs = [(arm, seed) for arm in arms for seed in range(lab.settings.num_seeds)]
    hyper, one = lab.settings.arms[arms[0]].hyper, split_of(lab, [0])
    need, memory = ensemble.run_bytes(engine.program, hyper, one), ensemble.device_memory()
    if need > memory:
      raise InputError(
        f"a single model takes about {need / 1e9:.1f} GB to train, of the {memory / 1e9:.1f} GB "
        "there are: give smaller layers or fewer examples"
      )
    width = lab.settings.width or ensemble.fit_width(engine.program, hyper, one)
    width = min(width, len(runs))
    for members in ensemble.divide(len(runs), width):
      chosen = tuple(runs[i] for i in members)
      groups.append(Group(len(groups), name, chosen, width))
  return groups


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
