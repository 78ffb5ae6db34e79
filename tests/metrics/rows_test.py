"""Rows against their definitions, and defined for constant, huge, tiny and broken ones."""

import numpy as np
import pytest

from jaxinv.metrics.rows import centred, finite, unit


def normal(*shape):
  return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("axis", [0, 1])
def test_centred_rows_have_mean_0_and_constant_ones_are_exactly_0(axis):
  rows = normal(4, 9)
  wanted = rows - rows.mean(axis, keepdims=True)
  np.testing.assert_allclose(centred(rows, axis), wanted, atol=1e-15)
  assert not centred(np.full((7, 7), 0.1), axis).any()


def test_unit_rows_have_length_1_and_zeros_stay():
  rows = normal(3, 5)
  rows[1] = 0
  np.testing.assert_allclose(np.linalg.norm(unit(rows), axis=1), [1, 0, 1])
  np.testing.assert_allclose(unit(rows)[0] * np.linalg.norm(rows[0]), rows[0])


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_finite_rows_have_squares_that_neither_vanish_nor_overflow(scale):
  rows = scale * normal(3, 5)
  rows[0, 2] = np.nan
  rows[1] = 0
  given = rows.copy()
  scaled = finite(rows)
  np.testing.assert_array_equal(rows, given)
  np.testing.assert_allclose(np.abs(scaled).max(1), [1, 0, 1])
  assert scaled[0, 2] == 0 and np.isfinite(scaled**2).all()
  assert finite(np.zeros((2, 0))).shape == (2, 0)
  assert finite(normal(2, 3).astype(np.float16)).dtype == np.float32
