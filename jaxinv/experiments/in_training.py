"""What ONE model in training gives away, measured at every record, without making any image."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxinv.data import splits
from jaxinv.ensemble import mapping
from jaxinv.ensemble.program import Program
from jaxinv.experiments.leakage import SNAPSHOT_AXES, Look, accuracies, released
from jaxinv.metrics import images
from jaxinv.models.params import dense_logits
from jaxinv.training.projection import (
  Projection,
  correlate,
  project_difference,
)
from jaxinv.training.trainer import Trainer
from jaxinv.types import Data, Hyper, Params, Snapshot, TrainState

# Attacks whose images are linear in the weights: correlations with them need no image.
LINEAR = ("reshape", "class_centred", "init_diff", "update_ratio")


def glance(
  trainer: Trainer,
  look: Look,
  first: Params,
  state: TrainState,
  data: Data,
  hyper: Hyper | None = None,
  earlier: Snapshot | None = None,
) -> tuple[dict[str, dict[str, Array]], dict[str, Array]]:
  """Measures a model in training: what is quick to measure, without making any image.

  Takes the arguments of `examine`; the attacks looked with are of `LINEAR`.

  Returns:
    Measures by attack, by name: `ncc_centred`, `identification` and `excess`, the same numbers as
    of `examine` up to rounding, and the accuracies of altered releases; and `identified/ATTACK`.
  """
  release = released(trainer, look, first, state, data, hyper, earlier) if look.altered else None
  projections = _projections(trainer, look, first, state, data, earlier, release)
  train, held = (
    splits.class_shares(data.labels, index, look.num_classes)
    for index in (data.train, data.holdout)
  )
  measures: dict[str, dict[str, Array]] = {}
  details = {}
  for attack, seen in projections.items():
    centred = jnp.diagonal(correlate(seen, train - train.mean(0, keepdims=True), data))
    measures[attack] = {"ncc_centred": centred.mean()}
    if look.holdout:
      scores = correlate(seen, held - held.mean(0, keepdims=True), data)
      details[f"identified/{attack}"] = images.own_is_largest(scores)
      measures[attack]["identification"] = details[f"identified/{attack}"].mean(dtype=float)
      similarity, other = (jnp.diagonal(correlate(seen, x, data)).mean() for x in (train, held))
      measures[attack]["excess"] = similarity - other
  if look.altered:
    logits = dense_logits(release.params, data.inputs, look.num_classes)
    measures["model"] = accuracies(logits, data)
  return measures, details


def _projections(trainer, look, first, state, data, earlier, release) -> dict[str, Projection]:
  """What each attack of `look` recovers, as the examples see it."""
  if release is not None:
    now, start, before = release.params, release.init_params, release.previous_params
    of = partial(project_difference, num_classes=look.num_classes, data=data)
  else:
    now, start, before = state.params, first, earlier and earlier.params
    of = partial(trainer.project, data=data)
  plain = of(now, None)
  makers = {
    "reshape": lambda: plain,
    "class_centred": lambda: plain.less_class_mean(),
    "init_diff": lambda: of(now, start),
    "update_ratio": lambda: of(now, before).over_bias(),
  }
  return {attack: makers[attack]() for attack in look.attacks}


def glance_group(program: Program, look: Look) -> Callable[..., tuple[dict, dict]]:
  """Compiles `glance` for a group, one model after another.

  Args:
    program: the engine that trains the group.
    look: its attacks are of `LINEAR`.

  Returns:
    (firsts, states, data, hypers, earlier) -> what `glance` returns, with a leading axis s.
  """

  def look_at(firsts, states, data, hypers, earlier=None):
    axes = (0, mapping.STATE_AXES, program.data_axes, 0, earlier and SNAPSHOT_AXES)
    one = partial(glance, program.trainer, look)
    all_in_turn = mapping.over_devices(mapping.in_turn(one, axes), axes, 0, program.devices)
    return all_in_turn(firsts, states, data, hypers, earlier)

  return jax.jit(look_at)
