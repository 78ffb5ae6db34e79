"""How close a recovered image comes to the truth: pure functions of images, grey or coloured.

`*c` in a shape is the axis of colours, or nothing for grey images.
"""

from functools import partial

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxinv.errors import choose

# Equal images have no noise at all; their PSNR is given as 100 dB rather than infinite.
_SMALLEST_MSE = 1e-10

NORMALIZATIONS = ("min-max", "max")


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
  choose("normalisation", mode, dict.fromkeys(NORMALIZATIONS))
  # Halved, so that the difference of two finite values is finite too.
  image = 0.5 * jnp.where(jnp.isfinite(image), image, 0.0)
  low = image.min() if mode == "min-max" else 0.0
  span = image.max() - low if mode == "min-max" else jnp.abs(image).max()
  return jnp.where(span > 0, (image - low) / jnp.where(span > 0, span, 1.0), 0.0) * largest


def ncc(a: Float[Array, "*s"], b: Float[Array, "*s"]) -> Float[Array, ""]:
  """Normalised cross-correlation: Pearson's correlation over pixels, 0 where one is constant.

  Args:
    a: an image, in any unit.
    b: another of the same shape.

  Returns:
    The correlation, in [-1, 1]; the same for any unit and positive scale of either image.
  """
  a, b = (_centre(x.ravel()) for x in (a, b))
  # Scaled first, so that tiny and huge images neither underflow nor overflow when squared.
  a, b = (x / jnp.maximum(jnp.abs(x).max(), jnp.finfo(x.dtype).tiny) for x in (a, b))
  norms = jnp.sqrt(jnp.square(a).sum() * jnp.square(b).sum())
  return jnp.where(norms > 0, (a * b).sum() / jnp.where(norms > 0, norms, 1.0), 0.0)


def _centre(x: Float[Array, " p"]) -> Float[Array, " p"]:
  """Values less their mean: exactly 0 where all are equal, for which a mean alone is not enough."""
  x = x - x[0]
  return x - x.mean()


def ssim(a: Float[Array, "k h w *c"], b: Float[Array, "k h w *c"]) -> Float[Array, " k"]:
  """Structural similarity of images in pairs, each min-max normalised; Wang et al. 2004.

  A Gaussian window of 11 pixels and sigma 1.5 (smaller in images smaller than that), averaged
  where the whole window lies inside the image: scikit-image's `structural_similarity` with
  `gaussian_weights=True, use_sample_covariance=False, data_range=1`. That of coloured images is the
  mean over their channels.

  Args:
    a: images, each in any unit.
    b: others of the same shape.

  Returns:
    The mean similarity of each pair, at most 1.

  Example:
    >>> images = jax.random.uniform(jax.random.key(0), (2, 8, 8))
    >>> ssim(images, 3 * images + 1).round(3).tolist()
    [1.0, 1.0]
  """

  def scale(images: Float[Array, "k h w *c"]) -> Float[Array, "kc h w 1"]:
    scaled = jax.vmap(partial(normalize, largest=1.0))(images)
    channels = jnp.moveaxis(scaled, -1, 1) if scaled.ndim == 4 else scaled
    return channels.reshape(-1, *images.shape[1:3], 1)

  rows, columns = (jnp.asarray(_blur_matrix(size), a.dtype) for size in a.shape[1:3])

  # The same blur as dm_pix makes by convolution, as two matrix products: 12 times faster on a CPU.
  def blur(z: Float[Array, "kc h w 1"]) -> Float[Array, "kc _ _ 1"]:
    return (rows @ (z[..., 0] @ columns.T))[..., None]

  places = dm_pix.ssim(scale(a), scale(b), filter_fn=blur, return_map=True)
  places = places.reshape(len(a), -1)
  # Their mean, as a product: as a sum, XLA on CPUs makes one slow loop of all the above.
  return places @ jnp.full(places.shape[-1], 1 / places.shape[-1], places.dtype)


def _blur_matrix(size: int) -> Float[np.ndarray, "_ size"]:
  """Rows that each hold the Gaussian window at one place, valid places only."""
  window = min(11, size - (size + 1) % 2)
  offset = np.arange(size)[None] - np.arange(size - window + 1)[:, None]
  weights = np.exp(-0.5 * ((offset - window // 2) / 1.5) ** 2)
  weights = np.where((offset >= 0) & (offset < window), weights, 0.0)
  return weights / weights.sum(1, keepdims=True)


def psnr(a: Float[Array, "*s"], b: Float[Array, "*s"]) -> Float[Array, ""]:
  """Peak signal-to-noise ratio of two images, each min-max normalised, in dB, at most 100."""
  error = jnp.square(normalize(a, largest=1.0) - normalize(b, largest=1.0)).mean()
  return -10 * jnp.log10(jnp.maximum(error, _SMALLEST_MSE))


def correlations(a: Float[Array, "k h w *c"], b: Float[Array, "j h w *c"]) -> Float[Array, "k j"]:
  """The correlation of each image of `a` with each of `b`."""

  def standard(images):
    flat = jax.vmap(_centre)(images.reshape(len(images), -1))
    norms = jnp.linalg.norm(flat, axis=1, keepdims=True)
    return jnp.where(norms > 0, flat / jnp.where(norms > 0, norms, 1.0), 0.0)

  return jnp.matmul(standard(a), standard(b).T, precision="highest")


def identification(
  images: Float[Array, "k h w *c"], references: Float[Array, "k h w *c"]
) -> Float[Array, ""]:
  """Share of the classes whose image is closest to their own class's reference.

  Closest is the largest correlation with (reference - mean of all references).

  Args:
    images: one recovered image a class.
    references: one reference a class: the mean of its held-out images.

  Returns:
    The share, in [0, 1]; chance is 1 / k. A constant image identifies nobody.
  """
  return identified(images, references).mean(dtype=images.dtype)


def identified(
  images: Float[Array, "k h w *c"], references: Float[Array, "k h w *c"]
) -> Bool[Array, " k"]:
  """Which classes' images are closest to their own class's reference; see `identification`."""
  return own_is_largest(correlations(images, references - references.mean(0, keepdims=True)))


def own_is_largest(scores: Float[Array, "k k"]) -> Bool[Array, " k"]:
  """Whether the score on the diagonal is larger than all others of its row."""
  own = jnp.diagonal(scores)
  return own > jnp.where(jnp.eye(len(scores), dtype=bool), -jnp.inf, scores).max(1)
