"""The field: other attackers on the same models, scored as unmixing is, chosen without the truth.

Each is given the number of photographs and the classes, which are balanced, and nothing else of
them. An attacker that searches makes many restarts with hyperparameters drawn at random, and its
own loss says which of them counts: the photographs are looked at only when it is scored.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxinv.attacks.single.equation import Problem, thin
from jaxinv.attacks.single.kkt import best, draw_sweep, search
from jaxinv.attacks.single.unmixing import change_of, rank, spectrum, unmix
from jaxinv.ensemble.mapping import over_devices
from jaxinv.errors import choose
from jaxinv.experiments.photographs.score import Pictures, Score, score
from jaxinv.models.params import Layer, class_weights, dense_logits, find_layers
from jaxinv.types import Params

# From this spread on a start that another attack has found would be lost.
_NEAR = 0.01


class Effort(NamedTuple):
  """What the attackers that search may spend.

  Attributes:
    steps: of each search.
    restarts: searches, each with hyperparameters of its own.
    copies: candidates that are sought for each photograph, as not all of them come to something.
    width: restarts that step side by side on a device.
    seed: of starts and hyperparameters.
  """

  steps: int = 4000
  restarts: int = 32
  copies: int = 2
  width: int = 4
  seed: int = 0


class Held(NamedTuple):
  """What an attacker holds of a model, and knows of its photographs.

  Attributes:
    params: of a chain of dense layers with ReLU between them.
    init_params: before training, for those who know them.
    image_shape: (h, w) or (h, w, c).
    num_classes: classes, k.
    number: of photographs.
  """

  params: Params
  init_params: Params | None
  image_shape: tuple[int, ...]
  num_classes: int
  number: int

  def num_features(self) -> int:
    """Pixels of an image, p."""
    return int(np.prod(self.image_shape))


class Guess(NamedTuple):
  """What one attacker says the photographs are.

  Attributes:
    images: candidates, in no order.
    score: how many photographs they are.
    loss: the attacker's own, by which a restart was chosen; NaN for those without a choice.
    seconds: that the attack took, compiling apart.
    restarts: searches made; 1 for those that make none.
  """

  images: Float[np.ndarray, "i h w *c"]
  score: Score
  loss: float
  seconds: float
  restarts: int


class _Found(NamedTuple):
  images: Float[np.ndarray, "i p"]
  seconds: float
  loss: float = float("nan")
  restarts: int = 1


def attack(
  held: Held,
  pictures: Pictures,
  members: Int[np.ndarray, " m"],
  names: Sequence[str] | None = None,
  effort: Effort | None = None,
) -> dict[str, Guess]:
  """Lets the attackers of the field loose on one model.

  Args:
    held: what they hold.
    pictures: all there are, members and decoys.
    members: indices of the photographs trained on; the score alone sees them.
    names: attackers, of `FIELD`; all that can be made if not given.
    effort: what a search may spend.

  Returns:
    By name what each found; those who need initial weights are left out where there are none.

  Raises:
    InputError: no such attacker, or the model is no chain of dense layers.
  """
  guesses = {}
  for name in FIELD if names is None else names:
    function = choose("attacker", name, FIELD)
    if name in NEED_INIT and held.init_params is None:
      continue
    found = function(held, effort or Effort())
    images = found.images.reshape(len(found.images), *held.image_shape)
    seen = score(images, pictures, members)
    guesses[name] = Guess(images, seen, found.loss, found.seconds, found.restarts)
  return guesses


def _timed(function: Callable[[], Float[np.ndarray, "i p"]]) -> _Found:
  started = time.perf_counter()
  return _Found(np.asarray(function()), time.perf_counter() - started)


def _layers(params: Params, held: Held) -> list[Layer]:
  """The model's layers, in the precision that it is searched in."""
  found = find_layers(params, held.num_features(), held.num_classes)
  return jax.tree.map(lambda x: jnp.asarray(x, float), found)


