"""The ROC: pairs counted, thresholds tried, and intervals that cover."""

import hypothesis
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy.stats import norm

from jaxinv.errors import InputError
from jaxinv.metrics.roc import auc_each, roc, tpr_intervals

quick = hypothesis.settings(max_examples=60, deadline=None)


def rng(seed=0):
  """The same numbers for a test, whatever ran before it."""
  return np.random.default_rng(seed)


def pairwise_auc(scores, members):
  """By its definition."""
  wins = [(a > b) + (a == b) / 2 for a in scores[members] for b in scores[~members]]
  return np.mean(wins) if wins else np.nan


small = st.integers(2, 25).flatmap(
  lambda n: st.tuples(hnp.arrays(np.float64, n, elements=st.integers(-3, 3)), hnp.arrays(bool, n))
)


@pytest.mark.parametrize("distance", [0.0, 0.5, 2.0])
def test_the_auc_of_two_gaussians_is_that_of_their_distance(distance):
  members = np.arange(20_000) % 2 == 0
  scores = rng().standard_normal(20_000) + distance * members
  # The standard error of an AUC is at most 1 / sqrt(12 * 10,000 / 2).
  assert abs(roc(scores, members).auc - norm.cdf(distance / np.sqrt(2))) < 3.5 * 0.0041


@quick
@hypothesis.given(small, st.floats(0, 1))
def test_a_roc_is_the_pairs_counted_and_the_thresholds_tried(drawn, rate):
  scores, members = drawn
  hypothesis.assume(members.any() and not members.all())
  found = roc(scores, members, (rate, 0.25))
  assert found.auc == pytest.approx(pairwise_auc(scores, members), abs=1e-12)
  for limit in (rate, 0.25):
    shares = []
    for threshold in scores:  # All above it are taken, and of those at it as many as may be.
      above, at = (compare(scores, threshold) for compare in (np.greater, np.equal))
      room, ties = limit - above[~members].mean(), at[~members].mean()
      if room >= 0:
        part = min(1, room / ties) if ties else 1
        shares.append(above[members].mean() + part * at[members].mean())
    assert found.tpr[limit] == pytest.approx(max(shares), abs=1e-9)


def test_one_false_positive_in_a_hundred_is_a_rate_of_one_percent():
  """Not a little more, as rounding might have it; and one in 99 is more."""
  for count, expected in ((100, 1.0), (99, 0.0)):
    scores = np.array([*np.arange(count), count - 1.5])
    assert roc(scores, np.arange(count + 1) == count).tpr[0.01] == expected


def test_a_score_that_is_the_same_for_all_finds_as_many_members_as_others():
  found = roc(np.zeros((2, 4)), np.arange(8).reshape(2, 4) % 2 == 0, (0.05, 1.0))
  assert found == (0.5, {0.05: 0.05, 1.0: 1.0})


@quick
@hypothesis.given(
  hnp.arrays(np.float64, (5, 4), elements=st.integers(-2, 2)), hnp.arrays(bool, (5, 4))
)
def test_the_auc_of_each_is_the_pairs_counted_of_each(scores, members):
  columns = [pairwise_auc(scores[:, i], members[:, i]) for i in range(4)]
  rows = [pairwise_auc(scores[i], members[i]) for i in range(5)]
  np.testing.assert_allclose(auc_each(scores, members, 0), columns, atol=1e-12)
  np.testing.assert_allclose(auc_each(scores, members, 1), rows, atol=1e-12)


@pytest.mark.parametrize("everyone", [True, False])
def test_a_roc_needs_both_kinds(everyone):
  with pytest.raises(InputError, match=r"^[^\n]*$"):
    roc(np.zeros(4), np.full(4, everyone))


# Intervals of rates.


def paired_scores(draw, distance, num_models=32, num_examples=40):
  first = draw.random((num_models // 2, num_examples)) < 0.5
  members = np.stack([first, ~first], 1).reshape(num_models, num_examples)
  easier = 0.5 * draw.standard_normal((num_models, 1))  # What the scores of one model share.
  return draw.standard_normal(members.shape) + easier + distance * members, members


def test_the_interval_of_a_rate_covers_it():
  rate, distance, repeats = 0.05, 1.5, 200
  spread = np.sqrt(1 + 0.5**2)
  truth = norm.sf(norm.isf(rate) - distance / spread)
  found = [
    tpr_intervals(*paired_scores(rng(seed), distance), (rate,))[rate] for seed in range(repeats)
  ]
  covered = np.mean([one.low <= truth <= one.high for one in found])
  assert covered > 0.9
  assert np.mean([one.high - one.low for one in found]) < 0.35


def test_the_mean_of_the_interval_is_the_rate_of_all_pooled():
  scores, members = paired_scores(rng(), 1.0)
  found = tpr_intervals(scores, members, (0.01, 0.1))
  assert {rate: one.mean for rate, one in found.items()} == roc(scores, members, (0.01, 0.1)).tpr
  assert all(0 <= one.low < one.mean < one.high <= 1 for one in found.values())


def test_two_models_have_a_rate_without_an_interval():
  scores, members = paired_scores(rng(), 1.0, num_models=2)
  assert tpr_intervals(scores, members, (0.05,))[0.05].low is None
