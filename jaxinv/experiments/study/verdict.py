"""Verdicts on defences: a label and its reasons in words, both decided by the intervals.

A label is a claim on the difference of leakage from the baseline under the strongest attacker, and
is made only where the whole interval bears it out: what is not known is `undecided`, never "no
effect". Over the verdicts of a study the chance of any wrong claim is kept at 5 % (Holm).
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxinv.attacks.attack import denoised_seed_mean, seed_mean
from jaxinv.experiments.outcome import ArmOutcome
from jaxinv.experiments.study.comparison import (
  LEAKAGE,
  NAIVE,
  Leakage,
  final,
  leakage_at_end,
  matched,
  moments_of,
)
from jaxinv.metrics.stats import (
  Interval,
  detectable_effect,
  mean_intervals,
  paired_difference,
  two_way_interval,
)

FEWEST_SEEDS = 5
# Margins for which every label is told, beside the one that was asked for.
MARGINS = (0.02, 0.05, 0.1)
# The chance of any wrong claim in a study.
LEVEL = 0.05
# Standard normal quantiles: two-sided 5 %, and 80 % power.
_Z_TEST, _Z_POWER = 1.959964, 0.841621


class Label(StrEnum):
  """What came of a defence, in the words of files and pages; in the order of the page."""

  LOWERS = "lowers leakage"
  HIDES = "hides from the naive attacker only"
  NO_EFFECT = "no detectable effect"
  TOO_LITTLE = "changes too little to matter"
  UNDECIDED = "undecided"
  TOO_FEW = "too few seeds for a verdict"
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


class Compared(NamedTuple):
  """An arm beside its baseline, before anything is said of it.

  Attributes:
    mine: the arm's leakage.
    theirs: the baseline's.
    unmatched: the label, and why in words, where they have no accuracy in common and are compared
      at the end.
    reached: when the arm first has the target accuracy, in records; None for never.
  """

  mine: Leakage
  theirs: Leakage
  unmatched: tuple[Label, str] | None
  reached: float | None

  def strongest(self) -> Float[np.ndarray, " s"]:
    """The difference under each side's strongest attacker, of the seeds that have one."""
    both = self.mine, self.theirs
    return _finite(np.subtract(*(x.values[x.attack] for x in both)))

  def naive(self) -> Float[np.ndarray, " s"]:
    """The difference under the naive attacker, likewise."""
    return _finite(self.mine.values[NAIVE.name] - self.theirs.values[NAIVE.name])

  def people(self) -> Interval | None:
    """The difference under the strongest attackers, over seeds and people."""
    both = [x.people.get(x.attack) for x in (self.mine, self.theirs)]
    return None if any(x is None for x in both) else two_way_interval(np.subtract(*both))


def _finite(values: Float[np.ndarray, " s"]) -> Float[np.ndarray, " _"]:
  return values[np.isfinite(values)]


def judge_all(
  arms: Mapping[str, ArmOutcome], baseline: ArmOutcome, target: float, margin: float
) -> dict[str, Verdict]:
  """The verdicts of a study, computed from intervals; nothing in them is known beforehand.

  Args:
    arms: what came of each defence.
    baseline: what came of training without any.
    target: the held-out accuracy at which they are compared.
    margin: differences of leakage smaller than this do not matter.

  Returns:
    The verdict on each: at the target accuracy, or at the end where the arm does not get there.
  """
  if not baseline.healthy.any():
    gone = Verdict(Label.NOT_COMPARABLE, "Every model of the baseline diverged.")
    return {name: gone if x.healthy.any() else _not_trained(x) for name, x in arms.items()}
  pairs = {
    name: _compared(arm, baseline, target) for name, arm in arms.items() if arm.healthy.any()
  }
  labels = decide(pairs, margin)
  others = {f"{other:g}": decide(pairs, other) for other in MARGINS}
  return {
    name: _verdict(
      (arm, baseline),
      pairs[name],
      target,
      margin,
      labels[name],
      {other: by_name[name] for other, by_name in others.items()},
    )
    if name in pairs
    else _not_trained(arm)
    for name, arm in arms.items()
  }


def judge(arm: ArmOutcome, baseline: ArmOutcome, target: float, margin: float) -> Verdict:
  """The verdict on one defence alone; see `judge_all`."""
  return judge_all({"": arm}, baseline, target, margin)[""]


def _not_trained(arm: ArmOutcome) -> Verdict:
  return Verdict(Label.NOT_TRAINED, f"All of its {len(arm.healthy)} models diverged.")


def _compared(arm: ArmOutcome, baseline: ArmOutcome, target: float) -> Compared:
  both, moments = matched(arm, baseline, target), moments_of(arm, target)
  reached = None if moments is None else float(moments[arm.healthy].mean())
  if both:
    return Compared(*both, None, reached)
  theirs = moments_of(baseline, target)
  ends = leakage_at_end(arm), leakage_at_end(baseline)
  return Compared(*ends, _unmatched(moments, theirs, target), reached)


def _unmatched(mine, theirs, target: float) -> tuple[Label, str]:
  """The label, and why in words, of an arm that cannot be compared at the target accuracy."""
  if any(moments is not None and not moments.any() for moments in (mine, theirs)):
    why = f"Untrained models have the held-out accuracy of {target:.3f} already"
    return Label.NOT_COMPARABLE, why
  never = f"never reaches a held-out accuracy of {target:.3f}"
  if mine is None:
    return Label.NOT_USEFUL, f"It {never}"
  return Label.NOT_COMPARABLE, f"The baseline {never}"


