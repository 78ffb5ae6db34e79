"""Single photographs from the change of a first layer: planted ones come back, others do not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from helpers import assert_fails
from jaxinv.attacks.single.separation import detail
from jaxinv.attacks.single.unmixing import (
  Change,
  change_of,
  count_sources,
  decay_factor,
  side_by_side,
  spectrum,
  unmix,
)

# Few shapes: each is compiled anew.
N, UNITS, SHAPE = 10, 28, (32, 24)
P = SHAPE[0] * SHAPE[1]


def leaves(number, shape=SHAPE, seed=0):
  """Images of rectangles placed at random, which hide each other: sharp edges, as photographs."""
  rng = np.random.default_rng(seed)
  images = np.full((number, *shape), 0.5)
  for image in images:
    for _ in range(30):
      (top, left), (height, width) = rng.integers(0, shape[:2]), rng.integers(3, 12, 2)
      image[top : top + height, left : left + width] = rng.uniform(size=shape[2:])
  return images


def rows(images):
  return images.reshape(len(images), -1)


def normal(*shape, seed=0):
  return np.random.default_rng((7, seed)).normal(size=shape)


def mixed(images, coefficients, with_bias=True):
  return Change(rows(images).T @ coefficients, coefficients.sum(0) if with_bias else None)


def likeness(found, truth):
  """Correlations, one row a component, one column a planted image."""
  return np.corrcoef(rows(found), rows(truth))[: len(found), len(found) :]


def matched(found, truth, least=0.95):
  """The components in the order of the truth, once they are shown to be it one to one."""
  seen = likeness(found, truth)
  order = seen.argmax(0)
  assert len(found) == len(truth) == len(set(order))
  assert seen.max(0).min() > least
  return found[order]


def count(change):
  return count_sources(change, spectrum(change)[0])


# Planted images come back.


@pytest.mark.parametrize("with_bias", [False, True])
def test_planted_images_come_back_one_to_one_and_the_right_way_up(with_bias):
  truth = leaves(N)
  found = unmix(mixed(truth, normal(N, UNITS), with_bias), SHAPE)
  matched(found.images, truth)
  assert found.is_scaled == with_bias
  assert found.count.number == N and found.count.certain
  assert found.stability.min() > 0.7 and (np.diff(found.stability) <= 0).all()
  if not with_bias:
    np.testing.assert_allclose(rows(found.images).mean(1), 1, atol=1e-5)


def test_a_bias_gives_the_scale():
  truth = leaves(N)
  found = matched(unmix(mixed(truth, normal(N, UNITS)), SHAPE).images, truth)
  assert np.abs(found - truth).mean() < 0.04
  assert found.min() > -0.15 and found.max() < 1.15


def test_colour():
  truth = leaves(N, (16, 16, 3))
  found = unmix(mixed(truth, normal(N, UNITS)), (16, 16, 3))
  assert found.images.shape == truth.shape
  assert np.abs(matched(found.images, truth) - truth).mean() < 0.04


def test_components_and_coefficients_give_the_change():
  truth, coefficients = leaves(N), normal(N, UNITS)
  change = mixed(truth, coefficients)
  found = unmix(change, SHAPE)
  np.testing.assert_allclose(rows(found.images).T @ found.coefficients, change.kernel, atol=1e-4)
  order = likeness(found.images, truth).argmax(1)
  # A coefficient's sign and size are those of training: how it pulled on the photograph.
  assert np.corrcoef(found.coefficients.ravel(), coefficients[order].ravel())[0, 1] > 0.95


def test_the_same_seed_gives_the_same_numbers_and_another_the_same_images():
  change = mixed(leaves(N), normal(N, UNITS))
  one, same, other = (unmix(change, SHAPE, seed=seed) for seed in (0, 0, 1))
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(same), strict=True):
    np.testing.assert_array_equal(a, b)
  assert not np.array_equal(one.images, other.images)
  matched(other.images, one.images, 0.99)


def test_one_start_is_enough_where_images_are_well_separated():
  truth = leaves(N)
  matched(unmix(mixed(truth, normal(N, UNITS)), SHAPE, restarts=1).images, truth)


def test_a_number_that_is_known_is_not_counted():
  truth = leaves(N)
  change = mixed(truth, normal(N, UNITS))
  noisy = change._replace(kernel=change.kernel + 0.2 * normal(P, UNITS, seed=1))
  assert not count(noisy).certain
  found = unmix(noisy, SHAPE, number=N)
  assert (likeness(found.images, truth).max(0) > 0.5).mean() > 0.7
  assert unmix(change, SHAPE, number=0).images.shape == (0, *SHAPE)


def test_detail_is_that_of_second_differences():
  down, across = np.mgrid[:6, :5].astype(float)
  np.testing.assert_allclose(detail((1 + 2 * down + 3 * across)[None]), 0)
  assert (detail((down * across)[None]) != 0).sum() == 5 * 4
  assert detail(np.zeros((2, 6, 5, 3))).shape == (2, 3 * (4 * 5 + 6 * 3 + 5 * 4))


# Controls that must fail.


def test_control_nothing_is_found_in_a_random_matrix():
  truth, noise = leaves(N), Change(normal(P, UNITS), normal(UNITS))
  assert len(unmix(noise, SHAPE).images) == 0
  found = unmix(noise, SHAPE, number=N)
  assert np.abs(likeness(found.images, truth)).max() < 0.25
  assert np.median(found.stability) < 0.6


def test_control_identification_is_at_chance_in_the_change_of_other_images():
  gallery = leaves(10 * N)
  trained, coefficients = gallery[:N], normal(N, UNITS)

  def identified(images):
    """How many of the first N of the gallery are the one nearest to a component."""
    nearest = likeness(unmix(mixed(images, coefficients), SHAPE).images, gallery).argmax(1)
    return len(set(nearest) & set(range(N)))

  assert identified(trained) == N
  others = leaves(N, seed=1)
  assert identified(others) <= 4  # 1 expected by chance.
  assert likeness(unmix(mixed(others, coefficients), SHAPE).images, trained).max() < 0.7


# How many they are.


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("number", [1, 2, 3, 10, 40])
def test_the_number_is_counted_in_rounded_parameters(number, dtype):
  units = 2 * number + 8
  start = (normal(P, units) / P**0.5).astype(dtype)
  added = rows(leaves(number)).T @ (0.1 * normal(number, units, seed=1))
  end = (start.astype(float) + added).astype(dtype)
  change = change_of({"kernel": end}, {"kernel": start}, P)
  assert count(change)[::2] == (number, True)
  assert change.bias is None
  if dtype != np.float64:
    np.testing.assert_allclose(change.rounding, (change.kernel - added).std(), rtol=0.1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_dead_units_and_columns_that_sum_to_zero_do_not_count(dtype):
  start = (normal(P, UNITS) / P**0.5).astype(dtype)
  coefficients = 0.1 * normal(N, UNITS, seed=1)
  coefficients -= coefficients.mean(1, keepdims=True)
  alive = np.arange(UNITS) % 3 > 0
  for some in (coefficients, coefficients * alive):
    end = (start.astype(float) + rows(leaves(N)).T @ some).astype(dtype)
    assert count(change_of({"kernel": end}, {"kernel": start}, P))[::2] == (N, True)


@pytest.mark.parametrize("contrast", [1.0, 0.1])
@pytest.mark.parametrize("blur", [6.0, 3.0, 2.0])
def test_the_number_is_seen_through_noise_and_then_not_called_certain(blur, contrast):
  """The last photograph's singular value is so many times that of the noise."""
  change = mixed(0.5 + contrast * (leaves(N) - 0.5), normal(N, UNITS))
  noise = spectrum(change)[0][N - 1] / blur / (P**0.5 + UNITS**0.5) * normal(P, UNITS, seed=1)
  assert count(change._replace(kernel=change.kernel + noise))[::2] == (N, False)


