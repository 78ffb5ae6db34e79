"""Claims are made where a test supports them, and nowhere else."""

import numpy as np
import pytest

from jaxinv.experiments.networks import claims, outcome
from jaxinv.metrics.memorisation import Memorised
from jaxinv.metrics.stats import t_test
from planted_networks import diverge, make_result

# Three classes: chance is 1/3.
SHARES = {
  "above": [0.8, 0.9, 0.85, 0.8],
  "below": [0.05, 0.1, 0.0, 0.05],
  "undecided": [0.1, 0.6, 0.3, 0.4],
  "untested": [0.9],
}


@pytest.mark.parametrize("verdict", SHARES)
def test_a_share_is_above_or_below_chance_only_where_the_t_test_says_so(verdict):
  result = make_result({"plain": SHARES[verdict]})
  assert claims.by_chance(result, "plain", "pgd") == verdict


def test_a_share_above_chance_by_itself_may_not_be_among_many():
  """Holm: the smallest of m p-values is multiplied by m, the next by m - 1."""
  shares, unclear = [0.9, 0.65, 0.75, 0.55], [0.1, 0.6, 0.3, 0.4]
  p_value = t_test(np.array(shares) - 1 / 3)
  assert 0.01 < p_value < 0.025
  alone = make_result({"a": shares})
  assert claims.corrected(alone)["a", "pgd"] == pytest.approx(2 * p_value)  # Two inversions.
  assert claims.by_chance(alone, "a", "pgd") == "above"
  among = make_result({"a": shares, "b": unclear, "c": unclear})
  # Those of three arms, and the difference of the last from the first.
  assert claims.corrected(among)["a", "pgd"] == pytest.approx(7 * p_value)
  assert claims.by_chance(among, "a", "pgd") == "undecided"


def test_seeds_that_diverged_take_no_part():
  result = diverge(make_result({"plain": [0.9, 0.8]}), "plain", [1])
  assert claims.by_chance(result, "plain", "pgd") == "untested"


@pytest.mark.parametrize(
  ("last", "verdict"),
  [
    ([0.5, 0.75, 0.625, 0.5], "more"),
    ([0.0, 0.25, 0.125, 0.0], "less"),
    ([0.125, 0.75, 0.5, 0.0], "undecided"),
  ],
)
def test_a_difference_is_of_the_last_arm_less_the_first(last, verdict):
  first = [0.25, 0.5, 0.375, 0.25 + 1e-3]
  result = make_result({"a": first, "between": SHARES["above"], "z": last})
  found = claims.difference(result, outcome.compare(result), "pgd")
  assert (found.first, found.last, found.verdict) == ("a", "z", verdict)
  assert found.gain.mean == pytest.approx(np.mean(last) - np.mean(first))
  assert (found.p_value <= claims.ALPHA) == (verdict != "undecided")


def test_one_arm_has_no_difference_and_one_seed_no_test():
  alone = make_result({"a": [0.5, 0.6]})
  assert claims.difference(alone, outcome.compare(alone), "pgd") is None
  single = make_result({"a": [0.5], "b": [0.75]})
  assert claims.difference(single, outcome.compare(single), "pgd").verdict == "untested"


@pytest.mark.parametrize(("p_value", "is_shown"), [(0.0062, True), (0.0063, False)])
def test_memory_is_corrected_for_every_p_value(p_value, is_shown):
  """Two inversions, by features and by pixels: four tests of two p-values, 0.05 / 8 = 0.00625."""
  result = make_result({"plain": [0.5, 0.6]})
  inverted = result.arms["plain"].inverted
  planted = inverted["pgd"]._replace(
    memorised=inverted["pgd"].memorised | {"features": Memorised(0.9, 0.1, 0.5, p_value)}
  )
  arm = result.arms["plain"]._replace(inverted=inverted | {"pgd": planted})
  tests = claims.memory_tests(result._replace(arms={"plain": arm}))
  assert len(tests) == 4
  shown = [(it.inversion, it.by) for it in tests if it.is_shown]
  assert shown == ([("pgd", "features")] if is_shown else [])


def test_an_arm_survives_with_one_network_left():
  result = make_result({"a": [0.5, 0.6], "b": [0.5, 0.6]})
  assert list(claims.surviving(diverge(result, "a", [0])).arms) == ["a", "b"]
  assert list(claims.surviving(diverge(result, "a", [0, 1])).arms) == ["b"]
