"""Flax modules: functions from an example to the logits of its classes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinv.errors import choose
from jaxinv.types import PRNGKey

# Kernel initialisers by name. `torch_uniform` is uniform within +-1 / sqrt(fan_in), the default of
# PyTorch's linear layers: variance 1 / (3 fan_in).
INITIALIZERS: dict[str, nn.initializers.Initializer] = {
  "torch_uniform": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
  "lecun_normal": nn.initializers.lecun_normal(),
  "zeros": nn.initializers.zeros_init(),
}


class Dropout(NamedTuple):
  """What is dropped in one step: a source of randomness, and the share of each layer's inputs."""

  key: PRNGKey
  rate: Float[Array, ""]


class MLP(nn.Module):
  """Dense layers with an activation between them; with no hidden layer, a linear classifier.

  Attributes:
    num_classes: number of logits, k.
    hidden: units of each hidden layer, from the input on.
    use_bias: whether the layers add a bias, which starts at zero.
    kernel_init: initialiser of the kernels, each [fan in, fan out].
    activation: what stands between two layers.
    dot_general: how layers multiply inputs by kernels; `jax.lax.dot_general` or its like.

  Example:
    >>> net = MLP(num_classes=3, hidden=(8,), activation=nn.tanh)
    >>> variables = net.init(jax.random.key(0), jnp.ones((1, 5)))
    >>> net.apply(variables, jnp.ones((4, 5))).shape
    (4, 3)
  """

  num_classes: int
  hidden: Sequence[int] = ()
  use_bias: bool = True
  kernel_init: nn.initializers.Initializer = INITIALIZERS["torch_uniform"]
  activation: Callable[[jax.Array], jax.Array] = nn.relu
  dot_general: Callable[..., jax.Array] = jax.lax.dot_general

  @nn.compact
  def __call__(
    self, x: Float[Array, "*b p"], dropout: Dropout | None = None
  ) -> Float[Array, "*b k"]:
    """Returns the logits of each example; in training perhaps with inputs of the layers dropped."""
    for layer, units in enumerate(self.hidden):
      x = self.activation(self._dense(units)(_drop(x, dropout, layer)))
    return self._dense(self.num_classes)(_drop(x, dropout, len(self.hidden)))

  def _dense(self, units: int) -> nn.Dense:
    # Flax's own default is float32 even where JAX was asked for float64.
    dtype = jnp.result_type(float)
    return nn.Dense(
      units,
      use_bias=self.use_bias,
      kernel_init=self.kernel_init,
      param_dtype=dtype,
      dot_general=self.dot_general,
    )


def kernel_first(x: Float[Array, "b p"], kernel: Float[Array, "p u"], *dense, **options) -> Array:
  """The product x W as (W^T x^T)^T, quicker where the kernel is held as W^T; of a linear model.

  Args:
    x: a batch of inputs.
    kernel: of a dense layer.
    *dense: which axes a dense layer contracts; always the same.
    **options: of `jax.lax.dot_general`.

  Returns:
    The product [b, u].
  """
  return jax.lax.dot_general(kernel, x, (((0,), (1,)), ((), ())), **options).T


def _drop(x: Float[Array, "*b u"], dropout: Dropout | None, layer: int) -> Float[Array, "*b u"]:
  """Drops a share of a layer's inputs and scales up the others; Srivastava et al. 2014."""
  if dropout is None:
    return x
  kept = jax.random.bernoulli(jax.random.fold_in(dropout.key, layer), 1 - dropout.rate, x.shape)
  return jnp.where(kept, x / (1 - dropout.rate), 0.0)


def make_model(
  num_classes: int,
  hidden: Sequence[int] = (),
  use_bias: bool = True,
  initializer: str = "torch_uniform",
) -> MLP:
  """Builds a linear classifier, or an MLP where `hidden` names layers.

  Args:
    num_classes: number of classes, k.
    hidden: units of each hidden layer; empty for the linear classifier.
    use_bias: whether layers have a bias.
    initializer: a name in `INITIALIZERS`.

  Returns:
    The Flax module, from inputs [..., p] to logits [..., k].

  Raises:
    InputError: the initialiser's name is unknown.

  Example:
    >>> params = make_model(5, hidden=(16,)).init(jax.random.key(0), jnp.ones((1, 12)))["params"]
    >>> {name: layer["kernel"].shape for name, layer in params.items()}
    {'Dense_0': (12, 16), 'Dense_1': (16, 5)}
  """
  start = choose("initializer", initializer, INITIALIZERS)
  return MLP(num_classes, tuple(hidden), use_bias, start)
