"""Nearest images: as by brute force, and a test of memorisation that raises no false alarm."""

import numpy as np
import pytest

from jaxinv.errors import InputError
from jaxinv.metrics.memorisation import (
  Case,
  compare_members,
  cosine,
  nearest,
  permutation_test,
  pixel_similarity,
  pooled_test,
)

CLASSES, PER_CLASS, PIXELS = 4, 12, 20


def make_halves(rng, labels):
  """A random half of each class."""
  member = np.zeros(len(labels), bool)
  for label in np.unique(labels):
    among = rng.permutation(np.flatnonzero(labels == label))
    member[among[: len(among) // 2]] = True
  return member


def make_case(rng, memory=0.0, restarts=2, member=None, examples=None):
  """A model whose recovered images are noise, and by `memory` a copy of a member of their class.

  A negative memory is of candidates that are no members.
  """
  labels = np.repeat(np.arange(CLASSES), PER_CLASS)
  examples = rng.standard_normal((len(labels), PIXELS)) if examples is None else examples
  member = make_halves(rng, labels) if member is None else member
  images, of = [], np.repeat(np.arange(CLASSES), restarts)
  for label in of:
    copied = rng.choice(np.flatnonzero((labels == label) & (member == (memory >= 0))))
    images.append(abs(memory) * examples[copied] + (1 - abs(memory)) * rng.standard_normal(PIXELS))
  similarity = cosine(np.stack(images), examples)
  return Case(similarity, of, labels, np.ones(len(labels), bool), member)


def test_cosine_is_its_definition_and_that_of_zeros_is_zero():
  rng = np.random.default_rng(0)
  a, b = rng.standard_normal((3, 7)), rng.standard_normal((5, 7))
  expected = [[x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in b] for x in a]
  np.testing.assert_allclose(cosine(a, b), expected, atol=1e-12)
  a[1] = 0
  assert (cosine(a, b)[1] == 0).all() and (cosine(b, a)[:, 1] == 0).all()


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_similarities_do_not_depend_on_the_unit(factor):
  a = np.random.default_rng(0).standard_normal((3, 7)).astype(np.float32)
  for function in (cosine, pixel_similarity):
    np.testing.assert_allclose(function(a * np.float32(factor), a), function(a, a), atol=1e-6)


def test_values_that_are_not_finite_count_as_zero():
  a = np.array([[np.nan, 1.0, 2.0], [np.nan, np.inf, -np.inf]])
  np.testing.assert_allclose(cosine(a, a), [[1, 0], [0, 0]], atol=1e-12)


def test_pixel_similarity_is_the_correlation_and_that_of_a_constant_image_is_zero():
  rng = np.random.default_rng(0)
  a, b = rng.uniform(size=(3, 9)).astype(np.float32), rng.uniform(size=(5, 9)).astype(np.float32)
  expected = np.corrcoef(a, b)[:3, 3:]
  np.testing.assert_allclose(pixel_similarity(a, b), expected, atol=1e-6)
  np.testing.assert_allclose(pixel_similarity(3 * a + 1, b), expected, atol=1e-5)
  constant = np.full((1, 9), 0.1, np.float32)
  assert (pixel_similarity(constant, b) == 0).all()


def test_nearest_is_found_as_by_brute_force():
  rng = np.random.default_rng(0)
  similarity, allowed = rng.uniform(-1, 0, (30, 8)), rng.uniform(size=(30, 8)) < 0.2
  index, value = nearest(similarity, allowed)
  for i in range(30):
    among = [j for j in range(8) if allowed[i, j]]
    if among:
      best = max(among, key=lambda j: similarity[i, j])
      assert index[i] == best and value[i] == similarity[i, best]
    else:
      assert index[i] == -1 and np.isnan(value[i])
  assert 0 < (index < 0).sum() < 30


def test_the_first_of_equals_is_nearest_and_nan_never_is():
  index, value = nearest(np.array([[np.nan, 0.5, 0.5], [np.nan] * 3]), np.ones((2, 3), bool))
  np.testing.assert_array_equal(index, [1, -1])
  np.testing.assert_array_equal(value, [0.5, np.nan])


def test_members_are_compared_as_by_brute_force_among_candidates_of_the_class():
  rng = np.random.default_rng(0)
  case = make_case(rng)._replace(candidate=rng.uniform(size=CLASSES * PER_CLASS) < 0.7)
  found = compare_members(*case)
  for i, label in enumerate(case.labels_recovered):
    among = np.flatnonzero(case.candidate & (case.labels == label))
    inside, outside = (among[case.member[among] == is_in] for is_in in (True, False))
    row = case.similarity[i]
    assert found.member[i] == inside[row[inside].argmax()]
    assert found.other[i] == outside[row[outside].argmax()]
    assert found.member_similarity[i] == row[inside].max()
    assert found.other_similarity[i] == row[outside].max()
    assert found.nearer[i] == (row[inside].max() > row[outside].max())


def test_a_class_without_members_or_candidates_has_none():
  case = make_case(np.random.default_rng(0), restarts=1)
  member, candidate = case.member & (case.labels != 1), case.labels != 2
  found = compare_members(*case._replace(member=member, candidate=candidate))
  np.testing.assert_array_equal(found.member >= 0, [True, False, False, True])
  np.testing.assert_array_equal(found.other >= 0, [True, True, False, True])
  np.testing.assert_array_equal(np.isnan(found.member_similarity), [False, True, True, False])
  assert not found.nearer[1] and not found.nearer[2]


def test_the_statistics_are_those_of_the_comparison():
  rng = np.random.default_rng(3)
  case = make_case(rng)._replace(candidate=rng.uniform(size=CLASSES * PER_CLASS) < 0.7)
  found, result = compare_members(*case), permutation_test(*case, np.random.default_rng(0), num=1)
  assert result.share == found.nearer.mean()
  margin = (found.member_similarity - found.other_similarity).mean()
  assert result.margin == pytest.approx(margin, abs=1e-12)


@pytest.mark.parametrize("together", [False, True])
def test_copies_of_members_are_found(together):
  rng = np.random.default_rng(0)
  examples = rng.standard_normal((CLASSES * PER_CLASS, PIXELS))
  cases = [make_case(rng, memory=1.0, examples=examples) for _ in range(4)]
  result = pooled_test(cases, rng, together=together)
  assert result.share == 1.0 and result.margin > 0.3
  assert result.p_share == result.p_margin == 0.001


def test_control_copies_of_candidates_that_were_not_trained_on_are_not():
  rng = np.random.default_rng(0)
  result = pooled_test([make_case(rng, memory=-1.0) for _ in range(4)], rng)
  assert result.share == 0.0 and result.margin < -0.3
  assert result.p_share == 1.0 and result.p_margin > 0.99


def test_a_weak_memory_is_found_in_many_models_and_not_in_one():
  rng = np.random.default_rng(0)
  cases = [make_case(rng, memory=0.2) for _ in range(30)]
  assert np.mean([pooled_test([case], rng, 99).p_margin > 0.05 for case in cases]) > 0.5
  result = pooled_test(cases, rng)
  assert result.p_margin < 0.01 and result.p_share < 0.05


def test_one_image_is_one_coin():
  """A perfect copy of a member, and still p is about one half: the other half would look so too."""
  rng = np.random.default_rng(0)
  case = make_case(rng, memory=1.0, restarts=1)
  case = case._replace(similarity=case.similarity[:1], labels_recovered=case.labels_recovered[:1])
  result = permutation_test(*case, rng)
  assert result.share == 1.0 and 0.4 < result.p_share < 0.6 and result.p_margin > 0.05


def test_one_class_with_many_equal_restarts_is_one_coin_too():
  rng = np.random.default_rng(0)
  case = make_case(rng, memory=1.0, restarts=1)
  case = case._replace(
    similarity=np.tile(case.similarity[:1], (20, 1)), labels_recovered=np.zeros(20, int)
  )
  assert 0.4 < permutation_test(*case, rng).p_share < 0.6


def alarms(draw, times=300, **options):
  """How often each p-value is at most 0.05 and at most 0.5, over many draws."""
  rng = np.random.default_rng(1)
  p_values = np.array([pooled_test(draw(rng), rng, 99, **options)[2:] for _ in range(times)])
  return [(p_values <= level).mean(0) for level in (0.05, 0.5)]


# Standard errors of 300 draws: 0.013 at 0.05, and 0.029 at 0.5.
def test_unrelated_images_raise_an_alarm_as_seldom_as_p_says():
  rare, half = alarms(lambda rng: [make_case(rng, restarts=1) for _ in range(2)])
  assert rare.max() <= 0.05 + 3 * 0.013 and rare[1] >= 0.05 - 3 * 0.013
  assert half[0] <= 0.5 + 3 * 0.029 and abs(half[1] - 0.5) <= 3 * 0.029


def equal_restarts(rng):
  case = make_case(rng, restarts=1)
  return [
    case._replace(
      similarity=np.repeat(case.similarity, 8, axis=0),
      labels_recovered=np.repeat(case.labels_recovered, 8),
    )
  ]


def test_equal_restarts_raise_no_more_alarms():
  rare, half = alarms(equal_restarts)
  assert rare.max() <= 0.05 + 3 * 0.013 and abs(half[1] - 0.5) <= 3 * 0.029


def test_control_coins_counted_once_a_restart_would():
  """A binomial test over images, the plain thing to do, calls equal restarts evidence."""
  from scipy import stats

  rng = np.random.default_rng(1)
  shares = [compare_members(*equal_restarts(rng)[0]).nearer for _ in range(100)]
  p_values = [stats.binomtest(x.sum(), len(x), alternative="greater").pvalue for x in shares]
  assert np.mean(np.array(p_values) <= 0.05) > 0.2


def look_alikes(rng, flips):
  """Models that recover the same images, on one half or, where flipped, on the other."""
  case = make_case(rng, restarts=1)
  return [case._replace(member=case.member ^ flip) for flip in flips]


@pytest.mark.parametrize("flips", [(False,) * 4, (False, True, False)])
def test_halves_that_models_share_are_dealt_together(flips):
  """Shared or complementary: one deal to all models is right for both."""
  rare, half = alarms(lambda rng: look_alikes(rng, flips), together=True)
  assert rare.max() <= 0.05 + 3 * 0.013 and abs(half[1] - 0.5) <= 3 * 0.029


def test_control_shared_halves_dealt_apart_raise_false_alarms():
  rare, _ = alarms(lambda rng: look_alikes(rng, (False,) * 4), times=100)
  assert rare.min() > 0.1


def test_complementary_halves_dealt_apart_are_cautious():
  rare, _ = alarms(lambda rng: look_alikes(rng, (False, True)), times=100)
  assert rare.max() == 0.0


def test_together_needs_the_same_candidates():
  rng = np.random.default_rng(0)
  cases = [make_case(rng), make_case(rng)]
  cases[1] = cases[1]._replace(candidate=cases[1].labels != 1)
  pooled_test(cases, rng, num=9)
  with pytest.raises(InputError, match="same candidates"):
    pooled_test(cases, rng, num=9, together=True)


def test_pooling_counts_every_image_once():
  rng = np.random.default_rng(0)
  cases = [make_case(rng, restarts=1), make_case(rng, restarts=3)]
  nearer = np.concatenate([compare_members(*case).nearer for case in cases])
  assert pooled_test(cases, rng, num=9).share == nearer.mean()


def test_images_whose_class_has_members_only_do_not_count():
  rng = np.random.default_rng(0)
  case = make_case(rng)
  without = case._replace(candidate=case.labels != 1)
  all_in = case._replace(member=case.member | (case.labels == 1))
  results = [permutation_test(*x, np.random.default_rng(0), num=9)[:2] for x in (without, all_in)]
  assert results[0] == results[1]
  nobody = permutation_test(*case._replace(member=np.zeros_like(case.member)), rng, num=9)
  assert np.isnan(nobody.share) and np.isnan(nobody.margin)
  assert nobody.p_share == nobody.p_margin == 1.0
  assert pooled_test([], rng).p_share == 1.0


def test_the_same_generator_gives_the_same_p_values():
  case = make_case(np.random.default_rng(0))
  first, again = (permutation_test(*case, np.random.default_rng(5)) for _ in range(2))
  assert first == again


def test_similarities_that_are_no_numbers_are_refused():
  """A NaN compares as false with everything, and would look like the strongest evidence."""
  case = make_case(np.random.default_rng(0))
  case.similarity[0] = np.nan
  with pytest.raises(InputError, match="not a finite number"):
    permutation_test(*case, np.random.default_rng(0))


def test_no_deal_is_no_test():
  with pytest.raises(InputError, match="at least once, not 0 times"):
    pooled_test([], np.random.default_rng(0), num=0)
