"""Models come back in order, whatever the groups, and a finished group is not trained again."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxinv.data.splits import whole
from jaxinv.ensemble.groups import Host
from jaxinv.ensemble.program import make_program
from jaxinv.ensemble.seeds import split_data
from jaxinv.experiments.privacy.groups import Job, train
from jaxinv.experiments.settings import Settings
from jaxinv.models.dense import make_model
from jaxinv.training import primal
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.types import Hyper

SETTINGS = Settings(arms=(), steps=5, width=0)
RATES = (0.1, 0.2, 0.3, 0.4, 0.5)


@pytest.fixture(scope="module")
def job(make_planted):
  dataset = make_planted(shape=(3, 2))
  trainer = primal.make_trainer(make_model(5), LOSSES["softmax"], OPTIMIZERS["sgd"], 0, ())

  def keep(progress, data):
    kernel = np.asarray(progress.states.params["Dense_0"]["kernel"])
    return {"kernel": kernel, "train": np.asarray(data.train)}

  return Job(
    "job",
    "five models",
    make_program(trainer, devices=jax.local_devices()[:1]),
    [Hyper(rate) for rate in RATES],
    range(5),
    lambda numbers: split_data(whole(dataset), 5, 0, numbers, 2),
    keep,
  )


def test_the_width_changes_rounding_only_and_no_order(job):
  together, apart = (train(job, replace(SETTINGS, width=w), None, Host()) for w in (0, 2))
  assert together["kernel"].shape == (5, 6, 5)
  np.testing.assert_array_equal(together["train"], apart["train"])
  np.testing.assert_allclose(together["kernel"], apart["kernel"], atol=1e-6)
  assert np.abs(np.diff(together["kernel"], axis=0)).max((1, 2)).min() > 1e-3


def test_finished_groups_are_read_and_all_progress_is_told(job, tmp_path):
  told = []
  host = Host(lambda text, steps: told.append(steps))
  first = train(job, replace(SETTINGS, width=2), tmp_path, host)
  assert sum(told) == 25 and len(list(tmp_path.glob("*.npz"))) == 3

  def never(*_):
    raise AssertionError("it is trained again")

  program = job.program._replace(advance=never)
  again = train(job._replace(program=program), replace(SETTINGS, width=2), tmp_path, host)
  np.testing.assert_array_equal(first["kernel"], again["kernel"])
