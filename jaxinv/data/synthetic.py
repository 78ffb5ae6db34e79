"""Faces drawn from a seed: a stand-in for the AT&T faces that needs no file and shows nobody.

One image is a pure function of a `Person` and a `View`, from the pixel grid to shades of grey. The
head is a stack of circles, each as wide as the face is at its height, so that turning it has a
closed form; the features are relief and colour on that surface, and the light falls on normals
taken from the depth. Lengths are in half image heights, x to the right and y down, from the middle
of the head; shades run from 0, black, to 1, white.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinv.errors import InputError
from jaxinv.types import Dataset, PRNGKey

Image = Float[Array, "h w"]
MAX_POSE = 3.0
MARGIN = 2  # Pixels rendered on each side beyond the image, for the blur.


class Person(NamedTuple):
  """What stays the same in all images of a person: scalars, or (low, high) ranges to draw from.

  What only some people have, as a beard, is drawn from a range that is in part below 0.
  """

  # Who
  woman: Any = (-0.6, 0.4)
  age: Any = (0.0, 1.0)
  skin: Any = (0.45, 0.85)
  # Head
  width: Any = (0.50, 0.60)
  crown: Any = (0.80, 0.90)
  chin: Any = (0.68, 0.82)
  jaw: Any = (2.1, 3.2)
  taper: Any = (0.1, 0.45)
  cheeks: Any = (-0.02, 0.06)
  ears: Any = (0.02, 0.09)
  # Hair
  hair: Any = (0.04, 0.36)
  hairline: Any = (-0.66, -0.46)
  temples: Any = (-0.05, 0.15)
  bald: Any = (-1.0, 0.25)
  fringe: Any = (-0.2, 0.25)
  parting: Any = (-0.35, 0.35)
  volume: Any = (0.03, 0.16)
  sides: Any = (0.0, 0.10)
  length: Any = (0.0, 1.0)
  curls: Any = (-0.3, 0.9)
  beard: Any = (-1.2, 1.0)
  moustache: Any = (-1.5, 1.0)
  # Features
  brow_height: Any = (0.13, 0.19)
  brow_thickness: Any = (0.016, 0.036)
  brow_slant: Any = (-0.12, 0.22)
  eye_height: Any = (-0.15, -0.07)
  eye_distance: Any = (0.215, 0.27)
  eye_width: Any = (0.095, 0.125)
  eye_opening: Any = (0.032, 0.056)
  iris: Any = (0.05, 0.35)
  nose_length: Any = (0.26, 0.37)
  nose_width: Any = (0.07, 0.115)
  nose_depth: Any = (0.10, 0.22)
  mouth_height: Any = (0.14, 0.20)
  mouth_width: Any = (0.17, 0.25)
  lips: Any = (0.02, 0.05)
  # What people wear, and how they are
  glasses: Any = (-2.0, 1.0)
  frame_width: Any = (0.14, 0.19)
  frame_height: Any = (0.09, 0.15)
  frame_shade: Any = (0.05, 0.5)
  neck: Any = (0.34, 0.44)
  clothes: Any = (0.03, 0.9)
  collar: Any = (-1.0, 1.0)
  backdrop: Any = (0.2, 0.62)
  mirth: Any = (-0.1, 0.6)
  phase: Any = (0.0, 2 * math.pi)


class View(NamedTuple):
  """What differs between a person's images: scalars, or (low, high) ranges; angles in radians."""

  turn: Any = (-0.3, 0.3)
  nod: Any = (-0.1, 0.1)
  tilt: Any = (-0.06, 0.06)
  right: Any = (-0.03, 0.03)
  down: Any = (-0.03, 0.03)
  zoom: Any = (-0.04, 0.04)
  light_right: Any = (-0.4, 0.4)
  light_down: Any = (-0.7, -0.1)
  ambient: Any = (0.3, 0.5)
  exposure: Any = (0.95, 1.05)
  gradient: Any = (-0.06, 0.06)
  smile: Any = (-0.3, 0.5)
  gape: Any = (-1.0, 0.6)
  brows: Any = (-0.015, 0.03)
  lids: Any = (0.65, 1.15)
  gaze: Any = (-0.025, 0.025)


