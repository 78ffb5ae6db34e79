"""Feature maps tell the image that they are of, as far as the filters see it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.single.features import to_images


@pytest.fixture
def pictures():
  """Three pictures of 16 x 12 pixels with edges."""
  rng = np.random.default_rng(0)
  images = np.full((3, 16, 12), 0.5)
  for image in images:
    for _ in range(8):
      (top, left), (height, width) = rng.integers(0, (12, 8)), rng.integers(3, 8, 2)
      image[top : top + height, left : left + width] = rng.uniform(0.1, 0.9)
  return jnp.asarray(images, jnp.float32)


def filtered(images, seed=0):
  """Eight random filters of 5 x 5 at every second pixel, and their positive part."""
  filters = jax.random.normal(jax.random.key(seed), (5, 5, 1, 8)) / 5
  names = ("NHWC", "HWIO", "NHWC")
  seen = jax.lax.conv_general_dilated(
    images[..., None], filters, (2, 2), "SAME", dimension_numbers=names
  )
  return jax.nn.relu(seen)


def alike(found, pictures):
  """Of each picture, its correlation with what was found."""
  rows = [np.asarray(some).reshape(len(pictures), -1) for some in (found, pictures)]
  return np.diag(np.corrcoef(*rows)[:3, 3:])


def test_images_come_back_through_filters_that_halve_them(pictures):
  found = to_images(filtered, filtered(pictures), (16, 12))
  assert found.shape == pictures.shape and found.min() >= 0 and found.max() <= 1
  assert alike(found, pictures).min() > 0.9


def test_through_the_filters_of_another_model_they_do_not(pictures):
  found = to_images(filtered, filtered(pictures, seed=1), (16, 12))
  assert alike(found, pictures).max() < 0.8


def test_colour_is_kept(pictures):
  colours = jnp.stack([pictures, 1 - pictures, pictures[::-1]], -1)

  def each(images):
    return jnp.concatenate([filtered(images[..., c]) for c in range(3)], -1)

  found = to_images(each, each(colours), (16, 12, 3))
  for c in range(3):
    assert alike(found[..., c], colours[..., c]).min() > 0.9
