"""What several tests use: planted data, and what an error must say."""

import math

import numpy as np
import pytest

from jaxinv.errors import InputError
from jaxinv.models.params import flatten
from jaxinv.types import Dataset


def flat(result) -> dict[str, np.ndarray]:
  """What is kept of a group, by names with slashes."""
  return flatten({name: part for name, part in result._asdict().items() if not _is_empty(part)})


def _is_empty(part) -> bool:
  return isinstance(part, dict) and not part


def plant(num_classes=5, per_class=8, shape=(13, 11), noise=0.04, seed=0) -> Dataset:
  """Images that are their class's mean plus noise, in [0, 1], the classes in no order."""
  rng = np.random.default_rng(seed)
  means = rng.uniform(0.2, 0.8, (num_classes, math.prod(shape)))
  labels = rng.permutation(np.repeat(np.arange(num_classes), per_class)).astype(np.int32)
  inputs = means[labels] + noise * rng.standard_normal((len(labels), means.shape[1]))
  names = tuple(f"s{i + 1}" for i in range(num_classes))
  return Dataset(inputs.clip(0, 1).astype(np.float32), labels, num_classes, shape, names)


def part_means(dataset, index, size, most=8) -> np.ndarray:
  """Means of parts of `size` of each class's examples, taken in turn, in float64: [j, k, p]."""
  parts = max(1, min(most, len(index) // dataset.num_classes // size))
  found = np.zeros((parts, dataset.num_classes, dataset.inputs.shape[1]))
  for c in range(dataset.num_classes):
    mine = np.float64(dataset.inputs[index[dataset.labels[index] == c]])
    num = max(1, min(parts, len(mine) // size))
    for j in range(parts):
      found[j, c] = mine[: num * size][j % num :: num].mean(0)
  return found


def assert_fails(call, *parts):
  """The call raises an InputError of one line that has all parts."""
  with pytest.raises(InputError) as caught:
    call()
  message = str(caught.value)
  assert message.isprintable()
  for part in parts:
    assert part in message, message
