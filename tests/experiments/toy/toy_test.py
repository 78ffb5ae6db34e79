"""The two Gaussians: what the article shows comes out, step by step, and controls do not."""

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxinv.ensemble import mapping, memory
from jaxinv.ensemble.groups import Host, Stopped
from jaxinv.ensemble.seeds import train_keys
from jaxinv.errors import InputError
from jaxinv.experiments.settings import Arm
from jaxinv.experiments.toy import figures, groups, toy
from jaxinv.models.dense import make_model
from jaxinv.runs import files
from jaxinv.training import primal
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.training.trainer import run
from jaxinv.types import Hyper
from launch.toy import main

ROOT = Path(__file__).resolve().parents[3]
SGD = Arm("sgd", "sgd", Hyper(learning_rate=0.85, init_scale=0.01))
SETTINGS = toy.Settings(SGD, num_seeds=4, steps=60, points_per_class=10, chunk=20)
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


# ---- What the article shows ----------------------------------------------------------------------


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


def test_movement_and_loss_of_a_run(tmp_path):
  stored = run_main(tmp_path / "run", *SHORT)
  first, last = stored["weights"][:, 0], stored["weights"][:, -1]
  movement = np.linalg.norm((last - first).reshape(4, -1), axis=1)
  movement /= np.linalg.norm(first.reshape(4, -1), axis=1)
  found = [float(r["value"]) for r in rows(tmp_path / "run") if r["metric"] == "weight_movement"]
  np.testing.assert_allclose(found, movement, rtol=1e-5)
  data = toy.draw(SETTINGS, [3])
  logits = np.asarray(data.inputs[0]) @ last[3]
  targets = np.eye(2)[np.asarray(data.labels)]
  loss = np.log1p(np.exp(-(2 * targets - 1) * logits)).sum(1).mean()
  found = [float(r["value"]) for r in rows(tmp_path / "run") if r["metric"] == "train_loss"]
  np.testing.assert_allclose(found[3], loss, rtol=1e-4)


# ---- The steps -----------------------------------------------------------------------------------


def residual(loss, logits, targets):
  if loss == "sigmoid":
    return 1 / (1 + np.exp(-logits)) - targets
  if loss == "softmax":
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - targets
  return logits - targets


@pytest.mark.parametrize("loss", list(LOSSES))
def test_the_first_step_has_its_closed_form(loss):
  settings = replace(SETTINGS, loss=loss, steps=1)
  path = groups.run(settings).weights
  data = toy.draw(settings, range(4))
  targets = np.eye(2)[np.asarray(data.labels)]
  for seed, x in enumerate(np.asarray(data.inputs, np.float64)):
    gradient = x.T @ residual(loss, x @ path[seed, 0], targets) / len(x)
    expected = path[seed, 0] - 0.85 * gradient
    np.testing.assert_allclose(path[seed, 1], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  ("loss", "name"), [("sigmoid", "sgd"), ("softmax", "adam"), ("squared", "nesterov")]
)
def test_the_lean_loss_trains_as_the_loss_itself(loss, name):
  hyper = Hyper(learning_rate=0.05, weight_decay=0.01, label_smoothing=0.1)
  settings = replace(SETTINGS, arm=Arm("a", name, hyper), loss=loss, batch_size=6, num_seeds=1)
  path = groups.run(settings).weights[0]
  model = make_model(2, use_bias=False)
  trainer = primal.make_trainer(model, LOSSES[loss], OPTIMIZERS[name], 6)
  data = mapping.run_at(mapping.OWN_DATA, toy.draw(settings, [0]), 0)
  state = trainer.init(train_keys(0, [0])[0], hyper, data)
  state, _ = run(trainer, state, hyper, data, settings.steps)
  np.testing.assert_allclose(path[-1], jax.tree.leaves(state.params)[0], rtol=2e-4, atol=2e-5)


