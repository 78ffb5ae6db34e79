"""Correlations without images: the same numbers as of the images themselves.

`tests/experiments/in_training_test.py` holds to it by every engine.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.training.projection import Means, Projection, correlate, means_of, pixel_gram
from jaxinv.types import Data


def test_correlations_are_numpys(planted):
  rng = np.random.default_rng(0)
  weights, shares = rng.standard_normal((5, 143)), rng.uniform(size=(3, 40))
  inputs = jnp.asarray(planted.inputs)
  products, means = pixel_gram(inputs)
  data = Data(inputs, jnp.asarray(planted.labels), None, None, None, None, products, means)
  centred = weights - weights.mean(1, keepdims=True)
  images = shares @ planted.inputs
  seen = Projection(*map(jnp.asarray, (centred @ images.T, centred @ centred.T, np.zeros(5))))
  expected = np.corrcoef(weights, images)[:5, 5:]
  found = jax.jit(correlate)(seen, Means(jnp.asarray(shares), jnp.asarray(images), None), data)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_class_means_are_numpys_less_what_the_classes_share(planted):
  inputs, labels = map(jnp.asarray, (planted.inputs, planted.labels))
  train, held = (
    jnp.arange(3, 40),
    jnp.array([0, 2]),
  )  # Not all classes are held out, one is in none.
  data = Data(inputs, labels, train, held, cosines=2 * inputs)
  found = means_of(data, 5, holdout=True)
  expected = []
  for index in map(np.asarray, (train, held)):
    own = [planted.inputs[index][planted.labels[index] == k] for k in range(5)]
    means = np.stack([x.mean(0) if len(x) else np.zeros(x.shape[1]) for x in own])
    expected.extend(means - means.mean(0))
  np.testing.assert_allclose(found.images, expected, atol=1e-6)
  np.testing.assert_allclose(found.cosines, 2 * found.images, atol=1e-6)
  np.testing.assert_allclose(found.shares @ inputs, expected, atol=1e-6)
  alone = means_of(data, 5, holdout=False)
  np.testing.assert_allclose(alone.images, expected[:5], atol=1e-6)


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
