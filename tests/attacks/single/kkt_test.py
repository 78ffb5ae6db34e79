"""Solutions of the equation show the photographs; those of other equations do not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from planted_rest import UNITS, K, N, P, at_rest, make_images, make_layers

from jaxinv.attacks.single import kkt
from jaxinv.attacks.single.equation import Problem, distance
from jaxinv.attacks.single.kkt import best, draw_sweep, search
from jaxinv.models.params import Layer


@pytest.fixture(scope="module")
def truth():
  return at_rest((P, UNITS, K))


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
