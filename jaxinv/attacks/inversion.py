"""What does a model take for a class? Projected gradient descent on the input of ONE model.

"Robust or Private?" (arXiv 1906.06449) inverts deep networks so: from a start that shows nothing,
the image is moved until the model is sure of the class. The priors, that an image be smooth and
that its features have the statistics of the training images', are those of Yin et al. 2020,
"Dreaming to Distill via Data-free Knowledge Transfer by Model Inversion" (arXiv 1912.08795).

Images are flat, row by row, in [0, 1]. Lengths are L2 norms over all values of an image: the same
change of every pixel is twice as long in an image of twice the height and width, and so should
`step_size`, `radius` and the like be. The recipes below are for 16 x 16 pixels of three colours;
`for_resolution` makes them suit others.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinv.errors import InputError
from jaxinv.types import PRNGKey

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


class Victim(NamedTuple):
  """What the attacker asks of a model, in evaluation: no image's loss depends on another image.

  Attributes:
    loss: of images and their target classes, each image's own loss, which is to be lowered.
    statistics: how far the features of a batch of images are from the running statistics of batch
      normalisation (Yin et al. 2020, equation 4); None where the model has none.
  """

  loss: Callable[[Float[Array, "i p"], Int[Array, " i"]], Float[Array, " i"]]
  statistics: Callable[[Float[Array, "i p"]], Float[Array, ""]] | None = None


def make_starts(
  key: PRNGKey,
  recipe: Inversion,
  mean_image: Float[Array, " p"] | None,
  num: int,
  image_shape: tuple[int, ...],
) -> Float[Array, "i p"]:
  """Images to start from: each its own draw, the same however many there are.

  Args:
    key: source of the noise.
    recipe: its `start` and `spread`.
    mean_image: a mean over images; None will do but for `mean`.
    num: images wanted, i.
    image_shape: (h, w) or (h, w, c), with p values in all.

  Returns:
    The images, in [0, 1].

  Raises:
    InputError: the start is `mean`, and there is no mean image.
  """
  if recipe.start == "mean" and mean_image is None:
    raise InputError("an inversion that starts at the mean image needs one: give mean_image")

  def draw(number):
    first, second = jax.random.split(jax.random.fold_in(key, number))
    shape = (math.prod(image_shape),)
    image = {
      "grey": lambda: jnp.full(shape, 0.5),
      "mean": lambda: mean_image,
      "noise": lambda: jax.random.uniform(first, shape),
    }[recipe.start]()
    return jnp.clip(image + recipe.spread * jax.random.normal(second, shape), 0.0, 1.0)

  return jax.vmap(draw)(jnp.arange(num))


def invert(
  victim: Victim,
  recipe: Inversion,
  starts: Float[Array, "i p"],
  labels: Int[Array, " i"],
  image_shape: tuple[int, ...],
  key: PRNGKey,
) -> tuple[Float[Array, "i p"], Float[Array, "t i"]]:
  """Moves each image until the model takes it for its class.

  A step goes against the gradient of loss + `total_variation` x the image's total variation +
  `statistics` x the batch's distance, and has a given length, whatever the gradient's; where the
  gradient is 0 or not finite the image stays. Then the image is brought back into the ball about
  its start, and into [0, 1]. At a coarse scale all of this is so of the image of blocks: its ball
  is about the start's own block means.

  Nothing of an image's result depends on the other images but through the prior of `statistics`,
  which is one of a batch: its draws come from the key and its place in the batch.

  Args:
    victim: the model.
    recipe: see `Inversion`; it is static, and `check` says whether it makes sense.
    starts: an image each to start from, in [0, 1]; see `make_starts`.
    labels: the class each is to be taken for.
    image_shape: (h, w) or (h, w, c), with p values in all.
    key: source of the jitter and the flips.

  Returns:
    The images, in [0, 1], and each image's loss before each step, as the model saw it then: one
    row a step, t = `steps` x number of scales. Priors are not counted in it.
  """
  places = jnp.arange(len(starts))
  average = partial(_block_means, recipe.scales, image_shape)

  def objective(images, keys):
    seen = jax.vmap(partial(_augment, recipe, image_shape))(images, keys)
    losses = victim.loss(seen, labels)
    return losses.sum() + _priors(victim, recipe, images, seen, image_shape), losses

  def step(images, schedule):
    number, scale, length = schedule
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, number)))(places)
    images = average(scale, images)
    gradient, losses = jax.grad(objective, has_aux=True)(images, keys)
    moved = images - length * jax.vmap(_unit)(average(scale, gradient))
    return jax.vmap(partial(_project, recipe.radius))(moved, average(scale, starts)), losses

  return jax.lax.scan(step, starts, _schedule(recipe))


def _schedule(recipe: Inversion) -> tuple[Int[np.ndarray, " t"], Any, Any]:
  """Of each step its number, the place of its scale in the recipe, and its length."""
  number = np.arange(recipe.steps * len(recipe.scales))
  scale, within = np.divmod(number, recipe.steps)
  return number, scale, np.float32(recipe.step_size * (1 - within / recipe.steps))


def _priors(
  victim: Victim, recipe: Inversion, images: Array, seen: Array, image_shape: tuple[int, ...]
) -> Float[Array, ""] | float:
  """The priors' part of a sum over images."""
  total = 0.0
  if recipe.total_variation:
    total += recipe.total_variation * total_variation(images, image_shape).sum()
  if recipe.statistics and victim.statistics is not None:
    # Times the number of images, as the losses are: a prior of a mean over images pulls at each
    # the less, the more there are.
    total += recipe.statistics * len(images) * victim.statistics(seen)
  return total


