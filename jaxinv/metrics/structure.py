"""Does a recovered vector look like an image rather than noise? Told with nothing to compare it to.

Neighbouring pixels of an image are alike, those of noise are not: Moran's I, tested against random
permutations of the pixels. Tested are ranks, so that one null serves all images of a shape,
whatever their values are distributed like: of the pixels, and of their distances from the mean,
which tell where training moved weights at all even if bright and dark alternate there.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxinv.metrics.rows import centred

# Pixels worked on at a time: arrays of 2 MB, of which there are a few.
_CHUNK = 2**18
# Pixels permuted for a null at the most; of images so large that this leaves few draws, the null is
# as good as normal.
_MOST_PERMUTED, _FEWEST_DRAWS = 2**28, 99
# Where fewer draws than this reach the observed value, their share says little.
_FEWEST_ABOVE = 10
_SMALLEST_P = 1e-300


class PermutationNull(NamedTuple):
  """What Moran's I of the ranks is where the pixels lie in random order.

  Attributes:
    shape: height, width and channels of the images.
    draws: the statistic of random permutations, in rising order.
    mean: its exact mean over all permutations.
    deviation: its exact standard deviation; 0 where too few pixels leave nothing to chance.
  """

  shape: tuple[int, int, int]
  draws: Float[np.ndarray, " d"]
  mean: float
  deviation: float


class BlindScores(NamedTuple):
  """What is seen of images alone.

  Attributes:
    morans_i: Moran's I of each image's pixel values.
    p_values: the chance that pixels in random order look as much like an image, or more; see
      `blind_scores`.
  """

  morans_i: Float[np.ndarray, " u"]
  p_values: Float[np.ndarray, " u"]


def morans_i(images: Float[np.ndarray, "u h w c"]) -> Float[np.ndarray, " u"]:
  """Spatial autocorrelation of pixel values; Moran 1950, Cliff and Ord 1981.

  I = N / W sum_ij w_ij z_i z_j / sum_i z_i^2, with z the pixels less their channel's mean, w_ij = 1
  for the pairs of pixels that share an edge within a channel, else 0, and W the sum of all w_ij.

  Args:
    images: in any unit; huge and tiny values neither overflow nor vanish.

  Returns:
    About 0 for noise and near 1 for what is smooth; 0 for a constant image, one that is not finite,
    and one without neighbours. The same for any scale, sign and offset.
  """
  found = np.zeros(len(images))
  for part in _parts(images):
    found[part] = _autocorrelation(_rescaled(_scaled(images[part])), images.shape[1:3])
  return found


def permutation_null(
  shape: tuple[int, int, int], draws: int = 9_999, seed: int = 0
) -> PermutationNull:
  """Draws what `blind_scores` compares images of one shape with.

  Args:
    shape: height, width and channels.
    draws: random permutations. Of images above 26,000 pixels fewer are drawn, to bound the time, as
      their tails are normal.
    seed: decides the permutations.

  Returns:
    The null; about two seconds for 112 x 92 pixels.
  """
  height, width, channels = shape
  size = height * width
  draws = min(draws, max(_FEWEST_DRAWS, _MOST_PERMUTED // (size * channels)))
  rng, values = np.random.default_rng(seed), np.zeros(draws)
  for part in _spans(draws, size * channels):
    rows = np.broadcast_to(_ranks(size), (part.stop - part.start, channels, size))
    values[part] = _autocorrelation(rng.permuted(rows, axis=-1), (height, width))
  mean, variance = permutation_moments(shape)
  return PermutationNull(shape, np.sort(values), mean, float(np.sqrt(variance)))


def permutation_moments(shape: tuple[int, int, int]) -> tuple[float, float]:
  """The mean and variance of Moran's I over all permutations of the ranks within their channels.

  Cliff and Ord 1981, under randomisation, with the kurtosis of the ranks 1 .. n, n the pixels of a
  channel: 3 (3 n^2 - 7) / (5 (n^2 - 1)). All channels' ranks vary alike, so that I is the mean of
  theirs, which are independent: its mean is theirs, -1 / (n - 1), its variance a share of theirs.

  Args:
    shape: height, width and channels.

  Returns:
    Mean and variance; zeros for less than four pixels a channel, where the formula has no meaning.
  """
  height, width, channels = shape
  n = height * width
  if n < 4:
    return 0.0, 0.0
  neighbours = np.zeros((height, width))
  for axis in (neighbours, neighbours.T):
    axis[1:] += 1
    axis[:-1] += 1
  # Sums over the weights, in the book's names.
  s0 = neighbours.sum()
  s1, s2 = 2 * s0, 4 * np.square(neighbours).sum()
  kurtosis = 3 * (3 * n**2 - 7) / (5 * (n**2 - 1))
  square = n * ((n**2 - 3 * n + 3) * s1 - n * s2 + 3 * s0**2)
  square -= kurtosis * ((n**2 - n) * s1 - 2 * n * s2 + 6 * s0**2)
  square /= (n - 1) * (n - 2) * (n - 3) * s0**2
  # Of the two terms rounding may leave a hair below 0, where no permutation changes anything.
  return -1 / (n - 1), max(0.0, square - 1 / (n - 1) ** 2) / channels


def blind_scores(
  images: Float[np.ndarray, "u h w c"], null: PermutationNull, seed: int = 0
) -> BlindScores:
  """Scores images for looking like images, each by itself: a one-sided permutation test.

  The statistics are Moran's I of the ranks of the pixels within their channel, and of the ranks of
  their distances from the channel's mean; ties in random order. Where pixels are exchangeable and
  channels independent, as after any of the usual initialisers, for each of them
  p = (1 + number of draws of the null that reach it) / (draws + 1) is valid for images of any size
  and values. Where less than ten draws reach it, p is the upper tail of the normal with the null's
  exact mean and variance, but no more than the smallest p that draws alone give. The smaller p of
  the two statistics, corrected for there being two (Sidak 1967: 1 - (1 - p)^2, exact where they are
  independent and too large where they go together), is the image's.

  That tail against 0.8 to 8 million permutations: where p is 1e-3 it says 0.91e-3 for 8 x 8 pixels,
  0.96e-3 for 13 x 11 and 0.98e-3 for 112 x 92; where p is 1e-4 it says 0.87e-4, 0.85e-4 and
  1.09e-4, give or take a tenth. For 5 x 5 and less it says too much. Far out it is a measure of how
  clear structure is rather than a probability.

  Args:
    images: in any unit; ranked as float32, scaled by the largest magnitude of each image.
    null: of their shape.
    seed: decides the order of ties. They are broken anew for each image: broken alike, all images
      of a sparse model would be false alarms together.

  Returns:
    The scores. A constant image, one that is not finite and one of a single pixel have p = 1.

  Raises:
    ValueError: the null is of another shape.
  """
  if images.shape[1:] != null.shape:
    raise ValueError(f"images of {images.shape[1:]} against a null of {null.shape}")
  # A source of ties for each statistic, so that it does not matter how images are cut into parts.
  rngs = [np.random.default_rng((seed, i)) for i in range(2)]
  values, p_values = np.zeros(len(images)), np.ones(len(images))
  for part in _parts(images):
    pixels = _scaled(images[part])
    apart = _rescaled(pixels)
    values[part] = _autocorrelation(apart, images.shape[1:3])
    each = [
      _p_values(_autocorrelation(_rank(it, rng), images.shape[1:3]), null)
      for it, rng in zip((pixels, np.abs(apart)), rngs, strict=True)
    ]
    least = np.minimum(*each)
    varied = (pixels != pixels[..., :1]).any((1, 2))
    p_values[part] = np.where(varied, least * (2 - least), 1.0)
  return BlindScores(values, p_values)


def _p_values(observed: Float[np.ndarray, " u"], null: PermutationNull) -> Float[np.ndarray, " u"]:
  from scipy.special import ndtr

  above = len(null.draws) - np.searchsorted(null.draws, observed, side="left")
  p_values = (1 + above) / (1 + len(null.draws))
  if not null.deviation:
    return p_values
  tail = np.maximum(ndtr((null.mean - observed) / null.deviation), _SMALLEST_P)
  tail = np.minimum(tail, (1 + _FEWEST_ABOVE) / (1 + len(null.draws)))
  return np.where(above < _FEWEST_ABOVE, tail, p_values)


def _spans(count: int, pixels: int) -> Iterator[slice]:
  """Cuts so many images of so many pixels into parts that are worked on at a time."""
  each = max(1, _CHUNK // pixels)
  for start in range(0, count, each):
    yield slice(start, min(start + each, count))


def _parts(images: Float[np.ndarray, "u h w c"]) -> Iterator[slice]:
  return _spans(len(images), int(np.prod(images.shape[1:])))


def _scaled(images: Float[np.ndarray, "u h w c"]) -> Float[np.ndarray, "u c p"]:
  """The pixels by channel, below 1 in magnitude; zeros where an image is not finite."""
  pixels = np.moveaxis(images, -1, 1).astype(np.float64)
  pixels = pixels.reshape(*pixels.shape[:2], -1)
  largest = np.abs(pixels).max((1, 2), keepdims=True)
  finite = np.isfinite(largest)
  # By a power of two, which rounds nothing and so makes no ties.
  exponent = np.frexp(np.where(finite, largest, 1.0))[1]
  return np.where(finite, pixels, 0.0) * np.ldexp(1.0, np.minimum(-exponent, 1000))


def _rescaled(pixels: Float[np.ndarray, "u c p"]) -> Float[np.ndarray, "u c p"]:
  """Pixels less their channel's mean, and once more below 1 in magnitude."""
  pixels = centred(pixels)
  # What varies little around a large offset is scaled up, lest its squares vanish.
  largest = np.abs(pixels).max((1, 2), keepdims=True)
  return pixels / np.where(largest > 0, largest, 1.0)


