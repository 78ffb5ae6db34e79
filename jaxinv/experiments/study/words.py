"""Verdicts: their labels, their numbers, and how these are put in words."""

import math
from typing import NamedTuple

from jaxinv.metrics.claims import FEWEST_SEEDS, Label
from jaxinv.metrics.stats import Interval

# Standard normal quantiles: two-sided 5 %, and 80 % power.
_Z_TEST, _Z_POWER = 1.959964, 0.841621


class Verdict(NamedTuple):
  """What came of a defence.

  Attributes:
    label: in a word or three.
    text: the verdict in a sentence or three, made of the numbers.
    attack: the strongest attack on the arm.
    baseline_attack: that on the baseline.
    leakage: the arm's under its strongest attack, when compared.
    baseline_leakage: the baseline's under its own.
    strongest: the difference of the two, with its interval over seeds.
    people: the same difference at the same time, with its interval over seeds and people.
    naive: the difference under the naive attacker, at the same time.
    identified: the share of people identified in the arm under the attack that identifies most, at
      the same time; None where nothing was held out.
    baseline_identified: the same in the baseline.
    accuracy: the difference of the held-out accuracies at the end.
    compared_at: held-out accuracies of the arm and of the baseline when compared.
    reached: the record at which the arm first has the target accuracy, between two records where
      need be; None for never.
    detectable: the smallest difference under the strongest attacker that so many seeds would have
      shown with a power of 80 %.
    margins: the label for other margins.
  """

  label: Label
  text: str
  attack: str | None = None
  baseline_attack: str | None = None
  leakage: float | None = None
  baseline_leakage: float | None = None
  strongest: Interval | None = None
  people: Interval | None = None
  naive: Interval | None = None
  identified: float | None = None
  baseline_identified: float | None = None
  accuracy: Interval | None = None
  compared_at: tuple[float, float] | None = None
  reached: float | None = None
  detectable: float | None = None
  margins: dict[str, Label] = {}  # noqa: RUF012, as nobody changes it.


def describe(
  verdict: Verdict,
  unmatched: str,
  margin: float,
  levels: tuple[float | None, float | None],
  alone: Label,
) -> str:
  """A verdict in words, all of them chosen by its numbers.

  Args:
    verdict: all but its text.
    unmatched: why the arm is compared at the end; nothing where it is not.
    margin: differences smaller than this do not matter.
    levels: leakage of the arm and of the baseline under the naive attacker.
    alone: the label that it would have without the other verdicts of the study.

  Returns:
    A few sentences.
  """
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
    mine, theirs = verdict.compared_at
    text = f"At held-out accuracies of {mine:.3f} and {theirs:.3f} {change}."
  if verdict.people and verdict.people.low is not None:
    low, high = (round(x, 3) + 0.0 for x in verdict.people[1:3])
    text += f" Over people as well as seeds the interval is {low:+.3f} to {high:+.3f}."
  if verdict.identified is not None:
    shares = f"{verdict.identified:.0%} instead of {verdict.baseline_identified:.0%}"
    text += f" {shares} of the people are identified."
  naive = _words(verdict.naive)
  text += f" The naive attacker sees {levels[0]:.3f} instead of {levels[1]:.3f} ({naive})."
  text += _limits(verdict, margin)
  if alone != verdict.label:
    text += f" Judged alone it would be: {alone}; of so many verdicts chance might make one."
  return f"{text} Held-out accuracy at the end: {_words(verdict.accuracy)}."


def _limits(verdict: Verdict, margin: float) -> str:
  """What so many seeds could have shown, and how many would be needed."""
  n = verdict.strongest.n
  if verdict.label == Label.TOO_FEW:
    return f" A verdict needs {FEWEST_SEEDS} seeds or more, and here there are {n}."
  if verdict.label == Label.NO_EFFECT and verdict.detectable:
    return f" {n} seeds would have shown a difference of {verdict.detectable:.3f} (power 80 %)."
  if verdict.label == Label.UNDECIDED and verdict.detectable:
    # The spread of one seed's difference, from the normal approximation of the power.
    spread = verdict.detectable * math.sqrt(n) / (_Z_TEST + _Z_POWER)
    needed = math.ceil(((_Z_TEST + _Z_POWER) * spread / margin) ** 2) if margin else math.inf
    text = f" {n} seeds could have shown a difference of {verdict.detectable:.3f} (power 80 %)"
    return text + (f"; for one of {margin:g} about {needed} are needed." if needed > n else ".")
  _, low, high, _ = verdict.strongest
  if low is not None and (low > 0 or high < 0) and abs(verdict.strongest.mean) < margin:
    return f" Differences below {margin:g} are counted as too small to matter."
  return ""


def _words(interval: Interval) -> str:
  if interval.mean is None:
    return "no value"
  # Adding 0 after rounding keeps a minus away from zeros.
  mean, *ends = (None if x is None else round(x, 3) + 0.0 for x in interval[:3])
  if None in ends:
    return f"{mean:+.3f}, one seed, no interval"
  return f"{mean:+.3f}, 95 % interval {ends[0]:+.3f} to {ends[1]:+.3f}"


def averaged(mine: tuple[int, float] | None, theirs: tuple[int, float] | None) -> str:
  """What an attacker with all models recovers at the end: the verdict is on one model alone."""
  if not mine or not theirs or mine[0] < 2:
    return ""
  return f" Averaged, its {mine[0]} models show {mine[1]:.3f} instead of {theirs[1]:.3f}."
