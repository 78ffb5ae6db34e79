"""What the models say of single photographs: can membership be inferred from them?

Every photograph is in the training set of exactly half of the models, so whatever else there is
about it (a plain face, a common pose) is the same with it and without it, and only what training on
it does is left. Three kinds of attack are compared on the same models: by what the inversion of the
weights shows, by the models' outputs, and by what W - W0 is made of.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinv.ensemble.groups import Host
from jaxinv.experiments.experiment import Experiment, split_of
from jaxinv.experiments.outcome import ArmOutcome, assemble
from jaxinv.experiments.pose_sweep import over_poses
from jaxinv.experiments.study import comparison
from jaxinv.metrics import membership
from jaxinv.metrics.membership import ENOUGH_TO_TUNE, GAMMAS, gap, lira, rmia, tuned
from jaxinv.metrics.roc import Roc, auc_each, roc, tpr_intervals
from jaxinv.metrics.stats import Interval, mean_intervals
from jaxinv.types import Dataset

# By the models' outputs; and by the change of the weights. The rest of an arm's tests are by what
# inversion shows.
OUTPUT_TESTS = ("confidence", "lira", "lira_fixed", "lira_global", "rmia")
WHITE_BOX = "white_box"
# False positive rates at which members are counted.
RATES = (0.001, 0.01, 0.05)
# LiRA's own variance needs 3 references of either kind beside a model and its complement.
FEWEST_MODELS = 8


class Halves(NamedTuple):
  """Who was in whose training set.

  Attributes:
    members: whether each example was, False of those held out from all.
    candidates: the examples that are in half of the training sets.
    population: those that are in none.
  """

  members: Bool[np.ndarray, "s n"]
  candidates: Int[np.ndarray, " c"]
  population: Int[np.ndarray, " z"]


class Detection(NamedTuple):
  """How well one attack tells whether photographs were trained on.

  Attributes:
    pooled: over all models and photographs.
    tpr: by false positive rate, the share of members found, pooled, with its interval over models.
    auc: the AUC of a model over its photographs: mean over models, with its interval.
    by_photograph: the AUC of each photograph over the models.
  """

  pooled: Roc
  tpr: dict[float, Interval]
  auc: Interval
  by_photograph: Float[np.ndarray, " c"]


class Strongest(NamedTuple):
  """The test that tells members best.

  Attributes:
    name: of the test with the largest mean AUC; of few models `white_box`.
    auc: of each half of the models under the test that is best on the other half, so that being the
      best of many by luck does not count; the mean over models.
  """

  name: str
  auc: Interval


class PhotoLeaks(NamedTuple):
  """What an arm's models give away of single photographs.

  Attributes:
    tests: by attack: `similarity/ATTACK`, how like the recovered face is; `calibrated/ATTACK`, the
      same by LiRA on the likeness under the other models; `OUTPUT_TESTS`; `white_box`.
    strongest: of these.
    shown: by inversion attack, how much more alike each photograph is when it was in, in standard
      deviations.
    answered: how much more confident the models are of each photograph when it was in, likewise.
    agreement: by inversion attack, Spearman's rank correlation of `shown` and `answered`.
  """

  tests: dict[str, Detection]
  strongest: Strongest
  shown: dict[str, Float[np.ndarray, " c"]]
  answered: Float[np.ndarray, " c"]
  agreement: dict[str, float]


def halves_of(train: Int[np.ndarray, "s m"], holdout: Int[np.ndarray, "s z"], n: int) -> Halves:
  """Reads who was in whose training set off the splits.

  Args:
    train: the examples each model was trained on.
    holdout: those held out from all; the same for all.
    n: number of examples.

  Returns:
    The halves.
  """
  members = np.zeros((len(train), n), bool)
  np.put_along_axis(members, np.asarray(train), True, axis=1)
  population = np.sort(np.asarray(holdout)[0])
  return Halves(members, np.setdiff1d(np.arange(n), population), population)


def photo_leaks(
  arm: ArmOutcome, halves: Halves, labels: Int[np.ndarray, " n"]
) -> PhotoLeaks | None:
  """Makes all tests of an arm.

  Args:
    arm: trained on halves, with logits and similarities among its details.
    halves: who was in whose training set.
    labels: class of each example.

  Returns:
    What was found; None where fewer than `FEWEST_MODELS` did not diverge. A model that did is left
    out together with its complement, so that the halves stay halves.
  """
  whom = unbroken(arm)
  if whom.sum() < FEWEST_MODELS:
    return None
  members, chosen = halves.members[whom], halves.candidates
  mine, details = members[:, chosen], jax.tree.map(lambda x: x[whom], arm.details)

  @cache
  def among(rows: tuple[int, ...]) -> dict[str, np.ndarray]:
    some = jax.tree.map(lambda x: x[[*rows]], details)
    return scores(some, halves._replace(members=members[[*rows]]), labels)

  everyone = among(tuple(range(len(mine))))
  tests = {name: detect(values, mine) for name, values in everyone.items()}
  # Where models are too few to choose, what is known beforehand to be strongest.
  few = len(mine) < ENOUGH_TO_TUNE
  best = WHITE_BOX if few else max(tests, key=lambda name: tests[name].auc.mean)
  chosen_elsewhere = tuned(lambda name, rows: among(tuple(rows.tolist()))[name], [*tests], mine)
  auc = auc_each(chosen_elsewhere, mine, axis=1)
  shown = {attack: gap(values[:, chosen], mine) for attack, values in details["similarity"].items()}
  answered = gap(everyone["confidence"], mine)
  return PhotoLeaks(
    tests=tests,
    strongest=Strongest(best, mean_intervals(auc[None])[0]),
    shown=shown,
    answered=answered,
    agreement={attack: rank_correlation(values, answered) for attack, values in shown.items()},
  )


def scores(
  details: Mapping[str, Any], halves: Halves, labels: Int[np.ndarray, " n"]
) -> dict[str, Float[np.ndarray, "s c"]]:
  """The scores of all tests, of models that are each other's references.

  Args:
    details: of these models, `logits`, `traces` and `similarity`.
    halves: who was in their training sets.
    labels: class of each example.

  Returns:
    By test, larger where membership is likelier.
  """
  members, chosen = halves.members, halves.candidates
  logits, mine = details["logits"], members[:, chosen]
  confidence = membership.confidence(logits[:, chosen], labels[chosen])

  def by_rmia(gamma, rows):
    return rmia(logits[rows], labels, members[rows], chosen, halves.population, gamma)

  found = {
    WHITE_BOX: white_box(details["traces"][:, :, chosen], mine),
    "confidence": confidence,
    "lira": lira(confidence, mine),
    "lira_fixed": lira(confidence, mine, "shared"),
    "lira_global": lira(confidence, mine, "global"),
    "rmia": tuned(by_rmia, GAMMAS, mine),
  }
  for attack, values in details["similarity"].items():
    found[f"similarity/{attack}"] = values[:, chosen]
    found[f"calibrated/{attack}"] = lira(values[:, chosen], mine, "shared")
  return found


def unbroken(arm: ArmOutcome) -> Bool[np.ndarray, " s"]:
  """Which models of an arm on halves did not diverge, nor did their complements."""
  return np.repeat(arm.healthy.reshape(-1, 2).all(1), 2)


def white_box(
  traces: Float[np.ndarray, "s j c"], members: Bool[np.ndarray, "s c"]
) -> Float[np.ndarray, "s c"]:
  """Membership from the change of the first layer, see `attacks.traces`.

  Args:
    traces: of each model, with each ridge.
    members: which photographs each model was trained on.

  Returns:
    The score of each model for each photograph: the trace itself, or calibrated by the other
    models, with the ridge that serves best on models of the attacker's own.
  """

  def score(how, rows):
    ridge, calibrate = how
    values = traces[rows, ridge]
    return lira(values, members[rows], "shared") if calibrate else values

  return tuned(score, [*itertools.product(range(traces.shape[1]), (True, False))], members)


def test_names(arm: ArmOutcome) -> list[str]:
  """The names of the tests that `photo_leaks` makes of an arm."""
  kinds = itertools.product(arm.details["similarity"], ("similarity", "calibrated"))
  return [*OUTPUT_TESTS, WHITE_BOX, *(f"{kind}/{attack}" for attack, kind in kinds)]


def detect(scores: Float[np.ndarray, "s c"], members: Bool[np.ndarray, "s c"]) -> Detection:
  """How well a score tells members from others, in three ways of counting."""
  by_model = auc_each(scores, members, axis=1)
  return Detection(
    pooled=roc(scores, members, RATES),
    tpr=tpr_intervals(scores, members, RATES),
    auc=mean_intervals(by_model[None])[0],
    by_photograph=auc_each(scores, members, axis=0),
  )


def rank_correlation(a: Float[np.ndarray, " c"], b: Float[np.ndarray, " c"]) -> float:
  """Spearman's rank correlation; 0 where either is constant."""
  from scipy import stats  # Half a second to import, and few runs need it.

  if np.ptp(a) == 0 or np.ptp(b) == 0:
    return 0.0
  return float(stats.spearmanr(a, b).statistic)