POSE = ("turn", "nod", "tilt", "right", "down", "zoom")


class Surface(NamedTuple):
  """Where on the head each pixel looks.

  Attributes:
    u: to the right of the head's middle, upright, before it is turned.
    v: below it.
    x: to the right of the nose on the face; beyond the ears it goes on growing.
    y: below the head's middle on the face.
    depth: towards the camera.
    outside: distance from the head's outline, negative within.
    side: 0 in the middle of the face, 1 at the ears and beyond.
  """

  u: Image
  v: Image
  x: Image
  y: Image
  depth: Image
  outside: Image
  side: Image


def synthetic_faces(
  seed: int = 0,
  *,
  num_people: int = 40,
  images_per_person: int = 10,
  image_shape: tuple[int, int] = (112, 92),
  pose: float = 1.0,
) -> Dataset:
  """Draws a data set of faces.

  A person's images depend on the seed and on the person's number, not on how many others there
  are; each on its own number too. The numbers drawn for a pose are scaled by `pose`.

  Args:
    seed: decides the draw.
    num_people: number of people, k.
    images_per_person: number of images of each.
    image_shape: (h, w) in pixels.
    pose: scale of turning, nodding, tilting, shifts and zoom, from 0, all frontal, to 3.

  Returns:
    The data set, person by person; inputs are float32 in [0, 1].

  Raises:
    InputError: an argument is out of its range.
  """
  _check(num_people, images_per_person, image_shape, pose)
  people = np.arange(num_people)
  images = _draw_people(jax.random.key(seed), people, pose, images_per_person, tuple(image_shape))
  inputs = np.asarray(images).reshape(num_people * images_per_person, math.prod(image_shape))
  labels = np.repeat(np.arange(num_people, dtype=np.int32), images_per_person)
  names = tuple(f"person {i + 1}" for i in range(num_people))
  return Dataset(inputs, labels, num_people, tuple(image_shape), names)


def _check(num_people: int, images_per_person: int, shape: tuple[int, int], pose: float) -> None:
  """Raises InputError for what cannot be drawn."""
  if num_people < 2:
    raise InputError(f"num_people is {num_people}: classes need 2 people or more")
  if images_per_person < 1:
    raise InputError(f"images_per_person is {images_per_person}: give 1 or more")
  if len(shape) != 2 or min(shape) < 16:
    raise InputError(f"image_shape is {shape}: give (h, w) of 16 pixels or more each")
  if not 0 <= pose <= MAX_POSE:
    raise InputError(f"pose is {pose}: give a number from 0 to {MAX_POSE:g}")


@partial(jax.jit, static_argnums=(3, 4))
def _draw_people(
  key: PRNGKey, people: Int[Array, " k"], pose: Any, num_images: int, shape: tuple[int, int]
) -> Float[Array, "k i h w"]:
  """Draws the images of all people, one person at a time, which bounds the memory."""

  def draw_person(number: Int[Array, ""]) -> Float[Array, "i h w"]:
    person_key = jax.random.fold_in(key, number)
    # Number 0 is the person, the others the views. A loop, as it compiles in half the time.
    draw = lambda i: jax.random.uniform(jax.random.fold_in(person_key, i), (len(Person._fields),))
    draws = jax.lax.map(draw, jnp.arange(num_images + 1))
    person = _settle(_scale(Person(), draws[0]))
    return jax.vmap(lambda draw: _photograph(person, _scale(View(), draw), pose, shape))(draws[1:])

  return jax.lax.map(draw_person, people)


