"""Settings that make no sense are refused in one line, by name."""

import pytest

from jaxinv import experiment
from jaxinv.errors import InputError
from jaxinv.experiment import Arm, Settings
from jaxinv.types import Hyper


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"num_seeds": 0}, "num_seeds"),
    ({"save_seeds": 0}, "save_seeds"),
    ({"record_every": 0}, "record_every"),
    ({"steps": -1}, "steps"),
    ({"batch_size": -1}, "batch_size"),
    ({"batch_size": 99}, "training examples"),
    ({"holdout": -1}, "holdout"),
    ({"holdout": 8}, "too few"),
    ({"watch": 5}, "classes"),
    ({"width": -1}, "width"),
    ({"loss": "hinge"}, "hinge"),
    ({"normalize": "log"}, "log"),
    ({"initializer": "ones"}, "ones"),
    ({"arms": ()}, "no arm"),
    ({"arms": (Arm("a", "rmsprop", Hyper()),)}, "rmsprop"),
    ({"arms": (Arm("a", "sgd", Hyper()), Arm("a", "adam", Hyper()))}, "named twice"),
  ],
)
def test_settings_that_make_no_sense_are_refused_by_name(planted, change, words):
  usual = {"arms": (Arm("a", "sgd", Hyper()),), "batch_size": 8}
  with pytest.raises(InputError, match=words) as caught:
    experiment.make_lab(Settings(**{**usual, **change}), planted)
  assert "\n" not in str(caught.value)


def test_a_plan_trains_every_run_once_in_groups_of_one_width(planted):
  arms = (Arm("a", "sgd", Hyper()), Arm("b", "adam", Hyper()), Arm("c", "sgd", Hyper()))
  lab = experiment.make_lab(Settings(arms, num_seeds=5, width=4, batch_size=8), planted)
  groups = experiment.plan(lab)
  runs = [run for group in groups for run in group.runs]
  assert sorted(runs) == [(arm, seed) for arm in range(3) for seed in range(5)]
  assert {group.width for group in groups} == {4}
  for group in groups:
    assert {arms[arm].optimizer for arm, _ in group.runs} == {group.optimizer}
