"""Figures of a study on people are drawn of the numbers that they are given."""

import numpy as np
import pytest

from jaxinv.attacks.attack import init_diff, reshape
from jaxinv.experiments.study import figures, page_data
from jaxinv.experiments.study.page_data import Averages, Phase
from jaxinv.experiments.study.verdict import Verdict
from jaxinv.metrics.claims import Label
from jaxinv.metrics.stats import Interval


def test_verdicts_are_drawn_at_their_differences():
  naive, strong = Interval(-0.4, -0.5, -0.3, 8), Interval(-0.02, None, None, 1)
  verdicts = {
    "one": Verdict(Label.HIDES, "", naive=naive, strongest=strong),
    "none": Verdict(Label.NOT_COMPARABLE, ""),
    "two": Verdict(Label.RAISES, "", strongest=strong),
  }
  left, right = figures.verdicts_figure(verdicts, 0.05).axes
  assert [c.lines[0].get_xdata()[0] for c in left.containers] == [-0.4]
  assert [c.lines[0].get_ydata()[0] for c in right.containers] == [0, 1]
  (bar,) = left.containers[0].lines[2]
  np.testing.assert_allclose(bar.get_segments()[0][:, 0], [-0.5, -0.3])


def test_the_curves_through_training_are_the_means_over_seeds(data):
  names = page_data.shown_cells(data)
  arms = {name: data.result.outcome.arms[name] for name in names}
  axes = figures.training_figure(arms, 0.5).axes
  for axis, attack in zip(axes, ("reshape", "denoised", "init_diff"), strict=True):
    dot, curve = axis.lines[:2]
    arm = arms[names[0]]
    np.testing.assert_allclose(curve.get_xdata(), arm.history["holdout_accuracy"].mean(0))
    np.testing.assert_allclose(curve.get_ydata(), arm.trail[attack]["ncc_centred"].mean(0))
    assert dot.get_ydata()[0] == pytest.approx(curve.get_ydata()[-1])


def test_averages_are_points_and_their_law_a_line_where_there_is_one():
  one = Averages(np.array([1, 2, 4]), np.array([0.5, 0.6, 0.7]), np.array([0.5, 0.55, 0.6]))
  found = {"a": one, "b": one._replace(law=None)}
  lines = figures.seed_mean_figure(found, {"a": 0, "b": 9}).axes[0].lines
  np.testing.assert_allclose(lines[0].get_ydata(), one.measured)
  np.testing.assert_allclose(lines[1].get_ydata(), one.law)
  assert len(lines) == 3


def test_of_what_an_attacker_holds_the_strongest_attack_is_filled():
  """Each attack is drawn in the panel of what it needs, at its mean, an arm a row."""
  leakage = {
    "one": {"reshape": Interval(0.2, 0.1, 0.3, 4), "mine": Interval(0.4, 0.3, 0.5, 4)},
    "two": {"reshape": Interval(0.6, 0.5, 0.7, 4), "init_diff": Interval(0.9, None, None, 1)},
  }
  mine = reshape._replace(name="mine")
  attacks = {attack.name: attack for attack in (reshape, mine, init_diff)}
  left, right = figures.attackers_figure(leakage, attacks).axes
  drawn = [bars.lines[0] for bars in left.containers]
  assert [line.get_xdata()[0] for line in drawn] == [0.2, 0.4, 0.6]
  assert [round(line.get_ydata()[0]) for line in drawn] == [0, 0, 1]
  assert [line.get_markerfacecolor() == "white" for line in drawn] == [True, False, False]
  (bars,) = right.containers
  assert (bars.lines[0].get_xdata()[0], bars.lines[0].get_ydata()[0]) == (0.9, 1)


def test_a_grid_of_two_keys_is_a_map_with_its_values_and_of_one_key_a_curve():
  values = np.array([[0.1, np.nan], [0.3, 0.6]])
  phase = Phase("a", ("x", "y"), ([1.0, 2.0], [3.0, 4.0]), {"reshape": np.stack([values] * 3)})
  three = dict.fromkeys(("reshape", "init_diff", "accuracy"), phase.values["reshape"])
  axes = figures.phase_figure([phase._replace(values=three)]).axes
  np.testing.assert_array_equal(axes[0].images[0].get_array().filled(np.nan), values)
  assert [text.get_text() for text in axes[0].texts] == ["0.10", "-", "0.30", "0.60"]
  ends = np.array([[0.5, 0.7], [0.4, 0.6], [0.6, 0.9]])
  curve = Phase("a", ("x",), ([1.0, 2.0],), dict.fromkeys(three, ends))
  bars, *_ = figures.phase_figure([curve]).axes[0].containers
  np.testing.assert_allclose(bars.lines[0].get_ydata(), [0.5, 0.7])
