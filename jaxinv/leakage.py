"""What a group of trained models gives away: attacks, measures and weights, model by model."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
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
  """What one model gives away.

  Attributes:
    weights: what each class weighs each pixel with, see `recover.class_weights`.
    init_weights: the same before training.
    bias: the output layer's bias, zeros where there is none.
    images: by attack, one recovered image a class, in 0..255.
    measures: by attack, by name, a scalar; `model` holds what belongs to the model itself.
    params: all parameters.
    init_params: all initial parameters.
    extras: what else its engine knows of it, by name.
  """

  weights: Float[Array, "k p"]
  init_weights: Float[Array, "k p"]
  bias: Float[Array, " k"]
  images: dict[str, Float[Array, "k h w"]]
  measures: dict[str, dict[str, Float[Array, ""]]]
  params: Params
  init_params: Params
  extras: dict[str, Array]


def examine(trainer: Trainer, look: Look, first: Params, state: TrainState, data: Data) -> Findings:
  """Attacks one trained model and measures what comes out.

  Args:
    trainer: the engine that trained it.
    look: how images are made and compared.
    first: the `params` of its state before the first step.
    state: its state.
    data: examples, and the split it was trained on.

  Returns:
    The findings.
  """
  release = trainer.release(first, state, data)
  params, init_params, _ = release
  train_mean, holdout_mean = class_images(look, data)
  images = {
    attack: recover.recover(attack, release, look.image_shape, look.normalize, look.largest)
    for attack in SINGLE
  }

  def measure(recovered):
    return metrics.measure(recovered, train_mean, holdout_mean if look.holdout else None)

  # In a loop, whose input is whole: else XLA on CPUs makes the images anew for each measure.
  measured = jax.lax.map(measure, jnp.stack(list(images.values())))
  measures = {attack: {k: v[i] for k, v in measured.items()} for i, attack in enumerate(SINGLE)}
  measures = {"model": {"weight_movement": weight_movement(params, init_params)}} | measures
  num_features = data.inputs.shape[-1]
  weights = recover.class_weights(params, num_features, look.num_classes)
  init_weights = recover.class_weights(init_params, num_features, look.num_classes)
  bias = _output_bias(params, look.num_classes)
  extras = trainer.extras(state)
  return Findings(weights, init_weights, bias, images, measures, params, init_params, extras)


def examine_one(program: ensemble.Program, look: Look) -> Callable[..., Findings]:
  """Compiles `examine` for one run of a group.

  Args:
    program: the engine that trained the group.
    look: how images are made and compared.

  Returns:
    (firsts, states, data, i) -> findings of the i-th run; `firsts` from the program itself, for
    another program's initial values may differ in their last bits.
  """
  one = jax.jit(partial(examine, program.trainer, look))
  axes = (0, ensemble.STATE_AXES, program.data_axes)
  return lambda firsts, states, data, i: one(*ensemble.pick(axes, (firsts, states, data), i))


class Measured(NamedTuple):
  """What is measured of all models of a group.

  Attributes:
    measures: as in `Findings`, a value a model.
    sums: class weights of each place's healthy models added up, by each device d its own.
  """

  measures: dict[str, dict[str, Float[Array, " s"]]]
  sums: Float[Array, "d j k p"]


def measure_group(program: ensemble.Program, look: Look, places: int) -> Callable[..., Measured]:
  """Compiles the measures of `examine` for a group: one model at a time, to bound the memory.

  Args:
    program: the engine that trained the group.
    look: how images are made and compared.
    places: how many sums of weights there are, j.

  Returns:
    (firsts, states, data, place [s], healthy [s]) -> measures, and the sums of the class weights:
    a healthy model's are added at its place.
  """
  axes = (0, ensemble.STATE_AXES, program.data_axes, 0, 0)

  def one_device(*group):
    def one(sums, i):
      *model, place, healthy = ensemble.member(axes, group, i)
      found = examine(program.trainer, look, *model)
      sums = sums.at[place].add(jnp.where(healthy, found.weights, 0.0))
      return sums, found.measures

    num_features, num_runs = group[2].inputs.shape[-1], group[3].shape[0]
    nothing = jnp.zeros((places, look.num_classes, num_features), group[2].inputs.dtype)
    sums, measures = jax.lax.scan(one, nothing, jnp.arange(num_runs))
    return Measured(measures, sums[None])

  return jax.jit(ensemble.over_devices(one_device, axes, 0, program.devices))


def watch_one(program: ensemble.Program, look: Look) -> Callable[..., Float[Array, " p"]]:
  """Compiles a look at one class's weights of one run of a group.

  Args:
    program: the engine that trains the group.
    look: how many classes there are.

  Returns:
    (states, data, i, class) -> the weights of the i-th run.
  """

  @jax.jit
  def watch(state, data, chosen):
    params = program.trainer.params(state, data)
    return recover.class_weights(params, data.inputs.shape[-1], look.num_classes)[chosen]

  axes = (ensemble.STATE_AXES, program.data_axes)
  return lambda states, data, i, chosen: watch(*ensemble.pick(axes, (states, data), i), chosen)


@partial(jax.jit, static_argnames="look")
def class_images(look: Look, data: Data) -> tuple[Float[Array, "k h w"], Float[Array, "k h w"]]:
  """Mean training and mean held-out image of each class, in 0..255."""
  shares = [
    splits.class_shares(data.labels, index, look.num_classes)
    for index in (data.train, data.holdout)
  ]
  images = (255 * (jnp.concatenate(shares) @ data.inputs)).reshape(-1, *look.image_shape)
  return images[: look.num_classes], images[look.num_classes :]


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
