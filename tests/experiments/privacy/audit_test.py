"""DP-SGD as it is keeps to its epsilon, nearly reaches it, and with half the noise is found out."""

import math
from collections import namedtuple

import numpy as np
import pytest
from scipy.stats import norm

from jaxinv.ensemble.groups import Host
from jaxinv.experiments.privacy.audit import Audit, judge, noise_bound, train_canaries
from jaxinv.experiments.privacy.canaries import (
  CANARIES,
  FINAL,
  MISLABELLED,
  PLANTED,
  STEPS,
  make_stage,
)
from jaxinv.experiments.settings import Settings
from jaxinv.metrics.empirical import Bound, Errors
from jaxinv.training.dpsgd import epsilon, noise_for

CLAIMED, DELTA, MODELS = 7.97, 1e-5, 4000
# Programs that are built wrong, by the noise that they have instead; the claim stays.
Builds = namedtuple("Builds", ("right", "half_noise"))


@pytest.fixture(scope="module")
def stage(planted):
  return make_stage(planted, 0.5, steps=8)


@pytest.fixture(scope="module")
def noise(stage):
  return noise_for(CLAIMED, stage.rate, stage.steps, DELTA)


@pytest.fixture(scope="module")
def scores(stage, noise):
  """By build: [3 kinds, models, 2 canaries, 2 attackers, 2 scores]."""
  hypers = {1.0: stage.hyper(noise), 0.5: stage.hyper(noise)._replace(dp_noise=noise / 2)}
  settings = Settings(arms=(), steps=stage.steps, width=8000)
  return Builds(*train_canaries(stage, hypers, MODELS, settings, None, Host()).values())


def judged(stage, noise, scores):
  found = judge(stage, {CLAIMED: scores}, {CLAIMED: noise}, DELTA)
  return {(audit.canary, audit.attacker): audit for audit in found}


@pytest.fixture(scope="module")
def audits(stage, noise, scores):
  return Builds(*(judged(stage, noise, found) for found in scores))


def test_dp_sgd_keeps_to_its_epsilon_and_the_bounds_are_not_trivial(audits):
  for audit in audits.right.values():
    assert not audit.refutes and audit.highest <= CLAIMED
    assert audit.advantage <= audit.limit
  assert 5 < audits.right[PLANTED, STEPS].by_noise <= CLAIMED
  assert 2 < audits.right[PLANTED, FINAL].by_noise <= CLAIMED
  # By the errors alone, whatever the mechanism is.
  assert 2 < audits.right[PLANTED, STEPS].bound.epsilon <= CLAIMED


def test_half_of_the_noise_is_found_out(audits):
  for attacker in (STEPS, FINAL):
    audit = audits.half_noise[PLANTED, attacker]
    assert audit.refutes and audit.by_noise > CLAIMED
    assert audit.advantage > audit.limit  # The claim's worst case is exceeded too.


def test_a_photograph_gives_away_less_than_the_worst_case(audits):
  for attacker in (STEPS, FINAL):
    found = audits.right[MISLABELLED, attacker], audits.right[PLANTED, attacker]
    assert found[0].by_noise < found[1].by_noise


def test_control_models_that_are_all_alike_prove_nothing(stage, noise, scores):
  alike = scores.right[0].reshape(2, -1, 2, 2, 2)
  found = judged(stage, noise, alike[[0, 1, 1]])
  assert max(audit.highest for audit in found.values()) < 0.5


def test_the_program_poisson_samples_clips_and_adds_the_noise_it_is_told(stage, noise, scores):
  """The movement along the planted canary: binomial steps of 1, and Gaussian noise."""
  without, with_it = (scores.right[kind, :, 0, 1, 0] for kind in (0, 1))
  rate, steps = stage.rate, stage.steps
  error = 4 * math.sqrt(steps * (noise**2 + rate) / MODELS)
  assert abs(without.mean()) < error and abs(with_it.mean() - steps * rate) < error
  np.testing.assert_allclose(without.std(), noise * math.sqrt(steps), rtol=0.08)
  wanted = math.sqrt(steps * (noise**2 + rate * (1 - rate)))
  np.testing.assert_allclose(with_it.std(), wanted, rtol=0.08)


def test_the_noise_bound_is_the_noise_itself_where_the_errors_are_the_best_possible():
  """Of full batches two Gaussians, sqrt(steps) / noise apart."""
  find, steps = noise_bound(1.0, 4), 4
  for noise in (0.8, 3.0):
    alarms = 0.1
    misses = norm.cdf(norm.isf(alarms) - math.sqrt(steps) / noise)
    found = find(alarms, float(misses) + 1e-4)
    assert noise <= found < 1.03 * noise
  assert find(0.5, 0.5) == math.inf
  assert epsilon(find(0.01, 0.01), 1.0, steps, DELTA) > 10


def test_the_larger_bound_counts():
  errors = Errors(0.1, 0.1, 0, 0.0, True, 10, 10)
  audit = Audit(3.0, 1.0, CANARIES[0], STEPS, Bound(2.0, errors), errors, 2.5, 0.3, 0.9, False)
  assert audit.highest == 2.5
  assert audit._replace(bound=Bound(3.5, errors)).highest == 3.5


def test_models_with_and_without_a_canary_are_drawn_apart(scores):
  """No two have the same noise, but for rounding."""
  movements = scores.right[:, :, 0, 1, 0].ravel()
  assert len(np.unique(movements)) > 0.999 * len(movements)
