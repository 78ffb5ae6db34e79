"""Single photographs out of a change of weights: blind separation of the images that it is made of.

Plain SGD moves a layer that sees the pixels only within the span of its inputs: W - W0 = X^T A, with
the photographs X and a coefficient for each of them and each unit, A. So the rank of the change is
the number of photographs, and its left singular vectors are as many images, each a mixture of all of
them. In their finest detail photographs are nearly independent of each other and far from Gaussian:
independent component analysis of the mixtures' detail finds how to unmix them. No labels, no
forward pass, and no knowledge of other photographs is needed.

Comon 1994, "Independent component analysis, a new concept?"; Hyvarinen 1999, "Fast and robust
fixed-point algorithms for independent component analysis"; Himberg, Hyvarinen and Esposito 2004,
"Validating the independent components of neuroimaging time series" (the index of stability). For one
gradient in federated learning, Kariyappa et al. 2023, arXiv 2209.05578.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinv.errors import InputError

# So many times above its neighbour, or above the edge of noise, a singular value is no accident.
_CLIFF = 3.0
_MOST_STEPS, _SETTLED = 400, 1e-4


class Unmixed(NamedTuple):
  """Images that a change of weights is made of.

  Attributes:
    images: one a source; in the data's own unit where `is_scaled`, else of unit norm.
    coefficients: how much of each is in the change of each unit: images^T @ coefficients gives the
      change back, as far as it lies in the span.
    stability: of each source how surely it is found again from another start, in [0, 1]: the
      attacker's own confidence.
    spectrum: singular values of the change, falling.
    is_scaled: whether the bias told scale and sign.
  """

  images: Float[np.ndarray, "n h w *c"]
  coefficients: Float[np.ndarray, "n u"]
  stability: Float[np.ndarray, " n"]
  spectrum: Float[np.ndarray, " u"]
  is_scaled: bool


def count_sources(spectrum: Float[np.ndarray, " u"], num_features: int) -> int:
  """How many images a change is made of: where its singular values fall off a cliff.

  Beyond the cliff there are rounding errors, or noise that the owner added. White noise of standard
  deviation s in a [p, u] matrix has no singular value above s (sqrt(p) + sqrt(u)) (Davidson and
  Szarek 2001), s being read off the values beyond the cliff.

  Args:
    spectrum: singular values, falling.
    num_features: p.

  Returns:
    The number; 0 where the spectrum has no cliff: that of noise, or of more images than units.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> noise = 1e-3 * rng.standard_normal((200, 30))
    >>> images, mixing = rng.uniform(size=(200, 7)), rng.standard_normal((7, 30))
    >>> [count_sources(np.linalg.svd(x)[1], 200) for x in (images @ mixing + noise, noise)]
    [7, 0]
  """
  spectrum = np.asarray(spectrum, np.float64)
  u = len(spectrum)
  if u < 2 or not spectrum[0] > 0:
    return int(u == 1 and spectrum[0] > 0)
  floor = spectrum[0] * np.finfo(np.float32).eps * 1e-3
  ratios = np.maximum(spectrum[:-1], floor) / np.maximum(spectrum[1:], floor)
  n = 1 + int(ratios.argmax())
  rest = spectrum[n:]
  deviation = math.sqrt((rest**2).sum() / ((num_features - n) * (u - n)))
  edge = deviation * (math.sqrt(num_features - n) + math.sqrt(u - n))
  return n if spectrum[n - 1] > _CLIFF * max(rest[0], edge / 2) else 0


def detail(images: Float[Array, "n h w *c"]) -> Float[Array, "n m"]:
  """The mixed second difference of each image: down, then across; its finest detail."""
  down = images[:, 1:] - images[:, :-1]
  both = down[:, :, 1:] - down[:, :, :-1]
  return both.reshape(len(images), -1)


@jax.jit
def whiten(signals: Float[Array, "n m"]) -> tuple[Float[Array, "n m"], Float[Array, "n n"]]:
  """Signals without correlation, of unit variance, and the matrix that makes them so."""
  powers, vectors = jnp.linalg.eigh(signals @ signals.T / signals.shape[1])
  matrix = vectors.T / jnp.sqrt(jnp.maximum(powers, 1e-12 * powers[-1]))[:, None]
  return matrix @ signals, matrix


@jax.jit
def separate(white: Float[Array, "n m"], start: Float[Array, "n n"]) -> Float[Array, "n n"]:
  """Symmetric FastICA with the contrast log cosh.

  Args:
    white: whitened signals.
    start: where it begins, of full rank.

  Returns:
    The orthogonal matrix that separates them.
  """
  m = white.shape[1]

  def step(carry):
    matrix, _, i = carry
    found = jnp.tanh(matrix @ white)
    slopes = 1 - jnp.square(found).mean(1)
    new = _orthogonal(found @ white.T / m - slopes[:, None] * matrix)
    turned = 1 - jnp.abs((new * matrix).sum(1)).min()
    return new, turned, i + 1

  def goes_on(carry):
    return (carry[1] > _SETTLED) & (carry[2] < _MOST_STEPS)

  return jax.lax.while_loop(goes_on, step, (_orthogonal(start), jnp.inf, 0))[0]


def _orthogonal(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
  """The orthogonal matrix nearest to one."""
  powers, vectors = jnp.linalg.eigh(matrix @ matrix.T)
  scale = 1 / jnp.sqrt(jnp.maximum(powers, 1e-12 * powers[-1]))
  return (vectors * scale[None]) @ vectors.T @ matrix
