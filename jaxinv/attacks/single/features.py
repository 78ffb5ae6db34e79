"""From feature maps, as they are unmixed behind convolutions, back to images.

The weights of a dense layer that stands behind convolutions change in the span of its inputs, which
are feature maps. `unmixing.unmix` finds each image's map; here it is carried back to the image that
the model's own filters map to it. Mahendran and Vedaldi 2015, arXiv 1412.0035.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

# Of Adam, on images that a sigmoid keeps in [0, 1].
_RATE = 0.05


def to_images(
  maps_of: Callable[[Float[Array, "n h w *c"]], Float[Array, "n y x f"]],
  maps: Float[Array, "n y x f"],
  image_shape: tuple[int, ...],
  steps: int = 300,
  smoothness: float = 1.0,
) -> Float[Array, "n h w *c"]:
  """The images whose feature maps are most like the given ones, by gradient descent.

  Minimises the squared distance of the maps, over the size of the given ones, plus the mean squared
  difference of neighbouring pixels.

  Args:
    maps_of: the part of the model in front of the dense layer; pure.
    maps: feature maps that are sought.
    image_shape: (h, w) or (h, w, c).
    steps: of Adam.
    smoothness: weight of the differences of neighbours: what filters do not see is smooth.

  Returns:
    Images, from 0 to 1.

  Example:
    >>> image = jnp.linspace(0.2, 0.8, 64).reshape(1, 8, 8)
    >>> pairs = lambda images: (images[:, ::2] + images[:, 1::2])[..., None]  # Half of the rows.
    >>> found = to_images(pairs, pairs(image), (8, 8))
    >>> float(jnp.abs(found - image).max()) < 0.1
    True
  """
  adam = optax.adam(_RATE)

  def loss(raw):
    images = jax.nn.sigmoid(raw)
    unlike = jnp.square(maps_of(images) - maps).sum() / jnp.square(maps).sum()
    rough = sum(jnp.square(jnp.diff(images, axis=axis)).mean() for axis in (1, 2))
    return unlike + smoothness * rough

  def step(carry, _):
    raw, state = carry
    updates, state = adam.update(jax.grad(loss)(raw), state)
    return (optax.apply_updates(raw, updates), state), None

  start = jnp.zeros((len(maps), *image_shape))
  (raw, _), _ = jax.lax.scan(step, (start, adam.init(start)), length=steps)
  return jax.nn.sigmoid(raw)
