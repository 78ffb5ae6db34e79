"""The outcome: every number is what the written weights and images say, computed anew."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics

from helpers import part_means
from jaxinv.attacks.filtered import wiener
from jaxinv.ensemble.groups import Host
from jaxinv.experiments import experiment, outcome, planning
from jaxinv.experiments.files import write_outcome
from jaxinv.experiments.groups import run_groups
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.metrics import metric as metrics
from jaxinv.metrics.stats import jackknife_interval
from jaxinv.runs import files
from jaxinv.runs.tables import SEVERAL
from jaxinv.training import gram
from jaxinv.types import Hyper

CLASSES, SHAPE = 5, (13, 11)


@pytest.fixture(scope="module")
def written(found, tmp_path_factory):
  """The files of the lab's run, read again: rows, summary, weights, splits, history."""
  folder = tmp_path_factory.mktemp("run")
  write_outcome(folder, found)
  with open(folder / "metrics.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  return SimpleNamespace(
    rows={(r["arm"], int(r["seed"]), r["attack"], r["metric"]): float(r["value"]) for r in rows},
    count=len(rows),
    summary=json.loads((folder / "summary.json").read_text()),
    weights={arm: files.read_npz(folder / "weights" / f"{arm}.npz") for arm in found.arms},
    recovered={arm: files.read_npz(folder / "recovered" / f"{arm}.npz") for arm in found.arms},
    targets=files.read_npz(folder / "recovered" / "targets.npz"),
    splits=files.read_npz(folder / "splits.npz"),
    history=files.read_npz(folder / "history.npz"),
  )


def class_means(dataset, index):
  labels = dataset.labels[index]
  images = 255 * np.float64(dataset.inputs[index])
  return np.stack([images[labels == c].mean(0) for c in range(CLASSES)])


def unit(x):
  return (x - x.min()) / (x.max() - x.min())


def ncc(a, b):
  return np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)])


def judge(images, train_mean, holdout_mean, parts):
  """All measures of recovered images [k, p], in float64."""
  both = zip(images, train_mean, strict=True)
  pairs = [(unit(a).reshape(SHAPE), unit(b).reshape(SHAPE)) for a, b in both]
  options = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 1}
  ssim = [skimage.metrics.structural_similarity(a, b, **options) for a, b in pairs]
  psnr = [skimage.metrics.peak_signal_noise_ratio(b, a, data_range=1) for a, b in pairs]
  scores = np.corrcoef(images, holdout_mean - holdout_mean.mean(0))[:CLASSES, CLASSES:]
  return {
    "ncc": ncc(images, train_mean),
    "ncc_centred": ncc(images, train_mean - train_mean.mean(0)),
    "ssim": np.mean(ssim),
    "psnr": np.mean(psnr),
    "identification": (scores.argmax(1) == np.arange(CLASSES)).mean(),
    "excess": np.mean([ncc(images, part) for part in parts]) - ncc(images, holdout_mean),
  }


def judge_model(dataset, weights, start, bias, train, holdout):
  """The rows of `model`, in float64."""
  logits = np.float64(dataset.inputs) @ np.float64(weights).T + bias
  right = logits.argmax(1) == dataset.labels
  values = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(right)), dataset.labels]
  return {
    "train_loss": values[train].mean(),
    "train_accuracy": right[train].mean(),
    "holdout_accuracy": right[holdout].mean(),
    "weight_movement": np.linalg.norm(weights - start) / np.linalg.norm(start),
  }


def filtered(weights):
  """One model's weights through the filter of `denoised`, as rows."""
  return np.asarray(
    wiener(jnp.asarray(weights, jnp.float32).reshape(-1, *SHAPE)), np.float64
  ).reshape(weights.shape)


