"""Does a defence defend? Arms against a baseline, paired by seed, at the end and at equal use.

Within a seed all arms have the same split, initial weights and batches, so the difference between
two arms is taken seed by seed, and its interval is over seeds. Leakage is the centred NCC of what
an attack recovers: the correlation with what sets the person's average apart from everybody's.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxinv.attacks.attack import KNOWLEDGE
from jaxinv.experiments.outcome import ArmOutcome
from jaxinv.metrics.stats import Interval, bootstrap_intervals, paired_difference

LEAKAGE = "ncc_centred"
NAIVE = "reshape"
# Standard normal quantiles: two-sided 5 %, and 80 % power.
_Z_TEST, _Z_POWER = 1.959964, 0.841621


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


class Verdict(NamedTuple):
  """What came of a defence.

  Attributes:
    label: one of `LABELS`.
    text: the verdict in a sentence or three, made of the numbers.
    attack: the strongest attack on the arm.
    baseline_attack: that on the baseline.
    leakage: the arm's under its strongest attack, when compared.
    baseline_leakage: the baseline's under its own.
    strongest: the difference of the two.
    naive: the difference under the naive attacker, at the same time.
    accuracy: the difference of the held-out accuracies at the end.
    reached: the first record with the target accuracy; None for never.
    detectable: the smallest difference under the strongest attacker that so many seeds would have
      shown with a power of 80 %.
  """

  label: str
  text: str
  attack: str | None = None
  baseline_attack: str | None = None
  leakage: float | None = None
  baseline_leakage: float | None = None
  strongest: Interval | None = None
  naive: Interval | None = None
  accuracy: Interval | None = None
  reached: int | None = None
  detectable: float | None = None


LABELS = (
  "lowers leakage",
  "hides from the naive attacker only",
  "no detectable effect",
  "changes too little to matter",
  "undecided",
  "raises leakage",
  "cannot be compared",
  "is not as useful",
  "does not train",
)


def attacks_of(arm: ArmOutcome) -> list[str]:
  """The attacks that were made on every seed's model, in order."""
  return [name for name in arm.measures if name not in ("model", "seed_mean")]


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
  return np.where(
    arm.healthy, np.asarray(arm.trail[f"{attack}/{metric}"][:, record], float), np.nan
  )


