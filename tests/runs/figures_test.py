"""What figures share: markers that never run out, and colour as colour."""

import numpy as np
import pytest

from jaxinv.metrics.stats import Interval
from jaxinv.runs import figures


def test_markers_and_colours_never_run_out():
  assert len({figures.marker(i) for i in range(len(figures.MARKERS))}) == len(figures.MARKERS)
  assert all(figures.marker(i) in figures.MARKERS for i in range(100))
  assert figures.colour(0) == figures.colour(len(figures.COLOURS))


GREY_OR_COLOUR = [((4, 3), (4, 3)), ((4, 3, 3), (4, 3, 3)), ((4, 3, 1), (4, 3))]


@pytest.mark.parametrize(("shape", "shown"), GREY_OR_COLOUR)
def test_grey_is_drawn_grey_and_colour_in_colour(shape, shown):
  _, axes = figures.new_figure(1, 1, (2.0, 2.0))
  image = np.full(shape, 51.0)
  figures.show(axes[0][0], image)
  array = axes[0][0].get_images()[0].get_array()
  assert array.shape == shown
  np.testing.assert_allclose(np.asarray(array, float), 0.2)


@pytest.mark.parametrize("colour", [(), (3,)])
def test_a_mosaic_has_every_image_in_its_place_and_white_where_there_is_none(colour):
  grid = np.full((2, 2, 4, 3, *colour), 51.0)
  grid[1, 1] = np.nan
  _, axes = figures.new_figure(1, 1, (2.0, 2.0))
  figures.mosaic(axes[0][0], grid, ["a", "$b"], ["c", "d"])
  # A word stands at the middle of its images, whose first pixel lies at 0.
  height, width = grid.shape[2:4]
  assert list(axes[0][0].get_xticks()) == [(width - 1) / 2, width + 4 + (width - 1) / 2]
  assert list(axes[0][0].get_yticks()) == [(height - 1) / 2, height + 4 + (height - 1) / 2]
  picture = np.asarray(axes[0][0].get_images()[0].get_array(), float)
  np.testing.assert_allclose(picture[:4, :3], 0.2)
  np.testing.assert_allclose(picture[-4:, -3:], 1.0)
  assert picture.shape[2:] == colour


def test_bars_never_point_inwards():
  np.testing.assert_allclose(figures.interval_bars(Interval(0.5, 0.4, 0.7, 3)), [[0.1], [0.2]])
  assert (figures.interval_bars(Interval(0.5, 0.51, 0.7, 3)) >= 0).all()
  assert figures.interval_bars(Interval(0.5, None, None, 1)) is None


def test_equal_figures_are_equal_files(tmp_path):
  for name in ("a", "b"):
    figure, axes = figures.new_figure(1, 1, (2.0, 2.0))
    axes[0][0].plot([0, 1])
    figures.save_all({name: figure}, tmp_path)
  assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
