"""Arms against a baseline: what is looked up and subtracted is what was planted."""

import numpy as np
import pytest
from planted_arms import (
  CASES,
  CLIMB,
  SEEDS,
  SHARED,
  SWAY,
  TARGET,
  make_arm,
  make_pair,
  noise,
  slow_baseline,
)

from jaxinv.attacks.attack import ALL
from jaxinv.experiments.study import comparison
from jaxinv.experiments.study.comparison import (
  compare,
  first_reaching,
  identified_from,
  strongest,
)
from jaxinv.experiments.study.verdict import Label

# Differences.


def test_where_only_the_baseline_never_reaches_the_target_the_rows_are_of_the_end():
  assert {row.when for row in compare("a", *slow_baseline(), TARGET)} == {"end"}
  assert {row.when for row in compare("a", *make_pair(), TARGET)} == {"end", "matched"}


def test_rows_hold_every_measure_at_the_end_and_leakage_at_the_target():
  arm, baseline = make_pair(-0.3, 0.1, climb=CLIMB - 0.05)
  rows = compare("a", arm, baseline, TARGET)
  found = {(row.when, row.attack, row.metric): row.difference.mean for row in rows}
  assert len(found) == len(rows) and {row.arm for row in rows} == {"a"}
  expected = {("end", "model", "holdout_accuracy"): -0.05}
  for attack, difference in (("reshape", -0.3), ("init_diff", 0.1), ("strongest", 0.1)):
    expected |= {(when, attack, "ncc_centred"): difference for when in ("end", "matched")}
    if attack != "strongest":
      expected["end", attack, "ssim"] = difference / 2
  assert found == pytest.approx(expected)
  nobody = compare("a", arm, baseline, 0.99)
  assert [row for row in rows if row.when == "end"] == nobody


# What is looked up.


def test_the_first_record_that_reaches_the_target_is_found_by_the_mean_of_the_seeds():
  """Those that diverged are no part of it, whatever they say."""
  climb = CLIMB + noise(8, 0.3)[:, None]
  for target, record in (
    (0.0, 0),
    (0.2 - 1e-9, 0),
    (0.3, 1),
    (0.5 - 1e-9, 1),
    (0.6, 2),
    (0.95, None),
  ):
    assert first_reaching(make_arm({"reshape": SHARED}, climb), target) == record
  dip = np.array([0.2, 0.7, 0.5, 0.7])
  assert first_reaching(make_arm({"reshape": SHARED}, dip), TARGET) == 1
  most = np.arange(SEEDS) != 5
  for wrong in (np.nan, 100.0):
    climb = np.where(most[:, None], CLIMB, wrong)
    assert first_reaching(make_arm({"reshape": SHARED}, climb, most), TARGET) == 2
  assert first_reaching(CASES[Label.NOT_TRAINED][0], 0.0) is None


def test_a_measure_is_taken_at_its_record_and_of_seeds_that_came_through():
  arm = make_arm({"reshape": SHARED}, healthy=np.arange(SEEDS) != 4)
  arm.trail["reshape"]["excess"] = arm.trail["reshape"]["ncc_centred"] * 2
  for record in range(4):
    expected = np.where(arm.healthy, SHARED + SWAY[record], np.nan)
    np.testing.assert_allclose(comparison.at_record(arm, "reshape", record), expected)
    found = comparison.at_record(arm, "reshape", record, "excess")
    np.testing.assert_allclose(found, 2 * expected)


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


def test_the_law_is_its_closed_form_and_what_averages_of_noisy_copies_show():
  counts = np.array([1, 2, 8, 64])
  law = comparison.averaging_law(counts, 0.3, 0.9)
  np.testing.assert_allclose(law, 0.9 / np.sqrt(1 + (9 - 1) / counts))
  assert law[0] == pytest.approx(0.3) and np.all(np.diff(law) > 0)
  assert comparison.averaging_law(np.array([10**9]), 0.3, 0.9)[0] == pytest.approx(0.9)
  rng = np.random.default_rng(0)
  target = rng.standard_normal(20000)
  learned = target + 0.5 * rng.standard_normal(20000)
  models = learned + 3 * rng.standard_normal((64, 20000))
  seen = [np.corrcoef(target, models[:n].mean(0))[0, 1] for n in counts]
  ceiling, one = (np.corrcoef(target, x)[0, 1] for x in (learned, models[0]))
  np.testing.assert_allclose(seen, comparison.averaging_law(counts, one, ceiling), atol=0.02)


def test_averages_are_the_arms_and_have_no_law_where_nothing_is_covered():
  """The law starts at one model's mean leakage; W - W0 that leaks less than W is no ceiling."""
  shown = {4: 0.7, 1: 0.5, 2: 0.6}
  prefixes = {n: {"ncc_centred": np.float32(value)} for n, value in shown.items()}
  arm = make_arm({"reshape": 0.2 + SHARED, "init_diff": 0.6 + SHARED})._replace(prefixes=prefixes)
  averages = comparison.averages(arm)
  assert averages.counts.tolist() == [1, 2, 4]
  np.testing.assert_allclose(averages.measured, [0.5, 0.6, 0.7], rtol=1e-6)
  # At the end all leakages are by so much larger.
  law = comparison.averaging_law(averages.counts, 0.2 + SWAY[-1], 0.6 + SWAY[-1])
  np.testing.assert_allclose(averages.law, law)
  swapped = make_arm({"reshape": 0.6 + SHARED, "init_diff": 0.2 + SHARED})
  assert comparison.averages(swapped._replace(prefixes=prefixes)).law is None
  assert comparison.averages(swapped) is None
