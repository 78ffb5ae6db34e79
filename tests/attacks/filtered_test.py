"""Attackers that filter: noise is taken off, what is smooth stays, and nothing is put there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.ndimage

from jaxinv.attacks import filtered
from jaxinv.attacks.attack import denoised, denoised_diff, denoised_others, denoised_seed_mean
from jaxinv.errors import InputError
from jaxinv.metrics.images import ncc
from jaxinv.types import Release

K, SHAPE = 8, (40, 32)


def rng(seed=0):
  return np.random.default_rng(seed)


def smooth(number, shape=SHAPE, exponent=3.0, seed=1):
  """Images whose power falls off with frequency as a face's does, of variance 1."""
  height, width = shape
  frequency = np.hypot(np.arange(height)[:, None] / height, np.arange(width)[None] / width)
  frequency[0, 0] = np.inf
  waves = rng(seed).standard_normal((number, *shape)) * frequency ** (-exponent / 2)
  images = scipy.fft.idctn(waves, axes=(1, 2), norm="ortho")
  return (images / images.std((1, 2), keepdims=True)).astype(np.float32)


def white(size, number=K, shape=SHAPE, seed=2):
  return (size * rng(seed).standard_normal((number, *shape))).astype(np.float32)


def release_of(images, **fields):
  return Release({"kernel": images.reshape(len(images), -1).T}, **fields)


def likeness(images, truth):
  return float(jax.vmap(ncc)(jnp.asarray(images), jnp.asarray(truth)).mean())


def test_the_transform_is_scipys():
  images = white(1.0)
  expected = scipy.fft.dctn(images - images.mean((1, 2), keepdims=True), axes=(1, 2), norm="ortho")
  coefficients = filtered.cosine_transform(jnp.asarray(images))
  np.testing.assert_allclose(coefficients, expected, atol=2e-5)
  np.testing.assert_allclose(
    filtered._inverse(coefficients), images - images.mean((1, 2), keepdims=True), atol=2e-5
  )


@pytest.mark.parametrize(("size", "exponent"), [(0.3, 3.0), (1.0, 2.5), (5.0, 2.0)])
def test_noise_and_spectrum_are_found(size, exponent):
  images = smooth(40, (56, 46), exponent) + white(size, 40, (56, 46))
  found = filtered.fit_spectrum(filtered.cosine_transform(jnp.asarray(images)))
  assert float(found.noise) == pytest.approx(size**2, rel=0.1)
  assert float(found.exponent) == pytest.approx(exponent, abs=0.5)


@pytest.mark.parametrize("size", [0.1, 1.0, 4.0, 10.0])
def test_it_does_better_than_any_blur_fixed_beforehand(size):
  """Within 0.01 of the best of them, which a user could not choose without the truth.

  What is learned is whiter than the truth, as weights are.
  """
  truth, learned = smooth(K, exponent=3.4), smooth(K, exponent=3.0)
  noisy = learned + white(size)
  blurs = [
    likeness(scipy.ndimage.gaussian_filter(noisy, (0, sigma, sigma)), truth)
    for sigma in (0, 1, 2, 4, 6)
  ]
  found = likeness(denoised(release_of(noisy), SHAPE), truth)
  assert found > max(blurs) - 0.01
  assert found > likeness(noisy, truth) + (0.2 if size >= 1 else 0)


def test_control_of_noise_alone_nothing_is_recovered():
  found = denoised(release_of(white(1.0)), SHAPE)
  assert abs(likeness(found, smooth(K))) < 0.2
  assert np.isfinite(found).all()


def test_without_noise_little_is_lost():
  truth = smooth(K)
  assert likeness(denoised(release_of(truth), SHAPE), truth) > 0.97


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12])
def test_the_unit_does_not_matter(scale):
  noisy = smooth(K) + white(1.0)
  one = denoised(release_of(noisy), SHAPE)
  other = denoised(release_of(noisy * np.float32(scale)), SHAPE)
  np.testing.assert_allclose(other / np.float32(scale), one, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 6), (1, 5), (7, 7), (12, 10, 3)])
