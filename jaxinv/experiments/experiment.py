"""An experiment made ready to run: its engines, and its data on the device."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from jaxinv.attacks.attack import resolve as resolve_attacks
from jaxinv.attacks.filtered import components, cosine_transform
from jaxinv.attacks.traces import svd_of
from jaxinv.data import splits
from jaxinv.ensemble import mapping
from jaxinv.ensemble.seeds import shuffle_labels, split_data
from jaxinv.experiments import leakage
from jaxinv.experiments.engines import Engine, check_own, choose_engine, make_engine
from jaxinv.experiments.settings import Arm, Settings, check, program_name
from jaxinv.metrics.metric import resolve as resolve_metrics
from jaxinv.models.dense import make_model
from jaxinv.training import gram, private_span
from jaxinv.training.projection import pixel_gram
from jaxinv.types import Data, Dataset


class Experiment(NamedTuple):
  """Settings, data on the device and engines; another data set of the same shape can be put in.

  Attributes:
    settings: what to do.
    dataset: the data, on the host.
    data: the same on the device, once, nothing held out.
    config: how images are made and compared.
    engines: by name, see `settings.program_name`; nothing is compiled before it is used.
  """

  settings: Settings
  dataset: Dataset
  data: Data
  config: leakage.EvalConfig
  engines: dict[str, Engine]


def make_experiment(settings: Settings, dataset: Dataset) -> Experiment:
  """Prepares an experiment.

  Args:
    settings: what to do.
    dataset: images with their classes.

  Returns:
    The experiment.

  Raises:
    InputError: a name is unknown, a number is out of range, or settings and data do not fit.
  """
  check(settings, dataset)
  config = leakage.EvalConfig(
    image_shape=dataset.image_shape,
    num_classes=dataset.num_classes,
    holdout=settings.holdout > 0,
    normalize=settings.normalize,
    largest=255.0 * (float(dataset.inputs.max()) if settings.normalize == "max" else 1.0),
    attacks=resolve_attacks(settings.attacks),
    metrics=resolve_metrics(settings.metrics),
    photographs=settings.photographs,
  )
  model = settings.model
  if model is None:
    shape = settings.hidden, settings.use_bias, settings.initializer
    model = make_model(dataset.num_classes, *shape)
  by_program: dict[str, list[Arm]] = {}
  for arm in settings.arms:
    by_program.setdefault(program_name(arm), []).append(arm)
  engines = {
    name: make_engine(settings, choose_engine(settings, arms, *dataset.inputs.shape), model, config)
    for name, arms in by_program.items()
  }
  check_own(settings, model, dataset, config)
  return with_data(Experiment(settings, dataset, None, config, engines), dataset)


def with_data(experiment: Experiment, dataset: Dataset) -> Experiment:
  """Puts a data set in, of the same shape as the one before."""
  data = splits.whole(dataset)
  if any(engine.kind == "gram" for engine in experiment.engines.values()):
    data = data._replace(gram=gram.gram_matrix(data.inputs, experiment.settings.use_bias))
  if any(engine.kind == "private_span" for engine in experiment.engines.values()):
    data = data._replace(rotation=private_span.rotation_of(dataset.inputs))
  if experiment.settings.at_records:
    products, means = pixel_gram(data.inputs)
    data = data._replace(pixel_gram=products, pixel_means=means)
    if any(attack.cosines for attack in experiment.config.attacks):
      cosines = cosine_transform(data.inputs.reshape(-1, *dataset.image_shape))
      data = data._replace(cosines=cosines.reshape(data.inputs.shape))
  if any("others" in attack.needs for attack in experiment.config.attacks):
    known = components(dataset.inputs, dataset.labels, dataset.image_shape)
    data = data._replace(components=jnp.asarray(known))
  if experiment.settings.photographs:
    data = data._replace(svd=svd_of(dataset.inputs))
  return experiment._replace(dataset=dataset, data=data)


def remembers(settings: Settings) -> bool:
  """Whether an attack needs the models as they were one record earlier."""
  return any("previous_params" in attack.needs for attack in resolve_attacks(settings.attacks))


def split_of(experiment: Experiment, seeds: Sequence[int]) -> Data:
  """The data as some seeds see it: all examples, and each seed's split."""
  settings = experiment.settings
  return split_data(
    experiment.data,
    experiment.dataset.num_classes,
    settings.root_seed,
    seeds,
    settings.holdout,
    settings.fixed_split or settings.halves,
    settings.halves,
  )


def training_labels(experiment: Experiment, data: Data, seeds: Sequence[int]) -> Data:
  """What some seeds are taught: their data, or for a control with labels dealt out anew."""
  if not experiment.settings.shuffled_labels:
    return data
  width, axes = len(seeds), experiment.engines[next(iter(experiment.engines))].program.data_axes
  taught = shuffle_labels(data, experiment.settings.root_seed, seeds)
  return mapping.shard(taught, axes, width)
