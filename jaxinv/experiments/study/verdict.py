"""Verdicts on defences: a label and its reasons in words, both decided by the intervals."""

import math
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxinv.attacks.attack import seed_mean
from jaxinv.experiments.outcome import ArmOutcome
from jaxinv.experiments.study.comparison import (
  LEAKAGE,
  NAIVE,
  final,
  first_reaching,
  leakages,
  matched_records,
  strongest,
)
from jaxinv.metrics.stats import Interval, paired_difference

# Standard normal quantiles: two-sided 5 %, and 80 % power.
_Z_TEST, _Z_POWER = 1.959964, 0.841621


class Label(StrEnum):
  """What came of a defence, in the words of files and pages; in the order of the page."""

  LOWERS = "lowers leakage"
  HIDES = "hides from the naive attacker only"
  NO_EFFECT = "no detectable effect"
  TOO_LITTLE = "changes too little to matter"
  UNDECIDED = "undecided"
  RAISES = "raises leakage"
  NOT_COMPARABLE = "cannot be compared"
  NOT_USEFUL = "is not as useful"
  NOT_TRAINED = "does not train"

  @property
  def at_end(self) -> bool:
    """Whether arms with this label are compared at the end, having no accuracy in common."""
    return self in (Label.NOT_USEFUL, Label.NOT_COMPARABLE)


class Verdict(NamedTuple):
  """What came of a defence.

  Attributes:
    label: in a word or three.
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

  label: Label
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
    gone = f"All of its {len(arm.healthy)} models diverged."
    return Verdict(Label.NOT_TRAINED, gone)
  if not baseline.healthy.any():
    return Verdict(Label.NOT_COMPARABLE, "Every model of the baseline diverged.")
  records = matched_records(arm, baseline, target)
  mine, theirs = leakages(arm, baseline, records)
  best, base_best = strongest(mine), strongest(theirs)
  both = np.isfinite(mine[best]) & np.isfinite(theirs[base_best])
  reached = first_reaching(arm, target)
  result = Verdict(
    label=Label.UNDECIDED,
    text="",
    attack=best,
    baseline_attack=base_best,
    leakage=_mean(mine[best][both]),
    baseline_leakage=_mean(theirs[base_best][both]),
    strongest=paired_difference(mine[best], theirs[base_best]),
    naive=paired_difference(mine[NAIVE.name], theirs[NAIVE.name]),
    accuracy=paired_difference(*(final(x, "model", "holdout_accuracy") for x in (arm, baseline))),
    reached=reached,
    detectable=detectable_effect(mine[best] - theirs[base_best]),
  )
  unmatched = None if records else _unmatched(reached, first_reaching(baseline, target), target)
  result = result._replace(label=unmatched[0] if unmatched else label_of(result, margin))
  levels = _mean(mine[NAIVE.name][both]), _mean(theirs[NAIVE.name][both])
  text = _text(result, unmatched and unmatched[1], target, margin, levels)
  return result._replace(text=text + _together(arm, baseline))


def _unmatched(mine: int | None, theirs: int | None, target: float) -> tuple[Label, str]:
  """The label, and why in words, of an arm that cannot be compared at the target accuracy."""
  if 0 in (mine, theirs):
    why = f"Untrained models have the held-out accuracy of {target:.3f} already"
    return Label.NOT_COMPARABLE, why
  never = f"never reaches a held-out accuracy of {target:.3f}"
  if mine is None:
    return Label.NOT_USEFUL, f"It {never}"
  return Label.NOT_COMPARABLE, f"The baseline {never}"


def _together(arm: ArmOutcome, baseline: ArmOutcome) -> str:
  """What an attacker with all models recovers at the end: the verdict is on one model alone."""
  shown = [x.measures.get(seed_mean.name, {}).get(LEAKAGE) for x in (arm, baseline)]
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


def label_of(verdict: Verdict, margin: float) -> Label:
  """The label that the intervals of a comparison at equal accuracy give.

  Args:
    verdict: with the differences under the strongest and the naive attacker.
    margin: differences smaller than this do not matter.

  Returns:
    The label.
  """
  _, low, high, _ = verdict.strongest
  if low is None:  # No seeds in common, or one: no interval.
    return Label.NOT_COMPARABLE
  if low >= margin and low > 0:
    return Label.RAISES
  if high <= -margin and high < 0:
    return Label.LOWERS
  naive = verdict.naive.high
  # The whole interval counts: what may be a loss that matters is not called hiding only.
  if naive is not None and naive <= -margin and naive < 0 and low > -margin:
    return Label.HIDES
  if not _sign(verdict.strongest):
    return Label.NO_EFFECT
  return Label.TOO_LITTLE if -margin < low and high < margin else Label.UNDECIDED


def _text(
  verdict: Verdict,
  unmatched: str | None,
  target: float,
  margin: float,
  levels: tuple[float | None, float | None],
) -> str:
  """The verdict in words, all of them chosen by the numbers."""
  if verdict.leakage is None:
    return "Every seed diverged in the arm or in the baseline."
  change = (
    f"the strongest attacker ({verdict.attack}, against {verdict.baseline_attack} on the baseline) "
    f"sees {verdict.leakage:.3f} instead of {verdict.baseline_leakage:.3f} "
    f"({_words(verdict.strongest)})"
  )
  if unmatched:
    text = f"{unmatched}, so that there is no comparison at equal use; at the end {change}."
  else:
    text = f"At the same held-out accuracy of {target:.3f} {change}."
  naive = _words(verdict.naive)
  text += f" The naive attacker sees {levels[0]:.3f} instead of {levels[1]:.3f} ({naive})."
  if verdict.label == Label.NO_EFFECT and verdict.detectable:
    text += (
      f" A difference of {verdict.detectable:.3f} or more would have been seen with "
      f"{verdict.strongest.n} seeds (power 80 %)."
    )
  if verdict.label == Label.UNDECIDED:
    text += (
      f" The interval holds differences on both sides of {margin:g}, below which they are too "
      "small to matter: more seeds would tell."
    )
  elif _sign(verdict.strongest) and abs(verdict.strongest.mean) < margin:
    text += f" Differences below {margin:g} are counted as too small to matter."
  return f"{text} Held-out accuracy at the end: {_words(verdict.accuracy)}."


def _words(interval: Interval) -> str:
  if interval.mean is None:
    return "no value"
  # Adding 0 after rounding keeps a minus away from zeros.
  mean, *ends = (None if x is None else round(x, 3) + 0.0 for x in interval[:3])
  if None in ends:
    return f"{mean:+.3f}, one seed, no interval"
  return f"{mean:+.3f}, 95 % interval {ends[0]:+.3f} to {ends[1]:+.3f}"
