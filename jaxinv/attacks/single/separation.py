"""Independent components that are pictures: the separation inside `unmixing`.

FastICA (Hyvarinen 1999) with the contrast of a Gaussian, all components at once, and with what is
known of pictures: scaled so that a bias sees 1, their pixels lie in [0, 1]. Each step pulls every
component towards the nearest picture that does. What is left to mend are pairs of photographs that
are nearly the same: there independence prefers their difference, which no bias sees.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# How strongly a component is pulled towards a picture, beside a step of length one.
_PULL = 0.3
# A scale below this share of the median one is taken to be so much: the difference of two
# photographs has none.
_LEAST_SCALE = 0.2
# Independent starts see a part of the detail, every so many-th value.
_STRIDE = 4
# ... but so many at least, where there are.
_FEWEST = 12_000
# Starts agree well enough from this mean stability on. Where they do not, another detail is tried
# that has so many independent values for each source.
_AGREE, _ENOUGH = 0.9, 50
# A pair is mended where one is seen so much less than usual, and than the other (logarithms) ...
_FAINT, _FAINTER = -0.4, 0.7
# ... and the best partner loses so much less contrast than the next best.
_CLEARLY = 0.7
# Partners that are tried.
_PARTNERS = 64


class Steps(NamedTuple):
  """Steps of FastICA.

  Attributes:
    most: number of steps.
    tolerance: rows that move less (one less the cosine) stand still.
    sharpness: of the contrast: how narrow the bell is by which sources are told from a Gaussian.
  """

  most: int
  tolerance: float
  sharpness: float


# Independent starts, and then, with mending between, the best of them on all of the detail. A
# sharper contrast is better near the end, where it would find bad optima from a random start.
_FIRST = Steps(150, 1e-3, 1.0)
_THEN = (Steps(40, 1e-4, 2.0), Steps(8, 1e-4, 2.0), Steps(8, 1e-4, 2.0))


class Mixtures(NamedTuple):
  """Whitened mixtures, and what is known of the images that they are the detail of.

  Attributes:
    detail: of unit covariance.
    images: the mixtures themselves.
    inverse: from an image, and the weighed value that its bias sees, to the nearest mixture.
    ones: what a bias sees of each mixture.
    weight: of that value beside the pixels.
    largest: what pixels do not exceed.
  """

  detail: Float[Array, "n d"]
  images: Float[Array, "p n"]
  inverse: Float[Array, "n q"]
  ones: Float[Array, " n"]
  weight: Float[Array, ""]
  largest: Float[Array, ""]


def detail(images: Float[np.ndarray, "n h w *c"]) -> Float[np.ndarray, "n d"]:
  """The finest detail of images: their second differences, down, across, and down then across.

  In these, photographs are more nearly independent of each other than in first differences, and
  there are three of them for each pixel.
  """
  down, across = np.diff(images, axis=1), np.diff(images, axis=2)
  parts = (np.diff(down, axis=1), np.diff(across, axis=2), np.diff(down, axis=2))
  return np.concatenate([part.reshape(len(images), -1) for part in parts], 1)


def _mixed(images: Float[np.ndarray, "n h w *c"]) -> Float[np.ndarray, "n y x *c"]:
  return np.diff(np.diff(images, axis=1), axis=2)


def _blurred(images: Float[np.ndarray, "n h w *c"]) -> Float[np.ndarray, "n y x *c"]:
  """Means with the neighbours by the binomial of 4: as a Gaussian of one pixel."""
  for axis in (1, 2):
    for _ in range(4):
      last = images.shape[axis] - 1
      images = np.take(images, range(last), axis) + np.take(images, range(1, last + 1), axis)
  return images / 2**8


# In which photographs are told apart, in this order: the second differences; the same of blurred
# images, for mixtures with white noise in them, as initial weights are; those down and across
# alone, and the same twice, for what a filter has made of photographs.
# With each, how many of its values say as much as one that is independent of the others.
_DETAILS = (
  (detail, 1),
  (lambda images: detail(_blurred(images)), 8),
  (lambda images: _mixed(images).reshape(len(images), -1), 1),
  (lambda images: _mixed(_mixed(images)).reshape(len(images), -1), 1),
)


def separate(
  pictures: Float[np.ndarray, "n h w *c"],
  ones: Float[np.ndarray, " n"],
  largest: float,
  restarts: int,
  seed: int,
) -> tuple[Float[np.ndarray, "n n"], Float[np.ndarray, " n"]]:
  """Finds the mixtures of images that are most independent in their detail, and pictures.

  Of several kinds of detail the one is taken in which independent starts agree most: the attacker's
  own confidence. Where they agree in the first, no other is tried.

  Args:
    pictures: the basis, mixtures of the images that are sought.
    ones: what a bias, which sees a picture as 1, sees of each.
    largest: what a picture's pixels do not exceed; none is below 0.
    restarts: independent starts.
    seed: of their randomness.

  Returns:
    The mixtures, one a column, scaled so that a bias sees 1; and each one's stability.
  """
  chosen = None
  for detail_of, redundancy in _DETAILS:
    if chosen is not None and chosen.agreement > _AGREE:
      break
    values = detail_of(pictures)
    # Of few values all starts find the same mixture, whatever it is.
    if chosen is None or values.shape[1] >= _ENOUGH * redundancy * len(values):
      tried = _start_in(values, pictures, ones, largest, restarts, seed)
      chosen = tried if chosen is None or tried.agreement > chosen.agreement else chosen
  whitening, mixtures, tries, best, _ = chosen
  for how in _THEN:
    best = mend_pairs(np.asarray(_ica(mixtures, best, how), float), mixtures)
  rows = np.asarray(best, float)
  scales = rows @ np.asarray(mixtures.ones, float)
  scales = np.where(np.abs(scales) < 1e-9, 1e-9, scales)
  return whitening @ (rows / scales[:, None]).T, _stability(rows, tries)


class _Started(NamedTuple):
  """Independent starts in one kind of detail.

  Attributes:
    whitening: from mixtures to the basis.
    mixtures: all of them.
    tries: where each start ended, on a part of the detail.
    best: the one of the largest contrast.
    agreement: its mean stability.
  """

  whitening: Float[np.ndarray, "n n"]
  mixtures: Mixtures
  tries: list[Float[Array, "n n"]]
  best: Float[Array, "n n"]
  agreement: float


def _start_in(
  detail: Float[np.ndarray, "n d"],
  pictures: Float[np.ndarray, "n h w *c"],
  ones: Float[np.ndarray, " n"],
  largest: float,
  restarts: int,
  seed: int,
) -> _Started:
  """Starts in one kind of detail."""
  detail = detail - detail.mean(1, keepdims=True)
  powers, vectors = np.linalg.eigh(detail @ detail.T / detail.shape[1])
  whitening = vectors / np.sqrt(np.maximum(powers, 1e-9 * powers[-1]))
  basis = pictures.reshape(len(pictures), -1).T
  whole = (whitening.T @ detail, basis @ whitening, ones @ whitening, largest)
  mixtures, part = _mixtures(*whole), _mixtures(*whole, stride=_STRIDE, seed=seed)
  starts = [_start(len(detail), seed, i) for i in range(restarts)]
  tries = [_ica(part, start, _FIRST) for start in starts]
  best = tries[int(np.argmax([_contrasts(part.detail, rows).sum() for rows in tries]))]
  agreement = float(_stability(np.asarray(best, float), tries).mean())
  return _Started(whitening, mixtures, tries, best, agreement)


def _mixtures(detail, images, ones, largest, stride=1, seed=0) -> Mixtures:
  """All of the mixtures, or of every `stride`-th value drawn at random."""
  if stride > 1:
    rng = np.random.default_rng(seed)
    least = max(8 * len(detail), _FEWEST)
    take = [max(least, size // stride) for size in (detail.shape[1], images.shape[0])]
    detail = detail[:, rng.permutation(detail.shape[1])[: take[0]]]
    images = images[np.sort(rng.permutation(len(images))[: take[1]])]
  weight = len(images) ** 0.5 / 2
  inverse = np.linalg.pinv(np.concatenate([images, weight * ones[None]]))
  parts = detail, images, inverse, ones, weight, largest
  return Mixtures(*(jnp.asarray(x, jnp.float32) for x in parts))


def _start(size: int, seed: int, restart: int) -> Float[Array, "n n"]:
  """Random orthonormal rows."""
  rng = np.random.default_rng((seed, restart))
  return jnp.asarray(np.linalg.qr(rng.normal(size=(size, size)))[0], jnp.float32)


@partial(jax.jit, static_argnames="how")
def _ica(mixtures: Mixtures, rows: Float[Array, "n n"], how: Steps) -> Float[Array, "n n"]:
  """Steps of FastICA until no row moves, or so many."""

  def moves(carry):
    _, moved, taken = carry
    return (moved > how.tolerance) & (taken < how.most)

  def move(carry):
    rows, _, taken = carry
    new = _step(mixtures, rows, how.sharpness)
    moved = (1 - jnp.abs((new * rows).sum(1))).max()
    return new, moved, taken + 1

  return jax.lax.while_loop(moves, move, (rows, jnp.float32(2), 0))[0]


def _step(mixtures: Mixtures, rows: Float[Array, "n n"], sharpness: float) -> Float[Array, "n n"]:
  """One fixed-point step of all rows, the pull towards pictures, the nearest orthonormal rows."""
  sources = rows @ mixtures.detail
  squares = sharpness * jnp.square(sources)
  bell = jnp.exp(-squares / 2)
  new = (sources * bell) @ mixtures.detail.T / sources.shape[1]
  new -= ((1 - squares) * bell).mean(1)[:, None] * rows
  lengths = jnp.linalg.norm(new, axis=1, keepdims=True)
  new /= jnp.where((new * rows).sum(1, keepdims=True) < 0, -1.0, 1.0) * jnp.maximum(lengths, 1e-12)
  new += _PULL * (_nearest_pictures(mixtures, rows) - rows)
  powers, vectors = jnp.linalg.eigh(new @ new.T)
  return vectors @ ((vectors.T @ new) / jnp.sqrt(jnp.maximum(powers, 1e-12))[:, None])


def _nearest_pictures(mixtures: Mixtures, rows: Float[Array, "n n"]) -> Float[Array, "n n"]:
  """The mixtures nearest to the rows' images with their pixels clipped."""
  scales = rows @ mixtures.ones
  least = _LEAST_SCALE * jnp.median(jnp.abs(scales))
  scales = jnp.where(scales < 0, -1.0, 1.0) * jnp.maximum(jnp.abs(scales), least)
  pictures = jnp.clip(mixtures.images @ rows.T / scales[None], 0.0, mixtures.largest)
  seen = jnp.full((1, len(rows)), mixtures.weight)
  return (mixtures.inverse @ jnp.concatenate([pictures, seen])).T * scales[:, None]


