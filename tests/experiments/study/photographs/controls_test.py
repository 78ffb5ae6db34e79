"""Single photographs: a planted signal is found by every test, and only with the true halves."""

import numpy as np
import pytest
from scipy.stats import norm

from jaxinv.experiments.outcome import ArmOutcome
from jaxinv.experiments.study.photographs.controls import (
  OUTPUT_TESTS,
  WHITE_BOX,
  Halves,
  best_inversion,
  detect,
  halves_of,
  photo_leaks,
  rank_correlation,
  summarize_leaks,
  wrong_halves,
)
from jaxinv.metrics import membership
from jaxinv.metrics.roc import roc

MODELS, CANDIDATES, HELD, CLASSES = 32, 80, 20, 4
NUM = CANDIDATES + HELD


def rng(seed=0):
  """The same numbers for a test, whatever ran before it."""
  return np.random.default_rng(seed)


def make_halves(models=MODELS, seed=0):
  """Models 2 j and 2 j + 1 on opposite halves; the held-out examples stand between the others."""
  draw = rng(seed)
  order = draw.permutation(NUM)
  population, candidates = np.sort(order[:HELD]), np.sort(order[HELD:])
  members = np.zeros((models, NUM), bool)
  for i in range(0, models, 2):
    first = draw.permutation(CANDIDATES) < CANDIDATES // 2
    members[i, candidates], members[i + 1, candidates] = first, ~first
  return Halves(members, candidates, population)


HALVES = make_halves()
LABELS = rng(1).integers(0, CLASSES, NUM)


def scores_of(halves, strength, seed, spread=0.0):
  """A standard normal score, by so much higher for members; photographs may differ by a spread."""
  draw = rng(seed)
  noise = draw.standard_normal(halves.members.shape)
  return noise + strength * halves.members + spread * draw.standard_normal(NUM)


def logits_of(confidence):
  """Logits whose log-odds of the true class are as given: the others are all alike."""
  logits = np.full((*confidence.shape, CLASSES), -np.log(CLASSES - 1))
  logits[:, np.arange(NUM), LABELS] = confidence
  return logits


def make_arm(confidence, healthy=None, traces=None, **likeness):
  """An arm with these log-odds of the true class, and this likeness of what is recovered."""
  healthy = np.ones(len(confidence), bool) if healthy is None else healthy
  traces = scores_of(HALVES, 0, 9)[: len(confidence), None] if traces is None else traces
  details = {"logits": logits_of(confidence), "similarity": likeness, "traces": traces}
  return ArmOutcome({}, healthy, {}, {}, {}, np.zeros((1, 1)), {}, {}, {}, details, {})


def leaks_of(strength, halves=HALVES, wrong=None, spread=0.0):
  """The tests of an arm whose answers, and likeness under `reshape`, tell members so much."""
  confidence = scores_of(halves, strength, 2, spread)
  likeness = {"reshape": scores_of(halves, strength, 3, spread), "flat": scores_of(halves, 0, 4)}
  traces = np.stack([scores_of(halves, size, 5, spread) for size in (0, strength)], 1)
  arm = make_arm(confidence, None, traces, **likeness)
  return photo_leaks(arm, wrong or halves, LABELS)


TESTS = {
  *OUTPUT_TESTS,
  WHITE_BOX,
  *(f"{kind}/{attack}" for kind in ("similarity", "calibrated") for attack in ("reshape", "flat")),
}
# The largest standard error of an AUC of so many models and photographs.
ERROR = 1 / np.sqrt(12 * MODELS * CANDIDATES / 4)


@pytest.fixture(scope="module")
def planted():
  """An arm that tells of members, by one standard deviation."""
  return leaks_of(1.0)


