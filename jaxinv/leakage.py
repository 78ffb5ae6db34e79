"""What a group of trained models gives away: attacks, measures and weights, model by model."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxinv import ensemble, metrics, recover
from jaxinv.data import splits
from jaxinv.train import Trainer
from jaxinv.types import Data, Params, Release, TrainState

# The attacks on a single model; `seed_mean` needs many, see `measure_seed_mean`.
SINGLE = ("reshape", "init_diff")


class Look(NamedTuple):
  """How recovered images are made and compared. Static.

  Attributes:
    image_shape: (h, w) in pixels.
    num_classes: number of classes, k.
    holdout: whether there are held-out examples to compare with.
    normalize: a name in `recover.NORMALIZATIONS`.
    largest: the largest value of the data, in 0..255.
  """

  image_shape: tuple[int, int]
  num_classes: int
  holdout: bool
  normalize: str = "min-max"
  largest: float = 255.0


class Findings(NamedTuple):
  """What one model gives away, or, with a leading axis s, each of many.

  Attributes:
    weights: what each class weighs each pixel with, see `recover.class_weights`.
    init_weights: the same before training.
    bias: the output layer's bias, zeros where there is none.
    images: by attack, one recovered image a class, in 0..255.
    measures: by attack, by name, a scalar; `model` holds what belongs to the model itself.
    params: all parameters.
    init_params: all initial parameters.
  """

  weights: Float[Array, "*s k p"]
  init_weights: Float[Array, "*s k p"]
  bias: Float[Array, "*s k"]
  images: dict[str, Float[Array, "*s k h w"]]
  measures: dict[str, dict[str, Float[Array, "*s"]]]
  params: Params
  init_params: Params


def examine(
  trainer: Trainer, look: Look, start: TrainState, state: TrainState, data: Data
) -> Findings:
  """Attacks one trained model and measures what comes out.

  Args:
    trainer: the engine that trained it.
    look: how images are made and compared.
    start: its state before the first step, for its initial parameters.
    state: its state.
    data: examples, and the split it was trained on.

  Returns:
    The findings.
  """
  params = trainer.params(state, data)
  init_params = trainer.params(start, data)
  release = Release(params, init_params)
  train_mean, holdout_mean = class_images(look, data)
  images, measures = {}, {"model": {"weight_movement": weight_movement(params, init_params)}}
  for attack in SINGLE:
    images[attack] = recover.recover(
      attack, release, look.image_shape, look.normalize, look.largest
    )
    measures[attack] = metrics.measure(
      images[attack], train_mean, holdout_mean if look.holdout else None
    )
  num_features = data.inputs.shape[-1]
  weights = recover.class_weights(params, num_features, look.num_classes)
  init_weights = recover.class_weights(init_params, num_features, look.num_classes)
  bias = _output_bias(params, look.num_classes)
  return Findings(weights, init_weights, bias, images, measures, params, init_params)


def examine_group(program: ensemble.Program, look: Look) -> Callable[..., Findings]:
  """Maps `examine` over a group, compiled; one model at a time, to bound the memory.

  Args:
    program: the engine that trained the group.
    look: how images are made and compared.

  Returns:
    (starts, states, data) -> findings with a leading axis s; `starts` from the program itself,
    for another program's initial values may differ in their last bits.
  """

  @jax.jit
  def mapped(starts, states, data):
    def one(i):
      axes = (ensemble.STATE_AXES, ensemble.STATE_AXES, program.data_axes)
      return examine(program.trainer, look, *ensemble.member(axes, (starts, states, data), i))

    return jax.lax.map(one, jnp.arange(states.key.shape[0]))

  return mapped


def watch_group(program: ensemble.Program, look: Look) -> Callable[..., Float[Array, " p"]]:
  """Compiles a look at one class's weights of one run of a group.

  Args:
    program: the engine that trains the group.
    look: how many classes there are.

  Returns:
    (states, data, i, class) -> the weights of the i-th run.
  """

  @jax.jit
  def watch(states, data, i, chosen):
    state, split = ensemble.member((ensemble.STATE_AXES, program.data_axes), (states, data), i)
    params = program.trainer.params(state, split)
    return recover.class_weights(params, data.inputs.shape[-1], look.num_classes)[chosen]

  return watch


@partial(jax.jit, static_argnames="look")
def class_images(look: Look, data: Data) -> tuple[Float[Array, "k h w"], Float[Array, "k h w"]]:
  """Mean training and mean held-out image of each class, in 0..255."""
  return tuple(
    255
    * splits.class_means(data.inputs, data.labels, index, look.num_classes).reshape(
      -1, *look.image_shape
    )
    for index in (data.train, data.holdout)
  )


def weight_movement(params: Params, init_params: Params) -> Float[Array, ""]:
  """|W - W0| / |W0|, Frobenius norms over all kernels; not finite where W0 is zero."""

  def kernels(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim >= 2]

  def norm(leaves):
    return jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in leaves))

  pairs = zip(kernels(params), kernels(init_params), strict=True)
  return norm([a - b for a, b in pairs]) / norm(kernels(init_params))


def _output_bias(params: Params, num_classes: int) -> Float[Array, " k"]:
  """The bias of the layer whose output is the classes; the last of that size."""
  biases = [x for x in jax.tree.leaves(params) if x.shape == (num_classes,)]
  return biases[-1] if biases else jnp.zeros(num_classes)


@partial(jax.jit, static_argnames="look")
def measure_seed_mean(
  look: Look,
  mean_weights: Float[Array, "k p"],
  data: Data,
  healthy: Bool[Array, " s"],
) -> tuple[Float[Array, "k h w"], dict[str, Float[Array, ""]]]:
  """The attack on several models' average, compared with the average of their class means.

  Args:
    look: how images are made and compared.
    mean_weights: the class weights averaged over the seeds that count.
    data: examples, and a split for each seed (`train` [s, m]).
    healthy: which seeds count.

  Returns:
    The recovered images in 0..255, and the measures by name.
  """
  means = [
    _mean_over_splits(look, data.inputs, data.labels, index, healthy)
    for index in (data.train, data.holdout)
  ]
  # The attack on the mean itself: averaging comes before the reshaping, and both are linear.
  release = Release(params=None, peers={"kernel": mean_weights.T[None]})
  images = recover.recover("seed_mean", release, look.image_shape, look.normalize, look.largest)
  return images, metrics.measure(images, means[0], means[1] if look.holdout else None)


def _mean_over_splits(
  look: Look,
  inputs: Float[Array, "n p"],
  labels: Int[Array, " n"],
  index: Int[Array, "s _"],
  healthy: Bool[Array, " s"],
) -> Float[Array, "k h w"]:
  """Class means of each seed's split, averaged over the seeds that count; in 0..255."""

  # One seed at a time: all of their shares together would be as large as a data set each.
  def add(total, seed):
    chosen, counts = seed
    return total + counts * splits.class_shares(labels, chosen, look.num_classes), None

  start = jnp.zeros((look.num_classes, len(labels)))
  total, _ = jax.lax.scan(add, start, (index, healthy.astype(start.dtype)))
  return 255 * (total / healthy.sum() @ inputs).reshape(-1, *look.image_shape)


def sum_by_arm(
  weights: Float[Array, "s k p"], arms: Int[np.ndarray, " _"], keep: Bool[np.ndarray, " _"]
) -> dict[int, Float[Array, "k p"]]:
  """Sums the class weights of each arm's members that are to be kept; an arm with none has none."""
  members = {int(arm): np.flatnonzero((arms == arm) & keep) for arm in set(arms)}
  return {arm: weights[m].sum(0) for arm, m in members.items() if m.size}