def _scale(ranges: Any, draws: Float[Array, " d"]) -> Any:
  """Takes numbers from [0, 1) to the ranges, (low, high), of a Person or a View."""
  low, high = np.array(ranges, np.float32).T
  return type(ranges)(*(low + (high - low) * draws[: len(low)]))


def _settle(person: Person) -> Person:
  """Makes the parts of a person go together: who is a woman, or old."""
  woman = person.woman > 0
  old = jnp.clip(2 * person.age - 1, 0, 1)
  bald = jnp.where(woman, 0, jnp.maximum(person.bald, 0))
  return person._replace(
    width=person.width - 0.03 * woman,
    jaw=person.jaw - 0.4 * woman,
    brow_thickness=person.brow_thickness - 0.008 * woman,
    lips=person.lips + 0.01 * woman,
    curls=jnp.clip(person.curls, 0, 1),
    hair=jnp.clip(person.hair + 0.4 * old**2, 0, 0.6),
    hairline=jnp.where(bald > 0, -1.3, person.hairline - 0.1 * old * (1 - woman)),
    volume=jnp.where(bald > 0, 0.0, person.volume + 0.03 * woman),
    sides=jnp.where(bald > 0, 0.02, person.sides),
    # Most men's hair ends at the ears; women's between the chin and below the image.
    length=jnp.where(woman, 0.5 + 0.7 * person.length, 0.25 * person.length**4),
    fringe=jnp.where(bald > 0, 0, jnp.maximum(person.fringe, 0)),
    beard=jnp.where(woman, 0, jnp.clip(person.beard, 0, 1)),
    moustache=jnp.where(woman, 0, jnp.clip(person.moustache + jnp.maximum(person.beard, 0), 0, 1)),
    glasses=1.0 * (person.glasses > 0),
  )


def _photograph(person: Person, view: View, pose: Any, shape: tuple[int, int]) -> Image:
  """One image of a person."""
  view = view._replace(**{name: pose * getattr(view, name) for name in POSE})
  return jax.lax.clamp(0.0, _soften(_render(_grid(shape), person, view)) + _grain(shape, view), 1.0)


def _grain(shape: tuple[int, int], view: View) -> Image:
  """Noise of film, evenly in -0.02..0.02: interleaved gradient noise (J. Jimenez, 2014)."""
  row, column = jnp.arange(shape[0]) + 97 * view.gaze, jnp.arange(shape[1]) + 31 * view.lids
  mixed = 0.06711056 * column + 0.00583715 * row[:, None]
  mixed = 52.9829189 * (mixed - jnp.floor(mixed))
  return 0.04 * (mixed - jnp.floor(mixed) - 0.5)


def _spacing(shape: tuple[int, int]) -> float:
  """Side of a pixel: the largest frame of 112 by 92 inside the image is 2 high and 1.64 wide."""
  height, width = (n - 2 * MARGIN for n in shape)
  return 2 * max(1 / height, 92 / 112 / width)


def _grid(shape: tuple[int, int]) -> tuple[Image, Image]:
  """Coordinates of the pixels, x and y, with those of the margin."""
  shape = tuple(n + 2 * MARGIN for n in shape)
  rows, columns = (_spacing(shape) * (np.arange(n) - (n - 1) / 2) for n in shape)
  return tuple(map(jnp.float32, np.meshgrid(columns, rows)))


def _render(grid: tuple[Image, Image], person: Person, view: View) -> Image:
  """Paints from back to front."""
  surface = _turn(grid, person, view)
  light = _normalise(view.light_right, view.light_down, 1.0)
  strands = _strands(surface, person)
  image = person.backdrop + view.gradient * (grid[0] - grid[1])
  hair = _hair_shade(surface, strands, person, view, light)
  image = _over(image, _mane(surface, strands, person), 0.6 * hair)
  image = _dress(image, grid, person, view)
  skin = _face(surface, strands, person, view, light)
  image = _over(image, _inside(surface.outside), skin)
  image = _ears(image, surface, person, view)
  image = _over(image, _hair(surface, strands, person, view), hair)
  image = _glasses(image, surface, person, view)
  return view.exposure * image


