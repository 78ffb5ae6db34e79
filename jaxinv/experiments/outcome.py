"""The results of all groups put together: by arm, over all seeds."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinv.attacks import DEFAULT, Attack, seed_mean
from jaxinv.ensemble.compilation import use_cache
from jaxinv.ensemble.groups import Host
from jaxinv.ensemble.mapping import SHARED_DATA, run_at
from jaxinv.ensemble.program import chunk_lengths
from jaxinv.ensemble.progress import ProgressBar
from jaxinv.errors import InputError
from jaxinv.experiments import averages, leakage
from jaxinv.experiments.averages import TOGETHER
from jaxinv.experiments.experiment import Experiment, make_experiment, split_of
from jaxinv.experiments.groups import GroupResult, run_groups
from jaxinv.experiments.planning import plan
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.metrics import stats
from jaxinv.metrics.metric import DEFAULT as DEFAULT_METRICS
from jaxinv.metrics.metric import Metric
from jaxinv.models.params import flatten
from jaxinv.runs import tables
from jaxinv.training import gram
from jaxinv.training.hyper import ON_RELEASE, used
from jaxinv.types import Data, Dataset

# Of a record, what goes into the history; `finite` is told apart.
CURVES = ("train_loss", "train_accuracy", "holdout_accuracy")


_TOGETHER_NAMES = {attack.name for attack in TOGETHER}


class ArmOutcome(NamedTuple):
  """What came of one arm, over seeds 0 .. s - 1 in order.

  Attributes:
    measures: by attack, by name, one value a seed; NaN where the seed diverged. those on
      several models have one value in all.
    healthy: whether a seed's losses and weights stayed finite.
    history: by name, a value for each seed and recorded step; accuracies of what was trained, or
      where the experiment glances at records of what was released.
    images: by attack, recovered images of the first seeds, [v, k, h, w], 0..255.
    arrays: weights, init_weights and bias of the same seeds, for an MLP all parameters too; of
      the gram engine `coefficients` [v, n, k] and `init_share` [v], see `gram`, unless what is
      released differs from what was trained.
    frames: weights of the watched class at each recorded step, of the first seed.
    trail: what was measured at each recorded step: by attack, by metric, [s, t].
    identified: by attack, whether each person was identified at each recorded step, [s, t, k].
    by_person: by attack, the centred NCC of each person at each recorded step, [s, t, k].
    details: what is more than a number a seed at the end: by attack `by_person` [s, k] and
      `similarity` [s, n]; `logits` [s, n, k]; see `leakage`.
    prefixes: measures of the average model of the first 1, 2, 4, ... seeds, by how many of them
      did not diverge.
    without: of the attacks on several models, by attack, by name, the measure without each of
      `planning.BLOCKS` parts of the seeds in turn; empty where there is one part only.
  """

  measures: dict[str, dict[str, Float[np.ndarray, " _"]]]
  healthy: Bool[np.ndarray, " s"]
  history: dict[str, Float[np.ndarray, "s t"]]
  images: dict[str, Float[np.ndarray, "_ k h w *c"]]
  arrays: dict[str, np.ndarray]
  frames: Float[np.ndarray, "t p"]
  trail: dict[str, dict[str, Float[np.ndarray, "s t"]]]
  identified: dict[str, Bool[np.ndarray, "s t k"]]
  by_person: dict[str, Float[np.ndarray, "s t k"]]
  details: dict[str, Any]
  prefixes: dict[int, dict[str, float]]
  without: dict[str, dict[str, Float[np.ndarray, " b"]]] = {}  # noqa: RUF012

  def __repr__(self) -> str:
    diverged = int((~self.healthy).sum())
    return f"ArmOutcome({len(self.healthy)} seeds, {diverged} diverged: {', '.join(self.measures)})"


class Outcome(NamedTuple):
  """What came of an experiment.

  Attributes:
    steps: the recorded steps.
    arms: by name, in the order given.
    train_means: class means of the first seeds' training splits, 0..255.
    holdout_means: the same of what was held out; zeros where nothing was.
    splits: indices trained on and held out, of the same seeds.
    attacks: those that were made, in the order asked for; those on several models last.
    metrics: those that were measured.
  """

  steps: Int[np.ndarray, " t"]
  arms: dict[str, ArmOutcome]
  train_means: Float[np.ndarray, "v k h w *c"]
  holdout_means: Float[np.ndarray, "v k h w *c"]
  splits: dict[str, Int[np.ndarray, "v _"]]
  attacks: tuple[Attack, ...] = (*DEFAULT, *TOGETHER)
  metrics: tuple[Metric, ...] = DEFAULT_METRICS

  def __repr__(self) -> str:
    lines = [f"  {name}: {_in_words(table)}" for name, table in summarize(self).items()]
    return "\n".join([f"Outcome of {self.steps[-1]} steps, means over seeds:", *lines])

  def to_frame(self) -> Any:
    """All measurements as a pandas data frame with the columns of metrics.csv.

    Returns:
      One row a measurement: arm, seed (-1 for what is of all seeds), attack, metric, value; seeds
      that diverged are left out.

    Raises:
      InputError: pandas, which is optional, is not installed.
    """
    try:
      import pandas
    except ImportError:
      raise InputError("to_frame needs pandas: pip install pandas") from None
    rows = [
      (name, seed, attack, metric, float(value))
      for name, arm in self.arms.items()
      for seed, attack, metric, value in tables.measurements(arm.measures)
    ]
    return pandas.DataFrame(rows, columns=["arm", "seed", "attack", "metric", "value"])


def run(
  settings: Settings, dataset: Dataset, host: Host | None = None, progress: bool = True
) -> Outcome:
  """Trains, examines and puts together a whole experiment, in memory.

  Args:
    settings: what to do.
    dataset: images with their classes.
    host: progress, messages, when to stop, in place of a progress bar.
    progress: whether to show one; only ever on a terminal.

  Returns:
    The outcome.

  Raises:
    InputError: settings and data do not fit.

  Example:
    >>> import jaxinv
    >>> people = jaxinv.synthetic_faces(num_people=3, images_per_person=4)
    >>> sgd = jaxinv.Arm("sgd", "sgd", jaxinv.Hyper(learning_rate=0.1))
    >>> found = jaxinv.run(jaxinv.Settings((sgd,), num_seeds=2, steps=5, batch_size=0), people)
    >>> found.arms["sgd"].images["reshape"].shape
    (2, 3, 112, 92)
  """
  use_cache()
  experiment = make_experiment(settings, dataset)
  groups, total = plan(experiment), settings.steps * settings.num_seeds * len(settings.arms)
  shown = contextlib.nullcontext() if host or not progress else ProgressBar(total, "run-steps")
  with shown as bar:
    told = host or (Host(bar.advance, bar.say) if bar else Host())
    return assemble(experiment, run_groups(experiment, groups, None, told))


def assemble(experiment: Experiment, results: Sequence[GroupResult]) -> Outcome:
  """Puts the groups' results together, and attacks each arm's average model.

  Args:
    experiment: settings and data.
    results: what is kept of each group.

  Returns:
    The outcome.
  """
  settings, config = experiment.settings, experiment.config
  everyone = split_of(experiment, range(settings.num_seeds))
  arms = {
    arm.name: _assemble_arm(experiment, results, index, everyone)
    for index, arm in enumerate(settings.arms)
  }
  kept = split_of(experiment, range(min(settings.save_seeds, settings.num_seeds)))
  means = [leakage.class_images(config, _one(kept, i)) for i in range(len(kept.train))]
  train_means, holdout_means = (np.stack(jax.device_get(x)) for x in zip(*means, strict=True))
  lengths = chunk_lengths(settings.steps, settings.record_every)
  steps = np.cumsum([0, *lengths])
  indices = {"train": np.asarray(kept.train), "holdout": np.asarray(kept.holdout)}
  named = (*config.attacks, *TOGETHER), config.metrics
  return Outcome(steps, arms, train_means, holdout_means, indices, *named)


def _one(data: Data, i: int) -> Data:
  return run_at(SHARED_DATA, data, i)


def _assemble_arm(
  experiment: Experiment, results: Sequence[GroupResult], arm: int, everyone: Data
) -> ArmOutcome:
  """One arm's values in the order of the seeds, from wherever in the groups they stand."""
  parts = [(result, result.arm == arm) for result in results if (result.arm == arm).any()]

  def gather(field, axis=0):
    rows = [jax.tree.map(lambda x, m=m: x.compress(m, axis), getattr(r, field)) for r, m in parts]
    return jax.tree.map(lambda *row: np.concatenate(row, axis), *rows)

  def gather_saved(field):
    rows = [
      jax.tree.map(lambda x, m=mine[r.saved]: x[m], getattr(r, field))
      for r, mine in parts
      if getattr(r, field)
    ]
    return jax.tree.map(lambda *row: np.concatenate(row), *rows)

  def by_seed(field):
    return jax.tree.map(lambda x: x.swapaxes(0, 1), gather(field, 1))

  healthy, trail, history = gather("finite"), by_seed("trail"), by_seed("history")
  by_record = by_seed("trail_details")
  # Of a release that is not what was trained, the accuracies are its own.
  history = {name: history[name] for name in CURVES} | trail.get("model", {})
  ends: dict[str, dict] = {"model": {name: values[:, -1] for name, values in history.items()}}
  for attack, values in gather("measures").items():
    ends[attack] = ends.get(attack, {}) | values
  # Not by `jax.tree.map`, which sorts: tables list the measures in this order.
  measures = {
    attack: {name: np.where(healthy, x, np.nan) for name, x in values.items()}
    for attack, values in ends.items()
  }
  images = {a: x.astype(np.float32) for a, x in gather_saved("images").items()}
  sums = averages.sums_of(results, arm)
  means = averages.of_prefixes(experiment, sums, healthy, everyone)
  for attack, (recovered, values) in means[max(means)].items() if means else ():
    images[attack] = np.asarray(recovered, np.float32)[None]
    measures[attack] = {name: np.asarray(value)[None] for name, value in values.items()}
  return ArmOutcome(
    measures=measures,
    healthy=healthy,
    history=history,
    images=images,
    arrays=_as_released(experiment.settings.arms[arm], flatten(gather_saved("arrays"))),
    frames=next(r.frames[str(arm)] for r, _ in parts if str(arm) in r.frames),
    trail=trail,
    identified=by_record.get("identified", {}),
    by_person=by_record.get("by_person", {}),
    details=gather("details"),
    prefixes={count: found[seed_mean.name][1] for count, found in means.items()},
    without=averages.without_each(experiment, sums, healthy, everyone),
  )


