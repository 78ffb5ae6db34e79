"""What a study's page is of, and what its parts share: which cells, their names, their numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxinv.attacks.attack import init_diff
from jaxinv.experiments.outcome import ArmOutcome, strongest
from jaxinv.experiments.study import comparison
from jaxinv.experiments.study.comparison import LEAKAGE, NAIVE
from jaxinv.experiments.study.photographs.controls import PhotoLeaks, PoseStudy
from jaxinv.experiments.study.study import SHUFFLED, UNTRAINED, Cell, StudyResult, StudySpec
from jaxinv.metrics.stats import Interval
from jaxinv.runs.text import number
from jaxinv.types import Dataset

# Of more cells, tables are folded; and figures show those at the baseline's point of the grid.
MANY, MOST_SHOWN, MOST_FACES = 20, 12, 8


# What is drawn of a point of a grid: the attack, or the model itself, and the measure of it.
PHASE_MEASURES = {
  NAIVE.name: (NAIVE.name, LEAKAGE),
  init_diff.name: (init_diff.name, LEAKAGE),
  "held-out accuracy": ("model", "holdout_accuracy"),
}


class PageData(NamedTuple):
  """All that the page is of.

  Attributes:
    dataset: the faces.
    spec: of the study.
    result: what came of it.
    summary: its means and intervals.
    config: what config.json holds.
    command: the command line that makes this run.
    pose: the controls at several scales of pose, where they were trained.
  """

  dataset: Dataset
  spec: StudySpec
  result: StudyResult
  summary: Mapping
  config: Mapping
  command: str
  pose: PoseStudy | None = None


def with_short_names(data: PageData) -> PageData:
  """Calls the cells of a grid by their values alone: `sgd 0.3/0.01`.

  Args:
    data: of the study, with the cells' own names, which are too long to read many of them.

  Returns:
    The same data; without a grid it is the one given.
  """
  spec, result = data.spec, data.result
  names = {
    cell.arm.name: f"{cell.base} {'/'.join(f'{value:g}' for value in cell.values.values())}"
    for cell in spec.cells
    if cell.values
  }
  if not names:
    return data
  baseline = spec.baseline
  names |= {baseline + suffix: names[baseline] + suffix for suffix in (UNTRAINED, SHUFFLED)}

  def renamed(found):
    if hasattr(found, "arms"):
      return found._replace(arms=renamed(found.arms))
    return found and {names.get(name, name): value for name, value in found.items()}

  by_cell = ("outcome", "verdicts", "identified", "epsilons", "control", "leaks", "shuffled")
  cells = tuple(c._replace(arm=c.arm._replace(name=names[c.arm.name])) for c in spec.cells)
  return data._replace(
    spec=spec._replace(cells=cells, baseline=names[baseline]),
    result=result._replace(**{field: renamed(getattr(result, field)) for field in by_cell}),
    summary=renamed(data.summary),
  )


def shown_cells(data: PageData) -> list[str]:
  """The cells that are drawn one by one: all, or of many those at the baseline's grid point.

  Args:
    data: of the page.

  Returns:
    Their names, only of those that have a model; a name's place gives its colour.
  """
  cells, baseline = data.spec.cells, baseline_cell(data.spec)
  if len(cells) > MOST_SHOWN:
    cells = [cell for cell in cells if cell.values == baseline.values][:MOST_SHOWN]
  arms = data.result.outcome.arms
  return [cell.arm.name for cell in cells if arms[cell.arm.name].healthy.any()]


def baseline_cell(spec: StudySpec) -> Cell:
  """The cell that all others are compared with."""
  return next(cell for cell in spec.cells if cell.arm.name == spec.baseline)


def arms_shown(data: PageData, most: int = MOST_SHOWN) -> dict[str, ArmOutcome]:
  """What came of the cells that are drawn one by one, at most so many."""
  return {name: data.result.outcome.arms[name] for name in shown_cells(data)[:most]}


def cell_of(data: PageData, arm: str, attack: str, metric: str = LEAKAGE) -> Interval | None:
  """A mean of the summary with its interval, or None where there is none."""
  cell = data.summary[arm].get(attack, {}).get(metric)
  return Interval(**cell) if cell else None


def mean_of(data: PageData, arm: str, attack: str, metric: str = LEAKAGE) -> str:
  """A mean of the summary as text; nothing where there is none."""
  found = cell_of(data, arm, attack, metric)
  return "" if found is None else number(found.mean)


def strongest_attack(arm: ArmOutcome) -> str:
  """The strongest attack on single models at the end."""
  return strongest({a: comparison.final(arm, a) for a in comparison.attacks_of(arm)})


def epsilon(data: PageData, name: str, of: str = "photograph") -> str:
  """A cell's epsilon as text; nothing where it was not trained by DP-SGD.

  Args:
    data: of the page.
    name: of the cell.
    of: whose, a field of `Guarantee`.

  Returns:
    Three digits.
  """
  if name not in data.result.epsilons:
    return ""
  value = getattr(data.result.epsilons[name], of)
  return "infinite" if math.isinf(value) else f"{value:.3g}"


def watched_leaks(data: PageData) -> tuple[str, PhotoLeaks] | None:
  """The control arm whose photographs are shown: the baseline's, else the first with a model."""
  leaks = {name: found for name, found in (data.result.leaks or {}).items() if found}
  base = baseline_cell(data.spec).base
  trained = [name for name in leaks if not name.endswith(UNTRAINED)]
  name = next((n for n in (data.spec.baseline, base) if n in leaks), next(iter(trained), None))
  return None if name is None else (name, leaks[name])


