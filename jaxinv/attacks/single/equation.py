"""The equation that a trained network's parameters satisfy, and how far images are from doing so.

A network trained long, or with weight decay, comes to rest where its parameters are a sum of
gradients at its training images (the conditions of Karush, Kuhn and Tucker of the largest margin):

  theta = sum_i lambda_i grad_theta [f_y(x_i) - max_{j != y} f_j(x_i)],  lambda_i > 0.

So Buzaglo et al. 2023 (arXiv 2307.01827) have it for several classes. Cross entropy with weight
decay rests where the margin is against all other classes, each by its share of the softmax.

For a chain of dense layers with ReLU the gradients are known in closed form, A^T D with a layer's
inputs A and the signals D that come back to its outputs, so that no derivative of a derivative is
taken. Nor is the sum of gradients ever made: with T the parameters,

  |T - A^T D|^2 = |T|^2 - 2 <D, A T> + <A A^T, D D^T>,

and A T is what the layer gave on the way forward. This leaves two products of the size of a layer
to each step of a search in place of five; and where the first layer holds little but its inputs, as
decay leaves it, these become products of the size of its rank.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinv.models.params import Layer

# Directions of a first kernel with less of its power in all are left out.
_FAINT = 1e-4


class Problem(NamedTuple):
  """The equation to be solved.

  Attributes:
    layers: of the model at which the gradients are taken, first to last.
    labels: the class of each image that is sought.
    target: what the gradients are to sum to, with coefficients of any sign; None for the layers
      themselves, with multipliers of margins.
  """

  layers: Sequence[Layer]
  labels: Int[Array, " i"]
  target: Sequence[Layer] | None = None


class Thin(NamedTuple):
  """A kernel of low rank, as the product of two.

  Attributes:
    left: orthonormal columns.
    right: the rest.
  """

  left: Float[Array, "p d"]
  right: Float[Array, "d u"]


def thin(problem: Problem) -> Problem:
  """The same problem with first kernels as products of two, where that is less to compute.

  Decay leaves a first layer that holds nothing but its inputs, so that its rank is at most their
  number. Directions with less than a ten-thousandth of the power in all are left out.

  Args:
    problem: the equation.

  Returns:
    The problem; its distances are the same up to the power left out.

  Example:
    >>> layer = Layer(jnp.outer(jnp.arange(1.0, 7.0), jnp.arange(1.0, 5.0)), None)
    >>> thin(Problem([layer], jnp.array([0]))).layers[0].kernel.left.shape
    (6, 1)
  """

  def thinned(layers):
    kernel = np.asarray(layers[0].kernel, float)
    left, values, right = np.linalg.svd(kernel, full_matrices=False)
    beyond = np.cumsum(np.square(values[::-1]))[::-1]
    rank = int((beyond > _FAINT * beyond[0]).sum())
    if 2 * rank > min(kernel.shape):
      return layers
    parts = left[:, :rank], values[:rank, None] * right[:rank]
    first = Thin(*(jnp.asarray(part, layers[0].kernel.dtype) for part in parts))
    return [layers[0]._replace(kernel=first), *layers[1:]]

  target = None if problem.target is None else thinned(problem.target)
  return problem._replace(layers=thinned(problem.layers), target=target)


def distance(
  problem: Problem,
  images: Float[Array, "i p"],
  multipliers: Float[Array, "i ..."],
  sharpness: Float[Array, ""] | float = jnp.inf,
  rivalry: Float[Array, ""] | float = jnp.inf,
) -> Float[Array, ""]:
  """|T - sum_i of gradients|^2 / |T|^2: what the images and multipliers leave of the equation.

  Args:
    problem: the equation.
    images: one row each.
    multipliers: one an image, or where there is a target one an image and class.
    sharpness: see `Sweep`; infinite for the derivative of ReLU itself.
    rivalry: see `Sweep`.

  Returns:
    The share of the power; 0 where the equation holds.

  Example:
    >>> layer = Layer(jnp.array([[2.0, -2.0], [-1.0, 1.0]]), None)  # Twice one image's margin.
    >>> problem, images = Problem([layer], jnp.array([0])), jnp.array([[1.0, -0.5]])
    >>> float(distance(problem, images, jnp.array([2.0])))
    0.0
  """
  passes = _passes(problem, images, multipliers, sharpness, rivalry)
  power = _power(problem.layers if problem.target is None else problem.target)
  left = power
  for number, (inputs, outputs, signals) in enumerate(passes):
    layer = problem.layers[number]
    if problem.target is not None:
      outputs = _affine(problem.target[number], inputs)
    both = _gram(signals) * (_gram(inputs) + (layer.bias is not None))
    left += both.sum() - 2 * (signals * outputs).sum()
  return left / power


def usual_multiplier(
  problem: Problem,
  images: Float[Array, "i p"],
  sharpness: Float[Array, ""] | float,
  rivalry: Float[Array, ""] | float,
) -> Float[Array, ""]:
  """The size of multipliers with which the images' gradients, were they orthogonal, reach |T|."""
  ones = jnp.ones(len(images), images.dtype)
  alone = problem._replace(target=None)
  total = jnp.zeros((), images.dtype)
  for layer, (inputs, _, signals) in zip(
    problem.layers, _passes(alone, images, ones, sharpness, rivalry), strict=True
  ):
    length = jnp.square(inputs).sum(1) + (layer.bias is not None)
    total += (length * jnp.square(signals).sum(1)).sum()
  power = _power(problem.layers if problem.target is None else problem.target)
  return jnp.sqrt(power / jnp.maximum(total, 1e-12))


