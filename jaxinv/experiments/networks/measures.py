"""What ONE network is like, and what was recovered from it: every measure, and its controls."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxinv.attacks import inversion
from jaxinv.experiments.networks.findings import Neighbours
from jaxinv.experiments.networks.recovery import ROBUST, attacker_key, starts, wanted
from jaxinv.experiments.networks.settings import (
  Attack,
  DeepArm,
  DeepSettings,
  KeepMasks,
  draw_masks,
  model_of,
)
from jaxinv.experiments.networks.training import TrainedNetwork, healthy
from jaxinv.metrics import memorisation
from jaxinv.models.convnets import Answer
from jaxinv.training import network as deep
from jaxinv.training.adversary import robust
from jaxinv.types import Params, PRNGKey, TrainTest


class Bench(NamedTuple):
  """What all networks of an experiment are measured with.

  Attributes:
    settings: what was asked.
    data: the images.
    masks: who was trained on.
    verifier: who checks what is recovered.
  """

  settings: DeepSettings
  data: TrainTest
  masks: KeepMasks
  verifier: TrainedNetwork

  def judge(self, inputs: Float[np.ndarray, "n p"]) -> Answer:
    """What the verifier says of images."""
    model = model_of(self.settings, self.settings.verifier, self.data)
    return _answers(model, self.verifier.variables, inputs)


class Look(NamedTuple):
  """What one inversion recovered from one network; see `deep_findings.Inverted`.

  Attributes:
    images: in [0, 1].
    measures: by name.
    by_class: share that the verifier takes for their class.
    cases: what the test of memory needs, by features and by pixels.
    neighbours: the nearest real images.
  """

  images: Float[np.ndarray, "k r p"]
  measures: dict[str, float]
  by_class: Float[np.ndarray, " k"]
  cases: dict[str, memorisation.Case]
  neighbours: Neighbours


def make_bench(settings: DeepSettings, data: TrainTest, verifier: TrainedNetwork) -> Bench:
  """What all networks are measured with."""
  return Bench(settings, data, draw_masks(settings, data.train.labels), verifier)


@partial(jax.jit, static_argnums=0)
def _answers(model: nn.Module, variables: Params, inputs: Array) -> Answer:
  return deep.answer_all(model, variables, inputs)


def controls(bench: Bench) -> dict[str, dict[str, float]]:
  """What the verifier says of images that nothing was recovered into: starts, and test images."""
  settings, data = bench.settings, bench.data
  labels, found = np.asarray(wanted(settings, data)), {}
  for name in dict.fromkeys(recipe.start for recipe in settings.inversions.values()):
    recipe = next(r for r in settings.inversions.values() if r.start == name)
    keys = [attacker_key(settings, seed) for seed in range(settings.num_seeds)]
    images = np.concatenate([np.asarray(starts(settings, data, recipe, key)) for key in keys])
    found[f"start: {name}"] = _verdict(bench.judge(images), np.tile(labels, settings.num_seeds))
  found["test images"] = _verdict(bench.judge(data.test.inputs), data.test.labels)
  return found


def _verdict(said: Answer, labels: Int[np.ndarray, " i"]) -> dict[str, float]:
  """Share of images taken for their class, and the mean probability of it."""
  chances = np.asarray(jax.nn.softmax(said.logits))
  return {
    "verifier_accuracy": float((chances.argmax(1) == labels).mean()),
    "verifier_confidence": float(chances[np.arange(len(labels)), labels].mean()),
  }


def robust_accuracy(bench: Bench, arm: DeepArm, network: TrainedNetwork, seed: int) -> float:
  """Share of test images that withstand the attack of the settings; NaN where it diverged."""
  if not healthy(network):
    return float("nan")
  settings, test = bench.settings, bench.data.test
  chosen = slice(settings.attack.images or None)
  key = jax.random.fold_in(attacker_key(settings, seed), ROBUST)
  model = model_of(settings, arm, bench.data)
  how = (network.variables, test.inputs[chosen], test.labels[chosen], key)
  return float(_robust(model, settings.attack, *how))


@partial(jax.jit, static_argnums=(0, 1))
def _robust(
  model: nn.Module, attack: Attack, variables: Params, inputs: Array, labels: Array, key: PRNGKey
) -> Array:
  how = (attack.name, inputs, labels, attack.radius, attack.steps, attack.restarts, key)
  return robust(deep.logits_of(model, variables), *how).mean()


def examine(
  bench: Bench,
  arm: DeepArm,
  network: TrainedNetwork,
  seed: int,
  images: Mapping[str, Float[np.ndarray, "k r p"]],
) -> dict[str, Look]:
  """Looks at all that was recovered from one network.

  Args:
    bench: what to measure with.
    arm: how the network was trained.
    network: it.
    seed: its seed.
    images: what was recovered, by inversion.

  Returns:
    A look at each inversion.
  """
  model = model_of(bench.settings, arm, bench.data)
  answer = partial(_answers, model, network.variables)
  train, test = (np.asarray(answer(part.inputs).features) for part in bench.data)
  return {
    name: _look(bench, answer, seed, stacked, train, test) for name, stacked in images.items()
  }


def _look(
  bench: Bench,
  answer,
  seed: int,
  images: Float[np.ndarray, "k r p"],
  train: Float[np.ndarray, "n d"],
  test: Float[np.ndarray, "o d"],
) -> Look:
  """A look by a network's own answers; `train` and `test` are its features of the real images."""
  data, kept = bench.data, bench.masks.kept[seed]
  classes, restarts, _ = images.shape
  labels = np.asarray(wanted(bench.settings, data))
  flat = images.reshape(len(labels), -1)
  own, seen = answer(flat), bench.judge(flat)
  features = np.asarray(own.features)
  similarity = {
    "features": memorisation.cosine(features, train),
    "pixels": memorisation.pixel_similarity(flat, data.train.inputs),
  }
  # Only candidates can say anything of memory, and similarities of all networks are kept.
  drawn = np.flatnonzero(bench.masks.candidate)
  among = (data.train.labels[drawn], np.ones(len(drawn), bool), kept[drawn])
  cases = {
    how: memorisation.Case(values[:, drawn], labels, *among) for how, values in similarity.items()
  }
  spread = inversion.diversity(seen.features, jnp.asarray(labels), classes)
  measures = _verdict(seen, labels)
  measures["own_accuracy"] = float((np.asarray(own.logits).argmax(1) == labels).mean())
  measures["diversity"] = float(np.asarray(spread).mean())
  for how, case in cases.items():
    measures[f"nearer_{how}"] = float(memorisation.compare_members(*case).nearer.mean())
  right = np.asarray(seen.logits).argmax(1) == labels
  return Look(
    images=images,
    measures=measures,
    by_class=right.reshape(classes, restarts).mean(1),
    cases=cases,
    neighbours=_neighbours(
      similarity["features"], kept, memorisation.cosine(features, test), restarts
    ),
  )


def _neighbours(
  trained: Float[np.ndarray, "i n"],
  kept: Bool[np.ndarray, " n"],
  held_out: Float[np.ndarray, "i o"],
  restarts: int,
) -> Neighbours:
  """The nearest image of any class that was trained on, and the nearest of the test images."""
  pairs = (trained, np.broadcast_to(kept, trained.shape)), (held_out, np.ones_like(held_out, bool))
  columns = [
    column.reshape(-1, restarts) for pair in pairs for column in memorisation.nearest(*pair)
  ]
  return Neighbours(*columns)
