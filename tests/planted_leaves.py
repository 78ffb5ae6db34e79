"""Photographs for tests of unmixing: dead leaves, each a heap of grey rectangles."""

import numpy as np

from jaxinv.types import Dataset


def leaf_pictures(count: int, shape: tuple[int, ...] = (40, 32), seed: int = 0) -> np.ndarray:
  """Pictures in [0, 1], independent of each other in their edges: [count, h, w] or with colours."""
  rng = np.random.default_rng(seed)
  pictures = np.full((count, *shape), 0.5)
  for picture in pictures:
    for _ in range(60):
      y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
      height, width = rng.integers(3, 14, 2)
      picture[y : y + height, x : x + width] = rng.uniform(size=shape[2:] or None)
  return pictures


def leaf_dataset(people: int = 6, each: int = 4, shape: tuple[int, ...] = (40, 32)) -> Dataset:
  """So many people with so many pictures each, which have nothing in common."""
  pictures = leaf_pictures(people * each, shape).reshape(people * each, -1)
  labels = np.repeat(np.arange(people, dtype=np.int32), each)
  names = tuple(f"person {k}" for k in range(people))
  return Dataset(pictures.astype(np.float32), labels, people, shape, names, drawn=True)