class Phase(NamedTuple):
  """What became of one arm on a grid.

  Attributes:
    arm: its name before the grid.
    keys: one key of the grid, or two.
    ticks: the values of each.
    values: by what is measured, mean, low and high at each point; NaN where there is none.
  """

  arm: str
  keys: tuple[str, ...]
  ticks: tuple[list[float], ...]
  values: dict[str, Float[np.ndarray, "3 ..."]]


def phases(spec: StudySpec, summary: Mapping, most: int = 3) -> list[Phase]:
  """Reads an arm's grid off the summary, along its first two keys.

  Args:
    spec: the cells; further keys stay as they are for the baseline.
    summary: of all cells.
    most: how many arms to tell of.

  Returns:
    One phase an arm; none where there is no grid.
  """
  baseline = baseline_cell(spec)
  keys = tuple(baseline.values)[:2]
  rest = {key: value for key, value in baseline.values.items() if key not in keys}
  chosen = [c for c in spec.cells if all(c.values[k] == v for k, v in rest.items())]
  ticks = tuple(sorted({cell.values[key] for cell in chosen}) for key in keys)
  bases = list(dict.fromkeys(cell.base for cell in chosen))[:most] if keys else []
  return [
    Phase(base, keys, ticks, _phase_values([c for c in chosen if c.base == base], ticks, summary))
    for base in bases
  ]


def _phase_values(cells: Sequence[Cell], ticks: tuple[list[float], ...], summary: Mapping):
  """By what is measured, mean, low and high of each cell at its point."""
  shape = tuple(map(len, ticks))
  values = {name: np.full((3, *shape), np.nan) for name in PHASE_MEASURES}
  for cell in cells:
    point = tuple(t.index(v) for t, v in zip(ticks, cell.values.values(), strict=False))
    for name, (attack, metric) in PHASE_MEASURES.items():
      found = summary[cell.arm.name].get(attack, {}).get(metric)
      ends = [found[k] for k in ("mean", "low", "high")] if found else [None]
      values[name][(slice(None), *point)] = [math.nan if x is None else x for x in ends]
  return values


class Averages(NamedTuple):
  """What the average of several models shows.

  Attributes:
    counts: numbers of models.
    measured: leakage of the average of so many.
    law: what it would be if only the initial weights averaged out; None where there is no law.
  """

  counts: Int[np.ndarray, " c"]
  measured: Float[np.ndarray, " c"]
  law: Float[np.ndarray, " c"] | None


def averaging_law(
  counts: Int[np.ndarray, " c"], one: float, ceiling: float
) -> Float[np.ndarray, " c"]:
  """Leakage of an average of models, if what they learned stays and independent noise averages out.

  What one model shows is c_1 = c s / sqrt(s^2 + v), with c its ceiling, s the norm of what was
  learned and v the variance of the noise on it; of n models the variance is v / n. So
  c_n = c / sqrt(1 + (c^2 / c_1^2 - 1) / n).

  Args:
    counts: numbers of models, n.
    one: leakage of a single model, above 0.
    ceiling: leakage of what was learned without noise.

  Returns:
    The leakage at each count.
  """
  return ceiling / np.sqrt(1 + ((ceiling / one) ** 2 - 1) / counts)


def averages_of(arm: ArmOutcome) -> Averages | None:
  """An arm's averages, and their law: one model's leakage, and that of W - W0 as the ceiling."""
  if not arm.prefixes:
    return None
  counts = np.array(sorted(arm.prefixes))
  measured = np.array([float(arm.prefixes[n][LEAKAGE]) for n in counts])
  one, ceiling = (
    float(np.nanmean(comparison.final(arm, attack))) for attack in (NAIVE.name, init_diff.name)
  )
  law = averaging_law(counts, one, ceiling) if 0 < one <= ceiling else None
  return Averages(counts, measured, law)