def wrong_halves(halves: Halves) -> Halves:
  """The control that must fail: each model is taken for that two further on.

  Its true neighbours' sets are as large, as balanced and as complementary; only they say nothing of
  this model.
  """
  return halves._replace(members=np.roll(halves.members, 2, axis=0))


def best_inversion(leaks: PhotoLeaks) -> str:
  """The inversion attack whose likeness, calibrated, tells members best."""
  return max(leaks.shown, key=lambda attack: leaks.tests[f"calibrated/{attack}"].pooled.auc)


def summarize_leaks(leaks: Mapping[str, PhotoLeaks | None]) -> dict:
  """Per arm and test, for summary.json: AUC with its interval, and rates at low false positives.

  `strongest` names the best test, with the AUC that it has where it is chosen on other models.
  """
  table: dict[str, dict] = {}
  for arm, found in leaks.items():
    table[arm] = {}
    if found is None:
      continue
    for name, one in found.tests.items():
      rates = {f"tpr_at_fpr_{rate:g}": value for rate, value in one.pooled.tpr.items()}
      ends = {f"{rate:g}": value._asdict() for rate, value in one.tpr.items()}
      whole = {"auc": one.auc._asdict(), "pooled_auc": one.pooled.auc}
      table[arm][name] = {**whole, **rates, "tpr": ends}
    best = found.strongest
    table[arm]["strongest"] = {"test": best.name, "auc": best.auc._asdict()}
  return table