def _turn(grid: tuple[Image, Image], person: Person, view: View) -> Surface:
  """Finds the place on the head that each pixel shows."""
  zoom = 1 / (1.1 + view.zoom)
  x, y = zoom * (grid[0] - view.right), zoom * (grid[1] - view.down - 0.08)
  cos, sin = jnp.cos(view.tilt), jnp.sin(view.tilt)
  u, v = cos * x + sin * y, cos * y - sin * x
  # Nodding moves what is in front, and not the outline.
  front = jnp.clip(1 - (u / person.width) ** 2, 0, 1)
  y = v - 0.5 * front * jnp.sin(view.nod)
  reach = jnp.where(y < 0, -person.crown, person.chin)
  power = jnp.where(y < 0, 2.3, person.jaw)
  drop = jnp.clip(y / reach, 0, 2) ** power
  cheeks = person.width * (1 - person.taper * jnp.maximum(y, 0)) + person.cheeks * jnp.exp(
    -(((y - 0.2) / 0.25) ** 2)
  )
  width = cheeks * jnp.sqrt(jnp.maximum(1 - drop, 1e-3))
  # The chin lies before the neck, so that turning moves it as far as the nose.
  forward = 0.8 * (cheeks - width) * (y > 0)
  u_slice = u - forward * jnp.sin(view.turn)
  depth = jnp.sqrt(jnp.maximum(width**2 - u_slice**2, 0))
  x = u_slice * jnp.cos(view.turn) - depth * jnp.sin(view.turn)
  behind = jnp.maximum(-u_slice * jnp.sin(view.turn) - depth * jnp.cos(view.turn), 0)
  side = jnp.abs(x) / width + 2 * behind
  outside = cheeks * (jnp.sqrt((u_slice / cheeks) ** 2 + drop) - 1)
  return Surface(u, v, x + jnp.sign(x) * behind, y, depth + forward, outside, jnp.minimum(side, 1))


def _face(s: Surface, strands: Image, person: Person, view: View, light: tuple) -> Image:
  """The skin with all that lies on it, lit."""
  # What stands out moves farther when the head turns: look it up where it would be.
  nose = _nose(s.x, s.y, person)
  s = s._replace(x=s.x - nose * jnp.sin(view.turn), y=s.y - nose * jnp.sin(view.nod))
  height = _relief(s, person, view)
  slope_x, slope_y = _slopes(0.8 * s.depth + height)
  normal = _normalise(-slope_x, -slope_y, 1.0)
  diffuse = jnp.maximum(sum(a * b for a, b in zip(normal, light, strict=True)), 0)
  shine = 0.12 * diffuse**16
  shade = _colour(s, strands, person, view)
  return shade * (view.ambient + (1.05 - view.ambient) * diffuse + shine)


def _nose(x: Image, y: Image, person: Person) -> Image:
  """How far the nose stands out: a ridge that rises from between the eyes, and ends."""
  rise = jax.lax.clamp(0.0, (y - person.eye_height + 0.1) / (person.nose_length + 0.1), 1.0)
  slender = x / (person.nose_width * (0.5 + 0.45 * rise))
  end = _inside(y - person.eye_height - person.nose_length - 0.01, 0.13)
  return person.nose_depth * rise * end * jnp.exp(-slender * slender)


