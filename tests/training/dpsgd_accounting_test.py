"""The promise of DP-SGD: that of the exact Gaussian mechanism, monotone, and inverted."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binom, norm

from jaxinv.errors import InputError
from jaxinv.training.dpsgd import capacity, epsilon, noise_for

RUN = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 500, "delta": 1e-5}


def gaussian(noise, delta):
  """Epsilon of one Gaussian mechanism, exactly: theorem 8 of Balle and Wang 2018."""

  def excess(value):
    shift = 1 / (2 * noise)
    return norm.cdf(shift - value * noise) - math.exp(value) * norm.cdf(-shift - value * noise)

  return brentq(lambda value: excess(value) - delta, 0, 200)


@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
def test_one_step_of_the_whole_batch_is_the_gaussian_mechanism(noise, delta):
  exact = gaussian(noise, delta)
  assert exact - 1e-9 <= epsilon(noise, 1.0, 1, delta) <= 1.001 * exact


def test_steps_of_the_whole_batch_add_up_as_gaussians_do():
  """So many steps are one with less noise, by the root of their number."""
  exact = gaussian(10.0 / math.sqrt(50), 1e-5)
  assert exact - 1e-9 <= epsilon(10.0, 1.0, 50, 1e-5) <= 1.001 * exact


def test_control_another_noise_is_told_apart_from_the_exact_one():
  assert epsilon(1.01, 1.0, 1, 1e-5) < gaussian(1.0, 1e-5) < epsilon(0.99, 1.0, 1, 1e-5)


@pytest.mark.parametrize(
  ("name", "values"),
  [
    ("noise_multiplier", (8.0, 4.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.01, 1e-3, 1e-100, 0.0)),
    ("sampling_rate", (1e-4, 0.01, 0.1, 0.5, 1.0)),
    ("steps", (1, 2, 10, 500, 5000)),
    ("delta", (0.5, 0.01, 1e-5, 1e-9, 1e-13, 1e-15)),
  ],
)
def test_epsilon_grows_with_steps_and_rate_and_falls_with_noise_and_delta(name, values):
  found = [epsilon(**{**RUN, name: value}) for value in values]
  assert found == sorted(found) and len(set(found)) == len(found)
  assert all(type(value) is float for value in found)


def test_sampling_a_tenth_promises_more_than_taking_all():
  assert epsilon(**RUN) < 0.1 * epsilon(**{**RUN, "sampling_rate": 1.0})


@pytest.mark.parametrize("noise", [0.0, 1e-200])
def test_without_noise_nothing_is_promised(noise):
  assert epsilon(**{**RUN, "noise_multiplier": noise}) == math.inf


@pytest.mark.parametrize("target", [0.1, 1.0, 8.0, 1000.0])
def test_the_noise_for_an_epsilon_keeps_to_it_and_little_less_does_not(target):
  noise = noise_for(target, 0.1, 500, 1e-5)
  assert epsilon(noise, 0.1, 500, 1e-5) <= target
  assert epsilon(noise / 1.0011, 0.1, 500, 1e-5) > target


@pytest.mark.parametrize(("batch_size", "num_train"), [(1, 1), (1, 50), (20, 200), (199, 200)])
@pytest.mark.parametrize("tail", [0.3, 1e-3, 1e-12])
def test_a_capacity_is_the_least_that_covers(batch_size, num_train, tail):
  found = capacity(batch_size, num_train, tail)
  rate = batch_size / num_train
  assert found <= num_train
  assert binom.sf(found, num_train, rate) <= tail
  assert found == 0 or binom.sf(found - 1, num_train, rate) > tail


def test_the_whole_data_set_as_a_batch_needs_no_more_places():
  assert capacity(200, 200) == 200


def test_poisson_batches_exceed_a_capacity_as_often_as_its_tail_says():
  draws = np.random.default_rng(0).binomial(200, 0.1, 100_000)
  found = capacity(20, 200, tail=0.01)
  # Within four standard errors; one place less is exceeded more often than allowed.
  assert np.mean(draws > found) <= 0.01 + 4 * math.sqrt(0.01 / 100_000)
  assert np.mean(draws > found - 1) > 0.01


@pytest.mark.parametrize(
  "wrong",
  [
    {"noise_multiplier": -1.0},
    {"noise_multiplier": math.nan},
    {"noise_multiplier": math.inf},
    {"sampling_rate": 0.0},
    {"sampling_rate": 1.1},
    {"sampling_rate": math.nan},
    {"steps": 0},
    {"delta": 0.0},
    {"delta": 1.0},
  ],
)
def test_nonsense_is_refused_in_one_line(wrong):
  with pytest.raises(InputError, match=r"^[^\n]*$"):
    epsilon(**{**RUN, **wrong})


@pytest.mark.parametrize(
  ("function", "arguments"),
  [
    (noise_for, (0.0, 0.1, 500, 1e-5)),
    (noise_for, (math.inf, 0.1, 500, 1e-5)),
    (noise_for, (1.0, 2.0, 500, 1e-5)),
    (noise_for, (1e-6, 0.1, 500, 1e-15)),  # The bound that stands in stays above that.
    (capacity, (0, 10)),
    (capacity, (11, 10)),
    (capacity, (5, 10, 0.0)),
  ],
)
def test_targets_and_sizes_that_cannot_be_are_refused_in_one_line(function, arguments):
  with pytest.raises(InputError, match=r"^[^\n]*$"):
    function(*arguments)
