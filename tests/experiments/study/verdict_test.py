"""Verdicts: a planted difference gets the label built for it, and the numbers told are true."""

import math
import re

import jax
import numpy as np
import pytest
from planted_arms import (
  CASES,
  CLIMB,
  MARGIN,
  SEEDS,
  SHARED,
  TARGET,
  make_arm,
  make_pair,
  noise,
  slow_baseline,
)
from scipy.stats import norm, t

from jaxinv.experiments.study import verdict
from jaxinv.experiments.study.comparison import Leakage, compare
from jaxinv.experiments.study.verdict import Compared, judge, judge_all
from jaxinv.metrics.claims import Label
from jaxinv.metrics.stats import detectable_effect


def numbers(pattern, text):
  """The numbers in the one place of a text that is as the pattern says, # standing for each."""
  found = re.findall(re.escape(pattern).replace(r"\#", r"([-+]?\d+\.?\d*)"), text)
  assert len(found) == 1, (pattern, text)
  return [float(x) for x in (found[0] if isinstance(found[0], tuple) else found)]


# Labels.


@pytest.mark.parametrize("label", Label)
def test_every_label_is_reached_by_what_was_built_for_it(label):
  assert judge(*CASES[label], TARGET, MARGIN).label == label


@pytest.mark.parametrize(
  ("label", "swapped"),
  [
    (Label.LOWERS, Label.RAISES),
    (Label.RAISES, Label.LOWERS),
    (Label.NO_EFFECT, Label.NO_EFFECT),
    (Label.TOO_LITTLE, Label.TOO_LITTLE),
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
  label = judge(*CASES[Label.LOWERS], TARGET, margin).label
  assert label == (Label.LOWERS if margin < 0.2 else Label.TOO_LITTLE)


def test_each_side_is_judged_by_the_attack_that_is_strongest_on_it():
  """What hides the one attack and helps another is no defence."""
  arm, baseline = make_pair(reshape=0.3, init_diff=-0.5)
  found = judge(arm, baseline, TARGET, MARGIN)
  assert (found.attack, found.baseline_attack) == ("reshape", "init_diff")
  assert found.leakage == pytest.approx(0.7) and found.baseline_leakage == pytest.approx(0.6)
  assert found.strongest.mean == pytest.approx(0.1) and found.naive.mean == pytest.approx(0.3)
  assert found.label == Label.RAISES
  mine, theirs = (
    x.trail[a]["ncc_centred"][:, 2] for x, a in ((arm, "reshape"), (baseline, "init_diff"))
  )
  assert found.detectable == pytest.approx(detectable_effect(mine - theirs))


def test_arms_are_compared_where_each_reaches_the_target_and_not_at_the_end():
  """The slow arm leaks as much at the same accuracy, though at the end it leaks much more."""
  arm, baseline = make_pair(climb=np.array([0.2, 0.3, 0.7, 0.7]))
  slow = arm._replace(trail=jax.tree.map(lambda v: v + np.eye(4)[3] * 9, arm.trail))
  slow.measures["init_diff"]["ncc_centred"] += 9
  found = judge(slow, baseline, TARGET, MARGIN)
  assert found.label == Label.NO_EFFECT and found.leakage == pytest.approx(0.6)
  early = judge(slow, baseline, 0.3, MARGIN)  # The arm's second record.
  assert early.leakage == pytest.approx(0.3) and early.reached == pytest.approx(1)
  late = judge(slow, baseline, 0.9, MARGIN)  # Which the arm never reaches: at the end.
  assert late.label == Label.NOT_USEFUL and late.leakage == pytest.approx(9.85)


@pytest.mark.parametrize(("shift", "useful"), [(0.05, True), (-0.05, False)])
def test_an_arm_is_as_useful_where_its_mean_accuracy_gets_there(shift, useful):
  """Whatever single seeds reach, or do not, by the luck of a few photographs."""
  climb = np.minimum(CLIMB, TARGET) + shift + noise(8, 0.1)[:, None]
  assert (climb[:, 2] >= TARGET).any() and (climb[:, 2] < TARGET).any()
  found = judge(*make_pair(-0.2, -0.2, climb=climb), TARGET, MARGIN)
  assert found.label == (Label.LOWERS if useful else Label.NOT_USEFUL)
  assert found.strongest.n == SEEDS
  assert found.reached == pytest.approx(1.75, abs=0.2) if useful else found.reached is None


def test_seeds_that_diverged_are_left_out_of_both_sides():
  healthy = np.arange(SEEDS) != 3
  arm, baseline = make_pair(-0.2, -0.2, healthy=healthy)
  crowd = jax.tree.map(np.copy, baseline.trail)
  for values in jax.tree.leaves(crowd):
    values[5] = 1e6  # Of a seed that diverged there.
  bad = np.arange(SEEDS) != 5
  measures = {a: {k: v.copy() for k, v in m.items()} for a, m in baseline.measures.items()}
  for attack in ("model", "reshape", "init_diff"):
    for values in measures[attack].values():
      values[5] = np.nan
  harmed = baseline._replace(trail=crowd, healthy=bad, measures=measures)
  found = judge(arm, harmed, TARGET, MARGIN)
  both = healthy & bad
  values = (
    arm.trail["init_diff"]["ncc_centred"][:, 2] - baseline.trail["init_diff"]["ncc_centred"][:, 2]
  )
  assert found.label == Label.LOWERS and found.strongest.n == both.sum() == 10
  assert found.strongest.mean == pytest.approx(values[both].mean())
  rows = {(row.when, row.attack, row.metric): row for row in compare("a", arm, harmed, TARGET)}
  assert {row.difference.n for row in rows.values()} == {10}


def test_an_arm_is_judged_also_where_only_its_baseline_never_reaches_the_target():
  found = judge(*slow_baseline(), TARGET, MARGIN)
  assert found.label == Label.NOT_COMPARABLE
  assert numbers("The baseline never reaches a held-out accuracy of #", found.text) == [TARGET]


def test_where_untrained_models_have_the_target_already_nothing_is_compared_at_it():
  """Else models would be compared with themselves before the first step."""
  arm, baseline = make_pair(-0.2, -0.2)
  found = judge(arm, baseline, 0.1, MARGIN)  # Both begin with 0.2.
  assert found.label == Label.NOT_COMPARABLE
  assert numbers("Untrained models have the held-out accuracy of # already", found.text) == [0.1]
  assert {row.when for row in compare("a", arm, baseline, 0.1)} == {"end"}


def pair_of(strongest, naive):
  """Two arms whose differences under the two attackers are as given, in units of 1 seed each."""

  def leakage(naive, strongest):
    values = {"reshape": naive, "init_diff": strongest}
    return Leakage(values, {}, {}, np.ones(SEEDS), "init_diff")

  return Compared(leakage(naive, strongest), leakage(0 * naive, 0 * strongest), None, 2.0)


def spread(low, high):
  """A difference a seed, symmetric, whose 95 % interval has these ends."""
  values = np.linspace(-1, 1, SEEDS)
  half = t.ppf(0.975, SEEDS - 1) * values.std(ddof=1) / SEEDS**0.5
  return (low + high) / 2 + values / half * (high - low) / 2


@pytest.mark.parametrize(
  ("low", "high", "label"),
  [
    (-0.20, -0.06, Label.LOWERS),
    (-0.20, -0.04, Label.UNDECIDED),
    (-0.04, -0.01, Label.TOO_LITTLE),
    (-0.04, 0.02, Label.NO_EFFECT),
    (-0.07, -0.01, Label.UNDECIDED),
    (-0.07, 0.01, Label.UNDECIDED),
    (-0.30, 0.30, Label.UNDECIDED),
    (0.01, 0.04, Label.TOO_LITTLE),
    (0.01, 0.07, Label.UNDECIDED),
    (0.06, 0.20, Label.RAISES),
  ],
)
def test_the_label_is_that_of_the_whole_interval_and_not_of_its_middle(low, high, label):
  values = spread(low, high)
  assert verdict.claim(pair_of(values, spread(-0.01, 0.01)), MARGIN, 0.95) == label
  kept = low > -MARGIN and label != Label.RAISES
  expected = Label.HIDES if kept else label
  assert verdict.claim(pair_of(values, spread(-0.31, -0.29)), MARGIN, 0.95) == expected


def test_of_many_verdicts_each_needs_more():
  """Holm's: alone it lowers leakage, among five that tell nothing it is undecided."""
  clear, close = spread(-0.5, -0.4), spread(-0.2, -0.051)
  same = spread(-0.01, 0.01)
  nothing = {str(i): pair_of(spread(-0.2, 0.2), same) for i in range(4)}
  assert verdict.decide({"a": pair_of(close, same)}, MARGIN)["a"] == Label.LOWERS
  labels = verdict.decide(nothing | {"a": pair_of(close, same)}, MARGIN)
  assert set(labels.values()) == {Label.UNDECIDED} and len(labels) == 5
  many = {str(i): pair_of(clear, same) for i in range(4)} | {"a": pair_of(close, same)}
  assert set(verdict.decide(many, MARGIN).values()) == {Label.LOWERS}  # The others are out first.


def test_a_verdict_that_does_not_survive_the_correction_says_what_it_would_be_alone():
  _, baseline = make_pair()
  close, _ = make_pair(-0.062, -0.062)
  far, _ = make_pair(0.0, 0.0, size=0.2)
  others = {str(i): far for i in range(30)}
  found = judge_all({"close": close, **others}, baseline, TARGET, MARGIN)["close"]
  assert judge(close, baseline, TARGET, MARGIN).label == Label.LOWERS
  assert found.label == Label.UNDECIDED and "Judged alone it would be: lowers" in found.text


def test_the_label_is_told_for_other_margins():
  found = judge(*make_pair(-0.07, -0.07, size=0.002), TARGET, MARGIN)
  assert found.margins == {"0.02": "lowers leakage", "0.05": "lowers leakage"} | {
    "0.1": "changes too little to matter"
  }


def test_the_interval_over_people_is_told_and_is_of_the_same_difference():
  found = judge(*make_pair(-0.2, -0.2), TARGET, MARGIN)
  assert found.people.mean == pytest.approx(found.strongest.mean)
  low, high = numbers("Over people as well as seeds the interval is # to #.", found.text)
  np.testing.assert_allclose([low, high], found.people[1:3], atol=6e-4)


def test_an_arm_that_trains_is_not_said_not_to_where_its_baseline_has_no_model():
  arm, baseline = make_pair()[0], CASES[Label.NOT_TRAINED][0]
  assert judge(arm, baseline, TARGET, MARGIN).label != Label.NOT_TRAINED


@pytest.mark.parametrize("common", [0, 1])
def test_without_two_seeds_that_both_sides_have_no_absence_of_an_effect_is_claimed(common):
  """Where there is no interval, an effect of any size may be there."""
  arm, _ = make_pair(-0.2, -0.2, healthy=np.arange(SEEDS) < 6)
  _, whole = make_pair()
  leaks = {a: whole.trail[a]["ncc_centred"][:, 2] for a in ("reshape", "init_diff")}
  found = judge(arm, make_arm(leaks, healthy=np.arange(SEEDS) >= 6 - common), TARGET, MARGIN)
  assert found.strongest.n == common
  assert found.label != Label.NO_EFFECT


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
  shuffled = baseline._replace(trail=jax.tree.map(lambda x: x[lost], baseline.trail))
  paired, unpaired = (judge(arm, other, TARGET, 0.02) for other in (baseline, shuffled))
  for found in (paired, unpaired):
    assert found.strongest.mean == pytest.approx(-0.03, abs=1e-9)
  widths = [found.strongest.high - found.strongest.low for found in (paired, unpaired)]
  assert widths[1] > 10 * widths[0]
  assert (paired.label, unpaired.label) == (Label.LOWERS, Label.UNDECIDED)


def test_the_detectable_size_is_that_of_the_difference_compared():
  arm, baseline = CASES[Label.NO_EFFECT]
  mine, theirs = (x.trail["init_diff"]["ncc_centred"][:, 2] for x in (arm, baseline))
  expected = detectable_effect(mine - theirs)
  assert judge(arm, baseline, TARGET, MARGIN).detectable == pytest.approx(expected)


# Words.


@pytest.mark.parametrize(
  "label", [x for x in Label if x not in (Label.NOT_TRAINED, Label.NOT_COMPARABLE, Label.TOO_FEW)]
)
def test_the_text_tells_the_numbers(label):
  arm, baseline = CASES[label]
  found = judge(arm, baseline, TARGET, MARGIN)
  useful = label != Label.NOT_USEFUL
  at = 2 if useful else 3
  ends = [
    {a: x.trail[a]["ncc_centred"][:, at] for a in ("reshape", "init_diff")} for x in (arm, baseline)
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
    assert numbers("At held-out accuracies of # and #", found.text) == [TARGET, TARGET]
  else:
    assert numbers("It never reaches a held-out accuracy of #", found.text) == [TARGET]


def test_what_could_have_been_seen_is_told_where_nothing_was_and_only_there():
  for label, pair in CASES.items():
    found = judge(*pair, TARGET, MARGIN)
    if label == Label.NO_EFFECT:
      told = numbers("# seeds would have shown a difference of # (power 80 %)", found.text)
      np.testing.assert_allclose(told, [SEEDS, found.detectable], atol=6e-4)
    elif label == Label.UNDECIDED:
      told = numbers("# seeds could have shown a difference of # (power 80 %)", found.text)
      np.testing.assert_allclose(told, [SEEDS, found.detectable], atol=6e-4)
    else:
      assert "shown a difference" not in found.text
    small = "Differences below 0.05 are counted as too small to matter."
    assert (small in found.text) == (label == Label.TOO_LITTLE)
    few = "A verdict needs 5 seeds or more, and here there are 4."
    assert (few in found.text) == (label == Label.TOO_FEW)


def test_it_is_told_how_many_seeds_would_decide():
  found = judge(*make_pair(size=0.2), TARGET, MARGIN)
  assert found.label == Label.UNDECIDED
  (needed,) = numbers("for one of 0.05 about # are needed", found.text)
  # So many seeds of the same spread would show a difference of the margin.
  assert found.detectable * (SEEDS / needed) ** 0.5 == pytest.approx(MARGIN, rel=0.05)


def test_a_single_seed_gives_no_interval_and_its_text_says_so():
  found = judge(*make_pair(-0.2, -0.2, healthy=np.arange(SEEDS) == 0), TARGET, MARGIN)
  assert found.strongest.n == 1 and found.strongest.low is found.detectable is None
  assert found.text.count("one seed, no interval") == 3 and "None" not in found.text


def test_an_arm_of_which_no_seed_came_through_is_told_so_without_a_number_of_it():
  found = judge(*CASES[Label.NOT_TRAINED], TARGET, MARGIN)
  assert found.text == "All of its 12 models diverged."
  assert found.leakage is found.strongest is found.detectable is found.reached is None
