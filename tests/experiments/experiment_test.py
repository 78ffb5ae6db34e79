"""An experiment: its data once on the device, and settings refused before anything is compiled."""

import pytest

from jaxinv.errors import InputError
from jaxinv.experiments import experiment
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.types import Hyper

ARM = Arm("a", "adam", Hyper())


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"initializer": "ones"}, "ones"),
    ({"engine": "gram"}, "gram engine cannot train adam"),
    ({"num_seeds": 0}, "num_seeds"),
  ],
)
def test_settings_that_make_no_sense_are_refused_by_name(planted, change, words):
  with pytest.raises(InputError, match=words):
    experiment.make_experiment(Settings((ARM,), batch_size=8, **change), planted)


def test_the_data_are_put_on_the_device_once(planted, monkeypatch):
  calls, whole = [], experiment.splits.whole
  monkeypatch.setattr(experiment.splits, "whole", lambda data: calls.append(data) or whole(data))
  experiment.make_experiment(Settings((ARM,), batch_size=8), planted)
  assert len(calls) == 1
