"""Seeds are healthy or diverged by the mask that training kept, whatever a measure says."""

import numpy as np
import pytest

from jaxinv.experiments.networks import outcome
from planted_networks import make_result


@pytest.fixture
def result():
  return make_result({"plain": [0.2, 0.4], "robust": [0.6, 0.8]})


def test_a_measure_that_is_not_a_number_does_not_make_a_seed_diverge(result):
  plain = result.arms["plain"]
  measures = plain.measures | {"robust_accuracy": np.array([np.nan, 0.5])}
  measures |= {"train_loss": np.array([np.nan, 0.5])}
  summary = outcome.summarize(
    result._replace(arms=result.arms | {"plain": plain._replace(measures=measures)})
  )
  assert summary["plain"]["diverged"] == []
  assert summary["plain"]["model"]["train_loss"]["n"] == 1


def test_a_seed_that_the_mask_calls_diverged_is_said_though_its_measures_are_numbers(result):
  plain = result.arms["plain"]._replace(healthy=np.array([True, False]))
  summary = outcome.summarize(result._replace(arms=result.arms | {"plain": plain}))
  assert summary["plain"]["diverged"] == [1]


def test_arms_are_compared_by_seed_and_only_where_both_have_a_number(result):
  robust = result.arms["robust"].inverted["pgd"]
  shares = robust.measures | {"verifier_accuracy": np.array([0.75, np.nan])}
  inverted = result.arms["robust"].inverted | {"pgd": robust._replace(measures=shares)}
  arms = result.arms | {"robust": result.arms["robust"]._replace(inverted=inverted)}
  found = outcome.compare(result._replace(arms=arms))
  gain = found["pgd"]["verifier_accuracy"]
  assert (gain.mean, gain.n) == (pytest.approx(0.55), 1)
  assert found["priors"]["verifier_accuracy"].mean == pytest.approx(0.4)
  assert outcome.compare(result._replace(arms={"plain": result.arms["plain"]})) == {}