def test_a_planted_signal_has_the_auc_of_its_size(planted):
  """Of two normals at a distance of 1; what fits them to the other models comes close to it."""
  expected = norm.cdf(1 / np.sqrt(2))
  assert set(planted.tests) == TESTS
  found = {name: test.pooled.auc for name, test in planted.tests.items()}
  assert abs(found["similarity/reshape"] - expected) < 4 * ERROR
  for name in (*OUTPUT_TESTS, WHITE_BOX, "calibrated/reshape"):
    assert expected - 0.06 < found[name] < expected + 4 * ERROR
  for name in ("similarity/flat", "calibrated/flat"):
    assert abs(found[name] - 0.5) < 4 * ERROR


def test_each_way_of_counting_finds_the_same_signal(planted):
  """Models and photographs are as many as their AUCs, and the interval holds their mean."""
  test, expected = planted.tests["similarity/reshape"], norm.cdf(1 / np.sqrt(2))
  assert test.auc.n == MODELS and test.by_photograph.shape == (CANDIDATES,)
  assert test.auc.low < expected < test.auc.high
  assert abs(test.by_photograph.mean() - expected) < 4 * ERROR
  assert 2 * 0.05 < test.tpr[0.05].low < test.pooled.tpr[0.05] < test.tpr[0.05].high


def test_calibration_finds_a_signal_that_faces_of_their_own_hide():
  """Photographs differ by five times the signal: the raw likeness says little, the others all."""
  hidden, open_ = leaks_of(1.0, spread=5.0), leaks_of(1.0)
  for name in ("lira", "lira_fixed", "calibrated/reshape"):
    assert hidden.tests[name].pooled.auc == pytest.approx(open_.tests[name].pooled.auc, abs=1e-6)
  for name in ("similarity/reshape", "confidence"):
    assert hidden.tests[name].pooled.auc < 0.6
  assert hidden.tests[WHITE_BOX].pooled.auc > 0.7  # Which chooses to be calibrated.
  assert hidden.strongest.name not in ("similarity/reshape", "confidence")
  np.testing.assert_allclose(hidden.shown["reshape"], open_.shown["reshape"], atol=1e-9)


def test_control_without_a_signal_every_test_is_at_chance():
  leaks = leaks_of(0.0)
  for name, test in leaks.tests.items():
    assert abs(test.pooled.auc - 0.5) < 4 * ERROR, name
  assert np.abs(leaks.answered).mean() < 0.5
  assert all(abs(x) < 4 / np.sqrt(CANDIDATES) for x in leaks.agreement.values())


def test_control_the_best_of_many_tests_is_at_chance_where_it_is_chosen_on_other_models():
  """Over draws: the models of one are each other's references, and err together."""
  halves, found, naive = make_halves(16), [], []
  for seed in range(10, 30):
    confidence, likeness, traces = (scores_of(halves, 0, 3 * seed + i) for i in range(3))
    arm = make_arm(confidence, None, traces[:, None], reshape=likeness)
    leaks = photo_leaks(arm, halves, LABELS)
    found.append(leaks.strongest.auc.mean)
    naive.append(leaks.tests[leaks.strongest.name].auc.mean)
  error = np.std(found) / np.sqrt(len(found))
  assert error < 0.008 and abs(np.mean(found) - 0.5) < 3 * error
  assert np.mean(naive) > 0.51  # Why it is not that of the test that came out best.


def test_control_with_the_wrong_halves_a_strong_signal_is_at_chance():
  """With the true ones it is found, so that it is there."""
  right, wrong = leaks_of(3.0), leaks_of(3.0, wrong=wrong_halves(HALVES))
  for name in TESTS - {"similarity/flat", "calibrated/flat"}:
    assert right.tests[name].pooled.auc > 0.9, name
    assert abs(wrong.tests[name].pooled.auc - 0.5) < 6 * ERROR, name
  assert np.abs(wrong.answered).mean() < 0.5 < 2 < right.answered.mean()


