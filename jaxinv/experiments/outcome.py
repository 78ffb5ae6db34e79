"""The results of all groups put together: by arm, over all seeds."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinv.ensemble import mapping
from jaxinv.ensemble.program import chunk_lengths
from jaxinv.experiments import leakage
from jaxinv.experiments.experiment import Lab, make_lab, plan, split_of
from jaxinv.experiments.groups import Host, Result, run_groups
from jaxinv.experiments.settings import Settings
from jaxinv.metrics import stats
from jaxinv.types import Dataset

_NOBODY = Host()
# Of a record, what goes into the history; `finite` is told apart.
CURVES = ("train_loss", "train_accuracy", "holdout_accuracy")


class ArmOutcome(NamedTuple):
  """What came of one arm, over seeds 0 .. s - 1 in order.

  Attributes:
    measures: by attack, by name, one value a seed; NaN where the seed diverged. `seed_mean` has
      one value in all.
    healthy: whether a seed's losses and weights stayed finite.
    history: by name, a value for each seed and recorded step; accuracies of what was trained, or
      where the experiment glances at records of what was released.
    images: by attack, recovered images of the first seeds, [v, k, h, w], 0..255.
    arrays: weights, init_weights and bias of the same seeds, for an MLP all parameters too; of
      the gram engine `coefficients` [v, n, k] and `init_share` [v], see `gram`.
    frames: weights of the watched class at each recorded step, of the first seed.
    trail: what was measured at each recorded step, by name: `ATTACK/METRIC` [s, t] and
      `identified/ATTACK` [s, t, k].
    details: what is more than a number a seed, by name: `logits` [s, n, k], `similarity/ATTACK`
      [s, n], see `leakage`.
    prefixes: measures of the average model of the first 1, 2, 4, ... seeds, by how many of them
      did not diverge.
  """

  measures: dict[str, dict[str, Float[np.ndarray, " _"]]]
  healthy: Bool[np.ndarray, " s"]
  history: dict[str, Float[np.ndarray, "s t"]]
  images: dict[str, Float[np.ndarray, "_ k h w"]]
  arrays: dict[str, np.ndarray]
  frames: Float[np.ndarray, "t p"]
  trail: dict[str, np.ndarray]
  details: dict[str, np.ndarray]
  prefixes: dict[int, dict[str, float]]


class Outcome(NamedTuple):
  """What came of an experiment.

  Attributes:
    steps: the recorded steps.
    arms: by name, in the order given.
    train_means: class means of the first seeds' training splits, 0..255.
    holdout_means: the same of what was held out; zeros where nothing was.
    splits: indices trained on and held out, of the same seeds.
  """

  steps: Int[np.ndarray, " t"]
  arms: dict[str, ArmOutcome]
  train_means: Float[np.ndarray, "v k h w"]
  holdout_means: Float[np.ndarray, "v k h w"]
  splits: dict[str, Int[np.ndarray, "v _"]]


def run(settings: Settings, dataset: Dataset, host: Host = _NOBODY) -> Outcome:
  """Trains, examines and puts together a whole experiment, in memory.

  Args:
    settings: what to do.
    dataset: images with their classes.
    host: progress, messages, when to stop.

  Returns:
    The outcome.

  Raises:
    InputError: settings and data do not fit.
  """
  lab = make_lab(settings, dataset)
  return assemble(lab, run_groups(lab, plan(lab), None, host))


def assemble(lab: Lab, results: Sequence[Result]) -> Outcome:
  """Puts the groups' results together, and attacks each arm's average model.

  Args:
    lab: settings and data.
    results: what is kept of each group.

  Returns:
    The outcome.
  """
  settings = lab.settings
  everyone = split_of(lab, range(settings.num_seeds))
  arms = {
    arm.name: _assemble_arm(lab, results, index, everyone)
    for index, arm in enumerate(settings.arms)
  }
  kept = split_of(lab, range(min(settings.save_seeds, settings.num_seeds)))
  means = [leakage.class_images(lab.look, _one(kept, i)) for i in range(len(kept.train))]
  train_means, holdout_means = (np.stack(jax.device_get(x)) for x in zip(*means, strict=True))
  lengths = chunk_lengths(settings.steps, settings.record_every)
  steps = np.cumsum([0, *lengths])
  indices = {"train": np.asarray(kept.train), "holdout": np.asarray(kept.holdout)}
  return Outcome(steps, arms, train_means, holdout_means, indices)


def _one(data, i: int):
  return mapping.run_at(mapping.SHARED_DATA, data, i)


def _assemble_arm(lab: Lab, results: Sequence[Result], arm: int, everyone) -> ArmOutcome:
  """One arm's values in the order of the seeds, from wherever in the groups they stand."""
  parts = [(result, result["arm"] == arm) for result in results if (result["arm"] == arm).any()]

  def gather(name, axis=0):
    return np.concatenate([r[name].compress(mine, axis) for r, mine in parts], axis)

  def gather_saved(name):
    return np.concatenate([r[name][mine[r["saved"]]] for r, mine in parts if name in r])

  some = next(r for r, mine in parts if mine[r["saved"]].any())
  healthy = gather("finite")
  trail = {name: gather(f"trail/{name}", 1).swapaxes(0, 1) for name in _below(some, "trail")}
  # Of a release that is not what was trained, the accuracies are its own.
  history = {name: trail.get(f"model/{name}", gather(f"history/{name}", 1).T) for name in CURVES}
  measures: dict[str, dict[str, np.ndarray]] = {
    "model": {name: values[:, -1] for name, values in history.items()}
  }
  for key in (key for key in some if key.startswith("measures/")):
    _, attack, name = key.split("/")
    measures.setdefault(attack, {})[name] = gather(key)
  for values in measures.values():
    for name in values:
      values[name] = np.where(healthy, values[name], np.nan)
  images = {
    key.split("/")[1]: gather_saved(key).astype(np.float32)
    for key in some
    if key.startswith("images/")
  }
  means = _mean_models(lab, parts, arm, healthy, everyone)
  prefixes = {count: values for count, (_, values) in means.items()}
  if means:
    recovered, values = means[max(means)]
    images["seed_mean"] = np.asarray(recovered, np.float32)[None]
    measures["seed_mean"] = {name: np.asarray(value)[None] for name, value in values.items()}
  names = {key.removeprefix("extras/"): key for key in some if key.split("/")[0] in _ARRAYS}
  return ArmOutcome(
    measures=measures,
    healthy=healthy,
    history=history,
    images=images,
    arrays={name: gather_saved(key) for name, key in names.items()},
    frames=next(r[f"frames/{arm}"] for r, _ in parts if f"frames/{arm}" in r),
    trail=trail,
    details={name: gather(f"details/{name}") for name in _below(some, "details")},
    prefixes=prefixes,
  )


