"""Networks in groups: the plan covers every run once, and what is recorded fits the weights."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxinv.ensemble.groups import Host
from jaxinv.experiments.networks import training
from jaxinv.experiments.networks.settings import draw_masks, model_of


@pytest.mark.parametrize("width, processes, expected", [(2, 1, 2), (9, 1, 5), (4, 3, 2)])
def test_the_plan_has_every_run_once_and_the_verifier_last(tiny, width, processes, expected):
  settings = replace(tiny.settings, num_seeds=5, width=width)
  *groups, last = training.plan(settings, tiny.data, processes)
  assert {group.width for group in groups} == {expected}
  assert [seed for group in groups for seed in group.seeds] == [0, 1, 2, 3, 4]
  kept = draw_masks(settings, tiny.data.train.labels).kept
  for group in groups:
    for seed, train in zip(group.seeds, group.train, strict=True):
      np.testing.assert_array_equal(train, np.flatnonzero(kept[seed]))
  assert last.is_verifier and last.train.shape == (1, 60)
  assert not any(group.is_verifier for group in groups)


def test_copies_plant_memories_of_the_candidates_trained_on_alone(tiny):
  arm = tiny.settings.arms[0]._replace(copies=3)
  settings = replace(tiny.settings, arms=(arm,))
  masks = draw_masks(settings, tiny.data.train.labels)
  group = training.plan(settings, tiny.data)[0]
  for seed, train in zip(group.seeds, group.train, strict=True):
    counts = np.bincount(train, minlength=len(masks.candidate))
    np.testing.assert_array_equal(counts, masks.kept[seed] * np.where(masks.candidate, 3, 1))


def test_the_record_is_what_the_weights_say(tiny):
  """The accuracy on the test images, by a network built anew."""
  (network,) = tiny.trained[0]
  np.testing.assert_array_equal(network.steps, [0, 2])
  model = model_of(tiny.settings, tiny.settings.arms[0], tiny.data)
  outputs = jax.jit(model.apply)(network.variables, tiny.data.test.inputs)
  right = np.asarray(outputs.logits).argmax(1) == tiny.data.test.labels
  assert network.history["holdout_accuracy"][-1] == pytest.approx(right.mean())
  assert training.healthy(network) and network.weight_movement > 0


def test_networks_of_two_seeds_differ_and_a_verifier_sees_every_training_image(tiny):
  first, second, verifier = (networks[0].variables["params"] for networks in tiny.trained)
  kernels = [params["head"]["kernel"] for params in (first, second, verifier)]
  assert np.abs(kernels[0] - kernels[1]).max() > 1e-3
  assert tiny.groups[-1].train.shape[1] == len(tiny.data.train.labels)


def test_a_finished_group_is_read_and_not_trained_again(tiny, tmp_path, monkeypatch):
  steps = []
  host = Host(advanced=lambda text, number: steps.append(number))
  one = tiny.groups[:1]
  first = training.train_groups(tiny.settings, tiny.data, one, tmp_path, host)
  assert sum(steps) == 2
  monkeypatch.delattr(training, "network_program")
  again = training.train_groups(tiny.settings, tiny.data, one, tmp_path, Host())
  for a, b in zip(*map(jax.tree.leaves, (first[0][0], again[0][0])), strict=True):
    np.testing.assert_array_equal(a, b)
