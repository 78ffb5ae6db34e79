"""Arms against a baseline, paired by seed: at the end, and at the same held-out accuracy.

Within a seed all arms have the same split, initial weights and batches, so the difference between
two arms is taken seed by seed, and its interval is over seeds. Leakage is the centred NCC of what
an attack recovers: the correlation with what sets the person's average apart from everybody's.

The moment at which an arm has a given accuracy is chosen on other seeds than those that are then
measured: a seed that happens to be accurate early is not measured early.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxinv.attacks.attack import ALL, Attack, reshape
from jaxinv.experiments.outcome import ArmOutcome, strongest
from jaxinv.metrics.metric import identification, ncc_centred
from jaxinv.metrics.stats import Interval, mean_intervals, paired_difference

LEAKAGE = ncc_centred.name
NAIVE = reshape
# Attacks on several models together, of which an arm has one image a class and not one a seed.
_TOGETHER = {attack.name for attack in ALL if not attack.needs_one_model}
# Seeds are divided into so many parts, each measured at the moment that is chosen on the others.
_FOLDS = 5


class Row(NamedTuple):
  """One difference from the baseline.

  Attributes:
    arm: which arm.
    when: `end`, or `matched`: at the first record with the target accuracy.
    attack: an attack's name, `strongest`, or `model` for what is no attack's.
    metric: what is compared.
    difference: the arm's less the baseline's, paired by seed.
  """

  arm: str
  when: str
  attack: str
  metric: str
  difference: Interval


def attacks_of(arm: ArmOutcome) -> list[str]:
  """The attacks that were made on every seed's model, in order."""
  return [name for name in arm.measures if name != "model" and name not in _TOGETHER]


def final(arm: ArmOutcome, attack: str, metric: str = LEAKAGE) -> Float[np.ndarray, " s"]:
  """A measure at the end, NaN of seeds that diverged."""
  return np.asarray(arm.measures[attack][metric], np.float64)


def default_target(baseline: ArmOutcome) -> float:
  """The accuracy at which arms are compared where none is given: 0.95 of the baseline's last.

  NaN where every model of the baseline diverged.
  """
  if not baseline.healthy.any():
    return math.nan
  return 0.95 * float(np.nanmean(final(baseline, "model", "holdout_accuracy")))


def strongest_by_knowledge(arm: ArmOutcome, attacks: Sequence[Attack]) -> dict[str, str]:
  """The strongest attack at the end by what it needs.

  Args:
    arm: what came of it.
    attacks: all that may have been made on it.

  Returns:
    The attack's name by what the attacker must hold; only where an attack has a value.
  """
  made = [attack for attack in attacks if attack.name in arm.measures]
  best = {
    held: strongest({a.name: final(arm, a.name) for a in made if a.knowledge == held})
    for held in dict.fromkeys(attack.knowledge for attack in made)
  }
  return {held: attack for held, attack in best.items() if attack}


class Leakage(NamedTuple):
  """What the models of an arm leak under every attack on single models, at one moment.

  Attributes:
    values: by attack, the centred NCC, a value a seed; NaN of seeds that diverged.
    people: by attack, the same of each person, [s, k].
    identified: by attack, the share of people identified, a value a seed.
    accuracy: held-out accuracy, a value a seed.
    attack: the strongest, see `strongest`; None where no seed has a value.
  """

  values: dict[str, Float[np.ndarray, " s"]]
  people: dict[str, Float[np.ndarray, "s k"]]
  identified: dict[str, Float[np.ndarray, " s"]]
  accuracy: Float[np.ndarray, " s"]
  attack: str | None


def _folds(arm: ArmOutcome) -> list[tuple[np.ndarray, np.ndarray]]:
  """Masks of seeds: each part, and the healthy ones of the others, or all where there are none."""
  seeds = np.arange(len(arm.healthy))
  parts = [seeds % min(_FOLDS, len(seeds)) == i for i in range(min(_FOLDS, len(seeds)))]
  others = [arm.healthy & ~part for part in parts]
  return [(p, o if o.any() else arm.healthy) for p, o in zip(parts, others, strict=True)]