def _augment(
  recipe: Inversion, image_shape: tuple[int, ...], image: Float[Array, " p"], key: PRNGKey
) -> Float[Array, " p"]:
  """One image as the model sees it in one step."""
  shift, side = jax.random.split(key)
  image = image.reshape(image_shape)
  if recipe.jitter:
    by = jax.random.randint(shift, (2,), -recipe.jitter, recipe.jitter + 1)
    image = jnp.roll(image, by, axis=(0, 1))
  if recipe.flip:
    image = jnp.where(jax.random.bernoulli(side), image[:, ::-1], image)
  return image.reshape(-1)


def _block_means(
  scales: tuple[int, ...], image_shape: tuple[int, ...], place: Int[Array, ""], images: Array
) -> Float[Array, "i p"]:
  """Images, or gradients, averaged over the blocks of one of the scales.

  A gradient by the blocks' values, brought back to pixels, is that by the pixels so averaged, up
  to a factor that `_unit` takes out.
  """
  h, w = image_shape[:2]

  def averaged(size, images):
    blocks = images.reshape(len(images), h // size, size, w // size, size, -1)
    means = blocks.mean((2, 4), keepdims=True)
    return jnp.broadcast_to(means, blocks.shape).reshape(images.shape)

  if scales == (1,):
    return images
  return jax.lax.switch(place, [partial(averaged, size) for size in scales], images)


def _unit(gradient: Float[Array, " p"]) -> Float[Array, " p"]:
  """Scales to a length of 1; what is 0, or not finite, becomes 0."""
  # By the largest first, so that no square under- or overflows.
  largest = jnp.abs(gradient).max()
  usable = (largest > 0) & (largest < jnp.inf)
  scaled = jnp.where(usable, gradient / jnp.where(usable, largest, 1.0), 0.0)
  return scaled / jnp.where(usable, jnp.linalg.norm(scaled), 1.0)


def _project(
  radius: float, image: Float[Array, " p"], centre: Float[Array, " p"]
) -> Float[Array, " p"]:
  """Into the ball, and then into [0, 1], which leads no image out of a ball about one within."""
  away = image - centre
  length = jnp.linalg.norm(away)
  outside = length > radius
  back = centre + away * (radius / jnp.where(outside, length, 1.0))
  return jnp.clip(jnp.where(outside, back, image), 0.0, 1.0)


def total_variation(
  images: Float[Array, "i p"], image_shape: tuple[int, ...]
) -> Float[Array, " i"]:
  """Anisotropic total variation: the sum of |differences| of neighbours, down and to the right.

  Over all colours. Its derivative by a pixel is a whole number, and 0 where all are equal.

  Args:
    images: flat images.
    image_shape: (h, w) or (h, w, c).

  Returns:
    One sum an image, in the images' unit.
  """
  images = images.reshape(len(images), *image_shape)

  def total(differences):
    # Its derivative at 0 is 0; JAX's of `jnp.abs` is 1, and would draw a pattern on blocks.
    sizes = differences * jax.lax.stop_gradient(jnp.sign(differences))
    return sizes.reshape(len(images), -1).sum(1)

  return total(jnp.diff(images, axis=1)) + total(jnp.diff(images, axis=2))


def diversity(
  features: Float[Array, "i d"], labels: Int[Array, " i"], num_classes: int
) -> Float[Array, " k"]:
  """How much several images of a class differ: the mean of 1 - cosine over pairs of them.

  Features that are all 0 have no direction: they equal each other, and are at 1 from all others.

  Args:
    features: one row an image.
    labels: the class of each.
    num_classes: number of classes, k.

  Returns:
    One mean a class, from 0 (all alike) to 2; NaN for a class of fewer than two images.
  """
  directions = jax.vmap(_unit)(features)
  none = ~directions.any(1, keepdims=True)
  directions = jnp.concatenate([directions, none.astype(features.dtype)], axis=1)
  distances = 1 - jnp.matmul(directions, directions.T, precision="highest")
  distances = jnp.maximum(distances, 0.0) * (1 - jnp.eye(len(features)))
  members = jax.nn.one_hot(labels, num_classes, axis=0)
  totals = (jnp.matmul(members, distances, precision="highest") * members).sum(1)
  pairs = members.sum(1) * (members.sum(1) - 1)
  return jnp.where(pairs > 0, totals / jnp.where(pairs > 0, pairs, 1.0), jnp.nan)


def check(recipe: Inversion, image_shape: tuple[int, ...]) -> None:
  """Refuses what makes no sense, before anything is compiled.

  Args:
    recipe: the recipe.
    image_shape: (h, w) or (h, w, c) of the images it is for.

  Raises:
    InputError: a value is out of its range, or the scales do not suit the images.
  """
  if recipe.start not in STARTS:
    raise InputError(f"unknown start '{recipe.start}': choose from {', '.join(STARTS)}")
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
