"""The networks: sizes known from the literature, and what evaluation must leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.errors import InputError
from jaxinv.models.convnets import DESIGNS, MOMENTUM, make_convnet

_SHAPE = (8, 8, 3)


def _variables(model, seed=0):
  return model.init(jax.random.key(seed), jnp.zeros((1, np.prod(model.image_shape))))


def _images(num, seed=0, shape=_SHAPE):
  return jax.random.uniform(jax.random.key(seed), (num, np.prod(shape)))


def _number(name, norm="batch"):
  """Parameters at full size for CIFAR-10; nothing is computed."""
  model = make_convnet(name, (32, 32, 3), 10, norm=norm)
  shapes = jax.eval_shape(lambda: _variables(model))
  return sum(x.size for x in jax.tree.leaves(shapes["params"]))


def test_full_sizes_are_those_of_the_literature():
  # The 13 convolutions of VGG16 have 14,710,464 weights without biases; the normalisation has twice
  # its 4,224 channels, the last layer 5,130.
  assert _number("vgg16") == 14_710_464 + 2 * 4_224 + 5_130
  # ResNet-18's 11,173,962 for CIFAR-10 (post-activation, a norm in each shortcut) less 2 x (128 +
  # 256 + 512) for the norms in three shortcuts; a norm before the first block makes up for none.
  assert _number("resnet18") == 11_173_962 - 2 * (128 + 256 + 512)


@pytest.mark.parametrize(
  "name, norm", [*((name, "batch") for name in DESIGNS), ("resnet8", "group")]
)
def test_an_image_s_answer_in_evaluation_does_not_depend_on_the_others(name, norm):
  model = make_convnet(name, _SHAPE, 10, 1 / 16, norm)
  variables, images = _variables(model), _images(4)
  together = model.apply(variables, images)
  alone = model.apply(variables, images[:1])
  assert together.logits.shape == (4, 10)
  np.testing.assert_allclose(together.logits[:1], alone.logits, atol=1e-5)
  np.testing.assert_allclose(together.features[:1], alone.features, atol=1e-5)
  assert float(jnp.abs(together.logits[0] - together.logits[1]).max()) > 0


def test_logits_are_the_head_of_the_features():
  model = make_convnet("resnet8", _SHAPE, 10, 1 / 16)
  variables = _variables(model)
  said = model.apply(variables, _images(3))
  head = variables["params"]["head"]
  np.testing.assert_allclose(
    said.logits, said.features @ head["kernel"] + head["bias"][None], atol=1e-5
  )


def test_training_moves_running_statistics_by_the_momentum_and_evaluation_does_not():
  model = make_convnet("vgg16", _SHAPE, 10, 1 / 16)
  variables, images = _variables(model), _images(6)
  _, same = model.apply(variables, images, mutable=["batch_stats"])
  for a, b in zip(
    *map(jax.tree.leaves, (same["batch_stats"], variables["batch_stats"])), strict=True
  ):
    np.testing.assert_array_equal(a, b)
  _, moved = model.apply(variables, images, train=True, mutable=["batch_stats"])
  # The first layer's channels, from the images by JAX's own convolution.
  first = jax.lax.conv_general_dilated(
    (4 * images - 2).reshape(-1, *_SHAPE),
    variables["params"]["Conv_0"]["kernel"],
    (1, 1),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  running = moved["batch_stats"]["Norm_0"]["batch"]
  np.testing.assert_allclose(running["mean"], (1 - MOMENTUM) * first.mean((0, 1, 2)), atol=1e-5)
  np.testing.assert_allclose(
    running["var"], MOMENTUM + (1 - MOMENTUM) * first.var((0, 1, 2)), atol=1e-4
  )


def test_the_distance_of_statistics_is_zero_where_they_agree():
  model = make_convnet("vgg16", _SHAPE, 10, 1 / 16)
  variables, images = _variables(model), _images(6)

  def distances(variables):
    _, sown = model.apply(variables, images, mutable=["distance"])
    return [float(x) for x in jax.tree.leaves(sown)]

  apart = distances(variables)
  assert len(apart) == 13 and min(apart) > 1e-3
  # A layer whose running statistics are this batch's own is at no distance; the next ones see
  # other inputs then, and stay away.
  first = jax.lax.conv_general_dilated(
    (4 * images - 2).reshape(-1, *_SHAPE),
    variables["params"]["Conv_0"]["kernel"],
    (1, 1),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  own = {"mean": first.mean((0, 1, 2)), "var": first.var((0, 1, 2))}
  stats = {**variables["batch_stats"], "Norm_0": {"batch": own}}
  _, sown = model.apply({**variables, "batch_stats": stats}, images, mutable=["distance"])
  assert float(sown["distance"]["Norm_0"]["distance"][0]) < 1e-8
  assert float(sown["distance"]["Norm_5"]["distance"][0]) > 1e-3


def test_group_norm_carries_nothing():
  assert set(_variables(make_convnet("resnet8", _SHAPE, 10, 1 / 16, "group"))) == {"params"}


def test_half_precision_computes_otherwise_and_answers_in_float32():
  full = make_convnet("resnet8", _SHAPE, 10, 1 / 16)
  half = make_convnet("resnet8", _SHAPE, 10, 1 / 16, dtype=jnp.bfloat16)
  variables = _variables(half)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  a, b = (m.apply(variables, _images(4)).logits for m in (full, half))
  assert b.dtype == jnp.float32
  assert 0 < float(jnp.abs(a - b).max()) < 0.3


@pytest.mark.parametrize(
  "args, words",
  [
    (("resnet9", _SHAPE, 10), "choose from resnet18, resnet8, vgg16"),
    (("resnet8", _SHAPE, 10, 1.0, "layer"), "choose from group, batch"),
    (("resnet8", _SHAPE, 10, 0.001), "without channels"),
  ],
)
def test_what_cannot_be_built_is_refused_in_a_line(args, words):
  with pytest.raises(InputError, match=words):
    make_convnet(*args)