def expected_rows(dataset, written, arms=("plain", "decay"), seeds=(0, 1, 2)):
  """Every row of metrics.csv that there should be."""
  rows = {}
  held = len(written.splits["holdout"][0]) // CLASSES
  means = [
    (
      *(class_means(dataset, written.splits[part][s]) for part in ("train", "holdout")),
      part_means(dataset, written.splits["train"][s], held),
    )
    for s in seeds
  ]
  for arm in arms:
    arrays = {name: np.float64(x) for name, x in written.weights[arm].items()}
    for seed, truth in zip(seeds, means, strict=True):
      w, w0, bias = (arrays[name][seed] for name in ("weights", "init_weights", "bias"))
      split = (written.splits["train"][seed], written.splits["holdout"][seed])
      tables = {
        "model": judge_model(dataset, w, w0, bias, *split),
        "reshape": judge(w, *truth),
        "denoised": judge(filtered(w), *truth),
        "init_diff": judge(w - w0, *truth),
      }
      for attack, table in tables.items():
        rows |= {(arm, seed, attack, metric): value for metric, value in table.items()}
    truth = [np.mean([m[i] for m in means], axis=0) for i in range(3)]
    mean = arrays["weights"][list(seeds)].mean(0)
    for attack, images in (("seed_mean", mean), ("denoised_seed_mean", filtered(mean))):
      table = judge(images, *truth)
      rows |= {(arm, -1, attack, metric): value for metric, value in table.items()}
  return rows


def test_every_row_equals_what_weights_splits_and_images_say(planted, written):
  expected = expected_rows(planted, written)
  assert set(written.rows) == set(expected)
  assert written.count == len(expected) == 2 * (3 * (4 + 6 + 6 + 6) + 6 + 6)
  for key, value in expected.items():
    assert written.rows[key] == pytest.approx(value, abs=1e-4), key


def test_the_summary_holds_the_means_of_the_rows(written):
  for arm in ("plain", "decay"):
    for attack, table in written.summary[arm].items():
      if attack == "diverged":
        continue
      for metric, cell in table.items():
        seeds = [-1] if attack in SEVERAL else [0, 1, 2]
        values = [written.rows[arm, seed, attack, metric] for seed in seeds]
        assert cell["mean"] == pytest.approx(np.mean(values), abs=1e-6)
        assert cell["n"] == 3
        assert cell["low"] <= cell["mean"] + 1e-6 and cell["mean"] - 1e-6 <= cell["high"]


def test_an_arm_that_diverged_is_told_by_its_seeds_and_has_no_row(written):
  assert written.summary["wild"] == {"diverged": [0, 1, 2]}
  assert not [key for key in written.rows if key[0] == "wild"]
  assert written.summary["plain"]["diverged"] == []


def test_recovered_images_are_the_weights_scaled_to_0_255(written):
  for arm in ("plain", "decay"):
    arrays = {name: np.float64(x) for name, x in written.weights[arm].items()}
    raw = {"reshape": arrays["weights"], "init_diff": arrays["weights"] - arrays["init_weights"]}
    raw["seed_mean"] = arrays["weights"].mean(0, keepdims=True)
    raw["denoised"] = np.stack([filtered(w) for w in arrays["weights"]])
    raw["denoised_seed_mean"] = filtered(raw["seed_mean"][0])[None]
    assert set(written.recovered[arm]) == set(raw)
    for attack, images in raw.items():
      expected = [[255 * unit(image).reshape(SHAPE) for image in seed] for seed in images]
      assert written.recovered[arm][attack].dtype == np.float32
      np.testing.assert_allclose(written.recovered[arm][attack], expected, atol=0.01)


def test_targets_are_the_class_means_of_the_splits(planted, written):
  for part in ("train", "holdout"):
    expected = np.stack([class_means(planted, index) for index in written.splits[part]])
    expected = expected.reshape(3, CLASSES, *SHAPE)
    np.testing.assert_allclose(written.targets[f"{part}_mean_seeds"], expected, atol=1e-3)
    np.testing.assert_allclose(written.targets[f"{part}_mean"], expected[0], atol=1e-3)


def test_history_ends_at_the_rows_and_all_arms_start_alike(written):
  np.testing.assert_array_equal(written.history["plain/step"], [0, 2, 4, 6])
  for curve in ("train_loss", "train_accuracy", "holdout_accuracy"):
    values = written.history[f"plain/{curve}"]
    assert values.shape == (3, 4)
    rows = [written.rows["plain", seed, "model", curve] for seed in range(3)]
    np.testing.assert_allclose(values[:, -1], rows, rtol=1e-6)
    np.testing.assert_array_equal(values[:, 0], written.history[f"decay/{curve}"][:, 0])
  starts = [written.weights[arm]["init_weights"] for arm in ("plain", "decay", "wild")]
  np.testing.assert_array_equal(starts[0], starts[1])
  np.testing.assert_array_equal(starts[0], starts[2])


