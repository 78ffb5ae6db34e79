"""The grammar of an inversion: `NAME` for a preset, or `NAME:key=value,key=value`."""

import math
import re
from collections.abc import Sequence
from typing import Any

from jaxinv.attacks import recipes
from jaxinv.attacks.recipes import INVERSIONS, STARTS, Inversion
from jaxinv.errors import InputError, choose, named

from .arms import Ranges, number, refuse_twins, split_arm

# The first two stand beside the inversions in summary.json. The others are arguments of
# `numpy.savez`, so that no array of a file can have their name.
_TAKEN = ("model", "diverged", "file", "allow_pickle")
_MOST_STEPS = 10**6
_WEIGHT = (lambda x: 0 <= x <= 1e9, "at least 0 and at most 1e9")
# Of each key: the numbers that make sense in any image, and that in words.
_RANGES: Ranges = {
  "steps": (
    lambda x: 1 <= x <= _MOST_STEPS and x == int(x),
    f"that is whole, from 1 to {_MOST_STEPS}",
  ),
  "step_size": (lambda x: 0 < x <= 1e9, "above 0 and at most 1e9"),
  "radius": (
    lambda x: 0 < x <= 1e9 or x == math.inf,
    "above 0 and at most 1e9, or inf for no ball",
  ),
  "total_variation": _WEIGHT,
  "statistics": _WEIGHT,
  "jitter": (lambda x: 0 <= x <= 1e9 and x == int(x), "that is whole and not negative"),
  "spread": _WEIGHT,
}
_FLIPS = {"true": True, "false": False}


def parse_inversions(texts: Sequence[str], image_shape: Sequence[int]) -> dict[str, Inversion]:
  """Parses inversions; see `parse_inversion`.

  Args:
    texts: one a flag.
    image_shape: height and width of the images in pixels, and perhaps their colours.

  Returns:
    The recipes by name, in order.

  Raises:
    InputError: what is wrong, in which inversion, and what would be right.
  """
  pairs = [parse_inversion(text, image_shape) for text in texts]
  refuse_twins([name for name, _ in pairs], "inversion")
  return dict(pairs)


def parse_inversion(text: str, image_shape: Sequence[int]) -> tuple[str, Inversion]:
  """Parses one inversion, `NAME` or `NAME:key=value,key=value`.

  What is not given is that of the preset of this name, else that of `pgd`, made to suit the
  resolution. What is given is taken as it is.

  Args:
    text: what was given.
    image_shape: height and width of the images in pixels, and perhaps their colours.

  Returns:
    The name and the recipe, which suits such images.

  Raises:
    InputError: what is wrong, in which inversion, and what would be right.
  """
  name, values = split_arm(text, Inversion._fields, "inversion")
  where = f"--inversion {name}"
  if name.lower() in _TAKEN:
    raise InputError(f"{where}: the results have another use for this name: give another")
  if name not in INVERSIONS and not values:
    raise InputError(
      f"{where}: there is no such preset: choose from {', '.join(INVERSIONS)}, or give a recipe of "
      f"your own as {name}:key=value with a key of {', '.join(Inversion._fields)}"
    )
  preset = INVERSIONS.get(name, INVERSIONS["pgd"])
  given = {key: _value(where, key, value) for key, value in values.items()}
  height, width = image_shape[:2]
  recipe = recipes.for_resolution(preset, round(math.sqrt(height * width)))._replace(**given)
  with named(where):
    recipes.check(recipe, (height, width))
  return name, recipe


def _value(where: str, key: str, text: str) -> Any:
  """What is given for a key, in the type of its field; raises InputError where it has none."""
  if key == "start":
    with named(where):
      choose("start", text, dict.fromkeys(STARTS))
    return text
  if key == "flip":
    if text not in _FLIPS:
      raise InputError(f"{where}: flip={text} is not valid: give true or false")
    return _FLIPS[text]
  if key == "scales":
    # Four digits are more than any image has pixels a side.
    if not re.fullmatch(r"[0-9]{1,4}(-[0-9]{1,4})*", text):
      raise InputError(f"{where}: scales={text} is not valid: give whole numbers, such as 4-2-1")
    return tuple(map(int, text.split("-")))
  value = number(where, key, text, _RANGES)
  return int(value) if key in ("steps", "jitter") else value
