"""Worst cases: the Gaussian mechanism's in closed form, and limits that every curve keeps."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from jaxinv.errors import InputError
from jaxinv.experiments.privacy.worst_case import worst_case
from jaxinv.training.dpsgd import noise_for

ALARMS = np.array([1e-4, 0.01, 0.025, 0.1, 0.5, 0.9])
RATE, STEPS, DELTA = 0.1, 500, 1e-5


@pytest.mark.parametrize(
  ("noise", "steps", "group"), [(5.0, 64, 1), (1.0, 1, 1), (5.0, 16, 2), (2.5, 4, 2)]
)
def test_of_full_batches_the_curve_is_that_of_two_gaussians(noise, steps, group):
  """The shift of a group of g after T steps is g sqrt(T) / noise: arXiv 1905.02383."""
  shift, found = group * math.sqrt(steps) / noise, worst_case(noise, 1.0, steps, group)
  exact = norm.cdf(norm.ppf(ALARMS) + shift)
  hits = found.hits(ALARMS)
  assert (hits >= exact * (1 - 1e-5)).all()  # An upper bound but for rounding, and a tight one.
  np.testing.assert_allclose(hits, exact, rtol=0.02 if group > 1 else 1e-3)
  np.testing.assert_allclose(found.advantage, 2 * norm.cdf(shift / 2) - 1, rtol=0.02)
  assert found.recovered(40) == found.hits(1 / 40)


@pytest.mark.parametrize("group", [1, 8])
def test_hits_grow_with_epsilon_and_keep_to_it(group):
  before = ALARMS
  for target in (1.0, 7.97, 30.0, 1000.0):
    found = worst_case(noise_for(target, RATE, STEPS, DELTA), RATE, STEPS, group)
    hits = found.hits(ALARMS)
    assert (hits >= before - 1e-9).all() and (np.diff(hits) >= 0).all() and (hits <= 1).all()
    if group == 1:
      most = np.exp(min(target, 500)) * ALARMS + DELTA
      assert (hits <= np.minimum(most, 1) + 1e-9).all()
    assert found.advantage >= (hits - ALARMS).max() - 1e-9
    before = hits
  assert (before > 0.999).all()


def test_a_group_is_known_better_than_one_and_order_and_shape_of_alarms_do_not_matter():
  one, two = (worst_case(1.55, RATE, 50, group) for group in (1, 2))
  assert (two.hits(ALARMS) > one.hits(ALARMS)).all() and two.advantage > 1.5 * one.advantage
  np.testing.assert_allclose(one.hits(ALARMS[::-1].reshape(2, 3)).ravel(), one.hits(ALARMS)[::-1])


def test_without_noise_all_is_known():
  found = worst_case(0.0, RATE, STEPS)
  assert found.advantage == 1 and found.recovered(1000) == 1


@pytest.mark.parametrize(
  "wrong", [(-1.0, 0.1, 5), (math.inf, 0.1, 5), (1.0, 0.0, 5), (1.0, 0.1, 0)]
)
def test_nonsense_is_refused_in_one_line(wrong):
  with pytest.raises(InputError, match=r"^[^\n]*$"):
    worst_case(*wrong)
