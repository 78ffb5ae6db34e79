"""Traces of photographs in the first layer: planted ones are found, and members of a training."""

import jax.numpy as jnp
import numpy as np
import pytest

from helpers import assert_fails
from jaxinv.attacks.traces import RIDGES, svd_of, traces
from jaxinv.ensemble.groups import Host
from jaxinv.experiments import experiment, outcome, planning
from jaxinv.experiments.groups import run_groups
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.types import Hyper, Release

N, P, K = 12, 40, 3
rng = np.random.default_rng(0)
INPUTS = rng.uniform(size=(N, P)).astype(np.float32)
LABELS = jnp.arange(N) % K
TRAINED = np.arange(N) < 8


def release_of(change, first=None, **more):
  """A model whose first layer changed by so much from random weights."""
  first = rng.standard_normal(change.shape).astype(np.float32) if first is None else first
  now = {"Dense_0": {"kernel": jnp.asarray(first + change)}, **more}
  return Release(now, {"Dense_0": {"kernel": jnp.asarray(first)}, **more})


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (4, 4)])
def test_a_decomposition_gives_its_photographs_back(shape):
  rows = rng.uniform(size=shape).astype(np.float32)
  left, values, right = map(np.asarray, svd_of(rows))
  np.testing.assert_allclose(left @ np.diag(values) @ right, rows, atol=1e-5)
  np.testing.assert_allclose(left.T @ left, np.eye(len(values)), atol=1e-5)
  np.testing.assert_allclose(right @ right.T, np.eye(len(values)), atol=1e-5)


def test_copies_and_blank_photographs_add_no_direction():
  rows = np.concatenate([INPUTS[:3], INPUTS[:2], np.zeros((1, P), np.float32)])
  assert svd_of(rows).values.shape == (3,)


def test_of_a_linear_model_the_own_classs_coefficients_are_found():
  coefficients = np.where(TRAINED[:, None], rng.uniform(0.1, 1, (N, K)), 0).astype(np.float32)
  found = traces(release_of(INPUTS.T @ coefficients), LABELS, K, svd_of(INPUTS))
  assert found.shape == (len(RIDGES), N)
  own = coefficients[np.arange(N), np.asarray(LABELS)]
  np.testing.assert_allclose(found[0], own, atol=1e-3)


def test_of_a_hidden_layer_the_norms_over_its_units_are_found():
  coefficients = np.where(TRAINED[:, None], rng.standard_normal((N, 6)), 0).astype(np.float32)
  last = {"Dense_1": {"kernel": jnp.ones((6, K))}}
  found = traces(release_of(INPUTS.T @ coefficients, **last), LABELS, K, svd_of(INPUTS))
  np.testing.assert_allclose(found[0], np.linalg.norm(coefficients, axis=1), atol=1e-3)


def test_under_noise_a_ridge_tells_better_than_none():
  coefficients = np.where(TRAINED, 1.0, 0.0)[:, None] * np.eye(K, dtype=np.float32)[LABELS]
  svd, apart = svd_of(INPUTS), []
  for _ in range(40):
    noise = 2 * rng.standard_normal((P, K))
    change = (INPUTS.T @ coefficients + noise).astype(np.float32)
    found = np.asarray(traces(release_of(change), LABELS, K, svd))
    apart.append(found[:, TRAINED].mean(1) - found[:, ~TRAINED].mean(1))
  signal = np.mean(apart, 0) / np.std(apart, 0)
  assert signal[1:].max() > 1.2 * signal[0]


def test_an_unmoved_model_has_no_traces():
  found = traces(release_of(np.zeros((P, K), np.float32)), LABELS, K, svd_of(INPUTS))
  np.testing.assert_array_equal(found, 0)


def test_weights_that_see_no_photographs_are_one_line():
  assert_fails(lambda: traces(release_of(np.ones((5, K))), LABELS, K, svd_of(INPUTS)), "40")


def test_who_was_trained_on_is_told_without_fail(make_planted):
  """By SGD, and through Adam's steps, which are no sums of photographs, nearly so."""
  dataset = make_planted()
  arms = Arm("sgd", "sgd", Hyper(0.3)), Arm("adam", "adam", Hyper(0.003))
  settings = Settings(
    arms, 2, steps=30, batch_size=8, holdout=2, halves=True, photographs=True, record_every=30
  )
  made = experiment.make_experiment(settings, dataset)
  found = outcome.assemble(made, run_groups(made, planning.plan(made), None, Host()))
  train = np.asarray(experiment.split_of(made, range(2)).train)
  for name, least in (("sgd", 1.0), ("adam", 0.9)):
    for model, chosen in zip(found.arms[name].details["traces"][:, 0], train, strict=True):
      inside = np.isin(np.arange(len(model)), chosen)
      assert (model[inside][:, None] > model[~inside]).mean() >= least, name
