"""Lower bounds on epsilon: never above the truth but at the nominal rate, and not trivial."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import beta, norm

from jaxinv.metrics.empirical import (
  best_test,
  epsilon_of,
  is_refuted,
  lower_bound,
  shift_of,
  upper_end,
)

DELTA = 1e-5


def gaussian_epsilon(shift, delta=DELTA):
  """The epsilon of the Gaussian mechanism: Balle and Wang 2018, arXiv 1805.06530, theorem 8."""

  def excess(epsilon):
    ratio, half = epsilon / shift, shift / 2
    return norm.cdf(half - ratio) - math.exp(epsilon) * norm.cdf(-half - ratio) - delta

  return brentq(excess, 0, 100)


def rng():
  return np.random.default_rng(0)


def test_clopper_pearsons_end_is_that_of_scipy_and_covers():
  counts = np.arange(20)
  np.testing.assert_allclose(upper_end(counts, 20, 0.05), beta.ppf(0.95, counts + 1, 20 - counts))
  assert upper_end(np.array(20), 20, 0.05) == 1
  drawn = rng().binomial(200, 0.03, 20_000)
  assert np.mean(upper_end(drawn, 200, 0.05) < 0.03) <= 0.05


def test_the_errors_of_a_perfect_guess_are_worth_no_epsilon_and_fewer_are():
  assert epsilon_of(0.5, 0.5, 0.0) == 0
  assert epsilon_of(1.0, 1e-3, DELTA) == 0 and epsilon_of(0.7, 0.9, DELTA) == 0
  np.testing.assert_allclose(epsilon_of(0.1, 0.6, 0.0), math.log(4))
  # Both ways round: few misses prove as much as few false alarms.
  np.testing.assert_allclose(epsilon_of(0.6, 0.1, 0.0), math.log(4))
  np.testing.assert_allclose(epsilon_of(0.1, 0.6, 0.2), math.log(2))


@pytest.mark.parametrize("shift", [0.7, 1.6, 3.0])
def test_no_threshold_on_the_gaussian_mechanism_is_worth_more_than_its_epsilon(shift):
  thresholds = np.linspace(-6, 9, 500)
  worth = epsilon_of(norm.sf(thresholds), norm.cdf(thresholds - shift), DELTA)
  true = gaussian_epsilon(shift)
  assert 0.8 * true < worth.max() <= true + 1e-9
  middle = thresholds[np.abs(thresholds) < 4]  # Beyond, rounding counts.
  np.testing.assert_allclose(shift_of(norm.sf(middle), norm.cdf(middle - shift)), shift, rtol=1e-6)


@pytest.mark.parametrize("side", [1, -1])
def test_the_bound_is_below_the_epsilon_of_the_gaussian_mechanism_and_not_trivial(side):
  draw, true = rng().standard_normal, gaussian_epsilon(1.6)
  bounds = np.array(
    [
      lower_bound(side * draw((1, 1000)), side * (1.6 + draw((1, 1000))), DELTA).epsilon
      for _ in range(200)
    ]
  )
  assert (bounds > true).mean() <= 0.05
  assert np.median(bounds) > 1.7 and np.ptp(bounds) > 0.1


def answers(share, n):
  """Randomised response: the truth with this probability."""
  return (rng().random((200, 1, n)) < share).astype(float)


def test_of_randomised_response_the_bound_is_tight_and_wrong_at_most_at_the_nominal_rate():
  share = 0.8
  true = math.log(share / (1 - share))
  pairs = zip(answers(1 - share, 2000), rng().permutation(answers(share, 2000)), strict=True)
  bounds = np.array([lower_bound(a, b, 0.0).epsilon for a, b in pairs])
  # Of 200 repeats; at the nominal 5 % more than 20 would be a chance of 1 in 500.
  assert (bounds > true).sum() <= 20
  assert bounds.mean() > 0.8 * true
  halves = [
    lower_bound(a, b, 0.0, 0.5).epsilon
    for a, b in zip(*(answers(s, 2000) for s in (1 - share, share)), strict=True)
  ]
  assert (np.array(halves) > true).mean() > 0.01  # A control: half as sure, it is wrong at times.


def test_control_a_threshold_that_is_tested_where_it_was_chosen_is_wrong_too_often():
  """On models that are all alike: the best of all thresholds, by its own counts."""
  draw, wrong, right = rng().standard_normal, 0, 0
  for _ in range(100):
    a, b = draw((1, 100)), draw((1, 100))
    order = np.sort(np.concatenate([a[0], b[0]]))
    alarms, misses = ((a[0] > t).mean() for t in order), ((b[0] <= t).mean() for t in order)
    wrong += (
      max(epsilon_of(x, y, DELTA) if x and y else 0 for x, y in zip(alarms, misses, strict=True))
      > 0.3
    )
    right += lower_bound(a, b, DELTA).epsilon > 0
  assert wrong > 50 and right <= 5


def test_the_best_of_several_scores_and_sides_is_found():
  draw = rng().standard_normal
  noise, signal = (draw((2, 1, 2000)) for _ in range(2))
  without, with_it = (
    np.concatenate([n, -2.0 * i + s]) for i, (n, s) in enumerate(zip(noise, signal, strict=True))
  )
  found = best_test(without, with_it, shift_of)
  assert found.score == 1 and not found.above and found.num_with == found.num_without == 1000
  assert 1.5 < shift_of(found.false_alarms, found.misses) < 2
  assert 0.55 < found.advantage < 2 * norm.cdf(1) - 1


def test_models_without_a_number_count_as_the_lowest_and_equal_scores_prove_nothing():
  nothing = np.full((1, 40), np.nan)
  assert lower_bound(nothing, nothing, DELTA).epsilon == 0
  assert lower_bound(nothing, np.ones((1, 4000)), DELTA).epsilon > 1
  with pytest.raises(ValueError, match="two models"):
    lower_bound(np.ones((1, 1)), np.ones((1, 5)), DELTA)


def test_a_claim_is_refuted_by_a_bound_above_it_only():
  assert is_refuted(2.0, 2.1) and not is_refuted(2.0, 2.0) and not is_refuted(math.inf, 50.0)
