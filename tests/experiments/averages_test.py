"""The average of several models: which count, what it is compared with, and without some."""

import jax.numpy as jnp
import numpy as np
import pytest

from helpers import part_means
from jaxinv.attacks.attack import seed_mean
from jaxinv.data import splits
from jaxinv.experiments import averages, leakage
from jaxinv.experiments.experiment import split_of
from jaxinv.experiments.groups import GroupResult
from jaxinv.types import Data

LOOK = leakage.EvalConfig((13, 11), 5, holdout=True)


@pytest.fixture(scope="module")
def data(planted):
  """One example of each class held out."""
  held = np.array([np.flatnonzero(planted.labels == c)[0] for c in range(5)])
  rest = np.setdiff1d(np.arange(40), held)
  return Data(*map(jnp.asarray, (planted.inputs, planted.labels, rest, held)))


def test_seed_mean_leaves_diverged_seeds_out_of_its_target(data):
  """Of three splits the middle one does not count: its seed's weights are not in the mean."""
  train = jnp.stack([data.train[:20], data.train[10:30], data.train[15:]])
  shared = data._replace(train=train, holdout=jnp.stack([data.holdout] * 3))
  means = [splits.class_means(data.inputs, data.labels, train[i], 5) for i in (0, 2)]
  weights = (means[0] + means[1]) / 2
  healthy = jnp.array([True, False, True])
  images, measures = averages.measure_together(LOOK, seed_mean, weights, shared, healthy)
  assert measures["ncc"] == pytest.approx(1, abs=1e-4)
  assert images.shape == (5, 13, 11) and images.min() == 0 and images.max() == 255
  _, other = averages.measure_together(
    LOOK, seed_mean, weights, shared, jnp.array([True, True, True])
  )
  assert other["ncc"] < 0.9999


def test_the_average_is_compared_with_parts_as_large_as_what_is_held_out(data, planted):
  shared = data._replace(train=data.train[None], holdout=data.holdout[None])
  parts = part_means(planted, np.asarray(data.train), 1)
  weights = jnp.asarray(parts[2], jnp.float32)
  _, measures = averages.measure_together(LOOK, seed_mean, weights, shared, jnp.array([True]))

  def ncc(means):
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(parts[2], means, strict=True)])

  held = np.stack(
    [planted.inputs[i] for i in sorted(np.asarray(data.holdout), key=lambda i: planted.labels[i])]
  )
  expected = np.mean([ncc(part) for part in parts]) - ncc(held)
  assert measures["excess"] == pytest.approx(expected, abs=1e-4)


def test_sums_of_groups_are_added_up_by_prefix_and_block():
  def group(**sums):
    return GroupResult(*[np.zeros(0)] * 4, {}, {}, {}, sums={"1": sums})

  parts = [group(**{"0.1": np.ones(2), "1.0": np.full(2, 5.0)}), group(**{"0.1": np.full(2, 3.0)})]
  found = averages.sums_of(parts, 1)
  assert {key: value.tolist() for key, value in found.items()} == {(0, 1): [4, 4], (1, 0): [5, 5]}
  assert averages.sums_of(parts, 0) == {}


def test_without_each_leaves_one_block_out_and_of_one_block_nothing(lab, trained):
  everyone = split_of(lab, range(3))
  sums = averages.sums_of(trained, 0)
  found = averages.without_each(lab, sums, np.ones(3, bool), everyone)["seed_mean"]["ncc"]
  for left_out, value in enumerate(found):
    rest = np.arange(3) != left_out
    total = sum(sums[0, block] for block in range(3) if block != left_out)
    given = jnp.asarray(total / 2, jnp.float32), everyone, jnp.asarray(rest)
    _, measures = averages.measure_together(lab.config, seed_mean, *given)
    assert value == pytest.approx(float(measures["ncc"]), abs=1e-6)
  assert len(set(found.tolist())) == 3
  alone = {key: value for key, value in sums.items() if key == (0, 1)}
  assert averages.without_each(lab, alone, np.ones(3, bool), everyone) == {}
