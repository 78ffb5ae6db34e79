"""Arms against a baseline, paired by seed: at the end, and at the same held-out accuracy.

Within a seed all arms have the same split, initial weights and batches, so the difference between
two arms is taken seed by seed, and its interval is over seeds. Leakage is the centred NCC of what
an attack recovers: the correlation with what sets the person's average apart from everybody's.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxinv.attacks.attack import ALL, Attack, init_diff, reshape
from jaxinv.experiments.outcome import ArmOutcome
from jaxinv.metrics.metric import ncc_centred
from jaxinv.metrics.stats import Interval, mean_intervals, paired_difference

LEAKAGE = ncc_centred.name
NAIVE = reshape
# Attacks on several models together, of which an arm has one image a class and not one a seed.
_TOGETHER = {attack.name for attack in ALL if not attack.needs_one_model}


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


def first_reaching(arm: ArmOutcome, target: float) -> int | None:
  """The first record at which an arm's held-out accuracy is `target` or more; None for never.

  The accuracy is the mean over the seeds that did not diverge: a single seed's, on few photographs,
  would often get there by luck.
  """
  if not arm.healthy.any():
    return None
  reached = arm.history["holdout_accuracy"][arm.healthy].mean(0) >= target
  return int(reached.argmax()) if reached.any() else None


def at_record(
  arm: ArmOutcome, attack: str, record: int, metric: str = LEAKAGE
) -> Float[np.ndarray, " s"]:
  """A measure at a record, NaN of seeds that diverged."""
  return np.where(arm.healthy, np.asarray(arm.trail[attack][metric][:, record], float), np.nan)


def default_target(baseline: ArmOutcome) -> float:
  """The accuracy at which arms are compared where none is given: 0.95 of the baseline's last.

  NaN where every model of the baseline diverged.
  """
  if not baseline.healthy.any():
    return math.nan
  return 0.95 * float(np.nanmean(final(baseline, "model", "holdout_accuracy")))


def strongest(values: Mapping[str, Float[np.ndarray, " s"]]) -> str | None:
  """The attack that recovers most in the mean over seeds; None where no seed has a value.

  It is chosen for the arm as a whole, not seed by seed: the largest of several noisy values would
  be too large.
  """
  means = {name: np.nanmean(v) for name, v in values.items() if np.isfinite(v).any()}
  return max(means, key=means.__getitem__) if means else None


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
  records = matched_records(arm, baseline, target)
  matched = [] if records is None else leakages(arm, baseline, records)
  for attack in matched[0] if matched else ():
    pair = (values[attack] for values in matched)
    rows.append(Row(name, "matched", attack, LEAKAGE, paired_difference(*pair)))
  for when, values in (("end", leakages(arm, baseline)), ("matched", matched)):
    best = [strongest(v) for v in values]
    if values and all(best):
      pair = (v[b] for v, b in zip(values, best, strict=True))
      rows.append(Row(name, when, "strongest", LEAKAGE, paired_difference(*pair)))
  return rows


def matched_records(arm: ArmOutcome, baseline: ArmOutcome, target: float) -> tuple[int, int] | None:
  """The records at which an arm and its baseline first have the target accuracy.

  Args:
    arm: what came of the arm.
    baseline: what came of the baseline.
    target: a held-out accuracy.

  Returns:
    The two records; None where either never gets there, or had it before training: what untrained
    models have already is no use that trained ones could be compared at.
  """
  records = first_reaching(arm, target), first_reaching(baseline, target)
  return None if None in records or 0 in records else records


def leakages(
  arm: ArmOutcome, baseline: ArmOutcome, records: tuple[int, int] | None = None
) -> list[dict[str, Float[np.ndarray, " s"]]]:
  """The leakage of an arm and of its baseline under every attack on single models.

  Args:
    arm: what came of the arm.
    baseline: what came of the baseline.
    records: at which record of each; None for the end.

  Returns:
    The arm's by attack, and the baseline's. At a record there are only the attacks that are
    measured at every record.
  """
  if records is None:
    return [{name: final(x, name) for name in attacks_of(x)} for x in (arm, baseline)]
  return [
    {name: at_record(x, name, record) for name in attacks_of(x) if LEAKAGE in x.trail.get(name, {})}
    for x, record in zip((arm, baseline), records, strict=True)
  ]


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


class Averages(NamedTuple):
  """What the average of several models shows.

  Attributes:
    counts: numbers of models.
    measured: leakage of the average of so many.
    law: what it would be if only the initial weights averaged out; None where there is no law.
  """

  counts: Int[np.ndarray, " c"]
  measured: Float[np.ndarray, " c"]
  law: Float[np.ndarray, " c"] | None


def averaging_law(
  counts: Int[np.ndarray, " c"], one: float, ceiling: float
) -> Float[np.ndarray, " c"]:
  """Leakage of an average of models, if what they learned stays and independent noise averages out.

  What one model shows is c_1 = c s / sqrt(s^2 + v), with c its ceiling, s the norm of what was
  learned and v the variance of the noise on it; of n models the variance is v / n. So
  c_n = c / sqrt(1 + (c^2 / c_1^2 - 1) / n).

  Args:
    counts: numbers of models, n.
    one: leakage of a single model, above 0.
    ceiling: leakage of what was learned without noise.

  Returns:
    The leakage at each count.
  """
  return ceiling / np.sqrt(1 + ((ceiling / one) ** 2 - 1) / counts)


def averages(arm: ArmOutcome) -> Averages | None:
  """An arm's averages, and their law: one model's leakage, and that of W - W0 as the ceiling."""
  if not arm.prefixes:
    return None
  counts = np.array(sorted(arm.prefixes))
  measured = np.array([float(arm.prefixes[n][LEAKAGE]) for n in counts])
  one, ceiling = (float(np.nanmean(final(arm, attack))) for attack in (NAIVE.name, init_diff.name))
  law = averaging_law(counts, one, ceiling) if 0 < one <= ceiling else None
  return Averages(counts, measured, law)