def _as_released(arm: Arm, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """An arm's arrays, without what its engine knows of the model before its release altered it."""
  altered = set(ON_RELEASE) & used(arm.hyper)
  return {name: x for name, x in arrays.items() if not (altered and name in gram.EXTRAS)}


def _in_words(table: dict) -> str:
  """One arm's line: its leakage by attack, or that all seeds diverged."""
  seen = {
    attack: values["ncc_centred"] for attack, values in table.items() if "ncc_centred" in values
  }
  shown = ", ".join(f"{attack} shows {value['mean']:.3f}" for attack, value in seen.items())
  lost = f"{len(table['diverged'])} diverged" if table["diverged"] else ""
  return "; ".join(filter(None, (f"centred NCC: {shown}" if shown else "", lost))) or "no measures"


def strongest(values: Mapping[str, Float[np.ndarray, " s"]]) -> str | None:
  """The attack that recovers most in the mean over seeds; None where no seed has a value.

  It is chosen for the arm as a whole, not seed by seed: the largest of several noisy values would
  be too large.
  """
  means = {name: np.nanmean(v) for name, v in values.items() if np.isfinite(v).any()}
  return max(means, key=means.__getitem__) if means else None


def summarize(outcome: Outcome) -> dict:
  """Means over the seeds that did not diverge, with 95 % intervals, see `stats.mean_intervals`.

  Args:
    outcome: of an experiment.

  Returns:
    {arm: {attack: {metric: {mean, low, high, n}}}}, and {arm: {"diverged": [seeds]}}. Of an
    attack on n models together it is the jackknife's, over parts of the seeds. low and high are
    None where a single seed counts.

  Example:
    >>> import jaxinv
    >>> people = jaxinv.synthetic_faces(num_people=3, images_per_person=4)
    >>> sgd = jaxinv.Arm("sgd", "sgd", jaxinv.Hyper(learning_rate=0.1))
    >>> found = jaxinv.run(jaxinv.Settings((sgd,), num_seeds=2, steps=5, batch_size=0), people)
    >>> sorted(summarize(found)["sgd"]["init_diff"]["ncc_centred"])
    ['high', 'low', 'mean', 'n']
  """
  return {
    name: summarize_arm(arm.measures, arm.healthy, arm.without)
    for name, arm in outcome.arms.items()
  }


def summarize_arm(
  measures: Mapping[str, Mapping[str, Float[np.ndarray, " _"]]],
  healthy: Bool[np.ndarray, " s"],
  without: Mapping[str, Mapping[str, Float[np.ndarray, " b"]]] | None = None,
) -> dict:
  """One arm's part of the summary; see `summarize`.

  Args:
    measures: by attack, by name, one value a seed; what is not finite is left out.
    healthy: which seeds did not diverge.
    without: see `ArmOutcome`.

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
    intervals = stats.mean_intervals(np.stack([values for *_, values in same]))
    for (attack, metric, _), interval in zip(same, intervals, strict=True):
      if attack in _TOGETHER_NAMES:
        left_out = (without or {}).get(attack, {}).get(metric, np.zeros(0))
        interval = stats.jackknife_interval(interval.mean, left_out)
        interval = interval._replace(n=int(healthy.sum()))
      table[attack][metric] = interval._asdict()
  diverged = [int(seed) for seed in np.flatnonzero(~healthy)]
  return {attack: table[attack] for attack in table if table[attack]} | {"diverged": diverged}
