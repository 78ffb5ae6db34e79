"""launch.faces and what all commands share: in process, and once as a real command."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxinv.data.synthetic_faces import synthetic_faces
from jaxinv.runs import folder
from launch import faces, run

pytestmark = pytest.mark.usefixtures("undrawn")
ROOT = Path(__file__).resolve().parents[2]
# Few people and steps: enough for every file and figure, and quick.
SMALL = ["--num_people=5", "--images_per_person=4", "--steps=12", "--num_seeds=2", "--holdout=1"]
# One device, as this process has it: the real commands would make one of each core.
SMALL += ["--batch_size=5", "--cpu_devices=1"]
CONTRACT = [
  *("config.json", "metrics.csv", "summary.json", "history.npz", "report.html"),
  *("recovered/targets.npz", "recovered/sgd.npz", "weights/adam.npz", "figures/training.gif"),
]
# What is not about the arms: one of them, a model of each, not trained.
QUICK = ["--arm=sgd:learning_rate=0.1", "--num_seeds=1", "--steps=0"]


def run_small(out_dir, *extra):
  return faces.main([*SMALL, f"--out_dir={out_dir}", *extra])


def command(*arguments):
  return [sys.executable, "-m", "launch.faces", *map(str, arguments)]


def read_metrics(out_dir):
  with open(out_dir / "metrics.csv") as file:
    return list(csv.DictReader(file))


def assert_same_numbers(a: Path, b: Path):
  """Weights, images, curves and measures of two runs are the same bits."""
  for name in ("metrics.csv", "summary.json"):
    assert (a / name).read_bytes() == (b / name).read_bytes(), name
  archives = sorted(p.relative_to(a) for p in a.rglob("*.npz"))
  assert archives == sorted(p.relative_to(b) for p in b.rglob("*.npz"))
  for name in archives:
    with np.load(a / name) as x, np.load(b / name) as y:
      assert x.files == y.files
      for key in x.files:
        np.testing.assert_array_equal(x[key], y[key], err_msg=f"{name}:{key}")


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
  out_dir = tmp_path_factory.mktemp("runs") / "small"
  assert run_small(out_dir) == 0
  return out_dir


def test_a_run_writes_the_contract_and_is_marked_complete(small_run):
  for name in CONTRACT:
    assert (small_run / name).stat().st_size > 0, name
  config = json.loads((small_run / "config.json").read_text())
  assert config["complete"] and config["flags"]["num_seeds"] == 2
  assert {"python", "jax", "jaxlib", "optax", "flax", "numpy"} <= set(config["versions"])
  assert not list(small_run.rglob("*.tmp")) and not (small_run / "checkpoints").exists()


def test_arrays_have_the_shapes_of_the_contract(small_run):
  with np.load(small_run / "recovered" / "sgd.npz") as images:
    assert images["reshape"].shape == images["init_diff"].shape == (2, 5, 112, 92)
    assert images["seed_mean"].shape == (1, 5, 112, 92)
    assert images["reshape"].dtype == np.float32
    assert images["reshape"].min() == 0 and images["reshape"].max() == 255
  with np.load(small_run / "recovered" / "targets.npz") as targets:
    assert targets["train_mean"].shape == targets["holdout_mean"].shape == (5, 112, 92)
    assert targets["train_mean_seeds"].shape == (2, 5, 112, 92)
  with np.load(small_run / "weights" / "sgd.npz") as weights:
    assert weights["weights"].shape == weights["init_weights"].shape == (2, 5, 10304)
    assert weights["bias"].shape == (2, 5)
  with np.load(small_run / "history.npz") as history:
    steps = history["sgd/step"]
    assert steps[0] == 0 and steps[-1] == 12
    assert history["adam/train_loss"].shape == (2, len(steps))


def test_the_weights_are_their_initial_share_and_the_photographs_times_their_coefficients(
  small_run,
):
  people = synthetic_faces(0, num_people=5, images_per_person=4)
  with (
    np.load(small_run / "weights" / "sgd.npz") as kept,
    np.load(small_run / "splits.npz") as split,
  ):
    sums = np.einsum("snk,np->skp", kept["coefficients"], people.inputs)
    share = kept["init_share"][:, None, None]
    np.testing.assert_allclose(share * kept["init_weights"] + sums, kept["weights"], atol=1e-6)
    held = np.take_along_axis(kept["coefficients"], split["holdout"][..., None], 1)
    assert (held == 0).all() and np.abs(kept["coefficients"]).max() > 1e-4
  with np.load(small_run / "weights" / "adam.npz") as kept:
    assert "coefficients" not in kept.files


def test_the_engines_agree_and_it_is_told_which_was_taken(small_run, tmp_path):
  (sgd,) = (arm for arm in faces.PRESETS["default"] if arm.startswith("sgd:"))
  assert run_small(tmp_path / "primal", "--engine=primal", f"--arm={sgd}") == 0
  engines = [
    json.loads((out_dir / "config.json").read_text())["engines"]
    for out_dir in (small_run, tmp_path / "primal")
  ]
  assert [it["sgd"]["engine"] for it in engines] == ["gram", "primal"]
  assert engines[0]["adam"]["engine"] == "primal"
  for it in engines:
    assert it["sgd"]["groups"] >= 1 and it["sgd"]["width"] >= 1
  with (
    np.load(small_run / "weights/sgd.npz") as span,
    np.load(tmp_path / "primal/weights/sgd.npz") as primal,
  ):
    moved = primal["weights"] - primal["init_weights"]
    difference = span["weights"] - span["init_weights"] - moved
    assert np.abs(difference).max() < 1e-4 * np.abs(moved).max()


def test_metrics_are_one_row_a_measurement(small_run):
  rows = read_metrics(small_run)
  assert set(rows[0]) == {"arm", "seed", "attack", "metric", "value"}
  keys = [(r["arm"], r["seed"], r["attack"], r["metric"]) for r in rows]
  assert len(set(keys)) == len(keys)
  assert {r["seed"] for r in rows if r["attack"] == "seed_mean"} == {"-1"}
  model = {r["metric"] for r in rows if r["attack"] == "model"}
  assert model == {"train_loss", "train_accuracy", "holdout_accuracy", "weight_movement"}


def test_the_report_needs_no_other_file(small_run):
  page = (small_run / "report.html").read_text()
  assert page.count("data:image/") >= 5
  assert 'src="http' not in page and 'href="http' not in page and "<script src" not in page


def test_the_same_command_gives_the_same_numbers(small_run, tmp_path):
  assert run_small(tmp_path / "again") == 0
  assert_same_numbers(small_run, tmp_path / "again")


def test_a_run_stopped_at_every_record_goes_on_to_the_same_bits(small_run, tmp_path, monkeypatch):
  # Each call may take one chunk, then is asked to stop.
  monkeypatch.setattr(run.StopSignal, "__call__", lambda self: True)
  out_dir = tmp_path / "stopped"
  statuses = [run_small(out_dir) for _ in range(3)]
  assert statuses == [130] * 3
  assert not (out_dir / "metrics.csv").exists()
  monkeypatch.undo()
  assert run_small(out_dir) == 0
  assert_same_numbers(small_run, out_dir)


LONG = [*SMALL, "--steps=4000", "--record_every=200", "--checkpoint_seconds=0", "--pose=0"]
LONG += ["--arm=a:learning_rate=0.01"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run long enough to be killed, left in peace."""
  out_dir = tmp_path_factory.mktemp("runs") / "whole"
  assert faces.main([*LONG, f"--out_dir={out_dir}"]) == 0
  return out_dir


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_real_command_killed_midway_goes_on_to_the_same_bits(number, whole, tmp_path):
  """Kills the command once it has a checkpoint. Ctrl-C is SIGTERM's twin, see run_test.py."""
  killed = tmp_path / "killed"
  process = subprocess.Popen(command(*LONG, f"--out_dir={killed}"), cwd=ROOT, stderr=-1)
  deadline = time.monotonic() + 120
  while process.poll() is None and not list(killed.glob("checkpoints/*/step-*")):
    assert time.monotonic() < deadline
    time.sleep(0.02)
  process.send_signal(number)
  _, complaint = process.communicate(timeout=120)
  if number != signal.SIGKILL:
    assert process.returncode == 130 and b"same command" in complaint
  assert not (killed / "metrics.csv").exists()
  assert faces.main([*LONG, f"--out_dir={killed}"]) == 0
  assert_same_numbers(whole, killed)


