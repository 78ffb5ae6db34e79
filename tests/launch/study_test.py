"""launch.study: what it writes agrees with an independent computation; in process and for real."""

import csv
import itertools
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from jaxinv.data.synthetic_faces import synthetic_faces
from jaxinv.experiments.settings import Arm
from jaxinv.experiments.study import study
from jaxinv.metrics.claims import Label
from jaxinv.types import Hyper
from launch import study as command
from launch.run import StopSignal

pytestmark = pytest.mark.usefixtures("undrawn")
ROOT = Path(__file__).resolve().parents[2]
PEOPLE, EACH = 5, 6
SMALL = [f"--num_people={PEOPLE}", f"--images_per_person={EACH}", "--steps=20", "--num_seeds=4"]
SMALL += ["--batch_size=5", "--cpu_devices=1", "--record_every=5", "--save_seeds=4"]
SMALL += ["--control_seeds=8", "--control_arms=sgd"]
ARMS = ["--arm=sgd:learning_rate=0.03", "--arm=bits:learning_rate=0.03,release_bits=3"]
GRID = ["--grid=init_scale=1,3"]
LONG_GRID = [
  f"--grid={key}=0.00123456"
  for key in ("learning_rate", "weight_decay", "init_scale", "label_smoothing", "clip_norm")
]
LONG_GRID += ["--grid=input_noise=0.00123456", "--grid=release_noise=0.00123456"]
DP = ["--arm=dp:learning_rate=0.03,dp_clip=1,dp_noise=2"]


def run(out_dir, *extra):
  return command.main([*SMALL, *(extra or (*ARMS, *DP, *GRID)), f"--out_dir={out_dir}"])


