"""Figures of the benchmark: bars, lines and limits are the rows' numbers."""

import pytest
from planted_rows import made_up

from jaxinv.experiments.benchmark import figures


def test_throughput_draws_every_row_and_the_limits():
  rows = [made_up("sgd", e, 1.0, seeds=n) for e in ("primal", "torch_vmap") for n in (1, 4)]
  rows += [made_up("adam", "primal", 2.0, seeds=n) for n in (1, 4)]
  sgd, adam = figures.throughput_figure(rows).axes
  drawn = [list(container.lines[0].get_ydata()) for container in sgd.containers]
  assert drawn == [[1000, 1000]] * 2
  # 5e10 FLOP/s by 5e6, 1e10 B/s by 4e6 and by 8e6.
  for axis, wanted in ((sgd, {1e4, 2500}), (adam, {1e4, 1250})):
    limits = {text.get_position()[1] for text in axis.texts}
    assert limits == wanted


def test_bars_are_steps_and_seconds_and_say_what_was_not_reached():
  rows = [made_up("sgd", "gram", 0.5), made_up("sgd", "torch_loop", 9.0)]
  rows += [made_up("adam", "primal", 2.0, seconds_to_accuracy=None)]
  steps, accuracy, holdout = figures.accuracy_figure(rows).axes
  assert [bar.get_width() for bar in steps.patches] == [0.5, 2.0]
  assert [bar.get_width() for bar in accuracy.patches] == pytest.approx([0.06, 0])
  assert [text.get_text() for text in accuracy.texts][1] == "not reached"
  assert [bar.get_width() for bar in holdout.patches] == pytest.approx([0.04, 0.16])