def test_a_complete_run_is_refused_and_overwritten_only_when_asked(small_run, tmp_path, capsys):
  before = (small_run / "summary.json").stat().st_mtime_ns
  assert run_small(small_run) == 1
  assert "--overwrite" in capsys.readouterr().err
  assert (small_run / "summary.json").stat().st_mtime_ns == before
  out_dir = Path(shutil.copytree(small_run, tmp_path / "run"))
  (out_dir / "notes.txt").write_text("mine")
  assert run_small(out_dir, "--overwrite", *QUICK[1:], "--arm=only:learning_rate=0.1") == 0
  assert not (out_dir / "recovered" / "sgd.npz").exists()
  assert (out_dir / "notes.txt").read_text() == "mine"


def test_an_unfinished_run_of_other_settings_is_refused_by_the_flags_name(
  small_run, tmp_path, capsys
):
  out_dir = Path(shutil.copytree(small_run, tmp_path / "run"))
  config = json.loads((out_dir / "config.json").read_text())
  (out_dir / "config.json").write_text(json.dumps({**config, "complete": False}))
  assert run_small(out_dir, "--batch_size=4") == 1
  assert "--batch_size differs (5 there, 4 here)" in capsys.readouterr().err


def test_untrained_models_give_nothing_away(tmp_path):
  """The control: the same pipeline, no training; and init_diff is a constant image."""
  out_dir = tmp_path / "untrained"
  assert run_small(out_dir, *QUICK, "--num_seeds=8") == 0
  cell = json.loads((out_dir / "summary.json").read_text())["sgd"]
  assert abs(cell["reshape"]["ncc_centred"]["mean"]) < 0.02
  assert cell["init_diff"]["ncc_centred"]["mean"] == 0
  assert cell["init_diff"]["identification"]["mean"] == 0