def _relief(s: Surface, person: Person, view: View) -> Image:
  """How far the features stand out from the round head."""
  p, mouth_y, wide = person, _mouth_y(person), _corner(person, view)
  # x, y, width, height, how far out
  table = [
    (p.nose_width * 0.8, mouth_y - p.mouth_height - 0.01, 0.03, 0.045, 0.05),  # wings of the nose
    (p.eye_distance, p.eye_height, 0.13, 0.09, -0.06),  # sockets
    (p.eye_distance, p.eye_height, 0.075, 0.05, 0.05),  # eyeballs
    (p.eye_distance, p.eye_height - p.brow_height, 0.16, 0.05, 0.03),
    (0.36, 0.13, 0.14, 0.12, 0.05),  # cheek bones
    (0.0, mouth_y + 0.01, wide * 0.8, 0.06, 0.045),  # lips
    (0.0, mouth_y + 0.11, 0.12, 0.035, -0.03),
    (0.0, p.chin - 0.1, 0.13, 0.09, 0.06),  # chin
    (wide + 0.05, mouth_y - 0.04, 0.05, 0.1, -0.01 - 0.025 * p.age),  # folds
  ]
  return _nose(s.x, s.y, p) + _lumps(jnp.abs(s.x), s.y, table)


def _colour(s: Surface, strands: Image, person: Person, view: View) -> Image:
  """The shade of the skin, and of what grows or is painted on it, before light falls on it."""
  p, x = person, jnp.abs(s.x)
  nose_y, mouth_y = p.eye_height + p.nose_length, _mouth_y(p)
  wide = _corner(p, view)
  tone = _lumps(
    x,
    s.y,
    # x, y, width, height, change of shade
    [
      (0.0, -0.4, 0.3, 0.2, 0.05),  # forehead
      (p.eye_distance, p.eye_height - 0.03, 0.13, 0.06, -0.16),
      (p.eye_distance - 0.03, p.eye_height + 0.09, 0.09, 0.03, -0.12 * p.age),
      (0.45 * p.nose_width, nose_y + 0.01, 0.03, 0.016, -0.4),  # nostrils
      (0.0, mouth_y + 0.1, 0.12, 0.03, -0.12),
      (wide, mouth_y, 0.03, 0.02, -0.25),
    ],
  )
  skin = p.skin * (1 + tone)
  skin = _beard(skin, s, strands, p)
  skin = _mouth(skin, s, p, view)
  return _eyes(skin, s, p, view)


def _beard(skin: Image, s: Surface, strands: Image, person: Person) -> Image:
  """Adds beard, moustache or the shadow of a shave."""
  p, x = person, jnp.abs(s.x)
  nose_y, mouth_y = p.eye_height + p.nose_length, _mouth_y(p)
  edge = 0.02 * strands
  cheek = mouth_y - 0.1 - 1.2 * jnp.maximum(x - 0.3, 0) + 0.1 * jnp.exp(-((x / 0.12) ** 2))
  beard = _inside(cheek - s.y + edge, 0.1)
  lip = jnp.abs(s.y - nose_y - 0.6 * p.mouth_height - 0.8 * x * x) - 0.3 * p.mouth_height
  moustache = _inside(jnp.maximum(lip, 0.4 * (x - p.mouth_width)) + 0.5 * edge, 0.05)
  shadow = 0.12 * (p.woman < 0)
  dark = jnp.maximum(jnp.maximum(p.beard, shadow) * beard, p.moustache * moustache)
  return _over(skin, dark, (p.hair + 0.03) * (1 + 0.25 * strands))


def _mouth(skin: Image, s: Surface, person: Person, view: View) -> Image:
  """Adds lips, teeth, and the dark between."""
  wide = _corner(person, view)
  across = s.x / wide
  gape = 0.09 * jnp.maximum(view.gape, 0)
  y = s.y - _mouth_y(person) + 0.10 * jnp.maximum(_smile(person, view), -0.1) * across**2
  taper = jnp.maximum(1 - across**2, 0)
  upper = jnp.maximum(-y - person.lips * taper, y - 0.3 * gape * taper)
  lower = jnp.maximum(y - (1.3 * person.lips + gape) * taper, -y)
  red = 0.66 - 0.08 * (person.woman > 0)
  skin = _over(skin, _inside(jnp.minimum(upper, lower), 0.03) * (taper > 0), red * person.skin)
  line = jnp.abs(y - 0.5 * gape * taper) - (0.006 + 0.5 * gape) * taper
  skin = _over(skin, 0.8 * _inside(line, 0.025) * (taper > 0), 0.1)
  teeth = jnp.maximum(jnp.abs(y - 0.3 * gape) - 0.3 * gape, jnp.abs(across) - 0.75)
  return _over(skin, _inside(teeth, 0.02) * (gape > 0.01), 0.7)


