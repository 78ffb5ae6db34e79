"""Paints one face: a pure function of a `Person` and a `View`, from the pixel grid to greys.

The head is a stack of circles, each as wide as the face is at its height, so that turning it has a
closed form; the features are relief and colour on that surface, and light falls on normals taken
from the depth. Units are those of `person`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinv.data.person import POSE_RANGES, Person, View

Image = Float[Array, "h w"]
MARGIN = 2  # Pixels rendered on each side beyond the image, for the blur.


def photograph(person: Person, view: View, pose: Any, shape: tuple[int, int]) -> Image:
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