def halves_in(halved: Experiment) -> Halves:
  """Which photographs each model of an experiment on halves was trained on."""
  everyone = split_of(halved, range(halved.settings.num_seeds))
  train, holdout = np.asarray(everyone.train), np.asarray(everyone.holdout)
  return halves_of(train, holdout, len(halved.dataset.labels))


class PoseStudy(NamedTuple):
  """Leakage of people and of single photographs, at several scales of pose.

  Attributes:
    poses: the scales.
    person: by arm, by attack, the mean leakage of each model at each scale, [j, s].
    photograph: by arm, by attack, the pooled AUC of telling members at each scale, [j].
  """

  poses: tuple[float, ...]
  person: dict[str, dict[str, np.ndarray]]
  photograph: dict[str, dict[str, np.ndarray]]


def against_pose(
  halved: Experiment, poses: Sequence[float], make_dataset: Callable[[float], Dataset], host: Host
) -> PoseStudy:
  """Measures the control arms at several scales of pose, with the same compiled programs.

  Args:
    halved: models on halves of data of the first scale; its last arm, the untrained, is left out.
    poses: the scales.
    make_dataset: from a scale to data, always of the same shape.
    host: progress, messages, when to stop.

  Returns:
    What was found.
  """
  names = [arm.name for arm in halved.settings.arms[:-1]]
  person: dict[str, dict[str, list]] = {name: {} for name in names}
  photograph: dict[str, dict[str, list]] = {name: {} for name in names}
  for here, groups in over_poses(halved, poses, make_dataset, host):
    arms, halves = assemble(here, groups).arms, halves_in(here)
    for name in names:
      arm = arms[name]
      leaks = photo_leaks(arm, halves, here.dataset.labels)
      for attack in comparison.attacks_of(arm):
        person[name].setdefault(attack, []).append(comparison.final(arm, attack))
      for test in test_names(arm):
        auc = leaks.tests[test].pooled.auc if leaks else np.nan
        photograph[name].setdefault(test, []).append(auc)
  stacked = [
    {arm: {key: np.array(values) for key, values in named.items()} for arm, named in both.items()}
    for both in (person, photograph)
  ]
  return PoseStudy(tuple(poses), *stacked)
