"""Training images as the solution of the equation that a trained network's parameters satisfy.

Haim et al. 2022 (arXiv 2206.07758) search for images and multipliers that satisfy it, see
`equation`, given the parameters alone; Buzaglo et al. 2023 (arXiv 2307.01827) have the form for
several classes. Loo et al. 2024 (arXiv 2302.01428) search for images whose gradients span the
*change* of the parameters, with coefficients of any sign: the same program with another target.

All restarts run in one program, each with hyperparameters of its own, and their own losses say
which of them is believed.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from jaxinv.attacks.single.equation import Problem, distance, usual_multiplier
from jaxinv.types import PRNGKey

# What turns gradients into updates, but for their rates: Adam. `optax.trace(0.9)` is momentum.
ADAM = optax.scale_by_adam()
# Where restarts draw from. `least` and `sharpness` are as of Haim et al., whose rates and spreads
# range further, as their descent is not Adam's.
_RANGES = {
  "spread": (1e-3, 0.1),
  "image_rate": (2e-3, 3e-2),
  "multiplier_rate": (2e-3, 3e-2),
  "least": (0.01, 0.5),
  "sharpness": (10.0, 500.0),
  "rivalry": (1.0, 100.0),
}


class Sweep(NamedTuple):
  """What one restart is made with; every field is a leaf, and mapped over restarts.

  Attributes:
    spread: standard deviation of the noise about the images it starts from, in the inputs' unit.
    image_rate: learning rate of the images at the start; it falls to 0 as a cosine does.
    multiplier_rate: the same of the multipliers, in units of their usual size.
    least: smallest multiplier that costs nothing, in the same unit.
    sharpness: of the sigmoid in place of the derivative of ReLU, which is a step.
    rivalry: how much of a class's margin is against the largest other one: the softmax over the
      others of so many times the logits. Infinite for the largest alone; 1 is the equation that
      cross entropy with weight decay satisfies.
  """

  spread: Float[Array, "*r"]
  image_rate: Float[Array, "*r"]
  multiplier_rate: Float[Array, "*r"]
  least: Float[Array, "*r"]
  sharpness: Float[Array, "*r"]
  rivalry: Float[Array, "*r"]


class Found(NamedTuple):
  """What each restart came to.

  Attributes:
    images: in [0, 1].
    multipliers: of the margins; or coefficients, one a class.
    loss: share of the target's power that the sum of gradients leaves, with the sharp derivative of
      ReLU: the attacker's own measure of success.
  """

  images: Float[Array, "*r i p"]
  multipliers: Float[Array, "..."]
  loss: Float[Array, "*r"]


def draw_sweep(key: PRNGKey, restarts: int, **fixed: float) -> Sweep:
  """Hyperparameters of so many restarts, each drawn evenly in the logarithm from its range.

  Args:
    key: source of the draws.
    restarts: how many, r.
    **fixed: fields that all restarts share, by name.

  Returns:
    The sweep.

  Example:
    >>> sweep = draw_sweep(jax.random.key(0), 5, sharpness=100.0)
    >>> sweep.least.shape, sweep.sharpness.tolist()
    ((5,), [100.0, 100.0, 100.0, 100.0, 100.0])
  """
  values = {}
  for number, (name, (low, high)) in enumerate(_RANGES.items()):
    draws = jax.random.uniform(jax.random.fold_in(key, number), (restarts,))
    values[name] = low * (high / low) ** draws
  values |= {name: jnp.full(restarts, value) for name, value in fixed.items()}
  return Sweep(**values)


@partial(jax.jit, static_argnames=("steps", "width", "descent"))
def search(
  problem: Problem,
  sweep: Sweep,
  keys: Key[Array, " r"],
  starts: Float[Array, "i p"],
  steps: int,
  width: int | None = None,
  descent: optax.GradientTransformation = ADAM,
) -> Found:
  """Solves a problem from many starts, with hyperparameters of their own, in one program.

  Args:
    problem: the equation.
    sweep: hyperparameters, each [r].
    keys: [r], where each restart's noise comes from.
    starts: images to start from, as grey ones, or those that another attack has found.
    steps: of each search.
    width: restarts that step side by side, for the memory; None for all.
    descent: what turns gradients into updates but for their rates.

  Returns:
    What came of each restart.

  Example:
    >>> from jaxinv.models.params import Layer
    >>> layer = Layer(jnp.array([[2.0, -2.0], [-2.0, 2.0]]), None)
    >>> sweep = draw_sweep(jax.random.key(0), 2, image_rate=0.05)
    >>> keys, starts = jax.random.split(jax.random.key(1), 2), jnp.full((2, 2), 0.5)
    >>> found = search(Problem([layer], jnp.array([0, 1])), sweep, keys, starts, steps=500)
    >>> found.images.shape, bool(found.loss.min() < 0.01)
    ((2, 2, 2), True)
  """
  one = partial(_search, problem, starts, steps, descent)
  return jax.lax.map(lambda each: one(*each), (sweep, keys), batch_size=width or len(keys))


def best(found: Found) -> int:
  """The restart whose own loss is least; what is not finite is never chosen.

  Example:
    >>> best(Found(jnp.zeros((3, 1, 4)), jnp.ones((3, 1)), jnp.array([0.5, jnp.nan, 0.2])))
    2
  """
  loss = np.asarray(found.loss)
  return int(np.where(np.isfinite(loss), loss, np.inf).argmin())


def _search(
  problem: Problem,
  starts: Float[Array, "i p"],
  steps: int,
  descent: optax.GradientTransformation,
  sweep: Sweep,
  key: PRNGKey,
) -> Found:
  """One restart."""
  noise = jax.random.normal(key, starts.shape, starts.dtype)
  images = jnp.clip(starts + sweep.spread * noise, 0.0, 1.0)
  usual = usual_multiplier(problem, images, sweep.sharpness, sweep.rivalry)
  scaled = jnp.ones(len(starts), starts.dtype)
  if problem.target is not None:
    num_classes = problem.layers[-1].kernel.shape[1]
    scaled = jax.nn.one_hot(problem.labels, num_classes, dtype=starts.dtype) - 1 / num_classes

  def objective(unknown):
    images, scaled = unknown
    left = distance(problem, images, usual * scaled, sweep.sharpness, sweep.rivalry)
    if problem.target is not None:
      return left
    return left + jnp.square(jnp.maximum(sweep.least - scaled, 0.0)).sum()

  def step(carry, number):
    (images, scaled), state = carry
    moved, state = descent.update(jax.grad(objective)((images, scaled)), state)
    slower = 0.5 * (1 + jnp.cos(jnp.pi * number / steps))
    images = jnp.clip(images - slower * sweep.image_rate * moved[0], 0.0, 1.0)
    return ((images, scaled - slower * sweep.multiplier_rate * moved[1]), state), None

  unknown = images, scaled
  (unknown, _), _ = jax.lax.scan(step, (unknown, descent.init(unknown)), jnp.arange(steps))
  images, multipliers = unknown[0], usual * unknown[1]
  loss = distance(problem, images, multipliers, jnp.inf, sweep.rivalry)
  return Found(images, multipliers, loss)
