"""Figures draw what they are given, by the rule that is written below them."""

import numpy as np

from jaxinv.experiments.photographs import figures
from jaxinv.experiments.photographs.files import summarize


def test_the_best_the_middle_and_the_worst_are_shown(result, leaves):
  cell = result.cells["sgd"][12]
  _, found = figures.first_found(cell, "unmixed")
  (ranks,) = figures.shown_ranks(found)
  assert (np.diff(found.score.quality[ranks]) <= 0).all() and len(set(ranks)) == 12
  many = found._replace(score=found.score._replace(quality=np.linspace(0, 1, 50)))
  best, middle, worst = figures.shown_ranks(many)
  assert best.tolist() == [49, 48, 47, 46, 45] and worst.tolist() == [4, 3, 2, 1, 0]
  assert middle.tolist() == [26, 25, 24, 23, 22]
  assert len(figures.side_by_side_figure(cell).axes) == 1


def test_nothing_found_is_no_figure_and_no_error(result, leaves):
  cell = result.cells["sgd"][12]
  empty = cell._replace(attacked={"unmixed": [None]})
  assert figures.side_by_side_figure(empty) is None
  figures.cliff_figure({"sgd": {12: empty}})
  figures.confidence_figure([("sgd", empty)])


def test_the_map_has_a_line_an_arm_and_attacker(result):
  drawn = figures.map_figure(summarize(result, 0.05), result.cells)
  # Three arms with W0 and without, and Adam's state.
  assert len(drawn.legends[0].get_texts()) == 7
  line = drawn.axes[0].lines[0]
  assert line.get_xdata().tolist() == [12] and line.get_ydata().tolist() == [1.0]


def test_of_one_number_there_is_a_row_an_arm(result):
  drawn = figures.arms_figure(summarize(result, 0.05), result.cells, 12)
  names = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
  assert names == ["sgd", "decay", "adam"]
  words = [text.get_text() for text in drawn.legends[0].get_texts()]
  assert words == ["W0 known", "weights alone", "optimiser's state", "by chance"]
