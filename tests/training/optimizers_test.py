"""Optimisers: each one's steps equal its closed form in float64, from the papers' formulas."""

import jax
import numpy as np
import optax
import pytest

from jaxinv.training.optimizers import LINEAR, OPTIMIZERS, clipped, is_linear
from jaxinv.types import Hyper

RNG = np.random.default_rng(0)
START = RNG.standard_normal(6)
GRADIENTS = RNG.standard_normal((3, 6)) * np.array([[1], [10], [0.1]])
HYPERS = {
  "plain": Hyper(0.1, 0.9),
  "decay": Hyper(0.1, 0.9, weight_decay=0.3),
  "clip": Hyper(0.05, 0.5, clip_norm=1.0),
  "both": Hyper(0.02, 0.8, weight_decay=0.2, clip_norm=0.7),
}


def closed_form(name, hyper, theta, gradients):
  """Parameters after each step; the gradients are given, whatever the parameters."""
  v = m = s = 0.0
  path = []
  for t, g in enumerate(gradients, 1):
    g = g * min(1.0, hyper.clip_norm / np.linalg.norm(g))
    g = g if name in ("adamw", "sgdw") else g + hyper.weight_decay * theta
    v = hyper.momentum * v + g
    m = hyper.momentum * m + (1 - hyper.momentum) * g
    s = 0.999 * s + 0.001 * g**2
    adam = m / (1 - hyper.momentum**t) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
    direction = {
      "sgd": g,
      "momentum": v,
      "nesterov": g + hyper.momentum * v,
      "sgdw": v + hyper.weight_decay * theta,
      "adam": adam,
      "adamw": adam + hyper.weight_decay * theta,
    }[name]
    theta = theta - hyper.learning_rate * direction
    path.append(theta)
  return np.stack(path)


@pytest.fixture(scope="module", params=OPTIMIZERS)
def optimizer(request):
  """A name, and its clipped steps as one compiled program for all hyperparameters."""
  transformation = clipped(OPTIMIZERS[request.param])

  @jax.jit
  def steps(hyper, theta, gradients):
    def step(carry, gradient):
      theta, state = carry
      updates, state = transformation(hyper).update(gradient, state, theta)
      theta = optax.apply_updates(theta, updates)
      return (theta, state), theta

    return jax.lax.scan(step, (theta, transformation(hyper).init(theta)), gradients)[1]

  return request.param, steps


def take(steps, hyper, theta=START, gradients=GRADIENTS):
  leaves = Hyper(*map(np.float32, hyper))
  return np.asarray(steps(leaves, theta.astype(np.float32), gradients.astype(np.float32)))


@pytest.mark.parametrize("hyper", HYPERS.values(), ids=HYPERS)
def test_three_steps_equal_their_closed_form(optimizer, hyper):
  name, steps = optimizer
  expected = closed_form(name, hyper, START, GRADIENTS)
  np.testing.assert_allclose(take(steps, hyper), expected, rtol=1e-4, atol=1e-5)


def test_gradients_within_the_bound_are_not_clipped(optimizer):
  _, steps = optimizer
  wide = HYPERS["plain"]._replace(clip_norm=2 * np.linalg.norm(GRADIENTS, axis=1).max())
  np.testing.assert_array_equal(take(steps, wide), take(steps, HYPERS["plain"]))


def test_no_gradient_and_no_decay_means_no_step_even_without_clipping(optimizer):
  _, steps = optimizer
  path = take(steps, HYPERS["plain"], gradients=np.zeros((2, 6)))
  np.testing.assert_array_equal(path, np.stack([START.astype(np.float32)] * 2))


def test_all_hyperparameters_share_one_program(optimizer):
  _, steps = optimizer
  first, *others = HYPERS.values()
  take(steps, first)
  programs = steps._cache_size()
  for hyper in others:
    take(steps, hyper)
  assert len(others) > 1 and steps._cache_size() == programs


def test_adam_goes_first_as_far_as_its_rate_against_every_gradients_sign():
  hyper = Hyper(0.01, 0.9)
  transformation = OPTIMIZERS["adam"](hyper)
  gradient = np.float32([1e-3, -1e3, 5, -7])
  updates, _ = transformation.update(gradient, transformation.init(gradient), gradient)
  np.testing.assert_allclose(updates, -0.01 * np.sign(gradient), rtol=1e-4)


