"""DP-SGD's gradient of ONE model: every example's clipped, noise added; Abadi et al. 2016.

arXiv 1607.00133. `private_mean` is `optax.contrib`'s, for any model; it needs the gradient of every
example by itself, each as large as the model. For a linear layer those are outer products, whose
norms are known without them (Goodfellow 2015, arXiv 1510.01799), so that `linear_private_mean`
gives the same in a fraction of the time.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax.contrib
from jaxtyping import Array, Bool, Float, Key

from jaxinv.training.losses import Loss
from jaxinv.types import Hyper, Params, PRNGKey

# From parameters, inputs [b, p], targets [b, k] and a source of randomness to losses [b].
Losses = Callable[[Params, jax.Array, jax.Array, PRNGKey], jax.Array]


def example_gradients(
  losses: Losses,
  params: Params,
  inputs: Float[Array, "b p"],
  targets: Float[Array, "b k"],
  keys: Key[Array, " b"],
  taken: Bool[Array, " b"],
) -> Params:
  """The gradient of each example by itself.

  Args:
    losses: of the examples.
    params: of the model.
    inputs: of the batch.
    targets: of the batch.
    keys: each example's own source of randomness, for what it drops.
    taken: which places of the batch are.

  Returns:
    The gradients, with a leading axis b; zeros for places that are not taken.
  """
  one = jax.grad(lambda p, x, t, key: losses(p, x[None], t[None], key)[0])
  each = jax.vmap(one, in_axes=(None, 0, 0, 0))(params, inputs, targets, keys)
  return jax.tree.map(lambda g: jnp.where(taken.reshape(-1, *(1,) * (g.ndim - 1)), g, 0.0), each)


def private_mean(each: Params, size: int, hyper: Hyper, key: PRNGKey) -> Params:
  """Each example's gradient clipped, their sum with noise, over the batch's mean size.

  Args:
    each: the examples' gradients, with a leading axis b; zeros where a place is not taken.
    size: examples of a batch in the mean, which is no secret, as the number of those taken is.
    hyper: its `dp_clip` bounds each example's norm, `dp_noise` times that is the noise.
    key: source of the noise.

  Returns:
    The gradient.
  """
  private = optax.contrib.differentially_private_aggregate(hyper.dp_clip, hyper.dp_noise, key)
  places = jax.tree.leaves(each)[0].shape[0]
  mean, _ = private.update(each, private.init(None))
  # It has divided by the number of places, many of which are empty.
  return jax.tree.map(lambda g: g * (places / size), mean)


def is_linear(model: nn.Module) -> bool:
  """Whether a model is one dense layer, for `linear_private_mean`."""
  return getattr(model, "hidden", None) == ()


def linear_private_mean(
  model: nn.Module,
  loss: Loss,
  params: Params,
  inputs: Float[Array, "b p"],
  targets: Float[Array, "b k"],
  taken: Bool[Array, " b"],
  size: int,
  hyper: Hyper,
  key: PRNGKey,
) -> Params:
  """`private_mean` of a linear model, without the examples' gradients.

  The gradient of example i is the outer product of its input, and 1 for the bias, with its residual
  r_i: its norm is |r_i| sqrt(|x_i|^2 + 1).

  Args:
    model: one dense layer.
    loss: of logits and targets.
    params: of the model.
    inputs: of the batch.
    targets: of the batch.
    taken: which places of the batch are.
    size: examples of a batch in the mean.
    hyper: its `dp_clip` and `dp_noise`.
    key: source of the noise; gives the same as in `private_mean`.

  Returns:
    The gradient.
  """
  logits, back = jax.vjp(lambda p: model.apply({"params": p}, inputs), params)
  residuals = loss.residual(logits, targets)
  squares = jnp.square(inputs).sum(1) + float(model.use_bias)
  norms = jnp.sqrt(jnp.square(residuals).sum(1) * squares)
  factors = taken / jnp.maximum(norms / hyper.dp_clip, 1.0)
  (total,) = back(factors[:, None] * residuals)
  leaves, structure = jax.tree.flatten(total)
  _, *keys = jax.random.split(key, len(leaves) + 1)
  deviation = hyper.dp_noise * hyper.dp_clip
  noisy = [
    (g + deviation * jax.random.normal(k, g.shape, g.dtype)) / size
    for g, k in zip(leaves, keys, strict=True)
  ]
  return structure.unflatten(noisy)