def test_values_that_go_on_falling_are_no_certain_number():
  steady = Change(np.eye(P, UNITS) * 20.0 ** -np.minimum(np.arange(UNITS), 4), None)
  assert not count(steady).certain


def test_a_change_smaller_than_rounding_counts_as_none():
  start = normal(P, UNITS).astype(np.float16)
  end = start.copy()
  end[:3] = np.nextafter(end[:3], np.float16(9))
  change = change_of({"kernel": end}, {"kernel": start}, P)
  assert count(change).number == 0
  assert count(change._replace(rounding=0.0)).number == 3


SIZES = [(P, 28), (P, 100), (300, 16), (100, 100), (60, 200), (300, 4), (300, 3), (300, 2), (9, 1)]


@pytest.mark.parametrize("size", SIZES)
def test_no_photographs_are_counted_in_noise(size):
  counts = [count(Change(normal(*size, seed=seed), None)) for seed in range(6)]
  assert [one[::2] for one in counts] == 6 * [(0, False)]


def test_no_photographs_are_counted_where_nothing_changed():
  still = Change(np.zeros((P, UNITS)), np.zeros(UNITS))
  assert count(still)[::2] == (0, False)
  found = unmix(still, SHAPE)
  assert found.images.shape == (0, *SHAPE) and found.coefficients.shape == (0, UNITS)
  assert not found.is_scaled