def _leakage(arm: ArmOutcome, names: Sequence[str], measured: Callable) -> Leakage:
  """The leakage at one moment.

  Args:
    arm: what came of it.
    names: of the attacks that are measured then.
    measured: (tree, attack, metric or None) -> the values at the moment, of whose first axis it is.
  """

  def healthy(values):
    values = np.asarray(values, np.float64)
    return np.where(arm.healthy.reshape(-1, *(1,) * (values.ndim - 1)), values, np.nan)

  values = {name: healthy(measured("measures", name, LEAKAGE)) for name in names}
  people = {name: measured("by_person", name, None) for name in names}
  shares = {name: measured("measures", name, identification.name) for name in names}
  return Leakage(
    values,
    {name: healthy(v) for name, v in people.items() if v is not None},
    {name: healthy(v) for name, v in shares.items() if v is not None},
    healthy(measured("model", "", "holdout_accuracy")),
    strongest(values),
  )


def leakage_at_end(arm: ArmOutcome) -> Leakage:
  """The leakage at the end of training, under every attack."""

  def measured(kind, attack, metric):
    if kind == "by_person":
      return arm.details.get(kind, {}).get(attack)
    return arm.measures["model" if kind == "model" else attack].get(metric)

  return _leakage(arm, attacks_of(arm), measured)


def leakage_at(arm: ArmOutcome, target: float) -> Leakage | None:
  """The leakage where an arm first has a held-out accuracy, between records where need be.

  When that is, is told by the other seeds' mean accuracy, see `moment`; so a seed is not measured
  where its own accuracy happens to be high. Under the attacks that are made at every record.

  Args:
    arm: what came of it.
    target: the accuracy.

  Returns:
    The leakage; None where the arm never has that accuracy.
  """
  moments = moments_of(arm, target)
  if moments is None:
    return None
  low = np.floor(moments).astype(int)
  high, share = np.ceil(moments).astype(int), moments - low

  def at(curves):
    curves = np.asarray(curves, np.float64)
    seeds, weight = np.arange(len(curves)), share.reshape(-1, *(1,) * (curves.ndim - 2))
    return (1 - weight) * curves[seeds, low] + weight * curves[seeds, high]

  def measured(kind, attack, metric):
    if kind == "model":
      return at(arm.history[metric])
    tree = arm.by_person.get(attack) if kind == "by_person" else arm.trail[attack].get(metric)
    return None if tree is None else at(tree)

  names = [name for name in attacks_of(arm) if LEAKAGE in arm.trail.get(name, {})]
  return _leakage(arm, names, measured)


def moments_of(arm: ArmOutcome, target: float) -> Float[np.ndarray, " s"] | None:
  """For each seed the moment at which the other seeds have an accuracy, in records; None: never."""
  accuracy = arm.history["holdout_accuracy"]
  whole = moment(accuracy[arm.healthy].mean(0), target) if arm.healthy.any() else None
  if whole is None:
    return None
  moments = np.zeros(len(arm.healthy))
  for part, others in _folds(arm):
    there = moment(accuracy[others].mean(0), target)
    moments[part] = whole if there is None else there
  return moments


def moment(accuracy: Float[np.ndarray, " t"], target: float) -> float | None:
  """When a curve of accuracies first reaches a target, in records, between them where need be.

  The curve is smoothed by the rising curve nearest to it (isotonic regression), so that no single
  record decides.

  Returns:
    The moment; None for never.

  Example:
    >>> moment(np.array([0.0, 0.6, 0.5, 0.65, 0.85]), 0.75)
    3.5
  """
  from scipy.optimize import isotonic_regression

  rising = isotonic_regression(np.asarray(accuracy, np.float64)).x
  reached = rising >= target
  if not reached.any():
    return None
  after = int(reached.argmax())
  if after == 0:
    return 0.0
  return after - 1 + float((target - rising[after - 1]) / (rising[after] - rising[after - 1]))


