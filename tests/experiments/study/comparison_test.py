"""Verdicts: a planted difference gets the label built for it, and the numbers told are true."""

import math
import re

import numpy as np
import pytest
from scipy.stats import norm

from jaxinv.experiments.outcome import ArmOutcome
from jaxinv.experiments.study import comparison
from jaxinv.experiments.study.comparison import (
  LABELS,
  compare,
  first_reaching,
  identified_from,
  judge,
  strongest,
)
from jaxinv.metrics.stats import Interval, bootstrap_intervals

SEEDS, TARGET, MARGIN = 12, 0.6, 0.05
# Held-out accuracy at each record: the target is reached at the third.
CLIMB = np.array([0.2, 0.5, 0.7, 0.9])
# What a leak is more, or less, at the other records: a look at a wrong one is noticed.
SWAY = np.array([0.3, -0.3, 0.0, 0.25])


def noise(seed, size=1.0):
  """A number a seed; their mean is 0 exactly, so that what is planted is what is there."""
  values = np.random.default_rng(seed).standard_normal(SEEDS)
  return size * (values - values.mean())


SHARED = noise(0, 0.1)


def make_arm(leaks, climb=CLIMB, healthy=None):
  """An arm with these leaks at the record where the target is reached, by attack, a value a seed.

  All that belongs to a seed that diverged is NaN.
  """
  healthy = np.ones(SEEDS, bool) if healthy is None else healthy
  whole = np.where(healthy, 1.0, np.nan)
  accuracy = np.broadcast_to(climb, (SEEDS, 4)) + np.zeros((SEEDS, 4))
  trail = {
    f"{attack}/ncc_centred": values[:, None] + SWAY + np.zeros((SEEDS, 4))
    for attack, values in leaks.items()
  }
  measures = {"model": {"holdout_accuracy": whole * accuracy[:, -1]}}
  for attack, values in leaks.items():
    measures[attack] = {"ncc_centred": whole * (values + SWAY[-1]), "ssim": whole * values / 2}
  measures["seed_mean"] = {"ncc_centred": np.array([0.97])}
  return ArmOutcome(
    measures, healthy, {"holdout_accuracy": accuracy}, {}, {}, np.zeros((4, 3)), trail, {}, {}
  )


def make_pair(reshape=0.0, init_diff=0.0, size=0.01, **arm):
  """An arm that leaks so much more than its baseline, whose seeds it shares, and the baseline."""
  base = {"reshape": 0.4 + SHARED + noise(1, 0.01), "init_diff": 0.6 + SHARED + noise(2, 0.01)}
  mine = {
    "reshape": base["reshape"] + reshape + noise(3, size),
    "init_diff": base["init_diff"] + init_diff + noise(4, size),
  }
  return make_arm(mine, **arm), make_arm(base)


def slow_baseline():
  """An arm that reaches the target, and a baseline that never does."""
  arm, baseline = make_pair(-0.2, -0.2)
  slow = {"holdout_accuracy": np.minimum(baseline.history["holdout_accuracy"], 0.55)}
  return arm, baseline._replace(history=slow)


CASES = {
  "cannot be compared": slow_baseline(),
  "lowers leakage": make_pair(-0.2, -0.2),
  "hides from the naive attacker only": make_pair(-0.3, 0.0),
  "no detectable effect": make_pair(),
  "changes too little to matter": make_pair(-0.02, -0.02, size=0.002),
  "undecided": make_pair(-0.05, -0.05),
  "raises leakage": make_pair(0.2, 0.2),
  "is not as useful": make_pair(-0.2, -0.2, climb=np.minimum(CLIMB, 0.55)),
  "does not train": make_pair(-0.2, -0.2, healthy=np.zeros(SEEDS, bool)),
}


def numbers(pattern, text):
  """The numbers in the one place of a text that is as the pattern says, # standing for each."""
  found = re.findall(re.escape(pattern).replace(r"\#", r"([-+]?\d+\.?\d*)"), text)
  assert len(found) == 1, (pattern, text)
  return [float(x) for x in (found[0] if isinstance(found[0], tuple) else found)]


# Labels.


@pytest.mark.parametrize("label", LABELS)
def test_every_label_is_reached_by_what_was_built_for_it(label):
  assert judge(*CASES[label], TARGET, MARGIN).label == label


@pytest.mark.parametrize(
  ("label", "swapped"),
  [
    ("lowers leakage", "raises leakage"),
    ("raises leakage", "lowers leakage"),
    ("no detectable effect", "no detectable effect"),
    ("changes too little to matter", "changes too little to matter"),
  ],
)
def test_the_other_way_round_the_verdict_is_the_opposite(label, swapped):
  arm, baseline = CASES[label]
  one, other = judge(arm, baseline, TARGET, MARGIN), judge(baseline, arm, TARGET, MARGIN)
  assert (one.label, other.label) == (label, swapped)
  for name in ("strongest", "naive", "accuracy"):
    assert getattr(one, name).mean == pytest.approx(-getattr(other, name).mean, abs=1e-12)
  assert (one.leakage, one.attack) == (other.baseline_leakage, other.baseline_attack)
  assert one.detectable == pytest.approx(other.detectable)