def test_adamw_decays_by_the_rate_times_the_weights_and_not_through_the_moments():
  """Without a gradient the weights shrink by 1 - rate * decay; Adam takes a full step."""
  hyper, theta = Hyper(0.1, 0.9, weight_decay=0.5), np.float32([4.0, -2.0])
  moves = {}
  for name in ("adam", "adamw"):
    transformation = OPTIMIZERS[name](hyper)
    moves[name], _ = transformation.update(np.zeros_like(theta), transformation.init(theta), theta)
  np.testing.assert_allclose(moves["adamw"], -0.05 * theta, rtol=1e-5)
  np.testing.assert_allclose(moves["adam"], -0.1 * np.sign(theta), rtol=1e-5)


def test_sgdw_decays_by_the_rate_times_the_weights_and_not_through_the_velocity():
  """Without a gradient the weights shrink by 1 - rate * decay, at every step alike."""
  hyper, theta = Hyper(0.1, 0.9, weight_decay=0.5), np.float32([4.0, -2.0])
  moves = {}
  for name in ("momentum", "sgdw"):
    transformation = OPTIMIZERS[name](hyper)
    state = transformation.init(theta)
    _, state = transformation.update(np.zeros_like(theta), state, theta)
    moves[name], _ = transformation.update(np.zeros_like(theta), state, theta)
  np.testing.assert_allclose(moves["sgdw"], -0.05 * theta, rtol=1e-5)
  np.testing.assert_allclose(moves["momentum"], -0.05 * 1.9 * theta, rtol=1e-5)


def test_an_infinite_bound_is_the_same_as_none():
  gradient, theta = np.float32([3e3, -4e3]), np.float32([1.0, 2.0])
  for optimizer in OPTIMIZERS.values():
    moves = []
    for one in (optimizer, clipped(optimizer)):
      transformation = one(Hyper(0.1, 0.9, weight_decay=0.5, clip_norm=np.float32(np.inf)))
      moves.append(transformation.update(gradient, transformation.init(theta), theta)[0])
    np.testing.assert_array_equal(*moves)


@pytest.mark.parametrize("bound", [0.1, 1.0, 30.0])
def test_the_norm_of_a_clipped_gradient_is_the_bound_or_its_own(bound):
  gradient = {"kernel": np.float32([[3, -4], [0, 12]]), "bias": np.float32([1, -2])}
  norm = np.sqrt(3**2 + 4**2 + 12**2 + 1 + 2**2)
  transformation = clipped(OPTIMIZERS["sgd"])(Hyper(1.0, clip_norm=bound))
  updates, _ = transformation.update(gradient, transformation.init(gradient), gradient)
  size = np.linalg.norm(np.concatenate([np.ravel(update) for update in updates.values()]))
  assert size == pytest.approx(min(bound, norm), rel=1e-5)
  np.testing.assert_allclose(updates["bias"][1], 2 * min(bound / norm, 1), rtol=1e-5)


def path_of(name, gradients):
  """Where some steps of an optimiser lead from zero, without decay."""
  transformation, theta = OPTIMIZERS[name](Hyper(0.1, 0.9)), np.zeros(6, np.float32)
  state = transformation.init(theta)
  for gradient in np.float32(gradients):
    updates, state = transformation.update(gradient, state, theta)
    theta = optax.apply_updates(theta, updates)
  return np.asarray(theta)


def test_exactly_the_linear_ones_add_up():
  """What two sequences of gradients do is what their sum does, which `gram` relies upon."""
  one, other = GRADIENTS, GRADIENTS[::-1] ** 2
  linear = {
    name
    for name in OPTIMIZERS
    if np.allclose(
      path_of(name, one) + path_of(name, other), path_of(name, one + other), rtol=1e-4, atol=1e-5
    )
  }
  assert linear == set(LINEAR)


def test_an_optimizer_of_the_callers_own_is_linear_only_where_it_says_so():
  def own(hyper):
    return optax.sgd(hyper.learning_rate)

  assert not is_linear(own)
  own.linear = True
  assert is_linear(own)
  for name, optimizer in OPTIMIZERS.items():
    assert is_linear(name) == is_linear(optimizer) == (name in LINEAR)
