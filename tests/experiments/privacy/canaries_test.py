"""What is seen of canaries, in closed form: with hardly any noise, and of full batches."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import assert_fails
from jaxinv.experiments.privacy.canaries import (
  CANARIES,
  MISLABELLED,
  PLANTED,
  kept,
  make_stage,
  scores,
  shrunk,
  watched,
)
from jaxinv.training import primal
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.training.trainer import run

STEPS = 6


@pytest.fixture(scope="module")
def stage(planted):
  """Full batches."""
  return make_stage(planted, 1.0, STEPS, clip=0.5)


@cache
def trained(stage_of, canary, noise):
  """Scores [2 canaries, 2 attackers, 2 scores] of one model."""
  stage = stage_of()
  on = frozenset(("dp_clip", "dp_noise"))
  parts = stage.model, stage.loss, OPTIMIZERS["sgd"], stage.batch, on
  trainer = watched(primal.make_trainer(*parts), stage)
  data = stage.data._replace(keep=jnp.asarray(stage.keep(canary)))
  hyper = jax.tree.map(jnp.float32, stage.hyper(noise))
  state = trainer.init(jax.random.key(0), hyper, data)
  state, _ = jax.jit(lambda s, h, d: run(trainer, s, h, d, STEPS))(state, hyper, data)
  return np.asarray(scores(stage, state, data))


def test_the_planted_canary_is_at_right_angles_to_all_and_the_other_is_a_photograph(stage):
  inputs, labels = np.asarray(stage.data.inputs), np.asarray(stage.data.labels)
  assert inputs.shape == (42, 21) and stage.rate == 1
  planted, mislabelled = stage.canaries
  assert (inputs[:planted] @ inputs[planted] == 0).all() and inputs[planted].any()
  np.testing.assert_array_equal(inputs[mislabelled], inputs[0])
  assert labels[mislabelled] != labels[0]
  assert kept(stage, [None, *CANARIES])[:, -2:].tolist() == [[0, 0], [1, 0], [0, 1]]
  assert (kept(stage, [None, *CANARIES])[:, :-2] == 1).all()


def test_images_are_averaged_over_rectangles_and_over_colours(planted):
  images = np.zeros((1, 10, 8, 3), np.float32)
  images[0, :2, :2] = [0.3, 0.6, 0.9]
  dataset = planted._replace(inputs=images.reshape(1, -1), image_shape=(10, 8, 3))
  found = shrunk(dataset, np.array([0]))
  assert found.shape == (1, 20)
  np.testing.assert_allclose(found[0, 0], 0.6, rtol=1e-6)
  assert (found[0, 1:] == 0).all()


def test_with_hardly_any_noise_each_step_moves_one_clipping_norm_along_the_canary(stage):
  without, with_it = (trained(lambda: stage, c, 1e-3)[0] for c in (None, PLANTED))
  seen = 1, 0  # By all steps, its movement.
  np.testing.assert_allclose(without[seen], 0, atol=0.05)
  np.testing.assert_allclose(with_it[seen], STEPS, atol=0.05)
  # The final model moved along it too, nearly in a line.
  hyper = stage.hyper(1e-3)
  moved = STEPS * hyper.learning_rate * stage.clip / stage.batch
  np.testing.assert_allclose(with_it[0, 0], moved, rtol=0.05)
  assert abs(without[0, 0]) < 0.02 * moved and with_it[0, 1] > without[0, 1]


@pytest.mark.parametrize("noise", [0.7, 2.0])
def test_of_full_batches_the_likelihood_ratio_is_that_of_two_gaussians(stage, noise):
  for canary in (None, PLANTED):
    movement, ratio = trained(lambda: stage, canary, noise)[0, 1]
    np.testing.assert_allclose(ratio, (2 * movement - STEPS) / (2 * noise**2), rtol=1e-3, atol=1e-3)


def test_what_others_add_along_a_photograph_is_taken_off(stage):
  """Of a full batch all of it is known: a mislabelled photograph is then seen as well."""
  without, with_it = (trained(lambda: stage, c, 1e-3)[1, 1, 0] for c in (None, MISLABELLED))
  assert abs(without) < 0.1 and with_it > 0.5 * STEPS


def test_the_rate_leaves_the_planted_canary_unlearned(stage):
  for noise in (0.2, 1.5, 8.0):
    hyper = stage.hyper(noise)
    signal = hyper.learning_rate * 3 * stage.clip**2 / stage.batch
    assert signal * (stage.rate * STEPS + noise * STEPS**0.5) < 0.51


def test_one_class_cannot_be_audited(planted):
  one = planted._replace(labels=np.zeros_like(planted.labels), num_classes=1)
  assert_fails(lambda: make_stage(one, 0.1, 5), "two classes", "--audit_models=0")
