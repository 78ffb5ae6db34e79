"""The figure of power: a line an arm, and only steps that are powers of ten are named."""

import numpy as np

from jaxinv.experiments.power import figures
from jaxinv.experiments.power.power import Curves, Power


def test_a_line_an_arm_and_step_zero_has_its_place():
  steps = np.array([0, 1, 2, 5, 10, 20, 100])
  rng = np.random.default_rng(0)
  arms = {name: Curves(*(rng.uniform(size=(7, 3)) for _ in Curves._fields)) for name in ("a", "$b")}
  figure = figures.power_figure(Power(steps, arms, 0.05))
  words = [text.get_text() for text in figure.legends[0].get_texts()]
  assert words == ["a", "$b", "false alarms allowed: 0.05"]
  left, _ = figure.axes[0].get_xlim()
  assert left < 0 and list(figure.axes[0].get_xticks()) == [0, 1, 10, 100]