def test_images_of_any_shape(shape):
  images = rng().standard_normal((3, *shape)).astype(np.float32)
  for attack in (denoised, denoised_others):
    held = release_of(images, others=jnp.zeros((2, 1, np.prod(shape))))
    found = attack(held, shape)
    assert found.shape == images.shape and np.isfinite(found).all()


def test_constant_images_become_zeros():
  found = denoised(release_of(np.full((K, *SHAPE), 3.0, np.float32)), SHAPE)
  np.testing.assert_allclose(found, 0, atol=1e-4)


def test_channels_are_filtered_each_by_itself():
  noisy = np.stack([smooth(K, seed=i) + white(1.0, seed=9 + i) for i in range(3)], -1)
  found = denoised(release_of(noisy), (*SHAPE, 3))
  together = filtered.wiener(jnp.asarray(np.moveaxis(noisy, 3, 1).reshape(-1, *SHAPE)))
  np.testing.assert_allclose(np.moveaxis(found, 3, 1).reshape(-1, *SHAPE), together, atol=1e-5)


def test_the_other_two_filter_what_their_linear_attacks_show():
  first, noise = white(5.0), white(1.0, seed=3)
  learned = smooth(K)
  init = {"kernel": first.reshape(K, -1).T}
  found = denoised_diff(release_of(first + learned + noise, init_params=init), SHAPE)
  np.testing.assert_allclose(found, denoised(release_of(learned + noise), SHAPE), atol=1e-4)
  peers = {"kernel": np.stack([learned + noise, learned - noise]).reshape(2, K, -1).swapaxes(1, 2)}
  mean = denoised_seed_mean(Release(None, peers=peers), SHAPE)
  np.testing.assert_allclose(mean, denoised(release_of(learned), SHAPE), atol=1e-5)
  with pytest.raises(InputError, match="initial weights"):
    denoised_diff(release_of(learned), SHAPE)


# With other people's photographs.


def people(number, shape=SHAPE, components=12, seed=5):
  """Faces that differ along few directions, as aligned ones do: (images, the directions)."""
  directions = smooth(components, shape, 2.0, seed)
  weights = rng(seed + 1).standard_normal((number, components)).astype(np.float32)
  return np.einsum("nc,chw->nhw", weights, directions)


def held(noise, own=None):
  """Noisy weights of 8 people, and 5 photographs of each; `own` in place of the first person's."""
  truth = people(K)
  photographs = np.repeat(truth, 5, 0) + 0.3 * white(1.0, 5 * K, seed=8)
  labels = np.repeat(np.arange(K), 5)
  if own is not None:
    photographs[labels == 0] = own * white(1.0, 5, seed=9)
  others = filtered.components(photographs.reshape(5 * K, -1), labels, SHAPE)
  return truth, release_of(truth + white(noise), others=others)


def test_components_are_orthonormal_and_of_the_other_half():
  truth, release = held(1.0)
  for basis, half in zip(release.others, (truth[1::2], truth[::2]), strict=True):
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-5)
    rows = filtered.cosine_transform(jnp.asarray(half - half.mean(0))).reshape(K // 2, -1)
    spanned = np.square(rows @ basis.T).sum(1) / np.square(rows).sum(1)
    assert (spanned > 0.9).all()


def test_who_knows_faces_sees_more_through_much_noise():
  truth, release = held(10.0)
  known, plain = (likeness(a(release, SHAPE), truth) for a in (denoised_others, denoised))
  assert known > plain + 0.02


def test_a_persons_own_photographs_are_not_used_for_the_person():
  _, release = held(10.0)
  _, other = held(10.0, own=7.0)
  one, two = (denoised_others(it, SHAPE) for it in (release, other))
  np.testing.assert_array_equal(one[::2], two[::2])
  assert np.abs(one[1] - two[1]).max() > 1e-3  # Another's are.


def test_photographs_are_asked_for():
  with pytest.raises(InputError, match="other people's photographs"):
    denoised_others(release_of(smooth(K)), SHAPE)
