"""Recipes of inversions: made to suit a resolution, and what is out of range is refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks import inversion, recipes
from jaxinv.attacks.recipes import INVERSIONS, Inversion
from jaxinv.errors import InputError

RNG = np.random.default_rng(0)
total_variation = jax.jit(inversion.total_variation, static_argnums=1)


@pytest.mark.parametrize("name", INVERSIONS)
def test_a_recipe_for_16_by_16_is_itself_there(name):
  assert recipes.for_resolution(INVERSIONS[name], 16) == INVERSIONS[name]


def test_a_recipe_for_another_resolution_changes_in_lengths_total_variation_and_jitter():
  recipe = Inversion("noise", 7, 0.25, 4.0, (4, 2, 1), 0.5, 0.125, 3, True, 0.375)
  changed = {"step_size": 0.5, "radius": 8.0, "total_variation": 0.25, "jitter": 6}
  assert recipes.for_resolution(recipe, 32) == recipe._replace(**changed)
  changed = {"step_size": 0.125, "radius": 2.0, "total_variation": 1.0, "jitter": 2}
  assert recipes.for_resolution(recipe, 8) == recipe._replace(**changed)
  assert recipes.for_resolution(Inversion(radius=math.inf), 8).radius == math.inf


@pytest.mark.parametrize(
  ("jitter", "resolution", "expected"),
  [(0, 4, 0), (0, 64, 0), (1, 4, 1), (1, 8, 1), (1, 20, 1), (1, 28, 2), (2, 64, 8), (5, 12, 4)],
)
def test_jitter_is_a_share_of_the_image_and_does_not_vanish(jitter, resolution, expected):
  made = recipes.for_resolution(Inversion(jitter=jitter), resolution)
  assert made.jitter == expected and isinstance(made.jitter, int)


def test_in_a_picture_drawn_with_twice_the_pixels_a_side_lengths_and_priors_weigh_the_same():
  """Which is why they are scaled as they are."""
  # Eighths, of which all sums are exact.
  pictures = RNG.integers(0, 9, (2, 4, 16, 16, 3)).astype(np.float32) / 8
  large = pictures.repeat(2, axis=2).repeat(2, axis=3)
  small = Inversion(step_size=0.1, total_variation=0.25)
  twice = recipes.for_resolution(small, 32)
  before, after = (
    weight * np.array(total_variation(jnp.asarray(images.reshape(4, -1)), images.shape[1:]))
    for weight, images in ((small.total_variation, pictures[0]), (twice.total_variation, large[0]))
  )
  np.testing.assert_array_equal(after, before)
  assert (before > 0).all()
  before, after = (
    np.linalg.norm((images[1] - images[0]).reshape(4, -1).astype(float), axis=1) / length
    for length, images in ((small.step_size, pictures), (twice.step_size, large))
  )
  np.testing.assert_allclose(after, before, rtol=1e-12)


@pytest.mark.parametrize("resolution", [4, 8, 20, 32, 64])
def test_all_presets_suit_other_resolutions_when_made_to(resolution):
  for recipe in INVERSIONS.values():
    made = recipes.for_resolution(recipe, resolution)
    recipes.check(made, (resolution, resolution, 3))


def test_all_presets_suit_images_of_16_by_16():
  for recipe in INVERSIONS.values():
    recipes.check(recipe, (16, 16, 3))


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"start": "men"}, "unknown start 'men': choose from grey, mean, noise"),
    ({"steps": 0}, "at least 1 step"),
    ({"step_size": 0.0}, "step_size"),
    ({"step_size": math.nan}, "step_size"),
    ({"step_size": math.inf}, "step_size"),
    ({"radius": -1.0}, "radius"),
    ({"radius": math.nan}, "radius"),
    ({"total_variation": -0.1}, "total_variation"),
    ({"statistics": math.nan}, "statistics"),
    ({"spread": math.inf}, "spread"),
    ({"jitter": -1}, "jitter"),
    ({"jitter": 12}, "16 x 12 pixels"),
    ({"scales": ()}, "scales fall, and end at 1"),
    ({"scales": (4, 2)}, "such as 4-2-1; not '4-2'"),
    ({"scales": (2, 4, 1)}, "scales fall"),
    ({"scales": (2, 2, 1)}, "scales fall"),
    ({"scales": (1, 0)}, "scales fall"),
    ({"scales": (8, 1)}, "blocks of 8 do not fill 16 x 12"),
  ],
)
def test_what_makes_no_sense_is_refused_in_one_line(change, words):
  with pytest.raises(InputError, match=words) as refused:
    recipes.check(Inversion()._replace(**change), (16, 12, 3))
  assert "\n" not in str(refused.value)