def _eyes(skin: Image, s: Surface, person: Person, view: View) -> Image:
  """Adds eyes and eyebrows; both at once, by the distance from the middle of the face."""
  p, hand = person, jnp.sign(s.x)
  x, y = jnp.abs(s.x) - p.eye_distance, s.y - p.eye_height
  taper = jnp.maximum(1 - (x / p.eye_width) ** 2, 0)
  opening = p.eye_opening * jnp.minimum(view.lids, 1.1) * (1 - 0.25 * _smile(p, view))
  upper, lower = -opening * taper, 0.6 * opening * taper
  white = _inside(jnp.maximum(upper - y, y - lower), 0.02) * (taper > 0)
  iris = jnp.hypot(x - hand * view.gaze, y + 0.3 * opening)
  eye = _over(0.8, _inside(iris - 0.042, 0.02), p.iris)
  eye = _over(eye, _inside(iris - 0.02, 0.02), 0.03)
  glint = jnp.hypot(x - hand * (view.gaze + 0.015), y + 0.018 + 0.3 * opening)
  eye = _over(eye, 0.9 * _inside(glint - 0.008, 0.02), 1.2)
  skin = _over(skin, white, eye)
  lash = _inside(jnp.abs(y - upper) - 0.007, 0.025) * jnp.sqrt(taper)
  skin = _over(skin, 0.85 * lash, 0.12)
  crease = _inside(jnp.abs(y - upper + 0.035) - 0.002, 0.03) * taper
  skin = _over(skin, 0.35 * crease, 0.5 * p.skin)
  along = (x + 0.01) / 0.15
  arch = -p.brow_height - view.brows - p.brow_slant * x + 0.035 * along**2
  brow = jnp.abs(y - arch) - p.brow_thickness * (1.1 - 0.5 * along) * (jnp.abs(along) < 1.1)
  brow = jnp.maximum(brow, 0.15 * (jnp.abs(along) - 0.95))
  return _over(skin, 0.85 * _inside(brow, 0.035), jnp.minimum(0.7 * p.hair + 0.05, 0.6 * p.skin))


def _strands(s: Surface, person: Person) -> Image:
  """A texture of hair in -1..1: straight strands from the parting, or curls."""
  turned = s.u - person.parting
  reach = jnp.hypot(turned, s.v + person.crown + 0.3)
  a = _over(7 * turned / reach, person.curls, 5 * s.x)
  b = _over(0.6 * reach, person.curls, 5 * s.y)
  return _waves(a, b, person.phase)


def _hair_line(s: Surface, strands: Image, person: Person) -> Image:
  """How far above the lower edge of the hair each pixel is, negative within the hair."""
  p = person
  end = 0.02 + p.length
  start = jnp.where(p.length > 0.4, 0.62, 0.78)
  drop = jnp.clip((s.side - start) / (0.97 - start), 0, 1) ** 2
  temple = -p.temples * jnp.exp(-(((s.side - 0.55) / 0.2) ** 2))
  front = p.hairline + p.fringe * (1 - s.side**2) + 0.25 * p.parting * s.x + temple
  edge = front + drop * (end - front)
  return s.y - edge + 0.015 * strands


