"""Measures of networks: on planted "recovered" images, whose nearest image and class are known."""

from dataclasses import replace

import numpy as np
import pytest

from jaxinv.experiments.networks import measures
from jaxinv.experiments.networks.settings import RobustnessTest
from jaxinv.experiments.networks.training import TrainedNetwork


@pytest.fixture(scope="module")
def judges(tiny):
  return measures.make_judges(tiny.settings, tiny.data, tiny.trained[-1][0])


def planted_images(judges, seed: int, kept: bool) -> np.ndarray:
  """Of each class a candidate that a seed was trained on, or not; which, and twice its image."""
  masks, labels = judges.masks, judges.data.train.labels
  chosen = masks.candidate & (masks.kept[seed] == kept)
  return np.array([np.flatnonzero(chosen & (labels == label))[0] for label in range(10)])


def measure(tiny, judges, chosen):
  images = np.repeat(tiny.data.train.inputs[chosen][:, None], 2, axis=1)
  arm, network = tiny.settings.arms[0], tiny.trained[0][0]
  return measures.measure_inversions(judges, arm, network, 0, {"planted": images})["planted"]


@pytest.mark.parametrize("kept", [True, False])
def test_images_that_are_candidates_are_nearest_to_themselves(tiny, judges, kept):
  chosen = planted_images(judges, 0, kept)
  found = measure(tiny, judges, chosen)
  assert found.measures["nearer_pixels"] == kept
  assert found.measures["nearer_features"] == kept
  assert (found.neighbours.trained[:, 0] == chosen).all() == kept
  if kept:
    np.testing.assert_allclose(found.neighbours.trained_similarity, 1, atol=1e-5)


def test_restarts_that_are_alike_have_no_diversity(tiny, judges):
  found = measure(tiny, judges, planted_images(judges, 0, True))
  assert found.measures["diversity"] == pytest.approx(0, abs=1e-5)


def test_the_verifier_s_share_is_that_of_the_same_images_as_data(tiny, judges):
  chosen = planted_images(judges, 0, True)
  found = measure(tiny, judges, chosen)
  logits = np.asarray(judges.judge(tiny.data.train.inputs[chosen]).logits)
  right = logits.argmax(1) == np.arange(10)
  np.testing.assert_array_equal(found.by_class, right)
  assert found.measures["verifier_accuracy"] == pytest.approx(right.mean())
  odds = np.exp(logits - logits.max(1, keepdims=True))
  confidence = (odds / odds.sum(1, keepdims=True))[np.arange(10), np.arange(10)].mean()
  assert found.measures["verifier_confidence"] == pytest.approx(confidence, rel=1e-4)


def test_controls_are_the_verifier_s_record_and_the_starts_that_it_saw(tiny, judges):
  found = measures.controls(judges)
  assert set(found) == {"start: mean", "test images"}
  record = tiny.trained[-1][0].history["holdout_accuracy"][-1]
  assert found["test images"]["verifier_accuracy"] == pytest.approx(record)
  # Noise about one image: a verifier that takes all for one class is right about a tenth of them.
  assert found["start: mean"]["verifier_accuracy"] <= 0.5


def test_robust_accuracy_is_plain_accuracy_in_a_ball_of_no_size(tiny, judges):
  arm, network = tiny.settings.arms[0], tiny.trained[0][0]
  settings = replace(tiny.settings, robustness=RobustnessTest("pgd_linf", 1e-9, 1, 1, 0))
  still = measures.robust_accuracy(judges._replace(settings=settings), arm, network, 0)
  assert still == pytest.approx(float(network.history["holdout_accuracy"][-1]))


def test_a_network_that_diverged_has_no_robust_accuracy(tiny, judges):
  network = tiny.trained[0][0]
  history = network.history | {"finite": np.array([True, False])}
  gone = TrainedNetwork(network.variables, network.steps, history, 0.0)
  assert np.isnan(measures.robust_accuracy(judges, tiny.settings.arms[0], gone, 0))