def test_a_diverging_arm_is_reported_by_seed_and_harms_no_neighbour(tmp_path):
  out_dir = tmp_path / "diverged"
  arms = ["--arm=tame:learning_rate=1e-5", "--arm=wild:learning_rate=1e9", "--loss=squared"]
  assert run_small(out_dir, *arms) == 0
  summary = json.loads((out_dir / "summary.json").read_text())
  assert summary["wild"]["diverged"] == [0, 1] and summary["tame"]["diverged"] == []
  assert set(summary["wild"]) == {"diverged"}
  assert not [row for row in read_metrics(out_dir) if row["arm"] == "wild"]


@pytest.mark.parametrize(
  "extra",
  [
    ["--arm=m:optimizer=momentum,clip_norm=1", "--nouse_bias", "--holdout=0", "--batch_size=0"],
    ["--arm=n:optimizer=nesterov,label_smoothing=0.1", "--initializer=zeros", "--fixed_split"],
    ["--arm=a:learning_rate=0.1", "--hidden=8,6", "--normalize=max", "--loss=sigmoid"],
    [
      *("--arm=w:optimizer=adamw,learning_rate=0.01,weight_decay=0.1,init_scale=2", "--width=1"),
      *("--save_seeds=1", "--pose_sweep=0,1", "--pose_seeds=1"),
    ],
    ["--preset=article", "--people=person 2,person 5", "--num_seeds=1"],
  ],
)
def test_other_ways_to_train_run_through(extra, tmp_path):
  assert run_small(tmp_path / "run", *extra) == 0
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  assert all(not arm["diverged"] for arm in summary.values())


