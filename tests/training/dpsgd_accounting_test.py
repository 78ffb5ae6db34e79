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


# Of several photographs together, and of several models.


def exact_of_group(noise, rate, group, delta):
  """Epsilon of one step by sums over a fine grid of outcomes, the worse of both directions."""
  x = np.linspace(-12 * noise, group + 12 * noise, 400_001)
  out = norm.pdf(x, 0, noise)
  into = sum(
    p * norm.pdf(x, k, noise) for k, p in enumerate(binom.pmf(np.arange(group + 1), group, rate))
  )

  def excess(value):
    pairs = ((into, out), (out, into))
    return max(np.maximum(p - np.exp(value) * q, 0).sum() for p, q in pairs) * (x[1] - x[0])

  return brentq(lambda value: excess(value) - delta, 0, 200)


@pytest.mark.parametrize(("noise", "rate", "group"), [(1.0, 0.5, 2), (2.0, 0.1, 8), (1.5, 0.9, 3)])
def test_one_step_of_a_group_is_its_mixture_of_gaussians(noise, rate, group):
  exact = exact_of_group(noise, rate, group, 1e-5)
  assert exact - 1e-5 <= epsilon(noise, rate, 1, 1e-5, group=group) <= 1.02 * exact


@pytest.mark.parametrize("group", [1, 2, 8])
def test_a_group_in_every_batch_is_one_photograph_under_a_share_of_the_noise(group):
  exact = gaussian(4.0 / group, 1e-5)
  assert exact - 1e-9 <= epsilon(4.0, 1.0, 1, 1e-5, group=group) <= 1.001 * exact
  fifty = gaussian(40.0 / group / math.sqrt(50), 1e-5)
  assert fifty - 1e-9 <= epsilon(40.0, 1.0, 50, 1e-5, group=group) <= 1.001 * fifty


def test_a_group_has_more_than_its_number_times_the_epsilon_of_one():
  """At the same delta; and as much as an independent computation found."""
  found = [epsilon(1.0, 0.1, 300, 1e-5, group=g) for g in (1, 2, 8)]
  assert found[0] == epsilon(1.0, 0.1, 300, 1e-5)
  assert found[1] > 2 * found[0] and found[2] > 8 * found[0]
  assert found == pytest.approx([12.40, 30.12, 226.3], rel=0.01)


def test_epsilon_grows_with_the_group_and_with_the_models():
  for name in ("group", "models"):
    found = [epsilon(**{**RUN, "steps": 50, name: n}) for n in (1, 2, 3, 16)]
    assert found == sorted(found) and len(set(found)) == 4


def test_so_many_models_are_so_many_times_the_steps():
  assert epsilon(1.0, 0.1, 20, 1e-5, models=3) == epsilon(1.0, 0.1, 60, 1e-5)
  exact = gaussian(10.0 / math.sqrt(50), 1e-5)
  assert exact - 1e-9 <= epsilon(10.0, 1.0, 5, 1e-5, models=10) <= 1.001 * exact


@pytest.mark.parametrize("noise", [1e-3, 0.02, 1e5])
def test_a_group_under_any_noise_has_a_bound(noise):
  """Where losses overflow, too; and no warning."""
  found = epsilon(noise, 0.1, 500, 1e-5, group=8, models=32)
  assert type(found) is float and 0 < found < math.inf


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


@pytest.mark.parametrize(("batch_size", "num_train"), [(20, 200), (32, 320), (1, 50)])
@pytest.mark.parametrize("group", [1, 2])
def test_the_others_leave_no_place_as_rarely_as_the_docstring_says(batch_size, num_train, group):
  """The others do not know of the group, so that this is what delta grows by in a step."""
  rate, places = batch_size / num_train, capacity(batch_size, num_train, 1e-9)
  crowded = binom.sf(places - group, num_train - group, rate)
  assert crowded <= 1e-9 / rate**group
  # As a control, so it is not with a place less.
  assert binom.sf(places - 1 - group, num_train - group, rate) > 1e-9


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
    {"group": 0},
    {"models": 0},
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
