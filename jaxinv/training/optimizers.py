"""Optimisers by name, and schedules of their learning rate.

An optimiser is a function from hyperparameters to an optax transformation. The hyperparameters are
scalars of a traced program, so that one compiled program serves them all. A different name means a
state of different shape, hence another program.

A schedule is a shape whose peak is 1, to be multiplied by a run's own rate: optax's schedules take
no traced peak. The shape is static, and the rate stays a leaf that can be mapped over runs.
"""

from collections.abc import Callable, Collection

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxinv.types import Hyper

Optimizer = Callable[[Hyper], optax.GradientTransformation]
# From the number of steps taken so far to the factor on the peak rate.
Schedule = Callable[[Int[Array, ""]], Float[Array, ""]]


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


def restricted(optimizer: Optimizer, used: Collection[str]) -> Optimizer:
  """Clips gradients and decays weights only where runs use that; see `hyper.used`.

  Args:
    optimizer: from hyperparameters to an optax transformation.
    used: hyperparameters that runs use.

  Returns:
    The optimiser, which knows before it is compiled what is left out.
  """
  if "weight_decay" not in used:
    inner = optimizer
    optimizer = lambda hyper: inner(hyper._replace(weight_decay=0.0))  # noqa: E731
  return clipped(optimizer) if "clip_norm" in used else optimizer


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


def is_linear(optimizer: str | Optimizer) -> bool:
  """Whether an optimiser's update is linear in all gradients so far.

  Args:
    optimizer: a name, or a function; one of the caller's own says so by an attribute `linear`.

  Example:
    >>> is_linear("momentum"), is_linear(adam), is_linear(lambda hyper: optax.sign_sgd(0.1))
    (True, False, False)
  """
  known = [*LINEAR, *(OPTIMIZERS[name] for name in LINEAR)]
  return optimizer in known or bool(getattr(optimizer, "linear", False))


def constant(num_steps: int) -> Schedule:
  """The peak rate throughout."""
  return _bounded(optax.constant_schedule(1.0))


def cosine(num_steps: int) -> Schedule:
  """Half a cosine from 1 to 0. Loshchilov & Hutter 2017, arXiv 1608.03983.

  Args:
    num_steps: steps of the whole training, at least 1.

  Returns:
    At step t, (1 + cos(pi t / num_steps)) / 2.
  """
  return _bounded(optax.cosine_decay_schedule(1.0, num_steps))


def one_cycle(num_steps: int) -> Schedule:
  """From 1/25 up to 1 over the first 30 % of steps, then down to 4e-6, both along cosines.

  Smith & Topin 2018, arXiv 1708.07120. Where 30 % is less than a step, it begins at 1.

  Args:
    num_steps: steps of the whole training, at least 1.

  Returns:
    optax's `cosine_onecycle_schedule`.
  """
  return _bounded(optax.cosine_onecycle_schedule(num_steps, 1.0))


def warmup_cosine(num_steps: int) -> Schedule:
  """Linearly up over the first 5 % of steps, w in number, then half a cosine from 1 to 0.

  Goyal et al. 2017, arXiv 1706.02677. The first step is not at rate 0, which would be lost.

  Args:
    num_steps: steps of the whole training, at least 1.

  Returns:
    At step t, (t + 1) / (w + 1) up to step w; then the cosine over the other steps.
  """
  warmup = num_steps // 20
  return _bounded(optax.warmup_cosine_decay_schedule(1 / (warmup + 1), 1.0, warmup, num_steps))


def steps(num_steps: int) -> Schedule:
  """1, and from 50 % of the steps on 0.1, and from 75 % on 0.01. He et al. 2016, arXiv 1512.03385.

  Args:
    num_steps: steps of the whole training, at least 1.

  Returns:
    A drop happens at the first step with that share of all steps behind it.
  """
  # Rounded up: even the only step of a training is at the peak rate.
  half, three_quarters = -(-num_steps // 2), -(-3 * num_steps // 4)
  return _bounded(optax.piecewise_constant_schedule(1.0, {half: 0.1, three_quarters: 0.1}))


def _bounded(schedule: optax.Schedule) -> Schedule:
  """A schedule that is an array, and in [0, 1] whatever optax's rounding."""
  return lambda step: jnp.clip(jnp.asarray(schedule(step), float), 0.0, 1.0)


SCHEDULES: dict[str, Callable[[int], Schedule]] = {
  "constant": constant,
  "cosine": cosine,
  "one_cycle": one_cycle,
  "warmup_cosine": warmup_cosine,
  "steps": steps,
}
