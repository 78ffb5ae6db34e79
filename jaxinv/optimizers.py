"""Optimisers by name: each a function from hyperparameters to an optax transformation.

The hyperparameters are scalars of a traced program, so that one compiled program serves them all.
A different name means a state of different shape, hence another program.
"""

import math
from collections.abc import Callable
from typing import Any

import optax

from jaxinv.types import Hyper

Optimizer = Callable[[Hyper], optax.GradientTransformation]


def _clip(norm: Any) -> optax.GradientTransformation:
  """Clips the global norm of gradients; not at all where the bound is infinite and known before.

  A traced bound is no such number, even if it will be infinite: then the gradient is read once
  more for its norm, which is a third of the time of an SGD step on a CPU.
  """
  if isinstance(norm, float) and math.isinf(norm):
    return optax.identity()
  return optax.clip_by_global_norm(norm)


def _coupled(hyper: Hyper, update: optax.GradientTransformation) -> optax.GradientTransformation:
  """Clips, adds the L2 penalty's gradient, then updates: the order of PyTorch's optimisers."""
  return optax.chain(
    _clip(hyper.clip_norm),
    optax.add_decayed_weights(hyper.weight_decay),
    update,
  )


def sgd(hyper: Hyper) -> optax.GradientTransformation:
  """Stochastic gradient descent: theta - learning_rate * gradient."""
  return _coupled(hyper, optax.sgd(hyper.learning_rate))


def momentum(hyper: Hyper) -> optax.GradientTransformation:
  """SGD with a velocity: v = momentum * v + gradient; theta - learning_rate * v. Polyak 1964."""
  return _coupled(hyper, optax.sgd(hyper.learning_rate, hyper.momentum))


def nesterov(hyper: Hyper) -> optax.GradientTransformation:
  """SGD with Nesterov's velocity. Sutskever et al. 2013."""
  return _coupled(hyper, optax.sgd(hyper.learning_rate, hyper.momentum, nesterov=True))


def adam(hyper: Hyper) -> optax.GradientTransformation:
  """Adam with coupled weight decay, `momentum` as b1, b2 0.999. Kingma & Ba, arXiv 1412.6980."""
  return _coupled(hyper, optax.adam(hyper.learning_rate, b1=hyper.momentum))


def adamw(hyper: Hyper) -> optax.GradientTransformation:
  """Adam with decoupled weight decay. Loshchilov & Hutter, arXiv 1711.05101."""
  return optax.chain(
    _clip(hyper.clip_norm),
    optax.adamw(hyper.learning_rate, b1=hyper.momentum, weight_decay=hyper.weight_decay),
  )


def without_clipping(optimizer: Optimizer) -> Optimizer:
  """The same optimiser for runs none of which clips: quicker, and another program."""
  return lambda hyper: optimizer(hyper._replace(clip_norm=math.inf))


OPTIMIZERS: dict[str, Optimizer] = {
  "sgd": sgd,
  "momentum": momentum,
  "nesterov": nesterov,
  "adam": adam,
  "adamw": adamw,
}
