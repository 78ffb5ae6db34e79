"""Faces drawn from a seed: a stand-in for the AT&T faces that needs no file and shows nobody.

One image is a pure function of a `Person` and a `View`, from the pixel grid to shades of grey. The
head is a stack of circles, each as wide as the face is at its height, so that turning it has a
closed form; the features are relief and colour on that surface, and light falls on normals taken
from the depth. Lengths are in half image heights, x to the right and y down from the middle of the
head; shades run from 0, black, to 1, white; angles are in radians.
"""

import math
from collections import namedtuple
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

# What stays the same in all images of a person: (low, high) of an even draw. What only some have,
# as a beard, is drawn from a range that is in part below 0.
# fmt: off
PERSON_RANGES = {
  "woman": (-0.6, 0.4), "age": (0, 1), "skin": (0.45, 0.85), "mirth": (-0.1, 0.6),
  "width": (0.50, 0.60), "crown": (0.80, 0.90), "chin": (0.68, 0.82), "jaw": (2.1, 3.2),
  "taper": (0.05, 0.33),
  "cheeks": (-0.02, 0.06), "ears": (0.02, 0.09), "neck": (0.34, 0.44),
  "hair": (0.04, 0.36), "hairline": (-0.66, -0.46), "temples": (-0.05, 0.15), "bald": (-1, 0.25),
  "fringe": (-0.2, 0.25), "parting": (-0.35, 0.35), "volume": (0.03, 0.16), "sides": (0, 0.1),
  "length": (0, 1),
  "curls": (-0.3, 0.9), "strands": (0, 2), "beard": (-1.6, 1), "moustache": (-1.5, 1),
  "brow_height": (0.13, 0.19), "brow_thickness": (0.016, 0.036), "brow_slant": (-0.12, 0.22),
  "eye_y": (-0.15, -0.07), "eye_distance": (0.215, 0.27), "eye_width": (0.095, 0.125),
  "eye_opening": (0.032, 0.056), "iris": (0.05, 0.35),
  "nose_y": (0.26, 0.37), "nose_width": (0.07, 0.115), "nose_depth": (0.10, 0.22),
  "mouth_y": (0.14, 0.20), "mouth_width": (0.17, 0.25), "lips": (0.02, 0.05),
  "glasses": (-2, 1), "frame_width": (0.14, 0.19), "frame_height": (0.09, 0.15),
  "frame_shade": (0.05, 0.5),
  "clothes": (0.03, 0.9), "collar": (-1, 1), "backdrop": (0.2, 0.62),
}
# What differs between a person's images: first the pose, then light, face and film.
POSE_RANGES = {
  "turn": (-0.3, 0.3), "nod": (-0.1, 0.1), "tilt": (-0.06, 0.06),
  "right": (-0.03, 0.03), "down": (-0.03, 0.03), "zoom": (-0.04, 0.04),
}
VIEW_RANGES = POSE_RANGES | {
  "light_right": (-0.4, 0.4), "light_down": (-0.7, -0.1), "ambient": (0.3, 0.5),
  "exposure": (0.95, 1.05),
  "gradient": (-0.06, 0.06), "smile": (-0.3, 0.5), "gape": (-1, 0.6), "brows": (-0.015, 0.03),
  "lids": (0.65, 1.1), "gaze": (-0.025, 0.025), "grain": (0, 100),
}
# fmt: on
Person = namedtuple("Person", PERSON_RANGES)
View = namedtuple("View", VIEW_RANGES)


