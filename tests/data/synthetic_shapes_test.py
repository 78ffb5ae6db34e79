"""Drawn objects: the same for the same seed, balanced, within their ranges, and told by shape."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.data.synthetic_shapes import NAMES, synthetic_shapes
from jaxinv.errors import InputError

# The room offers the function by the name of its module.
shapes = sys.modules["jaxinv.data.synthetic_shapes"]


@pytest.fixture(scope="module")
def data():
  return synthetic_shapes(0, 1500, 500)


def images(dataset):
  return dataset.inputs.reshape(-1, *dataset.image_shape)


def test_the_form(data):
  for side, count in zip(data, (1500, 500), strict=True):
    assert side.inputs.shape == (count, 16 * 16 * 3) and side.inputs.dtype == np.float32
    assert side.labels.shape == (count,) and side.labels.dtype == np.int32
    assert side.image_shape == (16, 16, 3) and side.num_classes == 10 and side.names == NAMES
    assert side.inputs.min() >= 0 and side.inputs.max() <= 1
    assert (side.inputs.std(1) > 0.02).all()  # No image is blank.


def test_every_ten_images_show_the_ten_classes_in_some_order(data):
  tens = data.train.labels.reshape(-1, 10)
  np.testing.assert_array_equal(np.sort(tens, 1), np.tile(np.arange(10), (150, 1)))
  assert len({tuple(ten) for ten in tens}) == 150
  # At each place of ten a class is about as often as any other: 15 times, with deviation 3.7.
  counts = np.stack([np.bincount(place, minlength=10) for place in tens.T])
  assert counts.min() >= 2 and counts.max() <= 32


def test_the_same_seed_gives_the_same_bits(data):
  again = synthetic_shapes(0, 1500, 500)
  for a, b in zip(again, data, strict=True):
    np.testing.assert_array_equal(a.inputs, b.inputs)
    np.testing.assert_array_equal(a.labels, b.labels)


@pytest.mark.parametrize(("num_train", "num_test"), [(10, 10), (37, 499), (501, 120)])
def test_the_first_images_do_not_depend_on_how_many_follow(num_train, num_test, data):
  for a, b in zip(synthetic_shapes(0, num_train, num_test), data, strict=True):
    np.testing.assert_array_equal(a.inputs, b.inputs[: len(a.inputs)])
    np.testing.assert_array_equal(a.labels, b.labels[: len(a.labels)])


def test_no_image_is_there_twice_and_streams_are_apart(data):
  rows = np.concatenate(
    [*(side.inputs for side in data), synthetic_shapes(1, 500, 500).test.inputs]
  )
  assert len(np.unique(rows, axis=0)) == len(rows)
  assert (data.train.labels[:500] != data.test.labels).mean() > 0.8
  correlations = np.corrcoef(data.train.inputs[:300], data.test.inputs[:300])[:300, 300:]
  # Images of the same number are no more alike than others.
  assert abs(np.diagonal(correlations).mean() - correlations.mean()) < 0.1


def test_other_seeds_and_counts_compile_nothing_anew(data):
  count = shapes._draw_chunk._cache_size()
  for seed, number in ((-1, 10), (2**31, 77), (7, 600)):
    synthetic_shapes(seed, number, 10)
  assert shapes._draw_chunk._cache_size() == count


def test_the_images_are_the_same_in_double_precision(data):
  with jax.enable_x64(True):
    double = synthetic_shapes(0, 20, 10)
  np.testing.assert_array_equal(double.train.inputs, data.train.inputs[:20])
  assert double.train.labels.dtype == np.int32


@pytest.mark.parametrize("resolution", [8, 9, 64])
def test_other_sizes(resolution):
  train = synthetic_shapes(3, 10, 10, resolution).train
  assert train.image_shape == (resolution, resolution, 3)
  assert train.inputs.shape == (10, resolution * resolution * 3)
  assert np.isfinite(train.inputs).all() and train.inputs.std(1).min() > 0.02


def test_a_small_image_is_the_large_one_reduced(data):
  large = images(synthetic_shapes(0, 200, 10, 32).train)
  reduced = large.reshape(200, 16, 2, 16, 2, 3).mean((2, 4))
  difference = reduced - images(data.train)[:200]
  assert np.sqrt((difference**2).mean()) < 1.5 * shapes._NOISE


# ---- What is drawn -------------------------------------------------------------------------------


def grid(side=400):
  middles = (2 * jnp.arange(side) + 1) / side - 1
  return 1.2 * jnp.stack(jnp.meshgrid(middles, middles), -1)


def area(distances):
  return float((distances < 0).mean()) * 2.4**2


def test_areas_are_those_of_geometry():
  points = grid()
  ball = 0.9**2 * np.pi
  assert area(shapes._KINDS["ball"].outline(points)) == pytest.approx(ball, rel=0.01)
  ring = np.pi * (0.94**2 - 0.46**2)
  assert area(shapes._KINDS["ring"].outline(points)) == pytest.approx(ring, rel=0.01)
  assert area(shapes._KINDS["box"].outline(points)) == pytest.approx(1.5**2, rel=0.02)
  cross = 4 * (2 * 0.95 * 0.3 - 0.3**2)
  assert area(shapes._KINDS["cross"].outline(points)) == pytest.approx(cross, rel=0.02)
  assert area(shapes._KINDS["stripes"].outline(points)) == pytest.approx(3 * 1.7 * 0.32, rel=0.02)
  star = 10 * 0.5 * 1.05 * 0.45 * np.sin(np.pi / 5)
  assert area(shapes._KINDS["star"].outline(points)) == pytest.approx(star, rel=0.02)


@pytest.mark.parametrize("corners", [shapes._TREE, shapes._ARROW, shapes._ARROW[::-1]])
def test_polygons_have_the_area_of_their_corners(corners):
  x, y = np.array(corners, float).T
  shoelace = abs(np.roll(x, 1) @ y - np.roll(y, 1) @ x) / 2
  assert area(shapes._polygon(grid(), corners)) == pytest.approx(shoelace, rel=0.02)


def test_distances_to_a_polygon_are_euclidean():
  square = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
  points = jnp.array([[[0.0, 0.0], [0.3, 0.1], [0.9, 0.0], [0.8, 0.9], [0.0, -0.7]]])
  np.testing.assert_allclose(
    shapes._polygon(points, square)[0], [-0.5, -0.2, 0.4, 0.5, 0.2], atol=1e-6
  )


@pytest.mark.parametrize("name", NAMES)
def test_objects_fit_their_circle_whatever_way_they_are_turned(name):
  points = grid()
  radius = jnp.hypot(points[..., 0], points[..., 1])
  inside = shapes._KINDS[name].outline(points) < 0
  assert 0.85 < float(radius[inside].max()) < 1.15
  assert 0.8 < area(jnp.where(inside, -1.0, 1.0)) < 2.6


def test_hues_are_those_of_matplotlib():
  from matplotlib.colors import hsv_to_rgb

  for colour in np.random.default_rng(0).uniform(size=(50, 3)).astype(np.float32):
    np.testing.assert_allclose(
      shapes._rgb(*map(jnp.asarray, colour)), hsv_to_rgb(colour), atol=1e-5
    )


def test_every_hue_is_that_of_two_classes():
  hues = [kind.hue for kind in shapes._KINDS.values()]
  assert sorted(hues.count(hue) for hue in hues) == [2] * 10


# ---- What can be learned -------------------------------------------------------------------------


def accuracy(features, data):
  """Of a linear classifier on features of the images, by ridge regression on one-hot labels."""
  x, z = features(images(data.train)), features(images(data.test))
  x, z = (np.c_[it.reshape(len(it), -1).astype(np.float64), np.ones(len(it))] for it in (x, z))
  gram = x.T @ x + 1e-2 * len(x) * np.eye(x.shape[1])
  weights = np.linalg.solve(gram, x.T @ np.eye(10)[data.train.labels])
  return ((z @ weights).argmax(1) == data.test.labels).mean()


def colours(x):
  """Where an image's colours lie, and how they spread, without any place."""
  flat = x.reshape(len(x), -1, 3)
  return np.concatenate([flat.mean(1), flat.std(1), *np.quantile(flat, (0.1, 0.9), axis=1)], 1)


