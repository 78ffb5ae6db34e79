"""A small run on privacy that these tests share."""

import pytest

from jaxinv.ensemble.groups import Host
from jaxinv.experiments.privacy.privacy import make_plan, run_privacy
from jaxinv.experiments.privacy.settings import PrivacySpec
from jaxinv.experiments.settings import Settings


@pytest.fixture(scope="session")
def spec() -> PrivacySpec:
  """Two epsilons and none, two rates, one batch; 30 models of each kind are audited."""
  settings = Settings(arms=(), num_seeds=3, steps=12, batch_size=8, holdout=2, save_seeds=1)
  return PrivacySpec(
    settings,
    (8.0, 1.0),
    rates=(0.1, 1.0),
    batches=(8,),
    tuning_seeds=2,
    audit_models=30,
    attacks=("reshape", "init_diff"),
  )


@pytest.fixture(scope="session")
def plan(spec, planted):
  return make_plan(spec, planted)


@pytest.fixture(scope="session")
def told():
  """What the progress was told while `result` was made."""
  return []


@pytest.fixture(scope="session")
def store(tmp_path_factory):
  """Where `result` keeps what is finished."""
  return tmp_path_factory.mktemp("privacy") / "store"


@pytest.fixture(scope="session")
def result(spec, plan, planted, told, store):
  """What came of it. Not to be changed."""
  host = Host(lambda text, steps: told.append((text, steps)))
  return run_privacy(spec, plan, planted, store, host)