def default_target(baseline: ArmOutcome) -> float:
  """The accuracy at which arms are compared where none is given: 0.95 of the baseline's last.

  NaN where no model of the baseline came through training.
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


def strongest_by_knowledge(arm: ArmOutcome) -> dict[str, str]:
  """For all that an attacker may hold, the strongest attack with it at the end."""
  values = {name: final(arm, name) for name in arm.measures if name != "model"}
  found = {}
  for knowledge in dict.fromkeys(KNOWLEDGE.values()):
    best = strongest({name: v for name, v in values.items() if KNOWLEDGE[name] == knowledge})
    if best:
      found[knowledge] = best
  return found


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
  matched = [] if records is None else _leakages(arm, baseline, records)
  for attack in matched[0] if matched else ():
    pair = (values[attack] for values in matched)
    rows.append(Row(name, "matched", attack, LEAKAGE, paired_difference(*pair)))
  for when, values in (("end", _leakages(arm, baseline)), ("matched", matched)):
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


def _leakages(
  arm: ArmOutcome, baseline: ArmOutcome, records: tuple[int, int] | None = None
) -> list[dict[str, Float[np.ndarray, " s"]]]:
  """By attack, the leakage of an arm and of its baseline: each at its record, or at the end."""
  if records is None:
    return [{name: final(x, name) for name in attacks_of(x)} for x in (arm, baseline)]
  return [
    {name: at_record(x, name, record) for name in attacks_of(x) if f"{name}/{LEAKAGE}" in x.trail}
    for x, record in zip((arm, baseline), records, strict=True)
  ]


def judge(arm: ArmOutcome, baseline: ArmOutcome, target: float, margin: float) -> Verdict:
  """The verdict on a defence, computed from the intervals; nothing in it is known beforehand.

  Args:
    arm: what came of the defence.
    baseline: what came of training without it.
    target: the held-out accuracy at which the two are compared.
    margin: differences of leakage smaller than this do not matter.

  Returns:
    The verdict: at the target accuracy, or at the end where the arm does not get there.
  """
  if not arm.healthy.any():
    return Verdict(
      "does not train", f"None of its {len(arm.healthy)} models came through training."
    )
  if not baseline.healthy.any():
    return Verdict("cannot be compared", "No model of the baseline came through training.")
  records = matched_records(arm, baseline, target)
  mine, theirs = _leakages(arm, baseline, records)
  best, base_best = strongest(mine), strongest(theirs)
  both = np.isfinite(mine[best]) & np.isfinite(theirs[base_best])
  found = Verdict(
    label="",
    text="",
    attack=best,
    baseline_attack=base_best,
    leakage=_mean(mine[best][both]),
    baseline_leakage=_mean(theirs[base_best][both]),
    strongest=paired_difference(mine[best], theirs[base_best]),
    naive=paired_difference(mine[NAIVE], theirs[NAIVE]),
    accuracy=paired_difference(*(final(x, "model", "holdout_accuracy") for x in (arm, baseline))),
    reached=first_reaching(arm, target),
    detectable=detectable_effect(mine[best] - theirs[base_best]),
  )
  label, unmatched = _label(found, margin), None
  if records is None:
    label, unmatched = _unmatched(found.reached, first_reaching(baseline, target), target)
  levels = _mean(mine[NAIVE][both]), _mean(theirs[NAIVE][both])
  text = _text(found, label, unmatched, target, margin, levels) + _together(arm, baseline)
  return found._replace(label=label, text=text)


def _unmatched(mine: int | None, theirs: int | None, target: float) -> tuple[str, str]:
  """The label, and why in words, of an arm that cannot be compared at the target accuracy."""
  if 0 in (mine, theirs):
    why = f"Untrained models have the held-out accuracy of {target:.3f} already"
    return "cannot be compared", why
  never = f"never reaches a held-out accuracy of {target:.3f}"
  if mine is None:
    return "is not as useful", f"It {never}"
  return "cannot be compared", f"The baseline {never}"


def _together(arm: ArmOutcome, baseline: ArmOutcome) -> str:
  """What who holds all models sees at the end, in words: the verdict is on one model alone."""
  shown = [x.measures.get("seed_mean", {}).get(LEAKAGE) for x in (arm, baseline)]
  if any(x is None for x in shown) or arm.healthy.sum() < 2:
    return ""
  mine, theirs = (float(x[0]) for x in shown)
  return f" Averaged, its {arm.healthy.sum()} models show {mine:.3f} instead of {theirs:.3f}."


def _mean(values: Float[np.ndarray, " s"]) -> float | None:
  return float(values.mean()) if len(values) else None


def detectable_effect(difference: Float[np.ndarray, " s"]) -> float | None:
  """The smallest mean difference that a paired test would have shown, 5 % two-sided, power 80 %."""
  values = difference[np.isfinite(difference)]
  if len(values) < 2:
    return None
  return float((_Z_TEST + _Z_POWER) * values.std(ddof=1) / math.sqrt(len(values)))


def _sign(interval: Interval | None) -> int:
  """Whether an interval lies above 0, below, or holds it."""
  if interval is None or interval.low is None:
    return 0
  return int(interval.low > 0) - int(interval.high < 0)


def _label(found: Verdict, margin: float) -> str:
  if found.strongest.low is None:  # No seeds in common, or one: no interval.
    return "cannot be compared"
  _, low, high, _ = found.strongest
  if low >= margin and low > 0:
    return "raises leakage"
  if high <= -margin and high < 0:
    return "lowers leakage"
  hidden = found.naive.high is not None and found.naive.high <= -margin and found.naive.high < 0
  # The whole interval counts: what may be a loss that matters is not called hiding only.
  if hidden and low > -margin:
    return "hides from the naive attacker only"
  if not _sign(found.strongest):
    return "no detectable effect"
  return "changes too little to matter" if -margin < low and high < margin else "undecided"


def _text(
  found: Verdict,
  label: str,
  unmatched: str | None,
  target: float,
  margin: float,
  levels: tuple[float | None, float | None],
) -> str:
  """The verdict in words, all of them chosen by the numbers."""
  if found.leakage is None:
    return "No seed came through training in both the arm and the baseline."
  change = (
    f"the strongest attacker ({found.attack}, against {found.baseline_attack} on the baseline) "
    f"sees {found.leakage:.3f} instead of {found.baseline_leakage:.3f} "
    f"({_words(found.strongest)})"
  )
  if unmatched:
    text = f"{unmatched}, so that there is no comparison at equal use; at the end {change}."
  else:
    text = f"At the same held-out accuracy of {target:.3f} {change}."
  text += (
    f" The naive attacker sees {levels[0]:.3f} instead of {levels[1]:.3f} ({_words(found.naive)})."
  )
  if label == "no detectable effect" and found.detectable:
    text += (
      f" A difference of {found.detectable:.3f} or more would have been seen with "
      f"{found.strongest.n} seeds (power 80 %)."
    )
  if label == "undecided":
    text += (
      f" The interval holds differences on both sides of {margin:g}, below which they are too "
      "small to matter: more seeds would tell."
    )
  elif _sign(found.strongest) and abs(found.strongest.mean) < margin:
    text += f" Differences below {margin:g} are counted as too small to matter."
  return f"{text} Held-out accuracy at the end: {_words(found.accuracy)}."


def _words(interval: Interval) -> str:
  if interval.mean is None:
    return "no value"
  # Adding 0 after rounding keeps a minus away from zeros.
  mean, *ends = (None if x is None else round(x, 3) + 0.0 for x in interval[:3])
  if None in ends:
    return f"{mean:+.3f}, one seed, no interval"
  return f"{mean:+.3f}, 95 % interval {ends[0]:+.3f} to {ends[1]:+.3f}"


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
    arm: with a trail.
    attack: whose images.
    steps: the recorded steps.

  Returns:
    The times, or None where nobody could look or no seed counts.
  """
  seen = arm.trail.get(f"identified/{attack}")
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
  return {name: bootstrap_intervals(v[np.isfinite(v)][None])[0] for name, v in values.items()}
