"""Moran's I against its definition, its null against theory, and the test against false alarms."""

import itertools

import jax
import ml_dtypes
import numpy as np
import pytest
from scipy import stats

from jaxinv.metrics import structure
from jaxinv.metrics.stats import benjamini_hochberg

SHAPE = (28, 28, 1)
NUM_UNITS = 1000


@pytest.fixture(scope="module")
def null():
  return structure.permutation_null(SHAPE)


def by_definition(image):
  """Moran's I with the matrix of weights written out; of one channel."""
  height, width = image.shape
  places = np.array(list(itertools.product(range(height), range(width))))
  weights = np.abs(places[:, None] - places[None]).sum(-1) == 1
  z = image.ravel() - image.mean()
  return z.size / weights.sum() * (z @ weights @ z) / (z @ z)


def smooth(shape, count, seed=0):
  """Waves of different directions and lengths, of unit variance."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[: shape[0], : shape[1]]
  waves = rng.uniform(0.5, 1.5, (2, count, 1, 1)) * rng.choice([-1, 1], (2, count, 1, 1))
  angle = 2 * np.pi * (waves[0] * y[None] / shape[0] + waves[1] * x[None] / shape[1])
  images = np.sin(angle + rng.uniform(0, 6, (count, 1, 1)))[..., None]
  return (images - images.mean((1, 2), keepdims=True)) / images.std((1, 2), keepdims=True)


def test_small_images_by_hand():
  images = {
    ((1, 2), (3, 4)): 0.0,  # The pairs along rows give 2 * 0.75, along columns -2 * 0.75.
    ((1, 1), (0, 0)): 0.0,
    ((1, 0), (0, 1)): -1.0,
    # Each of the twelve pairs joins -1 with 1 on the rim of a mean of 0: 9 / 24 * 2 * (-8) / 8.
    ((1, -1, 1), (-1, 0, -1), (1, -1, 1)): -0.75,
    # Rows of -1, 0, 1: along rows 2 + 0 + 2, along columns 0: 9 / 24 * 2 * 4 / 6.
    ((-1, -1, -1), (0, 0, 0), (1, 1, 1)): 0.5,
  }
  for image, wanted in images.items():
    found = structure.morans_i(np.array(image, np.float32)[None, ..., None])
    np.testing.assert_allclose(found, [wanted], atol=1e-12)


def test_a_checkerboard_is_minus_one_and_a_gradient_almost_one():
  y, x = np.mgrid[:112, :92]
  images = np.stack([(x + y) % 2, x + y, y]).astype(np.float32)[..., None]
  found = structure.morans_i(images)
  assert found[0] == -1 and (found[1:] > 0.98).all()


@pytest.mark.parametrize("shape", [(1, 7), (5, 1), (4, 6), (9, 8)])
def test_it_is_what_the_definition_says(shape):
  images = np.random.default_rng(1).gamma(0.3, size=(3, *shape, 1))
  wanted = [by_definition(image[..., 0]) for image in images]
  np.testing.assert_allclose(structure.morans_i(images), wanted, rtol=1e-9)


def test_channels_are_not_neighbours_and_their_offsets_no_structure():
  rng = np.random.default_rng(2)
  images = rng.standard_normal((4, 6, 5, 3)) * [1.0, 2.0, 0.5]
  z = images - images.mean((1, 2), keepdims=True)
  products = (z[:, 1:] * z[:, :-1]).sum((1, 2, 3)) + (z[:, :, 1:] * z[:, :, :-1]).sum((1, 2, 3))
  wanted = 6 * 5 / (5 * 5 + 6 * 4) * products / np.square(z).sum((1, 2, 3))
  for moved in (images, images + np.array([0.0, 10.0, -5.0])):
    np.testing.assert_allclose(structure.morans_i(moved), wanted, rtol=1e-9)


def test_scale_sign_and_offset_do_not_matter(null):
  images = (0.2 * smooth(SHAPE, 5) + np.random.default_rng(3).standard_normal((5, *SHAPE))).astype(
    np.float32
  )
  wanted = structure.blind_scores(images, null)
  factors = np.array([1e38, -1e-30, -3.0, 1e-38], np.float32)
  others = [images / 8 * factor for factor in factors]
  others += [images.astype(np.float64) * 1e300, images.astype(np.float64) - 100]
  for other in others:
    found = structure.blind_scores(other, null)
    np.testing.assert_allclose(found.morans_i, wanted.morans_i, atol=1e-5)
    np.testing.assert_allclose(found.p_values, wanted.p_values, rtol=1e-2, atol=2e-4)


def test_what_has_no_structure_to_tell_of_is_noise(null):
  images = np.random.default_rng(4).standard_normal((5, *SHAPE)).astype(np.float32)
  images[0], images[1] = 0.1, 0.0
  images[2, 3, 3], images[3, 3, 3], images[4, 0, 0] = np.nan, np.inf, -np.inf
  found = structure.blind_scores(images, null)
  np.testing.assert_array_equal(found.morans_i, 0)
  np.testing.assert_array_equal(found.p_values, 1)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (1, 2, 1)])
def test_too_few_pixels_say_nothing(shape):
  images = np.random.default_rng(5).standard_normal((6, *shape)).astype(np.float32)
  found = structure.blind_scores(images, structure.permutation_null(shape, 99))
  np.testing.assert_array_equal(found.p_values, 1)
  assert np.isfinite(found.morans_i).all()


def test_no_images_have_no_scores(null):
  found = structure.blind_scores(np.zeros((0, *SHAPE), np.float32), null)
  assert len(found.morans_i) == len(found.p_values) == 0
  assert len(benjamini_hochberg(found.p_values)) == 0


def test_a_null_of_another_shape_is_refused(null):
  with pytest.raises(ValueError, match="null"):
    structure.blind_scores(np.zeros((1, 28, 27, 1), np.float32), null)


@pytest.mark.parametrize("shape", [(2, 2, 1), (2, 3, 1), (1, 6, 1), (4, 2, 1)])
def test_the_moments_are_those_of_all_permutations(shape):
  size = shape[0] * shape[1]
  everything = np.array(list(itertools.permutations(range(size))), np.float64)
  values = structure.morans_i(everything.reshape(-1, *shape))
  np.testing.assert_allclose(
    structure.permutation_moments(shape), (values.mean(), values.var()), atol=1e-12
  )


@pytest.mark.parametrize("shape", [(8, 8, 1), (13, 11, 1), (7, 5, 3)])
def test_the_null_has_the_moments_of_theory(shape):
  null = structure.permutation_null(shape, 40_000)
  z = (null.draws - null.mean) / null.deviation
  # Four standard errors of each: the kurtosis is about normal.
  assert abs(z.mean()) < 4 / 200 and abs(z.var() - 1) < 4 * np.sqrt(2) / 200
  assert null.mean == -1 / (shape[0] * shape[1] - 1)


def test_the_null_is_sorted_and_the_same_for_the_same_seed(null):
  assert len(null.draws) == 9_999 and (np.diff(null.draws) >= 0).all()
  small = [structure.permutation_null((5, 4, 2), 50, seed).draws for seed in (1, 1, 2)]
  np.testing.assert_array_equal(small[0], small[1])
  assert (small[0] != small[2]).any()


def test_large_images_take_fewer_draws(monkeypatch):
  monkeypatch.setattr(structure, "_MOST_PERMUTED", 200 * 28 * 28)
  assert len(structure.permutation_null(SHAPE, 9_999).draws) == 200
  monkeypatch.setattr(structure, "_MOST_PERMUTED", 1)
  assert len(structure.permutation_null(SHAPE, 9_999).draws) == 99


def test_p_falls_as_autocorrelation_rises_with_no_jump_at_the_tail(null):
  """Of images that are ranks already, the first statistic is the I that is shown."""
  rng = np.random.default_rng(6)
  mixed = np.linspace(0, 2, 2000)[:, None, None, None] * smooth(SHAPE, 2000)
  mixed += rng.standard_normal(mixed.shape)
  ranks = mixed.reshape(2000, -1).argsort(1).argsort(1).reshape(mixed.shape).astype(np.float32)
  observed = structure.morans_i(ranks)
  order = np.argsort(observed)
  p_values = structure._p_values(observed, null)[order]
  assert (np.diff(p_values) <= 0).all()
  assert p_values[0] > 0.3 and 0 < p_values[-1] < 1e-50
  # Where the tail takes over, both say much the same.
  near = (p_values > 2e-4) & (p_values < 5e-3)
  z = (observed[order] - null.mean) / null.deviation
  assert near.sum() > 20
  ratio = p_values[near] / stats.norm.sf(z[near])
  assert ((ratio > 0.5) & (ratio < 2)).all()


def test_p_is_never_zero():
  y, x = np.mgrid[:112, :92]
  null = structure.permutation_null((112, 92, 1), 99)
  found = structure.blind_scores((x + 100.0 * y)[None, ..., None], null)
  np.testing.assert_allclose(found.p_values, [2e-300])


@pytest.mark.parametrize("shape", [(3, 3, 1), (2, 4, 1)])
def test_tiny_images_are_tested_exactly(shape):
  """A permutation of few pixels takes few values, which the null meets again and again."""
  everything = itertools.islice(itertools.permutations(range(shape[0] * shape[1])), 0, None, 97)
  images = np.array(list(everything), np.float32).reshape(-1, *shape)
  found = structure.blind_scores(images, structure.permutation_null(shape))
  for level in (0.01, 0.05, 0.2):
    assert (found.p_values <= level).mean() <= level + 0.015


@pytest.mark.parametrize("shape", [(8, 8, 1), (13, 11, 1)])
def test_the_tail_is_near_a_long_simulation(shape):
  null, level = structure.permutation_null(shape, 400_000, seed=7), 3e-4
  reached = null.draws[-int(level * len(null.draws))]
  tail = stats.norm.sf((reached - null.mean) / null.deviation)
  assert 0.65 * level < tail < 1.3 * level  # 120 draws are above it.


def sparse(rng, share=0.9):
  kept = rng.random((NUM_UNITS, *SHAPE)) > share
  return np.where(kept, rng.standard_normal(kept.shape), 0.0)


def by_jax(name, **options):
  kernel = getattr(jax.nn.initializers, name)(**options)(jax.random.key(8), (784, NUM_UNITS))
  return lambda rng: np.asarray(kernel).T.reshape(NUM_UNITS, *SHAPE)


def one_hot(rng):
  return np.eye(784)[rng.integers(0, 784, NUM_UNITS)].reshape(NUM_UNITS, *SHAPE)


INITIALIZERS = {
  "normal": by_jax("normal"),
  "uniform": by_jax("uniform"),
  "truncated normal": by_jax("truncated_normal"),
  "orthogonal": by_jax("orthogonal"),
  "glorot uniform": by_jax("glorot_uniform"),
  "glorot normal": by_jax("glorot_normal"),
  "he normal": by_jax("he_normal"),
  "he uniform": by_jax("he_uniform"),
  "sparse": sparse,
  "very sparse": lambda rng: sparse(rng, 0.995),
  "one hot pixel": one_hot,
  "ternary": lambda rng: rng.integers(-1, 2, (NUM_UNITS, *SHAPE)),
  "signs": lambda rng: rng.choice([-0.1, 0.1], (NUM_UNITS, *SHAPE)),
  "eight bits": lambda rng: np.round(20 * rng.standard_normal((NUM_UNITS, *SHAPE))),
  "Student t": lambda rng: rng.standard_t(1.5, (NUM_UNITS, *SHAPE)),
  "with an offset": lambda rng: 1000 + rng.standard_normal((NUM_UNITS, *SHAPE)),
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_random_weights_raise_the_nominal_share_of_false_alarms(null, name):
  weights = INITIALIZERS[name](np.random.default_rng(9))
  found = structure.blind_scores(weights.astype(np.float32), null)
  for level in (0.01, 0.05, 0.5):
    alarms = int((found.p_values <= level).sum())
    # Of two values only, those and their distances from the mean are the same test: too few alarms.
    side = "greater" if name == "signs" else "two-sided"
    assert stats.binomtest(alarms, NUM_UNITS, level, side).pvalue > 1e-3, (level, alarms)
  assert (benjamini_hochberg(found.p_values) <= 0.05).mean() <= 0.05


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_so_do_those_of_another_precision(null, dtype):
  weights = np.random.default_rng(10).standard_normal((NUM_UNITS, *SHAPE)).astype(dtype)
  alarms = int((structure.blind_scores(weights, null).p_values <= 0.05).sum())
  assert stats.binomtest(alarms, NUM_UNITS, 0.05).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 7, 3), (3, 3, 8)])
def test_so_do_small_images_and_those_with_channels(shape):
  weights = np.random.default_rng(11).standard_normal((NUM_UNITS, *shape)).astype(np.float32)
  found = structure.blind_scores(
    weights * np.arange(1, shape[2] + 1, dtype=np.float32), _null(shape)
  )
  alarms = int((found.p_values <= 0.05).sum())
  assert stats.binomtest(alarms, NUM_UNITS, 0.05).pvalue > 1e-3


def _null(shape):
  return structure.permutation_null(shape)


@pytest.mark.parametrize("spoilt", [False, True])
def test_faint_structure_is_found_and_gone_once_pixels_are_shuffled(null, spoilt):
  """A wave with a tenth of the noise's variance; under hot pixels too, for ranks are tested."""
  rng = np.random.default_rng(12)
  images = 0.33 * smooth(SHAPE, 300, seed=13) + rng.standard_normal((300, *SHAPE))
  if spoilt:
    images.reshape(300, -1)[:, [100, 399, 500]] = 1e6
  shuffled = rng.permuted(images.reshape(300, -1), axis=1).reshape(images.shape)
  share = [
    (benjamini_hochberg(structure.blind_scores(x, null).p_values) <= 0.05).mean()
    for x in (images, shuffled)
  ]
  assert share[0] > 0.85 and share[1] <= 0.05


