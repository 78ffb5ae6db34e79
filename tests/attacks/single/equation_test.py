"""The equation is that of automatic derivatives, and holds where training came to rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planted_rest import UNITS, K, N, P, at_rest, logits_of, make_images, make_layers

from jaxinv.attacks.single.equation import Problem, Thin, distance, thin


@pytest.fixture(scope="module")
def truth():
  return at_rest((P, UNITS, K))


def left(problem, gradient):
  """|T - gradient|^2 / |T|^2, with the gradient made as a whole."""
  target = problem.layers if problem.target is None else problem.target
  over = jax.tree.map(lambda a, b: a - b, list(target), gradient)
  size = [sum(float(jnp.square(x).sum()) for x in jax.tree.leaves(y)) for y in (over, list(target))]
  return size[0] / size[1]


@pytest.mark.parametrize("sizes", [(P, K), (P, UNITS, K), (P, UNITS, 7, K)])
@pytest.mark.parametrize("biased", [True, False])
def test_the_distance_is_that_of_the_gradients_of_margins(sizes, biased):
  layers, images = make_layers(sizes, biased=biased), make_images(5)
  labels, multipliers = jnp.array([0, 1, 2, 0, 1]), jnp.array([0.5, 1.0, 0.2, 2.0, 1.0])

  def margins(layers):
    logits = logits_of(layers, images)
    others = jnp.where(jax.nn.one_hot(labels, K) > 0, -jnp.inf, logits).max(1)
    return (multipliers * (logits[jnp.arange(5), labels] - others)).sum()

  problem = Problem(layers, labels)
  seen = float(distance(problem, images, multipliers))
  np.testing.assert_allclose(seen, left(problem, jax.grad(margins)(layers)), rtol=1e-4)
  # Very sharp and very large numbers come to the same as infinite ones.
  np.testing.assert_allclose(distance(problem, images, multipliers, 1e6, 1e6), seen, rtol=1e-3)


def test_the_distance_to_a_change_is_that_of_the_gradients_of_logits():
  layers, other = make_layers((P, UNITS, K)), make_layers((P, UNITS, K), seed=1)
  images, weights = make_images(4), jnp.asarray(np.random.default_rng(2).normal(size=(4, K)))
  problem = Problem(layers, jnp.zeros(4, int), other)
  gradient = jax.grad(lambda x: (weights * logits_of(x, images)).sum())(layers)
  np.testing.assert_allclose(distance(problem, images, weights), left(problem, gradient), rtol=1e-4)


def test_the_derivative_by_the_multipliers_is_that_of_differences():
  problem, images = Problem(make_layers((P, UNITS, 7, K)), jnp.arange(3)), make_images(3)

  def seen(multipliers):
    return distance(problem, images, multipliers, 3.0, 2.0)

  multipliers = jnp.array([0.5, 1.0, 0.2])
  slope = jax.grad(seen)(multipliers)
  for i, step in enumerate(0.01 * jnp.eye(3)):
    change = seen(multipliers + step) - seen(multipliers - step)
    np.testing.assert_allclose(slope[i], change / 0.02, rtol=0.02, atol=1e-3)


def test_the_equation_holds_at_the_training_images_and_nothing_pulls_at_them():
  problem, images, multipliers, first = at_rest((P, K))
  strangers = make_images(N, seed=1)
  assert float(distance(problem, images, multipliers, rivalry=1.0)) < 1e-4

  def pull(images, multipliers):
    slopes = jax.grad(lambda *x: distance(problem, *x, rivalry=1.0), (0, 1))(images, multipliers)
    return max(float(jnp.abs(slope).max()) for slope in slopes)

  assert pull(images, multipliers) < 0.01 * pull(strangers, multipliers)
  # Controls: other images, other multipliers, and a network that nobody trained.
  assert float(distance(problem, strangers, multipliers, rivalry=1.0)) > 0.2
  assert float(distance(problem, images, 2 * multipliers, rivalry=1.0)) > 0.2
  assert float(distance(problem._replace(layers=first), images, multipliers, rivalry=1.0)) > 0.5


def test_with_hidden_units_it_holds_as_far_as_relu_has_a_derivative(truth):
  problem, images, multipliers, _ = truth
  # Training comes to rest with units on the edge of firing, where the derivative may be anything
  # from 0 to 1: only a smooth one has it in between.
  assert float(distance(problem, images, multipliers, 100.0, 1.0)) < 0.2
  # Controls: against the largest other class alone it is another equation; and other images.
  assert float(distance(problem, images, multipliers, 100.0)) > 0.5
  assert float(distance(problem, make_images(N, seed=1), multipliers, 100.0, 1.0)) > 0.5


def test_a_kernel_of_low_rank_is_computed_with_as_such_and_another_is_left_as_it_is():
  layers, images = make_layers((P, UNITS, K)), make_images(4)
  assert thin(Problem(layers, jnp.arange(4) % K)).layers is layers
  low = make_images(3, seed=2).T @ layers[0].kernel[:3]
  problem = Problem([layers[0]._replace(kernel=low), layers[1]], jnp.arange(4) % K)
  thinner = thin(problem)
  assert isinstance(thinner.layers[0].kernel, Thin) and thinner.layers[0].kernel.left.shape[1] == 3
  both = [distance(x, images, jnp.ones(4), 10.0, 1.0) for x in (problem, thinner)]
  np.testing.assert_allclose(*both, rtol=1e-4)
  # The change alone may be of low rank.
  change = Problem(layers, jnp.arange(4) % K, problem.layers)
  weights = jnp.ones((4, K)) - jnp.eye(K)[jnp.arange(4) % K]
  both = [distance(x, images, weights) for x in (change, thin(change))]
  np.testing.assert_allclose(*both, rtol=1e-4)
