"""Where images may lie in the tensors of a model of which only names and shapes are known."""

import numpy as np
import pytest

from jaxinv.auditing import sources
from jaxinv.auditing.formats.stored import Stored
from jaxinv.auditing.sources import (
  LAYOUTS,
  Link,
  find_sources,
  possible_layouts,
)
from jaxinv.errors import InputError

SHAPE = (6, 5, 1)  # 30 values.


def stored(shapes, dtype="float32"):
  """Tensors that cannot be loaded: names and shapes must be enough."""

  def load():
    raise AssertionError("loaded")

  return {name: Stored(shape, np.dtype(dtype), load) for name, shape in shapes.items()}


def found(shapes, image_shape=SHAPE, **options):
  places, tensors = find_sources(stored(shapes), image_shape, **options)
  told = [(it.tensor, it.what, [link.kernel for link in it.layers]) for it in places]
  return told, {it.name: it.use for it in tensors}


@pytest.mark.parametrize(
  ("shapes", "order"),
  [
    ({"params/Dense_0/kernel": (30, 4), "params/Dense_0/bias": (4,)}, (1, 0)),
    ({"fc.weight": (4, 30), "fc.bias": (4,)}, (0, 1)),
    ({"coef_": (4, 30), "intercept_": (4,)}, (0, 1)),
    ({"coef_": (1, 30), "intercept_": (1,)}, (0, 1)),
  ],
)
def test_a_linear_model_holds_an_image_of_each_class(shapes, order):
  (source,), _ = find_sources(stored(shapes), SHAPE)
  kernel, bias = shapes
  assert source.what == "class" and source.order == order
  assert source.layers == (Link(kernel, order == (0, 1), bias),)
  assert source.num == shapes[bias][0]


def test_hidden_layers_hold_units_and_classes():
  shapes = {"0.weight": (7, 30), "0.bias": (7,), "2.weight": (4, 7), "2.bias": (4,)}
  told, uses = found(shapes)
  assert told == [
    ("0.weight", "class", ["0.weight", "2.weight"]),
    ("0.weight", "unit", ["0.weight"]),
  ]
  assert uses == {"0.weight": "images", "0.bias": "bias", "2.weight": "layer", "2.bias": "bias"}


def test_a_hidden_width_that_equals_the_number_of_pixels_is_no_image():
  told, uses = found({"a/0": (30, 30), "b/0": (30, 4)})
  assert told[0] == ("a/0", "class", ["a/0", "b/0"]) and uses["b/0"] == "layer"


def test_an_optimisers_memories_and_other_copies_are_models_of_their_own():
  layers = {"Dense_0/kernel": (30, 7), "Dense_0/bias": (7,), "Dense_1/kernel": (7, 4)}
  roots = ("opt_state/0/mu", "opt_state/0/nu", "params")
  told, _ = found({f"{root}/{name}": shape for root in roots for name, shape in layers.items()})
  classes = [layers for _, what, layers in told if what == "class"]
  assert classes == [[f"{root}/Dense_0/kernel", f"{root}/Dense_1/kernel"] for root in roots]


def test_a_decoder_and_a_second_model_are_not_taken_for_later_layers():
  told, _ = found({"enc/kernel": (30, 7), "dec/kernel": (7, 30)})
  assert told == [("dec/kernel", "class", ["dec/kernel"]), ("enc/kernel", "class", ["enc/kernel"])]
  told, _ = found({"W": (30, 4), "W0": (30, 4)})
  assert told == [("W", "unit", []), ("W0", "unit", [])]


def test_a_dense_layer_before_something_else_holds_units():
  told, _ = found({"m/a/kernel": (30, 7), "m/conv/kernel": (3, 3, 7, 8)})
  assert told == [("m/a/kernel", "unit", ["m/a/kernel"])]
  told, _ = found({"m/a/kernel": (30, 7), "m/table": (3, 11)})
  assert told == [("m/a/kernel", "class", ["m/a/kernel"])]


