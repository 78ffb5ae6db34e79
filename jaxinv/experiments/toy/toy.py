"""The article's first experiment: a linear classifier of Gaussian clouds, every step of it kept.

A trainer of one model is mapped over seeds as in `ensemble`; unlike there, each seed draws its
own points, and what a step lets people look at is the weights after it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxinv.ensemble import mapping, memory
from jaxinv.ensemble.program import Program, make_program
from jaxinv.ensemble.seeds import seed_keys
from jaxinv.errors import InputError, choose
from jaxinv.experiments.settings import Arm
from jaxinv.models.dense import make_model
from jaxinv.models.params import find_kernels
from jaxinv.training import primal
from jaxinv.training.losses import LOSSES, Loss
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.types import Data, Stream, TrainState

FEATURES = "xy"


@dataclass(frozen=True)
class Settings:
  """All that decides the experiment's numbers.

  Attributes:
    arm: the way of training.
    means: mean of each class, in the plane.
    spread: standard deviation of the points in every direction, in the unit of the means.
    points_per_class: points that each seed draws of each class.
    data_max: largest magnitude of the data, as far as the attacker knows, in the same unit.
    num_seeds: models to train.
    root_seed: with a seed's number, decides all of its randomness.
    steps: steps of each model.
    batch_size: points a step; 0 for all.
    loss: a name in `losses.LOSSES`.
    initializer: a name in `models.INITIALIZERS`.
    normalize: a name in `metrics.images.NORMALIZATIONS`.
    width: models a group; 0 for as many as fit.
    save_seeds: number of seeds whose weights at every step are kept; None for all.
    chunk: steps from one look of the host to the next; 0 to choose. Changes no number.
  """

  arm: Arm
  means: tuple[tuple[float, float], ...] = ((2.0, 0.0), (-2.0, 0.0))
  spread: float = 0.1
  points_per_class: int = 100
  data_max: float = 2.0
  num_seeds: int = 8
  root_seed: int = 0
  steps: int = 10_000
  batch_size: int = 0
  loss: str = "sigmoid"
  initializer: str = "torch_uniform"
  normalize: str = "max"
  width: int = 0
  save_seeds: int | None = None
  chunk: int = 0

  @property
  def kept(self) -> int:
    """Number of seeds of which every step's weights are kept."""
    return min(self.save_seeds or self.num_seeds, self.num_seeds)

  @property
  def shape(self) -> tuple[int, int]:
    """(p, k): features and classes."""
    return len(FEATURES), len(self.means)


class Engine(NamedTuple):
  """The compiled functions for many models, each leaf with a leading axis s.

  Attributes:
    program: starts models and evaluates them.
    advance: (states, hypers, data, num_steps) -> (states, weights [s, t, p, k] after each step);
      takes the states' memory.
    weights: states -> weights [s, p, k].
  """

  program: Program
  advance: Callable[..., tuple[TrainState, Float[Array, "s t p k"]]]
  weights: Callable[[TrainState], Float[Array, "s p k"]]


def check(settings: Settings) -> None:
  """Raises InputError, with what to do, unless the settings are valid and fit the memory."""
  choose("loss", settings.loss, LOSSES)
  num_points = settings.points_per_class * len(settings.means)
  if settings.batch_size > num_points:
    raise InputError(
      f"a batch of {settings.batch_size} is more than the {num_points} points: "
      "give a smaller --batch_size, or 0 for all of them"
    )
  # Twice: the groups' parts, and the whole that they are put together to.
  need = 2 * settings.kept * (settings.steps + 1) * 4 * int(np.prod(settings.shape))
  if need > memory.device_memory() / 2:
    raise InputError(
      f"the weights of {settings.kept} seeds over {settings.steps} steps take {need / 1e9:.1f} GB, "
      f"more than half of the {memory.device_memory() / 1e9:.1f} GB of memory: lower --steps or "
      "--num_seeds, or keep fewer seeds by --save_seeds"
    )


def draw(settings: Settings, seeds: Sequence[int]) -> Data:
  """The points of a group of seeds, each seed its own; labels and split are shared.

  Args:
    settings: means, spread, points a class and the root seed.
    seeds: the numbers of the seeds.

  Returns:
    Data with inputs [s, n, p], nothing held out; the axes are `ensemble.OWN_DATA`.
  """
  keys = seed_keys(settings.root_seed, seeds)
  means = jnp.asarray(settings.means, float)
  points = _draw_points(keys, means, settings.spread, settings.points_per_class)
  labels = jnp.repeat(jnp.arange(len(means)), settings.points_per_class)
  everyone = jnp.arange(len(labels))
  return Data(points, labels, everyone, everyone[:0])


@partial(jax.jit, static_argnames="points_per_class")
def _draw_points(
  keys: Key[Array, " s"], means: Float[Array, "k p"], spread: float | Array, points_per_class: int
) -> Float[Array, "s n p"]:
  """Points around each mean, `points_per_class` a class and class by class, for each seed."""
  centres = jnp.repeat(means, points_per_class, axis=0)

  def one(key):
    return centres + spread * jax.random.normal(Stream.POINTS.of(key), centres.shape)

  return jax.vmap(one)(keys)


def make_engine(settings: Settings) -> Engine:
  """Builds the trainer of one model, without a bias, and maps it over seeds.

  Args:
    settings: the model's size, loss, optimiser and batch size.

  Returns:
    The engine, the same for the same of these. Nothing is compiled before its first call.
  """
  names = (settings.loss, settings.arm.optimizer, settings.initializer)
  return _make_engine(*settings.shape, *names, settings.batch_size)


@lru_cache(maxsize=16)
def _make_engine(
  num_features: int, num_classes: int, loss: str, optimizer: str, initializer: str, batch_size: int
) -> Engine:
  model = make_model(num_classes, use_bias=False, initializer=initializer)
  trainer = primal.make_trainer(model, LOSSES[loss], OPTIMIZERS[optimizer], batch_size)
  quick = by_residual(LOSSES[loss])
  lean = primal.make_trainer(model, quick, OPTIMIZERS[optimizer], batch_size)

  def weights(params):
    return find_kernels(params, num_features, num_classes)[0]

  def step(state, hyper, data):
    state, _ = lean.step(state, hyper, data)
    return state, weights(state.params)

  def advance(states, hypers, data, num_steps):
    def steps(state, hyper, data):
      return jax.lax.scan(lambda carry, _: step(carry, hyper, data), state, length=num_steps)

    in_axes, out_axes = (mapping.STATE_AXES, 0, mapping.OWN_DATA), (mapping.STATE_AXES, 0)
    mapped = jax.vmap(steps, in_axes=in_axes, out_axes=out_axes)
    return mapping.over_devices(mapped, in_axes, out_axes, program.devices)(states, hypers, data)

  program = make_program(trainer, mapping.OWN_DATA)
  return Engine(
    program,
    jax.jit(advance, static_argnames="num_steps", donate_argnums=0),
    jax.jit(lambda states: jax.vmap(weights)(states.params)),
  )


def by_residual(loss: Loss) -> Loss:
  """A loss of the same gradient, which is cheaper to derive; its value means nothing.

  A step looks at the gradient alone, and that is the residual: to write it down takes half the
  time of deriving it from the value.
  """

  def value(logits, targets):
    return (jax.lax.stop_gradient(loss.residual(logits, targets)) * logits).sum(-1)

  return Loss(value, loss.residual)
