"""From parameters to images: reshape and normalise, and attackers that hold more than weights.

Every attack is a plain function of what the attacker holds (a `Release`) and the shape of an
image; it returns one raw image a class, which `normalize` then scales to be looked at.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinv.errors import InputError
from jaxinv.types import Params, Release

Attack = Callable[[Release, tuple[int, int]], jax.Array]


def normalize(
  image: Float[Array, "*s"], mode: str = "min-max", largest: float = 255.0
) -> Float[Array, "*s"]:
  """Scales one image, whatever its unit, to be looked at. Never NaN: a constant image gives zeros.

  Args:
    image: the values; those that are not finite count as 0.
    mode: `min-max` maps the smallest value to 0 and the largest to `largest`; `max` multiplies so
      that the largest magnitude becomes `largest`, and keeps the signs (the article's toy).
    largest: the largest value of the data.

  Returns:
    The scaled image, in 0 .. largest, or for `max` in -largest .. largest.

  Raises:
    InputError: the mode is unknown.
  """
  if mode not in NORMALIZATIONS:
    raise InputError(f"unknown normalisation '{mode}': choose from {', '.join(NORMALIZATIONS)}")
  # Halved, so that the difference of two finite values is finite too.
  image = 0.5 * jnp.where(jnp.isfinite(image), image, 0.0)
  low = image.min() if mode == "min-max" else 0.0
  span = image.max() - low if mode == "min-max" else jnp.abs(image).max()
  return jnp.where(span > 0, (image - low) / jnp.where(span > 0, span, 1.0), 0.0) * largest


NORMALIZATIONS = ("min-max", "max")


def find_kernels(
  params: Params, num_features: int, num_classes: int | None = None
) -> list[Float[Array | np.ndarray, "_ _"]]:
  """Finds the kernels that lead from the inputs to the classes, in any pytree of parameters.

  Two-dimensional leaves are tried in the natural order of their paths (`Dense_2` before
  `Dense_10`); each must take up where the one before it ended, as [in, out] or, as PyTorch keeps
  them, [out, in].

  Args:
    params: any pytree; leaves that are not matrices (biases, scales) are passed over.
    num_features: features of an input, p.
    num_classes: classes, k, where known; else the width at which the chain ends.

  Returns:
    The kernels as [in, out], first to last: one for a linear model.

  Raises:
    InputError: no chain of matrices leads from p features to k classes.
  """
  leaves = jax.tree_util.tree_leaves_with_path(params)
  named = sorted(
    ((jax.tree_util.keystr(path), leaf) for path, leaf in leaves), key=lambda x: _natural(x[0])
  )
  matrices = [leaf for _, leaf in named if jnp.ndim(leaf) == 2]
  chain, width = [], num_features
  transposed = _is_transposed(matrices, num_features)
  for leaf in matrices:
    if width not in leaf.shape:
      continue
    # A square kernel says nothing of its orientation: it has that of the others.
    if leaf.shape[0] != leaf.shape[1]:
      transposed = leaf.shape[0] != width
    chain.append(leaf.T if transposed else leaf)
    width = chain[-1].shape[1]
  if not chain or (num_classes is not None and width != num_classes):
    shapes = ", ".join(f"{name} {tuple(jnp.shape(leaf))}" for name, leaf in named) or "nothing"
    goal = "the classes" if num_classes is None else f"{num_classes} classes"
    raise InputError(
      f"no kernel leads from {num_features} features to {goal}: the parameters hold {shapes}; "
      "give the image shape and number of classes that the model was made for, or its path"
    )
  return chain


def _is_transposed(matrices: Sequence[Any], num_features: int) -> bool:
  """Whether the first kernel of the inputs that is not square is [out, in]."""
  oblong = [m.shape for m in matrices if m.shape[0] != m.shape[1] and num_features in m.shape]
  return bool(oblong) and oblong[0][0] != num_features


def _natural(text: str) -> list[tuple[int, str]]:
  """A key that sorts numbers inside a text by their value."""
  parts = re.split(r"(\d+)", text)
  return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def take_path(params: Params, path: str) -> Params:
  """The branch of a nested mapping under `a/b/c`.

  Raises:
    InputError: there is no such branch; names what there is.
  """
  branch = params
  for name in path.split("/"):
    if not hasattr(branch, "keys") or name not in branch:
      have = ", ".join(map(str, branch)) if hasattr(branch, "keys") else "an array"
      raise InputError(f"no parameter at '{path}': where '{name}' is looked for there is {have}")
    branch = branch[name]
  return branch


def class_weights(
  params: Params, num_features: int, num_classes: int | None = None, path: str | None = None
) -> Float[Array, "k p"]:
  """What each class weighs each pixel with.

  For a linear model its kernel, one row a class. For an MLP the product of the kernels, first to
  last: each class's sum of the first layer's units, weighted by the layers after it as if nothing
  stood between.

  Args:
    params: parameters of one model.
    num_features: pixels of an image, p.
    num_classes: classes, k, where known.
    path: look only below this branch, `a/b/c`.

  Returns:
    One row of p weights a class.

  Raises:
    InputError: no kernel fits, or the path does not exist.
  """
  branch = params if path is None else take_path(params, path)
  product, *others = find_kernels(branch, num_features, num_classes)
  for kernel in others:
    product = product @ kernel
  return product.T


def units(params: Params, image_shape: tuple[int, int]) -> Float[Array, "u h w"]:
  """The first layer's units as raw images, one each: what a hidden unit looks for.

  Args:
    params: parameters of one model.
    image_shape: (h, w) with h * w features.

  Returns:
    One image a unit of the first layer.

  Raises:
    InputError: no kernel takes images of this shape.
  """
  first = find_kernels(params, image_shape[0] * image_shape[1])[0]
  return jnp.asarray(first).T.reshape(-1, *image_shape)


def reshape(release: Release, image_shape: tuple[int, int]) -> Float[Array, "k h w"]:
  """The article's inversion: one class's weights, reshaped into an image.

  The attacker holds the weights alone.

  Args:
    release: needs `params`.
    image_shape: (h, w) with h * w = p.

  Returns:
    One raw image a class.

  Raises:
    InputError: no kernel takes images of this shape.
  """
  return _as_images(release.params, image_shape)


def init_diff(release: Release, image_shape: tuple[int, int]) -> Float[Array, "k h w"]:
  """The same of W - W0: only what training put there.

  The attacker knows the initial weights too, as whoever fine-tunes a published model does, or who
  knows the seed.

  Args:
    release: needs `params` and `init_params`.
    image_shape: (h, w) with h * w = p.

  Returns:
    One raw image a class.

  Raises:
    InputError: no initial weights, or no kernel takes images of this shape.
  """
  if release.init_params is None:
    raise InputError("init_diff needs the initial weights: give init_params")
  return _as_images(release.params, image_shape) - _as_images(release.init_params, image_shape)


def seed_mean(release: Release, image_shape: tuple[int, int]) -> Float[Array, "k h w"]:
  """The weights averaged over seeds: initial values cancel as 1 / sqrt(s), what is learned stays.

  The attacker holds several models trained on the same people.

  Args:
    release: needs `peers`.
    image_shape: (h, w) with h * w = p.

  Returns:
    One raw image a class.

  Raises:
    InputError: no peers, or no kernel takes images of this shape.
  """
  if release.peers is None:
    raise InputError("seed_mean needs several models: give peers")
  return jax.vmap(lambda params: _as_images(params, image_shape))(release.peers).mean(0)


def _as_images(params: Params, image_shape: tuple[int, int]) -> Float[Array, "k h w"]:
  return class_weights(params, image_shape[0] * image_shape[1]).reshape(-1, *image_shape)


ATTACKS: dict[str, Attack] = {"reshape": reshape, "init_diff": init_diff, "seed_mean": seed_mean}


def recover(
  attack: str, release: Release, image_shape: tuple[int, int], mode: str = "min-max", largest=255.0
) -> Float[Array, "k h w"]:
  """Runs an attack by name and normalises each image.

  Args:
    attack: a name in `ATTACKS`.
    release: what the attacker holds.
    image_shape: (h, w) in pixels.
    mode: how to normalise, see `normalize`.
    largest: the largest value of the data.

  Returns:
    One image a class, in 0..255 unless said otherwise.

  Raises:
    InputError: the attack is unknown or lacks what it needs.
  """
  if attack not in ATTACKS:
    raise InputError(f"unknown attack '{attack}': choose from {', '.join(ATTACKS)}")
  images = ATTACKS[attack](release, image_shape)
  return jax.vmap(lambda image: normalize(image, mode, largest))(images)
