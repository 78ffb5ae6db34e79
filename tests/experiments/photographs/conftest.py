"""One small run, for all tests of single photographs."""

import pytest
from planted_leaves import leaf_dataset

from jaxinv.ensemble.groups import Host
from jaxinv.experiments.photographs.photographs import run_photographs
from jaxinv.experiments.photographs.settings import PhotographsSpec
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.types import Hyper

ARMS = (
  Arm("sgd", "sgd", Hyper(learning_rate=0.05)),
  Arm("decay", "sgd", Hyper(learning_rate=0.05, weight_decay=0.1)),
  Arm("adam", "adam", Hyper(learning_rate=0.003)),
)


@pytest.fixture(scope="session")
def leaves():
  """24 pictures of 6 people."""
  return leaf_dataset()


@pytest.fixture(scope="session")
def spec():
  """Twelve of them are trained on."""
  settings = Settings(
    ARMS, num_seeds=2, steps=150, batch_size=8, hidden=(64,), engine="primal", save_seeds=1
  )
  return PhotographsSpec(settings, (12,), restarts=2)


@pytest.fixture(scope="session")
def result(spec, leaves):
  """What came of it."""
  return run_photographs(spec, leaves, None, Host())