@pytest.mark.parametrize("contrast", [1.0, 0.3, 0.1])
@pytest.mark.parametrize(("number", "units"), [(10, 6), (40, 20), (32, 32), (200, 64)])
def test_no_photographs_are_counted_where_they_are_as_many_as_units(number, units, contrast):
  """Dull photographs have little but their mean, which is no single photograph."""
  images = 0.5 + contrast * (leaves(number) - 0.5)
  assert count(mixed(images, normal(number, units)))[::2] == (0, False)


def test_dead_units_are_no_cliff():
  alive = np.arange(UNITS) % 3 > 0
  assert count(mixed(leaves(40), normal(40, UNITS) * alive))[::2] == (0, False)


def test_several_models_side_by_side_are_counted_where_one_alone_is_not():
  truth = leaves(N)
  changes = [mixed(truth, normal(N, 7, seed=seed)) for seed in range(4)]
  assert [count(change).number for change in changes] == [0] * 4
  together = side_by_side(changes)
  assert together.kernel.shape == (P, UNITS) and together.bias.shape == (UNITS,)
  assert count(together)[::2] == (N, True)
  matched(unmix(together, SHAPE).images, truth)
  one_without = [*changes[:3], changes[3]._replace(bias=None, rounding=0.5)]
  assert side_by_side(one_without)[1:] == (None, 0.5)


# From the states of a model to its change.


@pytest.mark.parametrize("factor", [1.0, 0.999, 0.7, 0.0])
@pytest.mark.parametrize("units", [16, UNITS])
def test_what_weight_decay_left_is_found(factor, units):
  start = normal(P, units) / P**0.5
  added = rows(leaves(N)).T @ (0.1 * normal(N, units, seed=1))
  assert decay_factor(factor * start + added, start) == pytest.approx(factor, abs=1e-6)
  start = start.astype(np.float32)
  params = {
    "kernel": (factor * start + added).astype(np.float32),
    "bias": factor * 2 + np.ones(units),
  }
  found = change_of(params, {"kernel": start, "bias": 2 * np.ones(units)}, P, factor=None)
  np.testing.assert_allclose(found.kernel, added, atol=2e-6)
  np.testing.assert_allclose(found.bias, 1, atol=1e-6)
  assert count(found)[::2] == (N, True)


def test_a_change_is_later_less_earlier_of_any_layout():
  later, earlier = normal(P, 5), normal(P, 5, seed=1)
  ones = np.ones(5)
  found = change_of({"weight": later.T, "bias": 3 * ones}, {"weight": earlier.T, "bias": ones}, P)
  np.testing.assert_allclose(found.kernel, later - earlier)
  np.testing.assert_allclose(found.bias, 2)
  half = change_of({"weight": later.T, "bias": 3 * ones}, {"weight": earlier.T}, P, factor=0.5)
  np.testing.assert_allclose(half.kernel, later - earlier / 2)
  assert half.bias is None  # Of an earlier bias that is not known, a change is not.


