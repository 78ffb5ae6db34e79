"""Networks at rest under weight decay, for the tests of KKT reconstruction."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxinv.attacks.single.equation import Problem
from jaxinv.models.params import Layer

P, UNITS, K, N = 24, 16, 3, 3
DECAY = 0.01


def make_layers(sizes, seed=0, biased=True):
  rng = np.random.default_rng(seed)
  return [
    Layer(
      jnp.asarray(rng.normal(size=(a, b)) / a**0.5, jnp.float32),
      jnp.asarray(0.1 * rng.normal(size=b), jnp.float32) if biased else None,
    )
    for a, b in itertools.pairwise(sizes)
  ]


def logits_of(layers, images):
  for number, (kernel, bias) in enumerate(layers):
    images = images @ kernel if bias is None else images @ kernel + bias[None]
    images = jax.nn.relu(images) if number + 1 < len(layers) else images
  return images


def make_images(number, seed=0):
  return jnp.asarray(np.random.default_rng((5, seed)).uniform(size=(number, P)), jnp.float32)


def at_rest(sizes):
  """A network trained to rest under weight decay, its images, one a class, and how it started."""
  images, labels = make_images(N), jnp.arange(N) % K
  first = make_layers(sizes)

  def loss(layers):
    fit = optax.softmax_cross_entropy_with_integer_labels(logits_of(layers, images), labels)
    return fit.mean() + DECAY / 2 * sum(jnp.square(x).sum() for x in jax.tree.leaves(layers))

  def step(layers, _):
    return jax.tree.map(lambda x, g: x - 0.1 * g, layers, jax.grad(loss)(layers)), None

  layers = jax.jit(lambda x: jax.lax.scan(step, x, length=6000)[0])(first)
  sure = jax.nn.softmax(logits_of(layers, images), 1)[jnp.arange(N), labels]
  # What weight decay balances: d loss / d margin, over n x decay.
  return Problem(layers, labels), images, (1 - sure) / (N * DECAY), first