@jax.jit
def _contrasts(detail: Float[Array, "n d"], rows: Float[Array, "m n"]) -> Float[Array, " m"]:
  """How far the rows' sources are from a Gaussian, which has 0.707: the more, the sparser."""
  return jnp.exp(-jnp.square(rows @ detail) / 2).mean(1)


def mend_pairs(rows: Float[np.ndarray, "n n"], mixtures: Mixtures) -> Float[np.ndarray, "n n"]:
  """Turns pairs of components that are a sum and a difference back into two photographs.

  A component that a bias hardly sees is a difference. Its partner is the one with which it can be
  turned, until a bias sees both alike, at much the least loss of contrast: photographs that are
  nearly the same have as much detail as each other. Where none stands out nothing is done.

  Args:
    rows: orthonormal components.
    mixtures: of which they are.

  Returns:
    The components, turned.
  """
  ones = np.asarray(mixtures.ones, float)
  rows = np.where(rows @ ones < 0, -1.0, 1.0)[:, None] * rows
  usual = np.median(rows @ ones)
  if usual == 0:  # A bias sees none of them: their brightness says nothing.
    return rows
  sources = jnp.asarray(rows, jnp.float32) @ mixtures.detail
  for i in np.argsort(rows @ ones):
    seen = rows @ ones
    brightness = np.log(np.maximum(seen, 1e-9 * usual) / usual)
    if brightness[i] > _FAINT:
      break
    possible = brightness > max(brightness[i] + _FAINTER, _FAINT)
    if possible.sum() < 2:
      continue
    # Those whose detail lies where its own does: a difference and a sum have it in common.
    common = np.where(possible, np.asarray(_common(sources, sources[i])), -np.inf)
    likely = np.argsort(-common)[:_PARTNERS]
    turns = np.arctan2(seen, seen[i]) - np.pi / 4
    losses = np.asarray(_losses(sources[i], sources[likely], jnp.asarray(turns[likely])))
    losses = np.where(possible[likely], losses, np.inf)
    first, second = np.argsort(losses)[:2]
    if losses[first] < _CLEARLY * losses[second]:
      pair, turn = np.array([i, likely[first]]), _turn(turns[likely[first]])
      rows[pair] = turn @ rows[pair]
      sources = sources.at[pair].set(jnp.asarray(turn, jnp.float32) @ sources[pair])
  return rows