def test_a_single_seed_that_diverged_is_left_out_of_rows_means_and_the_average_model(
  planted, lab, trained, written, tmp_path
):
  first, *others = trained
  finite = first.finite.copy()
  finite[1] = False  # Arm 0, seed 1.
  sums = first.sums | {"0": {f"0.{i}": first.arrays["weights"][i] for i in (0, 2)}}
  found = outcome.assemble(lab, [first._replace(finite=finite, sums=sums), *others])
  summary = write_outcome(tmp_path, found)
  assert summary["plain"]["diverged"] == [1] and summary["decay"]["diverged"] == []
  assert summary["plain"]["reshape"]["ncc"]["n"] == summary["plain"]["seed_mean"]["ncc"]["n"] == 2
  expected = expected_rows(planted, written, arms=["plain"], seeds=(0, 2))
  with open(tmp_path / "metrics.csv", newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["arm"] == "plain"]
  assert len(rows) == len(expected)
  for row in rows:
    key = (row["arm"], int(row["seed"]), row["attack"], row["metric"])
    assert float(row["value"]) == pytest.approx(expected[key], abs=1e-4), key


def test_the_average_model_has_the_interval_of_the_jackknife(planted, written):
  """Of three seeds each is a part: what the average shows without each of them in turn."""
  summary = written.summary["plain"]["seed_mean"]
  key = ("plain", -1, "seed_mean")
  without = [
    expected_rows(planted, written, arms=["plain"], seeds=rest) for rest in ((1, 2), (0, 2), (0, 1))
  ]
  for metric in ("ncc", "ncc_centred", "ssim", "excess"):
    whole = written.rows[(*key, metric)]
    expected = jackknife_interval(whole, np.array([rows[(*key, metric)] for rows in without]))
    found = summary[metric]
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=1e-3)
    assert found["n"] == 3 and found["low"] < found["mean"] < found["high"]


def test_coefficients_of_a_release_that_differs_from_what_was_trained_are_not_kept(planted):
  arms = Arm("plain", "sgd", Hyper(0.3)), Arm("noise", "sgd", Hyper(0.3, release_noise=0.5))
  settings = Settings(arms, 1, steps=2, batch_size=0, engine="gram")
  plain, noisy = outcome.run(settings, planted).arms.values()
  assert set(plain.arrays) - set(noisy.arrays) == set(gram.EXTRAS)
  start, weights = plain.arrays["init_weights"][0], plain.arrays["weights"][0]
  made = plain.arrays["init_share"][0] * start
  made = made + plain.arrays["coefficients"][0].T @ planted.inputs
  np.testing.assert_allclose(made, weights, atol=1e-5)
  assert np.abs(noisy.arrays["weights"][0] - weights).max() > 0.01


def through_the_pipeline(lab, dataset=None, **changes):
  """Another experiment with the lab's compiled programs: its first arm alone."""
  lab = lab._replace(settings=replace(lab.settings, arms=lab.settings.arms[:1], **changes))
  if dataset is not None:
    lab = experiment.with_data(lab, dataset)
  groups = planning.plan(lab)
  return outcome.assemble(lab, run_groups(lab, groups, None, Host())).arms["plain"]


def assert_around(values, truth):
  """Within four standard errors of their mean."""
  error = np.std(values, ddof=1) / np.sqrt(len(values))
  assert abs(np.mean(values) - truth) < 4 * error


def test_control_untrained_weights_score_at_chance(lab):
  measures = through_the_pipeline(lab, steps=0, num_seeds=48).measures
  assert_around(measures["reshape"]["ncc_centred"], 0)
  assert_around(measures["reshape"]["identification"], 1 / CLASSES)
  assert_around(measures["reshape"]["excess"], 0)
  # Nothing was learned: there is no difference, hence no image.
  np.testing.assert_array_equal(measures["init_diff"]["ncc_centred"], 0)
  np.testing.assert_array_equal(measures["init_diff"]["identification"], 0)


