"""launch.toy: the article's numbers, files, what diverges, bad input."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxinv.experiments.settings import Arm
from jaxinv.experiments.toy import groups, toy
from jaxinv.runs import files
from jaxinv.types import Hyper
from launch.toy import main

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("--steps=60", "--num_seeds=4", "--points_per_class=10")
TRUE = np.array([[2, -2], [0, 0]])


def read(out_dir):
  return files.read_npz(out_dir / "trajectory.npz")


def rows(out_dir):
  with open(out_dir / "metrics.csv", newline="") as file:
    return list(csv.DictReader(file))


def run_main(out_dir, *flags):
  assert main([f"--out_dir={out_dir}", *flags]) == 0
  return read(out_dir)


@pytest.fixture(scope="module")
def article(tmp_path_factory):
  """The folder of the command as it stands, without a flag but for the folder."""
  out_dir = tmp_path_factory.mktemp("article") / "run"
  run_main(out_dir)
  return out_dir


@pytest.fixture(scope="module")
def short(tmp_path_factory):
  """The folder of a short run."""
  out_dir = tmp_path_factory.mktemp("short") / "run"
  run_main(out_dir, *SHORT)
  return out_dir


def test_the_articles_numbers(article):
  stored = read(article)
  assert stored["weights"].shape == (8, 10_001, 2, 2)
  assert stored["weights"].dtype == np.float32
  final = stored["weights"][:, -1].mean(0)
  np.testing.assert_allclose(final[0], [5.27, -5.25], rtol=0.02)
  np.testing.assert_allclose(final[1], 0, atol=0.05)
  np.testing.assert_array_equal(stored["class_means"], TRUE)
  np.testing.assert_allclose(stored["recovered"].mean(0), TRUE, atol=0.05)
  np.testing.assert_allclose(stored["recovered"], np.broadcast_to(TRUE, (8, 2, 2)), atol=0.05)


def test_one_weight_rises_as_the_other_falls(article):
  x = read(article)["weights"][:, :, 0]
  np.testing.assert_allclose(x[..., 0], -x[..., 1], atol=0.02)
  assert (np.diff(x[..., 0]) > -1e-6).all()


def test_the_folder(article):
  config = json.loads((article / "config.json").read_text())
  assert config["complete"] and config["command"] == "launch.toy"
  assert config["flags"]["loss"] == "sigmoid" and config["flags"]["num_seeds"] == 8
  names = {"config.json", "metrics.csv", "summary.json", "trajectory.npz", "report.html"}
  assert {path.name for path in article.iterdir()} == names | {"figures", "manifest.txt"}
  assert {path.name for path in (article / "figures").iterdir()} == {
    "weights.png",
    "recovered.png",
  }


def test_the_measures(article):
  final = read(article)["weights"][:, -1]
  recovered = read(article)["recovered"]
  table = {(row["attack"], row["metric"], int(row["seed"])): row["value"] for row in rows(article)}
  assert {row["arm"] for row in rows(article)} == {"sgd"}
  for seed in range(8):
    for i, feature in enumerate("xy"):
      for k in range(2):
        value = float(table["model", f"weight_{feature}{k + 1}", seed])
        np.testing.assert_allclose(value, final[seed, i, k], rtol=1e-6)
    error = np.abs(recovered[seed] - TRUE).max()
    np.testing.assert_allclose(float(table["reshape", "max_error", seed]), error, rtol=1e-5)
    assert float(table["model", "train_accuracy", seed]) == 1
  summary = json.loads((article / "summary.json").read_text())["sgd"]
  assert summary["diverged"] == []
  cell = summary["model"]["weight_x1"]
  assert cell["low"] < cell["mean"] < cell["high"] and cell["n"] == 8
  assert summary["reshape"]["max_error"]["mean"] < 0.05


def test_the_page_needs_no_other_file(article):
  page = (article / "report.html").read_text()
  assert page.count("data:image/png;base64,") == 2
  assert not re.search(r'(src|href)="(?!data:)', page)
  for text in ("0.85", "sigmoid", "neither the spread", "w11"):
    assert text in page


def test_movement_and_loss_of_a_run(short):
  stored = read(short)
  first, last = stored["weights"][:, 0], stored["weights"][:, -1]
  movement = np.linalg.norm((last - first).reshape(4, -1), axis=1)
  movement /= np.linalg.norm(first.reshape(4, -1), axis=1)
  found = [float(r["value"]) for r in rows(short) if r["metric"] == "weight_movement"]
  np.testing.assert_allclose(found, movement, rtol=1e-5)
  arm = Arm("sgd", "sgd", Hyper())
  data = toy.draw(toy.Settings(arm, num_seeds=4, points_per_class=10), [3])
  logits = np.asarray(data.inputs[0]) @ last[3]
  targets = np.eye(2)[np.asarray(data.labels)]
  loss = np.log1p(np.exp(-(2 * targets - 1) * logits)).sum(1).mean()
  found = [float(r["value"]) for r in rows(short) if r["metric"] == "train_loss"]
  np.testing.assert_allclose(found[3], loss, rtol=1e-4)


def test_the_same_command_gives_the_same_bits(short, tmp_path):
  first, second = read(short), run_main(tmp_path / "again", *SHORT)
  for name in first:
    np.testing.assert_array_equal(first[name], second[name])
  assert (short / "metrics.csv").read_text() == (tmp_path / "again/metrics.csv").read_text()


def test_a_complete_run_is_kept_unless_told_and_another_seed_is_another_run(
  short, tmp_path, capsys
):
  out_dir = Path(shutil.copytree(short, tmp_path / "run"))
  assert main([f"--out_dir={out_dir}", *SHORT, "--seed=3"]) == 1
  assert "--overwrite" in capsys.readouterr().err
  before = read(short)["weights"]
  np.testing.assert_array_equal(read(out_dir)["weights"], before)
  after = run_main(out_dir, *SHORT, "--seed=3", "--overwrite")
  assert (after["weights"] != before).any((1, 2, 3)).all()


def test_seeds_that_diverge_are_told_and_left_out(tmp_path, capsys, monkeypatch):
  def far_off(settings, seeds):
    data = draw(settings, seeds)
    # One seed of four has points so far away that its squared loss overflows.
    scale = np.where(np.array(seeds) == 2, 1e18, 1.0)[:, None, None]
    return data._replace(inputs=data.inputs * scale.astype(np.float32))

  draw = toy.draw
  monkeypatch.setattr(groups, "draw", far_off)
  out_dir = tmp_path / "run"
  run_main(out_dir, *SHORT, "--loss=squared", "--arm=few:learning_rate=0.1")
  summary = json.loads((out_dir / "summary.json").read_text())["few"]
  assert summary["diverged"] == [2]
  assert summary["reshape"]["max_error"]["n"] == 3
  assert {row["seed"] for row in rows(out_dir)} == {"0", "1", "3"}
  assert "diverged: seeds 2" in capsys.readouterr().out
  assert "Seeds 2 diverged" in (out_dir / "report.html").read_text()


def test_all_seeds_may_diverge(tmp_path, capsys):
  out_dir = tmp_path / "run"
  run_main(out_dir, *SHORT, "--loss=squared", "--arm=wild:learning_rate=1e9")
  summary = json.loads((out_dir / "summary.json").read_text())
  assert summary == {"wild": {"diverged": [0, 1, 2, 3]}}
  assert "seeds 0, 1, 2, 3" in capsys.readouterr().out


@pytest.mark.parametrize(
  "flags",
  [
    ("--num_seeds=1", "--normalize=min-max", "--data_max=7", "--initializer=zeros"),
    ("--means=3,0;-1,0;0,2", "--loss=softmax", "--batch_size=4", "--data_dir=/nowhere"),
    ("--means=0,0;0,0", "--spread=0", "--width=3", "--record_every=7", "--checkpoint_seconds=0"),
    ("--means=1,1", "--means=-1,-1", "--arm=a:optimizer=adam,learning_rate=0.01"),
  ],
)
def test_other_settings_work(tmp_path, flags):
  stored = run_main(tmp_path / "run", *SHORT, *flags)
  assert np.isfinite(stored["weights"]).all() and np.isfinite(stored["recovered"]).all()
  json.loads((tmp_path / "run/summary.json").read_text())


def test_as_a_command(tmp_path):
  command = [sys.executable, "-m", "launch.toy", f"--out_dir={tmp_path}/run", *SHORT]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ)
  assert done.returncode == 0, done.stderr
  assert done.stderr == ""
  assert done.stdout.splitlines()[-1] == f"report: {tmp_path}/run/report.html"
  assert "true average" in done.stdout


def test_help_names_every_flag(capsys):
  assert main(["--help"]) == 0
  text = capsys.readouterr().out
  for name in ("means", "spread", "points_per_class", "data_max", "num_seeds", "out_dir", "width"):
    assert f"--{name}" in text.replace("[no]", "")


@pytest.mark.parametrize(
  ("flags", "part"),
  [
    (("--arm=a:optimizer=sgd", "--arm=b:optimizer=adam"), "one arm"),
    (("--arm=a:optimizer=lion",), "lion"),
    (("--dataset=att",), "unknown --dataset 'att'"),
    (("--spread=-0.1",), "spread"),
    (("--spread=wide",), "spread"),
    (("--spread=nan",), "spread"),
    (("--data_max=nan",), "data_max"),
    (("--data_max=-1",), "data_max"),
    (("--means=2,0",), "two or more"),
    (("--means=2,0;3",), "not a point"),
    (("--means=2,0;a,b",), "'a'"),
    (("--means=2,0;inf,0",), "'inf'"),
    (("--means=",), "means"),
    (("--points_per_class=0",), "points_per_class"),
    (("--batch_size=201",), "201"),
    (("--holdout=2",), "--holdout has no meaning"),
    (("--fixed_split",), "--fixed_split has no meaning"),
    (("--download",), "--download has no meaning"),
    (("--num_seeds=0",), "num_seeds"),
    (("--loss=hinge",), "loss"),
    (("--num_seeds=1000000", "--steps=100000000"), "lower --steps"),
    (("--colour=red",), "colour"),
    (("word",), "word"),
  ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, capsys, flags, part):
  assert main([f"--out_dir={tmp_path}/run", *flags]) == 1
  out, err = capsys.readouterr()
  assert out == "" and len(err.splitlines()) == 1 and part in err
  assert not (tmp_path / "run").exists()
