"""Correlations without images: the same numbers as of the images themselves.

`tests/experiments/in_training_test.py` holds to it by every engine.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.training.projection import Projection, correlate, pixel_gram
from jaxinv.types import Data


def test_correlations_are_numpys(planted):
  rng = np.random.default_rng(0)
  weights, shares = rng.standard_normal((5, 143)), rng.uniform(size=(3, 40))
  inputs = jnp.asarray(planted.inputs)
  products, means = pixel_gram(inputs)
  data = Data(inputs, jnp.asarray(planted.labels), None, None, None, None, products, means)
  centred = weights - weights.mean(1, keepdims=True)
  seen = Projection(*map(jnp.asarray, (centred @ planted.inputs.T, centred @ centred.T)), None)
  expected = np.corrcoef(weights, shares @ planted.inputs)[:5, 5:]
  found = jax.jit(correlate)(seen._replace(bias=jnp.zeros(5)), jnp.asarray(shares), data)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_weights_less_their_mean_over_the_classes_are_projected_so():
  rng = np.random.default_rng(1)
  weights, examples = rng.standard_normal((5, 12)), rng.standard_normal((8, 12))
  plain = Projection(*map(jnp.asarray, (weights @ examples.T, weights @ weights.T, np.ones(5))))
  centred = weights - weights.mean(0)
  found = plain.less_class_mean()
  np.testing.assert_allclose(found.products, centred @ examples.T, atol=1e-5)
  np.testing.assert_allclose(found.gram, centred @ centred.T, atol=1e-5)
  np.testing.assert_allclose(found.bias, 0, atol=1e-6)


def test_a_bias_that_fell_turns_the_image_and_one_that_stayed_leaves_none():
  one = jnp.ones((3, 4)), jnp.ones((3, 3)), jnp.array([2.0, -0.5, 0.0])
  products, gram, _ = Projection(*one).over_bias()
  np.testing.assert_array_equal(products[:, 0], [1, -1, 0])
  np.testing.assert_array_equal(gram, np.outer([1, -1, 0], [1, -1, 0]))
