"""Figures of faces: grey as grey, colour as colour, and every attack that was made."""

import numpy as np
import planted_faces as planted
import pytest

from jaxinv.attacks.attack import Attack
from jaxinv.experiments.faces import figures

SHAPES = pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)], ids=["grey", "colour"])


def drawn(figure) -> np.ndarray:
  """The first image of a figure."""
  return next(image for axis in figure.axes for image in axis.get_images()).get_array()


@SHAPES
def test_people_are_drawn_in_their_colours(shape):
  figure = figures.people_figure(planted.outcome(shape), ("a", "b", "c"), (0, 2))
  assert drawn(figure).shape[2:] == shape[2:]
  heads = [text.get_text() for text in figure.axes[0].get_xticklabels()]
  assert heads[:4] == ["class\naverage", "sgd\nW", "sgd\nW - W0", "sgd\n-$W"]


def test_a_long_label_is_broken_over_lines():
  found = planted.outcome((6, 5))
  long = found.attacks[1]._replace(words="change of W over that of the bias")
  figure = figures.people_figure(found._replace(attacks=(long,)), ("a", "b", "c"), (0, 2))
  heads = [text.get_text() for text in figure.axes[0].get_xticklabels()]
  assert heads[1] == "sgd\nchange of W over\nthat of the bias"


def test_attacks_that_need_other_models_have_no_column():
  assert [one.name for one in figures.single(planted.ATTACKS)] == [
    "reshape",
    "init_diff",
    "negative",
  ]


@SHAPES
def test_units_are_those_that_moved_most(shape):
  found = planted.outcome((6, 5))
  rng = np.random.default_rng(0)
  start = rng.normal(size=(1, int(np.prod(shape)), 4)).astype(np.float32)
  now = start.copy()
  now[..., 2] += 5
  layers = {"dense_0/kernel": now, "dense_1/kernel": rng.normal(size=(1, 4, 3)).astype(np.float32)}
  arrays = {f"params/{name}": x for name, x in layers.items()}
  arrays |= {f"init_params/{name}": x for name, x in layers.items()}
  arrays["init_params/dense_0/kernel"] = start
  arm = found.arms["sgd"]._replace(arrays=arrays)
  figure = figures.units_figure(found._replace(arms={"sgd": arm}), shape, most=1)
  assert drawn(figure).shape[2:] == shape[2:]


def test_measures_have_a_panel_a_metric_and_a_marker_an_attack_however_many():
  found = planted.outcome((6, 5))
  many = tuple(Attack(f"attack {i}", lambda release, shape: release) for i in range(30))
  figure = figures.measures_figure(
    found._replace(attacks=(*planted.ATTACKS, *many)), planted.summary(found)
  )
  titles = [axis.get_title() for axis in figure.axes]
  assert titles == [metric.label for metric in found.metrics]
  words = [text.get_text() for text in figure.legends[0].get_texts()]
  assert words[:4] == ["W", "W - W0", "-$W", "mean W of all seeds"] and words[-1] == "attack 29"


def test_where_nothing_was_measured_there_is_an_empty_panel():
  figure = figures.measures_figure(planted.outcome((6, 5)), {"sgd": {}, "adam": {}})
  assert len(figure.axes) == 1
