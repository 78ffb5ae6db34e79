"""Intervals: of the right coverage, and defined for every number of seeds."""

import math

import numpy as np
import pytest
import scipy.stats

from jaxinv.metrics.stats import (
  Interval,
  benjamini_hochberg,
  detectable_effect,
  holm,
  jackknife_interval,
  mean_intervals,
  paired_difference,
  t_test,
  two_way_interval,
)


def rng():
  """The same numbers for a test, whatever ran before it."""
  return np.random.default_rng(0)


def tails(kind, shape):
  """Values of mean 0: normal, or skewed to either side."""
  if kind == "normal":
    return rng().standard_normal(shape)
  if kind == "lognormal":
    return np.exp(0.5 * rng().standard_normal(shape)) - math.exp(0.125)
  return (1 if kind == "exponential" else -1) * (rng().exponential(size=shape) - 1)


def share_covered(values, confidence=0.95):
  return np.mean([low <= 0 <= high for _, low, high, _ in mean_intervals(values, confidence)])


@pytest.mark.parametrize("n", [4, 8, 16])
@pytest.mark.parametrize("kind", ["normal", "exponential", "lognormal", "downwards"])
def test_intervals_of_few_seeds_cover(kind, n):
  """The noise of 4,000 draws is 0.004: 0.925 is one and a half below the 0.93 that is promised."""
  assert 0.925 <= share_covered(tails(kind, (4000, n))) <= 0.985


def test_control_narrow_intervals_cover_less_often():
  assert 0.45 <= share_covered(tails("normal", (2000, 12)), 0.5) <= 0.6


def test_control_a_bootstrap_of_four_seeds_covers_too_seldom():
  values = tails("normal", (150, 4))
  found = scipy.stats.bootstrap((values,), np.mean, axis=-1, n_resamples=499, rng=rng())
  low, high = found.confidence_interval
  assert np.mean((low <= 0) & (high >= 0)) < 0.9


def test_of_symmetric_values_the_interval_is_students():
  values = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])
  (found,) = mean_intervals(values[None])
  half = scipy.stats.t.ppf(0.975, 4) * scipy.stats.sem(values)
  np.testing.assert_allclose(found[:3], [0, -half, half], atol=1e-12)


def test_a_skewed_interval_reaches_further_towards_the_tail():
  """Each end undoes Hall's transformation of t, where that is the wider."""
  values = np.array([0.0, 0.1, 0.2, 0.3, 4.0])
  (found,) = mean_intervals(values[None])
  error, quantile = scipy.stats.sem(values), scipy.stats.t.ppf(0.975, 4)
  assert found.low == pytest.approx(values.mean() - quantile * error)
  t = (values.mean() - found.high) / error
  skewness = scipy.stats.skew(values, bias=False) * (4 / 5) ** 0.5 * (5 / 4) ** 0.5
  a = skewness / 5**0.5
  assert t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6 == pytest.approx(-quantile)
  (other,) = mean_intervals(-values[None])
  np.testing.assert_allclose([other.low, other.high], [-found.high, -found.low])


def test_equal_values_give_equal_intervals_whenever_they_are_asked():
  values = rng().standard_normal((2, 9))
  assert mean_intervals(values) == mean_intervals(values)


def test_one_seed_has_a_mean_and_no_interval():
  assert mean_intervals(np.array([[2.5]])) == [Interval(2.5, None, None, 1)]


