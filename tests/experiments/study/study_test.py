"""A study's specification is checked before anything is trained."""

import pytest

from jaxinv.errors import InputError
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.experiments.study import study
from jaxinv.types import Hyper

ARM = Arm("plain", "sgd", Hyper(0.1))


def spec_of(control_seeds):
  return study.StudySpec(
    Settings((ARM,)), study.cross([ARM], {}), "plain", control_seeds=control_seeds
  )


@pytest.mark.parametrize("control_seeds", [-2, 2, 6, 9])
def test_control_models_that_cannot_be_balanced_or_compared_are_refused(control_seeds):
  with pytest.raises(InputError, match="even number of 8 or more"):
    study.check_controls(spec_of(control_seeds))


@pytest.mark.parametrize("control_seeds", [0, 8, 10])
def test_control_models_that_can_be_balanced_and_compared_pass(control_seeds):
  study.check_controls(spec_of(control_seeds))
