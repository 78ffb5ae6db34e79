"""Optimisers by name: each a function from hyperparameters to an optax transformation.

The hyperparameters are scalars of a traced program, so that one compiled program serves them all.
A different name means a state of different shape, hence another program.
"""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from jaxinv.types import Hyper

Optimizer = Callable[[Hyper], optax.GradientTransformation]


def _coupled(hyper: Hyper, update: optax.GradientTransformation) -> optax.GradientTransformation:
  """Adds the L2 penalty's gradient, then updates: the order of PyTorch's optimisers."""
  if isinstance(hyper.weight_decay, float) and not hyper.weight_decay:
    return update  # A traced zero would still read all weights, once for each of Adam's moments.
  return optax.chain(optax.add_decayed_weights(hyper.weight_decay), update)


def sgd(hyper: Hyper) -> optax.GradientTransformation:
  """Stochastic gradient descent: theta - learning_rate * gradient."""
  return _coupled(hyper, optax.sgd(hyper.learning_rate))


def momentum(hyper: Hyper) -> optax.GradientTransformation:
  """SGD with a velocity: v = momentum * v + gradient; theta - learning_rate * v. Polyak 1964."""
  return _coupled(hyper, optax.sgd(hyper.learning_rate, hyper.momentum))


def nesterov(hyper: Hyper) -> optax.GradientTransformation:
  """SGD with Nesterov's velocity. Sutskever et al. 2013."""
  return _coupled(hyper, optax.sgd(hyper.learning_rate, hyper.momentum, nesterov=True))


def sgdw(hyper: Hyper) -> optax.GradientTransformation:
  """SGD with a velocity and decoupled weight decay. Loshchilov & Hutter, arXiv 1711.05101."""
  return optax.chain(
    optax.trace(hyper.momentum),
    optax.add_decayed_weights(hyper.weight_decay),
    optax.scale_by_learning_rate(hyper.learning_rate),
  )


def adam(hyper: Hyper) -> optax.GradientTransformation:
  """Adam with coupled weight decay, `momentum` as b1, b2 0.999. Kingma & Ba, arXiv 1412.6980."""
  return _coupled(hyper, optax.adam(hyper.learning_rate, b1=hyper.momentum))


def adamw(hyper: Hyper) -> optax.GradientTransformation:
  """Adam with decoupled weight decay. Loshchilov & Hutter, arXiv 1711.05101."""
  return optax.adamw(hyper.learning_rate, b1=hyper.momentum, weight_decay=hyper.weight_decay)


def clipped(optimizer: Optimizer) -> Optimizer:
  """Clips the global norm of the gradient to `clip_norm` before the optimiser sees it."""
  return lambda hyper: optax.chain(
    optax.clip_by_global_norm(hyper.clip_norm),
    optimizer(hyper),
  )


def undecayed(optimizer: Optimizer) -> Optimizer:
  """Lets an optimiser know, before it is compiled, that there is no weight decay."""
  return lambda hyper: optimizer(hyper._replace(weight_decay=0.0))


def stopped(hyper: Hyper, step: Int[Array, ""]) -> Hyper:
  """Early stopping: from `hyper.steps` on the learning rate is 0, and the model stands still.

  That holds for all optimisers here, whose updates are in proportion to the rate.

  Args:
    hyper: of the run.
    step: steps taken so far.

  Returns:
    What the next step should use.
  """
  return hyper._replace(learning_rate=jnp.where(step < hyper.steps, hyper.learning_rate, 0.0))


OPTIMIZERS: dict[str, Optimizer] = {
  "sgd": sgd,
  "momentum": momentum,
  "nesterov": nesterov,
  "sgdw": sgdw,
  "adam": adam,
  "adamw": adamw,
}
# Those whose update is linear in all gradients so far: `gram` can run them on coefficients.
LINEAR = ("sgd", "momentum", "nesterov", "sgdw")
