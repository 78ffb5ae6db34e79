"""The small toy experiment that these tests share."""

import pytest

from jaxinv.experiments.settings import Arm
from jaxinv.experiments.toy.toy import Settings
from jaxinv.types import Hyper


@pytest.fixture(scope="session")
def settings() -> Settings:
  """Four models of two clouds of ten points each, sixty steps in three chunks."""
  arm = Arm("sgd", "sgd", Hyper(learning_rate=0.85, init_scale=0.01))
  return Settings(arm, num_seeds=4, steps=60, points_per_class=10, chunk=20)
