"""Correlations of ONE model's class weights with class means, without making any image.

The correlation of two images needs their inner product and their norms, each image less its mean
over the pixels. Class means are weighted sums of examples, so that in the span of the data (`gram`)
the products come without ever forming the weights; elsewhere there are a fifth as many means as
examples. A filter that is a product in the cosine transform, which keeps inner products, needs no
way back from it. What is looked at at every record is measured this way.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinv.data import splits
from jaxinv.models.params import class_weights, output_bias
from jaxinv.types import Data, Params


class Projection(NamedTuple):
  """Class weights as the class means see them; all images less their mean over the pixels.

  Attributes:
    products: inner products of each class's weights with each mean, see `Means`.
    gram: of the classes' weights with each other.
    bias: the classes' biases, or what they changed by.
  """

  products: Float[Array, "k j"]
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


class Means(NamedTuple):
  """Class means that images are compared with: of the training split, then of what is held out.

  Each is less the mean over the classes. What of this nobody looks at is not computed.

  Attributes:
    shares: of each example in each mean.
    images: the means.
    cosines: their cosine transforms; None where data has none.
  """

  shares: Float[Array, "j n"]
  images: Float[Array, "j p"]
  cosines: Float[Array, "j p"] | None


def means_of(data: Data, num_classes: int, holdout: bool) -> Means:
  """The class means of one model's split.

  Args:
    data: examples and split.
    num_classes: classes, k.
    holdout: whether there are held-out examples.

  Returns:
    The means: j is k, or 2 k with what is held out.
  """
  indices = (data.train, data.holdout)[: 1 + holdout]

  def joined(means):
    return (means - means.mean(1, keepdims=True)).reshape(len(indices) * num_classes, -1)

  def of(rows):
    return joined(splits.split_means(rows, data.labels, indices, num_classes))

  shares = [splits.class_shares(data.labels, index, num_classes) for index in indices]
  cosines = None if data.cosines is None else of(data.cosines)
  return Means(joined(jnp.stack(shares)), of(data.inputs), cosines)


def project_difference(
  params: Params, minus: Params | None, num_classes: int, means: Means
) -> Projection:
  """Projects the class weights of parameters, perhaps less those of others.

  Args:
    params: parameters of one model.
    minus: those to take off.
    num_classes: classes, k.
    means: that they are projected on.

  Returns:
    The projection.
  """
  num_features = means.images.shape[-1]
  weights, bias = class_weights(params, num_features, num_classes), output_bias(params, num_classes)
  if minus is not None:
    weights -= class_weights(minus, num_features, num_classes)
    bias -= output_bias(minus, num_classes)
  centred = weights - weights.mean(1, keepdims=True)
  return Projection(centred @ means.images.T, centred @ centred.T, bias)


def project_cosines(coefficients: Float[Array, "kc h w"], means: Means) -> Projection:
  """Projects images of which the cosine transform is given; without biases."""
  num_features = means.cosines.shape[-1]
  flat = coefficients.reshape(-1, num_features)
  return Projection(flat @ means.cosines.T, flat @ flat.T, jnp.zeros(len(flat)))


def correlate(projection: Projection, means: Means, data: Data) -> Float[Array, "k j"]:
  """The correlation over pixels of each class's weights with each class mean.

  Args:
    projection: of the class weights.
    means: that they were projected on.
    data: its products of examples.

  Returns:
    The correlations; 0 where either image is constant.
  """
  own = jnp.diagonal(projection.gram)
  others = ((means.shares @ data.pixel_gram) * means.shares).sum(1)
  norms = jnp.sqrt(jnp.maximum(own[:, None] * others[None], 0.0))
  return jnp.where(norms > 0, projection.products / jnp.where(norms > 0, norms, 1.0), 0.0)
