"""Figures of a study on single photographs are drawn of the numbers that they are given."""

import numpy as np

from jaxinv.experiments.study.photographs import figures
from jaxinv.experiments.study.photographs.controls import (
  OUTPUT_TESTS,
  WHITE_BOX,
  Detection,
  PhotoLeaks,
  Strongest,
)
from jaxinv.metrics.roc import Roc
from jaxinv.metrics.stats import Interval

TESTS = ("similarity/a", "calibrated/a", "similarity/b", "calibrated/b", *OUTPUT_TESTS, WHITE_BOX)
AUCS = {name: Interval(0.5 + i / 20, None, None, 8) for i, name in enumerate(TESTS)}
LEAKS = PhotoLeaks(
  tests={name: Detection(Roc(0.5, {}), {}, auc, np.zeros(3)) for name, auc in AUCS.items()},
  strongest=Strongest("lira", AUCS["lira"]),
  shown={"a": np.array([0.1, 0.5, 0.9]), "b": np.array([7.0, 8.0, 9.0])},
  answered=np.array([3.0, 2.0, 1.0]),
  agreement={"a": -1.0, "b": -1.0},
)


def test_the_tests_drawn_are_those_of_one_attack_of_the_outputs_and_of_the_weights():
  few = ("confidence", "lira", "rmia", WHITE_BOX)
  shown = figures.tests_shown(LEAKS, "b")
  expected = [AUCS[name] for name in ("similarity/b", "calibrated/b", *few)]
  assert list(shown.values()) == expected


def test_aucs_are_drawn_a_row_an_arm_and_photographs_a_dot_each():
  aucs = {"one": {"x": AUCS["lira"], "y": AUCS["rmia"]}, "two": {"y": Interval(0.9, 0.8, 0.95, 8)}}
  left, right = figures.photographs_figure(aucs, LEAKS, "a", "title").axes
  drawn = [bars.lines[0] for bars in left.containers]
  means = [AUCS["lira"].mean, AUCS["rmia"].mean, 0.9]
  np.testing.assert_allclose([line.get_xdata()[0] for line in drawn], means)
  assert [round(line.get_ydata()[0]) for line in drawn] == [0, 0, 1]
  assert drawn[1].get_marker() == drawn[2].get_marker() != drawn[0].get_marker()
  np.testing.assert_array_equal(right.lines[0].get_xdata(), LEAKS.shown["a"])
  np.testing.assert_array_equal(right.lines[0].get_ydata(), LEAKS.answered)


def test_without_leaks_the_right_panel_is_empty():
  _, right = figures.photographs_figure({"one": {"x": AUCS["lira"]}}, None, "a", "t").axes
  assert not right.lines


def test_photographs_that_leak_most_are_above_those_that_leak_least():
  images = np.random.default_rng(0).uniform(size=(2, 3, 5, 4))
  notes = [["a", "b", "c"], ["d", "$e", "f"]]
  axes = figures.exposed_figure(images, notes).axes
  assert [axis.get_title() for axis in axes] == [*notes[0], *notes[1]]
  heights = [axis.get_position().y0 for axis in axes]
  assert min(heights[:3]) > max(heights[3:])
  for axis, image in zip(axes, images.reshape(6, 5, 4), strict=True):
    np.testing.assert_allclose(axis.images[0].get_array(), image)


def test_values_are_drawn_at_their_scale_of_pose_and_those_that_are_missing_are_not():
  values = [Interval(0.5, 0.4, 0.6, 8), Interval(None, None, None, 0), Interval(0.7, 0.6, 0.9, 8)]
  panels = {"person": {"a": values}, "photograph": {"b": [values[0]] * 3}}
  axes = figures.pose_figure((0.0, 1.0, 2.0), panels, {"a": 0, "b": 1}).axes
  line = axes[0].containers[0].lines[0]
  np.testing.assert_array_equal(line.get_xdata(), [0.0, 2.0])
  np.testing.assert_array_equal(line.get_ydata(), [0.5, 0.7])
  assert axes[0].get_title() == "person" and len(axes[1].containers) == 1
