"""Tests of the benchmark: what it writes, says and refuses, but never how long anything takes."""

import csv
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxinv.ensemble import mapping, memory, timing
from jaxinv.ensemble.seeds import train_keys
from jaxinv.experiments.benchmark import figures, measure, torch_peers, words
from jaxinv.experiments.benchmark.engines import (
  Curves,
  Models,
  prepare,
  shared_holdout,
  steps_to_accuracy,
  steps_to_holdout,
  train_curves,
)
from jaxinv.experiments.experiment import make_experiment, split_of
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.training.trainer import run
from jaxinv.types import Hyper
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


def test_the_machine_s_limits_are_the_medians_and_the_quickest_product():
  seconds = {"square": [2.0, 9.0, 1.0], "logits": [4.0], "bandwidth": [5.0, 5.0]}
  limits = measure.machine_rates({"square": 6.0, "logits": 8.0, "bandwidth": 10.0}, seconds)
  assert limits == {"gemm_rate": 3.0, "bandwidth": 2.0}


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
  for row in words.select(rows, arm="sgd"):
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
  assert "slow had it in 0 of 2 models within 3 steps" in (tmp_path / "report.html").read_text()


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


# ---- The ways of training that are timed ---------------------------------------------------------


def make_models(planted, optimizer="adam", engine="primal", batch_size=4, count=3):
  """Some seeds of one arm."""
  arm = Arm("arm", optimizer, Hyper(learning_rate=0.01))
  settings = Settings((arm,), batch_size=batch_size, holdout=2, engine=engine)
  lab, seeds = make_experiment(settings, planted), range(count)
  program, keys = lab.engines[optimizer].program, train_keys(0, seeds)
  return Models(optimizer, arm.hyper, batch_size, program, keys, split_of(lab, seeds))


@pytest.fixture(scope="module")
def models(planted):
  """Three seeds of Adam in small batches."""
  return make_models(planted)


@pytest.mark.parametrize("engine", ["primal", "primal_loop"])
def test_timed_calls_train_on_as_the_trainer_does(engine, models):
  trainer, axes = models.program.trainer, (0, 0, mapping.SHARED_DATA)
  hypers = mapping.stack_hypers([models.hyper] * 3)
  training = prepare(engine, models, 3)
  training.call()
  states, _ = training.call()
  alone = jax.jit(lambda *model: run(trainer, trainer.init(*model), *model[1:], 6)[0])
  for i in range(3):
    wanted = alone(*mapping.run_at(axes, (models.keys, hypers, models.data), i))
    listed = isinstance(states, list)
    state = states[i] if listed else mapping.run_at(mapping.STATE_AXES, states, i)
    assert int(state.step) == 6
    kernel = state.params["Dense_0"]["kernel"]
    np.testing.assert_allclose(kernel, wanted.params["Dense_0"]["kernel"], atol=1e-5)


def test_a_peer_starts_from_the_same_weights_and_takes_the_same_steps(planted, monkeypatch):
  pytest.importorskip("torch", reason="PyTorch, an optional dependency, is not installed")
  made, make = [], torch_peers.PEERS["torch_batched"]
  keep = lambda job: made.append(make(job)) or made[-1]  # noqa: E731
  monkeypatch.setitem(torch_peers.PEERS, "torch_batched", keep)
  models = make_models(planted, batch_size=0)
  prepare("torch_batched", models, 4).call()
  states, _ = prepare("primal", models, 4).call()
  axes = (mapping.STATE_AXES, mapping.SHARED_DATA)
  ours = jax.vmap(models.program.trainer.params, in_axes=axes)(states, models.data)["Dense_0"]
  for theirs, name in zip(made[0].weights(), ("kernel", "bias"), strict=True):
    np.testing.assert_allclose(theirs, ours[name], atol=1e-5)


def test_the_span_reaches_the_same_accuracies(planted):
  curves = [
    train_curves(make_models(planted, "sgd", engine), 20, 4) for engine in ("primal", "gram")
  ]
  for one, other in zip(*curves, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6)
  np.testing.assert_array_equal(curves[0].steps, [0, 4, 8, 12, 16, 20])


def make_curves(train, holdout):
  return Curves(np.arange(len(train)) * 10, np.array(train), np.array(holdout))


def test_steps_to_accuracies():
  one = make_curves([[0, 0], [0.9, 0.5], [1, 0.9]], [[0.1, 0.1], [0.8, 0.6], [0.7, 0.5]])
  other = make_curves([[0, 0], [0, 0], [0, 0]], [[0, 0], [0.2, 0.4], [0.5, 0.9]])
  np.testing.assert_array_equal(steps_to_accuracy(one, 0.9), [10, 20])
  np.testing.assert_array_equal(steps_to_accuracy(one, 1.0), [20, np.inf])
  np.testing.assert_array_equal(steps_to_accuracy(other, 0.0), [0, 0])
  best = shared_holdout([one, other])
  np.testing.assert_allclose(best, 0.7)
  assert (steps_to_holdout(one, best), steps_to_holdout(other, best)) == (10, 20)
  nothing = make_curves([[0]], [[np.nan]])
  assert shared_holdout([nothing, nothing]) is None


def test_a_model_that_has_diverged_has_no_accuracy(models):
  wild = models._replace(hyper=models.hyper._replace(learning_rate=1e38))
  curves = train_curves(wild, 4, 2)
  assert (curves.train_accuracy[-1] == 0).all() and (curves.holdout_accuracy[-1] == 0).all()


# ---- Words and figures ---------------------------------------------------------------------------

STEP_BYTES = {"sgd": 4, "momentum": 6, "adam": 8}