def _below(result: Result, name: str) -> list[str]:
  """What a result has under a name."""
  return [key.removeprefix(f"{name}/") for key in result if key.startswith(f"{name}/")]


def _mean_models(lab: Lab, parts, arm: int, healthy: Bool[np.ndarray, " s"], everyone):
  """Attacks the average of the models of the first seeds, for all numbers there are sums of.

  Returns:
    {number of models: (images, measures)}.
  """
  sums: dict[int, np.ndarray] = {}
  for result, _ in parts:
    for name in _below(result, f"sum/{arm}"):
      sums[int(name)] = sums.get(int(name), 0.0) + np.float64(result[f"sum/{arm}/{name}"])
  total, found = 0.0, {}
  for prefix in sorted(sums):
    total = total + sums[prefix]
    last = 2**prefix if lab.settings.prefixes else len(healthy)
    counted = healthy & (np.arange(len(healthy)) < last)
    mean_weights = jnp.asarray(total / counted.sum(), float)
    found[int(counted.sum())] = jax.device_get(
      leakage.measure_seed_mean(lab.look, mean_weights, everyone, jnp.asarray(counted))
    )
  return found


_ARRAYS = ("weights", "init_weights", "bias", "params", "init_params", "extras")


def summarize(outcome: Outcome) -> dict:
  """Means over the seeds that did not diverge, with 95 % bootstrap intervals.

  Args:
    outcome: of an experiment.

  Returns:
    {arm: {attack: {metric: {mean, low, high, n}}}}, and {arm: {"diverged": [seeds]}}. `seed_mean`
    is one image from n seeds and has no interval over seeds: low and high are None, as they are
    where a single seed counts.
  """
  return {name: summarize_arm(arm.measures, arm.healthy) for name, arm in outcome.arms.items()}


def summarize_arm(
  measures: Mapping[str, Mapping[str, Float[np.ndarray, " _"]]], healthy: Bool[np.ndarray, " s"]
) -> dict:
  """One arm's part of the summary; see `summarize`.

  Args:
    measures: by attack, by name, one value a seed; what is not finite is left out.
    healthy: which seeds did not diverge.

  Returns:
    {attack: {metric: {mean, low, high, n}}, "diverged": [seeds]}.
  """
  table: dict[str, dict] = {attack: {} for attack in measures}
  rows = [
    (attack, metric, values[np.isfinite(values)])
    for attack, named in measures.items()
    for metric, values in named.items()
  ]
  for size in {len(values) for *_, values in rows if len(values)}:
    same = [row for row in rows if len(row[2]) == size]
    intervals = stats.bootstrap_intervals(np.stack([values for *_, values in same]))
    for (attack, metric, _), interval in zip(same, intervals, strict=True):
      n = int(healthy.sum()) if attack == "seed_mean" else interval.n
      table[attack][metric] = interval._replace(n=n)._asdict()
  diverged = [int(seed) for seed in np.flatnonzero(~healthy)]
  return {attack: table[attack] for attack in table if table[attack]} | {"diverged": diverged}