def _cap(s: Surface, strands: Image, person: Person, view: View) -> Image:
  """Distance from the outline of the hair: a dome over the head, and straight down from it."""
  p = person
  back = s.u + 0.12 * jnp.sin(view.turn)
  wide = p.width + p.sides + 0.02 + 0.03 * (p.length > 0.4)
  rise = jnp.minimum(s.v + 0.15, 0) / (p.crown + p.volume - 0.15)
  return wide * (jnp.sqrt((back / wide) ** 2 + rise**2) - 1) + 0.01 * strands


def _hair(s: Surface, strands: Image, person: Person, view: View) -> Image:
  """Where hair covers the head."""
  outline = _cap(s, strands, person, view)
  return _inside(jnp.maximum(outline, _hair_line(s, strands, person)), 0.05)


def _mane(s: Surface, strands: Image, person: Person) -> Image:
  """Where long hair falls behind the neck."""
  wide = person.width + person.sides + 0.02
  end = jnp.maximum(jnp.abs(s.u) - wide, s.v - person.length)
  return _inside(end + 0.03 * strands, 0.06) * (person.length > 0.4) * (s.v > -0.15)


def _hair_shade(s: Surface, strands: Image, person: Person, view: View, light: tuple) -> Image:
  """The shade of hair, lit as a ball."""
  nx, ny = s.u / (person.width + 0.15), (s.v + 0.1) / (person.crown + 0.2)
  nz = jnp.sqrt(jnp.maximum(1 - nx**2 - ny**2, 0.05))
  diffuse = jnp.maximum(sum(a * b for a, b in zip((nx, ny, nz), light, strict=True)), 0)
  texture = 1 + 0.17 * strands
  return texture * (person.hair * (0.45 + 0.7 * diffuse) + 0.12 * diffuse**8)


def _dress(image: Image, grid: tuple[Image, Image], person: Person, view: View) -> Image:
  """Adds neck and clothes, which stay upright."""
  u, v = jnp.abs(grid[0] - 0.7 * view.right), grid[1] - 0.5 * view.down
  wide = person.neck + 0.6 * jnp.maximum(v - 0.7, 0) ** 2
  round_ = jnp.sqrt(jnp.maximum(1 - (u / wide) ** 2, 0))
  under = 0.45 + 0.4 * jnp.clip((v - person.chin - 0.1) / 0.4, 0, 1)
  image = _over(image, _inside(u - wide) * (v > 0), person.skin * under * (0.5 + 0.5 * round_))
  shoulder = 0.70 + 0.35 * u
  opening = 1.05 - 0.4 * jnp.maximum(person.collar, 0) - 0.9 * jnp.maximum(u - 0.1, 0)
  edge = jnp.maximum(shoulder, opening) - v
  cloth = person.clothes * (0.75 + 0.25 * jnp.cos(2 * u))
  return _over(image, _inside(edge), cloth)


def _ears(image: Image, s: Surface, person: Person, view: View) -> Image:
  """Adds the ears: turning hides the far one, and shows the near one."""
  away = jnp.sign(s.u) * jnp.sin(view.turn)
  middle = (person.width + 0.35 * person.ears) * jnp.cos(view.turn) - 0.12 * away
  x = (jnp.abs(s.u) - middle) / (0.05 + 0.6 * person.ears + 0.1 * jnp.maximum(-away, 0))
  y = (s.v - 0.03) / 0.17
  reach = jnp.hypot(x, y)
  shade = person.skin * (0.85 - 0.35 * jnp.exp(-((reach - 0.45) ** 2) * 12))
  return _over(image, _inside(0.08 * (reach - 1), 0.03) * (away < 0.12), shade)


