"""Directions: vectors as long as 1, and how much several of them differ."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def unit(
  gradient: Float[Array, " p"], size: Callable[[jax.Array], jax.Array] = jnp.linalg.norm
) -> Float[Array, " p"]:
  """The direction of a gradient, as long as 1; a gradient that is 0, or not finite, becomes 0.

  Args:
    gradient: by each value of one input.
    size: the length; another than the Euclidean norm must grow by a factor where its argument does.

  Returns:
    The gradient over its size.

  Example:
    >>> unit(jnp.array([3e30, 4e30])).tolist() == unit(jnp.array([3e-30, 4e-30])).tolist()
    True
  """
  # By the largest first, so that no square under- or overflows.
  largest = jnp.abs(gradient).max()
  usable = (largest > 0) & (largest < jnp.inf)
  scaled = jnp.where(usable, gradient / jnp.where(usable, largest, 1.0), 0.0)
  return scaled / jnp.where(usable, size(scaled), 1.0)


def diversity(
  features: Float[Array, "i d"], labels: Int[Array, " i"], num_classes: int
) -> Float[Array, " k"]:
  """How much several images of a class differ: the mean of 1 - cosine over pairs of them.

  Features that are all 0 have no direction: they equal each other, and are at 1 from all others.

  Args:
    features: one row an image.
    labels: the class of each.
    num_classes: number of classes, k.

  Returns:
    One mean a class, from 0 (all alike) to 2; NaN for a class of fewer than two images.
  """
  directions = jax.vmap(unit)(features)
  none = ~directions.any(1, keepdims=True)
  directions = jnp.concatenate([directions, none.astype(features.dtype)], axis=1)
  distances = 1 - jnp.matmul(directions, directions.T, precision="highest")
  distances = jnp.maximum(distances, 0.0) * (1 - jnp.eye(len(features)))
  members = jax.nn.one_hot(labels, num_classes, axis=0)
  totals = (jnp.matmul(members, distances, precision="highest") * members).sum(1)
  pairs = members.sum(1) * (members.sum(1) - 1)
  return jnp.where(pairs > 0, totals / jnp.where(pairs > 0, pairs, 1.0), jnp.nan)
