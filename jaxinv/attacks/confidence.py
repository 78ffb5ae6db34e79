"""MI-Face: what image is a class most confident of? Fredrikson, Jha and Ristenpart 2015."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxinv.errors import InputError
from jaxinv.metrics.directions import unit
from jaxinv.models.params import dense_logits, find_kernels
from jaxinv.types import Params, Release


class Descent(NamedTuple):
  """What `invert_class` carries from step to step.

  Attributes:
    step: steps taken, i.
    image: the latest image, x_i.
    gradient: of the cost there.
    recent: the last costs, the latest first; infinite where there are none yet.
    best: the image of the smallest cost so far.
    least: that cost.
    done: whether the rule says to stop.
  """

  step: Int[Array, ""]
  image: Float[Array, " p"]
  gradient: Float[Array, " p"]
  recent: Float[Array, " _"]
  best: Float[Array, " p"]
  least: Float[Array, ""]
  done: Bool[Array, ""]


def invert_class(
  params: Params,
  label: int | Int[Array, ""],
  num_features: int,
  alpha: int = 100,
  beta: int = 10,
  gamma: float = 0.01,
  step_size: float = 0.02,
) -> Float[Array, " p"]:
  """MI-Face of one class: descends 1 - confidence from a blank image.

  Algorithm 1 of Fredrikson, Jha and Ristenpart 2015, "Model inversion attacks that exploit
  confidence information and basic countermeasures", with three deviations. The cost is -log of
  the confidence: its gradient points the same way, and neither vanishes where the confidence
  does. A step has a given length, whatever the gradient's: no one learning rate suits both tiny
  and huge weights. Pixels stay in [0, 1].

  Args:
    params: parameters of one model, dense layers and ReLU under a softmax.
    label: the class.
    num_features: pixels of an image, p.
    alpha: most steps.
    beta: stops at a cost no smaller than the largest of the last `beta`, once there are so many.
    gamma: stops at a confidence of 1 - `gamma`.
    step_size: root mean square of what a step adds to the pixels, before they are clipped.

  Returns:
    The image of the highest confidence seen; blank if none betters that.

  Raises:
    InputError: no kernel takes so many features, or `beta` is no window.
  """
  if beta < 1:
    raise InputError(f"beta counts the costs to compare with: at least 1, not {beta}")

  def cost(image):
    return -jax.nn.log_softmax(dense_logits(params, image[None])[0])[label]

  def advance(state):
    image = jnp.clip(state.image - step_size * unit(state.gradient, _root_mean_square), 0.0, 1.0)
    return _observe(state, image, *jax.value_and_grad(cost)(image), -jnp.log1p(-gamma))

  blank = jnp.zeros(num_features)
  first, gradient = jax.value_and_grad(cost)(blank)
  recent = jnp.full(beta, jnp.inf).at[0].set(first)
  start = Descent(jnp.array(0), blank, gradient, recent, blank, first, jnp.array(False))
  return jax.lax.while_loop(lambda s: (s.step < alpha) & ~s.done, advance, start).best


def _observe(state: Descent, image: Any, cost: Any, gradient: Any, enough: Any) -> Descent:
  """The state after a step to `image`; `enough` is the cost at which to stop."""
  # Written so that a cost that is not a number stops too, and is never the best.
  done = ~(cost < state.recent.max()) | (cost <= enough)
  # The later of equals: where tiny weights' costs all round to one, the way is still uphill.
  better = cost <= state.least
  return Descent(
    step=state.step + 1,
    image=image,
    gradient=gradient,
    recent=jnp.concatenate([cost[None], state.recent[:-1]]),
    best=jnp.where(better, image, state.best),
    least=jnp.where(better, cost, state.least),
    done=done,
  )


def _root_mean_square(x: Float[Array, " p"]) -> Float[Array, ""]:
  return jnp.sqrt(jnp.mean(x**2))


def mi_face(
  release: Release,
  image_shape: tuple[int, ...],
  alpha: int = 100,
  beta: int = 10,
  gamma: float = 0.01,
  step_size: float = 0.02,
) -> Float[Array, "k h w *c"]:
  """Fredrikson's MI-Face of every class at once, see `invert_class`.

  One loop, until the last class is done; a class that is done stays as it is. The attacker holds
  the weights alone.

  Args:
    release: needs `params`.
    image_shape: (h, w) or (h, w, c), of p values.
    alpha: most steps.
    beta: costs to compare with.
    gamma: stops at a confidence of 1 - `gamma`.
    step_size: root mean square of a step.

  Returns:
    One image a class, in [0, 1].

  Raises:
    InputError: no kernel takes images of this shape, or `beta` is no window.
  """
  num_features = math.prod(image_shape)
  labels = jnp.arange(find_kernels(release.params, num_features)[-1].shape[1])

  def invert(label):
    return invert_class(release.params, label, num_features, alpha, beta, gamma, step_size)

  return jax.vmap(invert)(labels).reshape(-1, *image_shape)
