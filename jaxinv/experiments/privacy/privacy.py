"""DP-SGD at its best under each epsilon: what it costs, what it hides, what it keeps."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxinv.attacks.attack import Attack
from jaxinv.ensemble.groups import Host
from jaxinv.experiments import experiment, planning
from jaxinv.experiments.groups import run_groups
from jaxinv.experiments.outcome import ArmOutcome, Outcome, assemble, strongest
from jaxinv.experiments.privacy import tuning
from jaxinv.experiments.privacy.audit import Audit, judge, train_canaries
from jaxinv.experiments.privacy.canaries import CANARIES, Stage, make_stage
from jaxinv.experiments.privacy.settings import (
  Candidate,
  PrivacySpec,
  attacks_on_one,
  candidates,
  check,
)
from jaxinv.experiments.privacy.tuning import Tuning
from jaxinv.experiments.privacy.worst_case import worst_case
from jaxinv.experiments.settings import Arm, num_train, photographs_each
from jaxinv.metrics.metric import identification, ncc_centred
from jaxinv.metrics.stats import Interval, mean_intervals
from jaxinv.training import dpsgd
from jaxinv.training.dpsgd import Guarantee
from jaxinv.types import Dataset, Hyper

# Records of each training; one is the release before the last.
_RECORDS = 10
# Of the worst case of membership: at this share of false alarms.
FALSE_ALARMS = 0.01


class Limits(NamedTuple):
  """What no attacker exceeds, by the worst case of an arm's DP-SGD; 1 without privacy.

  Attributes:
    advantage: hits less false alarms of a test for one photograph.
    hits: of such a test at `FALSE_ALARMS`.
    recovered: probability to tell which of as many photographs as there are people was in.
    recovered_person: the same of all photographs of a person.
  """

  advantage: float
  hits: float
  recovered: float
  recovered_person: float


class Point(NamedTuple):
  """What came of one epsilon.

  Attributes:
    chosen: how its models were trained.
    guarantee: epsilons of a photograph, of a person and of all models; None without privacy.
    limits: of any attacker.
    accuracy: held out.
    leakage: centred NCC under the strongest attack on a single model.
    attack: its name; None where every model diverged.
    naive: the same under the attacker that reshapes the weights.
    identified: share of people identified under the attack that identifies most.
    identifier: its name.
  """

  chosen: Candidate
  guarantee: Guarantee | None
  limits: Limits
  accuracy: Interval
  leakage: Interval
  attack: str | None
  naive: Interval
  identified: Interval
  identifier: str | None


class Result(NamedTuple):
  """What came of a run on privacy.

  Attributes:
    tuning: how each arm was chosen.
    outcome: of all arms, from the strictest on; last without privacy.
    points: the same arms in numbers, by name.
    stage: what the canaries were trained on; None where nothing was audited, nor below.
    audits: what they prove.
    scores: of their models, by epsilon.
  """

  tuning: Tuning
  outcome: Outcome
  points: dict[str, Point]
  stage: Stage | None = None
  audits: tuple[Audit, ...] = ()
  scores: Mapping[float, Float[np.ndarray, "3 m 2 2 2"]] = {}


class Plan(NamedTuple):
  """A run that was checked: its candidates with their noise, and the audit's noises by epsilon."""

  candidates: tuple[Candidate, ...]
  stage: Stage | None
  noises: dict[float, float]


def make_plan(spec: PrivacySpec, dataset: Dataset) -> Plan:
  """Checks a run, and finds the noise of all that it tries.

  Args:
    spec: of the run.
    dataset: images with their classes.

  Returns:
    The plan; nothing is compiled yet.

  Raises:
    InputError: the specification is not valid, or does not fit the data.
  """
  check(spec, dataset)
  steps, stage, noises = spec.settings.steps, None, {}
  if spec.audit_models:
    stage = make_stage(dataset, spec.batches[0] / num_train(spec.settings, dataset), steps)
    noises = {e: dpsgd.noise_for(e, stage.rate, steps, spec.delta) for e in sorted(spec.epsilons)}
  return Plan(candidates(spec, dataset), stage, noises)


def run_steps(spec: PrivacySpec, plan: Plan) -> int:
  """All steps of all models of a run, for its progress."""
  models = len(plan.candidates) * spec.tuning_seeds
  models += (len(spec.epsilons) + 1) * spec.settings.num_seeds
  models += len(plan.noises) * (1 + len(CANARIES)) * spec.audit_models
  return models * spec.settings.steps


