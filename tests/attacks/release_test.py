"""Defences of what is released: noise of the size it says, values as few as their bits, no more."""

import itertools

import hypothesis
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxinv.attacks.release import add_noise, defend, round_to_bits
from jaxinv.experiments.leakage import EvalConfig, released
from jaxinv.models.dense import make_model
from jaxinv.training.hyper import ON_RELEASE
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.training.primal import make_trainer
from jaxinv.types import Data, Hyper, Snapshot, Trained, TrainState

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
PARAMS = {
  "Dense_0": {
    "kernel": jnp.float32(0.01 * RNG.standard_normal((143, 5))),
    "bias": jnp.float32(RNG.standard_normal(5)),
  },
  "Dense_1": {"kernel": jnp.float32(30 * RNG.standard_normal((5, 5))), "bias": jnp.zeros(5)},
}
quick = hypothesis.settings(max_examples=60, deadline=None)
compiled, rounded = jax.jit(defend), jax.jit(round_to_bits)


def hyper_of(**values):
  """Hyperparameters as the traced leaves that they are in a group."""
  return jax.tree.map(jnp.float32, Hyper(**values))


def arrays_of(params):
  """All arrays in one order."""
  return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def rms(x):
  return np.sqrt(np.mean(np.float64(x) ** 2))


def test_without_noise_and_with_infinite_bits_parameters_come_out_bit_for_bit():
  for one, other in zip(
    arrays_of(compiled(PARAMS, hyper_of(), KEY)), arrays_of(PARAMS), strict=True
  ):
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ON_RELEASE)
def test_control_either_defence_changes_them(name):
  ends = compiled(PARAMS, hyper_of(**{name: 2.0}), KEY)
  changed = [
    (a != b).mean() for a, b in zip(arrays_of(ends), arrays_of(PARAMS), strict=True) if b.any()
  ]
  assert len(changed) == 3 and min(changed) > 0.5


# Bits.

# Numbers that XLA does not take for 0, though their differences may be.
numbers = st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False)
arrays = hnp.arrays(np.float32, 24, elements=numbers)


@quick
@hypothesis.given(arrays, st.sampled_from([1, 2, 3, 8, 12]))
def test_rounded_values_are_few_near_between_the_ends_and_in_the_same_order(x, bits):
  found = np.asarray(rounded(x, jnp.float32(bits)))
  low, high = float(x.min()), float(x.max())
  step = (high - low) / (2**bits - 1)
  # What float32 rounds of numbers as large as these, and the smallest that it has.
  slack = 4e-7 * max(abs(low), abs(high)) + 1e-37
  assert len(np.unique(found)) <= 2**bits
  assert np.abs(np.float64(found) - x).max() <= step / 2 + slack
  assert found.min() == low and found[x == high] == pytest.approx(high, abs=slack)
  assert (np.diff(found[np.argsort(x)]) >= 0).all()
  np.testing.assert_allclose(rounded(found, jnp.float32(bits)), found, rtol=0, atol=slack)
  # Every value is a whole number of steps from the lowest.
  steps = (np.float64(found) - low) / step if step else np.zeros(24)
  np.testing.assert_allclose(steps, np.round(steps), atol=slack / max(step, 1e-37))


@pytest.mark.parametrize("bits", [1, 2, 3, 6])
def test_of_many_values_every_one_of_the_two_to_the_bits_is_used(bits):
  x = jnp.linspace(-2.0, 7.0, 1000)
  values = np.unique(rounded(x, jnp.float32(bits)))
  np.testing.assert_allclose(values, np.linspace(-2, 7, 2**bits), atol=1e-5)


def test_one_bit_leaves_the_two_ends_each_value_at_the_nearer():
  x = np.float32([-1.0, 0.9, 1.1, 0.0, 3.0, 2.9])
  np.testing.assert_array_equal(rounded(x, jnp.float32(1)), [-1, -1, 3, -1, 3, 3])


def test_each_array_is_rounded_between_its_own_ends():
  ends = compiled(PARAMS, hyper_of(release_bits=2.0), KEY)
  for one, other in zip(arrays_of(ends), arrays_of(PARAMS), strict=True):
    assert len(np.unique(one)) <= 4
    np.testing.assert_allclose([one.min(), one.max()], [other.min(), other.max()], rtol=1e-6)


def test_more_bits_are_nearer_and_24_are_as_good_as_all():
  x = PARAMS["Dense_0"]["kernel"]
  errors = [float(jnp.abs(rounded(x, jnp.float32(bits)) - x).max()) for bits in (1, 2, 4, 8, 24)]
  assert all(few > 3 * more for few, more in itertools.pairwise(errors))
  assert errors[-1] < 4 * np.finfo(np.float32).eps * np.abs(x).max()


@pytest.mark.parametrize("value", [0.0, 0.1, -3e8, 1e-30])
@pytest.mark.parametrize("bits", [1.0, 8.0, np.inf])
def test_constant_arrays_stay_as_they_are(value, bits):
  x = np.full((3, 4), value, np.float32)
  np.testing.assert_array_equal(rounded(x, jnp.float32(bits)), x)


