"""Trained networks inverted, and what comes out measured against its controls."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxinv import deep, draws, inversion, nearest, stats
from jaxinv.adversary import robust
from jaxinv.convnets import Answer
from jaxinv.deep_findings import DeepArmFound, DeepFound, Inverted, Neighbours, Summary
from jaxinv.deep_groups import DeepGroup, TrainedNetwork, flatten
from jaxinv.deep_settings import Attack, DeepArm, DeepSettings, KeepMasks, draw_masks, model_of
from jaxinv.groups import Host, Stopped, load_whole, save_whole
from jaxinv.inversion import Inversion
from jaxinv.outcome import CURVES, summarize_arm
from jaxinv.stats import Interval
from jaxinv.types import Params, PRNGKey, TrainTest

# Labels of the streams drawn from the key of a seed's attacker.
_START, _INVERT, _ROBUST = range(3)
# By arm, seed and inversion: images [k, r, p].
Recovered = dict[tuple[str, int], dict[str, np.ndarray]]
Networks = dict[str, list[TrainedNetwork]]


def by_arm(
  groups: Sequence[DeepGroup], trained: Sequence[list[TrainedNetwork]]
) -> tuple[Networks, TrainedNetwork]:
  """Networks of each arm in the order of their seeds, and the verifier."""
  arms: Networks = {}
  for group, networks in zip(groups[:-1], trained[:-1], strict=True):
    arms.setdefault(group.arm.name, []).extend(networks)
  return arms, trained[-1][0]


def recover_all(
  settings: DeepSettings, data: TrainTest, networks: Networks, store: Path | None, host: Host
) -> Recovered:
  """Inverts every network by every recipe, or reads what was recovered before.

  Args:
    settings: what to do.
    data: the images; only their mean is given to the attacker.
    networks: of each arm.
    store: folder of what is finished; None to keep nothing.
    host: progress, messages, when to stop.

  Returns:
    The images; a network that diverged has none.

  Raises:
    Stopped: the host asked for it.
  """
  found: Recovered = {}
  for arm in settings.arms:
    for seed, network in enumerate(networks[arm.name]):
      if not healthy(network):
        continue
      path = store / f"recovered-{arm.name}-{seed:05d}.npz" if store else None
      images = load_whole(path, host.say) if path else None
      if images is None:
        images = _recover(settings, data, arm, network, seed, host)
        if path:
          save_whole(path, images)
      found[arm.name, seed] = images
  return found


def healthy(network: TrainedNetwork) -> bool:
  """Whether a network's losses and parameters stayed finite."""
  return bool(network.history["finite"].all())


def _recover(
  settings: DeepSettings,
  data: TrainTest,
  arm: DeepArm,
  network: TrainedNetwork,
  seed: int,
  host: Host,
) -> dict[str, np.ndarray]:
  model = model_of(settings, arm, data)
  labels = wanted(settings, data)
  key = attacker_key(settings, seed)
  images = {}
  for name, recipe in settings.inversions.items():
    if host.stop():
      raise Stopped(f"stopped before inverting {arm.name}, seed {seed}, by {name}")
    host.advanced(f"inverting {arm.name}, seed {seed}: {name}", 0)
    begin = starts(settings, data, recipe, key)
    again = jax.random.fold_in(key, _INVERT)
    ends = _invert(model, recipe, network.variables, begin, labels, again)
    images[name] = np.asarray(ends).reshape(data.train.num_classes, settings.restarts, -1)
  return images


@partial(jax.jit, static_argnums=(0, 1))
def _invert(
  model: nn.Module, recipe: Inversion, variables: Params, begin: Array, labels: Array, key: PRNGKey
) -> Array:
  victim = deep.make_victim(model, variables)
  return inversion.invert(victim, recipe, begin, labels, model.image_shape, key)[0]


def attacker_key(settings: DeepSettings, seed: int) -> PRNGKey:
  """The randomness of whoever inverts a seed's models; arms share it."""
  return draws.seed_keys(settings.root_seed, [seed])[0]


def wanted(settings: DeepSettings, data: TrainTest) -> Int[Array, " i"]:
  """The class that each recovered image is to be of: all restarts of one class in a row."""
  return jnp.repeat(jnp.arange(data.train.num_classes), settings.restarts)


def starts(
  settings: DeepSettings, data: TrainTest, recipe: Inversion, key: PRNGKey
) -> Float[Array, "i p"]:
  """Where an inversion of all classes and restarts begins."""
  mean = jnp.asarray(data.train.inputs.mean(0))
  num = data.train.num_classes * settings.restarts
  begin = jax.random.fold_in(key, _START)
  return inversion.make_starts(begin, recipe, mean, num, data.train.image_shape)


@partial(jax.jit, static_argnums=0)
def _answers(model: nn.Module, variables: Params, inputs: Array) -> Answer:
  return deep.answer_all(model, variables, inputs)