def matched(arm: ArmOutcome, baseline: ArmOutcome, target: float) -> tuple[Leakage, Leakage] | None:
  """The leakage of an arm and of its baseline where each first has the target accuracy.

  Args:
    arm: what came of the arm.
    baseline: what came of the baseline.
    target: a held-out accuracy.

  Returns:
    Both; None where either never gets there, or had it before training: what untrained models have
    already is no use that trained ones could be compared at.
  """
  moments = moments_of(arm, target), moments_of(baseline, target)
  if any(m is None or not m.any() for m in moments):
    return None
  return leakage_at(arm, target), leakage_at(baseline, target)


def compare(name: str, arm: ArmOutcome, baseline: ArmOutcome, target: float) -> list[Row]:
  """All differences of an arm from the baseline.

  Args:
    name: the arm's.
    arm: what came of it.
    baseline: what came of the baseline.
    target: the held-out accuracy at which the two are compared beside the end.

  Returns:
    The rows: every attack's every measure at the end, its leakage at the target accuracy, and the
    accuracies.
  """
  rows = []
  for attack in ("model", *attacks_of(arm)):
    for metric in arm.measures[attack]:
      pair = (final(a, attack, metric) for a in (arm, baseline))
      rows.append(Row(name, "end", attack, metric, paired_difference(*pair)))
  both = matched(arm, baseline, target)
  if both:
    mine, theirs = both
    for attack in mine.values:
      pair = mine.values[attack], theirs.values[attack]
      rows.append(Row(name, "matched", attack, LEAKAGE, paired_difference(*pair)))
    pair = mine.accuracy, theirs.accuracy
    rows.append(Row(name, "matched", "model", "holdout_accuracy", paired_difference(*pair)))
  ends = leakage_at_end(arm), leakage_at_end(baseline)
  for when, pair in (("end", ends), ("matched", both)):
    if pair and all(x.attack for x in pair):
      difference = paired_difference(*(x.values[x.attack] for x in pair))
      rows.append(Row(name, when, "strongest", LEAKAGE, difference))
  return rows


class Identified(NamedTuple):
  """When the people can be told from the weights, under one attack.

  Attributes:
    attack: its name.
    step: the first recorded step from which on half of the people are identified, over seeds;
      None for never.
    accuracy: the mean held-out accuracy then.
    by_person: for each person the median over seeds of the step from which on it is identified,
      infinite for never.
  """

  attack: str
  step: int | None
  accuracy: float | None
  by_person: Float[np.ndarray, " k"]


def identified_from(
  arm: ArmOutcome, attack: str, steps: Int[np.ndarray, " t"]
) -> Identified | None:
  """When each person can be identified: from which recorded step on to the end.

  By chance one of k people is identified at any time; to ask that it stays so keeps most of these
  out.

  Args:
    arm: measured at every record.
    attack: whose images.
    steps: the recorded steps.

  Returns:
    The times, or None where nobody could look or no seed counts.
  """
  seen = arm.identified.get(attack)
  if seen is None or not arm.healthy.any():
    return None
  seen = seen[arm.healthy]
  stays = np.logical_and.accumulate(seen[:, ::-1], axis=1)[:, ::-1]
  first = np.where(stays.any(1), steps[stays.argmax(1)].astype(float), np.inf)
  half = np.median(stays.mean(2), 0) >= 0.5
  if not half.any():
    return Identified(attack, None, None, np.median(first, 0))
  record = int(half.argmax())
  accuracy = float(arm.history["holdout_accuracy"][arm.healthy, record].mean())
  return Identified(attack, int(steps[record]), accuracy, np.median(first, 0))


def intervals(values: Mapping[str, Float[np.ndarray, " s"]]) -> dict[str, Interval]:
  """The interval of each mean over the seeds that have a value."""
  return {name: mean_intervals(v[np.isfinite(v)][None])[0] for name, v in values.items()}
