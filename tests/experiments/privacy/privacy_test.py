"""A run: the chosen arms are trained, attacked and bounded; an audit beside them."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from jaxinv.ensemble.groups import Host
from jaxinv.experiments.outcome import strongest
from jaxinv.experiments.privacy.privacy import limits, make_plan, run_privacy, run_steps
from jaxinv.experiments.privacy.settings import PLAIN


def test_arms_go_from_the_strictest_on_and_the_last_has_no_privacy(result):
  names = ["epsilon-1", "epsilon-8", PLAIN]
  assert list(result.outcome.arms) == list(result.points) == names
  for point, candidate in zip(result.points.values(), result.tuning.best.values(), strict=True):
    assert point.chosen == candidate
  promised = result.points["epsilon-8"].guarantee
  assert 7.5 < promised.photograph <= 8 < promised.models < promised.person
  assert result.points[PLAIN].guarantee is None


def test_measured_seeds_are_none_of_those_that_chose(spec, result):
  accuracy = result.outcome.arms[PLAIN].measures["model"]["holdout_accuracy"]
  assert accuracy.shape == (3,) and result.tuning.accuracy.shape == (6, 2)
  assert result.points[PLAIN].accuracy.n == 3


def test_privacy_costs_accuracy_and_lowers_leakage(result):
  strict, _, plain = result.points.values()
  assert plain.accuracy.mean > strict.accuracy.mean
  assert plain.leakage.mean > 0.9 > strict.leakage.mean + 0.3
  for point in result.points.values():
    arm = result.outcome.arms[point.chosen.name]
    assert point.leakage.mean >= point.naive.mean
    best = arm.measures[point.attack]["ncc_centred"].mean()
    np.testing.assert_allclose(point.leakage.mean, best)


def test_an_audit_of_each_epsilon_and_all_work_is_told(spec, plan, result, told):
  assert [audit.epsilon for audit in result.audits] == [1.0] * 4 + [8.0] * 4
  assert not any(audit.refutes for audit in result.audits)
  assert {epsilon: x.shape for epsilon, x in result.scores.items()} == {
    1.0: (3, 30, 2, 2, 2),
    8.0: (3, 30, 2, 2, 2),
  }
  assert sum(steps for _, steps in told) == run_steps(spec, plan)


def test_limits_grow_with_epsilon_and_with_the_photographs(spec, plan, planted):
  tried = {c.epsilon: c for c in plan.candidates}
  found = [limits(spec, planted, tried[epsilon]) for epsilon in (1.0, 8.0, math.inf)]
  for low, high in pairwise(found):
    assert (np.array(low) <= np.array(high) + 1e-9).all()
  for one in found[:2]:
    assert 0.2 < one.recovered <= one.recovered_person <= 1 and one.advantage < 1
  assert found[2] == (1, 1, 1, 1)


def test_a_finished_run_is_put_together_from_its_store(spec, plan, planted, result, store):
  again = run_privacy(spec, plan, planted, store, Host())
  assert again.points == result.points
  np.testing.assert_array_equal(again.scores[8.0], result.scores[8.0])


def test_without_an_audit_there_is_none(spec, planted):
  plan = make_plan(replace(spec, audit_models=0, epsilons=(8.0,)), planted)
  assert plan.stage is None and plan.noises == {}


@pytest.mark.parametrize("values", [{}, {"a": np.array([np.nan])}])
def test_no_attack_is_strongest_where_none_has_a_value(values):
  assert strongest(values) is None
  assert strongest(values | {"b": np.array([0.1, np.nan]), "c": np.array([0.0])}) == "b"
