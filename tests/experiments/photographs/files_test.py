"""Files: what the contract names, and numbers that can be made again from them."""

import csv
import json

import numpy as np

from jaxinv.experiments.photographs.files import write_photographs


def test_files_are_those_of_the_contract_and_agree_with_each_other(result, leaves, tmp_path):
  summary = write_photographs(tmp_path, result, 0.05)
  assert json.loads((tmp_path / "summary.json").read_text()) == summary
  found = summary["sgd"]["12"]["unmixed"]
  assert found["identified"]["mean"] == 1 and found["identified"]["n"] == 2
  assert set(found) > {"identified", "recovered", "recovered_edges", "members_first"}
  with open(tmp_path / "components.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  head = "arm,seed,photographs,component,stability,closest,member,correlation,edge_correlation"
  assert list(rows[0]) == head.split(",")
  images = np.load(tmp_path / "recovered" / "sgd.npz")
  assert images["12/unmixed"].shape == (2, 12, 40, 32) and images["12/members"].shape == (2, 12)
  weights = np.load(tmp_path / "weights" / "sgd.npz")
  assert weights["12/params/Dense_0/kernel"].shape == (1, 40 * 32, 64)
  # A script of one's own comes to the same correlations.
  for row in [row for row in rows if row["arm"] == "sgd" and row["seed"] == "1"]:
    image = images["12/unmixed"][1, int(row["component"])]
    seen = np.corrcoef(image.ravel(), leaves.inputs[int(row["closest"])])[0, 1]
    np.testing.assert_allclose(float(row["correlation"]), seen, atol=1e-4)
    assert (int(row["closest"]) in images["12/members"][1]) == (row["member"] == "True")


def test_the_moment_is_kept_where_an_optimiser_has_one(result, tmp_path):
  write_photographs(tmp_path, result, 0.05)
  assert "12/unmixed_moment" in np.load(tmp_path / "recovered" / "adam.npz")
  assert "12/moment/Dense_0/kernel" in np.load(tmp_path / "weights" / "adam.npz")
  assert not any("moment" in name for name in np.load(tmp_path / "weights" / "sgd.npz"))
