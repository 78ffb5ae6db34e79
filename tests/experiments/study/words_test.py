"""Words of a verdict: every number of the sentence is the verdict's, and each label has its end."""

import math

import pytest

from jaxinv.experiments.study.words import Verdict, averaged, describe
from jaxinv.metrics.claims import FEWEST_SEEDS, Label
from jaxinv.metrics.stats import Interval


def make_verdict(label=Label.LOWERS, strongest=(-0.25, -0.375, -0.125), n=8, **changes):
  usual = {
    "attack": "reshape",
    "baseline_attack": "init_diff",
    "leakage": 0.5,
    "baseline_leakage": 0.75,
    "strongest": Interval(*strongest, n),
    "naive": Interval(-0.0625, -0.09, -0.03, n),
    "accuracy": Interval(0.011, None, None, 1),
    "compared_at": (0.8, 0.825),
    "detectable": 0.125,
  }
  return Verdict(label, "", **{**usual, **changes})


def said(verdict, unmatched="", margin=0.02, alone=None):
  return describe(verdict, unmatched, margin, (0.3, 0.4), alone or verdict.label)


def test_a_sentence_holds_the_verdict_s_numbers():
  assert said(make_verdict()) == (
    "At held-out accuracies of 0.800 and 0.825 the strongest attacker (reshape, against init_diff "
    "on the baseline) sees 0.500 instead of 0.750 (-0.250, 95 % interval -0.375 to -0.125). The "
    "naive attacker sees 0.300 instead of 0.400 (-0.062, 95 % interval -0.090 to -0.030). "
    "Held-out accuracy at the end: +0.011, one seed, no interval."
  )


def test_people_and_identification_are_told_where_they_are_known():
  more = {"identified": 0.25, "baseline_identified": 0.97}
  text = said(make_verdict(people=Interval(-0.25, -0.4999, -1e-9, 8), **more))
  assert "Over people as well as seeds the interval is -0.500 to +0.000." in text
  assert "25% instead of 97% of the people are identified." in text
  assert "identified" not in said(make_verdict()) and "Over people" not in said(make_verdict())


def test_without_equal_use_it_says_why_and_compares_at_the_end():
  text = said(make_verdict(compared_at=None), unmatched="It never learned")
  assert text.startswith(
    "It never learned, so that there is no comparison at equal use; at the end"
  )
  assert "At held-out accuracies" not in text


@pytest.mark.parametrize(
  ("verdict", "end"),
  [
    (make_verdict(Label.TOO_FEW, n=3), f"A verdict needs {FEWEST_SEEDS} seeds or more, and here"),
    (
      make_verdict(Label.NO_EFFECT, (0.0, -0.1, 0.1)),
      "8 seeds would have shown a difference",
    ),
    (make_verdict(Label.UNDECIDED, (0.0, -0.1, 0.1)), "for one of 0.02 about 313 are needed."),
    (make_verdict(Label.TOO_LITTLE, (0.01, 0.005, 0.015)), "Differences below 0.02 are counted"),
  ],
)
def test_what_so_many_seeds_could_have_shown_is_said_where_nothing_was(verdict, end):
  assert end in said(verdict) and end not in said(make_verdict())


def test_the_seeds_that_are_needed_grow_with_the_square_of_the_precision():
  """Eight seeds show 0.125: a difference of a share m of it takes 8 / m^2."""
  for share in (0.6, 0.3, 0.13):
    text = said(make_verdict(Label.UNDECIDED, (0.0, -0.1, 0.1)), margin=0.125 * share)
    assert f"about {math.ceil(8 / share**2)} are needed" in text
  text = said(make_verdict(Label.UNDECIDED, (0.0, -0.1, 0.1)), margin=0.25)
  assert "could have shown" in text and "needed" not in text


def test_a_verdict_that_many_verdicts_made_milder_says_what_it_would_be_alone():
  text = said(make_verdict(Label.UNDECIDED), alone=Label.LOWERS)
  assert "Judged alone it would be: lowers leakage; of so many verdicts chance might make" in text
  assert "Judged alone" not in said(make_verdict())


def test_what_diverged_has_no_numbers():
  assert (
    said(Verdict(Label.NOT_TRAINED, "")) == "Every seed diverged in the arm or in the baseline."
  )


def test_averages_are_told_of_several_models_only():
  assert averaged((4, 0.9), (4, 0.8)) == " Averaged, its 4 models show 0.900 instead of 0.800."
  for one, other in (((1, 0.9), (4, 0.8)), (None, (4, 0.8)), ((4, 0.9), None)):
    assert averaged(one, other) == ""


def test_labels_of_what_is_compared_at_the_end():
  assert {label for label in Label if label.at_end} == {Label.NOT_USEFUL, Label.NOT_COMPARABLE}
