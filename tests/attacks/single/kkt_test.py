"""The equation holds where it was made to, its solutions show the photographs, others do not."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv.attacks.single import kkt
from jaxinv.attacks.single.kkt import Problem, best, distance, draw_sweep, search
from jaxinv.models.params import Layer

P, UNITS, K, N = 24, 16, 3, 3
DECAY = 0.01


def make_layers(sizes, seed=0, biased=True):
  rng = np.random.default_rng(seed)
  return [
    Layer(
      jnp.asarray(rng.normal(size=(a, b)) / a**0.5, jnp.float32),
      jnp.asarray(0.1 * rng.normal(size=b), jnp.float32) if biased else None,
    )
    for a, b in itertools.pairwise(sizes)
  ]


def logits_of(layers, images):
  for number, (kernel, bias) in enumerate(layers):
    images = images @ kernel if bias is None else images @ kernel + bias[None]
    images = jax.nn.relu(images) if number + 1 < len(layers) else images
  return images


def make_images(number, seed=0):
  return jnp.asarray(np.random.default_rng((5, seed)).uniform(size=(number, P)), jnp.float32)


@pytest.fixture(scope="module")
def truth():
  return at_rest((P, UNITS, K))


def at_rest(sizes):
  """A network trained to rest under weight decay, its images, one a class, and how it started."""
  images, labels = make_images(N), jnp.arange(N) % K
  first = make_layers(sizes)

  def loss(layers):
    fit = optax.softmax_cross_entropy_with_integer_labels(logits_of(layers, images), labels)
    return fit.mean() + DECAY / 2 * sum(jnp.square(x).sum() for x in jax.tree.leaves(layers))

  def step(layers, _):
    return jax.tree.map(lambda x, g: x - 0.1 * g, layers, jax.grad(loss)(layers)), None

  layers = jax.jit(lambda x: jax.lax.scan(step, x, length=6000)[0])(first)
  sure = jax.nn.softmax(logits_of(layers, images), 1)[jnp.arange(N), labels]
  # What weight decay balances: d loss / d margin, over n x decay.
  return Problem(layers, labels), images, (1 - sure) / (N * DECAY), first


def left(problem, gradient):
  """|T - gradient|^2 / |T|^2, with the gradient made as a whole."""
  target = problem.layers if problem.target is None else problem.target
  over = jax.tree.map(lambda a, b: a - b, list(target), gradient)
  size = [sum(float(jnp.square(x).sum()) for x in jax.tree.leaves(y)) for y in (over, list(target))]
  return size[0] / size[1]


# The equation.


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


# The search.


def likeness(found, images):
  """Of each training image the correlation with the candidate of its class."""
  seen = np.corrcoef(np.asarray(found), np.asarray(images))[: len(found), len(found) :]
  return np.diag(seen).mean()


def solve(problem, restarts=6, steps=600, starts=None, **fixed):
  sweep = draw_sweep(jax.random.key(0), restarts, rivalry=1.0, **fixed)
  keys = jax.random.split(jax.random.key(1), restarts)
  starts = jnp.full((len(problem.labels), P), 0.5) if starts is None else starts
  found = search(problem, sweep, keys, starts, steps)
  return found, best(found)


def test_planted_images_come_back_by_the_own_loss_and_not_from_untrained_weights(truth):
  problem, images, _, first = truth
  found, chosen = solve(problem)
  assert found.images.shape == (6, N, P) and float(found.loss[chosen]) < 0.05
  assert float(found.images.min()) >= 0 and float(found.images.max()) <= 1
  assert likeness(found.images[chosen], images) > 0.8
  found, chosen = solve(problem._replace(layers=first))
  assert float(found.loss[chosen]) > 0.2 and likeness(found.images[chosen], images) < 0.5


def test_a_search_from_the_truth_stays_there(truth):
  problem, images, _, _ = truth
  found, chosen = solve(problem, starts=images, spread=0.0, image_rate=2e-3)
  assert likeness(found.images[chosen], images) > 0.97
  assert float(found.loss[chosen]) < 0.05


def test_restarts_side_by_side_are_those_one_after_another(truth):
  problem = truth[0]
  sweep, keys = draw_sweep(jax.random.key(3), 4), jax.random.split(jax.random.key(4), 4)
  starts = jnp.full((N, P), 0.5)
  whole = search(problem, sweep, keys, starts, 30)
  for found in (
    search(problem, sweep, keys, starts, 30, width=2),
    one_by_one(problem, sweep, keys),
  ):
    for a, b in zip(whole, found, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def one_by_one(problem, sweep, keys):
  alone = [
    search(
      problem,
      jax.tree.map(lambda x, i=i: x[i : i + 1], sweep),
      keys[i : i + 1],
      jnp.full((N, P), 0.5),
      30,
    )
    for i in range(4)
  ]
  return jax.tree.map(lambda *x: jnp.concatenate(x), *alone)


def test_the_change_of_a_linear_model_is_solved_too():
  first, images = make_layers((P, K)), make_images(N)
  weights = jnp.asarray(np.eye(K) - 1 / K, jnp.float32) * jnp.array([[1.0], [1.5], [0.7]])
  change = [Layer(images.T @ weights, weights.sum(0))]
  problem = Problem(first, jnp.arange(K), change)
  assert float(distance(problem, images, weights)) < 1e-5
  found, chosen = solve(problem)
  assert found.multipliers.shape == (6, N, K) and float(found.loss[chosen]) < 1e-3


def test_hyperparameters_lie_in_their_ranges_and_momentum_is_another_descent(truth):
  sweep = draw_sweep(jax.random.key(0), 200, least=0.1)
  for name, (low, high) in kkt._RANGES.items():
    values = np.asarray(getattr(sweep, name))
    assert low * 0.999 <= values.min() and values.max() <= high * 1.001
  found = search(
    truth[0],
    draw_sweep(jax.random.key(0), 1, image_rate=0.5),
    jax.random.split(jax.random.key(0), 1),
    jnp.full((N, P), 0.5),
    50,
    descent=optax.trace(0.9),
  )
  assert bool(jnp.isfinite(found.images).all()) and float(found.images.std()) > 0.01
