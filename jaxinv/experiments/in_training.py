"""What ONE model in training gives away, measured at every record: what is quick to measure."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxinv.data import splits
from jaxinv.ensemble.mapping import in_turn, over_devices, trained_axes
from jaxinv.ensemble.program import Program
from jaxinv.experiments.leakage import EvalConfig, accuracies, held_out, released
from jaxinv.metrics import images
from jaxinv.training.projection import Projection, correlate, project_difference, project_images
from jaxinv.training.trainer import Trainer
from jaxinv.types import Release, Trained


def measure_in_training(
  trainer: Trainer, config: EvalConfig, model: Trained
) -> tuple[dict[str, dict[str, Array]], dict[str, Any]]:
  """Measures a model in training. Most attacks make no image for it, see `Attack.project`.

  Args:
    trainer: the engine that trains it.
    config: as for `examine`; its attacks are quick, see `Attack.at_records`.
    model: the model.

  Returns:
    Measures by attack, by name: `ncc_centred`, `identification` and `excess`, the same numbers as
    of `examine` up to rounding, and the accuracies of altered releases; and `by_person`, the
    `ncc_centred` of each person [k], and `identified` [k], by attack.
  """
  whole = config.altered or not all(attack.project for attack in config.attacks)
  release = released(trainer, config, model) if whole else None
  data = model.data
  train, held = (
    splits.class_shares(data.labels, index, config.num_classes)
    for index in (data.train, data.holdout)
  )
  if config.holdout:
    size = held_out(config, data)
    parts = splits.part_shares(data.labels, data.train, config.num_classes, size)
  measures: dict[str, dict[str, Array]] = {}
  details: dict[str, Any] = {"by_person": {}} | ({"identified": {}} if config.holdout else {})
  for attack, seen in _projections(trainer, config, model, release).items():
    centred = jnp.diagonal(correlate(seen, train - train.mean(0, keepdims=True), data))
    measures[attack] = {"ncc_centred": centred.mean()}
    details["by_person"][attack] = centred
    if config.holdout:
      scores = correlate(seen, held - held.mean(0, keepdims=True), data)
      found = images.own_is_largest(scores)
      details["identified"][attack] = found
      measures[attack]["identification"] = found.mean(dtype=float)
      own = jax.vmap(lambda shares, seen=seen: jnp.diagonal(correlate(seen, shares, data)))
      measures[attack]["excess"] = own(parts).mean() - own(held[None]).mean()
  if config.altered:
    logits = trainer.logits(release.params, data.inputs)
    measures["model"] = accuracies(logits, data)
  return measures, details


def _projections(
  trainer: Trainer, config: EvalConfig, model: Trained, release: Release | None
) -> dict[str, Projection]:
  """What each attack recovers, as the examples see it."""
  if config.altered:
    held, of = release, partial(project_difference, num_classes=config.num_classes, data=model.data)
  else:
    of = partial(trainer.project, data=model.data)
    earlier = model.earlier and model.earlier.params
    held = Release(model.state.params, model.first, previous_params=earlier)
  return {
    attack.name: attack.project(of, held)
    if attack.project
    else project_images(attack(release, config.image_shape), model.data)
    for attack in config.attacks
  }


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
