"""What audit.json holds of planted findings."""

import json

import numpy as np
import pytest
from audit_results import CONFIG, SHAPE, audit_of, people, plant, unmix

from jaxinv.auditing import to_json, verdict
from jaxinv.runs import files


def test_the_json_holds_what_was_found(tmp_path):
  audit = audit_of(plant(matched=3), known=people(), measures={"reshape": {"ncc": np.float32(0.5)}})
  files.write_json(tmp_path / "a.json", to_json.to_json(audit, "python -m x", CONFIG))
  told = json.loads((tmp_path / "a.json").read_text())
  assert told["verdict"]["structure"] is True and told["verdict"]["match"] is True
  assert told["verdict"]["text"].startswith(verdict.verdict(audit)[0])
  assert told["image_shape"] == [12, 9, 1] and told["weights"] == CONFIG["weights"]
  assert told["measures"] == {"reshape": {"ncc": 0.5}} and told["notes"] == ["A note."]
  assert told["references"]["people"] == 5 and told["references"]["images"] == 15
  assert [tensor["shape"] for tensor in told["tensors"]] == [[108, 6], [4, 5], [], [7, 5]]
  (found,) = told["findings"]
  assert (found["num"], found["structured"], found["matched"]) == (6, 4, 3)
  assert found["share"] == pytest.approx(4 / 6, abs=1e-6) and found["units_left_out"] == 0
  assert found["units"][1] == {
    "index": 1,
    "morans_i": 0.89,
    "p": 1e-6,
    "q": 2e-6,
    "structured": True,
    "person": "b",
    "person_ncc": -0.21,
    "match_p": 1e-6,
    "match_q": 1e-6,
    "matched": True,
    "nearest": [{"file": "p1/0.pgm", "ncc": 0.3}, {"file": "p1/1.pgm", "ncc": 0.3}],
  }


def test_the_json_has_the_same_keys_without_references_and_no_nan():
  bare = plant()._replace(morans_i=np.array([np.nan, np.inf, 0.5, 0.4, 0.3, 0.2]))
  told = to_json.to_json(audit_of(bare), "", CONFIG)
  full = to_json.to_json(audit_of(plant(matched=3), known=people()), "", CONFIG)
  json.dumps(told, allow_nan=False)
  assert told.keys() == full.keys() and told["verdict"]["match"] is None
  (found,), (other,) = told["findings"], full["findings"]
  assert found.keys() == other.keys() and found["matched"] is None
  assert found["units"][0].keys() == other["units"][0].keys()
  assert found["units"][0]["person"] is None and found["units"][0]["nearest"] == []
  assert [unit["morans_i"] for unit in found["units"][:3]] == [None, None, 0.5]


def test_of_many_images_the_json_lists_those_that_tell_most():
  big = plant(20000, 100, 50, "unit")._replace(images=np.empty((0, *SHAPE)), kept=np.arange(0))
  audit = audit_of(big, big, known=people())
  told = to_json.to_json(audit, "", CONFIG)
  for found in told["findings"]:
    assert found["units_left_out"] == 18000 and len(found["units"]) == 2000
    assert [unit["index"] for unit in found["units"]] == list(range(2000))
    assert found["num"] == 20000 and found["structured"] == 100 and found["matched"] == 50
  assert len(json.dumps(told, indent=2)) < 4e6


def test_the_json_holds_what_was_unmixed():
  audit = audit_of(plant(matched=3), known=people(), unmixed=unmix(4, 2))
  told = to_json.to_json(audit, "", CONFIG)["unmixed"]
  json.dumps(told, allow_nan=False)
  images = told.pop("images")
  assert told == {
    "tensor": "w",
    "knowledge": "weights and initial weights",
    "photographs": 4,
    "cliff": 200.0,
    "certain": True,
    "stability": 0.92,
    "matched": 2,
  }
  assert images[1] == {
    "index": 1,
    "stability": 0.94,
    "nearest": "p0/1.pgm",
    "ncc": 0.97,
    "detail_ncc": 0.485,
    "matched": True,
  }
  assert images[3] | {"stability": 0} == dict.fromkeys(images[3]) | {"index": 3, "stability": 0}


def test_a_number_that_is_not_known_is_null_and_no_zero():
  none = unmix(0)._replace(stability=np.zeros(0))
  told = to_json.to_json(audit_of(plant(), unmixed=none), "", CONFIG)["unmixed"]
  assert told["photographs"] is None and told["stability"] is None and told["matched"] is None
  assert told["images"] == []
  assert to_json.to_json(audit_of(plant()), "", CONFIG)["unmixed"] is None
