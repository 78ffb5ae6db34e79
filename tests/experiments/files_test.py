"""The files of an experiment: all that came of it is in the folder."""

import csv
import json

import planted_faces as planted

from jaxinv.experiments.files import write_outcome
from jaxinv.runs import files


def test_all_numbers_and_images_are_written_an_attack_of_the_callers_own_too(tmp_path):
  found = planted.outcome((6, 5, 3))
  summary = write_outcome(tmp_path, found)
  assert json.loads((tmp_path / "summary.json").read_text()) == summary
  with open(tmp_path / "metrics.csv") as file:
    rows = list(csv.DictReader(file))
  assert {row["attack"] for row in rows} == {*(one.name for one in planted.ATTACKS), "model"}
  assert {row["seed"] for row in rows if row["attack"] == "seed_mean"} == {"-1"}
  images = files.read_npz(tmp_path / "recovered" / "sgd.npz")
  assert images["negative"].shape == (2, planted.PEOPLE, 6, 5, 3)
  assert files.read_npz(tmp_path / "recovered" / "targets.npz")["train_mean"].shape == (3, 6, 5, 3)
  history = files.read_npz(tmp_path / "history.npz")
  assert {"sgd/step", "adam/train_loss", "adam/watched"} <= set(history)
