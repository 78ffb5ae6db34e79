"""What a group of trained models gives away: attacks, measures and weights, model by model."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinv.attacks import DEFAULT as DEFAULT_ATTACKS
from jaxinv.attacks import Attack, recover
from jaxinv.attacks.release import defend
from jaxinv.attacks.traces import traces
from jaxinv.data import splits
from jaxinv.ensemble.mapping import STATE_AXES, fetch_run, over_devices, run_at, trained_axes
from jaxinv.ensemble.program import Program
from jaxinv.metrics.images import correlations, identified, ncc
from jaxinv.metrics.metric import DEFAULT as DEFAULT_METRICS
from jaxinv.metrics.metric import Metric, Targets, measure
from jaxinv.models.params import class_weights, output_bias, weight_movement
from jaxinv.training.trainer import Trainer
from jaxinv.types import Data, Params, Release, Stream, Trained


class EvalConfig(NamedTuple):
  """How recovered images are made and compared. Static.

  Attributes:
    image_shape: (h, w) in pixels, or (h, w, c).
    num_classes: number of classes, k.
    holdout: whether there are held-out examples to compare with.
    normalize: a name in `metrics.images.NORMALIZATIONS`.
    largest: the largest value of the data, in 0..255.
    attacks: those on one model.
    metrics: measures of their images.
    altered: whether releases may differ from what was trained, see `attacks.release`: the
      accuracies are then measured of the release.
    photographs: whether to compare recovered images with every single example too, and to keep
      the logits.
  """

  image_shape: tuple[int, ...]
  num_classes: int
  holdout: bool
  normalize: str = "min-max"
  largest: float = 255.0
  attacks: tuple[Attack, ...] = DEFAULT_ATTACKS
  metrics: tuple[Metric, ...] = DEFAULT_METRICS
  altered: bool = False
  photographs: bool = False

  def recover(self, attack: Attack, release: Release) -> Float[Array, "k h w *c"]:
    """An attack's images, normalised."""
    return recover(attack, release, self.image_shape, self.normalize, self.largest)

  def compare(self, images: Array, targets: Targets) -> dict[str, Array]:
    """The metrics of one model's images."""
    if not self.holdout:
      targets = targets._replace(holdout_mean=None, train_parts=None)
    return measure(images, targets, self.metrics)


class Findings(NamedTuple):
  """What one model gives away.

  Attributes:
    weights: what each class weighs each pixel with, see `params.class_weights`.
    init_weights: the same before training.
    bias: the output layer's bias, zeros where there is none.
    init_bias: the same before training.
    images: by attack, one recovered image a class, in 0..255.
    measures: by attack, by name, a scalar; `model` holds what belongs to the model itself.
    params: all parameters.
    init_params: all initial parameters.
    extras: what else its engine knows of it, by name.
    details: measures that are more than a number: by attack `by_person`, the centred NCC of each
      person [k], and `identified` [k]; where photographs are looked at `logits` [n, k] and
      `similarity` by attack [n].
  """

  weights: Float[Array, "k p"]
  init_weights: Float[Array, "k p"]
  bias: Float[Array, " k"]
  init_bias: Float[Array, " k"]
  images: dict[str, Float[Array, "k h w *c"]]
  measures: dict[str, dict[str, Float[Array, ""]]]
  params: Params
  init_params: Params
  extras: dict[str, Array]
  details: dict[str, Any]


def released(trainer: Trainer, config: EvalConfig, model: Trained) -> Release:
  """What an attacker holds of a trained model, after what its owner does to hide things.

  Args:
    trainer: the engine that trained it.
    config: says whether releases are altered.
    model: the model.

  Returns:
    The release.
  """
  release = trainer.release(model.first, model.state, model.data, model.earlier)
  release = release._replace(others=model.data.components)
  if not config.altered:
    return release
  stream = Stream.RELEASE_NOISE.of(model.state.key)

  def alter(params, step):
    return defend(params, model.hyper, jax.random.fold_in(stream, step))

  params = alter(release.params, model.state.step)
  previous = model.earlier and alter(release.previous_params, model.earlier.step)
  return release._replace(params=params, previous_params=previous)


def examine(trainer: Trainer, config: EvalConfig, model: Trained) -> Findings:
  """Attacks one trained model and measures what comes out.

  Args:
    trainer: the engine that trained it.
    config: how images are made and compared.
    model: the model.

  Returns:
    The findings.
  """
  release, data = released(trainer, config, model), model.data
  params, init_params = release.params, release.init_params
  images = {attack.name: config.recover(attack, release) for attack in config.attacks}
  measures, details = _compare(config, images, data)
  measures |= {"model": {"weight_movement": weight_movement(params, init_params)}}
  num_features = data.inputs.shape[-1]
  if config.altered or config.photographs:
    logits = trainer.logits(params, data.inputs)
    if config.altered:
      measures["model"] |= accuracies(logits, data)
    if config.photographs:
      details["logits"] = logits
      details["traces"] = traces(release, data.labels, config.num_classes, data.svd)
  return Findings(
    weights=class_weights(params, num_features, config.num_classes),
    init_weights=class_weights(init_params, num_features, config.num_classes),
    bias=output_bias(params, config.num_classes),
    init_bias=output_bias(init_params, config.num_classes),
    images=images,
    measures=measures,
    params=params,
    init_params=init_params,
    extras=trainer.extras(model.state) | _earlier_arrays(config, release, num_features),
    details=details,
  )