def test_in_double_precision_values_are_rounded_in_double_precision():
  with jax.enable_x64(True):
    x = jnp.asarray(RNG.standard_normal(50))
    found = round_to_bits(x, 20.0)
    assert found.dtype == np.float64
    step = (x.max() - x.min()) / (2**20 - 1)
    steps = (found - x.min()) / step
    np.testing.assert_allclose(steps, jnp.round(steps), atol=1e-8)
    assert jnp.abs(found - x).max() <= step / 2 * (1 + 1e-8)


# Noise.


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("level", [0.1, 2.0])
def test_noise_has_its_level_times_the_root_mean_square_of_the_array(scale, level):
  x = scale * (1 + RNG.standard_normal((200, 100)).astype(np.float32))
  noise = (np.float64(add_noise(jnp.asarray(x), level, KEY)) - x) / (level * rms(x))
  # Within five standard errors of a standard normal's moments.
  assert abs(noise.mean()) < 5 / np.sqrt(noise.size)
  assert abs(noise.var() - 1) < 5 * np.sqrt(2 / noise.size)
  assert abs(np.mean(noise**4) - 3) < 5 * np.sqrt(96 / noise.size)
  assert abs(np.corrcoef(noise.ravel(), x.ravel())[0, 1]) < 5 / np.sqrt(noise.size)


def test_each_array_has_noise_of_its_own_size_and_zeros_have_none():
  ends = compiled(PARAMS, hyper_of(release_noise=0.5), KEY)
  for one, other in zip(arrays_of(ends), arrays_of(PARAMS), strict=True):
    if not other.any():
      np.testing.assert_array_equal(one, 0)
    elif one.ndim == 2:
      size = rms(one - other) / (0.5 * rms(other))
      assert abs(size - 1) < 5 / np.sqrt(2 * other.size)


def test_noise_differs_between_keys_and_between_the_arrays_of_one_model():
  same = {"a": jnp.ones((40, 40)), "b": jnp.ones((40, 40))}
  hyper = hyper_of(release_noise=1.0)
  draws = [compiled(same, hyper, key)[name] for key in jax.random.split(KEY, 2) for name in "ab"]
  correlation = np.corrcoef([np.ravel(draw) for draw in draws])
  assert np.abs(correlation - np.eye(4)).max() < 5 / 40
  np.testing.assert_array_equal(draws[0], compiled(same, hyper, jax.random.split(KEY, 2)[0])["a"])


# Both, and where they are used.


def test_noise_comes_before_rounding_so_that_what_is_released_has_few_values():
  both = hyper_of(release_noise=1.0, release_bits=3.0)
  alone = compiled(PARAMS, hyper_of(release_noise=1.0), KEY)
  for one, noisy in zip(arrays_of(compiled(PARAMS, both, KEY)), arrays_of(alone), strict=True):
    assert len(np.unique(one)) <= 8
    assert np.abs(one - noisy).max() <= np.ptp(noisy) / 14 * (1 + 1e-5)


def test_many_models_are_defended_as_each_would_be_alone():
  hypers = [Hyper(), Hyper(release_bits=2.0), Hyper(release_noise=0.3, release_bits=5.0)]
  stacked = Hyper(*(jnp.asarray(column, float) for column in zip(*hypers, strict=True)))
  keys = jax.random.split(KEY, 3)
  group = jax.jit(jax.vmap(defend, in_axes=(None, 0, 0)))(PARAMS, stacked, keys)
  for i, hyper in enumerate(hypers):
    alone = compiled(PARAMS, jax.tree.map(jnp.float32, hyper), keys[i])
    for one, other in zip(arrays_of(group), arrays_of(alone), strict=True):
      np.testing.assert_allclose(one[i], other, rtol=1e-6, atol=1e-7)
  np.testing.assert_array_equal(group["Dense_0"]["kernel"][0], PARAMS["Dense_0"]["kernel"])


def release_at(step, seed=0, earlier=None, level=0.5):
  """What an attacker gets of the model at a step, and perhaps of an earlier one."""
  trainer = make_trainer(make_model(5), LOSSES["softmax"], OPTIMIZERS["sgd"])
  config = EvalConfig((13, 11), 5, holdout=False, altered=True)
  state = TrainState(PARAMS, None, jnp.asarray(step), jax.random.key(seed), None)
  data = Data(None, None, None, None)  # Not looked at: these parameters are the weights.
  model = Trained(PARAMS, state, data, hyper_of(release_noise=level), earlier)
  return released(trainer, config, model)


def test_each_release_of_a_model_has_noise_of_its_own_and_always_the_same():
  releases = [
    np.ravel(release_at(*whom).params["Dense_0"]["kernel"] - PARAMS["Dense_0"]["kernel"])
    for whom in ((3, 0), (4, 0), (3, 1))
  ]
  assert np.abs(np.corrcoef(releases) - np.eye(3)).max() < 5 / np.sqrt(715)
  again = release_at(3).params["Dense_0"]["kernel"] - PARAMS["Dense_0"]["kernel"]
  np.testing.assert_array_equal(np.ravel(again), releases[0])


def test_the_earlier_release_is_what_was_released_then_and_the_start_is_not_altered():
  found = release_at(4, earlier=Snapshot(PARAMS, jnp.asarray(3)))
  for mine, expected in (
    (found.params, release_at(4).params),
    (found.previous_params, release_at(3).params),
    (found.init_params, PARAMS),
  ):
    for one, other in zip(arrays_of(mine), arrays_of(expected), strict=True):
      np.testing.assert_array_equal(one, other)