def synthetic_faces(
  seed: int = 0,
  *,
  num_people: int = 40,
  images_per_person: int = 10,
  image_shape: tuple[int, int] = (112, 92),
  pose: float = 1.0,
) -> Dataset:
  """Draws a data set of faces.

  An image depends on the seed, on the person's number and on its own, and not on how many there
  are. Only what is drawn for the pose is scaled by `pose`.

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
  shape = (int(image_shape[0]), int(image_shape[1]))
  people = np.arange(num_people, dtype=np.int32)
  images = _draw_people(jax.random.key(seed), people, float(pose), images_per_person, shape)
  inputs = np.asarray(images).reshape(num_people * images_per_person, math.prod(shape))
  labels = np.repeat(people, images_per_person)
  return Dataset(inputs, labels, num_people, shape, tuple(f"person {i + 1}" for i in people))


def _check(num_people: int, images_per_person: int, shape: tuple[int, int], pose: float) -> None:
  """Raises InputError for what cannot be drawn."""
  if num_people < 2:
    raise InputError(f"num_people is {num_people}: classes need 2 people or more")
  if images_per_person < 1:
    raise InputError(f"images_per_person is {images_per_person}: give 1 or more")
  if len(shape) != 2 or min(shape) < 16:
    raise InputError(f"image_shape is {shape}: give (h, w) of 16 pixels or more each")
  if not 0 <= pose <= MAX_POSE:  # Nor is NaN.
    raise InputError(f"pose is {pose}: give a number from 0 to {MAX_POSE:g}")


@partial(jax.jit, static_argnums=(3, 4))
def _draw_people(
  key: PRNGKey, people: Int[Array, " k"], pose: Any, num_images: int, shape: tuple[int, int]
) -> Float[Array, "k i h w"]:
  """Draws the images of all people, one person at a time, which bounds the memory."""

  def draw_numbers(key: PRNGKey) -> Float[Array, " d"]:
    return jax.random.uniform(key, (len(PERSON_RANGES),))

  def draw_person(number: Int[Array, ""]) -> Float[Array, "i h w"]:
    key_of = partial(jax.random.fold_in, jax.random.fold_in(key, number))
    # Number 0 is for the person. A loop, as it compiles in a third of a vmap's time.
    draws = jax.lax.map(lambda i: draw_numbers(key_of(i)), jnp.arange(num_images + 1))
    person = _settle(_scale(Person, PERSON_RANGES, draws[0]))
    views = jax.vmap(partial(_scale, View, VIEW_RANGES))(draws[1:])
    return jax.vmap(lambda view: _photograph(person, view, pose, shape))(views)

  return jax.lax.map(draw_person, people)


def _scale(kind: type, ranges: dict, draws: Float[Array, " d"]) -> Any:
  """Takes numbers in [0, 1) to their ranges."""
  low, high = np.array(list(ranges.values()), np.float32).T
  return kind(*(low + (high - low) * draws[: len(low)]))


def _settle(p: Person) -> Person:
  """Makes the parts of a person go together, and heights count from the middle of the head."""
  woman, bald = p.woman > 0, (p.bald > 0) & (p.woman < 0)
  grey = jax.nn.relu(2 * p.age - 1) ** 2
  return p._replace(
    woman=1.0 * woman,
    width=p.width - 0.03 * woman,
    jaw=p.jaw - 0.4 * woman,
    brow_thickness=p.brow_thickness - 0.008 * woman,
    nose_y=p.eye_y + p.nose_y,
    mouth_y=p.eye_y + p.nose_y + p.mouth_y,
    curls=jax.nn.relu(p.curls),
    hair=p.hair + 0.3 * grey,
    hairline=jnp.where(bald, -1.3, p.hairline),
    volume=jnp.where(bald, 0.0, p.volume + 0.03 * woman),
    # Most men's hair ends at the ears; women's between the chin and below the image.
    length=jnp.where(woman, 0.5 + 0.7 * p.length, 0.25 * p.length**4),
    fringe=jnp.where(bald, 0.0, jax.nn.relu(p.fringe)),
    beard=jnp.where(woman, 0.0, jnp.maximum(p.beard, 0.12)),  # All men have a beard's shadow.
    moustache=jnp.where(woman, 0.0, jnp.maximum(p.moustache, p.beard)),
  )


def _photograph(person: Person, view: View, pose: Any, shape: tuple[int, int]) -> Image:
  """One image of a person."""
  view = view._replace(**{name: pose * getattr(view, name) for name in POSE_RANGES})
  view = view._replace(smile=view.smile + person.mirth)
  person = person._replace(mouth_width=person.mouth_width * (1 + 0.2 * view.smile))
  grid = _grid(tuple(n + 2 * MARGIN for n in shape))
  return jax.lax.clamp(0.0, _soften(_render(grid, person, view)) + _grain(shape, view), 1.0)


def _grain(shape: tuple[int, int], view: View) -> Image:
  """Noise of the film, evenly in -0.015..0.015: interleaved gradient noise (J. Jimenez, 2014)."""
  rows, columns = np.indices(shape, np.float32)
  mixed = 0.06711056 * columns + 0.00583715 * rows + view.grain
  mixed = 52.9829189 * (mixed - jnp.floor(mixed))
  return 0.03 * (mixed - jnp.floor(mixed) - 0.5)


# ---- One face, from back to front ----------------------------------------------------------------


class Surface(NamedTuple):
  """Where on the head each pixel looks."""

  u: Image  # To the right of the middle of the upright head, however it is turned.
  v: Image  # Below it.
  x: Image  # To the right of the nose, on the face; goes on growing beyond the ears.
  y: Image  # Below the middle of the head, on the face.
  depth: Image  # Towards the camera.
  outside: Image  # Distance from the head's outline, negative within.
  side: Image  # 0 in the middle of the face, 1 at the ears and beyond.


def _render(grid: tuple[Image, Image], person: Person, view: View) -> Image:
  """Paints backdrop, long hair, clothes, face, ears, hair and glasses over one another."""
  s = _turn(grid, person, view)
  strands = _strands(s, person)
  light = _normalise(view.light_right, view.light_down, 1.0)
  image = person.backdrop + view.gradient * (grid[0] - grid[1])
  mane, hair = _hair(s, strands, person, view)
  hair_shade = _hair_shade(s, strands, person, light)
  image = _over(image, mane, 0.6 * hair_shade)
  image = _dress(image, grid, person, view)
  image = _over(image, _inside(s.outside), _face(s, strands, person, view, light))
  image = _ears(image, s, person, view)
  image = _over(image, hair, hair_shade)
  return view.exposure * _glasses(image, s, person, view)


def _turn(grid: tuple[Image, Image], p: Person, view: View) -> Surface:
  """Finds the place on the head that each pixel shows."""
  zoom = 1 / (1.1 + view.zoom)
  x, y = zoom * (grid[0] - view.right), zoom * (grid[1] - view.down - 0.08)
  u, v = x + view.tilt * y, y - view.tilt * x  # Tilts are small.
  # Nodding moves what is in front, and not the outline.
  y = v - 0.5 * view.nod * jax.nn.relu(1 - (u / p.width) ** 2)
  is_low = y > 0
  drop = (jnp.abs(y) / jnp.where(is_low, p.chin, p.crown)) ** jnp.where(is_low, p.jaw, 2.3)
  face = p.width - p.width * p.taper * jax.nn.relu(y)
  face = face + p.cheeks * jnp.exp(-(((y - 0.2) / 0.25) ** 2))
  width = face * jnp.sqrt(jnp.maximum(1 - drop, 1e-3))
  # The chin lies before the neck, so that turning moves it as far as the nose.
  forward = 0.8 * (face - width) * is_low
  cos, sin = jnp.cos(view.turn), jnp.sin(view.turn)
  across = u - forward * sin
  depth = jnp.sqrt(jax.nn.relu(width**2 - across**2))
  x = across * cos - depth * sin
  behind = jax.nn.relu(-across * sin - depth * cos)
  outside = face * (jnp.sqrt((across / face) ** 2 + drop) - 1)
  side = jnp.minimum(jnp.abs(x) / width + 2 * behind, 1)
  return Surface(u, v, x + jnp.sign(x) * behind, y, depth + forward, outside, side)


def _face(s: Surface, strands: Image, p: Person, view: View, light: tuple) -> Image:
  """The skin with all that lies on it, lit."""
  # What stands out moves farther when the head turns: look it up where it would be.
  nose = _nose(s, p)
  s = s._replace(x=s.x - nose * view.turn, y=s.y - nose * view.nod)
  slope_x, slope_y = _slopes(0.8 * s.depth + _nose(s, p) + _relief(s, p))
  diffuse = _diffuse(_normalise(-slope_x, -slope_y, 1.0), light)
  skin = _mouth(_beard(_skin(s, p), s, strands, p), s, p, view)
  shade = _eyes(skin, s, p, view)
  return shade * (view.ambient + (1.05 - view.ambient) * diffuse + 0.12 * diffuse**16)


def _nose(s: Surface, p: Person) -> Image:
  """How far the nose stands out: a ridge that rises from between the eyes, and ends."""
  rise = jax.lax.clamp(0.0, (s.y - p.eye_y + 0.1) / (p.nose_y - p.eye_y + 0.1), 1.0)
  slender = s.x / (p.nose_width * (0.5 + 0.45 * rise))
  return p.nose_depth * rise * _inside(s.y - p.nose_y - 0.01, 0.13) * jnp.exp(-(slender**2))


def _relief(s: Surface, p: Person) -> Image:
  """How far the other features stand out from the round head."""
  # x, y, width, height, how far out
  table = [
    (p.nose_width * 0.8, p.nose_y - 0.01, 0.03, 0.045, 0.05),  # Wings of the nose.
    (p.eye_distance, p.eye_y, 0.13, 0.09, -0.06),  # Sockets.
    (p.eye_distance, p.eye_y, 0.075, 0.05, 0.05),  # Eyeballs.
    (p.eye_distance, p.eye_y - p.brow_height, 0.16, 0.05, 0.03),
    (0.36, 0.13, 0.14, 0.12, 0.05),  # Cheek bones.
    (0.0, p.mouth_y + 0.01, p.mouth_width * 0.8, 0.06, 0.045),
    (0.0, p.mouth_y + 0.11, 0.12, 0.035, -0.03),
    (0.0, p.chin - 0.1, 0.13, 0.09, 0.06),
    (p.mouth_width + 0.05, p.mouth_y - 0.04, 0.05, 0.1, -0.01 - 0.025 * p.age),  # Folds.
  ]
  return _lumps(jnp.abs(s.x), s.y, table)


def _skin(s: Surface, p: Person) -> Image:
  """The shade of the bare skin, before light falls on it."""
  # x, y, width, height, change of shade
  table = [
    (0.0, -0.4, 0.3, 0.2, 0.05),  # Forehead.
    (p.eye_distance, p.eye_y - 0.03, 0.13, 0.06, -0.16),
    (p.eye_distance - 0.03, p.eye_y + 0.09, 0.09, 0.03, -0.12 * p.age),  # Bags under the eyes.
    (0.45 * p.nose_width, p.nose_y + 0.01, 0.03, 0.016, -0.4),  # Nostrils.
    (0.0, p.mouth_y + 0.1, 0.12, 0.03, -0.12),
    (p.mouth_width, p.mouth_y, 0.03, 0.02, -0.25),
  ]
  return p.skin * (1 + _lumps(jnp.abs(s.x), s.y, table))


def _beard(skin: Image, s: Surface, strands: Image, p: Person) -> Image:
  """Adds beard and moustache."""
  x, height = jnp.abs(s.x), p.mouth_y - p.nose_y
  # Down from the ears, and around the mouth.
  top = p.mouth_y - 0.1 - 1.2 * jax.nn.relu(x - 0.3) + 0.1 * jnp.exp(-((x / 0.12) ** 2))
  beard = _inside(top - s.y + 0.02 * strands, 0.1)
  lip = jnp.abs(s.y - p.nose_y - 0.6 * height - 0.8 * x * x) - 0.3 * height
  moustache = _inside(jnp.maximum(lip, 0.4 * (x - p.mouth_width)) + 0.01 * strands, 0.05)
  cover = jnp.maximum(p.beard * beard, jax.nn.relu(p.moustache) * moustache)
  return _over(skin, cover, (p.hair + 0.03) * (1 + 0.25 * strands))


def _mouth(skin: Image, s: Surface, p: Person, view: View) -> Image:
  """Adds lips, teeth, and the dark between."""
  across = (s.x / p.mouth_width) ** 2
  taper, open_ = jax.nn.relu(1 - across), 0.045 * jax.nn.relu(view.gape)
  y = s.y - p.mouth_y + 0.1 * view.smile * across
  middle = y - open_ * taper
  lips = jnp.maximum(-y - p.lips * taper, y - (1.3 * p.lips + 2 * open_) * taper)
  skin = _over(skin, _inside(lips, 0.03) * (taper > 0), (0.66 - 0.08 * p.woman) * p.skin)
  gap = jnp.abs(middle) - (0.006 + open_) * taper
  skin = _over(skin, 0.8 * _inside(gap, 0.025) * (taper > 0), 0.1)
  teeth = jnp.maximum(jnp.abs(y - 0.6 * open_) - 0.6 * open_, 0.2 * (across - 0.5))
  return _over(skin, _inside(teeth, 0.02) * (open_ > 0.005), 0.7)


def _eyes(skin: Image, s: Surface, p: Person, view: View) -> Image:
  """Adds eyes and eyebrows; both at once, by the distance from the middle of the face."""
  x, y = jnp.abs(s.x) - p.eye_distance, s.y - p.eye_y
  taper = jax.nn.relu(1 - (x / p.eye_width) ** 2)
  opening = p.eye_opening * view.lids * (1 - 0.25 * view.smile)
  above = y + opening * taper
  gaze = x - jnp.sign(s.x) * view.gaze
  iris = jnp.hypot(gaze, y + 0.3 * opening)
  eye = _over(0.8, _inside(iris - 0.042, 0.02), p.iris)
  eye = _over(eye, _inside(iris - 0.02, 0.02), 0.03)
  glint = jnp.hypot(gaze - jnp.sign(s.x) * 0.015, y + 0.018 + 0.3 * opening)
  eye = _over(eye, 0.9 * _inside(glint - 0.008, 0.02), 1.2)
  white = _inside(jnp.maximum(-above, y - 0.6 * opening * taper), 0.02)
  skin = _over(skin, white * (taper > 0), eye)
  skin = _over(skin, 0.85 * _inside(jnp.abs(above) - 0.007, 0.025) * jnp.sqrt(taper), 0.12)
  along = (x + 0.01) / 0.15
  arch = -p.brow_height - view.brows - p.brow_slant * x + 0.035 * along**2
  brow = jnp.abs(y - arch) - p.brow_thickness * (1.1 - 0.5 * along)
  brow = _inside(jnp.maximum(brow, 0.15 * (jnp.abs(along) - 0.95)), 0.035)
  return _over(skin, 0.85 * brow, jnp.minimum(0.7 * p.hair + 0.05, 0.6 * p.skin))


def _strands(s: Surface, p: Person) -> Image:
  """A texture of hair in about -1..1: straight strands from the parting, or curls."""
  x, y = s.u - p.parting, s.v + p.crown + 0.3
  reach = jnp.hypot(x, y)
  a, b = _over(7 * x / reach, p.curls, 5 * s.x), _over(0.6 * reach, p.curls, 5 * s.y)
  # Waves that cross at irregular angles, of period 1; a parabola is as good as a sine here.
  waves = [a + 0.5 * b, 1.7 * a - 0.8 * b + 4 * p.strands, 2.6 * a + 0.3 * b + 9 * p.strands]
  return sum(8 * t * (0.5 - jnp.abs(t)) for t in (wave - jnp.round(wave) for wave in waves))


def _hair(s: Surface, strands: Image, p: Person, view: View) -> tuple[Image, Image]:
  """Where long hair falls behind the neck, and where hair covers the head."""
  is_long = p.length > 0.4
  wide = p.width + p.sides + 0.02 + 0.03 * is_long
  # A dome over the head, and straight down from it; the back of the head turns the other way.
  rise = jnp.minimum(s.v + 0.15, 0) / (p.crown + p.volume - 0.15)
  dome = wide * (jnp.hypot((s.u + 0.12 * view.turn) / wide, rise) - 1) + 0.01 * strands
  start = jnp.where(is_long, 0.62, 0.78)
  down = jax.nn.relu((s.side - start) / (0.97 - start)) ** 2
  front = p.hairline + p.fringe * (1 - s.side**2) + 0.25 * p.parting * s.x
  front = front - p.temples * jnp.exp(-(((s.side - 0.55) / 0.2) ** 2))
  edge = _over(front, jnp.minimum(down, 1), 0.02 + p.length)
  mane = jnp.maximum(dome, s.v - p.length) + 0.03 * strands
  hair = jnp.maximum(dome, s.y - edge + 0.015 * strands)
  return _inside(mane, 0.06) * is_long, _inside(hair, 0.05)


def _hair_shade(s: Surface, strands: Image, p: Person, light: tuple) -> Image:
  """The shade of hair, lit as a ball."""
  x, y = s.u / (p.width + 0.15), (s.v + 0.1) / (p.crown + 0.2)
  diffuse = _diffuse((x, y, jnp.sqrt(jnp.maximum(1 - x**2 - y**2, 0.05))), light)
  shade = p.hair * (0.45 + 0.7 * diffuse) + 0.12 * diffuse**8
  return shade * (1 + 0.17 * strands)


def _dress(image: Image, grid: tuple[Image, Image], p: Person, view: View) -> Image:
  """Adds neck and clothes, which stay upright."""
  u, v = jnp.abs(grid[0] - 0.7 * view.right), grid[1] - 0.5 * view.down
  wide = p.neck + 0.6 * jax.nn.relu(v - 0.7) ** 2
  chin_shadow = 0.45 + jax.lax.clamp(0.0, v - p.chin - 0.1, 0.4)
  neck = p.skin * chin_shadow * (1 - 0.5 * (u / wide) ** 2)
  image = _over(image, _inside(u - wide) * (v > 0), neck)
  opening = 1.05 - 0.4 * jax.nn.relu(p.collar) - 0.9 * jax.nn.relu(u - 0.1)
  cloth = _inside(jnp.maximum(0.7 + 0.35 * u, opening) - v)
  return _over(image, cloth, p.clothes * (1 - 0.5 * u**2))


def _ears(image: Image, s: Surface, p: Person, view: View) -> Image:
  """Adds the ears: turning hides the far one, and shows more of the near one."""
  away = jnp.sign(s.u) * view.turn
  x = jnp.abs(s.u) - (p.width + 0.35 * p.ears) * jnp.cos(view.turn) + 0.12 * away
  reach = jnp.hypot(x / (0.05 + 0.6 * p.ears + 0.1 * jax.nn.relu(-away)), (s.v - 0.03) / 0.17)
  shade = p.skin * (0.85 - 0.35 * jnp.exp(-12 * (reach - 0.45) ** 2))
  return _over(image, _inside(0.08 * (reach - 1), 0.03) * (away < 0.12), shade)


def _glasses(image: Image, s: Surface, p: Person, view: View) -> Image:
  """Adds glasses to those who wear them."""
  x, y = jnp.abs(s.x - 0.1 * view.turn), s.y - p.eye_y - 0.02
  lens = jnp.abs(x - p.eye_distance) - p.frame_width
  # Beside the lenses are the bridge and the temples: a bar that their insides interrupt.
  reach = ((lens / p.frame_width + 1) ** 4 + (y / p.frame_height) ** 4) ** 0.25 - 1
  rim = jnp.abs(reach) * p.frame_height - 0.008
  bar = jnp.maximum(jnp.abs(y + 0.045) - 0.01, -lens)
  frame = _inside(jnp.minimum(rim, bar), 0.025) * _inside(s.outside)
  image = _over(image, (p.glasses > 0) * 0.08 * _inside(reach), 0.9)
  return _over(image, (p.glasses > 0) * frame, p.frame_shade)


# ---- Paint and light -----------------------------------------------------------------------------


def _inside(distance: Image, blur: float = 0.027) -> Image:
  """1 where a distance is negative and 0 where it is positive; the step is as wide as `blur`."""
  return jax.lax.clamp(0.0, 0.5 - distance * (1 / blur), 1.0)


def _over(below: Any, cover: Any, above: Any) -> Image:
  """Paints `above` over `below` where `cover` is 1."""
  return below + cover * (above - below)


def _lumps(x: Image, y: Image, table: list) -> Image:
  """Sum of Gaussian lumps (x, y, width, height, factor)."""
  return sum(c * jnp.exp(-(((x - a) / w) ** 2 + ((y - b) / h) ** 2)) for a, b, w, h, c in table)


def _normalise(x: Any, y: Any, z: Any) -> tuple:
  """The vector at length 1."""
  scale = jax.lax.rsqrt(x**2 + y**2 + z**2)
  return x * scale, y * scale, z * scale


def _diffuse(normal: tuple, light: tuple) -> Image:
  """Lambert's law: the cosine of the angle at which light falls in, 0 from behind."""
  return jax.nn.relu(normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2])