def decide(pairs: Mapping[str, Compared], margin: float) -> dict[str, Label]:
  """The labels of a study's verdicts, with Holm's correction for their number.

  Of m verdicts that are open, those whose intervals at a confidence of 1 - 0.05 / m make a claim
  are decided; then of those that are left, until nothing is. The chance that any of the claims is
  wrong is 5 % at most; Holm 1979.

  Args:
    pairs: each defence beside the baseline.
    margin: differences smaller than this do not matter.

  Returns:
    The labels.
  """
  labels = {name: label for name, pair in pairs.items() if (label := _untested(pair))}
  left = [name for name in pairs if name not in labels]
  while left:
    claims = {name: claim(pairs[name], margin, 1 - LEVEL / len(left)) for name in left}
    decided = {name: label for name, label in claims.items() if label != Label.UNDECIDED}
    if not decided:
      return labels | claims
    labels |= decided
    left = [name for name in left if name not in decided]
  return labels


def _untested(pair: Compared) -> Label | None:
  """The label of a pair whose intervals are not asked."""
  if not pair.mine.attack or not pair.theirs.attack or not len(pair.strongest()):
    return Label.NOT_COMPARABLE
  if pair.unmatched:
    return pair.unmatched[0]
  return Label.TOO_FEW if len(pair.strongest()) < FEWEST_SEEDS else None


def claim(pair: Compared, margin: float, confidence: float) -> Label:
  """What the intervals of a comparison at equal accuracy say; `undecided` where they say nothing.

  Args:
    pair: with the differences under the strongest and the naive attacker.
    margin: differences smaller than this do not matter.
    confidence: of the intervals.

  Returns:
    The label.
  """
  (_, low, high, _), naive = (
    mean_intervals(values[None], confidence)[0] for values in (pair.strongest(), pair.naive())
  )
  if low >= margin and low > 0:
    return Label.RAISES
  if high <= -margin and high < 0:
    return Label.LOWERS
  # The whole interval counts: what may be a loss that matters is not called hiding only.
  if naive.high is not None and naive.high <= -margin and naive.high < 0 and low > -margin:
    return Label.HIDES
  if -margin < low and high < margin:
    return Label.NO_EFFECT if low <= 0 <= high else Label.TOO_LITTLE
  return Label.UNDECIDED


def _verdict(
  arms: tuple[ArmOutcome, ArmOutcome],
  pair: Compared,
  target: float,
  margin: float,
  label: Label,
  margins: dict[str, Label],
) -> Verdict:
  """All numbers of a verdict, and its text."""
  mine, theirs = (x.values[x.attack] for x in (pair.mine, pair.theirs))
  both = np.isfinite(mine) & np.isfinite(theirs)
  strongest = paired_difference(mine, theirs)
  result = Verdict(
    label=label,
    text="",
    attack=pair.mine.attack,
    baseline_attack=pair.theirs.attack,
    leakage=_mean(mine[both]),
    baseline_leakage=_mean(theirs[both]),
    strongest=strongest,
    people=pair.people(),
    naive=paired_difference(pair.mine.values[NAIVE.name], pair.theirs.values[NAIVE.name]),
    identified=_most(pair.mine.identified),
    baseline_identified=_most(pair.theirs.identified),
    accuracy=paired_difference(*(final(x, "model", "holdout_accuracy") for x in arms)),
    compared_at=(float(pair.mine.accuracy[both].mean()), float(pair.theirs.accuracy[both].mean()))
    if both.any()
    else None,
    reached=pair.reached,
    detectable=detectable_effect(mine - theirs),
    margins=margins,
  )
  alone = _untested(pair) or claim(pair, margin, 1 - LEVEL)
  levels = tuple(_mean(x.values[NAIVE.name][both]) for x in (pair.mine, pair.theirs))
  text = _text(result, pair.unmatched and pair.unmatched[1], margin, levels)
  if alone != label:
    text += f" Judged alone it would be: {alone}; of so many verdicts chance might make one."
  return result._replace(text=text + _together(*arms))


def _mean(values: Float[np.ndarray, " s"]) -> float | None:
  return float(values.mean()) if len(values) else None


def _most(shares: Mapping[str, Float[np.ndarray, " s"]]) -> float | None:
  """The share identified under the attack that identifies most, in the mean over seeds."""
  means = [float(np.nanmean(v)) for v in shares.values() if np.isfinite(v).any()]
  return max(means, default=None)


def _together(arm: ArmOutcome, baseline: ArmOutcome) -> str:
  """What an attacker with all models recovers at the end: the verdict is on one model alone."""
  names = [attack.name for attack in (seed_mean, denoised_seed_mean)]
  shown = [
    [float(x.measures[name][LEAKAGE][0]) for name in names if LEAKAGE in x.measures.get(name, {})]
    for x in (arm, baseline)
  ]
  if not all(shown) or arm.healthy.sum() < 2:
    return ""
  mine, theirs = map(max, shown)
  return f" Averaged, its {arm.healthy.sum()} models show {mine:.3f} instead of {theirs:.3f}."


def _text(
  verdict: Verdict,
  unmatched: str | None,
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
