"""Figures of inverted networks show the planted images and numbers, each in its place."""

import numpy as np
import pytest

from jaxinv.experiments.networks import figures, outcome
from planted_networks import SHAPE, diverge, make_result

TWO = {"standard": [0.25, 0.5], "robust": [0.75, 0.875]}


@pytest.fixture(scope="module")
def result():
  return make_result(TWO)


def shown(axis) -> np.ndarray:
  """The image that an axis shows, flat."""
  (image,) = axis.images
  return np.asarray(image.get_array()).reshape(-1)


def rows_of(figure, columns: int) -> list:
  axes = figure.axes
  return [axes[i : i + columns] for i in range(0, len(axes), columns)]


def test_the_grid_begins_with_the_test_image_nearest_to_each_class_s_mean(result):
  """Of three images the one that is their mean is planted as the second."""
  low, middle, high = (np.full((3, 192), value) for value in (0.2, 0.5, 0.8))
  planted = result._replace(
    test_inputs=np.concatenate([low, middle, high]), test_labels=np.tile(np.arange(3), 3)
  )
  real, starts, *models = rows_of(figures.grid_figure(planted, "pgd"), 3)
  for axis in (*real, *starts):
    np.testing.assert_allclose(shown(axis), 0.5)
  assert [row[0].get_ylabel() for row in models] == [
    f"{arm}, model {seed}" for arm in TWO for seed in (1, 2)
  ]
  images = result.arms["robust"].inverted["pgd"].images
  np.testing.assert_array_equal(shown(models[3][2]), images[1, 2, 0])


def test_neighbours_stand_below_the_image_with_their_cosine(result):
  recovered, trained, held_out = rows_of(figures.neighbours_figure(result, "standard", "pgd"), 3)
  near = result.arms["standard"].inverted["pgd"].neighbours
  for label in range(3):
    for axes, inputs, index, cosine in (
      (trained, result.train_inputs, near.trained, near.trained_similarity),
      (held_out, result.test_inputs, near.held_out, near.held_out_similarity),
    ):
      np.testing.assert_array_equal(shown(axes[label]), inputs[index[label, 0]])
      assert axes[label].get_xlabel() == f"{cosine[label, 0]:.2f}"
  assert [axis.get_title() for axis in recovered] == list(result.names)


def test_recognition_has_a_dot_for_each_mean_between_chance_and_the_verifier(result):
  (axis,) = figures.recognition_figure(result, outcome.summarize(result)).axes
  verticals = [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() in (":", "--")]
  assert verticals == [1 / 3, 0.875]
  dots = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o"]
  assert dots == pytest.approx([0.375, 0.375, 0.8125, 0.8125])  # Two inversions of each arm.


def test_kernels_fill_their_own_range(result):
  for axis in figures.kernels_figure(result).axes:
    assert (shown(axis).min(), shown(axis).max()) == pytest.approx((0, 1))


def test_curves_leave_out_what_diverged():
  result = diverge(make_result(TWO), "robust", [0])
  axes = figures.curves_figure(result).axes
  for axis, curve in zip(axes, ("train_accuracy", "holdout_accuracy"), strict=True):
    _, line = axis.lines
    np.testing.assert_allclose(line.get_ydata(), result.arms["robust"].history[curve][1])


def test_of_many_restarts_the_first_are_shown(result):
  arm = result.arms["robust"]
  inverted = {
    name: one._replace(images=np.tile(one.images, (1, 1, 30, 1)))
    for name, one in arm.inverted.items()
  }
  many = result._replace(arms={"robust": arm._replace(inverted=inverted)})
  assert many.arms["robust"].inverted["pgd"].images.shape[2] == 60
  figure = figures.restarts_figure(many, "pgd", 0)
  assert figure.get_figwidth() * 110 < 2000 and len(figure.axes) < 60


def test_grey_images_are_drawn_grey_and_unstretched(result):
  height, width, _ = SHAPE
  inverted = {
    name: one._replace(images=0.25 + 0.5 * one.images[..., : height * width])
    for name, one in result.arms["robust"].inverted.items()
  }
  arm = result.arms["robust"]._replace(inverted=inverted)
  grey = result._replace(arms={"robust": arm}, image_shape=(height, width, 1))
  for axis in figures.restarts_figure(grey, "pgd", 0).axes:
    (image,) = axis.images
    assert image.get_cmap().name == "gray" and image.get_clim() == (0, 1)
