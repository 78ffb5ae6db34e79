"""One tiny experiment with networks, trained, inverted and measured once for all tests here."""

from types import SimpleNamespace

import pytest

from jaxinv.attacks.recipes import Inversion
from jaxinv.data.synthetic_shapes import synthetic_shapes
from jaxinv.ensemble.groups import Host
from jaxinv.experiments.networks import outcome, recovery, training
from jaxinv.experiments.networks.settings import NetworkArm, NetworkSettings, RobustnessTest


@pytest.fixture(scope="session")
def shapes():
  """60 training and 20 test images of 8 x 8 pixels, of 10 classes."""
  return synthetic_shapes(0, 60, 20, 8)


@pytest.fixture(scope="session")
def tiny(shapes) -> SimpleNamespace:
  """Two networks of one arm, width 1, and a verifier; settings, groups, networks, images, result.

  Not to be changed.
  """
  arm = NetworkArm("plain", width_factor=1 / 16)
  settings = NetworkSettings(
    arms=(arm,),
    verifier=arm._replace(name="judge", norm="batch"),
    inversions={"pgd": Inversion(steps=2, step_size=0.5)},
    num_seeds=2,
    epochs=1,
    batch_size=25,
    candidates=0.4,
    restarts=2,
    robustness=RobustnessTest("pgd_linf", 0.01, 2, 1, 10),
    width=1,
  )
  groups = training.plan(settings, shapes)
  trained = training.train_groups(settings, shapes, groups, None, Host())
  recovered = recovery.recover_all(settings, shapes, groups, trained, None, Host())
  result = outcome.assemble(settings, shapes, groups, trained, recovered, Host())
  return SimpleNamespace(
    settings=settings,
    data=shapes,
    groups=groups,
    trained=trained,
    recovered=recovered,
    result=result,
  )
