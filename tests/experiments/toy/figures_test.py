"""Figures of the toy: labels that do not lie over each other, names as in the article."""

import numpy as np

from jaxinv.experiments.toy import figures


def test_names_are_those_of_the_article():
  assert figures.weight_names(2, 2) == ["w11", "w12", "w21", "w22"]


def test_labels_are_moved_apart_and_keep_their_order_and_middle():
  values = np.array([0.0, 0.01, 5.0, 0.02])
  places = figures._spread_out(values, 0.5)
  assert (np.argsort(places, kind="stable") == np.argsort(values, kind="stable")).all()
  assert (np.diff(np.sort(places)) >= 0.49).all() and places[2] == 5
  np.testing.assert_allclose(places.mean(), values.mean(), atol=1e-6)


def test_every_weight_is_drawn_in_both_panels():
  weights = np.random.default_rng(0).normal(size=(3, 6, 2, 2)).astype(np.float32)
  means = np.array([[2.0, -2.0], [0.0, 0.0]])
  figure = figures.weights_figure(weights, means, "max", 2.0)
  for axis in figure.axes:
    assert len(axis.collections) == 4
    assert [text.get_text().strip()[:3] for text in axis.texts] == ["w11", "w12", "w21", "w22"]
