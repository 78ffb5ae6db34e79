"""Simple coloured objects drawn from a seed: a stand-in for CIFAR-10 that needs no file.

Lengths are in half image widths, x to the right and y down from the image's middle. Outlines are in
a unit of their own, in which an object about fits a circle of radius 1. Angles are in radians, hues
in turns.
"""

import math
from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinv.errors import InputError
from jaxinv.types import Dataset, PRNGKey, TrainTest

SMALLEST, LARGEST = 8, 64  # Sides of an image, in pixels.

_SUPERSAMPLING = 2
_CHUNK = 500  # Always as many in one call, so that their number compiles nothing anew.
_LOYALTY = 0.6  # Share of the objects that have their class's own hue.
_NIGHTS = 0.7  # Share of the images that show a bright object on dark ground, not the reverse.
_NOISE = 0.03  # Standard deviation.

# What an image is drawn from: (low, high) of an even draw.
# fmt: off
_RANGES = {
  "right": (-0.25, 0.25), "down": (-0.25, 0.25), "radius": (0.5, 0.75), "turn": (-1, 1),
  "loyalty": (0, 1), "own_hue": (-0.06, 0.06), "any_hue": (0, 1), "strength": (0.6, 1),
  "night": (0, 1), "shine": (0, 1), "slope": (-math.pi, math.pi),
  "hue_here": (0, 1), "strength_here": (0, 1), "shade_here": (0, 1),
  "hue_there": (0, 1), "strength_there": (0, 1), "shade_there": (0, 1),
  "brightness": (0.8, 1.05),
}
_TREE = ((0, -1), (0.8, 0.5), (0.22, 0.5), (0.22, 0.95), (-0.22, 0.95), (-0.22, 0.5), (-0.8, 0.5))
_ARROW = ((1, 0), (0.1, -0.8), (0.1, -0.28), (-0.95, -0.28), (-0.95, 0.28), (0.1, 0.28), (0.1, 0.8))
# fmt: on
_WEDGE = ((0, -0.35), (0.84, -0.05), (0, 0.95), (-0.84, -0.05))
# From the upper point on, points and notches in turn.
_STAR = [
  (r * math.sin(i * math.pi / 5), -r * math.cos(i * math.pi / 5))
  for i, r in enumerate((1.05, 0.45) * 5)
]
_Look = namedtuple("_Look", _RANGES)
_Points = Float[Array, "h w 2"]
_Distances = Float[Array, "h w"]


def _disc(points: _Points, radius: float, x: float = 0.0, y: float = 0.0) -> _Distances:
  """Distances to a disc, negative inside it."""
  return jnp.hypot(points[..., 0] - x, points[..., 1] - y) - radius


def _bar(points: _Points, width: float, height: float, y: float = 0.0) -> _Distances:
  """Distances to a bar, in the largest of both directions; sizes are half sizes."""
  return jnp.maximum(jnp.abs(points[..., 0]) - width, jnp.abs(points[..., 1] - y) - height)


def _polygon(points: _Points, corners: Sequence[tuple[float | int, float | int]]) -> _Distances:
  """Distances to a polygon; https://iquilezles.org/articles/distfunctions2d, "polygon"."""
  nearest, sign = jnp.full(points.shape[:-1], jnp.inf), jnp.ones(points.shape[:-1])
  for a, b in zip(corners, (*corners[1:], corners[0]), strict=True):
    edge = np.subtract(b, a)
    x, y = points[..., 0] - a[0], points[..., 1] - a[1]
    share = jnp.clip((x * edge[0] + y * edge[1]) / (edge @ edge), 0, 1)
    nearest = jnp.minimum(nearest, jnp.hypot(x - share * edge[0], y - share * edge[1]))
    # A ray to one side crosses the outline an odd number of times where the point is inside.
    is_between = (y >= 0) != (y >= edge[1])
    sign = jnp.where(is_between & ((x * edge[1] < y * edge[0]) == (edge[1] > 0)), -sign, sign)
  return sign * nearest


