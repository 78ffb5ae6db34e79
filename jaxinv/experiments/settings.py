"""What an experiment is asked: arms x seeds, and all that decides its numbers but for the data."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import numpy as np

from jaxinv import attacks, metrics
from jaxinv.attacks.attack import Attack
from jaxinv.attacks.attack import resolve as resolve_attacks
from jaxinv.data.splits import check_dataset, check_split
from jaxinv.errors import InputError, choose, named
from jaxinv.metrics.images import NORMALIZATIONS
from jaxinv.metrics.metric import Metric
from jaxinv.metrics.metric import resolve as resolve_metrics
from jaxinv.training import gram, primal, private_span
from jaxinv.training.hyper import check_hyper, program_words
from jaxinv.training.losses import LOSSES, Loss
from jaxinv.training.optimizers import OPTIMIZERS, Optimizer
from jaxinv.types import Dataset, Hyper

# What stands beside the attacks in metrics.csv and summary.json.
RESERVED = ("model", "diverged", "verdict", "seed_mean", "denoised_seed_mean")
ENGINES = {
  "primal": primal.make_trainer,
  "gram": gram.make_trainer,
  "private_span": private_span.make_trainer,
}


class Arm(NamedTuple):
  """One way of training, all else equal.

  Attributes:
    name: what it is called, in files too.
    optimizer: a name in `optimizers.OPTIMIZERS`, or a function from `Hyper` to an optax
      transformation.
    hyper: its hyperparameters.

  Example:
    >>> Arm("sgd", "sgd", Hyper(learning_rate=0.1)).optimizer
    'sgd'
  """

  name: str
  optimizer: str | Optimizer
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
    loss: a name in `losses.LOSSES`, or a `Loss`.
    hidden: units of each hidden layer; empty for a linear model.
    use_bias: whether layers have a bias.
    initializer: a name in `models.INITIALIZERS`.
    normalize: a name in `metrics.images.NORMALIZATIONS`.
    engine: `primal`, `gram`, `private_span`, or `auto`: `gram` where it is exact and the quicker
      one, else `primal`.
    width: runs a group; 0 for as many as are quick and fit the memory.
    memory_fraction: share of the device's memory to plan with.
    save_seeds: number of seeds whose images and weights are kept.
    record_every: steps from one record to the next.
    watch: the class whose image is kept at each record, of each arm's first seed.
    attacks: names in `attacks.ALL` and values of the caller's own, for the models at the end.
    metrics: names in `metrics.ALL` and values of the caller's own.
    model: a Flax module of the caller's own, from inputs [b, p] to logits [b, k]; None for the
      dense model that `hidden`, `use_bias` and `initializer` describe.
    at_records: whether quick attacks, see `Attack.at_records`, are made at every record too.
    prefixes: whether the models of an arm are averaged over its first 1, 2, 4, 8, ... seeds, and
      not only over all.
    halves: whether each model is trained on half of its training split only, so that every example
      is in exactly half of the models; seeds 2 j and 2 j + 1 have complementary halves. All seeds
      then have one split.
    photographs: whether logits are kept, and recovered images are compared with every example.
    keep_moment: whether the optimiser's first moment is kept beside the weights, as checkpoints of
      a training do; of the primal engine.
    shuffled_labels: whether the training examples' labels are dealt out anew for each seed, while
      what is recovered is compared with the true classes: a control.

  Example:
    >>> sgd = Arm("sgd", "sgd", Hyper(learning_rate=0.1))
    >>> settings = Settings(arms=(sgd,), num_seeds=4, attacks=("reshape", attacks.init_diff))
    >>> settings.steps, settings.batch_size
    (1000, 32)
  """

  arms: tuple[Arm, ...]
  num_seeds: int = 8
  root_seed: int = 0
  steps: int = 1000
  batch_size: int = 32
  holdout: int = 2
  fixed_split: bool = False
  loss: str | Loss = "softmax"
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
  attacks: tuple[str | Attack, ...] = attacks.DEFAULT
  metrics: tuple[str | Metric, ...] = metrics.DEFAULT
  model: nn.Module | None = None
  at_records: bool = False
  prefixes: bool = False
  halves: bool = False
  photographs: bool = False
  keep_moment: bool = False
  shuffled_labels: bool = False

  @property
  def is_linear(self) -> bool:
    """Whether the models have one layer."""
    return self.model is None and not self.hidden