def test_no_seed_has_neither():
  assert mean_intervals(np.zeros((2, 0))) == [Interval(None, None, None, 0)] * 2


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 0.3, 0.95, 1 / 3, -1e6, 1e-12])
@pytest.mark.parametrize("n", [2, 3, 6, 7, 10])
def test_seeds_that_all_agree_have_an_interval_of_no_width(value, n):
  """Also where the mean of equal numbers is, in floating point, not quite that number."""
  (interval,) = mean_intervals(np.full((1, n), value))
  np.testing.assert_allclose(interval[:3], value, rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_seeds_have_finite_intervals(n):
  values = np.concatenate([rng().uniform(size=(20, n)), np.eye(n), 1 - np.eye(n)])
  for row, interval in zip(values, mean_intervals(values), strict=True):
    assert np.isfinite(interval[:3]).all() and interval.low < row.mean() < interval.high


def test_agreeing_rows_do_not_disturb_the_others():
  values = rng().standard_normal((1, 9))
  mixed = mean_intervals(np.concatenate([values, np.full((1, 9), 0.1)]))
  assert mixed[0] == mean_intervals(values)[0]


def test_pairing_removes_what_the_arms_share():
  shared, own = rng().standard_normal((2, 30))
  first, second = 10 * shared + 0.5 + 0.1 * own, 10 * shared
  paired = paired_difference(first, second)
  assert 0.4 < paired.low < paired.high < 0.6 and paired.high - paired.low < 0.1
  assert paired.mean == pytest.approx(0.5 + 0.1 * own.mean())
  one, two = mean_intervals(np.stack([first, second]))
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


def test_holms_correction_worked_by_hand():
  """4 x 0.005, 3 x 0.01, 2 x 0.03, and never less than the one before."""
  np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
  assert holm(np.array([])).shape == (0,) and holm(np.array([0.7, 0.9]))[1] == 1


def test_holm_is_rarely_wrong_in_any_of_many():
  p_values = rng().uniform(size=(2000, 8))
  assert np.mean([holm(row).min() <= 0.05 for row in p_values]) == pytest.approx(0.05, abs=0.015)
  assert np.mean((p_values <= 0.05).any(1)) > 0.25  # Without it.


@pytest.mark.parametrize(("seeds", "people"), [(4, 40), (8, 40), (16, 10)])
@pytest.mark.parametrize("sizes", [(1.0, 0.1, 0.1), (0.1, 1.0, 0.1), (0.5, 0.5, 1.0), (0, 0, 1.0)])
def test_two_way_intervals_cover_other_seeds_and_other_people(seeds, people, sizes):
  draw, covered = rng(), []
  for _ in range(400):
    of_seeds, of_people = draw.standard_normal((seeds, 1)), draw.standard_normal((1, people))
    rest = draw.standard_normal((seeds, people))
    found = two_way_interval(sizes[0] * of_seeds + sizes[1] * of_people + sizes[2] * rest)
    covered.append(found.low <= 0 <= found.high)
  assert np.mean(covered) >= 0.915  # 0.93 less one and a half times the noise of 400 draws.


def test_control_an_interval_over_seeds_alone_does_not_cover_other_people():
  draw, covered = rng(), []
  for _ in range(200):
    values = 0.1 * draw.standard_normal((8, 1)) + draw.standard_normal((1, 40))
    (found,) = mean_intervals(values.mean(1)[None])
    covered.append(found.low <= 0 <= found.high)
  assert np.mean(covered) < 0.5


def test_two_way_intervals_of_nothing_to_vary():
  assert two_way_interval(np.ones((3, 4)))[:3] == (1, 1, 1)
  assert two_way_interval(np.ones((1, 4))) == Interval(1, None, None, 1)
  assert two_way_interval(np.full((2, 4), np.nan)) == Interval(None, None, None, 0)


def test_the_jackknife_of_a_mean_is_students_interval():
  values = rng().standard_normal(9)
  found = jackknife_interval(values.mean(), (values.sum() - values) / 8)
  half = scipy.stats.t.ppf(0.975, 8) * scipy.stats.sem(values)
  np.testing.assert_allclose([found.low, found.high], [values.mean() - half, values.mean() + half])
  assert jackknife_interval(0.5, values[:1]) == Interval(0.5, None, None, 1)


@pytest.mark.parametrize("n", [5, 8, 32])
def test_the_detectable_effect_is_detected_four_times_in_five(n):
  noise = rng().standard_normal((3000, n))
  size = detectable_effect(noise[0]) / noise[0].std(ddof=1)
  assert 0.78 < np.mean([t_test(row + size) <= 0.05 for row in noise]) < 0.82
