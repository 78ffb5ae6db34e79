"""The files say what the result says."""

import csv
import json

import numpy as np
import pytest

from jaxinv.experiments.privacy.files import AUDIT, write_privacy


@pytest.fixture(scope="module")
def folder(tmp_path_factory, spec, result):
  out_dir = tmp_path_factory.mktemp("privacy")
  write_privacy(out_dir, spec, result)
  return out_dir


def rows_of(path):
  with open(path) as file:
    return list(csv.DictReader(file))


def test_the_curve_has_a_row_an_arm_and_quantity(folder, result):
  rows = rows_of(folder / "curve.csv")
  assert len(rows) == 3 * 4
  for row in rows:
    point = result.points[row["arm"]]
    np.testing.assert_allclose(float(row["mean"]), getattr(point, row["quantity"]).mean, rtol=1e-6)
    limited = row["quantity"] == "identified"
    assert bool(row["limit"]) == limited
  assert {row["epsilon"] for row in rows} == {"1", "8", ""}


def test_every_candidate_and_seed_is_in_the_tuning_table(folder, result):
  rows = rows_of(folder / "tuning.csv")
  assert len(rows) == 6 * 2 and sum(row["chosen"] == "True" for row in rows) == 3 * 2
  found = np.array([float(row["holdout_accuracy"]) for row in rows]).reshape(6, 2)
  np.testing.assert_allclose(found, result.tuning.accuracy, rtol=1e-6)


def test_audits_are_in_the_table_the_summary_and_their_scores_in_an_npz(folder, result):
  rows, summary = rows_of(folder / "audit.csv"), json.loads((folder / "summary.json").read_text())
  assert len(rows) == len(summary[AUDIT]) == len(result.audits) == 8
  for row, entry, audit in zip(rows, summary[AUDIT], result.audits, strict=True):
    assert row["canary"] == entry["canary"] == audit.canary and row["refutes"] == "False"
    np.testing.assert_allclose(float(row["by_noise"]), audit.by_noise, rtol=1e-6)
    assert entry["advantage"] <= 1 and entry["models"] == 15
  with np.load(folder / "audit.npz") as scores:
    np.testing.assert_array_equal(scores["8"], result.scores[8.0])


def test_the_summary_has_arms_as_every_runs_and_their_guarantee(folder, result):
  summary = json.loads((folder / "summary.json").read_text())
  arm = summary["epsilon-8"]
  assert arm["init_diff"]["ncc_centred"]["n"] == 3 and arm["diverged"] == []
  assert arm["privacy"]["epsilon"]["photograph"] <= 8 and arm["privacy"]["delta"] == 1e-5
  assert summary["no_privacy"]["privacy"]["epsilon"] == {}
