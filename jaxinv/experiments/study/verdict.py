"""Verdicts on defences: a label and its reasons in words, both decided by the intervals.

A label is a claim on the difference of leakage from the baseline under the strongest attacker, and
is made only where the whole interval bears it out: what is not known is `undecided`, never "no
effect". Over the verdicts of a study the chance of any wrong claim is kept at 5 % (Holm).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxinv.attacks.attack import denoised_seed_mean, seed_mean
from jaxinv.experiments.outcome import ArmOutcome
from jaxinv.experiments.study import words
from jaxinv.experiments.study.comparison import (
  LEAKAGE,
  NAIVE,
  Leakage,
  final,
  leakage_at_end,
  matched,
  moments_of,
)
from jaxinv.experiments.study.words import Verdict
from jaxinv.metrics import claims
from jaxinv.metrics.claims import FEWEST_SEEDS, LEVEL, Label
from jaxinv.metrics.stats import (
  Interval,
  detectable_effect,
  mean_intervals,
  paired_difference,
  two_way_interval,
)

# Margins for which every label is told, beside the one that was asked for.
MARGINS = (0.02, 0.05, 0.1)


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
  """The labels of a study's verdicts, corrected for their number; see `claims.decide`.

  Args:
    pairs: each defence beside the baseline.
    margin: differences smaller than this do not matter.

  Returns:
    The labels.
  """
  labels = {name: label for name, pair in pairs.items() if (label := _untested(pair))}
  left = [name for name in pairs if name not in labels]
  return labels | claims.decide(left, lambda name, level: claim(pairs[name], margin, level))


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
  strongest, naive = (
    mean_intervals(values[None], confidence)[0] for values in (pair.strongest(), pair.naive())
  )
  label = claims.claim(strongest, margin)
  if label in (Label.RAISES, Label.LOWERS):
    return label
  # The whole interval counts: what may be a loss that matters is not called hiding only.
  hidden = naive.high is not None and naive.high <= -margin and naive.high < 0
  return Label.HIDES if hidden and strongest.low > -margin else label


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
  why = pair.unmatched[1] if pair.unmatched else ""
  text = words.describe(result, why, margin, levels, alone)
  return result._replace(text=text + words.averaged(*map(_together, arms)))


def _mean(values: Float[np.ndarray, " s"]) -> float | None:
  return float(values.mean()) if len(values) else None


def _most(shares: Mapping[str, Float[np.ndarray, " s"]]) -> float | None:
  """The share identified under the attack that identifies most, in the mean over seeds."""
  means = [float(np.nanmean(v)) for v in shares.values() if np.isfinite(v).any()]
  return max(means, default=None)


def _together(arm: ArmOutcome) -> tuple[int, float] | None:
  """How many models came through, and what an attacker who holds them all recovers; or None."""
  names = [attack.name for attack in (seed_mean, denoised_seed_mean)]
  shown = [arm.measures[n][LEAKAGE][0] for n in names if LEAKAGE in arm.measures.get(n, {})]
  return (int(arm.healthy.sum()), float(max(shown))) if shown else None
