"""The page of a run on single photographs: its figures, and the numbers of its template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxinv.experiments.photographs import figures
from jaxinv.experiments.photographs.photographs import (
  ALONE,
  ATTACKERS,
  MOMENT,
  OTHERS,
  SHUFFLED,
  UNMIXED,
  UNTRAINED,
  Result,
)
from jaxinv.experiments.photographs.score import RECOVERED
from jaxinv.experiments.photographs.settings import PhotographsSpec
from jaxinv.experiments.photographs.verdict import CHECKPOINT, INIT, WEIGHTS
from jaxinv.metrics.stats import Interval
from jaxinv.runs import page
from jaxinv.runs.figures import save_all
from jaxinv.runs.text import interval, number
from jaxinv.types import Dataset

_WORDS = {
  UNMIXED: "W0 known",
  ALONE: "the weights alone",
  MOMENT: "the optimiser's state",
  UNTRAINED: "control: noise in place of the change",
  SHUFFLED: "control: pixels in another order",
  OTHERS: "control: other photographs asked for",
}

FIELD_WORDS = {
  UNMIXED: "unmixing, W0 known",
  ALONE: "unmixing, the weights alone",
  "kkt": "KKT conditions, margin to the largest other class (Buzaglo et al. 2023)",
  "kkt_softmax": "KKT conditions of cross entropy",
  "kkt_unmixed": "the same, started from unmixed weights",
  "kernel": "gradients that span the change (Loo et al. 2024), W0 known",
  "neurons": "the units that moved most",
  "class_average": "product of the layers, an image a class",
}

_HELD = {
  WEIGHTS: "the weights alone",
  INIT: "the weights and W0",
  CHECKPOINT: "W0, and a checkpoint with the optimiser's state",
}


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
  spec: PhotographsSpec
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
  spec, lead = data.spec, _lead(data)
  cells, pairs = _shown(data, lead)
  drawn: dict[str, Any] = {
    "map": _map(data),
    "cliff": figures.cliff_figure(cells),
    "confidence": figures.confidence_figure(
      [(arm, by_number[max(spec.numbers)]) for arm, by_number in cells.items()]
    ),
  }
  for arm, count in pairs:
    if (shown := figures.side_by_side_figure(cells[arm][count])) is not None:
      drawn[f"photographs-{arm}-{count}"] = shown
    if (shown := figures.field_figure(cells[arm][count])) is not None:
      drawn[f"field-{arm}-{count}"] = shown
  saved = save_all(drawn, out_dir / "figures")
  values = {
    "command": data.command,
    "config": data.config,
    "credit": data.dataset.credit,
    "is_drawn": data.dataset.drawn,
    "num_pictures": len(data.dataset.labels),
    "num_seeds": spec.settings.num_seeds,
    "releases": spec.releases,
    "hidden": list(spec.settings.hidden),
    "steps": spec.settings.steps,
    "recovered": RECOVERED,
    "lead": lead,
    "pictures": [
      (arm, count, saved[name], figures.first_found(cells[arm][count], UNMIXED)[0])
      for arm, count in pairs
      if (name := f"photographs-{arm}-{count}") in saved
    ],
    "field": _field(data),
    "field_pictures": [
      (arm, count, saved[name]) for arm, count in pairs if (name := f"field-{arm}-{count}") in saved
    ],
    "figures": saved,
    "axis": spec.axis and spec.axis.key,
    "several": len(spec.numbers) > 1,
    "margin": spec.margin,
    "verdicts": _verdicts(data.summary),
    "rows": _rows(data.summary, controls=False),
    "controls": _rows(data.summary, controls=True),
  }
  return page.write_page(out_dir / "report.html", __package__, values)


def _shown(data: PageData, lead: Mapping | None):
  """The cells that figures show one by one, and of which of them there are pictures.

  Where something is varied these are the cells of one of its values: where most comes back.
  """
  cells, spec = data.result.cells, data.spec
  if spec.axis is None:
    first, largest = next(iter(cells)), max(spec.numbers)
    pairs = [(arm, n) for arm in cells for n in spec.numbers if arm == first or n == largest]
    return cells, pairs
  base = data.result.baselines
  near = lead["arm"] if lead else next(iter(cells))
  cells = {arm: cells[arm] for arm in cells if base[arm] == base[near]}
  return cells, [(near, lead["count"] if lead else spec.numbers[0])]


def _map(data: PageData):
  """Shares by arm, or over the number of photographs, or over what else is varied too."""
  axis, result = data.spec.axis, data.result
  if axis is None and len(data.spec.numbers) == 1:
    return figures.arms_figure(data.summary, result.cells, data.spec.numbers[0])
  if axis is None:
    return figures.map_figure(data.summary, result.cells)
  arms = [arm.name for arm in data.spec.settings.arms]
  return figures.heat_figure(data.summary, result, arms, axis)


def _verdicts(summary: Mapping) -> list[tuple[str, ...]]:
  """A row for every verdict: what it is of, its label, and its numbers."""
  return [
    (
      *(arm, count, _HELD[held], found["label"]),
      *(number(found[name]) for name in ("identified", "baseline_identified")),
      *(interval(found[name], sign="+") for name in ("difference", "accuracy")),
      number(found["detectable"]),
      number(found["chance"]),
    )
    for arm, by_number in summary.items()
    for count, table in by_number.items()
    for held, found in table.get("verdicts", {}).items()
  ]


def _field(data: PageData) -> list[tuple[str, ...]]:
  """A row an arm, number and attacker where the field attacked, beside unmixing."""
  rows = []
  for arm, by_number in data.summary.items():
    for count, table in by_number.items():
      beside = {name: table[name] for name in (UNMIXED, ALONE) if table.get(name)}
      for name, found in (beside | table["field"] if "field" in table else {}).items():
        shares = [interval(Interval(**found[key])) for key in ("identified", "recovered")]
        searches = found.get("restarts", {}).get("mean", 1.0)
        loss = found.get("loss", {}).get("mean")
        rows.append(
          (
            *(arm, count, name, FIELD_WORDS[name], *shares),
            interval(Interval(**found["correlation"])),
            number(loss),
            number(searches, 0),
            number(found["seconds"]["mean"], 1),
          )
        )
  return rows


def _lead(data: PageData) -> dict[str, Any] | None:
  """The cell of which most photographs are identified; None where none was attacked."""
  rows = [
    (table[UNMIXED]["identified"]["mean"] * int(count), arm, int(count), table)
    for arm, by_number in data.summary.items()
    for count, table in by_number.items()
    if table.get(UNMIXED)
  ]
  if not rows:
    return None
  _, arm, count, table = max(rows, key=lambda row: row[0])
  found = table[UNMIXED]
  return {
    "arm": arm,
    "count": count,
    "accuracy": table["model"]["train_accuracy"]["mean"],
    "counted": found["counted"]["mean"],
    **{name: found[name]["mean"] for name in ("identified", "recovered", "correlation", "seconds")},
  }


def _rows(summary: Mapping, controls: bool) -> list[tuple[str, ...]]:
  """A row an arm, number and attacker, or control."""
  rows = []
  for arm, by_number in summary.items():
    for count, table in by_number.items():
      for attack, words in _WORDS.items():
        if (attack not in ATTACKERS) != controls or not table.get(attack):
          continue
        found = {name: Interval(**values) for name, values in table[attack].items()}
        row = (arm, count, words, interval(found["identified"]), interval(found["recovered"]))
        if controls:
          chance = table["chance"]
          row = (*row[:3], f"{row[3]} ({number(chance['identified'])})", row[4])
          first = f"{interval(found['members_first'])} ({number(chance['members_first'])})"
          rows.append((*row, first))
        else:
          rows.append(
            (
              *(arm, count, interval(Interval(**table["model"]["train_accuracy"])), words),
              number(found["counted"].mean, 0),
              *row[3:],
              interval(found["recovered_edges"]),
              interval(found["correlation"]),
              number(found["stability"].mean, 2),
              number(found["seconds"].mean, 1),
            )
          )
  return rows
