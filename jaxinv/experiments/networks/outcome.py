"""An experiment with networks put together: measures of all seeds, summary, differences."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float

from jaxinv.ensemble.groups import Host, Stopped
from jaxinv.experiments.networks.findings import (
  ArmResult,
  Inverted,
  Neighbours,
  NetworksResult,
  Summary,
)
from jaxinv.experiments.networks.measures import (
  InversionMeasures,
  Judges,
  controls,
  make_judges,
  measure_inversions,
  robust_accuracy,
)
from jaxinv.experiments.networks.recovery import Recovered, attacker_key, starts
from jaxinv.experiments.networks.settings import NetworkArm, NetworkSettings
from jaxinv.experiments.networks.training import NetworkGroup, TrainedNetwork, healthy
from jaxinv.experiments.outcome import CURVES, summarize_arm
from jaxinv.metrics import memorisation, stats
from jaxinv.metrics.stats import Interval
from jaxinv.models.params import flatten
from jaxinv.types import TrainTest

# Deals of the permutation test of memory.
_DEALS = 1999


def assemble(
  settings: NetworkSettings,
  data: TrainTest,
  groups: Sequence[NetworkGroup],
  trained: Sequence[list[TrainedNetwork]],
  recovered: Recovered,
  host: Host,
) -> NetworksResult:
  """Measures all networks and all that was recovered from them.

  Args:
    settings: what was asked.
    data: the images.
    groups: the groups that were trained, the verifier last.
    trained: each group's networks.
    recovered: by arm and seed.
    host: is given progress, and says when to stop.

  Returns:
    What came of the experiment.

  Raises:
    Stopped: the host asked for it.
  """
  verifier = trained[-1][0]
  judges = make_judges(settings, data, verifier)
  networks: dict[str, list[TrainedNetwork]] = {arm.name: [] for arm in settings.arms}
  for group, members in zip(groups[:-1], trained[:-1], strict=True):
    networks[group.arm.name].extend(members)
  return NetworksResult(
    arms={
      arm.name: _assemble_arm(judges, arm, networks[arm.name], recovered, host)
      for arm in settings.arms
    },
    verifier={name: float(verifier.history[name][-1]) for name in CURVES[1:]},
    verifier_adversary=settings.verifier.adversary,
    verifier_variables=flatten(verifier.variables),
    controls=controls(judges),
    starts=_first_starts(settings, data),
    names=data.train.names,
    image_shape=data.train.image_shape,
    train_inputs=data.train.inputs,
    train_labels=data.train.labels,
    test_inputs=data.test.inputs,
    test_labels=data.test.labels,
  )


def _first_starts(settings: NetworkSettings, data: TrainTest) -> dict[str, np.ndarray]:
  """Of each inversion where the first image of each class began, for the first seed."""
  key = attacker_key(settings, 0)
  return {
    name: np.asarray(starts(settings, data, recipe, key))[:: settings.restarts]
    for name, recipe in settings.inversions.items()
  }


def _assemble_arm(
  judges: Judges,
  arm: NetworkArm,
  networks: Sequence[TrainedNetwork],
  recovered: Recovered,
  host: Host,
) -> ArmResult:
  settings = judges.settings
  sound = np.array([healthy(network) for network in networks])
  history = {name: np.stack([network.history[name] for network in networks]) for name in CURVES}
  own = {name: values[:, -1] for name, values in history.items()}
  own["weight_movement"] = np.array([network.weight_movement for network in networks])
  robust, measured = [], []
  for seed, network in enumerate(networks):
    if host.stop():
      raise Stopped(f"stopped before measuring {arm.name}, seed {seed}")
    host.advanced(f"measuring {arm.name}, seed {seed}", 0)
    robust.append(robust_accuracy(judges, arm, network, seed))
    images = recovered.get((arm.name, seed), {})
    measured.append(measure_inversions(judges, arm, network, seed, images) if images else {})
  own["robust_accuracy"] = np.array(robust)
  flat = [flatten(network.variables) for network in networks[: settings.save_seeds]]
  return ArmResult(
    adversary=arm.adversary,
    steps=networks[0].steps,
    healthy=sound,
    history=history,
    measures={name: np.where(sound, values, np.nan) for name, values in own.items()},
    inverted={
      name: _pool(judges, [of_seed.get(name) for of_seed in measured])
      for name in settings.inversions
    },
    kernels=_kernels(networks, judges.data.train.image_shape[-1]),
    variables={name: np.stack([one[name] for one in flat]) for name in flat[0]},
  )


def _kernels(
  networks: Sequence[TrainedNetwork], colours: int
) -> Float[np.ndarray, "kh kw c u"] | None:
  """Those of the convolution that takes the image, of the first network that did not diverge."""
  shown = next(filter(healthy, networks), networks[0]).variables["params"]
  kernels = (x for x in jax.tree.leaves(shown) if x.ndim == 4 and x.shape[2] == colours)
  return next(kernels, None)


def _pool(judges: Judges, measured: Sequence[InversionMeasures | None]) -> Inverted:
  """One inversion's measures of all seeds, put together; a seed that diverged has NaN."""
  there = {seed: one for seed, one in enumerate(measured) if one is not None}
  if not there:
    return _nothing(judges, len(measured))
  first, saved = next(iter(there.values())), list(there)[: judges.settings.save_seeds]
  unknown = np.full_like(first.by_class, np.nan)
  # Seeds 2 j and 2 j + 1 keep complementary halves: one order of the candidates is dealt to all.
  memorised = {
    kind: memorisation.pooled_test(
      [one.cases[kind] for one in there.values()],
      np.random.default_rng(judges.settings.root_seed),
      num=_DEALS,
      together=True,
    )
    for kind in first.cases
  }
  return Inverted(
    images=np.stack([there[seed].images for seed in saved]),
    seeds=np.array(saved),
    measures={
      name: np.array([one.measures[name] if one else np.nan for one in measured])
      for name in first.measures
    },
    by_class=np.stack([one.by_class if one else unknown for one in measured]),
    memorised=memorised,
    neighbours=first.neighbours,
  )


