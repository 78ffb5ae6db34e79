"""Independent components that are pictures: pairs that are nearly the same, scales, stability."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from jaxinv.attacks.single import separation
from jaxinv.attacks.single.separation import detail, mend_pairs, separate

N, SHAPE = 6, (32, 24)


def leaves(number, seed=0, shape=SHAPE):
  """Images of rectangles placed at random, which hide each other: sharp edges, as photographs."""
  rng = np.random.default_rng(seed)
  images = np.full((number, *shape), 0.5)
  for image in images:
    for _ in range(30):
      (top, left), (height, width) = rng.integers(0, shape), rng.integers(3, 12, 2)
      image[top : top + height, left : left + width] = rng.uniform()
  return images


def near_twins():
  """Six pictures of which the first two are the same in the large, and differ in detail."""
  images = leaves(N)
  same = gaussian_filter(leaves(1, seed=1)[0], 2)
  images[:2] = same + 0.2 * (images[:2] - images[:2].mean((1, 2), keepdims=True))
  return images


def basis_of(images, seed=0):
  """Random mixtures of the images, as a change's singular vectors, and what a bias sees of them."""
  mixing = np.random.default_rng(seed).normal(size=(len(images), len(images)))
  return np.tensordot(mixing, images, 1), mixing.sum(1)


def whitened(images):
  """Mixtures of unit covariance, and the rows, nearest to orthonormal, that are the images."""
  parts = detail(images)
  parts = parts - parts.mean(1, keepdims=True)
  powers, vectors = np.linalg.eigh(parts @ parts.T / parts.shape[1])
  half = vectors * np.sqrt(powers)
  inverse = vectors / np.sqrt(powers)
  pixels = images.reshape(len(images), -1).T
  mixtures = separation._mixtures(inverse.T @ parts, pixels @ inverse, inverse.sum(0), 1.0)
  left, _, right = np.linalg.svd(half)
  return mixtures, left @ right


def turned(rows, angle=np.pi / 4):
  """The first two rows turned into each other: by an eighth, a difference and a sum."""
  rows = rows.copy()
  rows[:2] = separation._turn(angle) @ rows[:2]
  rows[:2] = rows[1::-1]
  return rows


# Pairs that are nearly the same.


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_sum_and_a_difference_are_turned_back_into_two_pictures(sign):
  twins = near_twins()
  assert np.corrcoef(twins[0].ravel(), twins[1].ravel())[0, 1] > 0.8
  mixtures, rows = whitened(twins)
  mixed = turned(rows)
  mixed[0] *= sign
  seen = np.abs(mixed @ np.asarray(mixtures.ones))
  assert seen.min() < 0.2 * np.median(seen)  # A bias does not see the difference.
  mended = mend_pairs(mixed, mixtures)
  # Each once, in any order.
  found = mended @ rows.T
  np.testing.assert_array_equal(np.sort(found.argmax(1)), np.arange(N))
  assert found.max(1).min() > 0.98
  np.testing.assert_allclose(mended @ mended.T, np.eye(N), atol=1e-9)


def test_pictures_that_are_found_are_left_alone():
  mixtures, rows = whitened(near_twins())
  np.testing.assert_array_equal(mend_pairs(rows, mixtures), rows)
  # Only the right way up.
  np.testing.assert_array_equal(mend_pairs(-rows, mixtures), rows)


def test_a_picture_of_much_detail_is_not_taken_for_a_difference():
  """A bias hardly sees it either, and turned with any partner it loses as much contrast."""
  images = leaves(N)
  images[1:] = 0.5 + 0.4 * (images[1:] - 0.5)
  mixtures, rows = whitened(images)
  seen = np.abs(rows @ np.asarray(mixtures.ones))
  assert seen[0] < 0.6 * np.median(seen)
  np.testing.assert_array_equal(mend_pairs(rows, mixtures), rows)


# Pixels in [0, 1].


def test_pictures_are_pulled_nowhere_and_what_leaves_the_range_is_pulled_into_it():
  twins = near_twins()
  mixtures, rows = whitened(twins)
  exact = np.linalg.lstsq(np.asarray(mixtures.images, float), twins.reshape(N, -1).T)[0].T
  mixed = turned(rows)
  still, near = (
    np.asarray(separation._nearest_pictures(mixtures, jnp.asarray(some, jnp.float32)))
    for some in (exact, mixed)
  )
  np.testing.assert_allclose(still, exact, atol=1e-4)

  def outside(rows):
    """How far the pixels of the difference, scaled so that a bias sees 1, leave the range."""
    pictures = np.asarray(mixtures.images) @ rows[0] / (rows[0] @ np.asarray(mixtures.ones))
    return np.abs(pictures - pictures.clip(0, 1)).mean()

  assert outside(near) < 0.5 * outside(mixed)


def test_a_picture_that_is_too_bright_is_pulled_down_where_a_bias_gives_the_scale():
  images = leaves(N)
  images[0] *= 2
  mixtures, _ = whitened(images)
  pixels = images.reshape(N, -1).astype(np.float32)
  exact = jnp.asarray(np.linalg.lstsq(np.asarray(mixtures.images), pixels.T)[0].T)
  pull = {
    largest: separation._nearest_pictures(mixtures._replace(largest=jnp.float32(largest)), exact)
    - exact
    for largest in (1.0, np.inf)
  }
  np.testing.assert_allclose(pull[np.inf], 0, atol=1e-4)
  assert np.abs(pull[1.0][0]).max() > 0.01
  np.testing.assert_allclose(pull[1.0][1:], 0, atol=1e-4)


