"""Tests of the benchmark: what it writes, says and refuses, but never how long anything takes."""

import csv
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxinv import ensemble, timing
from jaxinv.experiment import Arm, Settings, make_lab, split_of
from jaxinv.figures import benchmark as figures
from jaxinv.train import run
from jaxinv.types import Hyper
from launch import benchmark, flags

# The contract: INTERFACE in BUILD.md.
COLUMNS = {
  "optimizer": str,
  "engine": str,
  "num_seeds": int,
  "batch_size": int,
  "compile_s": float,
  "run_s": float,
  "run_s_iqr": float,
  "seed_steps_per_s": float,
  "peak_bytes": int,
  "gemm_fraction": float,
  "seconds_to_accuracy": float | None,
}
TINY = ("--num_seeds=1,3", "--batch_size=4", "--steps=2", "--repeats=2", "--loop_seeds=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, planted):
  """A whole run on planted images, with tiny settings."""
  out_dir = tmp_path_factory.mktemp("benchmark") / "run"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(flags, "load_dataset", lambda f: planted)
    patch.setattr(timing, "gemm_rate", lambda *sizes: 1e9)
    assert benchmark.main([*TINY, f"--out_dir={out_dir}", "--max_steps=200"]) == 0
  return out_dir


@pytest.fixture(scope="module")
def rows(folder):
  return json.loads((folder / "benchmark.json").read_text())


@pytest.fixture
def call(monkeypatch, planted, capsys):
  """Runs the command on planted images; returns its status and what it wrote to stderr."""
  monkeypatch.setattr(flags, "load_dataset", lambda f: planted)
  monkeypatch.setattr(timing, "gemm_rate", lambda *sizes: 1e9)

  def run_command(*arguments):
    status = benchmark.main(arguments)
    return status, capsys.readouterr().err

  return run_command


def test_rows_keep_the_contract(rows):
  for row in rows:
    for name, kind in COLUMNS.items():
      assert isinstance(row[name], kind), name
    assert row["run_s"] > 0 and row["run_s_iqr"] >= 0 and row["compile_s"] > 0
    assert row["peak_bytes"] > 0 and row["gemm_fraction"] > 0


def test_there_is_a_row_for_every_combination(rows):
  keys = [(r["arm"], r["engine"], r["num_seeds"], r["batch_size"]) for r in rows]
  engines = ("primal", "primal_loop")
  wanted = {(a, e, n, 4) for a in ("sgd", "adam") for e in engines for n in (1, 3)}
  assert len(keys) == len(wanted) and set(keys) == wanted
  assert all(row["optimizer"] == row["arm"] for row in rows)


def test_rates_follow_from_the_times(rows):
  for row in rows:
    seed_steps = row["num_seeds"] * row["steps"]
    np.testing.assert_allclose(row["seed_steps_per_s"], seed_steps / row["run_s"])
    # Two products of 4 images, 143 pixels and 5 people; the rate of products is set to 1e9.
    flops = 4 * 4 * 143 * 5
    np.testing.assert_allclose(row["gemm_fraction"], flops * row["seed_steps_per_s"] / 1e9)
    assert row["timed_seeds"] == min(row["num_seeds"], 2 if row["engine"] == "primal_loop" else 3)


def test_time_to_accuracy_is_steps_times_the_time_of_a_step(rows):
  reached = [row for row in rows if row["seconds_to_accuracy"] is not None]
  assert reached
  for row in reached:
    seconds = row["steps_to_accuracy"] * row["run_s"] / row["steps"]
    np.testing.assert_allclose(row["seconds_to_accuracy"], seconds)
    assert row["seeds_reached"] > row["num_seeds"] / 2


def test_both_engines_take_the_same_number_of_steps(rows):
  for row in figures.select(rows, engine="primal"):
    same = {name: row[name] for name in ("arm", "num_seeds", "batch_size")}
    (other,) = figures.select(rows, engine="primal_loop", **same)
    assert other["steps_to_accuracy"] == row["steps_to_accuracy"]


def test_csv_equals_json(folder, rows):
  with open(folder / "benchmark.csv", newline="") as file:
    table = list(csv.DictReader(file))
  assert len(table) == len(rows)
  for texts, row in zip(table, rows, strict=True):
    assert texts == {name: "" if value is None else str(value) for name, value in row.items()}


def test_everything_is_there_and_complete(folder):
  config = json.loads((folder / "config.json").read_text())
  assert config["complete"] and config["command"] == "launch.benchmark"
  assert config["flags"]["num_seeds"] == ["1", "3"]
  for name in ("throughput", "slowdown"):
    assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
  page = (folder / "report.html").read_text()
  assert page.count("data:image/png") == 2 and "sgd against adam" in page


def test_an_accuracy_out_of_reach_is_null_and_said(call, tmp_path):
  arguments = ("--num_seeds=2", "--batch_size=0", "--steps=1", "--repeats=1", "--max_steps=3")
  arm = "--arm=slow:learning_rate=1e-9"
  assert call(*arguments, arm, f"--out_dir={tmp_path}")[0] == 0
  rows = json.loads((tmp_path / "benchmark.json").read_text())
  assert len(rows) == 2
  for row in rows:
    # 5 people, 6 images of each to train on.
    flops = 4 * 30 * 143 * 5 * row["seed_steps_per_s"]
    np.testing.assert_allclose(row["gemm_fraction"], flops / 1e9)
    assert row["seconds_to_accuracy"] is None and row["steps_to_accuracy"] is None
    assert row["seeds_reached"] == 0
  page = (tmp_path / "report.html").read_text()
  assert "slow had it in 0 of 2 seeds within 3 steps" in page
  # One arm has nothing to be compared with.
  assert not (tmp_path / "figures" / "slowdown.png").exists()


@pytest.mark.parametrize(
  ("argument", "word"),
  [
    ("--num_seeds=0", "num_seeds"),
    ("--num_seeds=1,-2", "num_seeds"),
    ("--num_seeds=1,,2", "num_seeds"),
    ("--num_seeds=many", "num_seeds"),
    ("--num_seeds=", "empty"),
    ("--batch_size=-1", "batch_size"),
    ("--batch_size=4.5", "batch_size"),
    ("--batch_size=31", "30 training examples"),
    ("--holdout=8", "holdout"),
    ("--steps=0", "steps"),
    ("--repeats=0", "repeats"),
    ("--loop_seeds=-1", "loop_seeds"),
    ("--max_steps=0", "max_steps"),
    ("--record_every=0", "record_every"),
    ("--target_accuracy=1.5", "target_accuracy"),
    ("--target_accuracy=nan", "target_accuracy"),
    ("--arm=a:optimizer=lion", "lion"),
    ("--nonsense=1", "nonsense"),
    ("nonsense", "nonsense"),
  ],
)
def test_what_cannot_be_used_is_refused_in_one_line(argument, word, call, tmp_path):
  status, error = call(argument, f"--out_dir={tmp_path / 'run'}")
  assert status == 1
  assert error.startswith("error: ") and error.count("\n") == 1 and word in error
  assert not (tmp_path / "run").exists()


def test_more_models_than_fit_are_refused(call, tmp_path, monkeypatch):
  monkeypatch.setattr(ensemble, "device_memory", lambda: 10**6)
  status, error = call("--num_seeds=1,1000", "--batch_size=0", f"--out_dir={tmp_path / 'run'}")
  assert status == 1 and error.count("\n") == 1 and "1000 models at once" in error
  assert not (tmp_path / "run").exists()


def test_a_complete_run_is_not_overwritten_unasked(folder, call):
  before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
  status, error = call(*TINY, f"--out_dir={folder}")
  assert status == 1 and "--overwrite" in error
  assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_an_interrupted_run_keeps_no_rows_and_starts_anew(call, tmp_path, monkeypatch):
  def interrupt(*_):
    raise KeyboardInterrupt

  arguments = ("--num_seeds=1", "--batch_size=0", "--steps=1", "--repeats=1", "--max_steps=1")
  arguments += ("--arm=only:learning_rate=0.1",)
  with monkeypatch.context() as patch:
    patch.setattr(timing, "time_calls", interrupt)
    with pytest.raises(SystemExit) as stop:
      call(*arguments, f"--out_dir={tmp_path}")
  assert stop.value.code == 130
  assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
  assert call(*arguments, f"--out_dir={tmp_path}")[0] == 0
  assert json.loads((tmp_path / "config.json").read_text())["complete"]


def test_help_explains(capsys):
  assert benchmark.main(["--help"]) == 0
  text = capsys.readouterr().out
  assert "starts anew" in text and "--loop_seeds" in text and "--target_accuracy" in text


# ---- The two ways of training that are timed -----------------------------------------------------


@pytest.fixture(scope="module")
def group(planted):
  """Trainer, keys, hyperparameters and data of three seeds of Adam in small batches."""
  arm = Arm("adam", "adam", Hyper(learning_rate=0.01))
  lab = make_lab(Settings((arm,), batch_size=4, holdout=2), planted)
  seeds = range(3)
  program, hypers = lab.engines["adam"].program, ensemble.stack_hypers([arm.hyper] * 3)
  return program, ensemble.train_keys(0, seeds), hypers, split_of(lab, seeds)


@pytest.mark.parametrize("prepare", [timing.train_together, timing.train_in_turn])
def test_timed_calls_train_on_as_the_trainer_does(prepare, group):
  program, keys, hypers, data = group
  trainer, axes = program.trainer, (0, 0, ensemble.SHARED_DATA)
  training = prepare(trainer, keys, hypers, data, 3)
  training.call()
  states, _ = training.call()
  alone = jax.jit(lambda *model: run(trainer, trainer.init(*model), *model[1:], 6)[0])
  for i in range(3):
    wanted = alone(*ensemble.member(axes, (keys, hypers, data), i))
    listed = isinstance(states, list)
    state = states[i] if listed else ensemble.member(ensemble.STATE_AXES, states, i)
    assert int(state.step) == 6
    kernel = state.params["Dense_0"]["kernel"]
    np.testing.assert_allclose(kernel, wanted.params["Dense_0"]["kernel"], atol=1e-5)


def test_steps_to_accuracy_agrees_with_the_records(group):
  program, keys, hypers, data = group
  steps = timing.steps_to_accuracy(program, keys, hypers, data, 0.9, 40, 7)
  start = ensemble.start_group(program, keys, hypers, data)
  progress = ensemble.train_group(program, start, hypers, data, 40, 7)
  looks = np.array([0, 7, 14, 21, 28, 35, 40])
  for first, accuracy in zip(steps, progress.history.train_accuracy.T, strict=True):
    reached = looks[accuracy >= 0.9]
    assert first == (reached[0] if len(reached) else np.inf)


def test_steps_to_no_accuracy_at_all(group):
  np.testing.assert_array_equal(timing.steps_to_accuracy(*group, 0.0, 10, 5), np.zeros(3))


def test_steps_to_an_accuracy_out_of_reach(group):
  program, keys, hypers, data = group
  slow = hypers._replace(learning_rate=0 * hypers.learning_rate)
  steps = timing.steps_to_accuracy(program, keys, slow, data, 1.0, 5, 2)
  np.testing.assert_array_equal(steps, np.full(3, np.inf))


# ---- Words and figures ---------------------------------------------------------------------------


def made_up(arm, engine, seeds, run_s, iqr=0.0, **others):
  """A row of a benchmark that never was."""
  return {
    "arm": arm,
    "engine": engine,
    "num_seeds": seeds,
    "batch_size": 0,
    "run_s": run_s,
    "run_s_iqr": iqr,
    "seed_steps_per_s": seeds * 10 / run_s,
    "gemm_fraction": 0.25,
    "gemm_rate": 5e10,
    "target_accuracy": 0.9,
    "max_steps": 100,
    "steps_to_accuracy": 30.0,
    "seconds_to_accuracy": 3 * run_s,
    "seeds_reached": seeds,
    **others,
  }


def test_findings_are_made_of_the_numbers():
  rows = [made_up(arm, "primal", 4, s) for arm, s in (("sgd", 2.0), ("adam", 1.0))]
  rows += [made_up(arm, "primal_loop", 4, s) for arm, s in (("sgd", 3.0), ("adam", 0.5))]
  step, gain, arrival, products = figures.findings(rows)
  assert "a step of adam took **0.5 times** as long as one of sgd" in step
  assert "**1.5 times** as many steps a second for sgd" in gain
  assert "**0.5 times** as many steps a second for adam" in gain
  assert "sgd took 30 steps or **6 s** (reached by 4 of 4 seeds)" in arrival
  assert "50 GFLOP/s" in products and "25.0% to 25.0%" in products


def test_findings_say_where_a_difference_is_within_the_spread():
  rows = [made_up("sgd", "primal", 1, 1.0, 0.3), made_up("adam", "primal", 1, 1.2, 0.2)]
  rows += [made_up("sgd", "primal_loop", 1, 2.0), made_up("adam", "primal_loop", 1, 2.0)]
  step, gain, *_ = figures.findings(rows)
  assert "within the spread" in step and "within the spread" not in gain


def test_slowdown_leaves_out_what_was_not_reached():
  missing = {"seconds_to_accuracy": None}
  rows = [made_up("sgd", "primal", 1, 1.0), made_up("sgd", "primal", 2, 1.0)]
  rows += [made_up("adam", "primal", 1, 2.0, **missing), made_up("adam", "primal", 2, 4.0)]
  (axis,) = figures.slowdown_figure(rows).axes
  lines = {line.get_label(): line for line in axis.get_lines()}
  np.testing.assert_array_equal(lines["adam: one step"].get_ydata(), [2, 4])
  np.testing.assert_array_equal(lines["adam: to the same accuracy"].get_xdata(), [2])


def test_throughput_draws_every_row():
  rows = [made_up(a, e, n, 1.0) for a in "ab" for e in ("primal", "primal_loop") for n in (1, 4)]
  (axis,) = figures.throughput_figure(rows).axes
  drawn = [list(container.lines[0].get_ydata()) for container in axis.containers]
  assert drawn == [[10, 40]] * 4


# ---- As people call it ---------------------------------------------------------------------------


def test_the_command(tmp_path):
  command = [sys.executable, "-m", "launch.benchmark", "--num_people=3", "--images_per_person=4"]
  command += ["--num_seeds=1", "--batch_size=0", "--steps=1", "--repeats=1", "--max_steps=2"]
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    [*command, f"--out_dir={tmp_path}"], capture_output=True, text=True, env=environment
  )
  assert (done.returncode, done.stderr) == (0, "")
  rows = json.loads((tmp_path / "benchmark.json").read_text())
  assert [(row["arm"], row["engine"]) for row in rows] == [
    ("sgd", "primal"),
    ("sgd", "primal_loop"),
    ("adam", "primal"),
    ("adam", "primal_loop"),
  ]
  assert "seed-steps/s" in done.stdout and "primal_loop" in done.stdout
  assert "report.html" in done.stdout