@pytest.mark.parametrize("margin", [0.1, 0.3])
def test_the_margin_decides_what_matters(margin):
  label = judge(*CASES["lowers leakage"], TARGET, margin).label
  assert label == ("lowers leakage" if margin < 0.2 else "changes too little to matter")


def test_each_side_is_judged_by_the_attack_that_is_strongest_on_it():
  """What hides the one attack and helps another is no defence."""
  arm, baseline = make_pair(reshape=0.3, init_diff=-0.5)
  found = judge(arm, baseline, TARGET, MARGIN)
  assert (found.attack, found.baseline_attack) == ("reshape", "init_diff")
  assert found.leakage == pytest.approx(0.7) and found.baseline_leakage == pytest.approx(0.6)
  assert found.strongest.mean == pytest.approx(0.1) and found.naive.mean == pytest.approx(0.3)
  assert found.label == "raises leakage"
  mine, theirs = (
    x.trail[f"{a}/ncc_centred"][:, 2] for x, a in ((arm, "reshape"), (baseline, "init_diff"))
  )
  assert found.detectable == pytest.approx(comparison.detectable_effect(mine - theirs))


def test_arms_are_compared_where_each_reaches_the_target_and_not_at_the_end():
  """The slow arm leaks as much at the same accuracy, though at the end it leaks much more."""
  arm, baseline = make_pair(climb=np.array([0.2, 0.3, 0.65, 0.65]))
  slow = arm._replace(trail={k: v + np.eye(4)[3] * 9 for k, v in arm.trail.items()})
  slow.measures["init_diff"]["ncc_centred"] += 9
  found = judge(slow, baseline, TARGET, MARGIN)
  assert found.label == "no detectable effect" and found.leakage == pytest.approx(0.6)
  early = judge(slow, baseline, 0.25, MARGIN)  # The arm's second record, and the baseline's.
  assert early.leakage == pytest.approx(0.3)
  late = judge(slow, baseline, 0.9, MARGIN)  # Which the arm never reaches: at the end.
  assert late.label == "is not as useful" and late.leakage == pytest.approx(9.85)


@pytest.mark.parametrize(("shift", "useful"), [(0.05, True), (-0.05, False)])
def test_an_arm_is_as_useful_where_its_mean_accuracy_gets_there(shift, useful):
  """Whatever single seeds reach, or do not, by the luck of a few photographs."""
  climb = np.minimum(CLIMB, TARGET) + shift + noise(8, 0.1)[:, None]
  assert (climb[:, 2] >= TARGET).any() and (climb[:, 2] < TARGET).any()
  found = judge(*make_pair(-0.2, -0.2, climb=climb), TARGET, MARGIN)
  assert found.label == ("lowers leakage" if useful else "is not as useful")
  assert found.reached == (2 if useful else None) and found.strongest.n == SEEDS


def test_seeds_that_diverged_are_left_out_of_both_sides():
  healthy = np.arange(SEEDS) != 3
  arm, baseline = make_pair(-0.2, -0.2, healthy=healthy)
  crowd = {attack: values.copy() for attack, values in baseline.trail.items()}
  for values in crowd.values():
    values[5] = 1e6  # Of a seed that diverged there.
  bad = np.arange(SEEDS) != 5
  measures = {a: {k: v.copy() for k, v in m.items()} for a, m in baseline.measures.items()}
  for attack in ("model", "reshape", "init_diff"):
    for values in measures[attack].values():
      values[5] = np.nan
  harmed = baseline._replace(trail=crowd, healthy=bad, measures=measures)
  found = judge(arm, harmed, TARGET, MARGIN)
  both = healthy & bad
  values = arm.trail["init_diff/ncc_centred"][:, 2] - baseline.trail["init_diff/ncc_centred"][:, 2]
  assert found.label == "lowers leakage" and found.strongest.n == both.sum() == 10
  assert found.strongest.mean == pytest.approx(values[both].mean())
  rows = {(row.when, row.attack, row.metric): row for row in compare("a", arm, harmed, TARGET)}
  assert {row.difference.n for row in rows.values()} == {10}


def test_an_arm_is_judged_also_where_only_its_baseline_never_reaches_the_target():
  found = judge(*slow_baseline(), TARGET, MARGIN)
  assert found.label == "cannot be compared"
  assert numbers("The baseline never reaches a held-out accuracy of #", found.text) == [TARGET]


