"""Verdicts follow the intervals: what is not known is undecided, what is no use is not judged."""

import numpy as np
import pytest

from jaxinv.experiments.photographs.photographs import MOMENT, UNMIXED, Result
from jaxinv.experiments.photographs.verdict import CHECKPOINT, INIT, identified, judge
from jaxinv.metrics.claims import Label


@pytest.fixture
def made(result):
  """Makes a cell of so many photographs identified by seed, of 12, and accuracies held out."""
  found = result.cells["sgd"][12].attacked[UNMIXED][0]

  def make(counts, moment=None, accuracy=0.9):
    def attacked(counts):
      return [
        None
        if count is None
        else found._replace(score=found.score._replace(identified=np.arange(12) < count))
        for count in counts
      ]

    by_attack = {UNMIXED: attacked(counts)} | ({MOMENT: attacked(moment)} if moment else {})
    healthy = np.array([count is not None for count in counts])
    accuracies = np.full(len(counts), accuracy) + 0.001 * np.arange(len(counts))
    return result.cells["sgd"][12]._replace(
      attacked=by_attack, healthy=healthy, holdout_accuracy=accuracies
    )

  return make


def _judged(baseline, **arms):
  cells = {"sgd": {12: baseline}} | {name: {12: cell} for name, cell in arms.items()}
  found = judge(Result(cells, dict.fromkeys(cells, "sgd")), margin=0.05)
  return {name: by_number[12] for name, by_number in found.items()}


def test_labels_follow_the_intervals(made):
  whole = made([12] * 6)
  found = _judged(
    whole,
    hidden=made([1, 0, 1, 2, 1, 0]),
    same=made([12] * 6),
    unclear=made([12, 11, 12, 9, 12, 5]),
    useless=made([0] * 6, accuracy=0.5),
    diverged=made([None] * 6),
  )
  labels = {name: held[INIT].label for name, held in found.items()}
  assert labels == {
    "hidden": Label.LOWERS,
    "same": Label.NO_EFFECT,
    "unclear": Label.UNDECIDED,
    "useless": Label.NOT_USEFUL,
    "diverged": Label.NOT_TRAINED,
  }
  assert found["hidden"][INIT].identified == pytest.approx(5 / 72)
  assert found["hidden"][INIT].difference.mean == pytest.approx(5 / 72 - 1)


def test_who_holds_a_checkpoint_has_the_stronger_of_two_attacks(made):
  whole, arm = made([12] * 6), made([1, 0, 1, 2, 1, 0], moment=[12, 12, 11, 12, 12, 12])
  found = _judged(whole, adam=arm)["adam"]
  assert found[INIT].label == Label.LOWERS and found[CHECKPOINT].label != Label.LOWERS
  assert identified(arm, (UNMIXED, MOMENT)).tolist() == identified(arm, (MOMENT,)).tolist()
  # The moment may also be the weaker one.
  weak = made([12] * 6, moment=[0] * 6)
  assert (identified(weak, (UNMIXED, MOMENT)) == 1).all()


def test_few_seeds_and_lost_seeds_are_said(made):
  whole = made([12, 12, 12, 12, 12, None])
  found = _judged(whole, few=made([0, 0, 0, 0, None, 0]), enough=made([0, 1, 0, 1, 0, 0]))
  assert found["few"][INIT].label == Label.TOO_FEW
  assert found["enough"][INIT].label == Label.LOWERS
  assert found["enough"][INIT].difference.n == 5
  lost = _judged(made([None] * 6), arm=made([1] * 6))
  assert lost["arm"][INIT].label == Label.NOT_COMPARABLE


def test_the_baseline_is_not_judged_and_arms_are_judged_at_the_same_value(made):
  cells = {"sgd-hidden-8": made([4] * 6), "sgd-hidden-64": made([12] * 6)}
  cells |= {"adam-hidden-8": made([4] * 6), "adam-hidden-64": made([4] * 6)}
  baselines = {name: f"sgd{name[name.index('-') :]}" for name in cells}
  found = judge(Result({name: {12: cell} for name, cell in cells.items()}, baselines), 0.05)
  assert set(found) == {"adam-hidden-8", "adam-hidden-64"}
  assert found["adam-hidden-8"][12][INIT].label == Label.NO_EFFECT
  assert found["adam-hidden-64"][12][INIT].label == Label.LOWERS
