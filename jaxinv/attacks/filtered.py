"""Attackers that filter: the weights, cleaned of noise that no photograph would have.

Initial weights, DP-SGD's noise and noise added on release are white; faces are smooth. So an
attacker who knows neither the initial weights nor the faces can tell the two apart by their
spectra. Nothing here is chosen by looking at the truth: the noise level and the spectrum of what
was learned are both estimated from the weights themselves.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinv.attacks import weights
from jaxinv.errors import InputError
from jaxinv.types import Release

# The grid of the fit: exponents of the power law, and its level over the noise's at the highest
# frequency (natural logarithm). Images of nature and faces have exponents of 2 to 4.
_EXPONENTS = np.arange(1.0, 5.01, 0.25)
_LEVELS = np.arange(-10.0, 8.01, 0.5)
_NUM_BINS = 48
# Gradient descent learns what tells people apart, and whitens: the weights' power falls off with a
# smaller exponent than that of faces, by about 0.4. This takes it back, as an amplitude.
_WHITENED = 0.2
# Of each half of the people.
_MOST_PHOTOGRAPHS = 1000


class Spectrum(NamedTuple):
  """The power of images at each spatial frequency: white noise plus a power law.

  Attributes:
    noise: the variance of the noise, in the images' unit.
    ratio: the power of what is not noise over that of noise, at the highest frequency.
    exponent: how fast the former falls with frequency.
  """

  noise: Float[Array, ""]
  ratio: Float[Array, ""]
  exponent: Float[Array, ""]

  def gain(self, frequency: Float[np.ndarray, "h w"]) -> Float[Array, "h w"]:
    """The Wiener filter's: the share of the power that is not noise."""
    power = self.ratio * jnp.asarray(frequency, self.noise.dtype) ** -self.exponent
    return power / (power + 1)


def denoised(release: Release, image_shape: tuple[int, ...]) -> Float[Array, "k h w *c"]:
  """The weights through a Wiener filter. The attacker holds the weights alone.

  Args:
    release: needs `params`.
    image_shape: (h, w) or (h, w, c) with h * w * c = p.

  Returns:
    One raw image a class.

  Raises:
    InputError: no kernel takes images of this shape.
  """
  return wiener(weights.reshape(release, image_shape))


def denoised_diff(release: Release, image_shape: tuple[int, ...]) -> Float[Array, "k h w *c"]:
  """The same of W - W0: through noise of DP-SGD or of the release. Needs `init_params` too."""
  return wiener(weights.init_diff(release, image_shape))


def denoised_seed_mean(release: Release, image_shape: tuple[int, ...]) -> Float[Array, "k h w *c"]:
  """The same of the weights averaged over seeds. Needs `peers`."""
  return wiener(weights.seed_mean(release, image_shape))


def denoised_others(release: Release, image_shape: tuple[int, ...]) -> Float[Array, "k h w *c"]:
  """The weights through a filter that knows faces: principal components of other people's.

  Each class's weights are projected on the components of other people's photographs, see
  `components`; each coefficient is shrunk by the share of its power that is not noise (a Wiener
  filter in that basis), and what the components do not span goes through the filter of `denoised`.

  Args:
    release: needs `params` and `others`.
    image_shape: (h, w) or (h, w, c) with h * w * c = p.

  Returns:
    One raw image a class.

  Raises:
    InputError: no components, or no kernel takes images of this shape.
  """
  if release.others is None:
    raise InputError("denoised_others needs other people's photographs: give others")
  images = weights.reshape(release, image_shape)
  scale = largest(images)
  coefficients = cosine_transform(images / scale)
  halves = [
    _by_components(coefficients, jnp.asarray(basis), i) for i, basis in enumerate(release.others)
  ]
  filtered = sum(halves) * _colour(image_shape[:2])[None]
  return scale * _from_channels(_inverse(filtered), images.shape)