def _nothing(judges: Judges, seeds: int) -> Inverted:
  """What is known of an inversion where every network diverged."""
  train, restarts = judges.data.train, judges.settings.restarts
  unknown = memorisation.Memorised(float("nan"), float("nan"), 1.0, 1.0)
  no_neighbours = (np.full((train.num_classes, restarts), x) for x in (-1, np.nan, -1, np.nan))
  return Inverted(
    images=np.zeros((0, train.num_classes, restarts, train.inputs.shape[1]), np.float32),
    seeds=np.zeros(0, int),
    measures={"verifier_accuracy": np.full(seeds, np.nan)},
    by_class=np.full((seeds, train.num_classes), np.nan),
    memorised={"features": unknown, "pixels": unknown},
    neighbours=Neighbours(*no_neighbours),
  )


def table(result: NetworksResult) -> dict[str, Mapping[str, dict[str, Float[np.ndarray, " s"]]]]:
  """All measures, {arm: {attack: {metric: [s]}}}; `model` is the attack for the model's own."""
  return {
    name: {"model": arm.measures}
    | {how: inverted.measures for how, inverted in arm.inverted.items()}
    for name, arm in result.arms.items()
  }


def summarize(result: NetworksResult) -> Summary:
  """Means over the seeds that did not diverge, with 95 % intervals; see `outcome`."""
  return {
    name: summarize_arm(measures, result.arms[name].healthy)
    for name, measures in table(result).items()
  }


def compare(result: NetworksResult) -> dict[str, dict[str, Interval]]:
  """The last arm less the first, paired by seed, by inversion and metric; empty for one arm."""
  arms = list(result.arms.values())
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
