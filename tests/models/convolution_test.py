"""The convolution is JAX's own, and so are its gradients, which are written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxinv.errors import InputError
from jaxinv.models.convolution import general_dilated

_NUMBERS = ("NHWC", "HWIO", "NHWC")


def _draw(shape, seed):
  return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(
  "image, kernel, strides, padding",
  [
    ((8, 8), (3, 3), (1, 1), "SAME"),
    ((8, 8), (3, 3), (2, 2), "SAME"),
    ((7, 9), (3, 3), (2, 2), "SAME"),
    ((8, 8), (1, 1), (2, 2), "SAME"),
    ((7, 9), (1, 1), (1, 1), "VALID"),
    ((7, 9), (3, 2), (2, 1), "VALID"),
    ((8, 8), (3, 2), (2, 1), ((2, 0), (1, 3))),
    ((7, 9), (3, 3), (2, 2), ((2, 0), (1, 3))),
  ],
)
def test_values_and_gradients_are_jax_s_own(image, kernel, strides, padding):
  x, w = _draw((3, *image, 2), 0), _draw((*kernel, 2, 4), 1)
  theirs = lambda x, w: lax.conv_general_dilated(  # noqa: E731
    x, w, strides, padding, dimension_numbers=_NUMBERS
  )
  ours = lambda x, w: general_dilated(x, w, strides, padding)  # noqa: E731
  expected, pull = jax.vjp(theirs, x, w)
  found, our_pull = jax.vjp(ours, x, w)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
  grad = _draw(expected.shape, 2)
  for a, b in zip(our_pull(grad), pull(grad), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_it_maps_over_models_as_a_loop_does():
  x, w = _draw((2, 3, 8, 8, 2), 0), _draw((2, 3, 3, 2, 4), 1)

  def gradients(x, w):
    energy = lambda x, w: jnp.square(general_dilated(x, w, (2, 2), "SAME")).sum()  # noqa: E731
    return jax.grad(energy, (0, 1))(x, w)

  mapped = jax.vmap(gradients)(x, w)
  for i in range(2):
    for a, b in zip(mapped, gradients(x[i], w[i]), strict=True):
      np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("asked", [{"rhs_dilation": (2, 2)}, {"feature_group_count": 2}])
def test_what_it_does_not_know_is_refused(asked):
  with pytest.raises(InputError, match="no dilation and no groups"):
    general_dilated(_draw((1, 8, 8, 2), 0), _draw((3, 3, 1, 4), 1), (1, 1), "SAME", **asked)
