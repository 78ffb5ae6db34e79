"""How well a score tells members from others: the area under the curve, and rates on it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxinv.errors import InputError
from jaxinv.metrics.stats import Interval, jackknife_interval

# Groups of models that the jackknife leaves out in turn: a rate at a threshold, as a quantile,
# needs more than one score left out at a time.
_MOST_GROUPS = 16


class Roc(NamedTuple):
  """How well a score tells members from others.

  Attributes:
    auc: probability that a member scores above another, ties counted half.
    tpr: by false positive rate, the share of the members found at that rate.
  """

  auc: float
  tpr: dict[float, float]


def roc(
  scores: Float[np.ndarray, "*any"],
  members: Bool[np.ndarray, "*any"],
  rates: Sequence[float] = (0.001, 0.01, 0.05),
) -> Roc:
  """The receiver operating characteristic of all scores pooled.

  Args:
    scores: larger where membership is likelier.
    members: which of them are members'.
    rates: false positive rates, in [0, 1].

  Returns:
    The exact AUC (Mann-Whitney), and the TPR at each rate. Scores that are equal are above a
    threshold together or not at all; a rate between two thresholds is reached by choosing among
    them at random, which is a straight line in the curve.

  Raises:
    InputError: if there are no members, or nobody else.
  """
  scores, members = scores.ravel(), members.ravel()
  if members.all() or not members.any():
    raise InputError("a ROC needs scores of members and of others: train on a part of the data")
  order = np.argsort(-scores)
  found = _rates(scores[order], members[order], np.asarray(rates, float))
  area = auc_each(scores[:, None], members[:, None], axis=0)[0]
  return Roc(float(area), dict(zip(rates, found.tolist(), strict=True)))


def _rates(
  scores: Float[np.ndarray, " n"], members: Bool[np.ndarray, " n"], rates: Float[np.ndarray, " r"]
) -> Float[np.ndarray, " r"]:
  """The TPR at each false positive rate, of scores from the largest down."""
  last = np.append(scores[1:] != scores[:-1], True)
  tpr, fpr = (np.append(0, x.cumsum()[last] / x.sum()) for x in (members, ~members))
  # The curve rises straight up where only members are passed: its last point at a rate counts.
  here = np.searchsorted(fpr, rates, side="right") - 1
  after = np.minimum(here + 1, len(fpr) - 1)
  step = fpr[after] - fpr[here]
  part = np.where(step > 0, (rates - fpr[here]) / np.where(step > 0, step, 1), 0)
  return tpr[here] + part * (tpr[after] - tpr[here])


def tpr_intervals(
  scores: Float[np.ndarray, "s n"],
  members: Bool[np.ndarray, "s n"],
  rates: Sequence[float] = (0.001, 0.01, 0.05),
) -> dict[float, Interval]:
  """The TPRs of `roc`, with intervals over models.

  Args:
    scores: larger where membership is likelier; models 2 j and 2 j + 1 are a pair.
    members: which photographs each model was trained on.
    rates: false positive rates, in [0, 1].

  Returns:
    By rate, the TPR of all scores pooled, and its interval by the jackknife over groups of pairs;
    within [0, 1]. That the models are each other's references is not counted.
  """
  groups = np.arange(len(scores)) // 2 % _MOST_GROUPS
  whole = roc(scores, members, rates).tpr
  order = np.argsort(-scores.ravel())
  of, ordered, hits = (
    np.broadcast_to(x, scores.shape).ravel()[order] for x in (groups[:, None], scores, members)
  )
  left = [of != group for group in range(int(groups.max()) + 1)]
  left = [kept for kept in left if hits[kept].any() and not hits[kept].all()]
  without = [_rates(ordered[kept], hits[kept], np.asarray(rates, float)) for kept in left]
  found = {}
  for i, rate in enumerate(rates):
    one = jackknife_interval(whole[rate], np.array([rates_[i] for rates_ in without]))
    ends = (None if end is None else min(max(end, 0.0), 1.0) for end in (one.low, one.high))
    found[rate] = Interval(one.mean, *ends, len(scores))
  return found


def auc_each(
  scores: Float[np.ndarray, "s n"], members: Bool[np.ndarray, "s n"], axis: int
) -> Float[np.ndarray, " _"]:
  """The AUC of each photograph over models, or of each model over photographs; Mann-Whitney.

  Args:
    scores: larger where membership is likelier.
    members: which photographs each model was trained on.
    axis: 0 for over models, [n]; 1 for over photographs, [s].

  Returns:
    One AUC each, ties counted half; NaN where there are no members, or only members.
  """
  from scipy.stats import rankdata  # Slow to import, and only the end of a run needs it.

  ranks = rankdata(scores, axis=axis)
  inside, outside = members.sum(axis), (~members).sum(axis)
  wins = (ranks * members).sum(axis) - inside * (inside + 1) / 2
  pairs = inside * outside
  return np.where(pairs > 0, wins / np.maximum(pairs, 1), np.nan)