def _heart(points: _Points) -> _Distances:
  """Distances to a heart: two discs and a wedge below them."""
  discs = jnp.minimum(_disc(points, 0.5, -0.44, -0.35), _disc(points, 0.5, 0.44, -0.35))
  wedge = _polygon(points, _WEDGE)
  return jnp.minimum(discs, wedge)


def _stripes(points: _Points) -> _Distances:
  """Distances to three horizontal bars."""
  bars = [_bar(points, 0.85, 0.16, y) for y in (-0.6, 0.0, 0.6)]
  return jnp.minimum(jnp.minimum(bars[0], bars[1]), bars[2])


class _Kind(NamedTuple):
  """A class of objects.

  Attributes:
    outline: distances of points to the object, negative inside.
    hue: of most of its objects.
    turn: largest rotation either way.
  """

  outline: Callable[[_Points], _Distances]
  hue: float
  turn: float


# Each hue is that of two classes: colour says something about the class, and never all.
_KINDS = {
  "ball": _Kind(partial(_disc, radius=0.9), 0.0, 0.0),
  "heart": _Kind(_heart, 0.0, 0.3),
  "ring": _Kind(lambda it: jnp.abs(_disc(it, 0.7)) - 0.24, 0.14, 0.0),
  "star": _Kind(partial(_polygon, corners=_STAR), 0.14, math.pi / 5),
  "tree": _Kind(partial(_polygon, corners=_TREE), 0.33, 0.15),
  "arrow": _Kind(partial(_polygon, corners=_ARROW), 0.33, 0.4),
  "moon": _Kind(lambda it: jnp.maximum(_disc(it, 0.95), -_disc(it, 0.8, 0.5, -0.1)), 0.6, 0.4),
  "stripes": _Kind(_stripes, 0.6, 0.15),
  "box": _Kind(partial(_bar, width=0.75, height=0.75), 0.8, 0.3),
  "cross": _Kind(lambda it: jnp.minimum(_bar(it, 0.95, 0.3), _bar(it, 0.3, 0.95)), 0.8, 0.3),
}
NAMES = tuple(_KINDS)


def synthetic_shapes(
  seed: int, num_train: int = 4000, num_test: int = 1000, resolution: int = 16
) -> TrainTest:
  """Draws a data set of coloured objects of ten classes, in training and test images.

  Objects vary in place, size, rotation, colour and brightness, and stand before a gradient between
  two colours, with a little noise. Each ten images in turn, from the first, show the ten classes in
  some order. An image depends on the seed, on its number, and on whether it is for testing, and not
  on how many there are.

  Args:
    seed: decides the draw.
    num_train: number of training images.
    num_test: number of test images.
    resolution: side of an image, in pixels.

  Returns:
    The data set; inputs are float32 in [0, 1].

  Raises:
    InputError: an argument is out of its range.

  Example:
    >>> shapes = synthetic_shapes(0, num_train=20, num_test=10, resolution=16)
    >>> shapes.train.inputs.shape, shapes.test.image_shape
    ((20, 768), (16, 16, 3))
  """
  for name, number in (("num_train", num_train), ("num_test", num_test)):
    if number < len(NAMES):
      raise InputError(f"{name} is {number}: give {len(NAMES)} images or more, one of each class")
  if not SMALLEST <= resolution <= LARGEST:
    raise InputError(
      f"resolution is {resolution}, and synthetic_shapes draws {SMALLEST} to {LARGEST} pixels a "
      "side"
    )
  # The same images whatever precision they are trained on in.
  with jax.enable_x64(False):
    keys = jax.random.split(jax.random.key(seed))
    return TrainTest(*map(partial(_draw, size=resolution), keys, (num_train, num_test)))


def _draw(key: PRNGKey, count: int, size: int) -> Dataset:
  """The first `count` images of one stream."""
  starts = range(0, count, _CHUNK)
  chunks = [_draw_chunk(key, jnp.arange(start, start + _CHUNK), size) for start in starts]
  images, labels = (np.concatenate(parts)[:count] for parts in zip(*chunks, strict=True))
  inputs = images.reshape(count, size * size * 3)
  return Dataset(inputs, labels, len(NAMES), (size, size, 3), NAMES, drawn=True)