def arguments(*extra):
  return [*extra, "--baseline=sgd-init_scale-1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  out_dir = tmp_path_factory.mktemp("runs") / "study"
  assert run(out_dir, *ARMS, *DP, *GRID) == 0
  return out_dir


def rows_of(path):
  with open(path) as file:
    return list(csv.DictReader(file))


def cells_of(folder):
  """{(cell, seed, attack, metric): value}."""
  keys = ("cell", "seed", "attack", "metric")
  return {tuple(row[k] for k in keys): float(row["value"]) for row in rows_of(folder / "cells.csv")}


def unit(images):
  flat = images.reshape(len(images), -1).astype(np.float64)
  flat = flat - flat.mean(1, keepdims=True)
  return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def centred_ncc(images, means):
  return (unit(images) * unit(means - means.mean(0))).sum(1).mean()


def mi_face(weights, bias):
  """MI-Face in plain numpy, from its description alone."""
  images = []
  for label in range(len(bias)):
    x, costs, best = np.zeros(weights.shape[1]), [], None
    while True:
      logits = weights @ x + bias
      cost = special.logsumexp(logits) - logits[label]
      if best is None or cost <= best[0]:
        best = cost, x
      stop = len(costs) > 100 or (len(costs) >= 10 and cost >= max(costs[-10:]))
      if (costs and (stop or cost <= -np.log1p(-0.01))) or len(costs) == 100:
        break
      costs.append(cost)
      gradient = special.softmax(logits) @ weights - weights[label]
      x = np.clip(x - 0.02 * gradient / np.sqrt(np.square(gradient).mean()), 0, 1)
    images.append(best[1])
  return np.stack(images)


def test_the_study_writes_what_it_promises(folder):
  names = ("config.json", "cells.csv", "paired.csv", "summary.json", "photographs.csv")
  for name in (
    *names,
    "report.html",
    "history.npz",
    "logits/sgd.npz",
    "weights/dp-init_scale-3.npz",
  ):
    assert (folder / name).stat().st_size > 0, name
  assert json.loads((folder / "config.json").read_text())["complete"] is True
  assert not (folder / "checkpoints").exists()


def test_the_grid_crosses_every_arm(folder):
  cells = {row["cell"]: row for row in rows_of(folder / "cells.csv")}
  assert set(cells) == {f"{a}-init_scale-{v}" for a in ("sgd", "bits", "dp") for v in (1, 3)}
  assert cells["bits-init_scale-3"]["arm"] == "bits"
  assert cells["bits-init_scale-3"]["init_scale"] == "3"
  engines = json.loads((folder / "config.json").read_text())["engines"]
  assert {name: how["engine"] for name, how in engines.items()} == {
    "sgd": "gram",
    "sgd+release": "gram",
    "sgd+dp": "primal",
  }


@pytest.mark.parametrize("cell", ["sgd-init_scale-3", "bits-init_scale-1", "dp-init_scale-1"])
def test_leakage_of_every_attack_is_that_of_the_saved_weights(folder, cell):
  """With numpy alone: from weights/, the splits and the photographs."""
  found, saved = cells_of(folder), np.load(folder / "weights" / f"{cell}.npz")
  faces = synthetic_faces(0, num_people=PEOPLE, images_per_person=EACH)
  train = np.load(folder / "splits.npz")["train"]
  means = np.stack(
    [[faces.inputs[t[faces.labels[t] == k]].mean(0) for k in range(PEOPLE)] for t in train]
  )
  for seed in range(4):
    w, w0, b = (np.float64(saved[n][seed]) for n in ("weights", "init_weights", "bias"))
    w1, b1 = (np.float64(saved[f"previous_{n}"][seed]) for n in ("weights", "bias"))
    images = {
      "reshape": w,
      "class_centred": w - w.mean(0),
      "init_diff": w - w0,
      "update_ratio": (w - w1) / (b - b1)[:, None],
      "mi_face": mi_face(w, b),
    }
    for attack, image in images.items():
      expected = found[cell, str(seed), attack, "ncc_centred"]
      close = 2e-3 if attack == "mi_face" else 1e-4  # A hundred steps of rounding.
      assert centred_ncc(image, means[seed]) == pytest.approx(expected, abs=close), attack
  together = centred_ncc(np.float64(saved["weights"]).mean(0), means.mean(0))
  assert together == pytest.approx(found[cell, "-1", "seed_mean", "ncc_centred"], abs=1e-4)


def test_differences_are_paired_by_seed(folder):
  found = cells_of(folder)
  for row in rows_of(folder / "paired.csv"):
    if row["when"] == "end" and row["attack"] == "reshape":
      pairs = [
        found[row["cell"], str(s), "reshape", row["metric"]]
        - found["sgd-init_scale-1", str(s), "reshape", row["metric"]]
        for s in range(4)
      ]
      assert float(row["mean"]) == pytest.approx(np.mean(pairs), abs=1e-6)
      assert float(row["low"]) <= np.mean(pairs) + 1e-6 and np.mean(pairs) - 1e-6 <= float(
        row["high"]
      )


def test_initial_weights_and_splits_are_the_same_in_every_cell(folder):
  arrays = {
    c: np.load(folder / "weights" / f"{c}.npz")["init_weights"]
    for c in ("sgd-init_scale-1", "sgd-init_scale-3", "dp-init_scale-1")
  }
  np.testing.assert_allclose(arrays["sgd-init_scale-3"], 3 * arrays["sgd-init_scale-1"], rtol=1e-6)
  np.testing.assert_array_equal(arrays["dp-init_scale-1"], arrays["sgd-init_scale-1"])


def test_every_verdict_is_one_of_the_labels_and_dp_tells_its_epsilon(folder):
  summary = json.loads((folder / "summary.json").read_text())
  assert "verdict" not in summary["sgd-init_scale-1"]
  for cell in set(summary) - {"sgd-init_scale-1", "controls"}:
    assert summary[cell]["verdict"]["label"] in set(Label)
  told = summary["dp-init_scale-1"]["epsilon"]
  assert 0.5 < told["epsilon"] < 10 and told["delta"] == 1e-5
  assert "epsilon" not in summary["sgd-init_scale-3"]


def test_every_photograph_is_in_half_of_the_control_models(folder):
  with np.load(folder / "logits" / "sgd.npz") as saved:
    members, holdout, logits = saved["members"], saved["holdout"], saved["logits"]
  assert logits.shape == (8, PEOPLE * EACH, PEOPLE)
  assert not members[:, holdout].any()
  candidates = np.setdiff1d(np.arange(PEOPLE * EACH), holdout)
  assert (members[:, candidates].sum(0) == 4).all()
  rows = [row for row in rows_of(folder / "photographs.csv") if row["arm"] == "sgd"]
  assert [int(row["photograph"]) for row in rows] == candidates.tolist()
  assert {(row["in"], row["out"]) for row in rows} == {("4", "4")}


def test_the_auc_of_lira_is_that_of_a_plain_loop_over_the_saved_logits(folder):
  with np.load(folder / "logits" / "sgd.npz") as saved:
    members, logits = saved["members"], np.float64(saved["logits"])
  labels = np.repeat(np.arange(PEOPLE), EACH)
  scores, truth = [], []
  for target in range(8):
    others = [s for s in range(8) if s not in (target, target ^ 1)]
    for i in np.flatnonzero(members.any(0)):
      z = np.array(
        [x[labels[i]] - special.logsumexp(np.delete(x, labels[i])) for x in logits[:, i]]
      )
      inside, outside = ([z[s] for s in others if members[s, i] == m] for m in (True, False))
      ratio = [
        stats.norm.logpdf(z[target], np.mean(x), np.std(x, ddof=1)) for x in (inside, outside)
      ]
      scores.append(ratio[0] - ratio[1])
      truth.append(members[target, i])
  ranks, truth = stats.rankdata(scores), np.array(truth)
  auc = (ranks[truth].mean() - (truth.sum() + 1) / 2) / (~truth).sum()
  summary = json.loads((folder / "summary.json").read_text())
  assert summary["controls"]["photographs"]["sgd"]["lira"]["pooled_auc"] == pytest.approx(
    auc, abs=0.02
  )


def test_controls_that_must_fail_do(folder):
  controls = json.loads((folder / "summary.json").read_text())["controls"]
  untrained = controls["photographs"]["sgd-init_scale-1.untrained"]
  tests = [test for test in untrained.values() if "pooled_auc" in test]
  assert len(tests) >= 4
  for test in tests:
    # 8 models x 20 photographs, in complementary pairs: a standard error of about 0.06.
    assert abs(test["pooled_auc"] - 0.5) < 0.2
  for name in ("sgd-init_scale-1.untrained", "sgd-init_scale-1.shuffled_labels"):
    for attack in ("reshape", "init_diff"):
      assert abs(controls["people"][name][attack]["ncc_centred"]["mean"]) < 0.3
      assert controls["people"][name][attack]["identification"]["mean"] < 0.6
  trained = controls["people"]["sgd"]["init_diff"]
  assert trained["ncc_centred"]["mean"] > 0.7 and trained["identification"]["mean"] > 0.6


def numbers(folder):
  texts = {
    name: (folder / name).read_bytes() for name in ("cells.csv", "paired.csv", "summary.json")
  }
  archives = defaultdict(dict)
  for path in sorted(folder.rglob("*.npz")):
    with np.load(path) as arrays:
      archives[str(path.relative_to(folder))] = {k: arrays[k] for k in arrays.files}
  return texts, archives


def test_a_study_stopped_again_and_again_goes_on_to_the_same_bits(folder, tmp_path, monkeypatch):
  # At every fifth record: groups have four, and so each is stopped at another one.
  records = itertools.count(1)
  monkeypatch.setattr(StopSignal, "__call__", lambda self: next(records) % 5 == 0)
  out_dir = tmp_path / "study"
  statuses = [130]
  while statuses[-1] == 130:
    assert len(statuses) < 60
    statuses.append(run(out_dir, *ARMS, *DP, *GRID))
  assert statuses[-1] == 0 and len(statuses) >= 4
  texts, archives = numbers(out_dir)
  wanted, expected = numbers(folder)
  assert texts == wanted
  assert set(archives) == set(expected)
  for name, arrays in archives.items():
    for key, values in arrays.items():
      np.testing.assert_array_equal(values, expected[name][key], err_msg=f"{name}:{key}")


@pytest.mark.parametrize(
  ("extra", "words"),
  [
    (["--grid=init_scale"], "KEY=value"),
    (["--grid=frobnicate=1"], "init_scale"),
    (["--grid=init_scale=1,x"], "not a number"),
    (["--grid=init_scale=1,1"], "twice"),
    (["--grid=init_scale=1", "--grid=init_scale=2"], "twice"),
    (["--arm=a:dp_noise=1"], "dp_clip"),
    (["--arm=a:release_bits=0.5"], "release_bits"),
    (["--arm=a:steps=1.5"], "steps"),
    (["--baseline=nobody"], "nobody"),
    (["--control_arms=nobody"], "nobody"),
    (["--control_seeds=9"], "control"),
    (["--control_seeds=4"], "control"),
    (["--holdout=0"], "holdout"),
    (["--holdout=1", "--images_per_person=4"], "halved"),
    (["--steps=0"], "steps"),
    (["--pose_sweep=0,1", "--dataset=att"], ""),
    (["--target_accuracy=nan"], "target_accuracy"),
    (["--arm=a", "--arm=controls:init_scale=5"], "controls"),
    (["--arm=a", "--arm=a.untrained"], "controls"),
    (["--arm=a", "--arm=dp:dp_clip=1,dp_noise=1", "--delta=0"], "delta"),
    (["--arm=a", "--delta=1"], "delta"),
    (["--arm=" + "a" * 64, *LONG_GRID], "too long"),
    (["--batch_size=11"], "half"),
    (["--grid=momentum=0.5,0.9"], "no momentum"),
  ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(extra, words, tmp_path, capsys):
  out_dir = tmp_path / "run"
  assert command.main([*SMALL[:-1], *extra, f"--out_dir={out_dir}"]) == 1
  complaint = capsys.readouterr().err
  assert complaint.startswith("error: ") and complaint.count("\n") == 1 and words in complaint
  assert not out_dir.exists()


def test_cells_set_what_the_grid_says_and_leave_the_rest():
  arms = Arm("a", "sgd", Hyper(0.1, weight_decay=0.5)), Arm("b", "adam", Hyper(0.2))
  cells = study.cross(arms, {"init_scale": (1.0, 3.0), "learning_rate": (0.5,)})
  assert [c.arm.name for c in cells] == [
    f"{a}-init_scale-{s}-learning_rate-0.5" for a in "ab" for s in (1, 3)
  ]
  assert cells[1].arm.hyper == Hyper(0.5, weight_decay=0.5, init_scale=3.0)
  assert cells[2].arm.optimizer == "adam" and cells[2].base == "b"
  assert [c.arm for c in study.cross(arms, {})] == list(arms)


def test_help_explains_every_flag(capsys):
  assert command.main(["--help"]) == 0
  assert "--grid" in capsys.readouterr().out
  for name in command.FLAGS:
    assert command.FLAGS[name].help.strip(), name


def test_the_real_command_asks_about_pose_too(tmp_path):
  # Two cells of the engine that the study above has too, whose programs are then compiled already.
  extra = ["--arm=sgd:learning_rate=0.03", *GRID, "--pose_sweep=0,2"]
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "launch.study",
      *SMALL,
      *extra,
      "--pose_seeds=8",
      f"--out_dir={tmp_path / 'run'}",
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip().splitlines()[-1] == f"report: {tmp_path / 'run' / 'report.html'}"
  pose = json.loads((tmp_path / "run" / "pose.json").read_text())
  assert pose["poses"] == [0, 2]
  assert np.shape(pose["person"]["sgd"]["init_diff"]) == (2, 8)
  assert np.shape(pose["photograph"]["sgd"]["lira"]) == (2,)
