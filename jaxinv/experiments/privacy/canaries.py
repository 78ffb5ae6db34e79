"""Two canaries, and what an attacker sees of them in ONE model while DP-SGD trains it.

Thousands of models are needed, so that they are small: a few people's photographs, of a few pixels.
DP-SGD's guarantee is of any data; of these, an example that is like no other gives away most.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinv.errors import InputError
from jaxinv.models.dense import MLP, make_model
from jaxinv.training.losses import LOSSES, Loss
from jaxinv.training.trainer import Trainer
from jaxinv.types import Data, Dataset, Hyper, Params, TrainState

# The example that nothing resembles, and one that a data set may well have.
PLANTED, MISLABELLED = "planted", "mislabelled"
CANARIES = (PLANTED, MISLABELLED)
# What a kind of attacker scores a model by, two ways each, and what it sees.
FINAL, STEPS = "final model", "all steps"
SCORES = {FINAL: ("movement", "loss"), STEPS: ("movement", "likelihood ratio")}

_MOST_PEOPLE, _MOST_EACH, _GRID = 5, 10, (5, 4)
# The planted canary's only pixel, in clipping norms: so large that its gradient is always clipped.
_STRENGTH = 3.0
# What training may add to its logits, about: if it were learned, its gradient would vanish.
_LARGEST_CHANGE = 0.5


class Stage(NamedTuple):
  """Small data with both canaries, and how models are trained on them.

  Attributes:
    data: examples and, last, the canaries; all in the training split.
    batch: mean size of a batch.
    steps: of each model.
    clip: the clipping norm.
    model: linear, without a bias.
    loss: softmax.
  """

  data: Data
  batch: int
  steps: int
  clip: float
  model: MLP
  loss: Loss

  @property
  def rate(self) -> float:
    """The probability of each example to be in a batch."""
    return self.batch / self.data.train.shape[0]

  @property
  def canaries(self) -> np.ndarray:
    """Where the canaries stand among the examples."""
    count = self.data.train.shape[0]
    return np.arange(count - len(CANARIES), count)

  def hyper(self, noise: float) -> Hyper:
    """What models are trained with: a rate at which the planted canary stays unlearned."""
    moved = self.rate * self.steps + noise * math.sqrt(self.steps)
    rate = _LARGEST_CHANGE * self.batch / (_STRENGTH * self.clip * moved)
    return Hyper(rate / self.clip, dp_clip=self.clip, dp_noise=noise)

  def keep(self, canary: str | None) -> np.ndarray:
    """Which examples count for models with a canary, or without any."""
    here = [float(name == canary) for name in CANARIES]
    return np.float32([1.0] * (self.data.train.shape[0] - len(CANARIES)) + here)


def make_stage(dataset: Dataset, rate: float, steps: int, clip: float = 1.0) -> Stage:
  """A few people's photographs, averaged down to a few pixels, and the canaries.

  The planted canary is black but for one pixel, which is black in all photographs: its gradient is
  at right angles to theirs. The other one is a photograph under another person's name.

  Args:
    dataset: images with their classes.
    rate: about which share of the examples is in a batch.
    steps: of each model.
    clip: the clipping norm.

  Returns:
    The stage.

  Raises:
    InputError: fewer than two classes.
  """
  if dataset.num_classes < 2:
    raise InputError("the audit needs two classes: give a data set with more, or --audit_models=0")
  people = range(min(dataset.num_classes, _MOST_PEOPLE))
  chosen = np.concatenate([np.flatnonzero(dataset.labels == k)[:_MOST_EACH] for k in people])
  small, labels = shrunk(dataset, chosen), dataset.labels[chosen]
  inputs = np.zeros((len(chosen) + len(CANARIES), small.shape[1] + 1), np.float32)
  inputs[: len(chosen), :-1] = small
  inputs[-2, -1] = _STRENGTH * clip
  inputs[-1] = inputs[0]
  count = len(inputs)
  every = jnp.arange(count)
  data = Data(
    jnp.asarray(inputs),
    jnp.asarray([*labels, 0, (labels[0] + 1) % len(people)], jnp.int32),
    train=every,
    holdout=every[:0],
  )
  batch = min(count, max(1, round(rate * count)))
  model = make_model(len(people), use_bias=False)
  return Stage(data, batch, steps, clip, model, LOSSES["softmax"])


def shrunk(dataset: Dataset, chosen: np.ndarray) -> Float[np.ndarray, "n p"]:
  """Some images in grey, as means over a few rectangles."""
  images = dataset.inputs[chosen].reshape(len(chosen), *(*dataset.image_shape, 1)[:3])
  images = np.float64(images).mean(-1)
  for axis, parts in zip((1, 2), _GRID, strict=True):
    pieces = np.array_split(images, min(parts, images.shape[axis]), axis)
    images = np.stack([piece.mean(axis) for piece in pieces], axis)
  return np.float32(images.reshape(len(chosen), -1))


def watched(trainer: Trainer, stage: Stage) -> Trainer:
  """A trainer whose states carry what an attacker adds up who sees every step.

  That attacker knows the data but for the canary, the noise's level, and the weights before and
  after every step: the strongest of DP-SGD's guarantee.

  Args:
    trainer: of the stage's model, by plain SGD.
    stage: what is trained on.

  Returns:
    The trainer; its states' `collections` hold `first`, the initial parameters, and `seen`
    [2 canaries, 2 scores].
  """

  def init(key, hyper, data):
    state = trainer.init(key, hyper, data)
    seen = jnp.zeros((len(CANARIES), len(SCORES[STEPS])))
    return state._replace(collections={"first": state.params, "seen": seen})

  def step(state, hyper, data):
    new, info = trainer.step(state._replace(collections={}), hyper, data)
    seen = state.collections["seen"] + _evidence(stage, state, new, hyper, data)
    return new._replace(collections=state.collections | {"seen": seen}), info

  return trainer._replace(init=init, step=step)


def _kernel(params: Params) -> Float[Array, "p k"]:
  return params["Dense_0"]["kernel"]


def _gradients(
  stage: Stage, kernel: Float[Array, "p k"], data: Data
) -> tuple[Float[Array, "n k"], Float[Array, " n"]]:
  """Of each example the residual, whose outer product with the input is the gradient; its norm."""
  targets = jax.nn.one_hot(data.labels, kernel.shape[1], dtype=kernel.dtype)
  residual = stage.loss.residual(data.inputs @ kernel, targets)
  squares = jnp.square(residual).sum(1) * jnp.square(data.inputs).sum(1)
  return residual, jnp.sqrt(jnp.maximum(squares, 1e-20))


def _evidence(
  stage: Stage, before: TrainState, after: TrainState, hyper: Hyper, data: Data
) -> Float[Array, "2 2"]:
  """What one step says of each canary: its movement along it, and the log-likelihood ratio.

  In units of the clipping norm, the step adds up the clipped gradients of the batch and noise. The
  others' part along the canary's gradient is known in distribution, and taken as Gaussian.
  """
  kernel, rate, where = _kernel(before.params), stage.rate, stage.canaries
  residual, norms = _gradients(stage, kernel, data)
  inputs, clip = data.inputs, hyper.dp_clip
  moved = (kernel - _kernel(after.params)) * stage.batch / (hyper.learning_rate * clip)
  along = jnp.einsum("cp,pk,ck->c", inputs[where], moved, residual[where]) / norms[where]
  products = (inputs[: where[0]] @ inputs[where].T) * (residual[: where[0]] @ residual[where].T)
  others = products / (norms[: where[0], None] * norms[where][None])
  others = others * jnp.minimum(1.0, norms[: where[0]] / clip)[:, None]
  excess = along - rate * others.sum(0)
  variance = jnp.square(hyper.dp_noise) + rate * (1 - rate) * jnp.square(others).sum(0)
  size = jnp.minimum(1.0, norms[where] / clip)
  gain = size * (2 * excess - size) / (2 * variance)
  ratio = jnp.logaddexp(jnp.log1p(-rate), jnp.log(rate) + gain)
  return jnp.stack([size * excess, ratio], 1)


def scores(stage: Stage, state: TrainState, data: Data) -> Float[Array, "2 2 2"]:
  """What both kinds of attacker score a trained model by.

  Args:
    stage: what it was trained on.
    state: of a trainer that is `watched`.
    data: the same examples.

  Returns:
    One row for each of `CANARIES`, for each of `SCORES` its two scores.
  """
  first, last = _kernel(state.collections["first"]), _kernel(state.params)
  where = stage.canaries
  residual, norms = _gradients(stage, first, data)
  along = jnp.einsum("cp,pk,ck->c", data.inputs[where], first - last, residual[where])
  targets = jax.nn.one_hot(data.labels[where], last.shape[1], dtype=last.dtype)
  losses = stage.loss.value(data.inputs[where] @ last, targets)
  final = jnp.stack([along / norms[where], -losses], 1)
  return jnp.stack([final, state.collections["seen"]], 1)


def kept(stage: Stage, canaries: Sequence[str | None]) -> Float[np.ndarray, "s n"]:
  """`Stage.keep` of several models."""
  return np.stack([stage.keep(canary) for canary in canaries])