def _glasses(image: Image, s: Surface, person: Person, view: View) -> Image:
  """Adds glasses to those who wear them."""
  p = person
  x = s.x - 0.1 * jnp.sin(view.turn)
  y = s.y - p.eye_height - 0.02
  lens = jnp.abs(jnp.abs(x) - p.eye_distance) / p.frame_width
  reach = (lens**4 + (y / p.frame_height) ** 4) ** 0.25
  rim = jnp.abs(reach - 1) * p.frame_height - 0.008
  gap = jnp.maximum(jnp.abs(y + 0.04) - 0.01, jnp.abs(x) - p.eye_distance + p.frame_width)
  temple = jnp.maximum(jnp.abs(y + 0.05) - 0.01, p.eye_distance + p.frame_width - jnp.abs(x))
  frame = _inside(jnp.minimum(jnp.minimum(rim, gap), temple), 0.025)
  glass = _inside(reach - 1) * (0.06 + 0.1 * _inside(jnp.abs(lens - 0.5 + y * 4) - 0.2, 0.3))
  image = _over(image, p.glasses * glass, 0.9)
  return _over(image, p.glasses * frame * _inside(s.outside), p.frame_shade)


def _mouth_y(person: Person) -> Array:
  """Height of the line between the lips."""
  return person.eye_height + person.nose_length + person.mouth_height


def _smile(person: Person, view: View) -> Array:
  """How much the person smiles, from about -0.3 to 1."""
  return person.mirth + view.smile


def _corner(person: Person, view: View) -> Array:
  """Distance of the corners of the mouth from its middle."""
  return person.mouth_width * (1 + 0.2 * _smile(person, view))


def _inside(distance: Image, blur: float = 0.027) -> Image:
  """1 where a distance is negative and 0 where it is positive; the step is as wide as `blur`."""
  return jax.lax.clamp(0.0, 0.5 - distance * (1 / blur), 1.0)


def _over(below: Any, cover: Any, above: Any) -> Image:
  """Paints `above` over `below` where `cover` is 1."""
  return below + cover * (above - below)


def _lumps(x: Image, y: Image, table: list) -> Image:
  """Sum of Gaussian lumps, each (x, y, width, height, factor)."""
  return sum(
    factor * jnp.exp(-(((x - at_x) / wide) ** 2 + ((y - at_y) / high) ** 2))
    for at_x, at_y, wide, high, factor in table
  )


def _waves(a: Image, b: Image, phase: Array) -> Image:
  """Smooth noise in about -1..1, of waves that cross at irregular angles; lengths in turns."""
  table = [(1.0, 0.5, 1.0), (1.7, -0.8, 4.0), (2.6, 0.3, 9.0)]
  turns = [x * a + y * b + z * phase for x, y, z in table]
  parts = [t - jnp.round(t) for t in turns]
  return sum(t * (0.5 - jnp.abs(t)) for t in parts) * 8


def _normalise(x: Any, y: Any, z: Any) -> tuple:
  """The vector at length 1."""
  length = jnp.sqrt(x**2 + y**2 + z**2)
  return x / length, y / length, z / length


def _soften(image: Image) -> Image:
  """Blurs a little, as a lens does, and takes the margin away."""
  taps = np.exp(-(np.arange(-MARGIN, MARGIN + 1) ** 2) / (2 * 0.65**2))
  (blurred,) = _convolve(image, np.outer(taps, taps)[None] / taps.sum() ** 2, "VALID")
  return blurred


def _slopes(depth: Image) -> tuple[Image, Image]:
  """Central differences along x and y; wrong in the outermost pixels, which are margin."""
  difference = np.zeros((3, 3))
  difference[1] = np.array([-0.5, 0, 0.5]) / _spacing(depth.shape)
  return _convolve(depth, np.stack([difference, difference.T]), "SAME")


def _convolve(
  image: Image, kernels: Float[np.ndarray, "j a b"], padding: str
) -> Float[Array, "j h w"]:
  """The image seen through each kernel. Shifted copies would each compute the image anew."""
  kernels = jnp.asarray(kernels[:, None], jnp.float32)
  convolved = jax.lax.conv_general_dilated(
    image[None, None], kernels, (1, 1), padding, precision="highest"
  )
  return convolved[0]