def test_structure_of_the_opposite_kind_is_no_alarm(null):
  y, x = np.mgrid[:28, :28]
  noise = np.random.default_rng(14).standard_normal((20, *SHAPE))
  found = structure.blind_scores(noise + ((x + y) % 2)[None, ..., None], null)
  assert (benjamini_hochberg(found.p_values) > 0.2).all()
  assert (found.morans_i < -0.1).all()


def test_where_training_moved_weights_is_structure_though_neighbours_are_unlike(null):
  """A disc of noise on a quiet ground, as digits leave it: its pixels' values tell nothing."""
  y, x = np.mgrid[:28, :28]
  disc = ((y - 14) ** 2 + (x - 14) ** 2 < 60)[None, ..., None]
  noise = np.random.default_rng(17).standard_normal((200, *SHAPE))
  found = structure.blind_scores(noise * (0.2 + disc), null)
  assert (benjamini_hochberg(found.p_values) <= 0.01).all()
  assert np.abs(found.morans_i).mean() < 0.1


def test_images_are_scored_alike_however_they_are_cut_into_parts(null, monkeypatch):
  images = np.random.default_rng(15).integers(0, 4, (50, *SHAPE)).astype(np.float32)
  images[:25] += np.random.default_rng(16).standard_normal((25, *SHAPE), dtype=np.float32)
  whole = structure.blind_scores(images, null)
  monkeypatch.setattr(structure, "_CHUNK", 3 * 784)
  parts = structure.blind_scores(images, null)
  for a, b in zip(whole, parts, strict=True):
    np.testing.assert_array_equal(a, b)
  # Without ties neither its neighbours nor the seed matter.
  alone = structure.blind_scores(images[7:9], null, seed=1)
  np.testing.assert_array_equal(alone.p_values, whole.p_values[7:9])