# All together.


@pytest.mark.parametrize("largest", [1.0, np.inf])
@pytest.mark.parametrize("restarts", [1, 3])
def test_what_is_found_is_scaled_so_that_a_bias_sees_one(largest, restarts):
  images = leaves(N)
  basis, ones = basis_of(images)
  found, stability = separate(basis, ones, largest, restarts, 0)
  assert found.shape == (N, N) and stability.shape == (N,)
  np.testing.assert_allclose(ones @ found, 1, atol=1e-4)
  pictures = np.tensordot(found.T, basis, 1)
  order = np.corrcoef(pictures.reshape(N, -1), images.reshape(N, -1))[:N, N:].argmax(0)
  assert len(set(order)) == N
  assert np.abs(pictures[order] - images).mean() < 0.03


def recovered(images, seed=0):
  """Of each image, the correlation with the nearest picture found."""
  basis, ones = basis_of(images, seed)
  found, _ = separate(basis, ones, 1.0, 3, seed)
  flat = basis.reshape(len(basis), -1).T
  return np.corrcoef((flat @ found).T, images.reshape(len(images), -1))[N:, :N].max(1)


def test_twins_in_the_large_are_found():
  assert recovered(near_twins()).min() > 0.95


def test_mending_pays_where_pairs_have_edges_in_common(monkeypatch):
  """Half of each of two images is the same picture; without mending their difference is found."""

  def pairs():
    for seed in range(8):
      images = leaves(N, seed)
      images[:2] = (images[:2] + leaves(1, 100 + seed)) / 2
      yield recovered(images, seed)[:2].mean()

  mended = np.array([*pairs()])
  monkeypatch.setattr(separation, "mend_pairs", lambda rows, mixtures: rows)
  unmended = np.array([*pairs()])
  assert mended.mean() > unmended.mean() + 0.02
  assert (mended > unmended - 0.01).all()


def test_independent_starts_agree_on_pictures_and_not_on_noise():
  rng = np.random.default_rng(0)
  _, stability = separate(*basis_of(leaves(N)), 1.0, 4, 0)
  assert stability.min() > 0.85
  noise = rng.normal(size=(N, *SHAPE)), rng.normal(size=N)
  _, stability = separate(*noise, np.inf, 4, 0)
  assert stability.max() < 0.75 and np.median(stability) < 0.55


def test_control_nothing_of_the_pictures_is_in_mixtures_of_noise():
  _, ones = basis_of(leaves(N))
  found, _ = separate(np.random.default_rng(0).normal(size=(N, *SHAPE)), ones, 1.0, 3, 0)
  # Each of so many mixtures is a mixture still.
  mixing = np.abs(found) / np.linalg.norm(found, axis=0)
  assert np.median(mixing.max(0)) < 0.95
  assert np.isfinite(found).all()


def test_a_picture_of_no_detail_and_one_that_no_bias_sees_stay_finite():
  images = leaves(N)
  images[0] = 0.3
  basis, _ = basis_of(images)
  for ones in (np.zeros(N), np.ones(N)):
    found, stability = separate(basis, ones, 1.0, 2, 0)
    assert np.isfinite(found).all() and np.isfinite(stability).all()


def test_the_detail_in_which_starts_agree_is_taken(monkeypatch):
  """Columns of noise fill the differences across, and those down and then across have none."""
  images = leaves(N) + np.random.default_rng(0).normal(size=(N, 1, SHAPE[1]))
  basis, ones = basis_of(images)

  def median():
    """Of the images' correlations with what is found, in the detail that has no noise."""
    found, _ = separate(basis, ones, np.inf, 3, 0)
    seen, truth = (
      separation._mixed(some).reshape(N, -1) for some in (np.tensordot(found.T, basis, 1), images)
    )
    return np.median(np.abs(np.corrcoef(seen, truth)[:N, N:]).max(0))

  assert median() > 0.9
  monkeypatch.setattr(separation, "_DETAILS", separation._DETAILS[:1])
  assert median() < 0.85


def test_pictures_of_too_few_pixels_for_the_finest_detail_have_the_coarser_one():
  basis, ones = basis_of(leaves(N)[:, :4, :4])
  found, _ = separate(basis, ones, 1.0, 2, 0)
  assert np.isfinite(found).all()


def test_through_white_noise_blurred_pictures_are_told_apart(monkeypatch):
  """As where initial weights are not known: they are white noise in every mixture."""
  number = 16
  images = gaussian_filter(leaves(number, shape=(96, 80)), (0, 1, 1))
  basis, ones = basis_of(images)
  basis = basis + 0.1 * np.random.default_rng(0).normal(size=basis.shape)

  def median():
    found, _ = separate(basis, ones, np.inf, 3, 0)
    seen = gaussian_filter(np.tensordot(found.T, basis, 1), (0, 2, 2))
    both = np.concatenate([seen, images]).reshape(2 * number, -1)
    return np.median(np.abs(np.corrcoef(both)[:number, number:]).max(0))

  with_all = median()
  monkeypatch.setattr(separation, "_DETAILS", separation._DETAILS[:1])
  assert with_all > median() + 0.1
