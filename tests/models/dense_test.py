"""Models: how kernels start, and that an MLP is what its name says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.errors import InputError
from jaxinv.models.dense import INITIALIZERS, make_model

FAN_IN, CLASSES = 100, 200


def parameters(model, num_features=FAN_IN, seed=0):
  return model.init(jax.random.key(seed), jnp.zeros((1, num_features)))["params"]


def only_kernel(initializer, seed=0):
  params = parameters(make_model(CLASSES, use_bias=False, initializer=initializer), seed=seed)
  return np.asarray(params["Dense_0"]["kernel"])


def test_torch_uniform_fills_its_bounds_evenly():
  kernel, bound = only_kernel("torch_uniform"), 1 / np.sqrt(FAN_IN)
  assert np.abs(kernel).max() <= bound * (1 + 1e-6)
  assert kernel.max() > 0.99 * bound and kernel.min() < -0.99 * bound
  # Within four standard errors of a uniform variable's moments; its kurtosis is 1.8.
  variance = bound**2 / 3
  assert abs(kernel.mean()) < 4 * np.sqrt(variance / kernel.size)
  assert abs(kernel.var() / variance - 1) < 4 * np.sqrt(0.8 / kernel.size)


def test_lecun_normal_has_the_variance_of_one_over_fan_in():
  kernel = only_kernel("lecun_normal")
  assert abs(kernel.var() * FAN_IN - 1) < 4 * np.sqrt(2 / kernel.size)


def test_the_bounds_of_a_hidden_layer_follow_its_own_fan_in():
  params = parameters(make_model(7, hidden=(400,)))
  assert 0.98 * 0.05 < np.abs(params["Dense_1"]["kernel"]).max() <= 0.05 * (1 + 1e-6)


def test_zeros_start_at_zero():
  assert not only_kernel("zeros").any()


def test_equal_keys_start_alike_and_others_do_not():
  np.testing.assert_array_equal(only_kernel("torch_uniform", 3), only_kernel("torch_uniform", 3))
  assert (only_kernel("torch_uniform", 3) != only_kernel("torch_uniform", 4)).mean() > 0.99


def test_biases_start_at_zero_and_can_be_left_out():
  assert not parameters(make_model(3))["Dense_0"]["bias"].any()
  leaves = jax.tree.leaves(parameters(make_model(3, hidden=(4,), use_bias=False)))
  assert [leaf.ndim for leaf in leaves] == [2, 2]


@pytest.mark.parametrize("use_bias", [True, False])
def test_an_mlp_applies_its_layers_with_relu_between_them(use_bias):
  rng = np.random.default_rng(0)
  model = make_model(3, hidden=(8, 6), use_bias=use_bias)
  params = jax.tree.map(
    lambda x: rng.standard_normal(x.shape).astype(np.float32), parameters(model, 5)
  )
  x = rng.standard_normal((4, 5)).astype(np.float32)
  expected = x
  for i in range(3):
    layer = params[f"Dense_{i}"]
    expected = expected @ layer["kernel"] + (layer["bias"] if use_bias else 0)
    expected = np.maximum(expected, 0) if i < 2 else expected
  assert sorted(params) == ["Dense_0", "Dense_1", "Dense_2"]
  np.testing.assert_allclose(
    model.apply({"params": params}, jnp.asarray(x)), expected, rtol=1e-4, atol=1e-5
  )


def test_without_hidden_layers_the_model_is_linear():
  model = make_model(3)
  params = parameters(model, 5)
  x, y = np.random.default_rng(0).standard_normal((2, 4, 5)).astype(np.float32)
  apply = lambda z: np.asarray(model.apply({"params": params}, jnp.asarray(z)))  # noqa: E731
  np.testing.assert_allclose(apply(2 * x + y), 2 * apply(x) + apply(y), atol=1e-5)


def test_an_unknown_initializer_is_named_with_the_known_ones():
  with pytest.raises(InputError, match=f"'he'.*{', '.join(INITIALIZERS)}"):
    make_model(3, initializer="he")