@pytest.mark.parametrize(
  ("arguments", "words"),
  [
    (["--dataset=nowhere"], "nowhere"),
    (["--dataset=att", "--data_dir=/no/such/folder"], "/no/such/folder"),
    (["--arm=a:optimizer=adagrad"], "adagrad"),
    (["--arm=a:speed=1"], "speed"),
    (["--arm=a:learning_rate=fast"], "fast"),
    (["--arm=a:learning_rate=-1"], "learning_rate"),
    (["--arm=a:learning_rate=nan"], "learning_rate"),
    (["--arm=a:momentum=0.9"], "momentum"),
    (["--arm=a:learning_rate=1", "--arm=a:learning_rate=2"], "named twice"),
    (["--arm=../a:learning_rate=1"], "letters"),
    (["--num_seeds=0"], "num_seeds"),
    (["--num_seeds=-3"], "num_seeds"),
    (["--num_seeds=999999999999"], "num_seeds"),
    (["--steps=ten"], "steps"),
    (["--holdout=4"], "too few to hold out"),
    (["--batch_size=1000"], "training examples"),
    (["--hidden=0"], "hidden"),
    (["--people=nobody"], "nobody"),
    (["--pose=-1"], "pose"),
    (["--pose_sweep=0,far"], "far"),
    (["--checkpoint_seconds=nan"], "checkpoint_seconds"),
    (["--pose=inf"], "pose"),
    (["--pose_seeds=99999999999"], "pose_seeds"),
    (["--num_people=10000", "--images_per_person=10000"], "num_people"),
    (["--hidden=65536,65536,65536"], "one model"),
    (["--frobnicate=1"], "frobnicate"),
    (["stray"], "stray"),
  ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(arguments, words, tmp_path, capsys):
  out_dir = tmp_path / "run"
  assert run_small(out_dir, *arguments) == 1
  complaint = capsys.readouterr().err
  assert complaint.startswith("error: ") and complaint.count("\n") == 1 and words in complaint
  assert not out_dir.exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path, capsys):
  (tmp_path / "file").write_text("in the way")
  assert run_small(tmp_path / "file" / "run") == 1
  assert "cannot write" in capsys.readouterr().err


def test_a_folder_that_another_process_works_in_is_refused(tmp_path, capsys):
  out_dir = tmp_path / "run"
  out_dir.mkdir()
  with folder.working_in(out_dir):
    assert run_small(out_dir) == 1
  assert "another process" in capsys.readouterr().err
  assert run_small(out_dir, *QUICK) == 0


def test_overwrite_touches_no_folder_of_somebody_else(tmp_path, capsys):
  (tmp_path / "config.json").write_text('{"name": "mine"}')
  (tmp_path / "figures").mkdir()
  (tmp_path / "figures" / "thesis.png").write_text("mine")
  assert run_small(tmp_path, "--overwrite") == 1
  assert "is of no run" in capsys.readouterr().err
  (tmp_path / "config.json").unlink()
  assert run_small(tmp_path, "--overwrite", *QUICK) == 0
  assert (tmp_path / "figures" / "thesis.png").read_text() == "mine"


def test_help_explains_every_flag_and_succeeds(capsys):
  assert faces.main(["--help"]) == 0
  text = capsys.readouterr().out
  assert "--num_seeds" in text and "--arm" in text and "Exit status" in text
  for name in faces.FLAGS:
    assert faces.FLAGS[name].help.strip(), name


def test_the_real_command_runs_and_its_errors_have_no_traceback(tmp_path):
  done = subprocess.run(
    command(*SMALL, f"--out_dir={tmp_path / 'run'}"), cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip().splitlines()[-1] == f"report: {tmp_path / 'run' / 'report.html'}"
  wrong = subprocess.run(command("--steps=x"), cwd=ROOT, capture_output=True, text=True)
  assert wrong.returncode == 1 and wrong.stderr.count("\n") == 1 and wrong.stdout == ""


@pytest.mark.skipif(
  not os.path.isdir(os.path.join(os.environ.get("JAXINV_DATA", ""), "att_faces")),
  reason="needs the AT&T faces: set JAXINV_DATA to the folder that holds att_faces/",
)
def test_real_faces_are_read_out_of_sgd_weights(tmp_path):
  arguments = ["--dataset=att", "--num_seeds=2", "--steps=300", "--arm=sgd:learning_rate=0.1"]
  assert faces.main([*arguments, f"--out_dir={tmp_path / 'att'}"]) == 0
  cell = json.loads((tmp_path / "att" / "summary.json").read_text())["sgd"]
  assert cell["model"]["train_accuracy"]["mean"] > 0.95
  assert cell["reshape"]["ncc_centred"]["mean"] > 0.85
  assert cell["init_diff"]["ncc_centred"]["mean"] > 0.92
  assert cell["init_diff"]["identification"]["mean"] > 0.9
