"""Clouds of points around given means: the article's first experiment."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinv.types import Dataset, PRNGKey


def draw_points(
  key: PRNGKey, means: Float[Array, "k p"], spread: float | Array, points_per_class: int
) -> Float[Array, "n p"]:
  """Draws `points_per_class` points around each mean, class by class.

  Args:
    key: source of randomness.
    means: mean of each class.
    spread: standard deviation in every direction, in the unit of the means.
    points_per_class: number of points of each class, static.

  Returns:
    The points, those of class 0 first; n = k * points_per_class.
  """
  centres = jnp.repeat(means, points_per_class, axis=0)
  return centres + spread * jax.random.normal(key, centres.shape)


def gaussians(
  seed: int, means: Float[np.ndarray, "k p"], spread: float = 0.1, points_per_class: int = 100
) -> Dataset:
  """A data set of Gaussian clouds of equal spread, one a class.

  Args:
    seed: decides the draw.
    means: mean of each class.
    spread: standard deviation in every direction.
    points_per_class: number of points of each class.

  Returns:
    The data set; its examples are no images.
  """
  points = draw_points(jax.random.key(seed), jnp.asarray(means), spread, points_per_class)
  num_classes = len(means)
  labels = np.repeat(np.arange(num_classes, dtype=np.int32), points_per_class)
  names = tuple(f"class {i + 1}" for i in range(num_classes))
  return Dataset(np.asarray(points), labels, num_classes, None, names)
