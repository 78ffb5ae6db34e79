"""Arms against a baseline: what is looked up and subtracted is what was planted."""

import numpy as np
import pytest
from planted_arms import (
  CASES,
  CLIMB,
  PEOPLE,
  SEEDS,
  SHARED,
  SWAY,
  TARGET,
  make_arm,
  make_pair,
  slow_baseline,
)

from jaxinv.attacks.attack import ALL
from jaxinv.experiments.outcome import strongest
from jaxinv.experiments.study import comparison
from jaxinv.experiments.study.comparison import (
  compare,
  identified_from,
  moment,
)
from jaxinv.metrics.claims import Label

# Differences.


def test_where_only_the_baseline_never_reaches_the_target_the_rows_are_of_the_end():
  assert {row.when for row in compare("a", *slow_baseline(), TARGET)} == {"end"}
  assert {row.when for row in compare("a", *make_pair(), TARGET)} == {"end", "matched"}


def test_rows_hold_every_measure_at_the_end_and_leakage_at_the_target():
  arm, baseline = make_pair(-0.3, 0.1, climb=CLIMB - 0.05)
  rows = compare("a", arm, baseline, TARGET)
  # The arm has the target's accuracy a quarter of the way from the third record to the fourth.
  later = SWAY[3] / 4
  found = {(row.when, row.attack, row.metric): row.difference.mean for row in rows}
  assert len(found) == len(rows) and {row.arm for row in rows} == {"a"}
  expected = {("end", "model", "holdout_accuracy"): -0.05}
  expected["matched", "model", "holdout_accuracy"] = 0.0
  for attack, difference in (("reshape", -0.3), ("init_diff", 0.1), ("strongest", 0.1)):
    expected["end", attack, "ncc_centred"] = difference
    expected["matched", attack, "ncc_centred"] = difference + later
    if attack != "strongest":
      expected["end", attack, "ssim"] = difference / 2
  assert found == pytest.approx(expected, abs=1e-9)
  nobody = compare("a", arm, baseline, 0.99)
  assert [row for row in rows if row.when == "end"] == nobody


# What is looked up.


@pytest.mark.parametrize(
  ("target", "when"), [(0.0, 0.0), (0.2, 0.0), (0.35, 0.5), (0.5, 1.0), (0.6, 1.5), (0.95, None)]
)
def test_a_target_is_reached_between_records(target, when):
  assert moment(CLIMB, target) == (when if when is None else pytest.approx(when))


def test_no_single_record_decides_when_a_target_is_reached():
  """One that is high by luck is averaged with those that follow and are lower."""
  assert moment(np.array([0.2, 0.7, 0.5, 0.6, 0.9]), 0.7) == pytest.approx(3 + 1 / 3)
  assert moment(np.array([0.0, 0.9, 0.9]), 0.45) == pytest.approx(0.5)


def test_a_seed_is_measured_when_the_others_have_the_accuracy():
  """A seed that is accurate early does not choose its own moment, nor one that diverged any."""
  climb = np.repeat(CLIMB[None], SEEDS, 0)
  climb[0] = 0.9
  moments = comparison.moments_of(make_arm({"reshape": SHARED}, climb), TARGET)
  whole = moment(climb.mean(0), TARGET)
  assert moments[0] == moments[5] == pytest.approx(2.0)  # In one part, which leaves seed 0 out.
  assert (np.delete(moments, [0, 5, 10]) < whole).all() and whole < 2
  most = np.arange(SEEDS) != 5
  for wrong in (np.nan, 100.0):
    climb = np.where(most[:, None], CLIMB, wrong)
    moments = comparison.moments_of(make_arm({"reshape": SHARED}, climb, most), TARGET)
    np.testing.assert_allclose(moments, 2.0)
  assert comparison.moments_of(CASES[Label.NOT_TRAINED][0], 0.0) is None


@pytest.mark.parametrize(
  ("target", "sway"), [(0.5, SWAY[1]), (0.7, SWAY[2]), (0.8, (SWAY[2] + SWAY[3]) / 2)]
)
def test_leakage_is_taken_at_its_moment_and_of_seeds_that_came_through(target, sway):
  healthy = np.arange(SEEDS) != 4
  found = comparison.leakage_at(make_arm({"reshape": SHARED}, healthy=healthy), target)
  expected = np.where(healthy, SHARED + sway, np.nan)
  np.testing.assert_allclose(found.values["reshape"], expected)
  np.testing.assert_allclose(found.people["reshape"], expected[:, None] + PEOPLE)
  np.testing.assert_allclose(found.accuracy, np.where(healthy, target, np.nan))
  assert found.attack == "reshape"


