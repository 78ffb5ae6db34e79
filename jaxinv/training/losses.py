"""Losses of a linear output: the value for each example, and the residual, its gradient.

All are canonical: the gradient with respect to the logits is a prediction less a target. For a
linear layer the kernel's gradient is therefore X^T residual / n, a weighted sum of the training
inputs, and that is why weights remember data.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


class Loss(NamedTuple):
  """A loss, as a function of logits and targets [..., k].

  Attributes:
    value: the loss of each example, [...].
    residual: its gradient with respect to the logits, [..., k]; only `gram` and DP-SGD of linear
      models ask for it.

  Example:
    >>> absolute = Loss(lambda x, t: jnp.abs(x - t).sum(-1), lambda x, t: jnp.sign(x - t))
    >>> float(absolute.value(jnp.array([2.0, 0.0]), jnp.array([1.0, 0.0])))
    1.0
  """

  value: Callable[[jax.Array, jax.Array], jax.Array]
  residual: Callable[[jax.Array, jax.Array], jax.Array]


LOSSES: dict[str, Loss] = {
  # Cross-entropy of the classes' joint distribution.
  "softmax": Loss(
    value=optax.softmax_cross_entropy,
    residual=lambda logits, targets: jax.nn.softmax(logits) - targets,
  ),
  # One binary cross-entropy for each class, summed.
  "sigmoid": Loss(
    value=lambda logits, targets: optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1),
    residual=lambda logits, targets: jax.nn.sigmoid(logits) - targets,
  ),
  # Half the squared distance to the target.
  "squared": Loss(
    value=lambda logits, targets: 0.5 * jnp.square(logits - targets).sum(-1),
    residual=lambda logits, targets: logits - targets,
  ),
}


def smooth_targets(
  labels: Int[Array, "*b"], num_classes: int, smoothing: Float[Array, ""] | float
) -> Float[Array, "*b k"]:
  """One-hot targets with a share of the mass spread evenly over all classes.

  Args:
    labels: class of each example.
    num_classes: number of classes, k.
    smoothing: share that is spread; 0 gives one-hot targets.

  Returns:
    (1 - smoothing) * one_hot + smoothing / k; Szegedy et al. 2016, arXiv 1512.00567.

  Example:
    >>> smooth_targets(jnp.array(1), num_classes=2, smoothing=0.5).tolist()
    [0.25, 0.75]
  """
  dtype = jnp.result_type(smoothing, float)
  return optax.smooth_labels(jax.nn.one_hot(labels, num_classes, dtype=dtype), smoothing)
