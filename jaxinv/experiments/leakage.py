"""What a group of trained models gives away: attacks, measures and weights, model by model."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxinv.attacks.attack import recover
from jaxinv.attacks.release import defend
from jaxinv.data import splits
from jaxinv.ensemble import mapping
from jaxinv.ensemble.program import Program
from jaxinv.metrics import images as metrics
from jaxinv.metrics.metric import Targets
from jaxinv.metrics.metric import measure as measure_images
from jaxinv.models.params import class_weights, dense_logits, output_bias, weight_movement
from jaxinv.training.trainer import Trainer
from jaxinv.types import Data, Hyper, Params, Release, Snapshot, Stream, TrainState

# The attacks on a single model that every experiment makes; `seed_mean` needs many models, see
# `measure_seed_mean`.
SINGLE = ("reshape", "init_diff")
SNAPSHOT_AXES = Snapshot(params=0, step=None)


class Look(NamedTuple):
  """How recovered images are made and compared. Static.

  Attributes:
    image_shape: (h, w) in pixels.
    num_classes: number of classes, k.
    holdout: whether there are held-out examples to compare with.
    normalize: a name in `metrics.images.NORMALIZATIONS`.
    largest: the largest value of the data, in 0..255.
    attacks: names in `attacks.ALL` that need one model; `update_ratio` needs a snapshot.
    altered: whether releases may differ from what was trained, see `defences`: the accuracies are
      then measured of the release.
    photographs: whether to compare recovered images with every single example too, and to keep
      the logits.
  """

  image_shape: tuple[int, int]
  num_classes: int
  holdout: bool
  normalize: str = "min-max"
  largest: float = 255.0
  attacks: tuple[str, ...] = SINGLE
  altered: bool = False
  photographs: bool = False


class Findings(NamedTuple):
  """What one model gives away.

  Attributes:
    weights: what each class weighs each pixel with, see `params.class_weights`.
    init_weights: the same before training.
    bias: the output layer's bias, zeros where there is none.
    images: by attack, one recovered image a class, in 0..255.
    measures: by attack, by name, a scalar; `model` holds what belongs to the model itself.
    params: all parameters.
    init_params: all initial parameters.
    extras: what else its engine knows of it, by name.
    details: measures that are more than a number, by name: `identified/ATTACK` [k], and where
      photographs are looked at `logits` [n, k] and `similarity/ATTACK` [n].
  """

  weights: Float[Array, "k p"]
  init_weights: Float[Array, "k p"]
  bias: Float[Array, " k"]
  images: dict[str, Float[Array, "k h w"]]
  measures: dict[str, dict[str, Float[Array, ""]]]
  params: Params
  init_params: Params
  extras: dict[str, Array]
  details: dict[str, Array]


def released(
  trainer: Trainer,
  look: Look,
  first: Params,
  state: TrainState,
  data: Data,
  hyper: Hyper | None = None,
  earlier: Snapshot | None = None,
) -> Release:
  """What an attacker holds of a trained model, after what its owner does to hide things.

  Args:
    trainer: the engine that trained it.
    look: says whether releases are altered.
    first: the `params` of its state before the first step.
    state: its state.
    data: examples.
    hyper: its hyperparameters; not needed where releases are not altered.
    earlier: the model as it was released before, where the attacker has that too.

  Returns:
    The release.
  """
  release = trainer.release(first, state, data, earlier)
  if not look.altered:
    return release
  stream = Stream.RELEASE_NOISE.of(state.key)
  params = defend(release.params, hyper, jax.random.fold_in(stream, state.step))
  previous = earlier and defend(
    release.previous_params, hyper, jax.random.fold_in(stream, earlier.step)
  )
  return release._replace(params=params, previous_params=previous)


def examine(
  trainer: Trainer,
  look: Look,
  first: Params,
  state: TrainState,
  data: Data,
  hyper: Hyper | None = None,
  earlier: Snapshot | None = None,
) -> Findings:
  """Attacks one trained model and measures what comes out.

  Args:
    trainer: the engine that trained it.
    look: how images are made and compared.
    first: the `params` of its state before the first step.
    state: its state.
    data: examples, and the split it was trained on.
    hyper: its hyperparameters; not needed where releases are not altered.
    earlier: the model as it was released before, for `update_ratio`.

  Returns:
    The findings.
  """
  release = released(trainer, look, first, state, data, hyper, earlier)
  params, init_params = release.params, release.init_params
  images = {
    attack: recover(attack, release, look.image_shape, look.normalize, look.largest)
    for attack in look.attacks
  }
  measures, details = _compare(look, images, data)
  measures |= {"model": {"weight_movement": weight_movement(params, init_params)}}
  num_features = data.inputs.shape[-1]
  if look.altered or look.photographs:
    logits = dense_logits(params, data.inputs, look.num_classes)
    if look.altered:
      measures["model"] |= accuracies(logits, data)
    if look.photographs:
      details["logits"] = logits
  return Findings(
    weights=class_weights(params, num_features, look.num_classes),
    init_weights=class_weights(init_params, num_features, look.num_classes),
    bias=output_bias(params, look.num_classes),
    images=images,
    measures=measures,
    params=params,
    init_params=init_params,
    extras=trainer.extras(state) | _earlier_arrays(look, release, num_features),
    details=details,
  )


def _compare(look: Look, images: dict[str, Float[Array, "k h w"]], data: Data):
  """Measures of recovered images by attack, and those that are more than a number."""
  train_mean, holdout_mean = class_images(look, data)
  # Less what is the same for all models: their own training mean would tell who is in it.
  photographs = data.inputs - data.inputs.mean(0, keepdims=True)

  def measure(recovered):
    values = measure_images(recovered, Targets(train_mean, holdout_mean if look.holdout else None))
    more = {}
    if look.holdout:
      more["identified"] = metrics.identified(recovered, holdout_mean)
    if look.photographs:
      scores = metrics.correlations(recovered, photographs.reshape(-1, *look.image_shape))
      more["similarity"] = jnp.take_along_axis(scores, data.labels[None], 0)[0]
    return values, more

  # In a loop, whose input is whole: else XLA on CPUs makes the images anew for each measure.
  values, more = jax.lax.map(measure, jnp.stack(list(images.values())))
  by_attack = {attack: {k: v[i] for k, v in values.items()} for i, attack in enumerate(images)}
  details = {f"{k}/{attack}": v[i] for k, v in more.items() for i, attack in enumerate(images)}
  return by_attack, details


def accuracies(logits: Float[Array, "n k"], data: Data) -> dict[str, Float[Array, ""]]:
  """Accuracies of what was released, which may not be what was trained."""
  correct = (logits.argmax(-1) == data.labels).astype(logits.dtype)
  return {
    "train_accuracy": correct[data.train].mean(),
    "holdout_accuracy": correct[data.holdout].mean(),
  }


def _earlier_arrays(look: Look, release: Release, num_features: int) -> dict[str, Array]:
  """The weights and bias of the earlier release, to be kept beside the others."""
  if release.previous_params is None:
    return {}
  return {
    "previous_weights": class_weights(release.previous_params, num_features, look.num_classes),
    "previous_bias": output_bias(release.previous_params, look.num_classes),
  }


def examine_one(program: Program, look: Look) -> Callable[..., Findings]:
  """Compiles `examine` for one run of a group.

  Args:
    program: the engine that trained the group.
    look: how images are made and compared.

  Returns:
    (firsts, states, data, i, hypers, earlier) -> findings of the i-th run; `firsts` from the
    program itself, for another program's initial values may differ in their last bits. The last
    two may be left out where `examine` does not need them.
  """
  one = jax.jit(partial(examine, program.trainer, look))
  axes = (0, mapping.STATE_AXES, program.data_axes, 0, SNAPSHOT_AXES)

  def examine_run(firsts, states, data, i, hypers=None, earlier=None):
    mine = axes if earlier else (*axes[:-1], None)
    return one(*mapping.fetch_run(mine, (firsts, states, data, hypers, earlier), i))

  return examine_run


class Measured(NamedTuple):
  """What is measured of all models of a group.

  Attributes:
    measures: as in `Findings`, a value a model.
    sums: class weights of each place's healthy models added up, by each device d its own.
    details: as in `Findings`, with a leading axis s.
  """

  measures: dict[str, dict[str, Float[Array, " s"]]]
  sums: Float[Array, "d j k p"]
  details: dict[str, Float[Array, "s ..."] | Bool[Array, "s ..."]]


def measure_group(program: Program, look: Look, places: int) -> Callable[..., Measured]:
  """Compiles the measures of `examine` for a group: one model at a time, to bound the memory.

  Args:
    program: the engine that trained the group.
    look: how images are made and compared.
    places: how many sums of weights there are, j.

  Returns:
    (firsts, states, data, place [s], healthy [s], hypers, earlier) -> measures, and the sums of
    the class weights: a healthy model's are added at its place. The last two may be left out where
    `examine` does not need them.
  """

  def measure(firsts, states, data, place, healthy, hypers=None, earlier=None):
    axes = (0, mapping.STATE_AXES, program.data_axes, 0, 0, 0, earlier and SNAPSHOT_AXES)
    group = (firsts, states, data, place, healthy, hypers, earlier)

    def one_device(*group):
      def one(sums, i):
        *model, place, healthy, hyper, before = mapping.run_at(axes, group, i)
        found = examine(program.trainer, look, *model, hyper, before)
        sums = sums.at[place].add(jnp.where(healthy, found.weights, 0.0))
        return sums, (found.measures, found.details)

      num_features, num_runs = group[2].inputs.shape[-1], group[3].shape[0]
      nothing = jnp.zeros((places, look.num_classes, num_features), group[2].inputs.dtype)
      sums, (measures, details) = jax.lax.scan(one, nothing, jnp.arange(num_runs))
      return Measured(measures, sums[None], details)

    return mapping.over_devices(one_device, axes, 0, program.devices)(*group)

  return jax.jit(measure)


def watch_one(program: Program, look: Look) -> Callable[..., Float[Array, " p"]]:
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
    return class_weights(params, data.inputs.shape[-1], look.num_classes)[chosen]

  axes = (mapping.STATE_AXES, program.data_axes)
  return lambda states, data, i, chosen: watch(*mapping.fetch_run(axes, (states, data), i), chosen)


@partial(jax.jit, static_argnames="look")
def class_images(look: Look, data: Data) -> tuple[Float[Array, "k h w"], Float[Array, "k h w"]]:
  """Mean training and mean held-out image of each class, in 0..255."""
  shares = [
    splits.class_shares(data.labels, index, look.num_classes)
    for index in (data.train, data.holdout)
  ]
  images = (255 * (jnp.concatenate(shares) @ data.inputs)).reshape(-1, *look.image_shape)
  return images[: look.num_classes], images[look.num_classes :]


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
  images = recover("seed_mean", release, look.image_shape, look.normalize, look.largest)
  return images, measure_images(images, Targets(means[0], means[1] if look.holdout else None))


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