def test_batches_come_from_the_states_key():
  path = groups.run(replace(SETTINGS, batch_size=1, num_seeds=2, steps=3)).weights
  keys = train_keys(0, [0, 1])
  data = toy.draw(SETTINGS, [0, 1])
  for seed in range(2):
    key = jax.random.split(keys[seed])[1]
    order = jax.random.permutation(jax.random.fold_in(key, 0), data.train)
    for t in range(3):
      x = np.asarray(data.inputs[seed, order[t]], np.float64)
      target = np.eye(2)[int(data.labels[order[t]])]
      gradient = x[:, None] * (1 / (1 + np.exp(-x @ path[seed, t])) - target)
      np.testing.assert_allclose(path[seed, t + 1] - path[seed, t], -0.85 * gradient, atol=1e-5)


def test_points_and_weights_are_drawn_apart():
  data = toy.draw(SETTINGS, range(4))
  assert len(np.unique(np.asarray(data.inputs[:, 0]), axis=0)) == 4
  other = toy.draw(replace(SETTINGS, spread=3.0, points_per_class=7), range(4))
  assert other.inputs.shape == (4, 14, 2)
  paths = [
    groups.run(replace(SETTINGS, steps=0, spread=s, points_per_class=n)).weights
    for s, n in ((0.1, 10), (3.0, 7))
  ]
  np.testing.assert_array_equal(*paths)


def test_the_points_lie_where_they_should():
  settings = replace(
    SETTINGS, means=((2.0, 1.0), (-3.0, 0.0), (0.0, 5.0)), spread=0.5, points_per_class=5000
  )
  data = toy.draw(settings, [0])
  for k, mean in enumerate(settings.means):
    mine = np.asarray(data.inputs[0])[np.asarray(data.labels) == k]
    np.testing.assert_allclose(mine.mean(0), mean, atol=0.04)
    np.testing.assert_allclose(mine.std(0), 0.5, atol=0.03)


# ---- Groups, chunks, resuming --------------------------------------------------------------------


def test_chunks_change_no_bit():
  whole = groups.run(replace(SETTINGS, chunk=60))
  for chunk in (1, 7, 0):
    part = groups.run(replace(SETTINGS, chunk=chunk))
    np.testing.assert_array_equal(part.weights, whole.weights)


def test_a_seed_does_not_know_its_neighbours():
  settings = replace(SETTINGS, width=2, batch_size=5)
  two, five = (groups.run(replace(settings, num_seeds=n)).weights for n in (2, 5))
  np.testing.assert_array_equal(two, five[:2])
  wide = groups.run(replace(settings, num_seeds=5, width=5)).weights
  np.testing.assert_allclose(wide, five, rtol=1e-5, atol=1e-6)


def test_the_same_command_gives_the_same_bits(tmp_path):
  first, second = (run_main(tmp_path / name, *SHORT) for name in "ab")
  for name in first:
    np.testing.assert_array_equal(first[name], second[name])
  assert (tmp_path / "a/metrics.csv").read_text() == (tmp_path / "b/metrics.csv").read_text()
  other = run_main(tmp_path / "c", *SHORT, "--seed=1")
  assert (other["weights"] != first["weights"]).any((1, 2, 3)).all()


@pytest.mark.parametrize("stop_at", [1, 2, 4])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, stop_at):
  settings = replace(SETTINGS, width=2, batch_size=5)
  looks = iter(range(100))
  with pytest.raises(Stopped, match="stopped at step"):
    groups.run(settings, tmp_path, Host(stop=lambda: next(looks) == stop_at))
  work = []
  outcome = groups.run(settings, tmp_path, Host(advanced=lambda _, steps: work.append(steps)))
  assert sum(work) == 4 * 60
  np.testing.assert_array_equal(outcome.weights, groups.run(settings).weights)


def test_save_seeds_keeps_the_first(tmp_path):
  flags = (*SHORT, "--num_seeds=5", "--width=2")
  full = run_main(tmp_path / "a", *flags)
  some = run_main(tmp_path / "b", *flags, "--save_seeds=1")
  np.testing.assert_array_equal(some["weights"], full["weights"][:1])
  np.testing.assert_array_equal(some["recovered"], full["recovered"][:1])
  assert (tmp_path / "a/metrics.csv").read_text() == (tmp_path / "b/metrics.csv").read_text()


