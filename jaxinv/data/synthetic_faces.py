"""Faces drawn from a seed: a stand-in for the AT&T faces that needs no file and shows nobody."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinv.data.person import PERSON_RANGES, VIEW_RANGES, Person, View, settle
from jaxinv.data.portrait import photograph
from jaxinv.errors import InputError
from jaxinv.types import Dataset, PRNGKey

MAX_POSE = 3.0


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

  Example:
    >>> people = synthetic_faces(seed=0, num_people=2, images_per_person=3)
    >>> people.inputs.shape, people.image_shape
    ((6, 10304), (112, 92))
  """
  _check(num_people, images_per_person, image_shape, pose)
  shape = (int(image_shape[0]), int(image_shape[1]))
  people = np.arange(num_people, dtype=np.int32)
  # The same faces whatever precision they are trained on in.
  with jax.enable_x64(False):
    images = _draw_people(jax.random.key(seed), people, float(pose), images_per_person, shape)
  inputs = np.asarray(images).reshape(num_people * images_per_person, math.prod(shape))
  labels = np.repeat(people, images_per_person)
  names = tuple(f"person {i + 1}" for i in people)
  return Dataset(inputs, labels, num_people, shape, names, drawn=True)


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
    person = settle(_scale(Person, PERSON_RANGES, draws[0]))
    views = jax.vmap(partial(_scale, View, VIEW_RANGES))(draws[1:])
    return jax.vmap(lambda view: photograph(person, view, pose, shape))(views)

  return jax.lax.map(draw_person, people)


def _scale(kind: type, ranges: dict, draws: Float[Array, " d"]) -> Any:
  """Takes numbers in [0, 1) to their ranges."""
  low, high = np.array(list(ranges.values()), np.float32).T
  return kind(*(low + (high - low) * draws[: len(low)]))
