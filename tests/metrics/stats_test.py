"""Intervals: scipy's own, of the right coverage, and defined for every number of seeds."""

import math

import numpy as np
import pytest
import scipy.stats

from jaxinv.metrics.stats import (
  Interval,
  benjamini_hochberg,
  bootstrap_intervals,
  paired_difference,
  t_test,
)


def rng():
  """The same numbers for a test, whatever ran before it."""
  return np.random.default_rng(0)


def reference(values, method):
  """Low and high by scipy called directly, one quantity at a time."""
  result = scipy.stats.bootstrap(
    (values,), np.mean, n_resamples=4999, method=method, rng=np.random.default_rng(0)
  )
  return np.array(result.confidence_interval)


def test_the_interval_is_scipys_bca():
  values = rng().exponential(size=(1, 15))
  (interval,) = bootstrap_intervals(values)
  assert interval.n == 15 and interval.mean == pytest.approx(values.mean())
  np.testing.assert_allclose(interval[1:3], reference(values[0], "BCa"), rtol=1e-12)
  # For a skewed sample that is another interval than the plain percentiles.
  assert np.abs(reference(values[0], "percentile") - interval[1:3]).max() > 0.01


def test_many_quantities_have_the_intervals_of_each_alone():
  values = rng().standard_normal((3, 12))
  together = bootstrap_intervals(values)
  for row, interval in zip(values, together, strict=True):
    # Other resamples: equal within the noise of 4,999 of them.
    np.testing.assert_allclose(interval[1:3], reference(row, "BCa"), atol=0.06)


def coverage(confidence, draws=200, n=20):
  values = rng().normal(3.0, 2.0, (draws, n))
  intervals = bootstrap_intervals(values, confidence, num_resamples=999)
  return np.mean([low <= 3.0 <= high for _, low, high, _ in intervals])


def test_intervals_cover_a_known_mean_as_often_as_they_say():
  """Binomial noise of 200 draws is 0.015, and 20 seeds cover a little too seldom."""
  assert 0.88 <= coverage(0.95) <= 0.98


def test_control_narrow_intervals_cover_less_often():
  assert 0.38 <= coverage(0.5) <= 0.62


def test_equal_values_give_equal_intervals_whenever_they_are_asked():
  values = rng().standard_normal((2, 9))
  assert bootstrap_intervals(values) == bootstrap_intervals(values)


def test_one_seed_has_a_mean_and_no_interval():
  assert bootstrap_intervals(np.array([[2.5]])) == [Interval(2.5, None, None, 1)]


def test_no_seed_has_neither():
  assert bootstrap_intervals(np.zeros((2, 0))) == [Interval(None, None, None, 0)] * 2


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 0.3, 0.95, 1 / 3, -1e6, 1e-12])
@pytest.mark.parametrize("n", [2, 3, 6, 7, 10])
def test_seeds_that_all_agree_have_an_interval_of_no_width(value, n):
  """Also where the mean of equal numbers is, in floating point, not quite that number."""
  (interval,) = bootstrap_intervals(np.full((1, n), value))
  np.testing.assert_allclose(interval[:3], value, rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_seeds_have_finite_intervals_within_what_was_seen(n):
  values = np.concatenate([rng().uniform(size=(20, n)), np.eye(n), 1 - np.eye(n)])
  for row, interval in zip(values, bootstrap_intervals(values), strict=True):
    assert row.min() - 1e-12 <= interval.low <= interval.high <= row.max() + 1e-12


def test_agreeing_rows_do_not_disturb_the_others():
  values = rng().standard_normal((1, 9))
  mixed = bootstrap_intervals(np.concatenate([values, np.full((1, 9), 0.1)]))
  assert mixed[0] == bootstrap_intervals(values)[0]


def test_pairing_removes_what_the_arms_share():
  shared, own = rng().standard_normal((2, 30))
  first, second = 10 * shared + 0.5 + 0.1 * own, 10 * shared
  paired = paired_difference(first, second)
  assert 0.4 < paired.low < paired.high < 0.6 and paired.high - paired.low < 0.1
  assert paired.mean == pytest.approx(0.5 + 0.1 * own.mean())
  one, two = bootstrap_intervals(np.stack([first, second]))
  assert one.low < two.high and two.low < one.high  # Unpaired, nothing can be told.


def test_pairs_with_a_diverged_seed_are_left_out():
  first, second = np.array([1.0, math.nan, 3.0, 5.0]), np.array([0.0, 1.0, math.inf, 1.0])
  interval = paired_difference(first, second)
  assert interval.n == 2 and interval.mean == pytest.approx(2.5)


def test_no_pair_at_all_gives_no_interval():
  assert paired_difference(np.array([math.nan]), np.array([1.0])) == Interval(None, None, None, 0)


def test_of_few_seeds_the_t_test_is_wrong_as_often_as_it_says():
  """Where a bootstrap interval of as many misses the mean twice to ten times as often."""
  noise = np.random.default_rng(0).standard_normal((2000, 3))
  wrong = np.mean([t_test(values) <= 0.05 for values in noise])
  assert 0.035 < wrong < 0.065
  assert np.mean([t_test(values, -9.0) <= 0.05 for values in noise]) > 0.95


def test_the_t_test_says_nothing_of_one_seed_or_of_equal_ones():
  assert t_test(np.array([3.0])) == t_test(np.array([0.5, 0.5])) == 1.0
  three = np.array([1.0, 2.0, np.nan, 4.0])
  assert t_test(three) == t_test(three[[0, 1, 3]]) < 1


def test_the_correction_is_that_of_benjamini_and_hochberg():
  p_values = np.array([0.01, 0.04, 0.03, 0.005])
  np.testing.assert_allclose(benjamini_hochberg(p_values), [0.02, 0.04, 0.04, 0.02])
  square = benjamini_hochberg(p_values.reshape(2, 2))
  np.testing.assert_allclose(square, [[0.02, 0.04], [0.04, 0.02]])