def check_names(names: Sequence[str]) -> None:
  """Raises InputError where there is no arm, or two have one name."""
  twice = [name for i, name in enumerate(names) if name in names[:i]]
  if twice or not names:
    raise InputError(f"arm '{twice[0]}' is named twice" if twice else "no arm is given")


def num_train(settings: Settings, dataset: Dataset) -> int:
  """Examples that a model is trained on; twice those of a control model on halves."""
  return len(dataset.labels) - settings.holdout * dataset.num_classes


def photographs_each(settings: Settings, dataset: Dataset) -> int:
  """Examples that are trained on of one class, at most."""
  return int(np.bincount(dataset.labels).max()) - settings.holdout


def program_name(arm: Arm) -> str:
  """Which compiled program trains an arm: its optimiser's, but for some defences their own.

  Noise, dropout and DP-SGD cost every step much, and what is changed on release every look,
  whatever their strength: arms without them should not pay for them.
  """
  return "+".join((optimizer_name(arm), *program_words(arm.hyper)))


def optimizer_name(arm: Arm) -> str:
  """What an arm's optimiser is called; see `check` for two functions of one name."""
  function = arm.optimizer
  return function if isinstance(function, str) else getattr(function, "__qualname__", "optimizer")


def check(settings: Settings, dataset: Dataset) -> None:
  """Raises InputError, with what to do, unless the settings are valid for the data set."""
  check_dataset(dataset)
  if dataset.image_shape is None:
    raise InputError("the data's features are not an image: give a data set of images")
  for arm in settings.arms:
    with named(f"arm '{arm.name}'"):
      choose("optimizer", arm.optimizer, OPTIMIZERS)
      check_hyper(arm.hyper)
  check_names([arm.name for arm in settings.arms])
  functions: dict[str, object] = {}
  for arm in settings.arms:
    if functions.setdefault(optimizer_name(arm), arm.optimizer) != arm.optimizer:
      raise InputError(
        f"arm '{arm.name}': two different optimizers are called {optimizer_name(arm)}: rename one"
      )
  choose("loss", settings.loss, LOSSES)
  choose("normalisation", settings.normalize, dict.fromkeys(NORMALIZATIONS))
  choose("engine", settings.engine, dict.fromkeys(("auto", *ENGINES)))
  _check_attacks(settings)
  _check_numbers(settings, dataset)
  check_split(dataset, settings.holdout)
  count = num_train(settings, dataset)
  if settings.halves and settings.num_seeds % 2:
    raise InputError(
      f"{settings.num_seeds} seeds cannot hold every example in exactly half: give an even number"
    )
  if settings.halves and count % 2:
    raise InputError(
      f"{count} training examples cannot be halved evenly for the control models: give "
      "another --holdout, or --control_seeds=0 for none"
    )
  count //= 1 + settings.halves
  half = ", the half that a control model is trained on" if settings.halves else ""
  if settings.batch_size > count:
    raise InputError(
      f"a batch of {settings.batch_size} is more than the {count} training examples{half}: "
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


def _check_attacks(settings: Settings) -> None:
  """Raises InputError unless the attacks can be made on single models, and named in files."""
  chosen = resolve_attacks(settings.attacks)
  for attack in chosen:
    if not attack.needs_one_model:
      raise InputError(
        f"attack '{attack.name}' needs several models: a run attacks each model by itself, and "
        "makes seed_mean of all in any case"
      )
  for value in (*chosen, *resolve_metrics(settings.metrics)):
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", value.name) or value.name in RESERVED:
      raise InputError(
        f"'{value.name}' cannot name an attack or a metric: use letters, digits, '_', '-' and '.', "
        f"and none of {', '.join(RESERVED)}"
      )