def test_where_untrained_models_have_the_target_already_nothing_is_compared_at_it():
  """Else models would be compared with themselves before the first step."""
  arm, baseline = make_pair(-0.2, -0.2)
  found = judge(arm, baseline, 0.1, MARGIN)  # Both begin with 0.2.
  assert found.label == "cannot be compared"
  assert numbers("Untrained models have the held-out accuracy of # already", found.text) == [0.1]
  assert {row.when for row in compare("a", arm, baseline, 0.1)} == {"end"}


def test_where_only_the_baseline_never_reaches_the_target_the_rows_are_of_the_end():
  assert {row.when for row in compare("a", *slow_baseline(), TARGET)} == {"end"}
  assert {row.when for row in compare("a", *make_pair(), TARGET)} == {"end", "matched"}


@pytest.mark.parametrize(
  ("low", "high", "label"),
  [
    (-0.20, -0.06, "lowers leakage"),
    (-0.20, -0.04, "undecided"),
    (-0.04, -0.01, "changes too little to matter"),
    (-0.07, -0.01, "undecided"),
    (-0.07, 0.01, "no detectable effect"),
    (0.01, 0.04, "changes too little to matter"),
    (0.01, 0.07, "undecided"),
    (0.06, 0.20, "raises leakage"),
  ],
)
def test_the_label_is_that_of_the_whole_interval_and_not_of_its_middle(low, high, label):
  interval = Interval((low + high) / 2, low, high, SEEDS)
  same = Interval(0.0, -0.01, 0.01, SEEDS)
  found = comparison.Verdict("", "", strongest=interval, naive=same)
  assert comparison._label(found, MARGIN) == label
  hidden = found._replace(naive=Interval(-0.3, -0.31, -0.29, SEEDS))
  kept = (low > -MARGIN and high < MARGIN) or (label == "undecided" and low > 0)
  expected = "hides from the naive attacker only" if kept else label
  assert comparison._label(hidden, MARGIN) == expected


def test_an_arm_that_trains_is_not_said_not_to_where_its_baseline_has_no_model():
  arm, baseline = make_pair()[0], CASES["does not train"][0]
  assert judge(arm, baseline, TARGET, MARGIN).label != "does not train"


@pytest.mark.parametrize("common", [0, 1])
def test_without_two_seeds_that_both_sides_have_no_absence_of_an_effect_is_claimed(common):
  """Where there is no interval, an effect of any size may be there."""
  arm, _ = make_pair(-0.2, -0.2, healthy=np.arange(SEEDS) < 6)
  _, whole = make_pair()
  leaks = {a: whole.trail[f"{a}/ncc_centred"][:, 2] for a in ("reshape", "init_diff")}
  found = judge(arm, make_arm(leaks, healthy=np.arange(SEEDS) >= 6 - common), TARGET, MARGIN)
  assert found.strongest.n == common
  assert found.label != "no detectable effect"


def test_the_difference_told_is_that_of_the_levels_told():
  """Also where some seeds diverged, and not those that leak as much as all."""
  arm, _ = make_pair(-0.2, -0.2, healthy=np.sort(SHARED)[3] < SHARED)
  found = judge(arm, make_pair()[1], TARGET, MARGIN)
  assert found.strongest.n == SEEDS - 4
  assert found.leakage - found.baseline_leakage == pytest.approx(found.strongest.mean, abs=1e-9)
  sees = numbers("The naive attacker sees # instead of # (#, 95 % interval # to #)", found.text)
  assert sees[0] - sees[1] == pytest.approx(sees[2], abs=2e-3)


# Differences.


def test_pairing_removes_what_a_seed_has_in_common():
  """Seeds differ by more than the effect; without their pairs it is lost among them."""
  arm, baseline = make_pair(-0.03, -0.03, size=0.005)
  lost = noise(9).argsort()
  shuffled = baseline._replace(
    trail={name: values[lost] for name, values in baseline.trail.items()}
  )
  paired, unpaired = (judge(arm, other, TARGET, 0.02) for other in (baseline, shuffled))
  for found in (paired, unpaired):
    assert found.strongest.mean == pytest.approx(-0.03, abs=1e-9)
  widths = [found.strongest.high - found.strongest.low for found in (paired, unpaired)]
  assert widths[1] > 10 * widths[0]
  assert (paired.label, unpaired.label) == ("lowers leakage", "no detectable effect")


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


def test_the_detectable_size_is_that_of_a_paired_test():
  arm, baseline = CASES["no detectable effect"]
  name = "init_diff/ncc_centred"
  difference = arm.trail[name][:, 2] - baseline.trail[name][:, 2]
  expected = (norm.ppf(0.975) + norm.ppf(0.8)) * difference.std(ddof=1) / math.sqrt(SEEDS)
  found = judge(arm, baseline, TARGET, MARGIN)
  assert found.detectable == pytest.approx(expected, rel=1e-5)
  assert comparison.detectable_effect(np.append(difference, [np.nan, np.inf])) == pytest.approx(
    expected, rel=1e-5
  )
  for few in ([], [0.3], [0.3, np.nan]):
    assert comparison.detectable_effect(np.array(few)) is None


