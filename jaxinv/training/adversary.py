"""Adversarial perturbations of a batch against ONE model, by name, within a ball of given radius.

The perturbed inputs are in [0, 1] and, up to rounding, in the ball about the inputs: a step is
projected to the ball and then clipped, and clipping brings a point nearer to any input in [0, 1].
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxinv.errors import InputError, choose
from jaxinv.metrics.directions import unit
from jaxinv.types import PRNGKey

# The gradient, with respect to each input, of that input's own loss, which the adversary raises.
Gradient = Callable[[Float[Array, "b p"]], Float[Array, "b p"]]
Radius = Float[Array, ""] | float


class Ball(NamedTuple):
  """The unit ball of a norm over all values of an image, and how to move in it.

  Attributes:
    draw: (key, inputs) -> a point of the ball for each input.
    ascend: the step of norm 1 for each row of a gradient that raises the loss most.
    project: (rows, radius) -> the nearest rows in the ball of that radius.
  """

  draw: Callable[[PRNGKey, jax.Array], jax.Array]
  ascend: Callable[[jax.Array], jax.Array]
  project: Callable[[jax.Array, jax.Array], jax.Array]


def _norms(x: Float[Array, "b p"]) -> Float[Array, "b 1"]:
  return jnp.linalg.norm(x, axis=1, keepdims=True)


def _draw_l2(key: PRNGKey, inputs: Float[Array, "b p"]) -> Float[Array, "b p"]:
  """Uniform in the ball: a direction, and a p-th root for how volume grows with the radius."""
  direction, distance = jax.random.split(key)
  radii = jax.random.uniform(distance, (len(inputs), 1), inputs.dtype) ** (1 / inputs.shape[1])
  return radii * _units(jax.random.normal(direction, inputs.shape, inputs.dtype))


def _project_l2(x: Float[Array, "b p"], radius: Float[Array, ""]) -> Float[Array, "b p"]:
  return x * jnp.minimum(radius / jnp.maximum(_norms(x), jnp.finfo(x.dtype).tiny), 1.0)


_units = jax.vmap(unit)
L2 = Ball(_draw_l2, _units, _project_l2)
LINF = Ball(
  draw=lambda key, inputs: jax.random.uniform(key, inputs.shape, inputs.dtype, -1.0, 1.0),
  ascend=jnp.sign,
  project=lambda x, radius: jnp.clip(x, -radius, radius),
)


def _climb(
  ball: Ball,
  gradient: Gradient,
  inputs: Float[Array, "b p"],
  radius: Radius,
  stride: float,
  steps: int,
  key: PRNGKey,
) -> Float[Array, "b p"]:
  """Projected gradient ascent from a random start, by steps of `stride` radii."""
  radius = jnp.asarray(radius, inputs.dtype)

  def within(x):
    return jnp.clip(inputs + ball.project(x - inputs, radius), 0.0, 1.0)

  def step(_, x):
    return within(x + stride * radius * ball.ascend(gradient(x)))

  start = within(inputs + radius * ball.draw(key, inputs))
  found = jax.lax.fori_loop(0, steps, step, start)
  # Bit for bit, so that an arm of radius 0 is a standard one.
  return jax.lax.stop_gradient(jnp.where(radius > 0, found, inputs))


def none(
  gradient: Gradient, inputs: Float[Array, "b p"], radius: Radius, steps: int, key: PRNGKey
) -> Float[Array, "b p"]:
  """No adversary: the inputs as they are, whatever the radius."""
  return jax.lax.stop_gradient(inputs)


def fgsm_rs(
  gradient: Gradient, inputs: Float[Array, "b p"], radius: Radius, steps: int, key: PRNGKey
) -> Float[Array, "b p"]:
  """One sign step of 1.25 radii from a uniform start. Wong et al. 2020, arXiv 2001.03994.

  Args:
    gradient: of each input's loss with respect to it.
    inputs: the batch, in [0, 1].
    radius: most that a value may change; 0 for not at all.
    steps: not used.
    key: source of the start.

  Returns:
    The batch, perturbed, in [0, 1]; no gradient flows through it.
  """
  return _climb(LINF, gradient, inputs, radius, 1.25, 1, key)


def pgd_linf(
  gradient: Gradient, inputs: Float[Array, "b p"], radius: Radius, steps: int, key: PRNGKey
) -> Float[Array, "b p"]:
  """Projected sign steps of 2.5 radii / `steps` from a uniform start. Madry et al. 2018.

  arXiv 1706.06083. The steps lead from any place of the ball to any other.

  Args:
    gradient: of each input's loss with respect to it.
    inputs: the batch, in [0, 1].
    radius: most that a value may change; 0 for not at all.
    steps: number of steps, at least 1.
    key: source of the start.

  Returns:
    The batch, perturbed, in [0, 1]; no gradient flows through it.
  """
  return _climb(LINF, gradient, inputs, radius, 2.5 / steps, steps, key)


def pgd_l2(
  gradient: Gradient, inputs: Float[Array, "b p"], radius: Radius, steps: int, key: PRNGKey
) -> Float[Array, "b p"]:
  """Projected steps of length 2.5 radii / `steps` from a start uniform in the ball.

  Madry et al. 2018, arXiv 1706.06083, with normalised gradients; where one is 0 the input stays.
  With many values nearly all of the ball is far out and at right angles to the gradient. From
  there, along a gradient that is everywhere the same, many steps end 2 atan(exp(-2.5)) = 9.4
  degrees from the best point, with 0.987 of what that gains; ten, with 0.980; one, with 0.928.

  Args:
    gradient: of each input's loss with respect to it.
    inputs: the batch, in [0, 1].
    radius: largest Euclidean norm of the change of a whole image; 0 for no change.
    steps: number of steps, at least 1.
    key: source of the start.

  Returns:
    The batch, perturbed, in [0, 1]; no gradient flows through it.
  """
  return _climb(L2, gradient, inputs, radius, 2.5 / steps, steps, key)


Adversary = Callable[[Gradient, Float[Array, "b p"], Radius, int, PRNGKey], Float[Array, "b p"]]
ADVERSARIES: dict[str, Adversary] = {
  "none": none,
  "fgsm_rs": fgsm_rs,
  "pgd_l2": pgd_l2,
  "pgd_linf": pgd_linf,
}


def log_odds(logits: Float[Array, "b k"], labels: Int[Array, " b"]) -> Float[Array, " b"]:
  """The log of the odds that an example is not of its class, under softmax.

  Cross-entropy is log(1 + exp(log-odds)): it rises exactly where this does, so that steps whose
  length is fixed are the same for both. But cross-entropy's own gradient loses its direction to
  rounding, and then vanishes, where a model is very sure; this one does neither.

  Args:
    logits: of each example, of two classes or more.
    labels: class of each.

  Returns:
    log sum over the other classes of exp(logit), less the logit of the class.
  """
  own = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
  others = jax.nn.logsumexp(logits, axis=1, where=~own)
  return others - jnp.where(own, logits, 0).sum(1)


def gradient_of(logits: Callable[[jax.Array], jax.Array], labels: Int[Array, " b"]) -> Gradient:
  """What raises the cross-entropy of labels, by the gradient of `log_odds`.

  Args:
    logits: the model, [b, p] -> [b, k], where each row of the result depends on its own input
      alone: no statistics of the batch.
    labels: class of each example.

  Returns:
    The gradient for an adversary.
  """
  return jax.grad(lambda inputs: log_odds(logits(inputs), labels).sum())


def robust(
  logits: Callable[[jax.Array], jax.Array],
  name: str,
  inputs: Float[Array, "b p"],
  labels: Int[Array, " b"],
  radius: Radius,
  steps: int,
  restarts: int,
  key: PRNGKey,
) -> Bool[Array, " b"]:
  """Which examples are classified right both as they are and under every one of some attacks.

  Args:
    logits: the model, [b, p] -> [b, k], as in `gradient_of`.
    name: of the adversary, in `ADVERSARIES`; it raises the cross-entropy of the labels.
    inputs: the examples, in [0, 1].
    labels: class of each.
    radius: of the ball.
    steps: steps of an attack.
    restarts: attacks, one after the other, each from a start of its own; 0 for none.
    key: source of the starts; the first attacks are the same whatever their number.

  Returns:
    Whether each example withstands. A tie of the largest logits goes to the class that comes first.
  """
  gradient = gradient_of(logits, labels)

  def right(x):
    return logits(x).argmax(1) == labels

  def attack(restart, withstands):
    own = jax.random.fold_in(key, restart)
    return withstands & right(ADVERSARIES[name](gradient, inputs, radius, steps, own))

  return jax.lax.fori_loop(0, restarts, attack, right(inputs))


def check(name: str, radius: float, steps: int) -> None:
  """Refuses an adversary that cannot be.

  Args:
    name: of the adversary.
    radius: of its ball.
    steps: of an attack.

  Raises:
    InputError: the name is unknown, the radius negative or not finite, or there is no step.
  """
  choose("adversary", name, ADVERSARIES)
  if not (math.isfinite(radius) and radius >= 0):
    raise InputError(f"adversary_radius is {radius}: give a finite number, 0 or more")
  if steps < 1:
    raise InputError(f"adversary_steps is {steps}: give 1 or more")