@pytest.fixture(scope="module")
def by_engine(planted):
  """The same experiment by both engines: three arms, groups of four of nine runs."""
  arms = (
    Arm("plain", "sgd", Hyper(0.03)),
    Arm("all", "sgd", Hyper(0.05, 0.9, 0.2, 2.0, 0.1, 0.3)),
    Arm("fast", "nesterov", Hyper(0.02)),
  )
  common = {"num_seeds": 3, "steps": 12, "batch_size": 8, "width": 4, "record_every": 4}
  return {
    engine: outcome.run(Settings(arms, **common, save_seeds=2, engine=engine), planted)
    for engine in ("gram", "primal")
  }


def test_both_engines_tell_the_same(by_engine):
  one, other = by_engine["gram"], by_engine["primal"]
  assert jax.tree.all(jax.tree.map(np.array_equal, one.splits, other.splits))
  for name, mine in one.arms.items():
    theirs = other.arms[name]
    assert mine.healthy.all() and theirs.healthy.all()
    moved = [arm.arrays["weights"] - arm.arrays["init_weights"] for arm in (mine, theirs)]
    assert np.linalg.norm(moved[0] - moved[1]) < 1e-4 * np.linalg.norm(moved[1])
    assert set(mine.measures) == set(theirs.measures) >= {"model", "init_diff", "seed_mean"}
    for attack, table in theirs.measures.items():
      assert set(mine.measures[attack]) == set(table)
      for metric, values in table.items():
        tolerance = {"psnr": 1e-2}.get(metric, 1e-3)
        np.testing.assert_allclose(mine.measures[attack][metric], values, atol=tolerance)
    for attack, images in theirs.images.items():
      np.testing.assert_allclose(mine.images[attack], images, atol=0.1)
    for curve, values in theirs.history.items():
      np.testing.assert_allclose(mine.history[curve], values, rtol=1e-3)
    np.testing.assert_allclose(mine.frames, theirs.frames, atol=1e-5)


def test_arrays_hold_the_coefficients_that_make_up_the_weights(planted, by_engine):
  shapes = {"weights": (2, 5, 143), "init_weights": (2, 5, 143)}
  shapes |= {"bias": (2, 5), "init_bias": (2, 5)}
  for name, arm in by_engine["primal"].arms.items():
    assert {key: array.shape for key, array in arm.arrays.items()} == shapes
    arrays = by_engine["gram"].arms[name].arrays
    assert {key: array.shape for key, array in arrays.items()} == shapes | {
      "coefficients": (2, 40, 5),
      "init_share": (2,),
    }
    start = arrays["init_share"][:, None, None] * arrays["init_weights"]
    added = np.einsum("snk,np->skp", np.float64(arrays["coefficients"]), planted.inputs)
    np.testing.assert_allclose(start + added, arrays["weights"], atol=1e-5)
    np.testing.assert_allclose(arrays["coefficients"].sum(1), arrays["bias"], atol=1e-5)


@pytest.fixture(scope="module")
def against_the_truth(planted):
  """Scores of recovered images [s, k, h, w] against the true classes' means, a value a seed."""
  means = class_means(planted, np.arange(len(planted.labels))).reshape(CLASSES, *SHAPE)
  means = jnp.asarray(means, jnp.float32)
  measure = jax.jit(jax.vmap(lambda images: metrics.measure(images, metrics.Targets(means, means))))
  return lambda images: {k: np.asarray(v) for k, v in measure(jnp.asarray(images)).items()}


def test_trained_models_score_far_above_chance(lab, against_the_truth):
  arm = through_the_pipeline(lab, steps=20, num_seeds=4)
  scores = against_the_truth(arm.images["init_diff"])
  assert scores["ncc_centred"].min() > 0.9 and scores["identification"].min() == 1
  assert against_the_truth(arm.images["reshape"])["ncc_centred"].mean() > 0.3


def test_control_shuffled_labels_score_at_chance_against_the_true_classes(
  planted, lab, against_the_truth
):
  rng = np.random.default_rng(0)
  scores = {"ncc_centred": [], "identification": []}
  for _ in range(16):
    shuffled = planted._replace(labels=rng.permutation(planted.labels))
    arm = through_the_pipeline(lab, shuffled, steps=20, num_seeds=4)
    values = against_the_truth(arm.images["init_diff"])
    for name, column in scores.items():
      column.append(values[name].mean())
  assert_around(scores["ncc_centred"], 0)
  assert_around(scores["identification"], 1 / CLASSES)
