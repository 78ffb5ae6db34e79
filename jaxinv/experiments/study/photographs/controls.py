"""What the models say of single photographs: can membership be inferred from them?

Every photograph is in the training set of exactly half of the models, so whatever else there is
about it (a plain face, a common pose) is the same with it and without it, and only what training on
it does is left. Two kinds of attack are compared on the same models: by what the inversion of the
weights shows, and by the models' outputs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinv.ensemble.groups import Host
from jaxinv.experiments.experiment import Experiment, split_of
from jaxinv.experiments.outcome import ArmOutcome, assemble
from jaxinv.experiments.pose_sweep import over_poses
from jaxinv.experiments.study import comparison
from jaxinv.metrics import membership
from jaxinv.metrics.membership import Roc, auc_each, gap, lira, rmia, roc
from jaxinv.metrics.stats import Interval, mean_intervals
from jaxinv.types import Dataset

# By the models' outputs; the rest of an arm's tests are by what inversion shows.
OUTPUT_TESTS = ("lira", "lira_fixed", "rmia")


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
    auc: the AUC of a model over its photographs: mean over models, with its interval.
    by_photograph: the AUC of each photograph over the models.
  """

  pooled: Roc
  auc: Interval
  by_photograph: Float[np.ndarray, " c"]


class PhotoLeaks(NamedTuple):
  """What an arm's models give away of single photographs.

  Attributes:
    tests: by attack: `similarity/ATTACK`, how like the recovered face is; `calibrated/ATTACK`, the
      same by LiRA on the likeness under the other models; `lira`, `lira_fixed`, `rmia`.
    shown: by inversion attack, how much more alike each photograph is when it was in, in standard
      deviations.
    answered: how much more confident the models are of each photograph when it was in, likewise.
    agreement: by inversion attack, Spearman's rank correlation of `shown` and `answered`.
  """

  tests: dict[str, Detection]
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
    What was found; None where all or too many models diverged. A model that did not
    is left out together with its complement, so that the halves stay halves.

  Raises:
    InputError: there are too few models for LiRA.
  """
  pairs = arm.healthy.reshape(-1, 2).all(1)
  whom = np.repeat(pairs, 2)
  if not whom.any():
    return None
  logits, chosen = arm.details["logits"][whom], halves.candidates
  members = halves.members[whom]
  mine = members[:, chosen]
  confidence = membership.confidence(logits[:, chosen], labels[chosen])
  scores = {
    "lira": lira(confidence, mine),
    "lira_fixed": lira(confidence, mine, fixed_variance=True),
    "rmia": rmia(logits, labels, members, chosen, halves.population),
  }
  likeness = {
    attack: values[whom][:, chosen] for attack, values in arm.details["similarity"].items()
  }
  for attack, values in likeness.items():
    scores[f"similarity/{attack}"] = values
    scores[f"calibrated/{attack}"] = lira(values, mine, fixed_variance=True)
  shown = {attack: gap(values, mine) for attack, values in likeness.items()}
  answered = gap(confidence, mine)
  return PhotoLeaks(
    tests={name: detect(values, mine) for name, values in scores.items()},
    shown=shown,
    answered=answered,
    agreement={attack: rank_correlation(values, answered) for attack, values in shown.items()},
  )


def test_names(arm: ArmOutcome) -> list[str]:
  """The names of the tests that `photo_leaks` makes of an arm."""
  attacks = arm.details["similarity"]
  return [*OUTPUT_TESTS, *(f"{kind}/{n}" for n in attacks for kind in ("similarity", "calibrated"))]


def detect(scores: Float[np.ndarray, "s c"], members: Bool[np.ndarray, "s c"]) -> Detection:
  """How well a score tells members from others, in three ways of counting."""
  by_model = auc_each(scores, members, axis=1)
  return Detection(
    pooled=roc(scores, members),
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
  """Per arm and test, for summary.json: AUC with its interval, and rates at low false positives."""
  table: dict[str, dict] = {}
  for arm, found in leaks.items():
    table[arm] = {}
    for name, one in found.tests.items() if found else ():
      rates = {f"tpr_at_fpr_{rate:g}": value for rate, value in one.pooled.tpr.items()}
      table[arm][name] = {"auc": one.auc._asdict(), "pooled_auc": one.pooled.auc, **rates}
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