@partial(jax.jit, static_argnums=(0, 1))
def _robust(
  model: nn.Module, attack: Attack, variables: Params, inputs: Array, labels: Array, key: PRNGKey
) -> Array:
  how = (attack.name, inputs, labels, attack.radius, attack.steps, attack.restarts, key)
  return robust(deep.logits_of(model, variables), *how).mean()


def assemble(
  settings: DeepSettings,
  data: TrainTest,
  networks: Networks,
  verifier: TrainedNetwork,
  recovered: Recovered,
  host: Host,
) -> DeepFound:
  """Measures all networks and all that was recovered from them.

  Args:
    settings: what was asked.
    data: the images.
    networks: of each arm.
    verifier: who checks what is recovered.
    recovered: by arm and seed.
    host: told what is being worked on.

  Returns:
    What came of the experiment.
  """
  masks = draw_masks(settings, data.train.labels)
  judge = partial(_answers, model_of(settings, settings.verifier, data), verifier.variables)
  arms = {}
  for arm in settings.arms:
    host.advanced(f"measuring {arm.name}", 0)
    arms[arm.name] = _assemble_arm(settings, data, arm, networks[arm.name], recovered, judge, masks)
  return DeepFound(
    arms=arms,
    verifier={name: float(verifier.history[name][-1]) for name in CURVES[1:]},
    controls=_controls(settings, data, judge),
    names=data.train.names,
    image_shape=data.train.image_shape,
    train_inputs=data.train.inputs,
    train_labels=data.train.labels,
    test_inputs=data.test.inputs,
    test_labels=data.test.labels,
  )


def _controls(settings: DeepSettings, data: TrainTest, judge) -> dict[str, dict[str, float]]:
  """What the verifier says of images that nothing was recovered into."""
  labels = np.asarray(wanted(settings, data))
  found = {}
  for name in dict.fromkeys(recipe.start for recipe in settings.inversions.values()):
    recipe = next(r for r in settings.inversions.values() if r.start == name)
    keys = [attacker_key(settings, seed) for seed in range(settings.num_seeds)]
    images = np.concatenate([starts(settings, data, recipe, key) for key in keys])
    found[f"start: {name}"] = _verdict(judge(images), np.tile(labels, settings.num_seeds))
  found["test images"] = _verdict(judge(data.test.inputs), data.test.labels)
  return found


def _verdict(said: Answer, labels: Int[np.ndarray, " i"]) -> dict[str, float]:
  """Share of images taken for their class, and the mean probability of it."""
  chances = np.asarray(jax.nn.softmax(said.logits))
  return {
    "verifier_accuracy": float((chances.argmax(1) == labels).mean()),
    "verifier_confidence": float(chances[np.arange(len(labels)), labels].mean()),
  }


def _assemble_arm(
  settings: DeepSettings,
  data: TrainTest,
  arm: DeepArm,
  networks: Sequence[TrainedNetwork],
  recovered: Recovered,
  judge,
  masks: KeepMasks,
) -> DeepArmFound:
  model = model_of(settings, arm, data)
  saved = networks[: settings.save_seeds]
  history = {name: np.stack([network.history[name] for network in networks]) for name in CURVES}
  measures = {name: values[:, -1].astype(np.float64) for name, values in history.items()}
  measures["robust_accuracy"] = np.array(
    [_robust_accuracy(settings, data, model, network, i) for i, network in enumerate(networks)]
  )
  looks = [
    _look(settings, data, model, network, seed, recovered.get((arm.name, seed)), judge, masks)
    for seed, network in enumerate(networks)
  ]
  inverted = {name: _pool([look.get(name) for look in looks], settings, data, name)
              for name in settings.inversions}  # fmt: skip
  flat = [flatten(network.variables) for network in saved]
  variables = {name: np.stack([one[name] for one in flat]) for name in flat[0]}
  kernels = networks[0].variables["params"]["Conv_0"]["kernel"]
  return DeepArmFound(networks[0].steps, history, measures, inverted, kernels, variables)


def _robust_accuracy(settings, data, model, network, seed: int) -> float:
  if not healthy(network):
    return float("nan")
  chosen = slice(settings.attack.images or None)
  inputs, labels = data.test.inputs[chosen], data.test.labels[chosen]
  key = jax.random.fold_in(attacker_key(settings, seed), _ROBUST)
  return float(_robust(model, settings.attack, network.variables, inputs, labels, key))


