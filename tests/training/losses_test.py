"""Losses: the residual is the gradient, and smoothing is what the paper says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.training.losses import LOSSES, smooth_targets

RNG = np.random.default_rng(0)
LOGITS = (3 * RNG.standard_normal((7, 4))).astype(np.float32)
LABELS = jnp.asarray(RNG.integers(0, 4, 7))


def one_hot(labels):
  return np.eye(4, dtype=np.float32)[labels]


@pytest.mark.parametrize("smoothing", [0.0, 0.2, -0.1])
@pytest.mark.parametrize("name", LOSSES)
def test_the_residual_is_the_gradient_of_the_value(name, smoothing):
  targets = smooth_targets(LABELS, 4, smoothing)
  gradient = jax.grad(lambda logits: LOSSES[name].value(logits, targets).sum())(LOGITS)
  np.testing.assert_allclose(LOSSES[name].residual(LOGITS, targets), gradient, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_has_one_value_for_each_example_and_takes_any_leading_axes(name):
  logits, targets = LOGITS[:6].reshape(2, 3, 4), one_hot(LABELS[:6]).reshape(2, 3, 4)
  values = LOSSES[name].value(logits, targets)
  assert values.shape == (2, 3)
  flat = LOSSES[name].value(LOGITS[:6], one_hot(LABELS[:6]))
  np.testing.assert_allclose(values.ravel(), flat, rtol=1e-6)


def test_values_equal_their_formulas():
  targets, z = one_hot(LABELS), LOGITS.astype(np.float64)
  own = z[np.arange(7), LABELS]
  expected = {
    "softmax": np.log(np.exp(z).sum(1)) - own,
    "sigmoid": (np.log1p(np.exp(z)) - targets * z).sum(1),
    "squared": 0.5 * ((z - targets) ** 2).sum(1),
  }
  assert set(expected) == set(LOSSES)
  for name, values in expected.items():
    np.testing.assert_allclose(LOSSES[name].value(LOGITS, targets), values, rtol=1e-5)


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_huge_logits_give_finite_values_and_residuals(name):
  logits = np.float32([[1e4, -1e4, 0, 0], [-1e4, 1e4, 0, 0]])
  targets = one_hot([0, 0])
  assert np.isfinite(LOSSES[name].value(logits, targets)).all()
  assert np.isfinite(LOSSES[name].residual(logits, targets)).all()


def test_smoothed_targets_spread_a_share_evenly_and_still_sum_to_one():
  targets = smooth_targets(LABELS, 4, 0.2)
  np.testing.assert_allclose(targets, 0.8 * one_hot(LABELS) + 0.05, rtol=1e-6)
  np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)


def test_no_smoothing_gives_one_hot_targets():
  np.testing.assert_array_equal(smooth_targets(LABELS, 4, 0.0), one_hot(LABELS))
