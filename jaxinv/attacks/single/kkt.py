"""Training images as the solution of the equation that a trained network's parameters satisfy.

A network trained long, or with weight decay, comes to rest where its parameters are a sum of
gradients at its training images (the conditions of Karush, Kuhn and Tucker of the largest margin):

  theta = sum_i lambda_i grad_theta [f_y(x_i) - max_{j != y} f_j(x_i)],  lambda_i > 0.

Haim et al. 2022 (arXiv 2206.07758) search for images and multipliers that satisfy it, given theta
alone; Buzaglo et al. 2023 (arXiv 2307.01827) have the form for several classes, which is this one.
Loo et al. 2024 (arXiv 2302.01428) search for images whose gradients span the *change* of the
parameters, with coefficients of any sign: the same program with another target.

For a chain of dense layers with ReLU the gradients are known in closed form, A^T D with a layer's
inputs A and the signals D that come back to its outputs, so that no derivative of a derivative is
taken. Nor is the sum of gradients ever made: with T the parameters,

  |T - A^T D|^2 = |T|^2 - 2 <D, A T> + <A A^T, D D^T>,

and A T is what the layer gave on the way forward. This leaves two products of the size of a layer
to each step of the search in place of five. All restarts share them, as one product of many rows.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from jaxinv.models.params import Layer
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


class Problem(NamedTuple):
  """The equation to be solved.

  Attributes:
    layers: of the model at which the gradients are taken, first to last.
    labels: the class of each image that is sought.
    target: what the gradients are to sum to, with coefficients of any sign; None for the layers
      themselves, with multipliers of margins.
  """

  layers: Sequence[Layer]
  labels: Int[Array, " i"]
  target: Sequence[Layer] | None = None


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


def distance(
  problem: Problem,
  images: Float[Array, "i p"],
  multipliers: Float[Array, "i ..."],
  sharpness: Float[Array, ""] | float = jnp.inf,
  rivalry: Float[Array, ""] | float = jnp.inf,
) -> Float[Array, ""]:
  """|T - sum_i of gradients|^2 / |T|^2: what the images and multipliers leave of the equation.

  Args:
    problem: the equation.
    images: one row each.
    multipliers: one an image, or where there is a target one an image and class.
    sharpness: see `Sweep`; infinite for the derivative of ReLU itself.
    rivalry: see `Sweep`.

  Returns:
    The share of the power; 0 where the equation holds.

  Example:
    >>> layer = Layer(jnp.array([[2.0, -2.0], [-1.0, 1.0]]), None)  # Twice one image's margin.
    >>> problem, images = Problem([layer], jnp.array([0])), jnp.array([[1.0, -0.5]])
    >>> float(distance(problem, images, jnp.array([2.0])))
    0.0
  """
  passes = _passes(problem, images, multipliers, sharpness, rivalry)
  power = _power(problem.layers if problem.target is None else problem.target)
  left = power
  for number, (inputs, outputs, signals) in enumerate(passes):
    layer = problem.layers[number]
    if problem.target is not None:
      outputs = _affine(problem.target[number], inputs)
    both = _gram(signals) * (_gram(inputs) + (layer.bias is not None))
    left += both.sum() - 2 * (signals * outputs).sum()
  return left / power


def usual_multiplier(
  problem: Problem,
  images: Float[Array, "i p"],
  sharpness: Float[Array, ""] | float,
  rivalry: Float[Array, ""] | float,
) -> Float[Array, ""]:
  """The size of multipliers with which the images' gradients, were they orthogonal, reach |T|."""
  ones = jnp.ones(len(images), images.dtype)
  alone = problem._replace(target=None)
  total = jnp.zeros((), images.dtype)
  for layer, (inputs, _, signals) in zip(
    problem.layers, _passes(alone, images, ones, sharpness, rivalry), strict=True
  ):
    length = jnp.square(inputs).sum(1) + (layer.bias is not None)
    total += (length * jnp.square(signals).sum(1)).sum()
  power = _power(problem.layers if problem.target is None else problem.target)
  return jnp.sqrt(power / jnp.maximum(total, 1e-12))


def _passes(
  problem: Problem,
  images: Float[Array, "i p"],
  multipliers: Float[Array, "i ..."],
  sharpness: Float[Array, ""] | float,
  rivalry: Float[Array, ""] | float,
) -> list[tuple[Array, Array, Array]]:
  """Of each layer its inputs, its outputs, and the signals that come back to its outputs."""
  inputs, outputs, slopes = images, [], []
  held = []
  for number, layer in enumerate(problem.layers):
    outputs = _affine(layer, inputs)
    held.append((inputs, outputs))
    if number + 1 < len(problem.layers):
      slopes.append(_slope(outputs, sharpness))
      inputs = _rectified(outputs, slopes[-1])
  signals = multipliers
  if problem.target is None:
    signals = multipliers[:, None] * _margins(outputs, problem.labels, rivalry)
  passes = [(*held[-1], signals)]
  for layer, slope, before in zip(problem.layers[:0:-1], slopes[::-1], held[-2::-1], strict=True):
    signals = (signals @ layer.kernel.T) * slope
    passes.append((*before, signals))
  return passes[::-1]


def _margins(
  logits: Float[Array, "i k"], labels: Int[Array, " i"], rivalry: Float[Array, ""] | float
) -> Float[Array, "i k"]:
  """The derivative of each margin by the logits: 1 for the class, -1 in all for its rivals."""
  own = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
  others = jnp.where(own > 0, -jnp.inf, logits)
  first = jax.nn.one_hot(others.argmax(1), logits.shape[1], dtype=logits.dtype)
  sharp = jnp.isinf(rivalry)
  spread = jax.nn.softmax(jnp.where(sharp, 1.0, rivalry) * jnp.where(own > 0, -1e30, logits), 1)
  return own - jnp.where(sharp, first, spread)


def _slope(outputs: Float[Array, "i u"], sharpness: Float[Array, ""] | float) -> Array:
  """A sigmoid in place of ReLU's derivative, so that it has a derivative of its own."""
  sharp = jnp.isinf(sharpness)
  smooth = jax.nn.sigmoid(jnp.where(sharp, 1.0, sharpness) * outputs)
  return jnp.where(sharp, (outputs > 0).astype(outputs.dtype), smooth)


def _rectified(outputs: Float[Array, "i u"], slope: Float[Array, "i u"]) -> Float[Array, "i u"]:
  """ReLU, whose derivative is the smooth slope."""
  slope = jax.lax.stop_gradient(slope)
  return slope * outputs + jax.lax.stop_gradient(jnp.maximum(outputs, 0.0) - slope * outputs)


def _gram(rows: Float[Array, "i d"]) -> Float[Array, "i i"]:
  """Products of rows with each other; for sums with symmetric weights.

  The derivative of such a sum is twice that by one of the two factors, which saves a product.
  """
  half = rows @ jax.lax.stop_gradient(rows).T
  return 2 * half - jax.lax.stop_gradient(half)


def _affine(layer: Layer, inputs: Float[Array, "i a"]) -> Float[Array, "i b"]:
  outputs = inputs @ layer.kernel
  return outputs if layer.bias is None else outputs + layer.bias[None]


def _power(layers: Sequence[Layer]) -> Float[Array, ""]:
  """The sum of all parameters' squares."""
  return sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(list(layers)))