@pytest.mark.parametrize(("share", "low", "high"), [(1.0, 0.7, 0.9), (0.0, 0.02, 0.12)])
def test_an_effect_of_the_detectable_size_is_found_in_four_of_five_and_none_in_few(
  share, low, high
):
  """Of 300 experiments with 30 seeds; an interval finds an effect where it does not hold 0."""
  values = np.random.default_rng(0).standard_normal((300, 30))
  effect = share * np.mean([comparison.detectable_effect(row) for row in values])
  intervals = bootstrap_intervals(values + effect, num_resamples=999)
  assert low < np.mean([not i.low <= 0 <= i.high for i in intervals]) < high


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
  assert first_reaching(CASES["does not train"][0], 0.0) is None


def test_a_measure_is_taken_at_its_record_and_of_seeds_that_came_through():
  arm = make_arm({"reshape": SHARED}, healthy=np.arange(SEEDS) != 4)
  arm.trail["reshape/excess"] = arm.trail["reshape/ncc_centred"] * 2
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
  assert comparison.strongest_by_knowledge(arm) == {
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
  arm.trail["identified/reshape"] = seen
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


# Words.


@pytest.mark.parametrize(
  "label", [x for x in LABELS if x not in ("does not train", "cannot be compared")]
)
def test_the_text_tells_the_numbers(label):
  arm, baseline = CASES[label]
  found = judge(arm, baseline, TARGET, MARGIN)
  useful = label != "is not as useful"
  at = 2 if useful else 3
  ends = [
    {a: x.trail[f"{a}/ncc_centred"][:, at] for a in ("reshape", "init_diff")}
    for x in (arm, baseline)
  ]
  best = [max(leaks, key=lambda a, leaks=leaks: leaks[a].mean()) for leaks in ends]
  mine, theirs = (leaks[name] for leaks, name in zip(ends, best, strict=True))
  told = numbers(
    f"the strongest attacker ({best[0]}, against {best[1]} on the baseline) sees # instead of # "
    "(#, 95 % interval # to #)",
    found.text,
  )
  difference = mine - theirs
  expected = [mine.mean(), theirs.mean(), difference.mean()]
  np.testing.assert_allclose(told[:3], expected, atol=6e-4)
  # The interval is about as wide as that of a normal mean, about the mean.
  half = norm.ppf(0.975) * difference.std() / math.sqrt(SEEDS)
  np.testing.assert_allclose(np.array(told[3:]) - told[2], [-half, half], atol=0.3 * half + 1e-3)
  naive = numbers("The naive attacker sees # instead of # (#, 95 % interval # to #)", found.text)
  levels = [leaks["reshape"].mean() for leaks in ends]
  np.testing.assert_allclose(naive[:3], [*levels, levels[0] - levels[1]], atol=6e-4)
  accuracy = numbers("Held-out accuracy at the end: #, 95 % interval # to #.", found.text)
  np.testing.assert_allclose(accuracy, -0.35 if not useful else 0.0, atol=6e-4)
  if useful:
    assert numbers("At the same held-out accuracy of #", found.text) == [TARGET]
  else:
    assert numbers("It never reaches a held-out accuracy of #", found.text) == [TARGET]


def test_what_could_have_been_seen_is_told_where_nothing_was_and_only_there():
  for label, pair in CASES.items():
    found = judge(*pair, TARGET, MARGIN)
    if label == "no detectable effect":
      told = numbers(
        "A difference of # or more would have been seen with # seeds (power", found.text
      )
      np.testing.assert_allclose(told, [found.detectable, SEEDS], atol=6e-4)
    else:
      assert "would have been seen" not in found.text
    small = "Differences below 0.05 are counted as too small to matter."
    assert (small in found.text) == (label == "changes too little to matter")


def test_a_single_seed_gives_no_interval_and_its_text_says_so():
  found = judge(*make_pair(-0.2, -0.2, healthy=np.arange(SEEDS) == 0), TARGET, MARGIN)
  assert found.strongest.n == 1 and found.strongest.low is found.detectable is None
  assert found.text.count("one seed, no interval") == 3 and "None" not in found.text


def test_an_arm_of_which_no_seed_came_through_is_told_so_without_a_number_of_it():
  found = judge(*CASES["does not train"], TARGET, MARGIN)
  assert found.text == "None of its 12 models came through training."
  assert found.leakage is found.strongest is found.detectable is found.reached is None
