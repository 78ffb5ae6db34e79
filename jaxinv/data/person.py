"""People and views to draw: the ranges that synthetic faces are drawn from.

Lengths are in half image heights, x to the right and y down from the middle of the head; shades run
from 0, black, to 1, white; angles are in radians.
"""

from collections import namedtuple

import jax
import jax.numpy as jnp

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


def settle(p: Person) -> Person:
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