def _compare(config: EvalConfig, images: dict[str, Float[Array, "k h w *c"]], data: Data):
  """Measures of recovered images by attack, and those that are more than a number."""
  targets = targets_of(config, data)
  train_mean, holdout_mean = targets[:2]
  # Less what is the same for all models: their own training mean would tell who is in it.
  photographs = data.inputs - data.inputs.mean(0, keepdims=True)

  def compare(recovered):
    values = config.compare(recovered, targets)
    more = {"by_person": jax.vmap(ncc)(recovered, train_mean - train_mean.mean(0, keepdims=True))}
    if config.holdout:
      more["identified"] = identified(recovered, holdout_mean)
    if config.photographs:
      scores = correlations(recovered, photographs.reshape(-1, *config.image_shape))
      more["similarity"] = jnp.take_along_axis(scores, data.labels[None], 0)[0]
    return values, more

  # In a loop, whose input is whole: else XLA on CPUs makes the images anew for each measure.
  values, more = jax.lax.map(compare, jnp.stack(list(images.values())))
  by_attack = {attack: {k: v[i] for k, v in values.items()} for i, attack in enumerate(images)}
  details = {k: {attack: v[i] for i, attack in enumerate(images)} for k, v in more.items()}
  return by_attack, details


def accuracies(logits: Float[Array, "n k"], data: Data) -> dict[str, Float[Array, ""]]:
  """Accuracies of what was released, which may not be what was trained."""
  correct = (logits.argmax(-1) == data.labels).astype(logits.dtype)
  return {
    "train_accuracy": correct[data.train].mean(),
    "holdout_accuracy": correct[data.holdout].mean(),
  }


def _earlier_arrays(config: EvalConfig, release: Release, num_features: int) -> dict[str, Array]:
  """The weights and bias of the earlier release, to be kept beside the others."""
  if release.previous_params is None:
    return {}
  return {
    "previous_weights": class_weights(release.previous_params, num_features, config.num_classes),
    "previous_bias": output_bias(release.previous_params, config.num_classes),
  }


def examine_one(program: Program, config: EvalConfig) -> Callable[..., Findings]:
  """Compiles `examine` for one run of a group.

  Args:
    program: the engine that trained the group.
    config: how images are made and compared.

  Returns:
    (group, i) -> findings of the i-th run; the group's `first` from the program itself, for
    another program's initial values may differ in their last bits.
  """
  one = jax.jit(partial(examine, program.trainer, config))
  return lambda group, i: one(fetch_run(trained_axes(program.data_axes, group), group, i))


class Measured(NamedTuple):
  """What is measured of all models of a group.

  Attributes:
    measures: as in `Findings`, a value a model.
    sums: class weights of each place's healthy models added up, by each device d its own.
    details: as in `Findings`, with a leading axis s.
  """

  measures: dict[str, dict[str, Float[Array, " s"]]]
  sums: Float[Array, "d j k p"]
  details: dict[str, Any]


def measure_group(program: Program, config: EvalConfig, places: int) -> Callable[..., Measured]:
  """Compiles the measures of `examine` for a group: one model at a time, to bound the memory.

  Args:
    program: the engine that trained the group.
    config: how images are made and compared.
    places: how many sums of weights there are, j.

  Returns:
    (group, place [s], healthy [s]) -> measures, and the sums of the class weights: a healthy
    model's are added at its place.
  """

  def measure_all(group, place, healthy):
    axes = (trained_axes(program.data_axes, group), 0, 0)

    def one_device(*parts):
      def one(sums, i):
        model, place, healthy = run_at(axes, parts, i)
        found = examine(program.trainer, config, model)
        sums = sums.at[place].add(jnp.where(healthy, found.weights, 0.0))
        return sums, (found.measures, found.details)

      inputs, num_runs = parts[0].data.inputs, parts[1].shape[0]
      nothing = jnp.zeros((places, config.num_classes, inputs.shape[-1]), inputs.dtype)
      sums, (measures, details) = jax.lax.scan(one, nothing, jnp.arange(num_runs))
      return Measured(measures, sums[None], details)

    return over_devices(one_device, axes, 0, program.devices)(group, place, healthy)

  return jax.jit(measure_all)


def watch_one(program: Program, config: EvalConfig) -> Callable[..., Float[Array, " p"]]:
  """Compiles a look at one class's weights of one run of a group.

  Args:
    program: the engine that trains the group.
    config: how many classes there are.

  Returns:
    (group, i, class) -> the weights of the i-th run.
  """

  @jax.jit
  def watch(state, data, chosen):
    params = program.trainer.params(state, data)
    return class_weights(params, data.inputs.shape[-1], config.num_classes)[chosen]

  axes = (STATE_AXES, program.data_axes)
  return lambda group, i, chosen: watch(*fetch_run(axes, (group.state, group.data), i), chosen)


@partial(jax.jit, static_argnames="config")
def class_images(
  config: EvalConfig, data: Data
) -> tuple[Float[Array, "k h w *c"], Float[Array, "k h w *c"]]:
  """Mean training and mean held-out image of each class, in 0..255."""
  indices = data.train, data.holdout
  means = splits.split_means(data.inputs, data.labels, indices, config.num_classes)
  train, holdout = (255 * means).reshape(2, config.num_classes, *config.image_shape)
  return train, holdout


def targets_of(config: EvalConfig, data: Data) -> Targets:
  """What one model's recovered images are compared with, in 0..255."""
  parts = None
  if config.holdout:
    size = held_out(config, data)
    shares = splits.part_shares(data.labels, data.train, config.num_classes, size)
    parts = (255 * (shares @ data.inputs)).reshape(*shares.shape[:2], *config.image_shape)
  return Targets(*class_images(config, data), parts)


def held_out(config: EvalConfig, data: Data) -> int:
  """How many examples of each class are held out."""
  return data.holdout.shape[-1] // config.num_classes
