"""Measures of ONE network and of the images recovered from it, and the controls of both."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxinv.experiments.networks.findings import Neighbours
from jaxinv.experiments.networks.recovery import attacker_key, robustness_key, starts, wanted
from jaxinv.experiments.networks.settings import (
  KeepMasks,
  NetworkArm,
  NetworkSettings,
  RobustnessTest,
  draw_masks,
  model_of,
)
from jaxinv.experiments.networks.training import TrainedNetwork, healthy
from jaxinv.metrics import memorisation
from jaxinv.metrics.directions import diversity
from jaxinv.models.convnets import Outputs
from jaxinv.training.adversary import robust
from jaxinv.training.network import all_outputs, logits_of
from jaxinv.types import Params, PRNGKey, TrainTest


class Judges(NamedTuple):
  """What all networks of an experiment are measured with.

  Attributes:
    settings: of the experiment.
    data: the images.
    masks: which images each network is trained on.
    verifier: the independent network that classifies recovered images.
  """

  settings: NetworkSettings
  data: TrainTest
  masks: KeepMasks
  verifier: TrainedNetwork

  def judge(self, inputs: Float[np.ndarray, "n p"]) -> Outputs:
    """The verifier's outputs for images."""
    model = model_of(self.settings, self.settings.verifier, self.data)
    return _outputs(model, self.verifier.variables, inputs)


class InversionMeasures(NamedTuple):
  """Measures of what one inversion recovered from one network; see `findings.Inverted`.

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


def make_judges(settings: NetworkSettings, data: TrainTest, verifier: TrainedNetwork) -> Judges:
  """What all networks are measured with."""
  return Judges(settings, data, draw_masks(settings, data.train.labels), verifier)


@partial(jax.jit, static_argnums=0)
def _outputs(model: nn.Module, variables: Params, inputs: Array) -> Outputs:
  return all_outputs(model, variables, inputs)


def controls(judges: Judges) -> dict[str, dict[str, float]]:
  """The verifier's verdict on images that nothing was recovered into: starts and test images."""
  settings, data = judges.settings, judges.data
  labels, result = np.asarray(wanted(settings, data)), {}
  for name in dict.fromkeys(recipe.start for recipe in settings.inversions.values()):
    recipe = next(r for r in settings.inversions.values() if r.start == name)
    keys = [attacker_key(settings, seed) for seed in range(settings.num_seeds)]
    images = np.concatenate([np.asarray(starts(settings, data, recipe, key)) for key in keys])
    result[f"start: {name}"] = _verdict(judges.judge(images), np.tile(labels, settings.num_seeds))
  result["test images"] = _verdict(judges.judge(data.test.inputs), data.test.labels)
  return result


def _verdict(outputs: Outputs, labels: Int[np.ndarray, " i"]) -> dict[str, float]:
  """Share of images taken for their class, and the mean probability of it."""
  chances = np.asarray(jax.nn.softmax(outputs.logits))
  return {
    "verifier_accuracy": float((chances.argmax(1) == labels).mean()),
    "verifier_confidence": float(chances[np.arange(len(labels)), labels].mean()),
  }


def robust_accuracy(judges: Judges, arm: NetworkArm, network: TrainedNetwork, seed: int) -> float:
  """Share of test images that withstand the attack of the settings; NaN where it diverged."""
  if not healthy(network):
    return float("nan")
  settings, test = judges.settings, judges.data.test
  chosen = slice(settings.robustness.images or None)
  key = robustness_key(settings, seed)
  model = model_of(settings, arm, judges.data)
  how = (network.variables, test.inputs[chosen], test.labels[chosen], key)
  return float(_robust(model, settings.robustness, *how))


@partial(jax.jit, static_argnums=(0, 1))
def _robust(
  model: nn.Module,
  test: RobustnessTest,
  variables: Params,
  inputs: Array,
  labels: Array,
  key: PRNGKey,
) -> Array:
  how = (test.name, inputs, labels, test.radius, test.steps, test.restarts, key)
  return robust(logits_of(model, variables), *how).mean()


def measure_inversions(
  judges: Judges,
  arm: NetworkArm,
  network: TrainedNetwork,
  seed: int,
  images: Mapping[str, Float[np.ndarray, "k r p"]],
) -> dict[str, InversionMeasures]:
  """Measures all that was recovered from one network.

  Args:
    judges: what to measure with.
    arm: how the network was trained.
    network: the network.
    seed: its seed.
    images: what was recovered, by inversion.

  Returns:
    The measures of each inversion.
  """
  model = model_of(judges.settings, arm, judges.data)
  own = partial(_outputs, model, network.variables)
  train, test = (np.asarray(own(part.inputs).features) for part in judges.data)
  return {
    name: _measure(judges, own, seed, stacked, train, test) for name, stacked in images.items()
  }


def _measure(
  judges: Judges,
  own: Callable[[Float[np.ndarray, "n p"]], Outputs],
  seed: int,
  images: Float[np.ndarray, "k r p"],
  train: Float[np.ndarray, "n d"],
  test: Float[np.ndarray, "o d"],
) -> InversionMeasures:
  """By a network's `own` outputs; `train` and `test` are its features of the real images."""
  classes, restarts, _ = images.shape
  labels = np.asarray(wanted(judges.settings, judges.data))
  flat = images.reshape(len(labels), -1)
  outputs, verdicts = own(flat), judges.judge(flat)
  features, kept = np.asarray(outputs.features), judges.masks.kept[seed]
  trained, held_out = memorisation.cosine(features, train), memorisation.cosine(features, test)
  pixels = memorisation.pixel_similarity(flat, judges.data.train.inputs)
  cases = _cases(judges, {"features": trained, "pixels": pixels}, labels, kept)
  nearer = {name: memorisation.compare_members(*case).nearer.mean() for name, case in cases.items()}
  spread = diversity(verdicts.features, jnp.asarray(labels), classes)
  right = np.asarray(verdicts.logits).argmax(1) == labels
  return InversionMeasures(
    images=images,
    measures={
      **_verdict(verdicts, labels),
      "own_accuracy": float((np.asarray(outputs.logits).argmax(1) == labels).mean()),
      "diversity": float(np.asarray(spread).mean()),
      **{f"nearer_{name}": float(share) for name, share in nearer.items()},
    },
    by_class=right.reshape(classes, restarts).mean(1),
    cases=cases,
    neighbours=_neighbours(trained, kept, held_out, restarts),
  )


def _cases(
  judges: Judges,
  similarities: Mapping[str, Float[np.ndarray, "i n"]],
  labels: Int[np.ndarray, " i"],
  kept: Bool[np.ndarray, " n"],
) -> dict[str, memorisation.Case]:
  """What the test of memory needs. Of candidates only: no other image can say anything of memory,
  and the similarities of all networks are kept."""
  drawn = np.flatnonzero(judges.masks.candidate)
  among = (judges.data.train.labels[drawn], np.ones(len(drawn), bool), kept[drawn])
  return {
    name: memorisation.Case(values[:, drawn], labels, *among)
    for name, values in similarities.items()
  }


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