# ---- Controls ------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--spread=1000", "--steps=0"])
def test_what_was_not_learned_is_not_recovered(tmp_path, flag, capsys):
  run_main(tmp_path / "run", *SHORT, flag)
  summary = json.loads((tmp_path / "run/summary.json").read_text())
  assert summary["sgd"]["reshape"]["max_error"]["mean"] > 1
  assert "do not come out" in (tmp_path / "run/report.html").read_text()
  assert "largest error" in capsys.readouterr().out


def test_shuffled_labels_are_not_recovered(monkeypatch):
  def shuffled(settings, seeds):
    data = draw(settings, seeds)
    return data._replace(labels=np.random.default_rng(0).permutation(data.labels))

  draw = toy.draw
  monkeypatch.setattr(groups, "draw", shuffled)
  outcome = groups.run(replace(SETTINGS, steps=2000, spread=1.0, points_per_class=100))
  assert (outcome.measures["reshape"]["max_error"] > 0.5).all()


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
    ("--num_seeds=1",),
    ("--means=3,0;-1,0;0,2", "--loss=softmax", "--batch_size=4"),
    ("--means=1,1", "--means=-1,-1", "--arm=a:optimizer=adam,learning_rate=0.01"),
    ("--normalize=min-max", "--data_max=7", "--initializer=zeros"),
    ("--means=0,0;0,0", "--spread=0", "--width=3", "--record_every=7"),
    ("--data_dir=/nowhere", "--checkpoint_seconds=0"),
  ],
)
def test_other_settings_work(tmp_path, flags):
  stored = run_main(tmp_path / "run", *SHORT, *flags)
  assert np.isfinite(stored["weights"]).all() and np.isfinite(stored["recovered"]).all()
  json.loads((tmp_path / "run/summary.json").read_text())


def test_labels_of_lines_do_not_cover_each_other():
  places = figures._spread_out(np.array([0.0, 0.01, -5.0, 5.0, 0.005]), 0.5)
  assert (np.diff(np.sort(places)) > 0.49).all()
  np.testing.assert_allclose([places[2], places[3]], [-5, 5])


# ---- As a command --------------------------------------------------------------------------------


def command(*flags):
  arguments = [sys.executable, "-m", "launch.toy", *flags]
  return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, env=os.environ)


def test_as_a_command(tmp_path):
  done = command(f"--out_dir={tmp_path}/run", *SHORT)
  assert done.returncode == 0, done.stderr
  assert done.stderr == ""
  assert done.stdout.splitlines()[-1] == f"report: {tmp_path}/run/report.html"
  assert "true average" in done.stdout
  refused = command(f"--out_dir={tmp_path}/other", "--spread=-1")
  assert refused.returncode == 1 and refused.stdout == ""
  assert len(refused.stderr.splitlines()) == 1 and "spread" in refused.stderr


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


def test_a_complete_run_is_kept_unless_told(tmp_path, capsys):
  out_dir = tmp_path / "run"
  before = run_main(out_dir, *SHORT)
  assert main([f"--out_dir={out_dir}", *SHORT, "--seed=3"]) == 1
  assert "--overwrite" in capsys.readouterr().err
  np.testing.assert_array_equal(read(out_dir)["weights"], before["weights"])
  after = run_main(out_dir, *SHORT, "--seed=3", "--overwrite")
  assert (after["weights"] != before["weights"]).any()


def test_memory_is_asked_before_it_is_taken(monkeypatch):
  monkeypatch.setattr(memory, "device_memory", lambda: 10**6)
  with pytest.raises(InputError, match=r"8 seeds over 10000 steps take 0\.0 GB"):
    toy.check(toy.Settings(SGD))
  toy.check(toy.Settings(SGD, steps=100))
  toy.check(toy.Settings(SGD, num_seeds=10**6, steps=1000, save_seeds=8))
