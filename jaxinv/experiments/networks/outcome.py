"""An experiment with networks put together: measures of all seeds, summary, differences."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from jaxinv.ensemble.groups import Host, Stopped
from jaxinv.experiments.networks.findings import (
  DeepArmFound,
  DeepFound,
  Inverted,
  Neighbours,
  Summary,
)
from jaxinv.experiments.networks.measures import (
  Bench,
  Look,
  controls,
  examine,
  make_bench,
  robust_accuracy,
)
from jaxinv.experiments.networks.recovery import Recovered, attacker_key, starts
from jaxinv.experiments.networks.settings import DeepArm, DeepSettings
from jaxinv.experiments.networks.training import DeepGroup, TrainedNetwork, healthy
from jaxinv.experiments.outcome import CURVES, summarize_arm
from jaxinv.metrics import memorisation, stats
from jaxinv.metrics.stats import Interval
from jaxinv.models.params import flatten
from jaxinv.types import Params, TrainTest

# Deals of the permutation test of memory.
_DEALS = 1999


def assemble(
  settings: DeepSettings,
  data: TrainTest,
  groups: Sequence[DeepGroup],
  trained: Sequence[list[TrainedNetwork]],
  recovered: Recovered,
  host: Host,
) -> DeepFound:
  """Measures all networks and all that was recovered from them.

  Args:
    settings: what was asked.
    data: the images.
    groups: who was trained, the verifier last.
    trained: each group's networks.
    recovered: by arm and seed.
    host: told what is being worked on, and asked when to stop.

  Returns:
    What came of the experiment.

  Raises:
    Stopped: the host asked for it.
  """
  verifier = trained[-1][0]
  bench = make_bench(settings, data, verifier)
  networks: dict[str, list[TrainedNetwork]] = {arm.name: [] for arm in settings.arms}
  for group, members in zip(groups[:-1], trained[:-1], strict=True):
    networks[group.arm.name].extend(members)
  return DeepFound(
    arms={
      arm.name: _assemble_arm(bench, arm, networks[arm.name], recovered, host)
      for arm in settings.arms
    },
    verifier={name: float(verifier.history[name][-1]) for name in CURVES[1:]},
    verifier_adversary=settings.verifier.adversary,
    verifier_variables=flatten(verifier.variables),
    controls=controls(bench),
    starts=_first_starts(settings, data),
    names=data.train.names,
    image_shape=data.train.image_shape,
    train_inputs=data.train.inputs,
    train_labels=data.train.labels,
    test_inputs=data.test.inputs,
    test_labels=data.test.labels,
  )


def _first_starts(settings: DeepSettings, data: TrainTest) -> dict[str, np.ndarray]:
  """Of each inversion where the first image of each class began, for the first seed."""
  key = attacker_key(settings, 0)
  return {
    name: np.asarray(starts(settings, data, recipe, key))[:: settings.restarts]
    for name, recipe in settings.inversions.items()
  }


def _assemble_arm(
  bench: Bench,
  arm: DeepArm,
  networks: Sequence[TrainedNetwork],
  recovered: Recovered,
  host: Host,
) -> DeepArmFound:
  settings = bench.settings
  history = {name: np.stack([network.history[name] for network in networks]) for name in CURVES}
  whole = np.array([healthy(network) for network in networks])
  measures = {name: np.where(whole, values[:, -1], np.nan) for name, values in history.items()}
  movement = np.array([network.weight_movement for network in networks])
  measures["weight_movement"] = np.where(whole, movement, np.nan)
  robust, looks = [], []
  for seed, network in enumerate(networks):
    if host.stop():
      raise Stopped(f"stopped before measuring {arm.name}, seed {seed}")
    host.advanced(f"measuring {arm.name}, seed {seed}", 0)
    robust.append(robust_accuracy(bench, arm, network, seed))
    images = recovered.get((arm.name, seed), {})
    looks.append(examine(bench, arm, network, seed, images) if images else {})
  measures["robust_accuracy"] = np.array(robust)
  flat = [flatten(network.variables) for network in networks[: settings.save_seeds]]
  return DeepArmFound(
    adversary=arm.adversary,
    steps=networks[0].steps,
    history=history,
    measures=measures,
    inverted={
      name: _pool(bench, [look.get(name) for look in looks]) for name in settings.inversions
    },
    kernels=_kernels(networks),
    variables={name: np.stack([one[name] for one in flat]) for name in flat[0]},
  )


def _kernels(networks: Sequence[TrainedNetwork]) -> Float[np.ndarray, "kh kw c u"]:
  """The first layer's, of the first network that did not diverge."""
  shown: Params = next(filter(healthy, networks), networks[0]).variables
  return shown["params"]["Conv_0"]["kernel"]


def _pool(bench: Bench, looks: Sequence[Look | None]) -> Inverted:
  """One inversion's looks at all seeds, put together; a seed that diverged has NaN."""
  seeds = np.array([seed for seed, look in enumerate(looks) if look is not None], int)
  there = [look for look in looks if look is not None]
  if not there:
    return _nothing(bench, len(looks))
  names, unknown = there[0].measures, np.full_like(there[0].by_class, np.nan)
  # Seeds 2 j and 2 j + 1 keep complementary halves: one order of the candidates is dealt to all.
  memorised = {
    how: memorisation.pooled_test(
      [look.cases[how] for look in there],
      np.random.default_rng(bench.settings.root_seed),
      num=_DEALS,
      together=True,
    )
    for how in there[0].cases
  }
  return Inverted(
    images=np.stack([look.images for look in there][: bench.settings.save_seeds]),
    seeds=seeds[: bench.settings.save_seeds],
    measures={
      name: np.array([look.measures[name] if look else np.nan for look in looks]) for name in names
    },
    by_class=np.stack([look.by_class if look else unknown for look in looks]),
    memorised=memorised,
    neighbours=there[0].neighbours,
  )


def _nothing(bench: Bench, seeds: int) -> Inverted:
  """What is known of an inversion where every network diverged."""
  train, restarts = bench.data.train, bench.settings.restarts
  unknown = memorisation.Memorised(float("nan"), float("nan"), 1.0, 1.0)
  nobody = (np.full((train.num_classes, restarts), x) for x in (-1, np.nan, -1, np.nan))
  return Inverted(
    images=np.zeros((0, train.num_classes, restarts, train.inputs.shape[1]), np.float32),
    seeds=np.zeros(0, int),
    measures={"verifier_accuracy": np.full(seeds, np.nan)},
    by_class=np.full((seeds, train.num_classes), np.nan),
    memorised={"features": unknown, "pixels": unknown},
    neighbours=Neighbours(*nobody),
  )


def table(found: DeepFound) -> dict[str, Mapping[str, dict[str, Float[np.ndarray, " s"]]]]:
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