def train(optimizer, images, steps=40):
  """An MLP trained by full batches: (initial parameters, last parameters, optimiser's state)."""
  inputs, labels = jnp.asarray(rows(images), jnp.float32), jnp.arange(len(images)) % 3

  def loss(params):
    first, last = params["Dense_0"], params["Dense_1"]
    hidden = jax.nn.tanh(inputs @ first["kernel"] + first["bias"][None])
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ last["kernel"], labels).mean()

  @jax.jit
  def step(carry, _):
    updates, state = optimizer.update(jax.grad(loss)(carry[0]), carry[1], carry[0])
    return (optax.apply_updates(carry[0], updates), state), None

  kernels = (normal(P, UNITS) / P**0.5, normal(UNITS, 3, seed=1) / UNITS**0.5)
  first, last = (jnp.asarray(kernel, jnp.float32) for kernel in kernels)
  init = {"Dense_0": {"kernel": first, "bias": jnp.zeros(UNITS)}, "Dense_1": {"kernel": last}}
  return init, *jax.lax.scan(step, (init, optimizer.init(init)), length=steps)[0]


def test_photographs_come_back_from_training_with_weight_decay():
  truth, rate, decay, steps = leaves(N), 0.1, 0.05, 40
  optimizer = optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate))
  init, params, _ = train(optimizer, truth, steps)
  change = change_of(params, init, P, factor=(1 - rate * decay) ** steps)
  matched(unmix(change, SHAPE).images, truth)
  sought = change_of(params, init, P, factor=None)
  np.testing.assert_allclose(sought.kernel, change.kernel, atol=1e-6)
  # Whoever takes all of the initial weights off leaves some of them in the change.
  assert count(change_of(params, init, P)).number != N


def test_photographs_come_back_from_an_optimisers_first_moment():
  """Adam leaves the span of the photographs; its first moment, a sum of gradients, does not."""
  truth = leaves(N)
  init, params, state = train(optax.adam(1e-3), truth)
  moment = change_of(state[0].mu, None, P)
  np.testing.assert_array_equal(moment.kernel, state[0].mu["Dense_0"]["kernel"])
  assert moment.bias.shape == (UNITS,)
  matched(unmix(moment, SHAPE).images, truth)
  assert not count(change_of(params, init, P)).certain


# What cannot be asked.


def test_what_does_not_fit_is_refused():
  change = mixed(leaves(N), normal(N, UNITS))
  assert_fails(lambda: unmix(change, (32, 25)), f"{P} features", "(32, 25)")
  for tiny in ((2, P // 2), (P // 2, 2), (P,), (1, *SHAPE)):
    assert_fails(lambda shape=tiny: unmix(change, shape), "no detail", str(tiny))
  for number in (-1, N + 1, UNITS + 1):
    assert_fails(lambda n=number: unmix(change, SHAPE, n), f"{number} photographs", f"{N} or fewer")
  assert_fails(lambda: unmix(change, SHAPE, restarts=0), "restarts")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_model_that_diverged_is_refused(bad):
  change = mixed(leaves(N), normal(N, UNITS))
  kernel, bias = change.kernel.copy(), change.bias.copy()
  kernel[3, 3] = bias[3] = bad
  for broken in (change._replace(kernel=kernel), change._replace(bias=bias)):
    for number in (None, N):
      assert_fails(lambda c=broken, n=number: unmix(c, SHAPE, n), "not finite", "diverged")
  params = {"kernel": kernel}
  assert_fails(lambda: change_of(params, {"kernel": change.kernel}, P, None), "not finite")


def test_states_of_different_models_are_refused():
  kernel = normal(P, 5)
  assert_fails(lambda: change_of({"w": kernel}, {"w": kernel[:, :4]}, P), "5 and 4 units")
  assert_fails(lambda: change_of({"w": kernel}, None, P + 1), f"{P + 1} features")
  changes = [Change(kernel, None), Change(kernel[1:], None)]
  assert_fails(lambda: side_by_side(changes), "features", str(P), str(P - 1))
  assert_fails(lambda: side_by_side([]), "at least one")


def test_units_that_weight_decay_alone_moved_do_not_count():
  """As AdamW leaves units that never fire: what is taken off leaves their rounding."""
  rng = np.random.default_rng(0)
  # Everything that fired moved at full rank: nothing can be counted.
  kernel = rng.normal(size=(400, 60))
  kernel[:, 40:] = 1e-6 * rng.normal(size=(400, 20))
  change = Change(kernel, None, rounding=1e-9)
  assert not count_sources(change, spectrum(change)[0]).certain
