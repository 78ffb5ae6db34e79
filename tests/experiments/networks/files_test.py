"""Files of a run with networks: each seed's rows and images in its place."""

import json

import numpy as np
import pytest

from jaxinv.experiments.networks import files, outcome
from jaxinv.runs.files import read_npz
from planted_networks import diverge, make_result


@pytest.fixture
def result():
  """Two arms of two seeds, the first of which diverged in the first arm."""
  result = make_result({"plain": [0.2, 0.4], "robust": [0.6, 0.8]})
  variables = {"params/kernel": np.arange(6.0).reshape(2, 3)}
  arms = {name: arm._replace(variables=variables) for name, arm in result.arms.items()}
  return diverge(result._replace(arms=arms), "plain", [0])


def test_rows_are_of_healthy_seeds_and_images_in_step(result, tmp_path):
  files.write(tmp_path, result, {})
  rows = (tmp_path / "metrics.csv").read_text().splitlines()
  assert not any(row.startswith("plain,0,") for row in rows)
  assert any(row.startswith("plain,1,") for row in rows)
  images = read_npz(tmp_path / "recovered" / "plain.npz")["pgd"]
  assert images.shape == (2, 3, 2, 8, 8, 3)
  assert np.isnan(images[0]).all()
  kept = result.arms["plain"].inverted["pgd"].images[0]
  np.testing.assert_allclose(images[1].reshape(kept.shape), 255 * kept, rtol=1e-6)


def test_weights_and_curves_are_kept_as_they_are(result, tmp_path):
  files.write(tmp_path, result, {})
  weights = read_npz(tmp_path / "weights" / "robust.npz")
  np.testing.assert_array_equal(weights["params/kernel"], np.arange(6.0).reshape(2, 3))
  history = read_npz(tmp_path / "history.npz")
  arm = result.arms["robust"]
  np.testing.assert_array_equal(history["robust/step"], arm.steps)
  np.testing.assert_array_equal(history["robust/train_loss"], arm.history["train_loss"])


def test_the_summary_holds_what_is_returned_and_what_belongs_to_no_arm(result, tmp_path):
  paired = outcome.compare(result)
  summary = files.write(tmp_path, result, paired)
  stored = json.loads((tmp_path / "summary.json").read_text())
  assert set(stored) == {"plain", "robust", "memorised", "verifier", "controls", "paired"}
  assert stored["plain"]["diverged"] == summary["plain"]["diverged"] == [0]
  assert stored["robust"]["pgd"]["diversity"] == summary["robust"]["pgd"]["diversity"]
  assert stored["memorised"]["plain"]["pgd"]["features"]["share"] == 0.625
  assert stored["controls"]["test images"]["verifier_accuracy"] == 0.871
  gain = paired["pgd"]["verifier_accuracy"]
  assert stored["paired"]["pgd"]["verifier_accuracy"]["mean"] == pytest.approx(gain.mean)
