"""The empirical epsilon: what a test for one example proves of differential privacy.

A mechanism with (epsilon, delta)-differential privacy gives no test for an example's presence both
few false alarms and few misses: hits <= exp(epsilon) * false alarms + delta, and the same with the
two errors exchanged (Kairouz et al. 2015, arXiv 1311.0776). So the errors of one test, on models
that were trained with the example and without it, prove a lower bound on epsilon (Jagielski et al.
2020, arXiv 2006.07709). A bound above the epsilon that a program claims proves the program wrong.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

# scipy is imported where it is used, as in `stats`.

# From upper bounds on the shares of false alarms and of misses to what they are worth.
Worth = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Errors(NamedTuple):
  """Upper ends of both errors of a test that holds with confidence.

  Attributes:
    false_alarms: probability to find the example in a model trained without it, at most.
    misses: probability not to find it in a model trained with it, at most.
    score: which of the scores the test looks at.
    threshold: on which side of it the example is found.
    above: whether that is the side above.
    num_without: models that the first was counted on.
    num_with: models that the second was counted on.
  """

  false_alarms: float
  misses: float
  score: int
  threshold: float
  above: bool
  num_without: int
  num_with: int

  @property
  def advantage(self) -> float:
    """Lower end of hits less false alarms, at least 0."""
    return max(0.0, 1 - self.false_alarms - self.misses)


def upper_end(count: np.ndarray | np.integer | int, n: int, level: float) -> np.ndarray:
  """The upper end of Clopper's and Pearson's one-sided interval of a probability.

  Args:
    count: of events, from 0 to n.
    n: trials.
    level: probability that the end is below the truth, at most.

  Returns:
    The end; 1 where every trial was an event.

  Example:
    >>> round(float(upper_end(0, 100, 0.05)), 4)  # The rule of three: about 3 / n.
    0.0295
  """
  from scipy import special

  count = np.asarray(count, np.float64)
  # The beta distribution needs n - count > 0.
  found = special.betaincinv(count + 1, np.maximum(n - count, 0.5), 1 - level)
  return np.asarray(np.where(count < n, found, 1.0))


def epsilon_of(
  false_alarms: Float[np.ndarray, "*n"] | float,
  misses: Float[np.ndarray, "*n"] | float,
  delta: float,
) -> Float[np.ndarray, "*n"]:
  """The least epsilon that allows a test with these errors.

  Args:
    false_alarms: share of models without the example in which it is found, above 0.
    misses: share of models with the example in which it is not found, above 0.
    delta: of the guarantee, from 0 to 1.

  Returns:
    The larger of log((1 - misses - delta) / false alarms) and the same with the errors exchanged,
    at least 0.

  Example:
    >>> round(float(epsilon_of(0.01, 0.5, 1e-5)), 3)
    3.912
  """
  tiny = np.finfo(np.float64).tiny
  false_alarms, misses = (
    np.maximum(np.asarray(x, np.float64), tiny) for x in (false_alarms, misses)
  )
  one, other = (
    np.log(np.maximum(1 - x - delta, tiny)) - np.log(y)
    for x, y in ((misses, false_alarms), (false_alarms, misses))
  )
  return np.asarray(np.maximum(np.maximum(one, other), 0.0))


def best_test(
  without: Float[np.ndarray, "v a"],
  with_it: Float[np.ndarray, "v b"],
  worth: Worth,
  confidence: float = 0.95,
) -> Errors:
  """Chooses a test on every second model, and bounds its errors on the others.

  The test is a score, a threshold and a side. As it is chosen on other models than those it is
  tested on, its errors need no correction for the choice.

  Args:
    without: scores of models trained without the example, one row a score; what is not a number
      counts as the lowest.
    with_it: the same scores of models trained with it.
    worth: what upper bounds on both errors are worth; the test that is worth most is chosen.
    confidence: probability that both errors are at most what is returned.

  Returns:
    The test and its errors.

  Raises:
    ValueError: fewer than two models of a kind.

  Example:
    >>> scores = np.arange(200.0)[None]
    >>> found = best_test(scores, scores + 1000, lambda a, b: -(a + b))
    >>> found.above, found.misses == found.false_alarms < 0.04
    (True, True)
  """
  both = [np.nan_to_num(np.float64(x), nan=-np.inf) for x in (without, with_it)]
  if min(x.shape[1] for x in both) < 2:
    raise ValueError("a test needs two models of each kind, to be chosen and to be tested")
  level = (1 - confidence) / 2
  chosen = max(
    (
      (*_choose(*(sign * x[row, ::2] for x in both), worth, level), row, sign)
      for row in range(len(without))
      for sign in (1, -1)
    ),
    key=lambda found: found[0],
  )
  _, threshold, row, sign = chosen
  tested = [sign * x[row, 1::2] for x in both]
  alarms, misses = (tested[0] > threshold).sum(), (tested[1] <= threshold).sum()
  sizes = [len(x) for x in tested]
  ends = (float(upper_end(c, n, level)) for c, n in zip((alarms, misses), sizes, strict=True))
  return Errors(*ends, row, float(sign * threshold), sign > 0, *sizes)


def _choose(
  without: Float[np.ndarray, " a"], with_it: Float[np.ndarray, " b"], worth: Worth, level: float
) -> tuple[float, float]:
  """What the best threshold is worth on these models, and the threshold: found is above it."""
  values = np.unique(np.concatenate([without, with_it]))
  thresholds = np.concatenate([values[:1], (values[:-1] + values[1:]) / 2])
  # Between an infinite value and another there is no middle.
  thresholds = np.where(np.isfinite(thresholds), thresholds, values)
  a, b = np.sort(without), np.sort(with_it)
  alarms = len(a) - np.searchsorted(a, thresholds, side="right")
  misses = np.searchsorted(b, thresholds, side="right")
  found = worth(upper_end(alarms, len(a), level), upper_end(misses, len(b), level))
  best = int(np.argmax(found))
  return float(found[best]), float(thresholds[best])


class Bound(NamedTuple):
  """A lower bound on epsilon, and the test that proves it."""

  epsilon: float
  errors: Errors


def lower_bound(
  without: Float[np.ndarray, "v a"],
  with_it: Float[np.ndarray, "v b"],
  delta: float,
  confidence: float = 0.95,
) -> Bound:
  """The lower bound on epsilon by the errors of the best test, whatever the mechanism is.

  It cannot exceed about log(n / 7) for n models of a kind: half of them choose the test, and no
  false alarm among n / 2 still allows a share of 7.4 / n.

  Args:
    without: scores of models trained without the example, one row a score.
    with_it: the same scores of models trained with it.
    delta: of the guarantee.
    confidence: probability that the true epsilon is no less than the bound.

  Returns:
    The bound.

  Raises:
    ValueError: fewer than two models of a kind.

  Example:
    >>> draw = np.random.default_rng(0).standard_normal
    >>> bound = lower_bound(draw((1, 4000)), 2 + draw((1, 4000)), 1e-5)
    >>> 2.5 < bound.epsilon < 9.95  # Which it is, of the Gaussian mechanism with this shift.
    True
  """
  errors = best_test(without, with_it, lambda a, b: epsilon_of(a, b, delta), confidence)
  return Bound(float(epsilon_of(errors.false_alarms, errors.misses, delta)), errors)


def shift_of(
  false_alarms: Float[np.ndarray, "*n"] | float, misses: Float[np.ndarray, "*n"] | float
) -> Float[np.ndarray, "*n"]:
  """The shift, in standard deviations, of two Gaussians that a test with these errors tells apart.

  Dong, Roth and Su (2022), "Gaussian differential privacy", arXiv 1905.02383.

  Args:
    false_alarms: share, above 0.
    misses: share, above 0.

  Returns:
    The least shift; below 0 for a test that is worse than none.

  Example:
    >>> round(float(shift_of(0.1587, 0.1587)), 3)
    2.0
  """
  from scipy import special

  return np.asarray(-special.ndtri(np.float64(misses)) - special.ndtri(np.float64(false_alarms)))


def is_refuted(claimed: float, bound: float) -> bool:
  """Whether a lower bound contradicts the epsilon that is claimed."""
  return math.isfinite(claimed) and bound > claimed
