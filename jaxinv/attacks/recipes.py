"""Recipes of `inversion`: presets by name, made to suit a resolution, and what is refused.

Lengths are L2 norms over all values of an image: the same change of every pixel is twice as long in
an image of twice the height and width, and so should `step_size`, `radius` and the like be. The
presets are for 16 x 16 pixels of three colours; `for_resolution` makes them suit others.
"""

import math
from itertools import pairwise
from typing import NamedTuple

from jaxinv.errors import InputError, choose

STARTS = ("grey", "mean", "noise")


class Inversion(NamedTuple):
  """A recipe. All of it is static: another recipe is another program.

  Attributes:
    start: `grey` is 0.5 everywhere, `mean` a given mean image, `noise` uniform in [0, 1].
    steps: steps taken at each scale.
    step_size: length of the first step of each scale; it falls linearly, towards 0 after the last.
    radius: of the L2 ball about the start that the image stays in; infinite for no ball.
    scales: from coarse to fine. At scale f the image is blocks of f x f equal pixels, and each
      scale begins where the former ended.
    total_variation: weight of `total_variation` beside the loss.
    statistics: weight of the batch normalisation prior beside the loss.
    jitter: pixels, at most, by which each step rolls the image the model sees, both ways.
    flip: whether each step mirrors that image, left to right, with probability 1/2.
    spread: standard deviation of the Gaussian noise on the start, by which restarts differ.
  """

  start: str = "mean"
  steps: int = 200
  step_size: float = 0.1
  radius: float = math.inf
  scales: tuple[int, ...] = (1,)
  total_variation: float = 0.0
  statistics: float = 0.0
  jitter: int = 0
  flip: bool = False
  spread: float = 0.05


# Tried on small residual networks, with and without an adversary, on real images, whose middle half
# lies 5 to 8 from their mean. From noise the way is longer. The ball of `coarse_to_fine` keeps the
# colours of robust networks from running away; standard ones never come to its edge.
INVERSIONS: dict[str, Inversion] = {
  "pgd": Inversion(),
  "pgd_grey": Inversion(start="grey"),
  "pgd_noise": Inversion(start="noise", step_size=0.2, spread=0.0),
  "ball": Inversion(radius=4.0),
  "coarse_to_fine": Inversion(scales=(4, 2, 1), steps=100, radius=6.0),
  "priors": Inversion(
    scales=(4, 2, 1), steps=100, total_variation=3e-4, statistics=0.01, jitter=1, flip=True
  ),
}


def for_resolution(recipe: Inversion, resolution: int) -> Inversion:
  """A recipe for images of 16 x 16 pixels, made to suit the same pictures drawn with more or fewer.

  With `scale` times as many pixels a side:
    - `step_size` and `radius` grow by `scale`: they are L2 norms over all values, of which there
      are scale² times as many.
    - `total_variation` is divided by `scale`: of each edge there are `scale` times as many pixels,
      with differences as large as before, and so the picture's total variation is `scale` times as
      large, while the loss is the same.
    - `jitter` grows by `scale`, to be the same share of the picture, rounded; it stays at least 1
      where there was any.
  The others stay: `spread` is of each pixel, `statistics` weighs a distance between features, which
  does not count pixels, and `scales` end at a single pixel and must divide the image, as `check`
  demands.

  Args:
    recipe: for 16 x 16 pixels, such as those of `INVERSIONS`.
    resolution: height and width wanted, in pixels.

  Returns:
    The recipe for that resolution; for 16, an equal one.
  """
  scale = resolution / 16
  return recipe._replace(
    step_size=recipe.step_size * scale,
    radius=recipe.radius * scale,
    total_variation=recipe.total_variation / scale,
    jitter=max(1, round(recipe.jitter * scale)) if recipe.jitter else 0,
  )


def check(recipe: Inversion, image_shape: tuple[int, ...]) -> None:
  """Refuses settings that are out of range, before anything is compiled.

  Args:
    recipe: the recipe.
    image_shape: (h, w) or (h, w, c) of the images it is for.

  Raises:
    InputError: a value is out of its range, or the scales do not suit the images.
  """
  choose("start", recipe.start, dict.fromkeys(STARTS))
  if recipe.steps < 1:
    raise InputError(f"an inversion takes at least 1 step, not {recipe.steps}")
  # Written so that NaN is refused too.
  if not 0 < recipe.step_size < math.inf:
    raise InputError(f"step_size is a finite length above 0, not {recipe.step_size}")
  if not recipe.radius > 0:
    raise InputError(f"radius is above 0, or infinite for no ball, not {recipe.radius}")
  for name in ("total_variation", "statistics", "spread"):
    value = getattr(recipe, name)
    if not 0 <= value < math.inf:
      raise InputError(f"{name} is a finite number, at least 0, not {value}")
  height, width = image_shape[:2]
  if not 0 <= recipe.jitter < min(height, width):
    raise InputError(
      f"jitter is from 0 to less than the image's {height} x {width} pixels, not {recipe.jitter}"
    )
  _check_scales(recipe.scales, height, width)


def _check_scales(scales: tuple[int, ...], height: int, width: int) -> None:
  """Refuses scales that are not coarse to fine, or whose blocks do not fill the image."""
  text = "-".join(map(str, scales))
  if not scales or scales[-1] != 1 or any(a <= b for a, b in pairwise(scales)):
    raise InputError(f"scales fall, and end at 1, such as 4-2-1; not '{text}'")
  for size in scales:
    if height % size or width % size:
      raise InputError(
        f"scales: blocks of {size} do not fill {height} x {width} pixels: "
        "choose divisors of both, such as 2-1"
      )
