"""Seeds are healthy or diverged by the mask that training kept, whatever a measure says."""

import json

import numpy as np
import pytest

from jaxinv.experiments.networks import files, outcome
from jaxinv.runs.files import read_npz
from planted_networks import diverge, make_result


@pytest.fixture
def result():
  return make_result({"plain": [0.2, 0.4], "robust": [0.6, 0.8]})


def test_a_measure_that_is_not_a_number_does_not_make_a_seed_diverge(result):
  plain = result.arms["plain"]
  measures = plain.measures | {"robust_accuracy": np.array([np.nan, 0.5])}
  measures |= {"train_loss": np.array([np.nan, 0.5])}
  summary = outcome.summarize(
    result._replace(arms=result.arms | {"plain": plain._replace(measures=measures)})
  )
  assert summary["plain"]["diverged"] == []
  assert summary["plain"]["model"]["train_loss"]["n"] == 1


def test_a_seed_that_the_mask_calls_diverged_is_said_though_its_measures_are_numbers(result):
  plain = result.arms["plain"]._replace(healthy=np.array([True, False]))
  summary = outcome.summarize(result._replace(arms=result.arms | {"plain": plain}))
  assert summary["plain"]["diverged"] == [1]


def test_files_hold_rows_of_healthy_seeds_and_images_in_step(result, tmp_path):
  variables = {"params/kernel": np.zeros((2, 3))}
  arms = {name: arm._replace(variables=variables) for name, arm in result.arms.items()}
  files.write(tmp_path, diverge(result._replace(arms=arms), "plain", [0]), {})
  rows = (tmp_path / "metrics.csv").read_text().splitlines()
  assert not any(row.startswith("plain,0,") for row in rows)
  assert any(row.startswith("plain,1,") for row in rows)
  assert json.loads((tmp_path / "summary.json").read_text())["plain"]["diverged"] == [0]
  images = read_npz(tmp_path / "recovered" / "plain.npz")["pgd"]
  assert images.shape == (2, 3, 2, 8, 8, 3)
  assert np.isnan(images[0]).all() and np.isfinite(images[1]).all()