def run_privacy(
  spec: PrivacySpec, plan: Plan, dataset: Dataset, store: Path | None, host: Host
) -> Result:
  """Tunes, trains and attacks an arm for each epsilon, and audits DP-SGD.

  Args:
    spec: of the run.
    plan: of it.
    dataset: images with their classes.
    store: folder for checkpoints and finished groups; None to keep nothing.
    host: progress, messages, when to stop.

  Returns:
    The result.

  Raises:
    Stopped: the host asked for it; the state is in the store.
  """
  found = tuning.tune(spec, dataset, plan.candidates, store and store / "tuning", host)
  outcome = _curve(spec, dataset, found, store, host)
  points = {c.name: _point(spec, dataset, c, outcome.arms[c.name]) for c in found.best.values()}
  result = Result(found, outcome, points)
  if plan.stage is None:
    return result
  hypers: dict[float, Hyper] = {e: plan.stage.hyper(noise) for e, noise in plan.noises.items()}
  scores = train_canaries(
    plan.stage, hypers, spec.audit_models, spec.settings, store and store / "audit", host
  )
  audits = judge(plan.stage, scores, plan.noises, spec.delta, spec.confidence)
  return result._replace(stage=plan.stage, audits=tuple(audits), scores=scores)


def _curve(
  spec: PrivacySpec, dataset: Dataset, found: Tuning, store: Path | None, host: Host
) -> Outcome:
  """Trains and attacks the best candidate of each epsilon; one experiment for each batch size."""
  outcomes, arms = [], {}
  best = list(found.best.values())
  for batch in dict.fromkeys(candidate.batch for candidate in best):
    chosen = replace(
      spec.settings,
      arms=tuple(Arm(c.name, "sgd", c.hyper) for c in best if c.batch == batch),
      batch_size=batch,
      record_every=max(1, spec.settings.steps // _RECORDS),
      attacks=attacks_on_one(spec),
    )
    one = experiment.make_experiment(chosen, dataset)
    folder = store and store / f"curve-{batch}"
    outcomes.append(assemble(one, run_groups(one, planning.plan(one), folder, host)))
    arms |= outcomes[-1].arms
  # Splits, means and steps are the same for all batch sizes.
  return outcomes[0]._replace(arms={c.name: arms[c.name] for c in best})


def _point(spec: PrivacySpec, dataset: Dataset, chosen: Candidate, arm: ArmOutcome) -> Point:
  attacks = [attack.name for attack in attacks_on_one(spec)]
  leaks, shares = (
    {a: arm.measures[a][metric] for a in attacks}
    for metric in (ncc_centred.name, identification.name)
  )
  best, identifier = strongest(leaks), strongest(shares)
  return Point(
    chosen,
    _guarantee(spec, dataset, chosen),
    limits(spec, dataset, chosen),
    _interval(arm.measures["model"]["holdout_accuracy"]),
    _interval(leaks[best] if best else np.array([])),
    best,
    _interval(leaks["reshape"]),
    _interval(shares[identifier] if identifier else np.array([])),
    identifier,
  )


def _interval(values: Float[np.ndarray, " s"]) -> Interval:
  values = np.float64(values)
  return mean_intervals(values[np.isfinite(values)][None])[0]


def _guarantee(spec: PrivacySpec, dataset: Dataset, chosen: Candidate) -> Guarantee | None:
  if chosen.epsilon == math.inf:
    return None
  settings = spec.settings
  rate, each = chosen.batch / num_train(settings, dataset), photographs_each(settings, dataset)
  return dpsgd.guarantee(chosen.noise, rate, settings.steps, spec.delta, each, settings.num_seeds)


def limits(spec: PrivacySpec, dataset: Dataset, chosen: Candidate) -> Limits:
  """What no attacker exceeds on one model of a way of training."""
  if chosen.epsilon == math.inf:
    return Limits(1.0, 1.0, 1.0, 1.0)
  settings, people = spec.settings, dataset.num_classes
  how = chosen.noise, chosen.batch / num_train(settings, dataset), settings.steps
  one, person = (worst_case(*how, group) for group in (1, photographs_each(settings, dataset)))
  return Limits(
    one.advantage,
    float(one.hits(FALSE_ALARMS)),
    one.recovered(people),
    person.recovered(people),
  )


def attacks_by_name(spec: PrivacySpec) -> dict[str, Attack]:
  """The attacks that were made on every model."""
  return {attack.name: attack for attack in attacks_on_one(spec)}
