"""Directions: their length whatever the vector's, and how much several of them differ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.metrics import directions
from jaxinv.metrics.directions import unit

RNG = np.random.default_rng(0)
diversity = jax.jit(directions.diversity, static_argnums=2)


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_a_direction_is_as_long_as_1_whatever_the_vector_s_length(factor):
  vector = RNG.standard_normal(7)
  found = unit(jnp.asarray(factor * vector, jnp.float32))
  np.testing.assert_allclose(found, vector / np.linalg.norm(vector), rtol=2e-6)


def test_another_size_may_be_given():
  vector = jnp.asarray(RNG.standard_normal(7))
  found = unit(vector, lambda x: jnp.abs(x).max())
  np.testing.assert_allclose(jnp.abs(found).max(), 1.0)


@pytest.mark.parametrize("value", [0.0, jnp.nan, jnp.inf])
def test_what_has_no_direction_becomes_0(value):
  vector = jnp.array([0.0, value, 0.0])
  np.testing.assert_array_equal(unit(vector), 0.0)


def test_diversity_is_the_mean_over_pairs():
  features = jnp.asarray(RNG.standard_normal((9, 6)).astype(np.float32))
  labels = np.array([0, 0, 0, 2, 2, 2, 2, 3, 4])
  unit = np.array(features) / np.linalg.norm(features, axis=1, keepdims=True)
  values = np.array(diversity(features, jnp.asarray(labels), 5))
  for label in (0, 2):
    rows = unit[labels == label]
    pairs = [1 - rows[i] @ rows[j] for i in range(len(rows)) for j in range(i)]
    assert values[label] == pytest.approx(np.mean(pairs), abs=1e-6)
  assert np.isnan(values[np.array([1, 3, 4])]).all()


def test_diversity_of_equal_opposite_and_missing_features():
  row = RNG.standard_normal(6).astype(np.float32)
  features = np.stack([row, 7 * row, row, -row, 0 * row, 0 * row, 0 * row, row])
  values = diversity(jnp.asarray(features), jnp.array([0, 0, 1, 1, 2, 2, 3, 3]), 4)
  np.testing.assert_allclose(values, [0, 2, 0, 1], atol=3e-7)
  assert (np.array(values) >= 0).all()
