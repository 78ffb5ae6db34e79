"""Flips and shifts: every image that comes out is one that may, as often as it should."""

from functools import partial

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxinv.training.batches import flip_and_crop

KEY = jax.random.key(3)
SHAPE = (3, 4, 2)


@partial(jax.jit, static_argnums=(2, 3))
def change(key, images, shape, pad):
  return flip_and_crop(key, images, shape, pad)


def image_of(shape):
  """An image no two values of which are alike, so that no two changes of it are."""
  return np.random.default_rng(0).permutation(np.prod(shape)).astype(np.float32)


def possible(image, shape, pad):
  """Every flip and shift of an image by numpy: {bytes: (flip, down, right)}."""
  h, w, _ = shape
  found = {}
  for flip in (0, 1):
    flipped = image.reshape(shape)[:, :: -1 if flip else 1]
    wide = np.pad(flipped, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    for y in range(2 * pad + 1):
      for x in range(2 * pad + 1):
        found[wide[y : y + h, x : x + w].tobytes()] = flip, y, x
  return found


def counts(image, shape, pad, draws):
  """How often each possible change happens to many copies of one image; others raise."""
  names = possible(image, shape, pad)
  changed = np.asarray(change(KEY, jnp.tile(image[None], (draws, 1)), shape, pad))
  total = np.zeros((2, 2 * pad + 1, 2 * pad + 1), int)
  for row in changed:
    total[names[row.tobytes()]] += 1
  return total


@pytest.mark.parametrize("shape, pad", [((3, 4, 2), 1), ((5, 6, 3), 2), ((6, 9, 1), 2)])
def test_every_flip_and_shift_happens_equally_often_and_nothing_else(shape, pad):
  total = counts(image_of(shape), shape, pad, draws=4000)
  assert len(possible(image_of(shape), shape, pad)) == total.size  # No two look alike.
  chance = 1 / total.size
  assert np.abs(total - 4000 * chance).max() < 5 * np.sqrt(4000 * chance * (1 - chance))
  assert abs(total[1].sum() - 2000) < 5 * np.sqrt(4000 / 4)


def test_control_a_wider_shift_is_none_of_the_possible():
  with pytest.raises(KeyError):
    image, names = image_of(SHAPE), possible(image_of(SHAPE), SHAPE, 1)
    for row in np.asarray(change(KEY, jnp.tile(image[None], (50, 1)), SHAPE, 2)):
      names[row.tobytes()]


def test_without_shifts_there_are_flips_only_of_half_the_images():
  image = image_of(SHAPE)
  mirrored = image.reshape(SHAPE)[:, ::-1].ravel()
  assert set(possible(image, SHAPE, 0)) == {image.tobytes(), mirrored.tobytes()}
  total = counts(image, SHAPE, 0, draws=1000)
  assert abs(total[0].sum() - 500) < 5 * np.sqrt(1000 / 4)


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(st.integers(0, 2**31), st.integers(0, 1))
def test_each_image_of_a_batch_is_a_change_of_itself(seed, pad):
  images = np.random.default_rng(seed).uniform(size=(6, 24)).astype(np.float32)
  for image, changed in zip(images, np.asarray(change(KEY, images, SHAPE, pad)), strict=True):
    assert changed.tobytes() in possible(image, SHAPE, pad)


def test_an_image_of_one_row_or_column_may_be_shifted_too():
  for shape in ((1, 4, 1), (4, 1, 3), (1, 1, 3)):
    image = image_of(shape)
    changed = np.asarray(change(KEY, image[None], shape, 2))
    assert changed[0].tobytes() in possible(image, shape, 2)


def test_a_draw_depends_on_the_place_and_the_key_alone():
  images = np.random.default_rng(1).uniform(size=(9, 24)).astype(np.float32)
  whole = change(KEY, images, SHAPE, 1)
  np.testing.assert_array_equal(change(KEY, images[:4], SHAPE, 1), whole[:4])
  others = images.copy()
  others[1:] = 0.5
  np.testing.assert_array_equal(change(KEY, others, SHAPE, 1)[0], whole[0])


def test_keys_decide_and_places_differ():
  image = image_of(SHAPE)
  same = jnp.tile(image[None], (40, 1))
  changed = np.asarray(change(KEY, same, SHAPE, 1))
  np.testing.assert_array_equal(change(KEY, same, SHAPE, 1), changed)
  assert len({row.tobytes() for row in changed}) > 5
  assert (np.asarray(change(jax.random.key(4), same, SHAPE, 1)) != changed).any()


def test_mapped_over_runs_it_is_the_loop():
  images = jnp.asarray(np.random.default_rng(2).uniform(size=(3, 5, 24)).astype(np.float32))
  keys = jax.random.split(KEY, 3)
  mapped = jax.jit(jax.vmap(lambda key, x: flip_and_crop(key, x, SHAPE, 1)))(keys, images)
  looped = [change(key, x, SHAPE, 1) for key, x in zip(keys, images, strict=True)]
  np.testing.assert_array_equal(mapped, jnp.stack(looped))
  assert (np.asarray(mapped[0]) != np.asarray(mapped[1])).any()
