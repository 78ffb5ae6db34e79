"""Verdicts: does a way of training keep single photographs back? Paired by seed, with intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxinv.experiments.photographs.photographs import ALONE, MOMENT, UNMIXED, Cell, Result
from jaxinv.metrics import claims
from jaxinv.metrics.claims import FEWEST_SEEDS, LEVEL, Label
from jaxinv.metrics.stats import Interval, detectable_effect, mean_intervals, paired_difference

# What attackers hold: the weights alone, W0 too, or a checkpoint, which has the optimiser's state.
WEIGHTS, INIT, CHECKPOINT = "weights", "weights_and_init", "checkpoint"
_ATTACKS = {WEIGHTS: (ALONE,), INIT: (ALONE, UNMIXED), CHECKPOINT: (ALONE, UNMIXED, MOMENT)}


class Verdict(NamedTuple):
  """What came of a way of training, against one attacker.

  Attributes:
    label: in a word or three.
    identified: the share of photographs identified, in the mean over seeds, under the attack that
      identifies most of those that the attacker can make; None where no seed counts.
    baseline_identified: the same of the baseline.
    difference: of the two, with its interval over seeds.
    accuracy: the difference of the accuracies on photographs held out.
    detectable: the smallest difference that so many seeds would have shown with a power of 80 %.
    chance: the share identified by components that show nothing.
  """

  label: Label
  identified: float | None = None
  baseline_identified: float | None = None
  difference: Interval | None = None
  accuracy: Interval | None = None
  detectable: float | None = None
  chance: float | None = None


def judge(result: Result, margin: float) -> dict[str, dict[int, dict[str, Verdict]]]:
  """The verdicts of a run: of every arm but the baselines, corrected for their number.

  Arms are compared at the end of training. An arm whose accuracy on photographs held out is lower
  by more than the margin gets no claim on what it leaks: it is not as useful.

  Args:
    result: what came of the run.
    margin: differences, of shares and accuracies, that are too small to matter.

  Returns:
    {arm: {number of photographs: {what the attacker holds: verdict}}}.
  """
  pairs = {
    (arm, number, held): (cell, result.cells[result.baselines[arm]][number])
    for arm, by_number in result.cells.items()
    if result.baselines[arm] != arm
    for number, cell in by_number.items()
    for held in _ATTACKS
    if _ATTACKS[held][-1] in cell.attacked
  }
  labels = {key: label for key, pair in pairs.items() if (label := _untested(*pair, margin))}
  open_ones = [key for key in pairs if key not in labels]

  def claimed(name: str, confidence: float) -> Label:
    key = open_ones[int(name)]
    difference = _differences(*pairs[key], key[2])
    return claims.claim(mean_intervals(difference[None], confidence)[0], margin)

  decided = claims.decide(map(str, range(len(open_ones))), claimed)
  labels |= {open_ones[int(name)]: label for name, label in decided.items()}
  found: dict[str, dict[int, dict[str, Verdict]]] = {}
  for key, (mine, theirs) in pairs.items():
    arm, number, held = key
    verdict = _verdict(mine, theirs, held, labels[key])
    found.setdefault(arm, {}).setdefault(number, {})[held] = verdict
  return found


def _untested(mine: Cell, theirs: Cell, margin: float) -> Label | None:
  """The label of a pair whose leakage is not compared."""
  if not mine.healthy.any():
    return Label.NOT_TRAINED
  both = mine.healthy & theirs.healthy
  if not both.any():
    return Label.NOT_COMPARABLE
  if both.sum() < FEWEST_SEEDS:
    return Label.TOO_FEW
  accuracy = paired_difference(mine.holdout_accuracy[both], theirs.holdout_accuracy[both])
  return Label.NOT_USEFUL if accuracy.high < 0 and accuracy.mean < -margin else None


def identified(cell: Cell, attacks: Sequence[str]) -> Float[np.ndarray, " s"]:
  """The share identified by seed, under the attack with the largest mean; NaN where one diverged.

  It is chosen for the arm as a whole, not seed by seed: the largest of several noisy values would
  be too large.
  """
  by_attack = [
    np.array([np.nan if found is None else found.score.identified.mean() for found in by_seed])
    for attack in attacks
    if any(by_seed := cell.attacked.get(attack, ()))
  ]
  nothing = np.full(len(cell.healthy), np.nan)
  return max(by_attack, key=np.nanmean, default=nothing)


def _differences(mine: Cell, theirs: Cell, held: str) -> Float[np.ndarray, " _"]:
  values = np.subtract(*(identified(cell, _ATTACKS[held]) for cell in (mine, theirs)))
  return values[np.isfinite(values)]


def _verdict(mine: Cell, theirs: Cell, held: str, label: Label) -> Verdict:
  both = mine.healthy & theirs.healthy
  if not both.any():
    return Verdict(label)
  shares = [identified(cell, _ATTACKS[held])[both] for cell in (mine, theirs)]
  return Verdict(
    label,
    *(float(share.mean()) for share in shares),
    paired_difference(*shares, 1 - LEVEL),
    paired_difference(mine.holdout_accuracy[both], theirs.holdout_accuracy[both]),
    detectable_effect(np.subtract(*shares)),
    mine.chance_identified,
  )
