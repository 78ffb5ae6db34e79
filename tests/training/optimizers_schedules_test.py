"""Schedules: optax's own and known values, in [0, 1] for every number of steps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv.training.optimizers import SCHEDULES

LENGTHS = [1, 2, 3, 4, 5, 7, 10, 19, 20, 21, 40, 100, 781]


def factors(name, num_steps, count=None):
  """The factors of all steps, by one compiled program."""
  schedule = jax.jit(jax.vmap(SCHEDULES[name](num_steps)))
  return np.asarray(schedule(jnp.arange(num_steps if count is None else count)))


@pytest.mark.parametrize("num_steps", LENGTHS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_factors_are_in_bounds_also_after_the_last_step(name, num_steps):
  values = factors(name, num_steps, 2 * num_steps + 3)
  assert values.dtype == jnp.result_type(float)
  assert (values >= 0).all() and (values <= 1).all()  # A NaN would be neither.


@pytest.mark.parametrize("num_steps", LENGTHS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_peak_is_one_and_is_reached(name, num_steps):
  assert factors(name, num_steps).max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("num_steps", LENGTHS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_no_step_is_lost_and_after_the_peak_it_never_rises(name, num_steps):
  values = factors(name, num_steps)
  assert (values > 0).all()
  peak = values.argmax()
  assert (np.diff(values[:peak]) > 0).all() and (np.diff(values[peak:]) < 1e-6).all()


REFERENCES = {
  "constant": lambda n: optax.constant_schedule(1.0),
  "cosine": partial(optax.cosine_decay_schedule, 1.0),
  "one_cycle": partial(optax.cosine_onecycle_schedule, peak_value=1.0),
  "warmup_cosine": lambda n: optax.warmup_cosine_decay_schedule(1 / 6, 1.0, 5, n),
  "steps": lambda n: optax.piecewise_constant_schedule(1.0, {50: 0.1, 75: 0.1}),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_of_a_hundred_steps_all_are_optaxs(name):
  expected = [float(REFERENCES[name](100)(t)) for t in range(100)]
  np.testing.assert_allclose(factors(name, 100), expected, rtol=1e-5, atol=1e-6)


def test_cosine_is_its_formula():
  expected = (1 + np.cos(np.pi * np.arange(40) / 40)) / 2
  np.testing.assert_allclose(factors("cosine", 40), expected, atol=1e-6)


def test_one_cycle_peaks_after_thirty_per_cent_and_ends_near_nothing():
  values = factors("one_cycle", 100, 101)
  assert values.argmax() == 30
  np.testing.assert_allclose(values[[0, 15, 30, 65]], [0.04, 0.52, 1, 0.5], atol=1e-5)
  assert values[99] < 1e-3 and values[100] < 1e-5


def test_warm_up_is_linear_from_its_first_share_to_the_peak():
  values = factors("warmup_cosine", 100)
  np.testing.assert_allclose(values[:6], np.arange(1, 7) / 6, rtol=1e-6)
  expected = (1 + np.cos(np.pi * np.arange(95) / 95)) / 2
  np.testing.assert_allclose(values[5:], expected, atol=1e-6)


@pytest.mark.parametrize(
  "num_steps, ones, tenths", [(1, 1, 0), (2, 1, 1), (3, 2, 1), (4, 2, 1), (5, 3, 1), (100, 50, 25)]
)
def test_steps_drop_where_half_and_three_quarters_are_done(num_steps, ones, tenths):
  rest = num_steps - ones - tenths
  expected = [1.0] * ones + [0.1] * tenths + [0.01] * rest
  np.testing.assert_allclose(factors("steps", num_steps), expected, rtol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_one_program_serves_many_peak_rates(name):
  """What optax's schedules cannot do: their peak may not be traced."""
  schedule, traces = SCHEDULES[name](10), []

  @jax.jit
  def rates(peaks, step):
    traces.append(None)
    return jax.vmap(lambda peak: peak * schedule(step))(peaks)

  peaks = jnp.array([0.1, 3.0])
  for step, factor in enumerate(factors(name, 10)):
    np.testing.assert_allclose(rates(peaks, jnp.int32(step)), factor * peaks, rtol=1e-5, atol=1e-6)
  assert len(traces) == 1
