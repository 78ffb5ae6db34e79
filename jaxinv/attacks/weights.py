"""From parameters to images: reshape and normalise, and attackers that hold more than weights.

Every attack is a plain function of what the attacker holds (a `Release`) and the shape of an
image; it returns one raw image a class, which `normalize` then scales to be looked at.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinv.errors import InputError
from jaxinv.models.params import Layer, class_weights, find_kernels, find_layers
from jaxinv.types import Params, Release


def units(params: Params, image_shape: tuple[int, ...]) -> Float[Array, "u h w *c"]:
  """The first layer's units as raw images, one each: what a hidden unit looks for.

  Args:
    params: parameters of one model.
    image_shape: (h, w), or (h, w, c) of colour images, with as many features.

  Returns:
    One image a unit of the first layer.

  Raises:
    InputError: no kernel takes images of this shape.
  """
  first = find_kernels(params, math.prod(image_shape))[0]
  return jnp.asarray(first).T.reshape(-1, *image_shape)


def reshape(release: Release, image_shape: tuple[int, ...]) -> Float[Array, "k h w *c"]:
  """The article's inversion: one class's weights, reshaped into an image.

  The attacker holds the weights alone.

  Args:
    release: needs `params`.
    image_shape: (h, w) or (h, w, c) with h * w * c = p.

  Returns:
    One raw image a class.

  Raises:
    InputError: no kernel takes images of this shape.
  """
  return _as_images(release.params, image_shape)


def init_diff(release: Release, image_shape: tuple[int, ...]) -> Float[Array, "k h w *c"]:
  """The same of W - W0: only what training put there.

  The attacker knows the initial weights too, as whoever fine-tunes a published model does, or who
  knows the seed.

  Args:
    release: needs `params` and `init_params`.
    image_shape: (h, w) or (h, w, c) with h * w * c = p.

  Returns:
    One raw image a class.

  Raises:
    InputError: no initial weights, or no kernel takes images of this shape.
  """
  if release.init_params is None:
    raise InputError("init_diff needs the initial weights: give init_params")
  return _as_images(release.params, image_shape) - _as_images(release.init_params, image_shape)


def seed_mean(release: Release, image_shape: tuple[int, ...]) -> Float[Array, "k h w *c"]:
  """The weights averaged over seeds: initial values cancel as 1 / sqrt(s), what is learned stays.

  The attacker holds several models trained on the same people.

  Args:
    release: needs `peers`.
    image_shape: (h, w) or (h, w, c) with h * w * c = p.

  Returns:
    One raw image a class.

  Raises:
    InputError: no peers, or no kernel takes images of this shape.
  """
  if release.peers is None:
    raise InputError("seed_mean needs several models: give peers")
  return jax.vmap(lambda params: _as_images(params, image_shape))(release.peers).mean(0)


def class_centred(release: Release, image_shape: tuple[int, ...]) -> Float[Array, "k h w *c"]:
  """The weights less their mean over the classes.

  Softmax does not see what all classes share, and its residuals sum to zero over the classes:
  training leaves that mean where it started, so it tells of the initial weights alone. Under other
  losses it is also what all faces have in common. The attacker holds the weights alone.

  Args:
    release: needs `params`.
    image_shape: (h, w) or (h, w, c) with h * w * c = p.

  Returns:
    One raw image a class; their sum over classes is zero.

  Raises:
    InputError: no kernel takes images of this shape.
  """
  images = _as_images(release.params, image_shape)
  return images - images.mean(0, keepdims=True)


def update_ratio(release: Release, image_shape: tuple[int, ...]) -> Float[Array, "k h w *c"]:
  """What a class's weights changed by between two releases, over what its bias changed by.

  A gradient step adds sum_i r_ik x_i to the weights of class k and sum_i r_ik to its bias, with
  r_ik the residual of example x_i times minus the learning rate: the ratio is exactly a weighted
  mean of the examples, whatever the rate, though weights may be negative. So it is after many
  steps of SGD, with momentum or without, but not with weight decay or Adam. Where residuals cancel
  and the bias hardly changed, the mean's weights are large, and rounding shows. The ratio is that
  of Phong et al. 2018, "Privacy-preserving deep learning via additively homomorphic encryption".

  Args:
    release: needs `params` and `previous_params`, of a linear model with a bias.
    image_shape: (h, w) or (h, w, c) with h * w * c = p.

  Returns:
    One raw image a class, in the unit of the examples; zeros where the bias did not change.

  Raises:
    InputError: no previous parameters, no bias, hidden layers, or no kernel takes images of this
      shape.
  """
  if release.previous_params is None:
    raise InputError("update_ratio needs two releases: give previous_params")
  new = _only_layer(release.params, image_shape)
  old = _only_layer(release.previous_params, image_shape, new.kernel.shape[1])
  kernel = (jnp.asarray(new.kernel) - old.kernel).T
  bias = (jnp.asarray(new.bias) - old.bias)[:, None]
  ratio = kernel / jnp.where(bias == 0, 1.0, bias)
  images = jnp.where((bias != 0) & jnp.isfinite(ratio), ratio, 0.0)
  return images.reshape(-1, *image_shape)


def _only_layer(
  params: Params, image_shape: tuple[int, ...], num_classes: int | None = None
) -> Layer:
  """The layer of a linear model with a bias."""
  layer, *others = find_layers(params, math.prod(image_shape), num_classes)
  if others:
    raise InputError(f"update_ratio is for linear models: this one has {1 + len(others)} layers")
  if layer.bias is None:
    raise InputError("update_ratio needs a bias beside the kernel, one value a class")
  return layer


def _as_images(params: Params, image_shape: tuple[int, ...]) -> Float[Array, "k h w *c"]:
  return class_weights(params, math.prod(image_shape)).reshape(-1, *image_shape)
