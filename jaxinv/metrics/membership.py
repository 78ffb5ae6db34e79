"""Membership inference: who was in a model's training set, told from how it treats a photograph.

All on the host, of models that were each trained on another half of the same photographs, best in
pairs that halve them the other way round. Every model is the target in turn and the others are its
references. Beside the legend in `types.py`: c candidates, z the population, held out by all.

Scores are finite: leave models that diverged out, whole rows, before calling any of these. Only
`confidence` takes their logits, and gives what is not finite for them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinv import errors
from jaxinv.errors import InputError
from jaxinv.metrics.roc import auc_each
from jaxinv.metrics.rows import centred

# Least variance of a fit, as a share of that of all scores: keeps every likelihood ratio finite.
_LEAST_VARIANCE = 1e-6
_TINY = np.finfo(np.float64).tiny

# Of the Gaussians of LiRA, and how many times larger than the population's RMIA's ratio has to be.
VARIANCES = ("each", "shared", "global")
GAMMAS = (1.0, 0.5, 1.25, 2.0, 4.0)
# From so many models on an attack can be tuned on one half of them for the other.
ENOUGH_TO_TUNE = 16


def confidence(
  logits: Float[np.ndarray, "s n k"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "s n"]:
  """LiRA's statistic, log(p / (1 - p)) of the true class; Carlini et al. 2022, arXiv 2112.03570.

  Args:
    logits: what each model says of each photograph.
    labels: its true class.

  Returns:
    The true logit less the log-sum-exp of the others, exact also where p rounds to 0 or to 1. Not
    finite where the logits are not.
  """
  logits = np.asarray(logits, np.float64)
  num_examples, num_classes = logits.shape[1:]
  own = labels[:, None] == np.arange(num_classes)
  others = np.where(own, -np.inf, logits)
  with np.errstate(invalid="ignore"):  # A diverged model is for the caller to notice.
    top = others.max(-1)
    rest = top + np.log(np.exp(others - top[..., None]).sum(-1))
    return logits[:, np.arange(num_examples), labels] - rest


def references(members: Bool[np.ndarray, "s n"]) -> Float[np.ndarray, "s s"]:
  """Which models serve as references when each model is the target.

  All but the target itself and one model that was trained on exactly the other photographs, if
  there is one. Without the target alone, a photograph that it was trained on would have one
  reference with it fewer than without it: the two fits would differ in their noise, which tells
  membership, and scores of pure chance would have an AUC below 1/2 (0.44 for LiRA of 8 models).

  Args:
    members: which photographs each model was trained on.

  Returns:
    One row a target: 1 for its references, 0 for the others.
  """
  signs = np.where(members, 1.0, -1.0)
  opposite = signs @ signs.T == -members.shape[1]
  use = np.ones_like(opposite, np.float64)
  np.fill_diagonal(use, 0)
  (paired,) = np.nonzero(opposite.any(1))
  use[paired, opposite.argmax(1)[paired]] = 0
  return use


def lira(
  scores: Float[np.ndarray, "s n"], members: Bool[np.ndarray, "s n"], variance: str = "each"
) -> Float[np.ndarray, "s n"]:
  """The likelihood ratio attack, online; Carlini et al. 2022, arXiv 2112.03570.

  For each photograph a Gaussian is fitted to its scores under the references that were trained on
  it, and one under those that were not: log N(score; in) - log N(score; out). Variances are
  unbiased, so that few references do not make it too sure.

  Args:
    scores: any score, larger or not where a photograph was trained on: `confidence`, or the
      likeness of what was recovered.
    members: which photographs each model was trained on.
    variance: of each photograph by itself, `each`; or one for all, which is better for few
      references: `shared`, about each photograph's own mean; or `global`, as the authors' program
      has it, about the mean of all, where the photographs' difficulty counts as noise.

  Returns:
    The log-likelihood ratio of each model for each photograph. Free of the scores' units; 0 for a
    photograph that all models score alike.

  Raises:
    InputError: if a photograph has fewer than 3 references (of one variance for all: 2) of either
      kind, or if the variance has no such name.
  """
  errors.choose("variance", variance, {name: name for name in VARIANCES})
  scores = np.asarray(scores, np.float64)
  difficulty = scores.mean(0, keepdims=True)
  scores, use = centred(scores, 0), references(members)
  about = scores + (difficulty - difficulty.mean()) if variance == "global" else scores
  inside, outside = (
    _log_density(scores, about, chosen.astype(np.float64), use, variance)
    for chosen in (members, ~members)
  )
  return inside - outside


def _log_density(
  scores: Float[np.ndarray, "s n"],
  about: Float[np.ndarray, "s n"],
  chosen: Float[np.ndarray, "s n"],
  use: Float[np.ndarray, "s s"],
  kind: str,
) -> Float[np.ndarray, "s n"]:
  """Of each target's score, under the Gaussian of its chosen references; less log sqrt(2 pi).

  Of the `global` variance, that of the scores `about` the mean of all; else they are the scores.
  """
  counts = _counts(chosen, use, 3 if kind == "each" else 2)
  means = use @ (chosen * scores) / counts
  # The scores are centred, so that this difference of sums loses nothing that matters.
  squares = use @ (chosen * about**2)
  freedom, spread = counts - 1, np.square(scores).mean(0)
  if kind == "global":
    totals = (use @ (chosen * about)).sum(1, keepdims=True)
    num = counts.sum(1, keepdims=True)
    squares, freedom = squares.sum(1, keepdims=True) - totals**2 / num, num - 1
  else:
    squares = squares - counts * means**2
  if kind == "shared":
    squares, freedom = (x.sum(1, keepdims=True) for x in (squares, freedom))
  if kind != "each":
    spread = spread.mean()
  variance = np.maximum(squares / freedom, np.maximum(_LEAST_VARIANCE * spread, _TINY))
  return -0.5 * (np.log(variance) + (scores - means) ** 2 / variance)


def _counts(
  chosen: Float[np.ndarray, "s n"], use: Float[np.ndarray, "s s"], least: int
) -> Float[np.ndarray, "s n"]:
  """How many references are chosen, for each target and photograph: never fewer than `least`."""
  counts = use @ chosen
  fewest = counts.min(initial=math.inf)
  if fewest < least:
    raise InputError(
      f"each photograph needs {least} reference models trained with it and {least} without, but "
      f"one has {fewest:.0f}: train more models"
    )
  return counts


def rmia(
  logits: Float[np.ndarray, "s n k"],
  labels: Int[np.ndarray, " n"],
  members: Bool[np.ndarray, "s n"],
  candidates: Int[np.ndarray, " c"],
  population: Int[np.ndarray, " z"],
  gamma: float = 1.0,
) -> Float[np.ndarray, "s c"]:
  """The robust attack, online; Zarifzadeh, Liu and Shokri 2024, arXiv 2312.03262.

  ratio(x) = p(x | target) / p(x), p the probability of the true class, and p(x) half its mean over
  the references trained with x and half that over those without. For the population, which is out
  for all, p(z) is the mean over all references. The score is the share of the population that x
  beats: ratio(x) / ratio(z) >= gamma.

  Args:
    logits: what each model says of each photograph, of those held out too.
    labels: its true class.
    members: which photographs each model was trained on.
    candidates: indices of the photographs to be told about.
    population: indices of photographs that no model was trained on.
    gamma: how many times larger the ratio has to be, above 0.

  Returns:
    The score of each candidate under each target, in [0, 1].

  Raises:
    InputError: if the population is empty or in a training set, if gamma is not positive, or if a
      candidate has no reference of either kind.
  """
  _check_population(members[:, population], gamma)
  # log p = -log(1 + exp(-confidence)), which no probability near 1 rounds away.
  log_p = -np.logaddexp(0.0, -confidence(logits, labels))
  chosen = members[:, candidates].astype(np.float64)
  use = references(members[:, candidates])
  ratio_x = _log_ratio(log_p[:, candidates], (chosen, 1 - chosen), use)
  ratio_z = _log_ratio(log_p[:, population], (np.ones((len(use), len(population))),), use)
  beaten = [
    np.searchsorted(np.sort(z), x - math.log(gamma), side="right")
    for x, z in zip(ratio_x, ratio_z, strict=True)
  ]
  return np.stack(beaten) / len(population)


def _check_population(members: Bool[np.ndarray, "s z"], gamma: float) -> None:
  """Refuses what RMIA cannot compare with."""
  if not gamma > 0:
    raise InputError(f"gamma is a ratio of probabilities: above 0, not {gamma}")
  if not members.shape[1]:
    raise InputError("RMIA compares with photographs in no training set: hold some out")
  if members.any():
    raise InputError("RMIA's population has photographs that models were trained on: drop them")


def _log_ratio(
  log_p: Float[np.ndarray, "s n"],
  kinds: Sequence[Float[np.ndarray, "s n"]],
  use: Float[np.ndarray, "s s"],
) -> Float[np.ndarray, "s n"]:
  """log p(x | target) - log p(x), where p(x) is the mean of the means over each kind."""
  top = log_p.max(0)
  p = np.exp(log_p - top)
  means = [use @ (chosen * p) / _counts(chosen, use, 1) for chosen in kinds]
  return log_p - top - np.log(np.maximum(np.mean(means, 0), _TINY))


def tuned(
  score: Callable[[Any, Int[np.ndarray, " _"]], Float[np.ndarray, "_ n"]],
  choices: Sequence[Any],
  members: Bool[np.ndarray, "s n"],
) -> Float[np.ndarray, "s n"]:
  """The scores of an attack whose setting is chosen on models of the attacker's own.

  The pairs of models are halved. What serves best on one half, by the mean AUC of its models, with
  that half alone as references, is used for the other: no target's membership helps to choose.

  Args:
    score: from a choice and indices of models to their scores, those models being each other's
      references.
    choices: the settings; the first where there are too few models to choose.
    members: which photographs each model was trained on; models 2 j and 2 j + 1 are a pair.

  Returns:
    The scores, of all models, with all as references.

  Example:
    >>> members = np.tile([[True, False], [False, True]], (8, 1))
    >>> found = tuned(lambda sign, rows: sign * members[rows], [-1.0, 1.0], members)
    >>> float(auc_each(found, members, axis=1).mean())
    1.0
  """
  everyone = np.arange(len(members))
  if len(members) < ENOUGH_TO_TUNE or len(choices) == 1:
    return score(choices[0], everyone)
  halves = [everyone[everyone // 2 % 2 == odd] for odd in (0, 1)]
  found, known = np.empty(members.shape), {}
  for own, others in zip(halves, reversed(halves), strict=True):
    worth = [np.nanmean(auc_each(score(c, others), members[others], axis=1)) for c in choices]
    best = int(np.argmax(worth))
    if best not in known:
      known[best] = score(choices[best], everyone)
    found[own] = known[best][own]
  return found


def gap(
  scores: Float[np.ndarray, "s n"], members: Bool[np.ndarray, "s n"]
) -> Float[np.ndarray, " n"]:
  """How much each photograph leaks: mean score when in less mean when out, Cohen's d.

  Args:
    scores: any score of each photograph under each model.
    members: which photographs each model was trained on.

  Returns:
    The difference in units of the standard deviation within the two, pooled. 0 where that
    deviation is 0, and NaN where a photograph is in no model's training set or in all.
  """
  scores = centred(np.asarray(scores, np.float64), 0)
  counts = np.stack([members.sum(0), (~members).sum(0)])
  sums = np.stack([(scores * members).sum(0), (scores * ~members).sum(0)])
  inside, outside = sums / np.maximum(counts, 1)
  residuals = scores - np.where(members, inside, outside)
  deviation = np.sqrt(np.square(residuals).sum(0) / max(len(scores) - 2, 1))
  # Rounding leaves a deviation of no meaning where both are constant.
  varied = deviation > 1e-12 * np.ptp(scores, axis=0)
  difference = np.where(varied, (inside - outside) / np.where(varied, deviation, 1), 0)
  return np.where(counts.min(0) > 0, difference, np.nan)