def _turn(angle: float) -> Float[np.ndarray, "2 2"]:
  cosine, sine = np.cos(angle), np.sin(angle)
  return np.array([[cosine, sine], [-sine, cosine]])


@jax.jit
def _common(sources: Float[Array, "n d"], source: Float[Array, " d"]) -> Float[Array, " n"]:
  """How much the power of each source lies where that of this one does: their correlation."""
  own = jnp.square(source) - jnp.square(source).mean()
  power = jnp.square(sources) - jnp.square(sources).mean(1, keepdims=True)
  return power @ own / jnp.maximum(jnp.linalg.norm(power, axis=1), 1e-12)


@jax.jit
def _losses(
  source: Float[Array, " d"], others: Float[Array, "m d"], turns: Float[Array, " m"]
) -> Float[Array, " m"]:
  """What contrast a source and each of its partners lose by a turn."""
  before = jnp.exp(-jnp.square(source) / 2).mean() + jnp.exp(-jnp.square(others) / 2).mean(1)

  def after(other, turn):
    cosine, sine = jnp.cos(turn), jnp.sin(turn)
    turned = jnp.stack([cosine * source + sine * other, cosine * other - sine * source])
    return jnp.exp(-jnp.square(turned) / 2).mean(1).sum()

  return before - jax.vmap(after)(others, turns)


def _stability(
  rows: Float[np.ndarray, "n n"], tries: Sequence[Float[Array, "n n"]]
) -> Float[np.ndarray, " n"]:
  """How alike each component is to the nearest of every restart, less how alike to the others."""
  alike = np.abs(np.stack([rows @ np.asarray(found, float).T for found in tries], 1))
  alike = np.minimum(alike, 1.0)
  nearest = alike.max(2)
  others = (alike.sum(2) - nearest) / max(1, alike.shape[2] - 1)
  return (nearest - others).mean(1)