def test_the_wrong_halves_are_halves_as_good_as_the_true():
  wrong = wrong_halves(HALVES)
  members = wrong.members[:, HALVES.candidates]
  np.testing.assert_array_equal(members[::2], ~members[1::2])
  np.testing.assert_array_equal(members.sum(1), CANDIDATES // 2)
  assert not wrong.members[:, HALVES.population].any()
  agree = (members == HALVES.members[:, HALVES.candidates]).mean(1)
  assert np.abs(agree - 0.5).max() < 0.25  # Of its own it knows nothing.
  assert wrong.candidates is HALVES.candidates and wrong.population is HALVES.population


# Agreement.


def test_photographs_that_show_as_they_answer_agree_fully():
  signal = scores_of(HALVES, 1.0, 2)
  arm = make_arm(signal, reshape=7 * signal + 3, turned=-signal, flat=np.ones_like(signal))
  leaks = photo_leaks(arm, HALVES, LABELS)
  np.testing.assert_allclose(leaks.shown["reshape"], leaks.answered, rtol=1e-6)
  np.testing.assert_allclose(leaks.shown["turned"], -leaks.answered, rtol=1e-6)
  assert leaks.agreement == pytest.approx({"reshape": 1.0, "turned": -1.0, "flat": 0.0})


def test_photographs_that_leak_more_do_so_in_both_ways():
  """Planted: some photographs tell much, others nothing, by answers and images of other noise."""
  strength = np.where(np.arange(NUM) % 2, 2.0, 0.0)
  scores = [rng(i).standard_normal((MODELS, NUM)) + strength * HALVES.members for i in (5, 6)]
  leaks = photo_leaks(make_arm(scores[0], reshape=scores[1]), HALVES, LABELS)
  odd = HALVES.candidates % 2 == 1
  for gaps in (leaks.answered, leaks.shown["reshape"]):
    # Cohen's d of so many models has a standard error of a bit more than sqrt(4 / models).
    assert abs(gaps[odd].mean() - 2) < 0.4 and abs(gaps[~odd].mean()) < 0.2
  assert leaks.agreement["reshape"] > 0.6
  assert leaks.tests["lira"].by_photograph[odd].mean() > 0.85


def test_rank_correlation_is_spearmans_and_zero_where_nothing_varies():
  a = np.array([3.0, 1.0, 4.0, 1.5, 9.0])
  assert rank_correlation(a, np.exp(a)) == pytest.approx(1)
  # 1 - 6 sum(d^2) / (n (n^2 - 1)), with ranks 3 1 4 2 5 and 1 2 3 4 5.
  assert rank_correlation(a, np.arange(5.0)) == pytest.approx(1 - 6 * (4 + 1 + 1 + 4) / 120)
  assert rank_correlation(a, np.full(5, 0.1)) == rank_correlation(np.full(5, 0.1), a) == 0


# Which models count.


def test_a_model_that_diverged_is_left_out_together_with_its_complement():
  confidence, likeness = scores_of(HALVES, 1.0, 2), scores_of(HALVES, 1.0, 3)
  healthy = np.ones(MODELS, bool)
  healthy[[5, 12]] = False
  broken = np.where(healthy[:, None], confidence, np.nan)
  traces = scores_of(HALVES, 1.0, 5)[:, None]
  found = photo_leaks(make_arm(broken, healthy, traces, reshape=likeness), HALVES, LABELS)
  rest = np.setdiff1d(np.arange(MODELS), [4, 5, 12, 13])
  fewer = HALVES._replace(members=HALVES.members[rest])
  arm = make_arm(confidence[rest], None, traces[rest], reshape=likeness[rest])
  expected = photo_leaks(arm, fewer, LABELS)
  for name, test in expected.tests.items():
    assert found.tests[name].pooled == test.pooled and found.tests[name].auc == test.auc, name
    assert test.auc.n == MODELS - 4
    np.testing.assert_array_equal(found.tests[name].by_photograph, test.by_photograph)
  np.testing.assert_array_equal(found.answered, expected.answered)
  assert found.agreement == expected.agreement


def test_where_no_pair_came_through_nothing_is_said():
  healthy = np.arange(MODELS) % 2 == 0
  assert photo_leaks(make_arm(scores_of(HALVES, 1.0, 2), healthy), HALVES, LABELS) is None


def test_of_too_few_models_nothing_is_said():
  assert leaks_of(1.0, make_halves(models=6)) is None
  assert leaks_of(1.0, make_halves(models=8)) is not None


def test_photographs_held_out_and_details_of_other_kinds_play_no_part(planted):
  """Whatever is recovered of the population; only the outputs for it are looked at."""
  confidence = scores_of(HALVES, 1.0, 2)
  likeness = {"reshape": scores_of(HALVES, 1.0, 3), "flat": scores_of(HALVES, 0, 4)}
  for values in likeness.values():
    values[:, HALVES.population] = np.nan
  traces = np.stack([scores_of(HALVES, size, 5) for size in (0, 1.0)], 1)
  found = photo_leaks(make_arm(confidence, None, traces, **likeness), HALVES, LABELS)
  assert {k: v.pooled for k, v in found.tests.items()} == {
    k: v.pooled for k, v in planted.tests.items()
  }


# Parts.


def test_halves_are_read_off_the_splits():
  train = np.array([[0, 2], [5, 4], [2, 5], [4, 0]])
  found = halves_of(train, np.array([[3, 1]] * 4), 6)
  np.testing.assert_array_equal(found.candidates, [0, 2, 4, 5])
  np.testing.assert_array_equal(found.population, [1, 3])
  expected = np.zeros((4, 6), bool)
  for row, chosen in zip(expected, train, strict=True):
    row[chosen] = True
  np.testing.assert_array_equal(found.members, expected)


def test_a_score_is_counted_over_all_by_model_and_by_photograph():
  """Planted by hand: the first model ranks all right, the second all wrong."""
  members = np.array([[True, True, False, False], [False, False, True, True]])
  found = detect(np.array([[4.0, 3, 2, 1], [8.0, 7, 6, 5]]), members)
  assert found.auc.mean == 0.5 and found.auc.n == 2
  # Pooled, every member beats the first model's two others, and none of the second's.
  assert found.pooled.auc == (2 + 2 + 2 + 2) / 16
  np.testing.assert_array_equal(found.by_photograph, [0, 0, 1, 1])


def test_the_better_inversion_is_the_one_that_tells_members_better():
  strong, weak = scores_of(HALVES, 2.0, 3, spread=9.0), scores_of(HALVES, 0.5, 4)
  confidence = scores_of(HALVES, 1.0, 2)
  for names in (("reshape", "init_diff"), ("init_diff", "reshape")):
    likeness = dict(zip(names, (strong, weak), strict=True))
    leaks = photo_leaks(make_arm(confidence, **likeness), HALVES, LABELS)
    # By calibrated likeness: raw, the strong one is hidden by how the faces differ.
    raw = {name: leaks.tests[f"similarity/{name}"].pooled.auc for name in names}
    assert raw[names[0]] < raw[names[1]]
    assert best_inversion(leaks) == names[0]


def test_the_summary_holds_every_test_of_every_arm(planted):
  table = summarize_leaks({"a": planted, "none": None})
  best = table["a"].pop("strongest")
  assert best == {"test": planted.strongest.name, "auc": planted.strongest.auc._asdict()}
  assert table["none"] == {} and set(table["a"]) == TESTS
  for name, cell in table["a"].items():
    test = planted.tests[name]
    assert cell["pooled_auc"] == test.pooled.auc and cell["auc"] == test.auc._asdict()
    assert cell["tpr_at_fpr_0.01"] == test.pooled.tpr[0.01]


def test_what_is_told_of_answers_is_what_membership_says(planted):
  """Of the candidates alone, in their order."""
  confidence = scores_of(HALVES, 1.0, 2)[:, HALVES.candidates]
  mine = HALVES.members[:, HALVES.candidates]
  np.testing.assert_allclose(planted.answered, membership.gap(confidence, mine), rtol=1e-6)
  expected = roc(membership.lira(confidence, mine), mine).auc
  assert planted.tests["lira"].pooled.auc == pytest.approx(expected, abs=1e-6)
