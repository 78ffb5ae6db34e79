"""The page of a run on privacy: its figures, and the numbers that its template is filled with."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxinv.experiments.privacy import figures
from jaxinv.experiments.privacy.audit import Audit
from jaxinv.experiments.privacy.canaries import FINAL, MISLABELLED, PLANTED, STEPS
from jaxinv.experiments.privacy.privacy import FALSE_ALARMS, Point, Result, attacks_by_name
from jaxinv.experiments.privacy.settings import PLAIN, PrivacySpec
from jaxinv.experiments.settings import num_train, photographs_each
from jaxinv.runs import page
from jaxinv.runs.figures import save_all
from jaxinv.runs.tables import number_rows
from jaxinv.runs.text import interval, number, percent, significant
from jaxinv.types import Dataset


class PageData(NamedTuple):
  """All that the page is of.

  Attributes:
    dataset: the photographs.
    spec: what was asked.
    result: what came of it.
    summary: as in summary.json.
    config: what config.json holds.
    command: the command line that makes this run.
  """

  dataset: Dataset
  spec: PrivacySpec
  result: Result
  summary: Mapping
  config: Mapping
  command: str


def write_page(out_dir: Path, data: PageData) -> Path:
  """Draws the figures and writes report.html.

  Args:
    out_dir: the run's folder.
    data: what the page is of.

  Returns:
    The page's path.
  """
  dataset, spec, points = data.dataset, data.spec, list(data.result.points.values())
  settings = spec.settings
  drawn = {"curve": figures.curve_figure(points, 1 / dataset.num_classes)}
  if data.result.audits:
    drawn["audit"] = figures.audit_figure(data.result.audits)
  private = [p for p in points if p.guarantee and p.attack]
  values = {
    "command": data.command,
    "config": data.config,
    "credit": dataset.credit,
    "is_drawn": dataset.drawn,
    "num_people": dataset.num_classes,
    "num_photographs": len(dataset.labels),
    "num_train": num_train(settings, dataset),
    "num_each": photographs_each(settings, dataset),
    "num_seeds": settings.num_seeds,
    "num_tuning_seeds": spec.tuning_seeds,
    "steps": settings.steps,
    "delta": spec.delta,
    "chance": 1 / dataset.num_classes,
    "tried": [list(map(float, x)) for x in (spec.rates, spec.clips, spec.batches)],
    "edges": _edges(data),
    "plain": _words(data.result.points[PLAIN]),
    "strictest": _words(private[0]) if private else None,
    "usable": _usable(private, data.result.points[PLAIN]),
    "figures": save_all(drawn, out_dir / "figures"),
    "points": [_point_row(point) for point in points],
    "ways": [_way_row(point) for point in points],
    "limits": [_limit_row(point) for point in points],
    "false_alarms": FALSE_ALARMS,
    "audit": _audit(data),
    "confidence": spec.confidence,
    "attacks": [(a.name, a.knowledge, a.how or a.label) for a in attacks_by_name(spec).values()],
    "number_rows": number_rows(
      {
        name: {k: v for k, v in data.summary[name].items() if k != "privacy"}
        for name in data.result.points
      }
    ),
  }
  return page.write_page(out_dir / "report.html", __package__, values)


def _words(point: Point) -> dict[str, Any] | None:
  """One arm in the lead; None where every model diverged."""
  if point.attack is None:
    return None
  return {
    "epsilon": f"{point.chosen.epsilon:g}",
    "person": _epsilon(point.guarantee.person) if point.guarantee else "",
    "accuracy": point.accuracy.mean,
    "leakage": point.leakage.mean,
    "attack": point.attack,
    "identified": point.identified.mean,
  }


def _usable(private: Sequence[Point], plain: Point) -> dict[str, Any] | None:
  """The strictest arm that keeps half of the accuracy that is had without privacy; None: none."""
  if plain.accuracy.mean is None:
    return None
  enough = [p for p in private if p.accuracy.mean >= plain.accuracy.mean / 2]
  return _words(enough[0]) if enough else None


def _edges(data: PageData) -> list[str]:
  """Of which arms the best rate is the smallest or the largest of those tried."""
  rates = data.spec.rates
  best = data.result.tuning.best.values()
  return [c.name for c in best if len(rates) > 1 and c.learning_rate in (min(rates), max(rates))]


def _epsilons(point: Point) -> tuple[str, ...]:
  """Of a photograph, of a person, of all models."""
  if point.guarantee is None:
    return ("none",) * 3
  promised = point.guarantee
  return tuple(map(_epsilon, (promised.photograph, promised.person, promised.models)))


def _epsilon(value: float) -> str:
  """An epsilon in three digits, and never as 1e+03."""
  return f"{value:,.0f}" if 99.5 <= value < math.inf else significant(value, 3)


def _point_row(point: Point) -> tuple[str, ...]:
  return (
    _epsilons(point)[0],
    interval(point.accuracy),
    interval(point.naive),
    f"{interval(point.leakage)} {point.attack or ''}",
    f"{interval(point.identified)} {point.identifier or ''}",
  )


def _way_row(point: Point) -> tuple[str, ...]:
  chosen = point.chosen
  return (
    *_epsilons(point),
    f"{chosen.learning_rate:g}",
    "" if chosen.clip == math.inf else f"{chosen.clip:g}",
    f"{chosen.batch}",
    significant(chosen.noise, 3) if chosen.noise else "",
  )


def _limit_row(point: Point) -> tuple[str, ...]:
  limits = point.limits
  return (
    _epsilons(point)[0],
    *(
      number(x) for x in (limits.advantage, limits.hits, limits.recovered, limits.recovered_person)
    ),
    interval(point.identified),
  )


def _audit(data: PageData) -> dict[str, Any] | None:
  """What the canaries prove; None where there were none."""
  audits, stage = data.result.audits, data.result.stage
  if stage is None:
    return None
  return {
    "rows": [_audit_row(audit) for audit in audits],
    "num_models": data.spec.audit_models,
    "most_by_errors": math.log(data.spec.audit_models / 7.4),
    "num_runs": 3 * data.spec.audit_models * len(data.spec.epsilons),
    "num_examples": stage.data.train.shape[0],
    "num_people": stage.model.num_classes,
    "num_pixels": stage.data.inputs.shape[1],
    "batch": stage.batch,
    "refuted": [_refuted(audit) for audit in audits if audit.refutes],
    "shown": _shown(audits),
    "planted": PLANTED,
    "mislabelled": MISLABELLED,
  }


def _refuted(audit: Audit) -> tuple[str, str, str, str]:
  return significant(audit.epsilon), significant(audit.highest, 3), audit.canary, audit.attacker


def _shown(audits: tuple[Audit, ...]) -> dict[str, Any]:
  """The epsilon nearest to 8, where a guarantee is usual, in words."""
  epsilon = min((a.epsilon for a in audits), key=lambda e: abs(math.log(e / 8)))
  found = {(a.canary, a.attacker): a for a in audits if a.epsilon == epsilon}
  return {
    "epsilon": significant(epsilon),
    "final": found[PLANTED, FINAL].highest,
    "steps": found[PLANTED, STEPS].highest,
    "errors": found[PLANTED, STEPS].bound.epsilon,
    "is_close": found[PLANTED, STEPS].highest > epsilon / 2,
    "real": found[MISLABELLED, STEPS].highest,
  }


def _audit_row(audit: Audit) -> tuple[str, ...]:
  return (
    significant(audit.epsilon),
    audit.canary,
    audit.attacker,
    number(audit.bound.epsilon, 2),
    number(audit.by_noise, 2),
    number(audit.advantage),
    number(audit.limit),
    f"{percent(audit.errors.false_alarms, 1)}, {percent(audit.errors.misses, 1)}",
    "refuted" if audit.refutes else "not refuted",
  )