@partial(jax.jit, static_argnums=2)
def _draw_chunk(
  key: PRNGKey, numbers: Int[Array, " n"], size: int
) -> tuple[Float[Array, "n h w 3"], Int[Array, " n"]]:
  """Images and classes by number, one at a time, so that only their own outline is computed."""

  def draw_numbered(number: Int[Array, ""]) -> tuple[Float[Array, "h w 3"], Int[Array, ""]]:
    for_order, for_image = jax.random.split(key)
    ten, place = jnp.divmod(number, len(NAMES))
    order = jax.random.permutation(jax.random.fold_in(for_order, ten), len(NAMES))
    return _draw_image(jax.random.fold_in(for_image, number), order[place], size), order[place]

  return jax.lax.map(draw_numbered, numbers)


def _draw_image(key: PRNGKey, label: Int[Array, ""], size: int) -> Float[Array, "h w 3"]:
  """One image of a class."""
  for_look, for_noise = jax.random.split(key)
  low, high = np.array(list(_RANGES.values()), np.float32).T
  look = _Look(*(low + (high - low) * jax.random.uniform(for_look, (len(low),))))
  side = size * _SUPERSAMPLING
  middles = (2 * jnp.arange(side) + 1) / side - 1
  points = jnp.stack(jnp.meshgrid(middles, middles), -1)
  inside = _cover(points, look, label, 2 / side)[..., None]
  ground, paint = _colours(points, look, label)
  image = look.brightness * (ground + inside * (paint - ground))
  image = image.reshape(size, _SUPERSAMPLING, size, _SUPERSAMPLING, 3).mean((1, 3))
  return jnp.clip(image + _NOISE * jax.random.normal(for_noise, image.shape), 0, 1)


def _cover(points: _Points, look: _Look, label: Int[Array, ""], softness: float) -> _Distances:
  """How much of each point the object covers, from 0 to 1, at its place, size and rotation."""
  angle = look.turn * jnp.array([kind.turn for kind in _KINDS.values()])[label]
  x, y = (points[..., 0] - look.right) / look.radius, (points[..., 1] - look.down) / look.radius
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  own = jnp.stack([cos * x + sin * y, cos * y - sin * x], -1)
  distances = jax.lax.switch(label, [kind.outline for kind in _KINDS.values()], own)
  return jnp.clip(0.5 - distances * look.radius / softness, 0, 1)


def _colours(
  points: _Points, look: _Look, label: Int[Array, ""]
) -> tuple[Float[Array, "h w 3"], Float[Array, "1 1 3"]]:
  """The ground's colours, a gradient, and the object's."""
  night = look.night < _NIGHTS
  own_hue = jnp.array([kind.hue for kind in _KINDS.values()])[label] + look.own_hue
  hue = jnp.where(look.loyalty < _LOYALTY, own_hue, look.any_hue)
  paint = _rgb(hue, look.strength, jnp.where(night, 0.7, 0.35) + 0.3 * look.shine)

  def ground_colour(hue, strength, shade):
    value = jnp.where(night, 0.4 * shade, 0.75 + 0.25 * shade)
    return _rgb(hue, strength * jnp.where(night, 0.7, 0.25), value)

  here = ground_colour(look.hue_here, look.strength_here, look.shade_here)
  there = ground_colour(look.hue_there, look.strength_there, look.shade_there)
  along = points[..., 0] * jnp.cos(look.slope) + points[..., 1] * jnp.sin(look.slope)
  share = jnp.clip(0.5 + 0.5 * along, 0, 1)[..., None]
  return here[None, None] + share * (there - here)[None, None], paint[None, None]


def _rgb(hue: Float[Array, ""], strength: Array, value: Array) -> Float[Array, " 3"]:
  """Red, green and blue of a hue, saturation and value: https://en.wikipedia.org/wiki/HSL_and_HSV."""
  place = (jnp.array([5.0, 3.0, 1.0]) + 6 * hue) % 6
  return value * (1 - strength * jnp.clip(jnp.minimum(place, 4 - place), 0, 1))