def _searched(
  held: Held,
  effort: Effort,
  problem: Problem,
  starts: Float[np.ndarray, "i p"],
  **fixed: float,
) -> _Found:
  """The restart with the least loss of its own, all made in one program over all devices."""
  first, second = jax.random.split(jax.random.key(effort.seed))
  sweep = draw_sweep(first, effort.restarts, **fixed)
  keys = jax.random.split(second, effort.restarts)
  devices = jax.local_devices()

  def every(problem, starts, sweep, keys):
    return search(problem, sweep, keys, starts, effort.steps, effort.width)

  started = time.perf_counter()
  inputs = thin(problem), jnp.asarray(starts, float), sweep, keys
  seconds = time.perf_counter() - started
  program = jax.jit(over_devices(every, (None, None, 0, 0), 0, devices)).lower(*inputs).compile()
  started = time.perf_counter()
  found = jax.block_until_ready(program(*inputs))
  seconds += time.perf_counter() - started
  chosen = best(found)
  images = np.asarray(found.images[chosen])
  return _Found(images, seconds, float(found.loss[chosen]), effort.restarts)


def _balanced(held: Held, effort: Effort) -> Int[np.ndarray, " i"]:
  """Classes of so many candidates."""
  return np.arange(effort.copies * held.number) % held.num_classes


def _kkt(held: Held, effort: Effort, rivalry: float) -> _Found:
  """From grey images, the parameters alone known."""
  labels = _balanced(held, effort)
  grey = np.full((len(labels), held.num_features()), 0.5)
  problem = Problem(_layers(held.params, held), jnp.asarray(labels))
  return _searched(held, effort, problem, grey, rivalry=rivalry)


def _unmixed_alone(held: Held, effort: Effort) -> _Found:
  """Unmixes the weights themselves, of which decay or long training left only photographs."""

  def unmixed():
    change = change_of(held.params, None, held.num_features())
    number = min(held.number, rank(spectrum(change)[0]))
    found = unmix(change, held.image_shape, number, seed=effort.seed)
    return found.images.reshape(len(found.images), -1)

  return _timed(unmixed)


def _kkt_unmixed(held: Held, effort: Effort) -> _Found:
  """From what is unmixed of the weights alone, each image of the class that the model says."""
  unmixed = _unmixed_alone(held, effort)
  if not len(unmixed.images):
    return unmixed
  starts = np.clip(np.tile(unmixed.images, (effort.copies, 1)), 0.0, 1.0)
  layers = _layers(held.params, held)
  labels = dense_logits(held.params, jnp.asarray(starts, float), held.num_classes).argmax(1)
  problem = Problem(layers, labels)
  # Slowly: from a rate that grey images need, what was found would be lost.
  near = {"spread": _NEAR, "image_rate": 2e-3}
  found = _searched(held, effort, problem, starts, rivalry=1.0, **near)
  return found._replace(seconds=found.seconds + unmixed.seconds)


def _kernel(held: Held, effort: Effort) -> _Found:
  """Images whose gradients span the change of the parameters, at the trained ones."""
  layers, first = _layers(held.params, held), _layers(held.init_params, held)
  labels = _balanced(held, effort)
  grey = np.full((len(labels), held.num_features()), 0.5)
  change = jax.tree.map(lambda now, before: now - before, layers, first)
  return _searched(held, effort, Problem(layers, jnp.asarray(labels), change), grey)


def _neurons(held: Held, effort: Effort) -> _Found:
  """The units of the first layer that moved most, as images; the brighter of their two signs."""

  def moved():
    # Less what decay left of the initial weights, not less all of them.
    change = change_of(held.params, held.init_params, held.num_features(), None).kernel.T
    order = np.argsort(-np.linalg.norm(change, axis=1), kind="stable")
    images = change[order[: effort.copies * held.number]]
    return images * np.where(images.mean(1) < 0, -1.0, 1.0)[:, None]

  return _timed(moved)


def _class_average(held: Held, effort: Effort) -> _Found:
  """What a linear inversion gives: one image a class, from the product of the layers."""
  del effort

  def seen():
    read = partial(class_weights, num_features=held.num_features(), num_classes=held.num_classes)
    images = np.asarray(read(held.params))
    return images if held.init_params is None else images - np.asarray(read(held.init_params))

  return _timed(seen)


# Attackers by name. `kkt` has the equation as it was published, against the largest other class;
# `kkt_softmax` the one that cross entropy with weight decay satisfies.
FIELD: dict[str, Callable[[Held, Effort], _Found]] = {
  "kkt": partial(_kkt, rivalry=np.inf),
  "kkt_softmax": partial(_kkt, rivalry=1.0),
  "kkt_unmixed": _kkt_unmixed,
  "kernel": _kernel,
  "neurons": _neurons,
  "class_average": _class_average,
}
# Those who cannot do without initial weights.
NEED_INIT = ("kernel",)