def _passes(
  problem: Problem,
  images: Float[Array, "i p"],
  multipliers: Float[Array, "i ..."],
  sharpness: Float[Array, ""] | float,
  rivalry: Float[Array, ""] | float,
) -> list[tuple[Array, Array, Array]]:
  """Of each layer its inputs, its outputs, and the signals that come back to its outputs."""
  inputs, outputs, slopes = images, [], []
  held = []
  for number, layer in enumerate(problem.layers):
    outputs = _affine(layer, inputs)
    held.append((inputs, outputs))
    if number + 1 < len(problem.layers):
      slopes.append(_slope(outputs, sharpness))
      inputs = _rectified(outputs, slopes[-1])
  signals = multipliers
  if problem.target is None:
    signals = multipliers[:, None] * _margins(outputs, problem.labels, rivalry)
  passes = [(*held[-1], signals)]
  for layer, slope, before in zip(problem.layers[:0:-1], slopes[::-1], held[-2::-1], strict=True):
    signals = (signals @ layer.kernel.T) * slope
    passes.append((*before, signals))
  return passes[::-1]


def _margins(
  logits: Float[Array, "i k"], labels: Int[Array, " i"], rivalry: Float[Array, ""] | float
) -> Float[Array, "i k"]:
  """The derivative of each margin by the logits: 1 for the class, -1 in all for its rivals."""
  own = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
  others = jnp.where(own > 0, -jnp.inf, logits)
  first = jax.nn.one_hot(others.argmax(1), logits.shape[1], dtype=logits.dtype)
  sharp = jnp.isinf(rivalry)
  spread = jax.nn.softmax(jnp.where(sharp, 1.0, rivalry) * jnp.where(own > 0, -1e30, logits), 1)
  return own - jnp.where(sharp, first, spread)


def _slope(outputs: Float[Array, "i u"], sharpness: Float[Array, ""] | float) -> Array:
  """A sigmoid in place of ReLU's derivative, so that it has a derivative of its own."""
  sharp = jnp.isinf(sharpness)
  smooth = jax.nn.sigmoid(jnp.where(sharp, 1.0, sharpness) * outputs)
  return jnp.where(sharp, (outputs > 0).astype(outputs.dtype), smooth)


def _rectified(outputs: Float[Array, "i u"], slope: Float[Array, "i u"]) -> Float[Array, "i u"]:
  """ReLU, whose derivative is the smooth slope."""
  slope = jax.lax.stop_gradient(slope)
  return slope * outputs + jax.lax.stop_gradient(jnp.maximum(outputs, 0.0) - slope * outputs)


def _gram(rows: Float[Array, "i d"]) -> Float[Array, "i i"]:
  """Products of rows with each other; for sums with symmetric weights.

  The derivative of such a sum is twice that by one of the two factors, which saves a product.
  """
  half = rows @ jax.lax.stop_gradient(rows).T
  return 2 * half - jax.lax.stop_gradient(half)


def _affine(layer: Layer, inputs: Float[Array, "i a"]) -> Float[Array, "i b"]:
  kernel = layer.kernel
  outputs = inputs @ kernel.left @ kernel.right if isinstance(kernel, Thin) else inputs @ kernel
  return outputs if layer.bias is None else outputs + layer.bias[None]


def _power(layers: Sequence[Layer]) -> Float[Array, ""]:
  """The sum of all parameters' squares; those of a thin kernel are its right half's."""
  parts = [
    layer.kernel.right if isinstance(layer.kernel, Thin) else layer.kernel for layer in layers
  ]
  return sum(jnp.square(part).sum() for part in [*parts, *(b for _, b in layers if b is not None)])
