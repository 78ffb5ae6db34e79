"""Claims are made only where intervals bear them out, and seldom wrongly however many are made."""

import numpy as np
import pytest

from jaxinv.metrics.claims import Label, claim, decide
from jaxinv.metrics.stats import Interval, mean_intervals


@pytest.mark.parametrize(
  ("ends", "label"),
  [
    ((-0.3, -0.1), Label.LOWERS),
    ((0.1, 0.3), Label.RAISES),
    ((-0.04, 0.04), Label.NO_EFFECT),
    ((0.01, 0.04), Label.TOO_LITTLE),
    ((-0.3, -0.04), Label.UNDECIDED),
    ((-0.3, 0.3), Label.UNDECIDED),
  ],
)
def test_a_claim_needs_the_whole_interval(ends, label):
  assert claim(Interval(sum(ends) / 2, *ends, 8), margin=0.05) == label


def test_without_a_margin_a_difference_is_a_difference_and_zero_is_no_effect_only_if_it_is_known():
  assert claim(Interval(0.1, 0.01, 0.2, 8), margin=0.0) == Label.RAISES
  assert claim(Interval(0.0, -0.01, 0.01, 8), margin=0.0) == Label.UNDECIDED


def test_holm_keeps_the_chance_of_any_wrong_claim():
  rng = np.random.default_rng(0)
  wrong = {"alone": 0, "together": 0}
  for _ in range(300):
    # Ten defences whose true difference is at the margin: any claim that it is below is wrong.
    found = rng.normal(-0.05, 0.03, size=(10, 8))

    def claimed(name, confidence, found=found):
      return claim(mean_intervals(found[[int(name)]], confidence)[0], 0.05)

    alone = [claimed(str(i), 0.95) for i in range(10)]
    wrong["alone"] += any(label != Label.UNDECIDED for label in alone)
    together = decide(map(str, range(10)), claimed)
    wrong["together"] += any(label != Label.UNDECIDED for label in together.values())
  # Two sides are open, each at half of the level: 22 % of ten alone, 5 % of all together.
  assert wrong["together"] <= 0.08 * 300 < wrong["alone"]


def test_what_is_decided_leaves_more_to_the_others():
  asked = []

  def claimed(name, confidence):
    asked.append((name, round(confidence, 4)))
    return Label.LOWERS if name == "sure" or confidence < 0.96 else Label.UNDECIDED

  assert decide(["sure", "next"], claimed) == {"sure": Label.LOWERS, "next": Label.LOWERS}
  assert asked == [("sure", 0.975), ("next", 0.975), ("next", 0.95)]