@pytest.mark.parametrize(
  ("shape", "image_shape", "order", "num"),
  [
    ((30,), SHAPE, (0,), 1),
    ((8, 4, 30), SHAPE, (0, 1, 2), 32),
    ((8, 30, 4), SHAPE, (0, 2, 1), 32),
    ((4, 6, 5), SHAPE, (0, 1, 2, 3), 4),
    ((6, 5, 1, 4), SHAPE, (3, 0, 1, 2), 4),
    ((4, 3, 6, 5), (6, 5, 3), (0, 2, 3, 1), 4),
    ((6, 5, 3, 4), (6, 5, 3), (3, 0, 1, 2), 4),
  ],
)
def test_images_along_one_axis_or_several(shape, image_shape, order, num):
  array = np.arange(np.prod(shape)).reshape(shape)
  (source,), _ = find_sources(stored({"x": shape}), image_shape)
  assert source.what == "unit" and source.num == num
  if len(order) > len(shape):  # Grey images of which no axis tells the channel.
    order = order[:-1]
  assert source.order == order
  assert array.transpose(source.order).reshape(num, -1).shape[1] == np.prod(image_shape)


@pytest.mark.parametrize("shape", [(3, 3, 1, 8), (8, 1, 3, 3)])
def test_kernels_of_a_first_convolution_are_filters(shape):
  told, uses = found({"conv": shape, "deeper": (3, 3, 8, 16)}, SHAPE)
  assert told == [("conv", "filter", [])] and uses == {"conv": "filters", "deeper": "none"}
  (source,), _ = find_sources(stored({"conv": shape}), SHAPE)
  assert source.image_shape == (3, 3, 1) and source.num == 8


def test_where_there_are_convolutions_a_dense_layer_may_see_their_maps():
  _, tensors = find_sources(stored({"conv": (3, 3, 1, 8), "fc": (30, 4)}), SHAPE)
  assert "may be their feature maps" in next(it.why for it in tensors if it.name == "fc")


def test_what_is_no_floating_point_number_is_listed_only():
  tensors = stored({"w": (30, 4)}) | stored({"steps": (30, 4)}, "int32")
  places, listed = find_sources(tensors, SHAPE)
  assert [source.tensor for source in places] == ["w"]
  assert {it.name: it.use for it in listed} == {"steps": "none", "w": "images"}


def test_where_nothing_fits_it_says_what_there_is():
  with pytest.raises(InputError, match=r"6 x 5 x 1 = 30 values: there are fc\.weight \(4, 31\)"):
    found({"fc.weight": (4, 31)})


def test_layouts_that_have_the_same_neighbours_are_no_choice():
  assert possible_layouts((6, 5, 1), "auto") == ("hwc", "whc")
  assert possible_layouts((6, 6, 1), "auto") == ("hwc",)
  assert possible_layouts((6, 5, 3), "auto") == LAYOUTS
  assert possible_layouts((6, 6, 3), "auto") == ("hwc", "chw")
  assert possible_layouts((6, 5, 3), "cwh") == ("cwh",)
  with pytest.raises(InputError, match="unknown layout 'hw'"):
    possible_layouts((6, 5, 1), "hw")


def test_kinds_are_judged_by_type_then_shape_then_neighbours():
  shapes = {"0.weight": (7, 30), "0.bias": (7,), "2.weight": (4, 7), "2.bias": (4,)}
  shapes |= {"more": (9, 6, 5), "conv": (3, 3, 1, 8), "rest": (9,), "none": (0, 5)}
  tensors = stored(shapes) | stored({"step": (30, 4)}, "int32")
  roles = sources._find_roles(tensors, list(tensors), SHAPE)
  kinds = [sources.classify(name, it, roles, SHAPE).name for name, it in tensors.items()]
  wanted = ("0.weight DENSE", "0.bias BIAS", "2.weight LAYER", "2.bias BIAS", "more IMAGES")
  wanted += ("conv FILTERS", "rest OTHER", "none EMPTY", "step UNREAD")
  assert [f"{name} {kind}" for name, kind in zip(tensors, kinds, strict=True)] == list(wanted)
