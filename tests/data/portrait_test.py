"""A portrait is a pure function of person and view: in [0, 1], and the view moves what is seen."""

import jax
import numpy as np
import pytest

from jaxinv.data.person import PERSON_RANGES, POSE_RANGES, VIEW_RANGES, Person, View, settle
from jaxinv.data.portrait import photograph

SHAPE = (24, 20)


def middle(kind, ranges):
  """Every number in the middle of its range."""
  return kind(*(np.float32((low + high) / 2) for low, high in ranges.values()))


@pytest.fixture(scope="module")
def person():
  return settle(middle(Person, PERSON_RANGES))


@pytest.fixture(scope="module")
def paint(person):
  return jax.jit(lambda view, pose: photograph(person, view, pose, SHAPE))


def test_a_portrait_has_its_shape_and_shades_in_the_unit_interval(paint):
  image = np.asarray(paint(middle(View, VIEW_RANGES), np.float32(1)))
  assert image.shape == SHAPE
  assert image.min() >= 0 and image.max() <= 1 and np.ptp(image) > 0.2


@pytest.mark.parametrize("name", POSE_RANGES)
def test_pose_moves_what_is_seen_and_scale_0_forgets_it(paint, name):
  view = middle(View, VIEW_RANGES)
  moved = view._replace(**{name: np.float32(VIEW_RANGES[name][1])})
  still, scaled = (np.asarray(paint(moved, np.float32(pose))) for pose in (0, 1))
  np.testing.assert_array_equal(still, paint(view, np.float32(0)))
  assert np.abs(scaled - still).max() > 0.01


def test_exposure_brightens_the_whole_portrait(paint):
  view = middle(View, VIEW_RANGES)
  dark, bright = (
    np.asarray(paint(view._replace(exposure=np.float32(exposure)), np.float32(1)))
    for exposure in (0.5, 0.6)
  )
  assert (bright >= dark).all() and bright.mean() > dark.mean()
