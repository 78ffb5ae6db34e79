"""Settings of an experiment with networks: arms x seeds, inversions, and the verifier."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.attacks import recipes
from jaxinv.attacks.recipes import Inversion
from jaxinv.data.splits import check_dataset
from jaxinv.errors import InputError, choose, named, own_code
from jaxinv.experiments.settings import check_names
from jaxinv.models.convnets import OwnNetwork, make_convnet
from jaxinv.training import adversary
from jaxinv.training.network import TrainConfig
from jaxinv.training.optimizers import OPTIMIZERS, SCHEDULES, Optimizer
from jaxinv.types import Dataset, Hyper, RobustHyper, TrainTest

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class NetworkArm(NamedTuple):
  """One way of training a network, all else equal.

  Attributes:
    name: what it is called, in files too.
    model: a name in `convnets.DESIGNS`, or a Flax module like `convnets.OwnNetwork.network`.
    width_factor: on its channels; without meaning for a module, like the norm.
    norm: a name in `convnets.NORMS`.
    optimizer: a name in `optimizers.OPTIMIZERS`, or a function like those.
    schedule: a name in `optimizers.SCHEDULES`.
    adversary: a name in `adversary.ADVERSARIES`.
    adversary_steps: of each attack in training.
    hyper: its hyperparameters, the adversary's radius among them.
    copies: how often each candidate that is trained on stands in the training set: planted
      memorisation, which shows what the test of memory can see.
  """

  name: str
  model: str | nn.Module = "resnet8"
  width_factor: float = 0.375
  norm: str = "group"
  optimizer: str | Optimizer = "adamw"
  schedule: str = "one_cycle"
  adversary: str = "none"
  adversary_steps: int = 3
  hyper: RobustHyper = RobustHyper(Hyper(learning_rate=0.003, weight_decay=0.01))
  copies: int = 1


class RobustnessTest(NamedTuple):
  """By which attack robust accuracy is measured, for all arms the same.

  Attributes:
    name: of the adversary, in `adversary.ADVERSARIES`.
    radius: of its ball.
    steps: of each attack.
    restarts: attacks on each image.
    images: how many test images are attacked; 0 for all.
  """

  name: str = "pgd_l2"
  radius: float = 0.5
  steps: int = 20
  restarts: int = 2
  images: int = 256


@dataclass(frozen=True)
class NetworkSettings:
  """All that decides an experiment's numbers, except its data set.

  Attributes:
    arms: the ways of training, compared over the same seeds, training images and batches.
    verifier: how the model that checks what is recovered is trained: on all training images, from
      a seed that no arm has.
    num_seeds: models of each arm.
    root_seed: with a seed's number, decides all of its randomness.
    epochs: passes over the training images.
    batch_size: images a step.
    candidates: share of the training images of which each model is trained on a random half.
    flip: whether images are mirrored at random.
    shift: pixels by which they are shifted at random, at the most.
    inversions: recipes by name.
    restarts: images recovered of each class by each.
    robustness: how robust accuracy is measured.
    dtype: of the networks' computation, a name in `DTYPES`.
    width: models trained together as one group; 0 for one on each device.
    save_seeds: number of seeds whose images and weights are kept.
    record_every: epochs from one record to the next.
  """

  arms: tuple[NetworkArm, ...]
  verifier: NetworkArm
  inversions: dict[str, Inversion]
  num_seeds: int = 4
  root_seed: int = 0
  epochs: int = 20
  batch_size: int = 128
  candidates: float = 0.2
  flip: bool = True
  shift: int = 2
  restarts: int = 4
  robustness: RobustnessTest = RobustnessTest()  # noqa: RUF009, as it is immutable.
  dtype: str = "float32"
  width: int = 0
  save_seeds: int = 4
  record_every: int = 3


def model_of(settings: NetworkSettings, arm: NetworkArm, data: TrainTest) -> nn.Module:
  """The network of an arm, for a data set."""
  shape, classes = data.train.image_shape, data.train.num_classes
  if isinstance(arm.model, nn.Module):
    return OwnNetwork(arm.model, shape, classes)
  dtype = DTYPES[settings.dtype]
  return make_convnet(arm.model, shape, classes, arm.width_factor, arm.norm, dtype)


def train_config(settings: NetworkSettings, arm: NetworkArm, num_train: int) -> TrainConfig:
  """All that is static of how an arm is trained on so many images."""
  return TrainConfig(
    num_steps=settings.epochs * (num_train // settings.batch_size),
    batch_size=settings.batch_size,
    schedule=arm.schedule,
    adversary=arm.adversary,
    adversary_steps=arm.adversary_steps,
    flip=settings.flip,
    shift=settings.shift,
  )


def check(settings: NetworkSettings, data: TrainTest) -> None:
  """Raises InputError, with what to do, unless the settings are valid for the data set."""
  for part, name in zip(data, ("training", "test"), strict=True):
    with named(f"the {name} images"):
      _check_images(part)
  check_names([arm.name for arm in settings.arms])
  networks = {f"arm '{arm.name}'": arm for arm in settings.arms}
  for name, arm in (networks | {"the verifier": settings.verifier}).items():
    with named(name):
      for what, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        choose(what, getattr(arm, what), known)
      adversary.check(arm.adversary, arm.hyper.radius, arm.adversary_steps)
      if not arm.copies >= 1:
        raise InputError(f"copies is {arm.copies}: give 1 or more")
      _check_model(model_of(settings, arm, data), data.train)
  if settings.verifier.copies != 1:
    raise InputError("the verifier trains on every image once: leave copies out of --verifier")
  with named("the attack"):
    adversary.check(settings.robustness.name, settings.robustness.radius, settings.robustness.steps)
  for recipe in settings.inversions.values():
    recipes.check(recipe, data.train.image_shape)
  if not settings.inversions:
    raise InputError("no inversion is given: name one or more with --inversion")
  if not 0 <= settings.candidates <= 1:
    raise InputError(f"candidates is {settings.candidates}: give a share from 0 to 1")
  least = np.bincount(data.train.labels, minlength=data.train.num_classes).min()
  if int(settings.candidates * least) // 2 < 1:
    raise InputError(
      f"a share of {settings.candidates:g} of a class's {least} training images is not even one "
      "candidate in and one out: give a larger --candidates, or more images"
    )
  kept = int(draw_masks(replace(settings, num_seeds=1), data.train.labels).kept.sum())
  if not 0 < settings.batch_size <= kept:
    raise InputError(
      f"a batch of {settings.batch_size} does not fit the {kept} images that each model is trained "
      f"on: give a --batch_size from 1 to {kept}"
    )


def _check_model(model: nn.Module, dataset: Dataset) -> None:
  """Raises InputError unless a network gives logits of the classes, trained or not."""
  if not isinstance(model, OwnNetwork):
    return
  one = jnp.zeros((1, dataset.inputs.shape[1]))

  def said(key):
    variables = model.init(key, one)
    kept = [name for name in variables if name != "params"]
    return model.apply(variables, one), model.apply(variables, one, train=True, mutable=kept)[0]

  with own_code(f"the model cannot take images of {one.size} values, one a row"):
    hash(model)  # Its fields are a part of the compiled programs' names.
    shapes = {outputs.logits.shape for outputs in jax.eval_shape(said, jax.random.key(0))}
  if shapes != {(1, dataset.num_classes)}:
    raise InputError(
      f"the model gives outputs of shape {shapes.pop()}: need (1, {dataset.num_classes}) logits"
    )


def _check_images(dataset: Dataset) -> None:
  """Raises InputError unless a data set is sound, and is of images with colours."""
  check_dataset(dataset)
  if len(dataset.image_shape or ()) != 3:
    raise InputError(f"an image_shape of {dataset.image_shape} is not (h, w, c): give that")


class KeepMasks(NamedTuple):
  """Which images were trained on.

  Attributes:
    candidate: [n], whether a training image's membership is drawn at random.
    kept: [s, n], whether each seed's models are trained on it.
  """

  candidate: np.ndarray
  kept: np.ndarray


def draw_masks(settings: NetworkSettings, labels: np.ndarray) -> KeepMasks:
  """Draws which training images each seed keeps: all but half of the candidates of each class.

  Seeds 2 j and 2 j + 1 keep complementary halves, so that of an even number of seeds exactly half
  keep each candidate. A seed's mask does not depend on how many seeds there are.

  Args:
    settings: root seed, number of seeds, share of candidates.
    labels: class of each training image.

  Returns:
    The masks.
  """
  rng = np.random.default_rng([settings.root_seed, 0])
  classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
  chosen = [
    rng.permutation(members)[: int(settings.candidates * len(members)) // 2 * 2]
    for members in classes
  ]
  candidate = np.zeros(len(labels), bool)
  candidate[np.concatenate(chosen)] = True
  kept = np.ones((settings.num_seeds, len(labels)), bool)
  for seed in range(settings.num_seeds):
    pair = np.random.default_rng([settings.root_seed, 1 + seed // 2])
    for members in chosen:
      halves = pair.permutation(members).reshape(2, -1)
      kept[seed, halves[seed % 2]] = False
  return KeepMasks(candidate, kept)