def _look(
  settings: DeepSettings,
  data: TrainTest,
  model: nn.Module,
  network: TrainedNetwork,
  seed: int,
  images: Mapping[str, np.ndarray] | None,
  judge,
  masks: KeepMasks,
) -> dict[str, dict]:
  """What one network's recovered images are like, by inversion; empty where it diverged."""
  if images is None:
    return {}
  answer = partial(_answers, model, network.variables)
  known, unknown = answer(data.train.inputs).features, answer(data.test.inputs).features
  labels = np.asarray(wanted(settings, data))
  kept = masks.kept[seed]
  looks = {}
  for name, stacked in images.items():
    flat = stacked.reshape(len(labels), -1)
    own, seen = answer(flat), judge(flat)
    similarity = {
      "features": nearest.cosine(np.asarray(own.features), np.asarray(known)),
      "pixels": nearest.pixel_similarity(flat, data.train.inputs),
    }
    cases = {
      how: nearest.Case(values, labels, data.train.labels, masks.candidate, kept)
      for how, values in similarity.items()
    }
    measures = _verdict(seen, labels)
    measures["own_accuracy"] = float((np.asarray(own.logits).argmax(1) == labels).mean())
    spread = inversion.diversity(seen.features, jnp.asarray(labels), data.train.num_classes)
    measures["diversity"] = float(np.asarray(spread).mean())
    for how, case in cases.items():
      measures[f"nearer_{how}"] = float(nearest.compare_members(*case).nearer.mean())
    right = np.asarray(seen.logits).argmax(1) == labels
    apart = nearest.cosine(np.asarray(own.features), np.asarray(unknown))
    looks[name] = {
      "images": stacked,
      "measures": measures,
      "by_class": right.reshape(-1, settings.restarts).mean(1),
      "cases": cases,
      "neighbours": _neighbours(similarity["features"], kept, apart, settings.restarts),
    }
  return looks


def _neighbours(
  trained: Float[np.ndarray, "i n"],
  kept: Bool[np.ndarray, " n"],
  held_out: Float[np.ndarray, "i o"],
  restarts: int,
) -> Neighbours:
  """The nearest image of any class that was trained on, and the nearest of the test images."""
  pairs = (trained, np.broadcast_to(kept, trained.shape)), (held_out, np.ones_like(held_out, bool))
  columns = [column.reshape(-1, restarts) for pair in pairs for column in nearest.nearest(*pair)]
  return Neighbours(*columns)


def _pool(looks: Sequence[dict | None], settings: DeepSettings, data: TrainTest, name: str):
  """One inversion's looks at all seeds, put together; a seed that diverged has NaN."""
  there = [look for look in looks if look is not None]
  classes, restarts = data.train.num_classes, settings.restarts
  if not there:
    nothing = np.full(len(looks), np.nan)
    empty = np.zeros((0, classes, restarts, data.train.inputs.shape[1]), np.float32)
    nobody = Neighbours(*(np.full((classes, restarts), x) for x in (-1, np.nan, -1, np.nan)))
    unknown = nearest.Memorised(float("nan"), float("nan"), 1.0, 1.0)
    return Inverted(
      empty,
      {"verifier_accuracy": nothing},
      np.full((len(looks), classes), np.nan),
      {"features": unknown, "pixels": unknown},
      nobody,
    )
  blank = dict.fromkeys(there[0]["measures"], float("nan"))
  rows = [look["measures"] if look else blank for look in looks]
  # Seeds 2 j and 2 j + 1 keep complementary halves: one order of the candidates is dealt to all.
  memorised = {
    how: nearest.pooled_test(
      [look["cases"][how] for look in there],
      np.random.default_rng(settings.root_seed),
      num=1999,
      together=True,
    )
    for how in there[0]["cases"]
  }
  nothing = np.full(classes, np.nan)
  return Inverted(
    images=np.stack([look["images"] for look in there][: settings.save_seeds]),
    measures={metric: np.array([row[metric] for row in rows]) for metric in blank},
    by_class=np.stack([look["by_class"] if look else nothing for look in looks]),
    memorised=memorised,
    neighbours=there[0]["neighbours"],
  )


def table(found: DeepFound) -> dict[str, dict[str, dict[str, Float[np.ndarray, " s"]]]]:
  """All measures, {arm: {attack: {metric: [s]}}}; `model` is the attack for the model's own."""
  return {
    name: {"model": arm.measures}
    | {how: inverted.measures for how, inverted in arm.inverted.items()}
    for name, arm in found.arms.items()
  }


def summarize(found: DeepFound) -> Summary:
  """Means over the seeds that did not diverge, with 95 % bootstrap intervals; see `outcome`."""
  return {
    name: summarize_arm(measures, np.isfinite(measures["model"]["robust_accuracy"]))
    for name, measures in table(found).items()
  }


def compare(found: DeepFound) -> dict[str, dict[str, Interval]]:
  """The last arm less the first, paired by seed, by inversion and metric; empty for one arm."""
  arms = list(found.arms.values())
  if len(arms) < 2:
    return {}
  first, last = arms[0].inverted, arms[-1].inverted
  return {
    name: {
      metric: stats.paired_difference(last[name].measures[metric], first[name].measures[metric])
      for metric in first[name].measures
      if metric in last[name].measures
    }
    for name in first
  }
