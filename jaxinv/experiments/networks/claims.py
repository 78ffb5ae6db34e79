"""What the results support: each claim by its test, in numbers and verdicts, not in words."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxinv.experiments.networks.findings import ArmResult, NetworksResult
from jaxinv.metrics.memorisation import Memorised
from jaxinv.metrics.stats import Interval, holm, t_test

ALPHA = 0.05
# What is said of two arms, among the corrected p-values.
DIFFERENCE = ("difference",)


class Difference(NamedTuple):
  """The share of images that the verifier recognises, of the last arm less the first.

  Attributes:
    first: the first arm's name.
    last: the last arm's name.
    gain: the difference, paired by seed.
    p_value: of Student's t, corrected, see `corrected`.
    verdict: `more`, `less`, `undecided`, or `untested` where one seed gives no interval.
  """

  first: str
  last: str
  gain: Interval
  p_value: float
  verdict: str


class MemoryTest(NamedTuple):
  """One test of memory; `is_shown` by either p-value, corrected for all of them (Bonferroni)."""

  arm: str
  inversion: str
  by: str
  test: Memorised
  is_shown: bool


def surviving(result: NetworksResult) -> NetworksResult:
  """The same result with only those arms of which at least one network did not diverge."""
  return result._replace(arms={name: arm for name, arm in result.arms.items() if _survives(arm)})


def _survives(arm: ArmResult) -> bool:
  return all(len(inverted.images) for inverted in arm.inverted.values())


def corrected(result: NetworksResult) -> dict[tuple[str, ...], float]:
  """The p-values of all that is said of shares, corrected for their number by Holm's method.

  Args:
    result: the experiment.

  Returns:
    By (arm, inversion), of Student's t against chance; by ("difference",), of the last arm against
    the first under the first inversion, paired by seed. Only of what two networks or more tell.
  """
  chance = 1 / len(result.names)
  tested = {
    (arm, inversion): _shares(result, arm, inversion) - chance
    for arm, one in result.arms.items()
    for inversion in one.inverted
  }
  first, *_, last = [*result.arms] * 2
  if last != first:
    inversion = next(iter(result.arms[first].inverted))
    tested[DIFFERENCE] = _shares(result, last, inversion) - _shares(result, first, inversion)
  tested = {key: values for key, values in tested.items() if np.isfinite(values).sum() > 1}
  p_values = holm(np.array([t_test(values) for values in tested.values()]))
  return dict(zip(tested, p_values.tolist(), strict=True))


def by_chance(result: NetworksResult, arm: str, inversion: str) -> str:
  """Where the share that the verifier recognises lies relative to chance, see `corrected`.

  Args:
    result: the experiment.
    arm: its name.
    inversion: its name.

  Returns:
    `above`, `below`, `undecided`, or `untested` for fewer than two networks.
  """
  p_value = corrected(result).get((arm, inversion))
  if p_value is None:
    return "untested"
  if p_value > ALPHA:
    return "undecided"
  mean = np.nanmean(_shares(result, arm, inversion))
  return "above" if mean > 1 / len(result.names) else "below"


def _shares(result: NetworksResult, arm: str, inversion: str) -> np.ndarray:
  """The share that the verifier recognises, by seed."""
  return result.arms[arm].inverted[inversion].measures["verifier_accuracy"]


def difference(
  result: NetworksResult, paired: Mapping[str, Mapping[str, Interval]], inversion: str
) -> Difference | None:
  """How the last arm differs from the first; None where two arms cannot be paired.

  Args:
    result: the experiment.
    paired: see `outcome.compare`; empty for one arm.
    inversion: the first one's name.
  """
  gain = paired.get(inversion, {}).get("verifier_accuracy")
  if gain is None or gain.mean is None:
    return None
  first, *_, last = result.arms
  p_value = corrected(result).get(DIFFERENCE, 1.0)
  if gain.low is None:
    verdict = "untested"
  elif p_value > ALPHA:
    verdict = "undecided"
  else:
    verdict = "more" if gain.mean > 0 else "less"
  return Difference(first, last, gain, p_value, verdict)


def memory_tests(result: NetworksResult) -> list[MemoryTest]:
  """All tests of whether single training images are remembered."""
  tests = [
    (arm, inversion, by, test)
    for arm, one in result.arms.items()
    for inversion, inverted in one.inverted.items()
    for by, test in inverted.memorised.items()
  ]
  # Each has two p-values: of the share and of the margin.
  threshold = ALPHA / (2 * max(1, len(tests)))
  return [MemoryTest(*one, min(one[-1].p_share, one[-1].p_margin) <= threshold) for one in tests]
