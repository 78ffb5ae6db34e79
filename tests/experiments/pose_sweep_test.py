"""A sweep over pose: each scale's data are trained on, as in an experiment of their own."""

import numpy as np
import pytest

from helpers import plant
from jaxinv.ensemble.groups import Host, Stopped
from jaxinv.experiments.experiment import make_experiment
from jaxinv.experiments.groups import run_groups
from jaxinv.experiments.planning import plan
from jaxinv.experiments.pose_sweep import over_poses
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.types import Hyper

SETTINGS = Settings((Arm("a", "sgd", Hyper(0.1)),), 2, steps=4, batch_size=0, record_every=2)


def at_scale(scale):
  """The planted data, moved by so many pixels."""
  planted = plant()
  return planted._replace(inputs=np.roll(planted.inputs, int(scale), axis=1))


def test_each_scale_is_what_an_experiment_on_its_data_alone_is_and_is_named_to_the_host():
  told, scales = [], (0.0, 2.0)
  host = Host(advanced=lambda text, steps: told.append((text, steps)))
  swept = list(over_poses(make_experiment(SETTINGS, at_scale(0.0)), scales, at_scale, host))
  for scale, (here, groups) in zip(scales, swept, strict=True):
    np.testing.assert_array_equal(here.dataset.inputs, at_scale(scale).inputs)
    alone = make_experiment(SETTINGS, at_scale(scale))
    for group, expected in zip(groups, run_groups(alone, plan(alone), None, Host()), strict=True):
      np.testing.assert_allclose(group.images["reshape"], expected.images["reshape"], atol=1e-3)
  images = [np.concatenate([group.images["init_diff"] for group in groups]) for _, groups in swept]
  assert np.abs(images[0] - images[1]).max() > 0.1
  assert {text for text, _ in told} == {"pose 0.0", "pose 2.0"}
  assert sum(steps for _, steps in told) == len(scales) * SETTINGS.num_seeds * SETTINGS.steps


def test_a_sweep_stops_when_the_host_asks():
  sweep = over_poses(
    make_experiment(SETTINGS, at_scale(0.0)), (0.0,), at_scale, Host(stop=lambda: True)
  )
  with pytest.raises(Stopped):
    next(sweep)
