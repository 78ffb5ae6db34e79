"""What ONE model in training gives away, measured at every record: what is quick to measure."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinv.attacks.filtered import cosine_transform, largest
from jaxinv.attacks.weights import init_diff, reshape
from jaxinv.ensemble.mapping import in_turn, over_devices, trained_axes
from jaxinv.ensemble.program import Program
from jaxinv.experiments.leakage import EvalConfig, accuracies, released
from jaxinv.metrics import images
from jaxinv.training.projection import (
  Means,
  Projection,
  correlate,
  means_of,
  project_cosines,
  project_difference,
)
from jaxinv.training.trainer import Trainer
from jaxinv.types import Params, Release, Trained


def measure_in_training(
  trainer: Trainer, config: EvalConfig, model: Trained
) -> tuple[dict[str, dict[str, Array]], dict[str, Any]]:
  """Measures a model in training, without an image: see `Attack.project` and `Attack.cosines`.

  Args:
    trainer: the engine that trains it.
    config: as for `examine`; its attacks are quick, see `Attack.at_records`.
    model: the model.

  Returns:
    Measures by attack, by name: `ncc_centred` and `identification`, the same numbers as of
    `examine` up to rounding, and the accuracies of altered releases; and `by_person`, the
    `ncc_centred` of each person [k], and `identified` [k], by attack.
  """
  # Of the release XLA makes only what somebody looks at.
  release, data = released(trainer, config, model), model.data
  means = means_of(data, config.num_classes, config.holdout)
  measures: dict[str, dict[str, Array]] = {}
  details: dict[str, Any] = {"by_person": {}} | ({"identified": {}} if config.holdout else {})
  for attack, seen in _projections(trainer, config, model, release, means).items():
    scores = correlate(seen, means, data)
    centred = jnp.diagonal(scores)
    measures[attack] = {"ncc_centred": centred.mean()}
    details["by_person"][attack] = centred
    if config.holdout:
      found = images.own_is_largest(scores[:, config.num_classes :])
      details["identified"][attack] = found
      measures[attack]["identification"] = found.mean(dtype=float)
  if config.altered:
    logits = trainer.logits(release.params, data.inputs)
    measures["model"] = accuracies(logits, data)
  return measures, details


def _projections(
  trainer: Trainer, config: EvalConfig, model: Trained, release: Release, means: Means
) -> dict[str, Projection]:
  """What each attack recovers, as the class means see it."""
  if config.altered:
    held = release
    of = partial(project_difference, num_classes=config.num_classes, means=means)
  else:
    of = partial(trainer.project, data=model.data, means=means)
    settle = partial(trainer.settle, data=model.data)
    earlier = model.earlier and settle(model.earlier.params)
    held = Release(settle(model.state.params), settle(model.first), previous_params=earlier)
  cosines = partial(_cosines, config)
  return {
    attack.name: attack.project(of, held)
    if attack.project
    else project_cosines(attack.cosines(cosines, release), means)
    for attack in config.attacks
  }


def _cosines(config: EvalConfig, params: Params, minus: Params | None) -> Float[Array, "kc h w"]:
  """The cosine transform of the class weights of parameters, perhaps less those of others."""
  held = Release(params, minus)
  seen = reshape(held, config.image_shape) if minus is None else init_diff(held, config.image_shape)
  return cosine_transform(seen / largest(seen))


def measure_group_in_training(
  program: Program, config: EvalConfig
) -> Callable[[Trained], tuple[dict, dict]]:
  """Compiles `measure_in_training` for a group, one model after another.

  Args:
    program: the engine that trains the group.
    config: its attacks are quick.

  Returns:
    A function of the group; what it returns has a leading axis s.
  """
  one = partial(measure_in_training, program.trainer, config)

  def measure(group):
    axes = (trained_axes(program.data_axes, group),)
    return over_devices(in_turn(one, axes), axes, 0, program.devices)(group)

  return jax.jit(measure)
