"""What each photograph left in the first layer: the white-box test of membership.

The gradient of a layer that sees the pixels is a sum of photographs, each times what its residuals
sent back: so is W - W0 after any number of steps of SGD. A photograph that was not trained on is in
it with a coefficient of zero. Least squares finds the coefficients, of all photographs that may
have been trained on at once; where training or the owner added noise, ridge regression does.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinv.models.params import find_kernels
from jaxinv.types import Release, Svd

# Ridges, in units of the photographs' mean power along a direction of their span: from none to
# speak of, for weights without noise, to so much that only likeness counts. Which is best is known
# from models of one's own, see `membership.tuned`.
RIDGES = (1e-7, 1e-2, 1e-1, 1.0)


def svd_of(inputs: Float[np.ndarray, "n p"]) -> Svd:
  """The singular value decomposition of photographs, without directions that are rounding errors.

  Args:
    inputs: one photograph a row.

  Returns:
    The decomposition, of rank r, computed in double precision.

  Example:
    >>> left, values, right = svd_of(np.eye(3, 5, dtype=np.float32))
    >>> np.allclose(left @ np.diag(values) @ right, np.eye(3, 5), atol=1e-6)
    True
  """
  rows = np.asarray(inputs, np.float64)
  wide = rows.shape[0] <= rows.shape[1]
  powers, vectors = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
  kept = powers > 1e-10 * max(powers[-1], np.finfo(np.float64).tiny)
  values, vectors = np.sqrt(powers[kept]), vectors[:, kept]
  left = vectors if wide else rows @ vectors / values
  right = vectors.T @ rows / values[:, None] if wide else vectors.T
  return Svd(*(jnp.asarray(x, jnp.float32) for x in (left, values, right)))


def traces(
  release: Release, labels: Int[Array, " n"], num_classes: int, svd: Svd
) -> Float[Array, "j n"]:
  """How much of each photograph is in the change of the first layer.

  Args:
    release: needs `params` and `init_params`.
    labels: the class of each photograph.
    num_classes: classes, k.
    svd: of all photographs in question.

  Returns:
    One row a ridge of `RIDGES`. Of a linear model the coefficient in the weights of the own class,
    which training makes positive; of others the norm over the units.

  Raises:
    InputError: no kernel takes the photographs.
  """
  num_features = svd.right.shape[1]
  now, first = (
    find_kernels(params, num_features, num_classes)
    for params in (release.params, release.init_params)
  )
  along = jnp.matmul(svd.right, now[0] - first[0], precision="highest")
  ridges = jnp.asarray(RIDGES, along.dtype)[:, None] * jnp.square(svd.values).mean()
  factors = svd.values[None] / (jnp.square(svd.values)[None] + ridges)
  each = [jnp.matmul(svd.left, f[:, None] * along, precision="highest") for f in factors]
  if len(now) == 1:
    own = [jnp.take_along_axis(c, labels[:, None], 1)[:, 0] for c in each]
  else:
    own = [jnp.linalg.norm(c, axis=1) for c in each]
  return jnp.stack(own)
