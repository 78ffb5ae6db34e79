"""Tests of the benchmark: what it writes, says and refuses, but never how long anything takes."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxinv.ensemble import memory, timing
from jaxinv.experiments.benchmark import torch_peers
from jaxinv.experiments.benchmark.rows import select
from launch import benchmark, flags

# The contract: INTERFACE in BUILD.md.
COLUMNS = {
  "optimizer": str,
  "engine": str,
  "num_seeds": int,
  "batch_size": int,
  "compile_s": float | None,
  "run_s": float,
  "run_s_iqr": float,
  "seed_steps_per_s": float,
  "peak_bytes": int | None,
  "gemm_fraction": float,
  "seconds_to_accuracy": float | None,
  "width": int,
  "devices": int,
  "bandwidth_fraction": float,
  "gemm_rate": float,
  "bandwidth": float,
  "seconds_to_holdout": float | None,
  "holdout_target": float | None,
}
TINY = ("--num_seeds=1,3", "--batch_size=4", "--steps=2", "--repeats=2", "--loop_seeds=2")
TINY += ("--arm=sgd:learning_rate=0.1", "--arm=adam:optimizer=adam,learning_rate=0.001")
PEERS = tuple(torch_peers.PEERS) if torch_peers.installed() else ()


def fix_rates(patch):
  """Spares a test the measuring of the machine."""
  quick = timing.Work(lambda: np.zeros(1), 1e6)
  patch.setattr(timing, "model_products", lambda *sizes: {"square": quick})
  patch.setattr(timing, "sweep", lambda num_bytes: quick)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, planted):
  """A whole run on planted images, with tiny settings."""
  out_dir = tmp_path_factory.mktemp("benchmark") / "run"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(flags, "load_dataset", lambda f: planted)
    fix_rates(patch)
    assert benchmark.main([*TINY, f"--out_dir={out_dir}", "--max_steps=200"]) == 0
  return out_dir


@pytest.fixture(scope="module")
def rows(folder):
  return json.loads((folder / "benchmark.json").read_text())


@pytest.fixture
def call(monkeypatch, planted, capsys):
  """Runs the command on planted images; returns its status and what it wrote to stderr."""
  monkeypatch.setattr(flags, "load_dataset", lambda f: planted)
  fix_rates(monkeypatch)

  def run_command(*arguments):
    status = benchmark.main(arguments)
    return status, capsys.readouterr().err

  return run_command


def test_rows_keep_the_contract(rows):
  for row in rows:
    for name, kind in COLUMNS.items():
      assert isinstance(row[name], kind), name
    assert row["run_s"] > 0 and row["run_s_iqr"] >= 0
    assert row["gemm_fraction"] > 0 and row["bandwidth_fraction"] > 0
    for name in ("compile_s", "peak_bytes"):
      assert row[name] is None if row["engine"] in torch_peers.PEERS else row[name] > 0


def test_there_is_a_row_for_every_combination_that_can_be(rows):
  keys = [(r["arm"], r["engine"], r["num_seeds"], r["batch_size"]) for r in rows]
  engines = {"sgd": ("gram", "primal", "primal_loop", *PEERS), "adam": ("primal", "primal_loop")}
  engines["adam"] += PEERS
  wanted = {(arm, e, n, 4) for arm, names in engines.items() for e in names for n in (1, 3)}
  assert len(keys) == len(wanted) and set(keys) == wanted
  assert all(row["optimizer"] == row["arm"] for row in rows)


def test_rates_follow_from_the_times(rows):
  for row in rows:
    rate = row["num_seeds"] * row["steps"] / row["run_s"]
    np.testing.assert_allclose(row["seed_steps_per_s"], rate)
    # Batches of 4 of 40 images of 143 pixels, 5 people; the machine's rates are set.
    flops = 2 * 4 * 40 * 5 if row["engine"] == "gram" else 4 * 4 * 143 * 5
    np.testing.assert_allclose(row["gemm_fraction"], flops * rate / row["gemm_rate"])
    numbers = {"sgd": 4, "adam": 8}[row["arm"]] * 143 * 5
    if row["engine"] == "gram":
      numbers = 40 * 5 + 3 * 4 * 5
    np.testing.assert_allclose(row["bandwidth_fraction"], 4 * numbers * rate / row["bandwidth"])
    one_by_one = row["engine"] in ("primal_loop", "torch_loop")
    assert row["timed_seeds"] == min(row["num_seeds"], 2 if one_by_one else 3)


def test_times_to_accuracies_are_steps_times_the_time_of_a_step(rows):
  for goal in ("accuracy", "holdout"):
    reached = [row for row in rows if row[f"seconds_to_{goal}"] is not None]
    assert reached
    for row in reached:
      seconds = row[f"steps_to_{goal}"] * row["run_s"] / row["steps"]
      np.testing.assert_allclose(row[f"seconds_to_{goal}"], seconds)
  for row in select(rows, arm="sgd"):
    assert row["steps_to_accuracy"] == rows[0]["steps_to_accuracy"]
    assert row["seeds_reached"] > row["accuracy_seeds"] / 2 and row["accuracy_seeds"] == 3
  assert len({row["holdout_target"] for row in rows}) == 1


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
  for name in ("throughput", "accuracy"):
    assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
  page = (folder / "report.html").read_text()
  assert page.count("data:image/png") == 2 and "sgd against adam" in page
  assert "a step of adam takes" in (folder / "verdict.txt").read_text().lower()


def test_an_accuracy_out_of_reach_is_null_and_said(call, tmp_path):
  arguments = ("--num_seeds=2", "--batch_size=0", "--steps=1", "--repeats=1", "--max_steps=3")
  arguments += ("--nopeers", "--engine=primal,gram", "--arm=slow:learning_rate=1e-9")
  assert call(*arguments, f"--out_dir={tmp_path}")[0] == 0
  rows = json.loads((tmp_path / "benchmark.json").read_text())
  assert [row["engine"] for row in rows] == ["primal", "gram"]
  for row in rows:
    # 5 people, 6 images of each to train on, of 8.
    flops = 2 * 30 * 40 * 5 if row["engine"] == "gram" else 4 * 30 * 143 * 5
    share = flops * row["seed_steps_per_s"] / row["gemm_rate"]
    np.testing.assert_allclose(row["gemm_fraction"], share)
    assert row["seconds_to_accuracy"] is None and row["steps_to_accuracy"] is None
    assert row["seeds_reached"] == 0
  assert "slow reached it in 0 of 2 models within 3 steps" in (tmp_path / "report.html").read_text()


def test_seeds_beyond_a_groups_width_are_groups_more_and_nothing_need_be_held_out(call, tmp_path):
  arguments = ("--num_seeds=5", "--width=2", "--batch_size=4", "--steps=1", "--repeats=1")
  arguments += ("--nopeers", "--engine=gram", "--holdout=0", "--max_steps=1", *TINY[5:6])
  assert call(*arguments, f"--out_dir={tmp_path}") == (0, "")
  rows = json.loads((tmp_path / "benchmark.json").read_text())
  assert [(row["width"], row["timed_seeds"]) for row in rows] == [(2, 2)]
  assert all(row["holdout_target"] is row["seconds_to_holdout"] is None for row in rows)


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
    ("--arm=a:release_noise=1", "launch.study"),
    ("--engine=torch", "torch"),
    ("--width=-1", "width"),
    ("--width=", "empty"),
    ("--peer_seeds=0", "peer_seeds"),
    ("--memory_fraction=2", "memory_fraction"),
    ("--nonsense=1", "nonsense"),
    ("nonsense", "nonsense"),
  ],
)
def test_what_cannot_be_used_is_refused_in_one_line(argument, word, call, tmp_path):
  status, error = call(argument, f"--out_dir={tmp_path / 'run'}")
  assert status == 1
  assert error.startswith("error: ") and error.count("\n") == 1 and word in error
  assert not (tmp_path / "run").exists()


def test_an_engine_that_can_train_no_arm_is_refused(call, tmp_path):
  arguments = ("--engine=gram", "--nopeers", "--arm=adam:optimizer=adam")
  status, error = call(*arguments, f"--out_dir={tmp_path / 'run'}")
  assert status == 1 and error.count("\n") == 1 and "--engine" in error


def test_a_memory_too_small_for_one_model_is_refused(call, tmp_path, monkeypatch):
  monkeypatch.setattr(memory, "device_memory", lambda: 10**4)
  status, error = call("--num_seeds=1,4", "--batch_size=0", f"--out_dir={tmp_path / 'run'}")
  assert status == 1 and error.count("\n") == 1 and "--memory_fraction" in error
  assert not (tmp_path / "run").exists()


def test_without_pytorch_its_rows_are_missing_and_that_is_said(monkeypatch, capsys):
  monkeypatch.setattr(torch_peers, "installed", lambda: False)
  benchmark.FLAGS(["command"])
  assert not set(benchmark._read_engines()) & set(torch_peers.PEERS)
  said = capsys.readouterr().out
  assert said.count("\n") == 1 and "PyTorch" in said


def test_a_complete_run_is_not_overwritten_unasked(folder, call):
  before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
  status, error = call(*TINY, f"--out_dir={folder}")
  assert status == 1 and "--overwrite" in error
  assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_an_interrupted_run_keeps_no_rows_and_starts_anew(call, tmp_path, monkeypatch):
  def interrupt(*_):
    raise KeyboardInterrupt

  arguments = ("--num_seeds=1", "--batch_size=0", "--steps=1", "--repeats=1", "--max_steps=1")
  arguments += ("--arm=only:learning_rate=0.1", "--engine=primal", "--nopeers")
  with monkeypatch.context() as patch:
    patch.setattr(timing, "time_calls", interrupt)
    status, said = call(*arguments, f"--out_dir={tmp_path}")
  assert status == 130 and "the same command starts anew" in said
  kept = {path.name for path in tmp_path.iterdir()} - {".lock"}
  assert kept == {"config.json", "manifest.txt"}
  assert call(*arguments, f"--out_dir={tmp_path}")[0] == 0
  assert json.loads((tmp_path / "config.json").read_text())["complete"]


def test_help_explains(capsys):
  assert benchmark.main(["--help"]) == 0
  text = capsys.readouterr().out
  assert "starts anew" in text and "--loop_seeds" in text and "--target_accuracy" in text


def test_the_command(tmp_path):
  command = [sys.executable, "-m", "launch.benchmark", "--num_people=3", "--images_per_person=4"]
  command += ["--num_seeds=1", "--batch_size=0", "--steps=1", "--repeats=1", "--max_steps=2"]
  command += ["--engine=primal", "--nopeers", *TINY[-2:]]
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    [*command, f"--out_dir={tmp_path}"], capture_output=True, text=True, env=environment
  )
  assert (done.returncode, done.stderr) == (0, "")
  rows = json.loads((tmp_path / "benchmark.json").read_text())
  assert [(row["arm"], row["engine"]) for row in rows] == [
    ("sgd", "primal"),
    ("adam", "primal"),
  ]
  assert "x PyTorch" not in done.stdout and "a step of adam takes" in done.stdout.lower()
  assert "report.html" in done.stdout
