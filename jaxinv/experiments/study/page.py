"""The page of a study: its figures, and the numbers that its templates are filled with."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxinv.attacks.attack import Attack
from jaxinv.experiments.study import comparison, figures, people
from jaxinv.experiments.study.comparison import LEAKAGE, NAIVE
from jaxinv.experiments.study.page_data import (
  MANY,
  PageData,
  baseline_cell,
  cell_of,
  epsilon,
  mean_of,
  strongest_attack,
  watched_leaks,
  with_short_names,
)
from jaxinv.experiments.study.photographs import controls
from jaxinv.experiments.study.photographs import page as photographs
from jaxinv.experiments.study.study import attackers
from jaxinv.experiments.study.verdict import Verdict
from jaxinv.metrics.claims import Label
from jaxinv.runs import page
from jaxinv.runs.figures import save
from jaxinv.runs.tables import number_rows
from jaxinv.runs.text import interval, number


def write_page(out_dir: Path, data: PageData) -> Path:
  """Draws all figures and writes report.html.

  Args:
    out_dir: the run's folder.
    data: what the page is of.

  Returns:
    The page's path.
  """
  folder, data = out_dir / "figures", with_short_names(data)
  dataset, spec, target = data.dataset, data.spec, data.result.target
  values = {
    "command": data.command,
    "config": data.config,
    "credit": dataset.credit,
    "num_people": dataset.num_classes,
    "num_photographs": len(dataset.labels),
    "is_drawn": dataset.drawn,
    "chance": 1 / dataset.num_classes,
    "num_seeds": spec.settings.num_seeds,
    "num_control_seeds": spec.control_seeds,
    "num_cells": len(spec.cells),
    "are_many": len(spec.cells) > MANY,
    # One word for a point of the study: without a grid a cell is an arm.
    "cell": "cell" if baseline_cell(spec).values else "arm",
    "grid_keys": list(baseline_cell(spec).values),
    "baseline": spec.baseline,
    "target": target if math.isfinite(target) else None,
    "is_target_given": bool(spec.target),
    "margin": spec.margin,
    "first": _first(data),
    "membership": _membership(data),
    "diverged": _diverged(data),
    "verdicts": _verdicts(data, folder),
    **people.sections(data, folder),
    **photographs.sections(data, folder),
    "privacy": _privacy(data),
    "number_rows": _number_rows(data),
    "attacks": [(a.name, a.knowledge, _explained(a)) for a in attackers(spec).values()],
  }
  return page.write_page(out_dir / "report.html", __package__, values)


def _first(data: PageData) -> dict[str, Any] | None:
  """What the baseline gives away of people; None where none of its models came through."""
  name = data.spec.baseline
  arm = data.result.outcome.arms[name]
  if not arm.healthy.any():
    return None
  best = strongest_attack(arm)
  return {
    "accuracy": cell_of(data, name, "model", "holdout_accuracy").mean,
    "naive": cell_of(data, name, NAIVE.name).mean,
    "attack": best,
    "strongest": cell_of(data, name, best).mean,
    "identified": cell_of(data, name, best, "identification").mean,
  }


def _membership(data: PageData) -> dict[str, Any] | None:
  """What the watched control arm gives away of photographs; None without one."""
  watched = watched_leaks(data)
  if watched is None:
    return None
  name, leaks = watched
  attack = controls.best_inversion(leaks)
  return {
    "arm": name,
    "strongest": leaks.strongest.auc.mean,
    "test": leaks.strongest.name,
    "by_faces": leaks.tests[f"calibrated/{attack}"].auc.mean,
    "by_outputs": leaks.tests["lira"].auc.mean,
  }


def _diverged(data: PageData) -> dict[str, int]:
  """How many models of each cell diverged, where some did."""
  arms = data.result.outcome.arms
  return {name: int((~arm.healthy).sum()) for name, arm in arms.items() if not arm.healthy.all()}


def tally(verdicts: Mapping[str, Verdict]) -> dict[Label, list[str]]:
  """The cells by their label, in the order of `Label`; labels that no cell has are left out."""
  cells = {label: [k for k, v in verdicts.items() if v.label == label] for label in Label}
  return {label: names for label, names in cells.items() if names}


def _verdicts(data: PageData, folder: Path) -> dict[str, Any]:
  """The differences, a table, and the verdict on each cell in words."""
  verdicts, figure = data.result.verdicts, None
  if any(v.strongest and v.strongest.mean is not None for v in verdicts.values()):
    drawn = figures.verdicts_figure(verdicts, data.spec.margin)
    figure = save(drawn, folder / "verdicts.png")
  extra = ["epsilon"] if data.result.epsilons else []
  rows = [_verdict_row(data, cell.arm.name) for cell in data.spec.cells]
  return {
    "figure": figure,
    "tally": tally(verdicts),
    "counts": [(label, str(len(names))) for label, names in tally(verdicts).items()],
    "texts": [(name, verdict.label, verdict.text) for name, verdict in verdicts.items()],
    "head": [
      *("verdict", "accuracy", "compared at", "naive", "strongest", "identified", "photographs"),
      *("difference", "over people too", "other margins", *extra),
    ],
    "rows": [(*row, epsilon(data, row[0])) for row in rows] if extra else rows,
  }


def _verdict_row(data: PageData, name: str) -> tuple[str, ...]:
  arm, verdict = data.result.outcome.arms[name], data.result.verdicts.get(name)
  accuracy = mean_of(data, name, "model", "holdout_accuracy")
  baseline = data.result.outcome.arms[data.spec.baseline]
  both = comparison.matched(arm, baseline, data.result.target)
  leakage = both[0] if both else comparison.leakage_at_end(arm)
  row = (name, verdict.label if verdict else "baseline", accuracy)
  if leakage.attack is None:
    return (*row, *[""] * 8)
  naive, best = (np.nanmean(leakage.values[a]) for a in (NAIVE.name, leakage.attack))
  leaks = (data.result.leaks or {}).get(name)
  shares = [np.nanmean(v) for v in leakage.identified.values() if np.isfinite(v).any()]
  return (
    *row,
    number(np.nanmean(leakage.accuracy)),
    number(naive),
    f"{number(best)} {leakage.attack}",
    f"{max(shares):.0%}" if shares else "",
    number(leaks.strongest.auc.mean) if leaks else "",
    interval(verdict.strongest, sign="+") if verdict else "",
    interval(verdict.people, sign="+") if verdict and verdict.people else "",
    _by_margin(verdict) if verdict else "",
  )


def _by_margin(verdict: Verdict) -> str:
  """The labels for other margins, where they differ from the one given."""
  others = {m: label for m, label in verdict.margins.items() if label != verdict.label}
  return "; ".join(f"{m}: {label}" for m, label in others.items())


def _privacy(data: PageData) -> dict[str, Any] | None:
  """What DP-SGD guarantees and what is left of leakage under it; None where no cell has it."""
  spec, epsilons = data.spec, data.result.epsilons
  if not epsilons:
    return None
  arms = {c.arm.name: c.arm.hyper for c in spec.cells if c.arm.name in epsilons}
  attacks = [a for a in attackers(spec) if any(a in data.summary[name] for name in arms)]
  rows = [
    (
      name,
      *(epsilon(data, name, of) for of in ("photograph", "person", "models")),
      f"{hyper.dp_noise:g}",
      f"{hyper.dp_clip:g}",
      mean_of(data, name, "model", "holdout_accuracy"),
      *(mean_of(data, name, attack) for attack in attacks),
    )
    for name, hyper in arms.items()
  ]
  of_one, of_person, of_all = "epsilon of a photograph", "of a person", "of all models"
  one = next(iter(epsilons.values()))
  return {
    "delta": spec.delta,
    "num_each": one.num_photographs,
    "num_models": one.num_models,
    "head": [of_one, of_person, of_all, "noise", "clip", "accuracy", *attacks],
    "rows": rows,
    "strictest": _strictest(data),
  }


def _strictest(data: PageData) -> dict[str, Any] | None:
  """What the trained cell with the smallest epsilon gives away; None where there is none."""
  arms = data.result.outcome.arms
  finite = {
    name: promised.photograph
    for name, promised in data.result.epsilons.items()
    if 0 < promised.photograph < math.inf and arms[name].healthy.any()
  }
  if not finite:
    return None
  name = min(finite, key=finite.__getitem__)
  best = strongest_attack(arms[name])
  return {
    "name": name,
    "epsilon": epsilon(data, name),
    "person": epsilon(data, name, "person"),
    "models": epsilon(data, name, "models"),
    "accuracy": cell_of(data, name, "model", "holdout_accuracy").mean,
    "attack": best,
    "leakage": cell_of(data, name, best).mean,
  }


def _number_rows(data: PageData) -> list[tuple[str, ...]]:
  """All means of the summary as texts; of many cells leakage and accuracy only."""
  measured = {
    name: {attack: data.summary[name].get(attack, {}) for attack in arm.measures}
    for name, arm in data.result.outcome.arms.items()
  }
  rows = number_rows(measured, partial(number, digits=4))
  few = len(data.spec.cells) <= MANY
  return [row for row in rows if few or row[2] in (LEAKAGE, "holdout_accuracy")]


def _explained(attack: Attack) -> str:
  """An attack's line in "how to read"."""
  line = attack.how or attack.label
  return (
    line if attack.at_records or not attack.needs_one_model else f"{line}; made at the end only"
  )
