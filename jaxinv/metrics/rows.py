"""Rows of values, one an image or a photograph: centred, scaled, of length 1. On the host."""

import numpy as np
from jaxtyping import Float


def finite(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
  """Rows scaled to a largest magnitude of 1, so that no square under- or overflows.

  Args:
    rows: in any unit; values that are not finite count as 0.

  Returns:
    New rows, in single precision at least; those of zeros stay.

  Example:
    >>> finite(np.array([[2e300, np.nan, -4e300]]))
    array([[ 0.5,  0. , -1. ]])
  """
  rows = rows.astype(np.result_type(rows, np.float32))
  rows[~np.isfinite(rows)] = 0
  # Not of the magnitudes, which would take the memory of the rows once more.
  largest = np.maximum(
    rows.max(1, keepdims=True, initial=0), -rows.min(1, keepdims=True, initial=0)
  )
  rows /= np.where(largest > 0, largest, 1)
  return rows


def centred(rows: Float[np.ndarray, "*n d"], axis: int = -1) -> Float[np.ndarray, "*n d"]:
  """Rows less their means: exactly 0 where all values are equal, for which a mean is not enough.

  Example:
    >>> centred(np.array([[0.1, 0.1, 0.1], [1.0, 2.0, 6.0]]))
    array([[ 0.,  0.,  0.],
           [-2., -1.,  3.]])
  """
  rows = rows - rows.take([0], axis)
  return rows - rows.mean(axis, keepdims=True)


def unit(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
  """Rows of length 1; those of length 0 stay.

  Example:
    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
  """
  lengths = np.linalg.norm(rows, axis=1, keepdims=True)
  return rows / np.where(lengths > 0, lengths, 1.0)
