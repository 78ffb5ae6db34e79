"""Augmentation on the device: what is drawn anew for the images of each step's batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinv.types import PRNGKey


def flip_and_crop(
  key: PRNGKey,
  images: Float[Array, "b p"],
  image_shape: tuple[int, int, int],
  pad: int,
  mirror: bool = True,
) -> Float[Array, "b p"]:
  """Mirrors each image left-right with probability 1/2, then shifts it by up to `pad` pixels.

  The usual augmentation of small images, He et al. 2016, arXiv 1512.03385, but that what a shift
  brings in is the image's reflection rather than black.

  Args:
    key: source of randomness; an image's draw depends on it and on the image's place alone, and
      not on the batch's size.
    images: the batch, each image row by row (h, then w, then c).
    image_shape: (h, w, c).
    pad: most pixels that an image moves by each way, all shifts being equally likely; 0 for flips
      only.
    mirror: whether any image is mirrored.

  Returns:
    The batch, changed.
  """
  top = jnp.array([1 + mirror, 2 * pad + 1, 2 * pad + 1])

  def change(place, image):
    flip, y, x = jax.random.randint(jax.random.fold_in(key, place), (3,), 0, top)
    image = image.reshape(image_shape)
    image = jnp.where(flip, image[:, ::-1], image)
    image = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    return jax.lax.dynamic_slice(image, (y, x, 0), image_shape).ravel()

  return jax.vmap(change)(jnp.arange(len(images)), images)
