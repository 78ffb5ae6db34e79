"""Structure is flagged once there is some, and never where there is none; launch.power."""

import csv

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from jaxinv.ensemble.groups import Host
from jaxinv.experiments import experiment, planning
from jaxinv.experiments.groups import run_groups
from jaxinv.experiments.power.figures import power_figure
from jaxinv.experiments.power.power import Curves, Power, first_step, looks, measure_power, to_csv
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.metrics import structure
from jaxinv.types import Hyper
from launch import flags, power

ARMS = (Arm("sgd", "sgd", Hyper(0.5)), Arm("adam", "adam", Hyper(0.01)))
# Two groups an arm, the second of which is filled up.
SETTINGS = Settings(ARMS, num_seeds=3, steps=60, batch_size=8, record_every=60, width=2)
TINY = ("--num_seeds=2", "--steps=12", "--batch_size=8", "--cpu_devices=1")


@pytest.fixture(scope="module")
def blurred(planted):
  """The planted images, whose pixels are now like their neighbours'."""
  images = gaussian_filter(planted.inputs.reshape(-1, *planted.image_shape), (0, 1.5, 1.5))
  images = (images - images.min()) / np.ptp(images)
  return planted._replace(inputs=images.reshape(len(images), -1))


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


@pytest.fixture
def call(monkeypatch, blurred, tmp_path, capsys):
  """Runs the command on the blurred images; returns its status and what it wrote."""
  monkeypatch.setattr(flags, "load_dataset", lambda f: blurred)

  def run_command(*arguments, out_dir=tmp_path / "run"):
    status = power.main([*TINY, f"--out_dir={out_dir}", *arguments])
    return status, *capsys.readouterr()

  return run_command


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


def test_the_command_writes_its_files_and_says_when(call, tmp_path):
  status, said, _ = call()
  assert status == 0
  lines = said.splitlines()
  assert lines[0].startswith("sgd: 0.00% of the classes flagged at step 0, half of them by step ")
  assert lines[1].startswith("adam: ") and lines[2] == f"figure: {tmp_path}/run/figures/power.png"
  with open(tmp_path / "run" / "power.csv") as file:
    rows = list(csv.DictReader(file))
  assert [int(row["step"]) for row in rows if row["arm"] == "adam" and row["seed"] == "1"] == [
    *(0, 1, 2, 5, 10, 12)
  ]
  assert (tmp_path / "run" / "figures" / "power.png").stat().st_size > 10_000
  status, _, error = call()
  assert status == 1 and "complete run" in error


def test_an_unfinished_run_starts_anew_and_nothing_need_be_held_out_or_trained(call, tmp_path):
  (tmp_path / "run").mkdir()
  assert call("--holdout=0", "--steps=0", "--arm=one:learning_rate=0.5")[0] == 0
  config = tmp_path / "run" / "config.json"
  config.write_text(config.read_text().replace('"complete": true', '"complete": false'))
  status, said, _ = call("--holdout=0", "--steps=0", "--arm=one:learning_rate=0.5")
  assert status == 0 and "all of them never" in said
  assert (tmp_path / "run" / "power.csv").read_text().splitlines()[1].startswith("one,0,0,0,")


def test_hidden_layers_are_looked_through(call):
  status, said, _ = call("--hidden=6", "--steps=5", "--arm=deep:optimizer=adam")
  assert status == 0 and said.startswith("deep: 0.00% of the classes")


@pytest.mark.parametrize(
  ("argument", "words"),
  [
    ("--save_seeds=3", "no meaning"),
    ("--record_every=3", "no meaning"),
    ("--normalize=max", "no meaning"),
    ("--arm=a:release_noise=1", "release_noise"),
    ("--alpha=1.5", "alpha"),
    ("--batch_size=99", "training examples"),
  ],
)
def test_what_makes_no_sense_is_refused_in_one_line(call, argument, words):
  status, _, error = call(argument)
  assert status == 1 and words in error and error.count("\n") == 1