def made_up(arm, engine, ms, seeds=4, batch=0, iqr=0.0, **others):
  """A row of a benchmark that never was, by the milliseconds of a step and seed."""
  run_s = seeds * ms * 10 / 1e3
  row = {
    "arm": arm,
    "optimizer": arm,
    "engine": engine,
    "num_seeds": seeds,
    "batch_size": batch,
    "width": seeds,
    "run_s": run_s,
    "run_s_iqr": iqr * run_s,
    "seed_steps_per_s": 1e3 / ms,
    "gemm_fraction": 0.25,
    "gemm_rate": 5e10,
    "step_flops": 5e6,
    "bandwidth": 1e10,
    "bandwidth_fraction": 0.5,
    "step_bytes": 1e6 * STEP_BYTES[arm],
    "target_accuracy": 0.9,
    "holdout_target": 0.8,
    "max_steps": 100,
    "seeds_reached": seeds,
    "accuracy_seeds": seeds,
    "compile_s": None,
    "peak_bytes": None,
    "timed_seeds": seeds,
  }
  for goal, steps in (("accuracy", 30), ("holdout", 20)):
    row |= {f"steps_to_{goal}": steps, f"seconds_to_{goal}": steps * run_s / 10}
  return {**row, **others}


def test_the_verdict_is_made_of_the_numbers():
  rows = [made_up("sgd", "primal", 1.0), made_up("sgd", "gram", 0.1)]
  rows += [made_up("momentum", "primal", 1.3), made_up("adam", "primal", 1.6)]
  rows += [made_up("adam", "torch_loop", 3.2), made_up("sgd", "torch_loop", 9.9, seeds=1)]
  step, arrival, gain = words.verdict(rows)
  assert "adam takes **1.6 times** as long as one of sgd by the same engine (primal" in step
  # 8 MB against 4 MB at 10 GB/s.
  assert "8 MB" in step and "would take 0.4 ms, and the step is 0.6 ms longer." in step
  assert "momentum **1.3 times**" in step and "would take 0.1 ms at the best rate" in step
  assert "0.1 ms a seed; adam cannot" in step and "takes **16 times** that" in step
  assert "sgd in 30 steps or 0.012 s" in arrival and "0.800: sgd in 20 steps" in arrival
  assert "**16 times** as long, each by its quickest" in arrival
  assert "**1.6 times** as long, both by primal" in arrival
  assert "primal **10 times**" in gain and "torch_loop **2 times**" in gain


def test_the_verdict_gives_no_reason_for_what_is_not_so():
  quick = [made_up("sgd", "primal", 1.0), made_up("adam", "primal", 0.9, iqr=0.3)]
  step, *_ = words.verdict(quick)
  assert "**0.9 times** as long as one of sgd (within the spread" in step
  assert "longer" not in step and "gram" not in step and "caches" not in step
  cached = [made_up("sgd", "primal", 1.0), made_up("adam", "primal", 1.1)]
  assert (
    "the step is 0.1 ms longer, so part of it must be served by caches"
    in (words.verdict(cached)[0])
  )
  spans = [made_up("sgd", "gram", 1.0), made_up("momentum", "gram", 1.1)]
  step, *_ = words.verdict(spans)
  assert "No engine but the span's trained both" in step and "cannot" not in step


def test_the_verdict_says_what_was_not_reached_and_what_is_not_there():
  missing = {"seconds_to_accuracy": None, "seeds_reached": 1}
  rows = [made_up("sgd", "primal", 1.0), made_up("adam", "primal", 2.0, **missing)]
  arrival = words.verdict(rows)[1]
  assert "adam had it in 1 of 4 models within 100 steps" in arrival
  assert arrival.count("as long") == 2  # Of the held-out accuracy only.
  nothing = {"holdout_target": None, "seconds_to_holdout": None}
  alone = [made_up("sgd", "primal", 1.0, **nothing)]
  arrival, gain = words.verdict(alone)
  assert "held-out" not in arrival and "as long" not in arrival + gain


def test_the_table_compares_with_pytorch_where_it_was_timed():
  rows = [made_up("sgd", "primal", 1.0), made_up("sgd", "torch_loop", 4.0)]
  head, texts = words.table(rows)
  assert head[-1] == "x PyTorch" and [line[-1] for line in texts] == ["4", "1"]
  assert "x PyTorch" not in words.table(rows[:1])[0]


def test_throughput_draws_every_row_and_the_limits():
  rows = [made_up("sgd", e, 1.0, seeds=n) for e in ("primal", "torch_vmap") for n in (1, 4)]
  rows += [made_up("adam", "primal", 2.0, seeds=n) for n in (1, 4)]
  sgd, adam = figures.throughput_figure(rows).axes
  drawn = [list(container.lines[0].get_ydata()) for container in sgd.containers]
  assert drawn == [[1000, 1000]] * 2
  # 5e10 FLOP/s by 5e6, 1e10 B/s by 4e6 and by 8e6.
  for axis, wanted in ((sgd, {1e4, 2500}), (adam, {1e4, 1250})):
    limits = {text.get_position()[1] for text in axis.texts}
    assert limits == wanted


def test_bars_are_steps_and_seconds_and_say_what_was_not_reached():
  rows = [made_up("sgd", "gram", 0.5), made_up("sgd", "torch_loop", 9.0)]
  rows += [made_up("adam", "primal", 2.0, seconds_to_accuracy=None)]
  steps, accuracy, holdout = figures.accuracy_figure(rows).axes
  assert [bar.get_width() for bar in steps.patches] == [0.5, 2.0]
  assert [bar.get_width() for bar in accuracy.patches] == pytest.approx([0.06, 0])
  assert [text.get_text() for text in accuracy.texts][1] == "not reached"
  assert [bar.get_width() for bar in holdout.patches] == pytest.approx([0.04, 0.16])


# ---- As people call it ---------------------------------------------------------------------------


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
