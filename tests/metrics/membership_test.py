"""Membership: planted signals are found, chance is chance, and each attack is its own loop."""

import hypothesis
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from scipy.stats import norm

from jaxinv.errors import InputError
from jaxinv.metrics import membership
from jaxinv.metrics.membership import (
  GAMMAS,
  VARIANCES,
  confidence,
  gap,
  lira,
  references,
  rmia,
  tuned,
)
from jaxinv.metrics.roc import auc_each, roc

quick = hypothesis.settings(max_examples=60, deadline=None)


def rng(seed=0):
  """The same numbers for a test, whatever ran before it."""
  return np.random.default_rng(seed)


def halves(num_models, num_examples, draw):
  """Which photographs each model was trained on: models 2j and 2j + 1 on opposite ones."""
  first = draw.random((num_models // 2, num_examples)) < 0.5
  return np.stack([first, ~first], 1).reshape(num_models, num_examples)


def planted(strength=1.5, num_models=32, num_examples=60, seed=0):
  """Scores that are larger for members, of photographs that differ much in difficulty."""
  draw = rng(seed)
  members = halves(num_models, num_examples, draw)
  difficulty = 5 * draw.standard_normal(num_examples)
  noise = draw.standard_normal(members.shape) * draw.uniform(0.5, 2.0, num_examples)
  return difficulty + noise + strength * members, members


def logits_of(members, strength, draw, num_classes=5, num_held=30):
  """Logits, labels, masks and indices of candidates and of photographs held out after them."""
  num_examples = members.shape[1]
  labels = draw.integers(0, num_classes, num_examples + num_held)
  everyone = np.pad(members, [(0, 0), (0, num_held)])
  logits = draw.standard_normal((*everyone.shape, num_classes))
  logits += 2 * draw.standard_normal((len(labels), num_classes))  # Some are harder than others.
  logits[:, np.arange(len(labels)), labels] += 1 + strength * everyone
  index = np.arange(len(labels))
  return logits, labels, everyone, index[:num_examples], index[num_examples:]


def others(target, members):
  """The target's references: not itself, nor the first that has the opposite of everything."""
  opposite = [t for t in range(len(members)) if (members[t] != members[target]).all()]
  return [t for t in range(len(members)) if t != target and t not in opposite[:1]]


# Confidence.


def test_confidence_is_the_log_odds_of_the_true_class():
  logits, labels = rng().standard_normal((3, 7, 4)), np.arange(7) % 4
  p = softmax(logits, -1)[:, np.arange(7), labels]
  np.testing.assert_allclose(confidence(logits, labels), np.log(p / (1 - p)), rtol=1e-10)


def test_confidence_is_exact_where_the_probability_rounds_to_one_or_zero():
  logits = np.array([[[1000.0, 0.0, 0.0], [1000.0, 0.0, 0.0]]], np.float32)
  expected = [[1000 - np.log(2), -1000]]
  np.testing.assert_allclose(confidence(logits, np.array([0, 1])), expected, rtol=1e-12)


def test_diverged_models_have_no_finite_confidence_and_leave_the_others_alone():
  logits = rng().standard_normal((3, 4, 3))
  broken = logits.copy()
  broken[0], broken[1, :, 1] = np.nan, np.inf
  found = confidence(broken, np.zeros(4, int))
  assert not np.isfinite(found[:2]).any()
  np.testing.assert_array_equal(found[2], confidence(logits, np.zeros(4, int))[2])


# References.


def test_a_target_and_its_opposite_are_no_references_of_it():
  expected = 1 - np.kron(np.eye(4), np.ones((2, 2)))
  np.testing.assert_array_equal(references(halves(8, 50, rng())), expected)


def test_without_an_opposite_all_others_are_references():
  """As where the opposite diverged and was left out."""
  members = halves(8, 50, rng())[1:]
  np.testing.assert_array_equal(references(members)[0], [0, 1, 1, 1, 1, 1, 1])


@quick
@hypothesis.given(hnp.arrays(bool, st.tuples(st.just(4), st.integers(1, 6))))
def test_with_opposites_as_many_references_are_in_as_out(first):
  members = np.concatenate([first, ~first])
  use = references(members)
  np.testing.assert_array_equal(use @ members, 3)
  np.testing.assert_array_equal(use @ ~members, 3)


# LiRA.


def looped_lira(scores, members, variance):
  found = np.zeros(scores.shape)
  for target in range(len(scores)):
    rest = others(target, members)
    groups = [
      [scores[rest, i][chosen[rest, i]] for i in range(scores.shape[1])]
      for chosen in (members, ~members)
    ]
    for group, sign in zip(groups, (1, -1), strict=True):
      deviations = [np.std(values, ddof=1) for values in group]
      if variance == "shared":
        residuals = np.concatenate([values - np.mean(values) for values in group])
        freedom = len(residuals) - len(group)
        deviations = [np.sqrt(np.square(residuals).sum() / freedom)] * len(group)
      if variance == "global":
        deviations = [np.std(np.concatenate(group), ddof=1)] * len(group)
      means = [np.mean(values) for values in group]
      found[target] += sign * norm.logpdf(scores[target], means, deviations)
  return found


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("paired", [True, False])
def test_lira_is_the_loop_over_targets_and_photographs(variance, paired):
  scores, members = planted(num_models=12, num_examples=9)
  if not paired:
    members = members & (rng(1).random(members.shape) < 0.9)
  expected = looped_lira(scores, members, variance)
  found = lira(scores, members, variance)
  np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("variance", VARIANCES)
def test_calibration_finds_a_signal_that_difficulty_hides(variance):
  scores, members = planted()
  raw, calibrated = (roc(x, members).auc for x in (scores, lira(scores, members, variance)))
  assert raw < 0.62 and calibrated > (0.7 if variance == "global" else 0.8)


def test_lira_sees_members_that_score_lower_and_members_that_only_vary_more():
  draw = rng()
  members = halves(64, 40, draw)
  noise = draw.standard_normal(members.shape)
  assert roc(lira(noise - 2 * members, members), members).auc > 0.85
  assert roc(lira(noise * (1 + 3 * members), members), members).auc > 0.7


def test_lira_does_not_know_the_unit_or_the_difficulty_of_a_photograph():
  scores, members = planted()
  draw = rng(3)
  changed = scores * draw.uniform(1e-3, 1e3, scores.shape[1]) + draw.uniform(-1e3, 1e3)
  np.testing.assert_allclose(lira(changed, members), lira(scores, members), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("variance", VARIANCES)
def test_lira_of_the_opposite_question_is_its_negative(variance):
  scores, members = planted(num_models=12)
  expected = -lira(scores, members, variance)
  np.testing.assert_allclose(lira(scores, ~members, variance), expected, atol=1e-9)


def test_lira_treats_models_and_photographs_alike_in_every_order():
  scores, members = planted(num_models=12)
  rows, columns = rng(1).permutation(12), rng(2).permutation(60)
  expected = lira(scores, members)[rows][:, columns]
  found = lira(scores[rows][:, columns], members[rows][:, columns])
  np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variance", VARIANCES)
def test_lira_is_defined_for_scores_that_do_not_vary(variance):
  members = halves(12, 4, rng())
  scores = np.full(members.shape, 0.1)
  np.testing.assert_array_equal(lira(scores, members, variance), 0)
  scores[:, 1] = members[:, 1]  # Always 1 for members, and always 0 for others.
  scores[5, 2] = 7.0  # One model alone is different.
  found = lira(scores, members, variance)
  assert np.isfinite(found).all()
  assert (np.sign(found[:, 1]) == np.where(members[:, 1], 1, -1)).all()


# RMIA.


def looped_rmia(logits, labels, members, candidates, population, gamma):
  p = np.exp(log_softmax(logits, -1)[:, np.arange(len(labels)), labels])
  found = np.zeros((len(p), len(candidates)))
  for target in range(len(p)):
    rest = others(target, members[:, candidates])
    for i, x in enumerate(candidates):
      inside = [p[t, x] for t in rest if members[t, x]]
      outside = [p[t, x] for t in rest if not members[t, x]]
      ratio = p[target, x] / (0.5 * np.mean(inside) + 0.5 * np.mean(outside))
      ratios = [ratio / (p[target, z] / np.mean([p[t, z] for t in rest])) for z in population]
      found[target, i] = np.mean([r >= gamma for r in ratios])
  return found


@pytest.mark.parametrize("gamma", [1.0, 1.5])
@pytest.mark.parametrize("paired", [True, False])
def test_rmia_is_the_loop_over_targets_candidates_and_population(gamma, paired):
  draw = rng()
  members = halves(8, 6, draw)
  if not paired:
    members[0, 0] = not members[0, 0]
  logits, labels, everyone, candidates, population = logits_of(members, 1.0, draw)
  arguments = (logits, labels, everyone, candidates[::-1], population[3:], gamma)
  np.testing.assert_allclose(rmia(*arguments), looped_rmia(*arguments), atol=1e-12)


def test_rmia_finds_a_signal_that_difficulty_hides():
  members = halves(16, 60, rng(1))
  logits, labels, *rest = logits_of(members, 2.0, rng())
  raw = roc(confidence(logits, labels)[:, :60], members).auc
  assert raw < 0.75 < 0.8 < roc(rmia(logits, labels, *rest), members).auc


def test_rmia_weighs_references_in_and_out_alike():
  members = halves(12, 20, rng(1))
  logits, labels, everyone, candidates, population = logits_of(members, 1.0, rng())
  expected = rmia(logits, labels, everyone, candidates, population)
  everyone[:, candidates] = ~members
  found = rmia(logits, labels, everyone, candidates, population)
  np.testing.assert_allclose(found, expected, atol=1e-12)


def test_models_that_are_all_alike_tie_everywhere_and_tell_nothing():
  members = halves(8, 6, rng())
  logits, labels, *rest = logits_of(members, 0.0, rng())
  scores = rmia(np.repeat(logits[:1], 8, 0), labels, *rest)
  np.testing.assert_array_equal(scores, 1.0)
  assert roc(scores, members).auc == 0.5


def test_rmia_is_defined_where_probabilities_underflow():
  members = halves(8, 6, rng())
  logits, labels, *rest = logits_of(members, 1.0, rng())
  assert np.isfinite(rmia(1e4 * logits, labels, *rest)).all()


# Tuned on models of the attacker's own.


def test_a_setting_is_chosen_on_the_other_half_of_the_models():
  """What serves the one half best and the other worst is chosen for the other."""
  members = halves(16, 40, rng())
  own = np.arange(16) // 2 % 2 == 0
  signs = {"first": np.where(own, 1.0, -1.0), "second": np.where(own, -1.0, 1.0)}
  found = tuned(lambda name, rows: signs[name][rows, None] * members[rows], [*signs], members)
  np.testing.assert_array_equal(auc_each(found, members, 1), 0.0)


def test_of_few_models_the_first_setting_is_taken():
  members = halves(8, 40, rng())
  found = tuned(lambda sign, rows: sign * members[rows], [-1.0, 1.0], members)
  np.testing.assert_array_equal(found, -1.0 * members)


def test_control_tuning_finds_nothing_where_there_is_nothing():
  mean, error = chance(
    lambda draw, members: tuned(
      lambda noise, rows: noise[rows], [*draw.standard_normal((5, *members.shape))], members
    ),
    num_models=16,
  )
  assert error < 0.006 and abs(mean - 0.5) < 3.5 * error


def test_rmia_tuned_is_as_good_as_the_best_gamma():
  members = halves(32, 60, rng(1))
  logits, labels, everyone, *index = logits_of(members, 2.0, rng())

  def score(gamma, rows):
    return rmia(logits[rows], labels, everyone[rows], *index, gamma)

  aucs = [roc(score(gamma, np.arange(32)), members).auc for gamma in GAMMAS]
  assert max(aucs) - min(aucs) > 0.02
  assert roc(tuned(score, GAMMAS, members), members).auc > max(aucs) - 0.01


# Controls: what knows nothing of membership.


def chance(attack, num_models=8, repeats=60):
  """Mean AUC, and its standard error, of an attack told masks that the scores do not know."""
  aucs = []
  for repeat in range(repeats):
    draw = rng(repeat)
    members = halves(num_models, 60, draw)
    aucs.append(roc(attack(draw, members), members).auc)
  return np.mean(aucs), np.std(aucs) / np.sqrt(repeats)


ATTACKS = {
  "lira": lambda draw, members: lira(draw.standard_normal(members.shape), members),
  "fixed": lambda draw, members: lira(draw.standard_normal(members.shape), members, "shared"),
  "rmia": lambda draw, members: rmia(*logits_of(members, 0.0, draw)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_control_masks_drawn_at_random_have_an_auc_of_one_half(attack):
  mean, error = chance(ATTACKS[attack])
  assert error < 0.006 and abs(mean - 0.5) < 3.5 * error


def test_control_with_its_opposite_as_a_reference_lira_falls_below_chance(monkeypatch):
  """Why `references` leaves it out."""
  monkeypatch.setattr(membership, "references", lambda members: 1 - np.eye(len(members)))
  mean, error = chance(ATTACKS["lira"])
  assert mean < 0.47 and mean < 0.5 - 5 * error


def test_control_shuffled_masks_hide_what_the_true_ones_show():
  scores, members = planted(strength=3.0)
  told = halves(32, 60, rng(7))
  assert abs(roc(lira(scores, told), told).auc - 0.5) < 0.05
  assert roc(lira(scores, members), members).auc > 0.95


# Gap.


def test_a_gap_is_cohens_d():
  scores, members = planted(num_models=10, num_examples=5)
  for i, found in enumerate(gap(scores, members)):
    inside, outside = scores[members[:, i], i], scores[~members[:, i], i]
    variance = (4 * inside.var(ddof=1) + 4 * outside.var(ddof=1)) / 8
    assert found == pytest.approx((inside.mean() - outside.mean()) / np.sqrt(variance))


def test_a_gap_is_zero_where_nothing_varies_and_unknown_where_nothing_can_be_compared():
  members = halves(6, 3, rng())
  members[:, 2] = False
  scores = np.stack([np.full(6, 0.1), np.where(members[:, 1], 0.3, 0.1), np.arange(6.0)], 1)
  np.testing.assert_array_equal(gap(scores, members), [0, 0, np.nan])


# Refusals.


@pytest.mark.parametrize(("variance", "enough"), [("shared", 6), ("global", 6), ("each", 8)])
def test_too_few_models_are_refused_and_just_enough_are_not(variance, enough):
  scores, members = planted(num_models=enough)
  assert np.isfinite(lira(scores, members, variance)).all()
  with pytest.raises(InputError, match=r"^[^\n]*train more models$"):
    lira(scores[2:], members[2:], variance)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"gamma": 0.0}, "above 0"),
    ({"population": np.array([], int)}, "hold some out"),
    ({"population": np.array([0, 9])}, "drop them"),
    ({"candidates": np.array([9])}, "train more models"),
  ],
)
def test_what_rmia_cannot_compare_is_refused_in_one_line(change, message):
  names = ("logits", "labels", "members", "candidates", "population")
  arguments = dict(zip(names, logits_of(halves(8, 6, rng()), 1.0, rng()), strict=True))
  with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*$"):
    rmia(**{**arguments, **change})
