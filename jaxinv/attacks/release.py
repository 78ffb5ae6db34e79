"""What is done to ONE model's parameters between training and release, to hide what they hold."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinv.types import Hyper, Params, PRNGKey


def defend(params: Params, hyper: Hyper, key: PRNGKey) -> Params:
  """What is released of trained parameters: first noise is added, then they are rounded.

  Args:
    params: of a trained model.
    hyper: its `release_noise` and `release_bits`.
    key: source of the noise; one for each release, for an attacker may hold several.

  Returns:
    The parameters released.
  """
  leaves, structure = jax.tree.flatten(params)
  keys = jax.random.split(key, len(leaves))
  noisy = [add_noise(x, hyper.release_noise, k) for x, k in zip(leaves, keys, strict=True)]
  return structure.unflatten([round_to_bits(x, hyper.release_bits) for x in noisy])


def add_noise(x: Float[Array, "*s"], level: Float[Array, ""] | float, key: PRNGKey) -> Array:
  """Adds Gaussian noise whose standard deviation is `level` root mean squares of the array."""
  scale = level * jnp.sqrt(jnp.square(x).mean())
  return x + scale * jax.random.normal(key, x.shape, x.dtype)


def round_to_bits(x: Float[Array, "*s"], bits: Float[Array, ""] | float) -> Array:
  """Rounds to 2^bits evenly spaced values from the array's smallest to its largest.

  Uniform affine quantisation, one scale an array; Jacob et al. 2018, arXiv 1712.05877.

  Args:
    x: an array.
    bits: bits of each number, at least 1; infinite leaves it as it is.

  Returns:
    The array, of its own dtype; one whose values are all equal as it is.
  """
  low, span = x.min(), x.max() - x.min()
  steps = 2.0 ** jnp.minimum(bits, 24.0) - 1
  ends = jnp.where(span > 0, span, 1.0)
  rounded = low + jnp.round((x - low) / ends * steps) * (ends / steps)
  return jnp.where(jnp.isinf(bits) | (span == 0), x, rounded).astype(x.dtype)