def _ranks(size: int) -> Float[np.ndarray, " {size}"]:
  """Ranks less their mean, doubled: whole numbers, whose sums of products are exact."""
  return 2.0 * np.arange(size) - (size - 1)


def _rank(
  pixels: Float[np.ndarray, "u c p"], rng: np.random.Generator
) -> Float[np.ndarray, "u c p"]:
  """Replaces pixels by their ranks within the channel; ties in random order."""
  # Adding 0 makes one of its two signs.
  bits = (pixels.astype(np.float32) + np.float32(0)).view(np.int32)
  # Read as whole numbers, floats sort as they are, but for negative ones, which are turned around.
  # Below them stand random bits: the keys have no ties, and numpy sorts them several times faster
  # than with a stable sort or by two keys.
  keys = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64) << 32
  keys |= rng.integers(0, 2**32, bits.shape, np.uint32)
  ranks = np.empty(pixels.shape)
  np.put_along_axis(ranks, keys.argsort(-1), _ranks(pixels.shape[-1])[None, None], -1)
  return ranks


def _autocorrelation(
  pixels: Float[np.ndarray, "u c p"], shape: tuple[int, ...]
) -> Float[np.ndarray, " u"]:
  """Moran's I of centred pixels; 0 where all are 0."""
  height, width = shape
  z = pixels.reshape(*pixels.shape[:2], height, width)
  products = np.einsum("uchw,uchw->u", z[:, :, 1:], z[:, :, :-1])
  products += np.einsum("uchw,uchw->u", z[..., 1:], z[..., :-1])
  squares = np.einsum("ucp,ucp->u", pixels, pixels)
  pairs = height * (width - 1) + width * (height - 1)
  # Each pair counts twice in W as in the sum.
  factor = height * width / max(1, pairs)
  return np.where(squares > 0, factor * products / np.where(squares > 0, squares, 1.0), 0.0)
