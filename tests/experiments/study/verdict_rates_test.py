"""How often verdicts are wrong, over simulated studies whose truth is known."""

import numpy as np
import pytest

from jaxinv.experiments.study import verdict
from jaxinv.experiments.study.comparison import Leakage, strongest
from jaxinv.experiments.study.verdict import Compared
from jaxinv.metrics.claims import Label

MARGIN, ARMS, STUDIES = 0.05, 4, 200
WITHIN = (Label.NO_EFFECT, Label.TOO_LITTLE)
BEYOND = (Label.LOWERS, Label.RAISES)


def leakage(values, shift=0.0):
  """Of two attacks that recover alike, and the naive one, as arms of a study leak."""
  by_attack = {name: v + shift for name, v in values.items()}
  accuracy = np.ones(len(values["reshape"]))
  return Leakage(by_attack, {}, {}, accuracy, strongest(by_attack))


def draw_study(rng, n, truth, skewed, size=0.03):
  """Arms that all differ by the truth from a baseline whose seeds they share."""

  def noise():
    return rng.exponential(size=n) - 1 if skewed else rng.standard_normal(n)

  shared = {"reshape": 0.4, "denoised": 0.6, "init_diff": 0.6}
  shared = {name: level + 0.1 * noise() for name, level in shared.items()}
  one = lambda shift: leakage(  # noqa: E731
    {name: values + size * noise() for name, values in shared.items()}, shift
  )
  baseline = one(0.0)
  return {str(i): Compared(one(truth), baseline, None, 1.0) for i in range(ARMS)}


def wrong_studies(n, truth, wrong, skewed=False, decide=verdict.decide):
  """The share of studies in which any label is wrong."""
  rng, count = np.random.default_rng(n), 0
  for _ in range(STUDIES):
    labels = decide(draw_study(rng, n, truth, skewed), MARGIN)
    count += any(label in wrong for label in labels.values())
  return count / STUDIES


# Three standard errors of 200 studies above the nominal rate are 0.05 + 0.046.
MOST = 0.09


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("n", [5, 8, 16, 32])
def test_twins_are_rarely_told_apart(n, skewed):
  assert wrong_studies(n, 0.0, (*BEYOND, Label.HIDES), skewed) <= MOST


@pytest.mark.parametrize("truth", [-MARGIN, MARGIN])
@pytest.mark.parametrize("n", [5, 8, 16, 32])
def test_a_difference_at_the_margin_is_rarely_called_either_way(n, truth):
  assert wrong_studies(n, truth, (*BEYOND, *WITHIN)) <= MOST


def test_control_without_the_correction_studies_are_wrong_more_often():
  def alone(pairs, margin):
    return {name: verdict.claim(pair, margin, 0.9) for name, pair in pairs.items()}

  assert wrong_studies(16, -MARGIN, (*BEYOND, *WITHIN), decide=alone) > MOST


@pytest.mark.parametrize("n", [8, 16, 32])
def test_large_differences_are_found(n):
  rng = np.random.default_rng(n)
  labels = [
    label
    for _ in range(30)
    for label in verdict.decide(draw_study(rng, n, -0.25, False), MARGIN).values()
  ]
  assert labels.count(Label.LOWERS) > 0.9 * len(labels)


def test_with_enough_seeds_twins_are_called_the_same():
  rng = np.random.default_rng(0)
  labels = [
    label
    for _ in range(20)
    for label in verdict.decide(draw_study(rng, 32, 0.0, False, 0.015), MARGIN).values()
  ]
  assert sum(label in WITHIN for label in labels) > 0.8 * len(labels)


def test_few_seeds_that_say_nothing_are_undecided_and_not_the_same():
  """What was called "no detectable effect" before: an interval that holds 0 and much else."""
  rng = np.random.default_rng(0)
  pairs = {
    str(i): Compared(
      *(
        leakage({k: 0.5 + 0.2 * rng.standard_normal(5) for k in ("reshape", "denoised")})
        for _ in range(2)
      ),
      None,
      1.0,
    )
    for i in range(20)
  }
  assert set(verdict.decide(pairs, MARGIN).values()) == {Label.UNDECIDED}
