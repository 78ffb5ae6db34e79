"""The files of a study hold what came of it, row by row."""

import csv
import json

import jax
import numpy as np
import pytest
from planted_arms import make_pair

from jaxinv.experiments.study import comparison, files, study
from jaxinv.experiments.study.photographs.controls import PoseStudy, best_inversion
from jaxinv.runs.files import read_npz


def rows_of(path):
  with open(path) as file:
    return list(csv.DictReader(file))


def test_cells_have_a_column_for_each_key_of_the_grid_and_a_row_a_measurement(written):
  data, folder = written
  rows = rows_of(folder / "cells.csv")
  assert list(rows[0])[:4] == ["cell", "arm", "init_scale", "label_smoothing"]
  cell = data.spec.cells[3]
  measures = data.result.outcome.arms[cell.arm.name].measures
  mine = [row for row in rows if row["cell"] == cell.arm.name]
  assert {(row["arm"], row["init_scale"], row["label_smoothing"]) for row in mine} == {
    ("plain", "8", "0.5")
  }
  assert len(mine) == sum(np.isfinite(x).sum() for by in measures.values() for x in by.values())
  for row in mine:
    values = measures[row["attack"]][row["metric"]]
    assert float(row["value"]) == pytest.approx(values[max(int(row["seed"]), 0)], rel=1e-8)


def test_differences_are_written_but_for_those_without_a_mean(tmp_path):
  arm, baseline = make_pair(-0.3, 0.1)
  rows = comparison.compare("a", arm, baseline, 0.6)
  lost = baseline._replace(healthy=np.zeros_like(baseline.healthy))
  lost = lost._replace(measures=jax.tree.map(lambda x: x * np.nan, lost.measures))
  rows += comparison.compare("lost", lost, baseline, 0.6)
  result = study.StudyResult(None, 0.6, rows, {}, {}, {})
  files.write_paired(tmp_path, result)
  found = rows_of(tmp_path / "paired.csv")
  assert {row["cell"] for row in found} == {"a"}
  (strongest,) = (r for r in found if (r["when"], r["attack"]) == ("matched", "strongest"))
  assert float(strongest["mean"]) == pytest.approx(0.1)
  assert float(strongest["low"]) < 0.1 < float(strongest["high"]) and strongest["n"] == "12"


def test_the_summary_holds_verdicts_and_when_people_are_identified_and_the_controls(written):
  data, folder = written
  summary = json.loads((folder / "summary.json").read_text())
  baseline, other = (cell.arm.name for cell in data.spec.cells[:2])
  assert "verdict" not in summary[baseline]
  assert summary[other]["verdict"]["label"] == data.result.verdicts[other].label
  for name, times in data.result.identified.items():
    assert {attack: found["step"] for attack, found in summary[name]["identified"].items()} == {
      attack: time.step for attack, time in times.items()
    }
  tests = summary["controls"]["photographs"]
  chance = data.result.chance.tests["lira"].pooled.auc
  assert tests["wrong memberships"]["lira"]["pooled_auc"] == pytest.approx(chance)
  assert tests["wild"] == {}


def test_photographs_have_a_row_for_each_arm_that_came_through(written):
  data, folder = written
  rows, halves = rows_of(folder / "photographs.csv"), data.result.halves
  leaks = {name: found for name, found in data.result.leaks.items() if found}
  assert {row["arm"] for row in rows} == set(leaks)
  mine = [row for row in rows if row["arm"] == "plain"]
  assert [int(row["photograph"]) for row in mine] == halves.candidates.tolist()
  assert {(row["in"], row["out"]) for row in mine} == {("4", "4")}
  attack = best_inversion(leaks["plain"])
  shown = [float(row["shown"]) for row in mine]
  np.testing.assert_allclose(shown, leaks["plain"].shown[attack], rtol=1e-6)
  for row in mine:
    label = data.dataset.labels[int(row["photograph"])]
    assert row["person"] == data.dataset.names[label]


def test_logits_are_kept_with_who_was_in_whose_training_set(written):
  data, folder = written
  saved = read_npz(folder / "logits" / "plain.npz")
  np.testing.assert_array_equal(saved["members"], data.result.halves.members)
  np.testing.assert_array_equal(saved["holdout"], data.result.halves.population)
  assert saved["logits"].shape == (8, 40, 5) and saved["healthy"].all()


def test_pose_is_written_without_what_is_not_finite(tmp_path):
  values = np.array([[0.5, np.nan]])
  files.write_pose(tmp_path, PoseStudy((1.0,), {"a": {"reshape": values}}, {"a": {}}))
  assert json.loads((tmp_path / "pose.json").read_text()) == {
    "poses": [1.0],
    "person": {"a": {"reshape": [[0.5, None]]}},
    "photograph": {"a": {}},
  }
