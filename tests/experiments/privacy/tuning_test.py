"""The best of each epsilon by other seeds; in the span of the examples models are the same."""

import math
from dataclasses import replace

import numpy as np
import pytest

from jaxinv.ensemble.groups import Host
from jaxinv.experiments.experiment import make_experiment
from jaxinv.experiments.groups import run_groups
from jaxinv.experiments.planning import plan
from jaxinv.experiments.privacy.settings import Candidate
from jaxinv.experiments.privacy.tuning import _best, in_span, tune
from jaxinv.experiments.settings import Arm


def test_in_their_span_examples_have_the_same_products(planted):
  found = in_span(planted)
  assert found.inputs.shape == (40, 40) and found.image_shape is None
  wanted = np.float64(planted.inputs) @ np.float64(planted.inputs).T
  np.testing.assert_allclose(found.inputs @ found.inputs.T, wanted, atol=1e-3)


@pytest.mark.parametrize(
  ("private", "how"),
  [(True, {"initializer": "zeros"}), (False, {"initializer": "zeros"}), (False, {"hidden": (4,)})],
)
def test_without_noise_the_models_are_those_of_an_experiment(spec, planted, private, how):
  """Linear ones are trained in the span; same seeds, splits, batches, and initial weights zero."""
  settings = replace(spec.settings, num_seeds=2, **how)
  clip = 0.5 if private else math.inf
  candidate = Candidate(1.0 if private else math.inf, 8, 0.3, clip)
  found = tune(replace(spec, settings=settings), planted, [candidate], None, Host())
  arm = Arm("arm", "sgd", candidate.hyper)
  full = make_experiment(replace(settings, arms=(arm,), num_seeds=4), planted)
  (result,) = run_groups(full, plan(full), None, Host())
  accuracy = result.history["holdout_accuracy"][-1, 2:]
  np.testing.assert_allclose(found.accuracy[0], accuracy)
  assert accuracy.mean() > 0.2 or settings.hidden  # It has learned: chance is 0.2.


def test_the_most_accurate_is_chosen_and_of_equals_the_first():
  tried = [Candidate(e, 8, rate) for e in (1.0, math.inf) for rate in (0.1, 0.2, 0.3)]
  accuracy = np.array([[0.1, 0.3], [0.4, 0.2], [0.3, 0.3], [0.9, 0.9], [0.0, 0.0], [1.0, 0.7]])
  best = _best(tried, accuracy)
  assert best == {1.0: tried[1], math.inf: tried[3]}


def test_what_diverges_is_not_chosen(spec, planted):
  tried = [Candidate(math.inf, 8, rate) for rate in (1e38, 0.1)]
  found = tune(spec, planted, tried, None, Host())
  assert found.accuracy.shape == (2, 2)
  assert (found.accuracy[0] == 0).all() and found.best[math.inf] == tried[1]
