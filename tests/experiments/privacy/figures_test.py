"""Figures: an arm without privacy has its place beyond all; nothing above the claim by itself."""

import numpy as np

from jaxinv.experiments.privacy.figures import audit_figure, curve_figure


def test_the_curve_has_every_epsilon_and_none_at_the_right(result):
  figure = curve_figure(list(result.points.values()), 0.2)
  assert len(figure.axes) == 3
  for axis in figure.axes:
    names = [label.get_text() for label in axis.get_xticklabels()]
    assert names == ["1", "8", "none"]
    assert (np.diff(axis.get_xticks()) > 0).all()
  words = [text.get_text() for text in figure.legends[0].get_texts()]
  assert "chance" in words and len(words) == 6


def test_without_an_arm_that_came_through_the_curve_is_drawn(result):
  point = next(iter(result.points.values()))
  none = point.leakage._replace(mean=None, low=None, high=None, n=0)
  lost = point._replace(accuracy=none, leakage=none, naive=none, identified=none, attack=None)
  assert len(curve_figure([lost], 0.2).axes) == 3


def test_the_claim_is_a_line_and_each_canary_and_attacker_has_two(result):
  figure = audit_figure(result.audits)
  left, right = figure.axes
  np.testing.assert_allclose(left.get_lines()[0].get_ydata(), [1, 8])
  assert len(left.get_lines()) == 1 + 2 * 4 and len(right.get_lines()) == 1 + 4
