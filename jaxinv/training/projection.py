"""Correlations of ONE model's class weights with examples, without making any image.

The correlation of two images needs their inner product and their norms, each image less its mean
over the pixels. Class means are weighted sums of examples, so the products of the class weights
with the examples, [k, n], and of the examples with each other, [n, n], are enough; in the span of
the data (`gram`) even these come without ever forming the weights. What is looked at at every
record is measured this way: it takes a tenth of the time that images take.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinv.models.params import class_weights, output_bias
from jaxinv.types import Data, Params


class Projection(NamedTuple):
  """Class weights as the examples see them; all images less their mean over the pixels.

  Attributes:
    products: inner products of each class's weights with each example.
    gram: of the classes' weights with each other.
    bias: the classes' biases, or what they changed by.
  """

  products: Float[Array, "k n"]
  gram: Float[Array, "k k"]
  bias: Float[Array, " k"]

  def less_class_mean(self) -> "Projection":
    """The projection of the weights less their mean over the classes."""
    products, gram, bias = self
    gram = gram - gram.mean(0, keepdims=True)
    return Projection(
      products - products.mean(0, keepdims=True),
      gram - gram.mean(1, keepdims=True),
      bias - bias.mean(),
    )

  def over_bias(self) -> "Projection":
    """The projection of each class's weights over its bias, but for the scale, which none looks at.

    What is left of the quotient is its sign; zeros where the bias is zero.
    """
    products, gram, bias = self
    signs = jnp.sign(bias)
    return Projection(
      signs[:, None] * products, signs[:, None] * gram * signs[None], jnp.abs(signs)
    )


def pixel_gram(inputs: Float[Array, "n p"]) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
  """The products of all examples, each less its mean over the pixels, and these means.

  Args:
    inputs: the examples.

  Returns:
    For `Data.pixel_gram` and `Data.pixel_means`.
  """
  means = inputs.mean(1)
  centred = inputs - means[:, None]
  return jnp.matmul(centred, centred.T, precision="highest"), means


def project_difference(
  params: Params, minus: Params | None, num_classes: int, data: Data
) -> Projection:
  """Projects the class weights of parameters, perhaps less those of others.

  Args:
    params: parameters of one model.
    minus: those to take off.
    num_classes: classes, k.
    data: its inputs.

  Returns:
    The projection.
  """
  num_features = data.inputs.shape[-1]
  weights, bias = class_weights(params, num_features, num_classes), output_bias(params, num_classes)
  if minus is not None:
    weights -= class_weights(minus, num_features, num_classes)
    bias -= output_bias(minus, num_classes)
  centred = weights - weights.mean(1, keepdims=True)
  return Projection(centred @ data.inputs.T, centred @ centred.T, bias)


def project_images(images: Float[Array, "k h w *c"], data: Data) -> Projection:
  """Projects images, one a class, that are no linear function of the weights; without biases."""
  centred = images.reshape(len(images), -1)
  centred -= centred.mean(1, keepdims=True)
  return Projection(centred @ data.inputs.T, centred @ centred.T, jnp.zeros(len(images)))


def correlate(
  projection: Projection, shares: Float[Array, "j n"], data: Data
) -> Float[Array, "k j"]:
  """The correlation over pixels of each class's weights with each weighted sum of examples.

  Args:
    projection: of the class weights.
    shares: of each example in each sum; `splits.class_shares` makes class means.
    data: its products of examples.

  Returns:
    The correlations; 0 where either image is constant.
  """
  own = jnp.diagonal(projection.gram)
  others = ((shares @ data.pixel_gram) * shares).sum(1)
  norms = jnp.sqrt(jnp.maximum(own[:, None] * others[None], 0.0))
  return jnp.where(
    norms > 0, projection.products @ shares.T / jnp.where(norms > 0, norms, 1.0), 0.0
  )
