"""Structure is flagged once there is some, and never where there is none."""

import csv

import numpy as np
import pytest

from jaxinv.ensemble.groups import Host
from jaxinv.experiments import experiment, planning
from jaxinv.experiments.groups import run_groups
from jaxinv.experiments.power.figures import power_figure
from jaxinv.experiments.power.power import Curves, Power, first_step, looks, measure_power, to_csv
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.metrics import structure
from jaxinv.types import Hyper

ARMS = (Arm("sgd", "sgd", Hyper(0.5)), Arm("adam", "adam", Hyper(0.01)))
# Two groups an arm, the second of which is filled up.
SETTINGS = Settings(ARMS, num_seeds=3, steps=60, batch_size=8, record_every=60, width=2)


@pytest.fixture(scope="module")
def lab(blurred):
  return experiment.make_experiment(SETTINGS, blurred)


@pytest.fixture(scope="module")
def told():
  """What the progress was told while `measured` was."""
  return []


@pytest.fixture(scope="module")
def measured(lab, told):
  return measure_power(lab, host=Host(lambda text, steps: told.append((text, steps))))


def test_looks_are_evenly_spread_on_a_log_scale_and_end_with_the_last_step():
  for steps, wanted in {
    0: [0],
    1: [0, 1],
    12: [0, 1, 2, 5, 10, 12],
    50: [0, 1, 2, 5, 10, 20, 50],
  }.items():
    assert looks(steps).tolist() == wanted
  assert looks(1000).tolist() == [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]


def test_nothing_is_flagged_before_training_and_all_after_it(measured):
  assert measured.steps.tolist() == [0, 1, 2, 5, 10, 20, 50, 60]
  for curves in measured.arms.values():
    assert curves.structured.shape == (8, 3)
    assert (curves.structured[0] == 0).all() and (curves.structured[-1] == 1).all()
    assert (np.abs(curves.morans_i[0]) < 0.1).all() and (curves.morans_i[-1] > 0.5).all()
    assert (curves.holdout_accuracy[-1] > curves.holdout_accuracy[0]).all()


def test_images_without_structure_are_learned_but_never_flagged(lab, planted):
  found = measure_power(experiment.with_data(lab, planted))
  for curves in found.arms.values():
    assert curves.structured.mean() <= 0.05
    assert (curves.holdout_accuracy[-1] > 0.9).all()


def test_the_models_are_those_of_an_experiment(lab, measured):
  for result in run_groups(lab, planning.plan(lab), None, Host()):
    for i, (arm, seed) in enumerate(zip(result.arm, result.seed, strict=True)):
      curves = measured.arms[ARMS[arm].name]
      images = result.arrays["weights"][i].reshape(-1, *lab.dataset.image_shape, 1)
      np.testing.assert_allclose(
        curves.morans_i[-1, seed], structure.morans_i(images).mean(), rtol=1e-5
      )
      history = result.history["holdout_accuracy"][[0, -1], i]
      np.testing.assert_allclose(curves.holdout_accuracy[[0, -1], seed], history)


def test_all_work_is_told_of(measured, told):
  assert {text for text, _ in told} == {"sgd", "adam"}
  assert sum(steps for _, steps in told) == 60 * 3 * 2


def curves(*structured):
  values = np.array(structured)
  return Curves(values, values / 2, np.full_like(values, np.nan))


SHOWN = Power(
  np.array([0, 1, 2]),
  {
    "a": curves([0.0, 0.1], [0.4, 0.6], [1.0, 1.0]),
    "b_$x$": curves([0, 0.0], [0.7, 0.7], [0.9, 1]),
  },
  0.05,
)


def test_the_first_step_at_which_half_and_all_are_flagged():
  assert first_step(SHOWN, "a", 0.5) == 1 and first_step(SHOWN, "a", 1.0) == 2
  assert first_step(SHOWN, "b_$x$", 0.5) == 1 and first_step(SHOWN, "b_$x$", 1.0) is None


def test_the_table_has_a_row_for_each_arm_seed_and_step():
  rows = list(csv.DictReader(to_csv(SHOWN).splitlines()))
  assert len(rows) == 2 * 3 * 2
  wanted = ["a", "1", "1", "0.6", "0.3", ""]
  assert list(rows[3].values()) == wanted


def test_the_figure_shows_every_arm_the_level_and_step_0():
  figure = power_figure(SHOWN)
  lines = figure.axes[0].get_lines()
  np.testing.assert_allclose(lines[0].get_ydata(), [0.05, 0.5, 1])
  assert lines[0].get_xdata()[0] == 0 and figure.axes[0].get_xlim()[0] < 0
  np.testing.assert_allclose(lines[-1].get_ydata(), 0.05)
  words = [text.get_text() for text in figure.legends[0].get_texts()]
  assert words == ["a", "b_$x$", "false alarms allowed: 0.05"]
