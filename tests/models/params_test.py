"""Pytrees of parameters: dense layers found whatever they are called, names there and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.errors import InputError
from jaxinv.models.dense import make_model
from jaxinv.models.params import (
  class_weights,
  dense_logits,
  find_kernels,
  find_layers,
  flatten,
  unflatten,
  weight_movement,
)

CLASSES = 5
RNG = np.random.default_rng(0)
KERNEL = jnp.asarray(RNG.standard_normal((12, CLASSES)).astype(np.float32))


def normal(*shape):
  return jnp.asarray(RNG.standard_normal(shape).astype(np.float32))


def test_layers_are_taken_in_the_order_of_their_numbers():
  """`Dense_10` comes after `Dense_2`, though not in the alphabet; all are square but the ends."""
  kernels = [normal(12, 6), *(normal(6, 6) for _ in range(10)), normal(6, CLASSES)]
  params = {f"Dense_{i}": {"kernel": k} for i, k in enumerate(kernels)}
  for found, kernel in zip(find_kernels(params, 12, CLASSES), kernels, strict=True):
    np.testing.assert_array_equal(found, kernel)


def test_square_layers_between_transposed_ones_are_transposed_too():
  kernels = [normal(12, 6), normal(6, 6), normal(6, CLASSES)]
  found = find_kernels({f"{i}.weight": k.T for i, k in enumerate(kernels)}, 12, CLASSES)
  for one, kernel in zip(found, kernels, strict=True):
    np.testing.assert_array_equal(one, kernel)


@pytest.mark.parametrize(
  ("params", "num_features", "num_classes"),
  [
    ({"kernel": KERNEL}, 13, CLASSES),
    ({"kernel": KERNEL}, 12, CLASSES + 1),
    ({"kernel": KERNEL}, 13, None),
    ({"bias": jnp.zeros(CLASSES)}, 12, CLASSES),
    ({"conv": jnp.zeros((3, 3, 1, 12))}, 12, None),
    ({}, 12, None),
    ({"a": jnp.zeros((12, 8)), "b": jnp.zeros((7, CLASSES))}, 12, CLASSES),
  ],
)
def test_parameters_that_do_not_fit_are_refused_in_one_line(params, num_features, num_classes):
  with pytest.raises(InputError, match=f"no kernel leads from {num_features} features") as caught:
    find_kernels(params, num_features, num_classes)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("hidden", [(), (8,), (8, 8, CLASSES)])
def test_dense_logits_are_the_models_own_whatever_its_parameters_are_called(hidden, use_bias):
  model, inputs = make_model(CLASSES, hidden, use_bias), normal(7, 12)
  params = model.init(jax.random.key(0), inputs)
  params = jax.tree.map(lambda leaf: leaf + 0.1 * normal(*leaf.shape), params)  # No bias of zeros.
  layers = params["params"].values()
  torch = {f"{2 * i}.weight": layer["kernel"].T for i, layer in enumerate(layers)}
  pairs = [tuple(layer.values()) for layer in layers]
  if use_bias:
    torch |= {f"{2 * i}.bias": layer["bias"] for i, layer in enumerate(layers)}
  for same in (params, torch, {"net": torch}, pairs, [leaf for pair in pairs for leaf in pair]):
    logits = jax.jit(dense_logits)(same, inputs)
    np.testing.assert_allclose(logits, model.apply(params, inputs), rtol=1e-5, atol=1e-6)


def test_dense_logits_map_over_models_and_have_the_models_gradient():
  model, inputs = make_model(CLASSES, (8,)), normal(7, 12)
  params = jax.vmap(model.init, (0, None))(jax.random.split(jax.random.key(0), 3), inputs)

  def gradients(logits):
    gradient = jax.grad(lambda params, inputs: (logits(params, inputs) ** 2).sum(), (0, 1))
    return jax.jit(jax.vmap(gradient, (0, None)))

  found, expected = (gradients(logits)(params, inputs) for logits in (dense_logits, model.apply))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


def test_names_may_hold_characters_that_are_digits_and_no_numbers():
  kernel = normal(12, CLASSES)
  (found,) = find_kernels({"\u00b2": kernel, "\u0663": normal(2, 2)}, 12)
  np.testing.assert_array_equal(found, kernel)


def test_layers_made_in_one_expression_are_found_in_the_order_of_their_widths():
  """In `Dense(3)(relu(Dense(5)(x)))` Flax makes the last layer first, and calls it Dense_0."""
  rng = np.random.default_rng(0)
  first, last = rng.standard_normal((12, 5)), rng.standard_normal((5, 3))
  params = {"Dense_0": {"kernel": last}, "Dense_1": {"kernel": first}}
  np.testing.assert_allclose(class_weights(params, 12), (first @ last).T, rtol=1e-5)


def test_a_vector_is_a_layers_bias_only_beside_its_kernel_and_as_long_as_its_outputs():
  kernel, bias = normal(12, CLASSES), normal(CLASSES)
  params = {"a": {"bias": bias}, "b": {"kernel": kernel, "scale": normal(12)}}
  assert [layer.bias for layer in find_layers(params, 12)] == [None]
  params["b"]["bias"] = 2 * bias
  np.testing.assert_array_equal(find_layers(params, 12)[0].bias, 2 * bias)
  with pytest.raises(InputError, match="no kernel leads from 13 features"):
    dense_logits(params, normal(2, 13))


def test_names_lead_back_to_the_tree():
  tree = {"a": {"b": {"kernel": KERNEL}, "bias": jnp.ones(2)}, "c": jnp.zeros(())}
  flat = flatten(tree)
  assert set(flat) == {"a/b/kernel", "a/bias", "c"}
  jax.tree.map(np.testing.assert_array_equal, unflatten(flat), tree)


def test_movement_is_of_all_kernels_together_and_of_no_bias():
  start = {"a": {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.zeros(2)}, "b": jnp.full((4, 1), 2.0)}
  after = {"a": {"kernel": jnp.full((2, 2), 4.0), "bias": jnp.ones(2)}, "b": jnp.full((4, 1), 2.0)}
  assert float(weight_movement(after, start)) == pytest.approx(np.sqrt(4 / (36 + 16)))
  assert not np.isfinite(weight_movement(after, jax.tree.map(jnp.zeros_like, start)))


def test_a_square_first_kernel_has_the_orientation_of_the_others():
  rng = np.random.default_rng(0)
  first, second = rng.normal(size=(12, 12)), rng.normal(size=(12, 5))
  as_flax = find_kernels({"a": first, "b": second}, 12, 5)
  as_torch = find_kernels({"0.weight": first.T, "2.weight": second.T}, 12, 5)
  for kernels in (as_flax, as_torch):
    np.testing.assert_array_equal(kernels[0], first)
    np.testing.assert_array_equal(kernels[1], second)
