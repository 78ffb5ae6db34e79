"""What does a model take for a class? Projected gradient descent on the input of ONE model.

"Robust or Private?" (arXiv 1906.06449) inverts deep networks so: from a start that shows nothing,
the image is moved until the model is sure of the class. The priors, that an image be smooth and
that its features have the statistics of the training images', are those of Yin et al. 2020,
"Dreaming to Distill via Data-free Knowledge Transfer by Model Inversion" (arXiv 1912.08795).

Images are flat, row by row, in [0, 1]; see `recipes` for their lengths.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinv.attacks.recipes import Inversion
from jaxinv.errors import InputError
from jaxinv.metrics.directions import unit
from jaxinv.types import PRNGKey


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
    moved = images - length * jax.vmap(unit)(average(scale, gradient))
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
  to a factor that `unit` takes out.
  """
  h, w = image_shape[:2]

  def averaged(size, images):
    blocks = images.reshape(len(images), h // size, size, w // size, size, -1)
    means = blocks.mean((2, 4), keepdims=True)
    return jnp.broadcast_to(means, blocks.shape).reshape(images.shape)

  if scales == (1,):
    return images
  return jax.lax.switch(place, [partial(averaged, size) for size in scales], images)


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
