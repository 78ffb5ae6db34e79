"""A study's specification is checked before anything is trained."""

import pytest

from helpers import plant
from jaxinv.errors import InputError
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.experiments.study import study
from jaxinv.training import dpsgd
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


def test_epsilon_is_the_accountants_and_only_of_cells_that_are_trained_by_dp_sgd():
  """An arm that is trained for fewer steps has that many steps' epsilon."""
  private = ARM._replace(name="dp", hyper=Hyper(0.1, dp_clip=1.0, dp_noise=2.0))
  short = private._replace(name="short", hyper=private.hyper._replace(steps=3.0))
  never = private._replace(name="never", hyper=private.hyper._replace(steps=0.0))
  settings = Settings((ARM, private, short, never), steps=10, num_seeds=8, batch_size=4, holdout=1)
  spec = study.StudySpec(settings, study.cross(settings.arms, {}), "plain", delta=1e-4)
  # 40 photographs of 5 people, of each of whom one is held out.
  found = study.epsilons(spec, plant())
  for name, steps in (("dp", 10), ("short", 3)):
    one, models = (dpsgd.epsilon(2.0, 4 / 35, steps, 1e-4, models=m) for m in (1, 8))
    assert found[name][:1] + found[name][2:] == (one, models, 7, 8)
    assert 7 * one < found[name].person and one < models
  assert set(found) == {"dp", "short", "never"}
  assert found["never"] == (0, 0, 0, 7, 8)
  assert 0 < found["short"].photograph < found["dp"].photograph


def test_each_mechanism_is_accounted_for_once(monkeypatch):
  made, promise = [], dpsgd.Guarantee(1.0, 2.0, 3.0, 7, 8)
  monkeypatch.setattr(dpsgd, "guarantee", lambda *given: made.append(given) or promise)
  private = ARM._replace(name="dp", hyper=Hyper(0.1, dp_clip=1.0, dp_noise=2.0))
  grid = {"learning_rate": (0.1, 0.2, 0.3), "dp_noise": (1.0, 2.0)}
  settings = Settings((private,), steps=10, batch_size=4, holdout=1)
  cells = study.cross([private], grid)
  assert len(study.epsilons(study.StudySpec(settings, cells, "x"), plant())) == 6
  assert [given[0] for given in made] == [1.0, 2.0]