def test_at_the_end_all_attacks_are_compared_and_at_a_target_those_made_at_every_record():
  arm = make_arm({"reshape": SHARED, "init_diff": SHARED + 0.2})
  end = arm._replace(trail={"reshape": arm.trail["reshape"]})
  assert set(comparison.leakage_at_end(end).values) == {"reshape", "init_diff"}
  assert comparison.leakage_at_end(end).attack == "init_diff"
  assert set(comparison.leakage_at(end, TARGET).values) == {"reshape"}


def test_the_strongest_attack_is_that_of_the_largest_mean():
  values = {
    "often": np.array([0.3, 0.3, 0.3, 0.3]),
    "once": np.array([0.9, 0.0, 0.1, 0.0]),
    "here and there": np.array([np.nan, 0.4, 0.1, np.nan]),
    "never": np.full(4, np.nan),
  }
  assert strongest(values) == "often"
  assert strongest(values | {"negative": np.array([-0.9] * 4)}) == "often"
  assert strongest({k: v for k, v in values.items() if k != "often"}) in ("once", "here and there")
  assert strongest({"never": values["never"]}) is None and strongest({}) is None


def test_the_strongest_attack_is_found_for_all_that_an_attacker_may_hold():
  leaks = {"reshape": 0.2, "class_centred": 0.3, "init_diff": 0.6, "update_ratio": 0.1}
  arm = make_arm({attack: value + SHARED for attack, value in leaks.items()})
  assert comparison.strongest_by_knowledge(arm, ALL) == {
    "weights": "class_centred",
    "weights and initial weights": "init_diff",
    "several models": "seed_mean",
    "two releases": "update_ratio",
  }
  assert comparison.attacks_of(arm) == list(leaks)


def test_the_usual_target_is_close_below_what_the_baseline_ends_with():
  climb = np.concatenate([CLIMB * np.ones((6, 1)), np.minimum(CLIMB, 0.8) * np.ones((6, 1))])
  arm = make_arm({"reshape": SHARED}, climb)
  assert comparison.default_target(arm) == pytest.approx(0.95 * 0.85)
  arm = make_arm({"reshape": SHARED}, climb, np.arange(SEEDS) < 9)
  assert comparison.default_target(arm) == pytest.approx(0.95 * (6 * 0.9 + 3 * 0.8) / 9)


def test_intervals_are_over_the_seeds_that_have_a_value():
  values = np.where(np.arange(SEEDS) == 4, np.nan, SHARED)
  found = comparison.intervals({"a": values, "b": SHARED})
  assert (found["a"].n, found["b"].n) == (SEEDS - 1, SEEDS)
  assert found["a"].mean == pytest.approx(np.nanmean(values))


# When people can be told.


def watched(*people, healthy=None):
  """An arm of which it is known at each of four records whether each person is identified.

  Seed for seed the same, but for the last, in which nobody ever is and which classifies worse.
  """
  climb = CLIMB - 0.12 * (np.arange(SEEDS) == SEEDS - 1)[:, None]
  arm = make_arm({"reshape": SHARED}, climb, healthy)
  seen = np.repeat(np.array(people, bool).T[None], SEEDS, 0)
  seen[-1] = False
  arm.identified["reshape"] = seen
  return arm


STEPS = np.array([0, 10, 20, 40])


def test_a_person_is_identified_from_where_it_stays_so():
  """One that is lost again by the end never was, and of three people two are the half."""
  arm = watched([1, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 0])
  found = identified_from(arm, "reshape", STEPS)
  np.testing.assert_array_equal(found.by_person, [20, 40, np.inf])
  assert found.step == 40 and found.accuracy == pytest.approx(0.9 - 0.12 / SEEDS)
  early = identified_from(watched([1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]), "reshape", STEPS)
  np.testing.assert_array_equal(early.by_person, [0, 10, 40])
  assert early.step == 10 and early.accuracy == pytest.approx(0.5 - 0.12 / SEEDS)


def test_people_that_are_never_identified_have_no_time():
  found = identified_from(watched([1, 1, 1, 0], [0, 0, 1, 0]), "reshape", STEPS)
  assert found.step is None and found.accuracy is None
  np.testing.assert_array_equal(found.by_person, np.inf)


def test_nobody_is_identified_where_nobody_looked_or_no_seed_came_through():
  arm = watched([1, 1, 1, 1])
  assert identified_from(arm, "init_diff", STEPS) is None
  assert identified_from(arm._replace(healthy=np.zeros(SEEDS, bool)), "reshape", STEPS) is None
  # Of seeds of which most diverged, the others count.
  most = identified_from(arm._replace(healthy=np.arange(SEEDS) < 2), "reshape", STEPS)
  none = identified_from(arm._replace(healthy=np.arange(SEEDS) == SEEDS - 1), "reshape", STEPS)
  assert most.step == 0 and most.accuracy == pytest.approx(0.2) and none.step is None


# Averages of several models.