def _spacing(shape: tuple[int, int]) -> float:
  """Side of a pixel: the largest frame of 112 by 92 inside the image is 2 high and 1.64 wide."""
  return 2 * max(1 / (shape[0] - 2 * MARGIN), 92 / 112 / (shape[1] - 2 * MARGIN))


def _grid(shape: tuple[int, int]) -> tuple[Image, Image]:
  """The pixels' coordinates, x and y."""
  y, x = np.indices(shape) - (np.array(shape)[:, None, None] - 1) / 2
  return jnp.float32(_spacing(shape) * x), jnp.float32(_spacing(shape) * y)


def _soften(image: Image) -> Float[Array, "_ _"]:
  """Blurs a little, as a lens does, and takes the margin away."""
  taps = np.exp(-(np.arange(-MARGIN, MARGIN + 1) ** 2) / (2 * 0.65**2))
  return _convolve(image, np.outer(taps, taps)[None] / taps.sum() ** 2, "VALID")[0]


def _slopes(depth: Image) -> Float[Array, "2 h w"]:
  """Central differences along x and y; wrong in the outermost pixels, which are margin."""
  difference = np.outer([0, 1, 0], [-0.5, 0, 0.5]) / _spacing(depth.shape)
  return _convolve(depth, np.stack([difference, difference.T]), "SAME")


def _convolve(image: Image, kernels: np.ndarray, padding: str) -> Float[Array, "j _ _"]:
  """The image through each kernel. Of shifted copies, each would be computed anew."""
  kernels = jnp.asarray(kernels[:, None], jnp.float32)
  return jax.lax.conv_general_dilated(
    image[None, None], kernels, (1, 1), padding, precision="highest"
  )[0]