def components(
  photographs: Float[np.ndarray, "n p"],
  people: Int[np.ndarray, " n"],
  image_shape: tuple[int, ...],
  number: int = 60,
) -> Float[np.ndarray, "2 r p"]:
  """Principal components of people's photographs, for attacks on others among them.

  People are halved, the even classes and the odd. The first basis is for attacks on the even
  classes and is made of photographs of the odd ones, the second the other way round: no photograph
  of a person serves an attack on that person.

  Args:
    photographs: one a row.
    people: the class of each.
    image_shape: (h, w) or (h, w, c) with h * w * c = p.
    number: components of each, at most; no more than there are photographs of either half.

  Returns:
    For `Release.others`: orthonormal rows, in the cosine transform of images.
  """
  halves = [photographs[people % 2 == odd] for odd in (1, 0)]
  # Of very many evenly chosen ones: more would not change the first components.
  halves = [half[:: max(1, len(half) // _MOST_PHOTOGRAPHS)] for half in halves]
  number = max(1, min(number, *(len(half) - 1 for half in halves)))
  bases = np.zeros((2, number, photographs.shape[1]), np.float32)
  for basis, half in zip(bases, halves, strict=True):
    if len(half) > 1:
      rows = cosine_transform(jnp.asarray(half - half.mean(0)).reshape(-1, *image_shape))
      found = np.linalg.svd(np.asarray(rows).reshape(len(half), -1), full_matrices=False)[2]
      basis[: len(found)] = found[:number]
  return bases


def wiener(images: Float[Array, "k h w *c"]) -> Float[Array, "k h w *c"]:
  """Filters images that share white noise and a spectrum.

  In the discrete cosine transform, where white noise has the same power everywhere and an image
  does not wrap around. Power law and noise level are those of the largest Whittle likelihood over
  all images together; see `fit_spectrum`.

  Wiener (1949), "Extrapolation, Interpolation, and Smoothing of Stationary Time Series"; Whittle
  (1953), "Estimation and information in stationary time series".

  Args:
    images: in any unit; each less its mean, which is none of its shape.

  Returns:
    The filtered images; constant images become zeros.

  Example:
    >>> from jaxinv.metrics.images import ncc
    >>> smooth = jnp.outer(jnp.arange(32.0), jnp.arange(32.0))[None] / 500
    >>> noisy = smooth + jax.random.normal(jax.random.key(0), (1, 32, 32))
    >>> bool(ncc(noisy, smooth) < 0.5), bool(ncc(wiener(noisy), smooth) > 0.9)
    (True, True)
  """
  scale = largest(images)
  filtered = wiener_cosines(cosine_transform(images / scale))
  return scale * _from_channels(_inverse(filtered), images.shape)


def wiener_cosines(coefficients: Float[Array, "m h w"]) -> Float[Array, "m h w"]:
  """`wiener` of images in their cosine transform, which keeps inner products and so correlations.

  Args:
    coefficients: of `cosine_transform`, of images that share white noise and a spectrum.

  Returns:
    Those of the filtered images.
  """
  shape = coefficients.shape[1:]
  gain = fit_spectrum(coefficients).gain(_frequencies(shape)) * _colour(shape)
  return coefficients * gain[None]


def cosine_transform(images: Float[Array, "k h w *c"]) -> Float[Array, "kc h w"]:
  """The orthonormal type II transform of each channel of images, each channel less its mean."""
  channels = jnp.moveaxis(images, 3, 1) if images.ndim == 4 else images
  channels = channels.reshape(-1, *images.shape[1:3])
  channels -= channels.mean((1, 2), keepdims=True)
  rows, columns = (jnp.asarray(_cosines(size), images.dtype) for size in images.shape[1:3])
  return rows @ channels @ columns.T


def largest(images: Float[Array, "k h w *c"]) -> Float[Array, ""]:
  """The largest magnitude: images over it neither underflow nor overflow when they are squared."""
  largest = jnp.abs(images).max()
  return jnp.where(largest > 0, largest, 1.0)


def fit_spectrum(coefficients: Float[Array, "m h w"]) -> Spectrum:
  """White noise plus a power law, by maximum likelihood over a grid.

  Args:
    coefficients: of a cosine transform, of images that share their spectrum.

  Returns:
    The spectrum.
  """
  bins, counts, log_frequency = _bins(coefficients.shape[1:])
  power = jnp.square(coefficients).mean(0).ravel()
  power = jax.ops.segment_sum(power, jnp.asarray(bins), _NUM_BINS + 1)[:_NUM_BINS]
  exponents, levels = (x.reshape(-1, 1) for x in np.meshgrid(_EXPONENTS, _LEVELS))
  # Spectra of the grid in units of the noise, and for each the noise that fits best.
  shapes = np.exp(levels - exponents * log_frequency[None]) + 1
  noise = jnp.asarray(1 / shapes, power.dtype) @ power / counts.sum()
  # With that noise the data's term of the likelihood is the same for all spectra of the grid.
  misfit = jnp.log(jnp.maximum(noise, jnp.finfo(power.dtype).tiny))
  misfit += jnp.asarray(np.log(shapes) @ counts / counts.sum(), power.dtype)
  best = misfit.argmin()
  ratio, exponent = (jnp.asarray(x[:, 0], power.dtype)[best] for x in (np.exp(levels), exponents))
  return Spectrum(noise[best], ratio, exponent)


def _by_components(
  coefficients: Float[Array, "m h w"], basis: Float[Array, "r p"], odd: int
) -> Float[Array, "m h w"]:
  """Filters one half of the classes by a basis; zeros for the other half."""
  channels = basis.shape[1] // coefficients[0].size
  noise = fit_spectrum(coefficients).noise
  # Each half alone: what other people's components leave of their own images is another spectrum.
  flat = coefficients.reshape(len(coefficients) // channels, -1)[odd::2]
  along = flat @ basis.T
  # The power along each component over these classes, smoothed over its neighbours in order.
  power = jnp.square(along).mean(0)
  width = max(1, len(power) // 12)
  window = jnp.full(2 * width + 1, 1 / (2 * width + 1), power.dtype)
  power = jnp.convolve(jnp.pad(power, width, mode="edge"), window, "valid")
  gain = jnp.maximum(0.0, 1 - noise / jnp.where(power > 0, power, 1.0))
  rest = (flat - along @ basis).reshape(-1, *coefficients.shape[1:])
  rest *= fit_spectrum(rest).gain(_frequencies(coefficients.shape[1:]))[None]
  both = (along * gain[None]) @ basis + rest.reshape(flat.shape)
  whole = jnp.zeros((len(coefficients) // channels, basis.shape[1]), both.dtype)
  return whole.at[odd::2].set(both).reshape(coefficients.shape)


def _colour(shape: tuple[int, ...]) -> Float[np.ndarray, "h w"]:
  """The gain that gives back to the weights the slope of a face's spectrum."""
  return np.maximum(_frequencies(shape), 0.03) ** -_WHITENED


def _frequencies(shape: tuple[int, ...]) -> Float[np.ndarray, "h w"]:
  """The spatial frequency of each coefficient; 1 is a wave of two pixels. That of the mean is 1."""
  height, width = (np.arange(size) / size for size in shape)
  frequency = np.hypot(height[:, None], width[None])
  frequency[0, 0] = 1.0
  return frequency


def _bins(
  shape: tuple[int, ...],
) -> tuple[Int[np.ndarray, " hw"], Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
  """Coefficients by frequency, in steps of equal ratio.

  Returns:
    The bin of each, the last one for the mean, which counts nowhere; the number of coefficients in
    each bin, with a little for empty ones; and its mean logarithm of the frequency.
  """
  log_frequency = np.log(_frequencies(shape)).ravel()
  edges = np.linspace(log_frequency.min(), log_frequency.max(), _NUM_BINS + 1)[1:-1]
  bins = np.searchsorted(edges, log_frequency)
  bins[0] = _NUM_BINS
  counts = np.bincount(bins, minlength=_NUM_BINS + 1)[:_NUM_BINS].astype(np.float32)
  sums = np.bincount(bins, log_frequency, minlength=_NUM_BINS + 1)[:_NUM_BINS]
  counts = np.maximum(counts, 1e-9)
  return bins, counts, (sums / counts).astype(np.float32)


def _inverse(coefficients: Float[Array, "m h w"]) -> Float[Array, "m h w"]:
  rows, columns = (jnp.asarray(_cosines(n), coefficients.dtype) for n in coefficients.shape[1:])
  return rows.T @ coefficients @ columns


def _from_channels(channels: Float[Array, "kc h w"], shape: tuple[int, ...]):
  """Undoes the order of channels of `cosine_transform`."""
  if len(shape) == 3:
    return channels
  return jnp.moveaxis(channels.reshape(shape[0], shape[3], *shape[1:3]), 1, 3)


def _cosines(size: int) -> Float[np.ndarray, "size size"]:
  """The matrix of the orthonormal type II cosine transform."""
  frequency, place = np.arange(size)[:, None], np.arange(size)[None] + 0.5
  waves = np.cos(math.pi * frequency * place / size) * math.sqrt(2 / size)
  return np.where(frequency == 0, math.sqrt(1 / size), waves)