def test_colour_says_something_of_the_class_and_never_all(data):
  assert 0.2 < accuracy(colours, data) < 0.45


def test_images_say_more_than_their_colours(data):
  linear = accuracy(lambda x: x, data)
  assert 0.35 < linear < 0.75


def test_shape_decides_where_objects_are_seen_without_nuisance():
  """Each class's object, at the middle, is nearest to itself among those shrunk by a tenth."""

  def cover(radius):
    middle = {name: sum(ends) / 2 for name, ends in shapes._RANGES.items()}
    look = shapes._Look(**middle)._replace(radius=radius)
    middles = (2 * jnp.arange(16) + 1) / 16 - 1
    points = jnp.stack(jnp.meshgrid(middles, middles), -1)
    return np.stack([shapes._cover(points, look, jnp.array(k), 1 / 8).ravel() for k in range(10)])

  covers = cover(0.7)
  assert (np.corrcoef(covers, cover(0.63))[:10, 10:].argmax(1) == np.arange(10)).all()
  others = np.corrcoef(covers) - 2 * np.eye(10)
  assert others.max() < 0.95  # No two are nearly the same.


def test_control_shuffled_labels_cannot_be_learned(data):
  labels = np.random.default_rng(0).permutation(data.test.labels)
  shuffled = data._replace(test=data.test._replace(labels=labels))
  assert accuracy(lambda x: x, shuffled) < 0.17


@pytest.mark.parametrize(
  ("arguments", "part"),
  [
    ({"num_train": 9}, "num_train is 9"),
    ({"num_test": 0}, "num_test is 0"),
    ({"num_test": -5}, "num_test is -5"),
    ({"resolution": 7}, "resolution is 7"),
    ({"resolution": 65}, "8 to 64"),
  ],
)
def test_arguments_out_of_range(arguments, part):
  with pytest.raises(InputError) as raised:
    synthetic_shapes(0, **arguments)
  assert part in str(raised.value) and "\n" not in str(raised.value)
