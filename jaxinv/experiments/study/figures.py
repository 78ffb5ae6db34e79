"""Figures of a study on people: verdicts, attackers, faces, use against leakage, grids."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxinv.attacks.attack import KNOWLEDGE
from jaxinv.experiments.faces.figures import mosaic
from jaxinv.experiments.outcome import ArmOutcome, Outcome
from jaxinv.experiments.study.comparison import LABELS, LEAKAGE, NAIVE, Verdict, final
from jaxinv.experiments.study.study import Cell, Question
from jaxinv.metrics.stats import Interval
from jaxinv.runs.figures import COLOURS, colour, legend, new_figure, short

# The colour of each verdict, in the order of the labels.
_LABEL_COLOURS = dict(zip(LABELS, map(colour, (2, 4, 6, 5, 0, 1, 7, 3, 6)), strict=True))

# The labels of what is compared at the end.
_AT_END = ("is not as useful", "cannot be compared")

_MARKERS = dict(zip(KNOWLEDGE, "os^DPv", strict=True))

# Of more cells than this a figure names none.
_MOST_NAMED = 40

# What is drawn of a point of a grid: the attack, or the model itself, and the measure of it.
PHASE_MEASURES = {
  "reshape": ("reshape", LEAKAGE),
  "init_diff": ("init_diff", LEAKAGE),
  "held-out accuracy": ("model", "holdout_accuracy"),
}


def interval_bars(interval: Interval) -> Float[np.ndarray, "2 1"] | None:
  """Distances from the mean to the ends; BCa may put an end a hair on the wrong side of it."""
  if interval.low is None:
    return None
  return np.maximum([[interval.mean - interval.low], [interval.high - interval.mean]], 0.0)


def filling(index: int) -> dict[str, Any]:
  """The colour of the index-th arm; once all colours are taken, with hollow markers."""
  hollow = index // len(COLOURS) % 2
  return {"color": colour(index), "markerfacecolor": "white" if hollow else colour(index)}


def name_rows(axis: Axes, names: Sequence[str]) -> None:
  """Names the rows of a figure, the first at the top, as they are: `$` is no formula."""
  axis.set_yticks(range(len(names)), list(map(short, names)), parse_math=False)
  axis.set_ylim(len(names) - 0.4, -0.6)


def verdicts_figure(verdicts: Mapping[str, Verdict], margin: float) -> Figure:
  """Differences from the baseline with their intervals, naive and strongest attacker.

  Args:
    verdicts: by cell; those without a difference are left out.
    margin: differences that do not matter.

  Returns:
    The figure: a row a cell; of many cells without names, and in order of the difference.
  """
  told = {k: v for k, v in verdicts.items() if v.strongest and v.strongest.mean is not None}
  if len(told) > _MOST_NAMED:
    told = dict(sorted(told.items(), key=lambda item: item[1].strongest.mean))
  height = 1.4 + (0.26 * len(told) if len(told) <= _MOST_NAMED else 6.0)
  figure, axes = new_figure(1, 2, (10.0, height), sharex=True, sharey=True)
  titles = ("naive attacker (reshape)", "strongest attacker on each")
  for axis, kind, title in zip(axes[0], ("naive", "strongest"), titles, strict=True):
    axis.axvspan(-margin, margin, color="black", alpha=0.08, linewidth=0)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_title(title)
    axis.set_xlabel("difference of leakage from the baseline")
    for row, verdict in enumerate(told.values()):
      _draw_difference(axis, row, verdict, getattr(verdict, kind))
  name_rows(axes[0][0], list(told))
  if len(told) > _MOST_NAMED:
    axes[0][0].set_yticks([])
  _name_labels(figure, list(told.values()))
  return figure


def _draw_difference(axis: Axes, row: int, verdict: Verdict, interval: Interval | None) -> None:
  """One difference; hollow where it is no comparison at equal use."""
  if interval is None or interval.mean is None:
    return
  tone = _LABEL_COLOURS[verdict.label]
  face = "white" if verdict.label in _AT_END else tone
  axis.errorbar(
    interval.mean, row, xerr=interval_bars(interval), fmt="o", ms=5, capsize=2, color=tone, mfc=face
  )


def _name_labels(figure: Figure, verdicts: Sequence[Verdict]) -> None:
  labels = [label for label in LABELS if any(v.label == label for v in verdicts)]
  marks = [
    Line2D([], [], marker="o", ls="", color=_LABEL_COLOURS[x], mfc="white" if at_end else None)
    for x, at_end in ((x, x in _AT_END) for x in labels)
  ]
  words = [f"{x} (at the end)" if x in _AT_END else x for x in labels]
  if labels:
    legend(figure, marks, words, 3)


def attackers_figure(leakage: Mapping[str, Mapping[str, Interval]]) -> Figure:
  """What each attack recovers, one panel for all attackers that hold the same.

  Args:
    leakage: by arm, by attack.

  Returns:
    The figure: a row an arm; the strongest attack of a panel is filled.
  """
  attacks = [a for a in KNOWLEDGE if any(a in found for found in leakage.values())]
  kinds = list(dict.fromkeys(KNOWLEDGE[a] for a in attacks)) or [KNOWLEDGE[NAIVE]]
  size = (10.0, 1.5 + 0.36 * len(leakage))
  figure, axes = new_figure(1, len(kinds), size, sharex=True, sharey=True)
  for axis, kind in zip(axes[0], kinds, strict=True):
    for row, found in enumerate(leakage.values()):
      held = {a: i for a, i in found.items() if KNOWLEDGE[a] == kind and i.mean is not None}
      _draw_attacks(axis, row, held)
    axis.set_title(kind.replace(" and ", " and\n"), fontsize=9)
    axis.set_xlabel("centred NCC")
  name_rows(axes[0][0], list(leakage))
  axes[0][0].set_xlim(right=1.02)
  marks = [Line2D([], [], marker=_MARKERS[a], ls="", color="black", ms=5) for a in attacks]
  if attacks:
    legend(figure, marks, attacks, len(attacks))
  return figure


def _draw_attacks(axis: Axes, row: int, held: Mapping[str, Interval]) -> None:
  """One arm's leakage under attacks that need the same, beneath each other."""
  best = max(held, key=lambda attack: held[attack].mean, default=None)
  for i, (attack, interval) in enumerate(held.items()):
    place = row + 0.26 * (i - (len(held) - 1) / 2)
    face = colour(0) if attack == best else "white"
    look = {"fmt": _MARKERS[attack], "ms": 5, "capsize": 2, "color": colour(0), "mfc": face}
    axis.errorbar(interval.mean, place, xerr=interval_bars(interval), **look)


def people_figure(
  outcome: Outcome, strongest: Mapping[str, str], names: Sequence[str], people: Sequence[int]
) -> Figure:
  """Class average beside what two attackers recover of each arm's first seed.

  Args:
    outcome: of the study.
    strongest: by arm, the attack shown under the naive one; the arms shown are these.
    names: name of each class.
    people: classes to show, two rows each.

  Returns:
    The figure; an arm whose first seed diverged has no images.
  """
  chosen = list(people)
  columns = [[outcome.train_means[0][chosen]] * 2]
  heads = ["class\naverage"]
  for name, attack in strongest.items():
    arm = outcome.arms[name]
    pair = [arm.images[a][0][chosen] if arm.healthy[0] else None for a in (NAIVE, attack)]
    columns.append([np.full_like(columns[0][0], np.nan) if x is None else x for x in pair])
    heads.append(f"{short(name, 16)}\n{attack if arm.healthy[0] else 'diverged'}")
  grid = np.array(columns).transpose(2, 1, 0, 3, 4)
  grid = grid.reshape(-1, len(columns), *grid.shape[-2:])
  sides = [f"{names[i]}\n{who}" for i in chosen for who in ("naive", "strongest")]
  inches = min(1.05, 9.6 / len(columns))
  height = len(grid) * inches * grid.shape[2] / grid.shape[3] + 0.6
  figure, axes = new_figure(1, 1, (inches * len(columns) + 0.8, height))
  # Images of mode `max` have signs, and are put around grey.
  grid = np.clip(np.where((grid < 0).any((2, 3), keepdims=True), 127.5 + grid / 2, grid), 0, 255)
  mosaic(axes[0][0], grid, heads, sides)
  return figure


def training_figure(arms: Mapping[str, ArmOutcome], target: float) -> Figure:
  """Leakage against held-out accuracy through training: mean over seeds, middle 80 % of them.

  Args:
    arms: by name.
    target: the accuracy at which arms are compared.

  Returns:
    The figure: a curve an arm, with a dot at its end.
  """
  figure, axes = new_figure(1, 2, (10.0, 4.4), sharex=True, sharey=True)
  lines: dict[str, Line2D] = {}
  for axis, attack in zip(axes[0], (NAIVE, "init_diff"), strict=True):
    for i, (name, arm) in enumerate(arms.items()):
      if arm.healthy.any():
        lines[name] = _draw_path(axis, arm, attack, i)
    if np.isfinite(target):
      axis.axvline(target, color="black", linewidth=0.8, linestyle=":")
    axis.set_title(attack)
    axis.set_xlabel("held-out accuracy")
  axes[0][0].set_ylabel("leakage: centred NCC")
  legend(figure, list(lines.values()), list(map(short, lines)), 4)
  return figure


def _draw_path(axis: Axes, arm: ArmOutcome, attack: str, index: int) -> Line2D:
  accuracy = arm.history["holdout_accuracy"][arm.healthy].mean(0)
  values = arm.trail[f"{attack}/{LEAKAGE}"][arm.healthy]
  low, high = np.quantile(values, [0.1, 0.9], axis=0)
  dashes = "--" if index // len(COLOURS) % 2 else "-"
  axis.fill_between(accuracy, low, high, color=colour(index), alpha=0.15, linewidth=0)
  axis.plot(accuracy[-1], values.mean(0)[-1], "o", color=colour(index), ms=5)
  return axis.plot(accuracy, values.mean(0), dashes, color=colour(index), linewidth=1.4)[0]


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


def averages(arm: ArmOutcome) -> Averages | None:
  """An arm's averages, and their law: one model's leakage, and that of W - W0 as the ceiling."""
  if not arm.prefixes:
    return None
  counts = np.array(sorted(arm.prefixes))
  measured = np.array([float(arm.prefixes[n][LEAKAGE]) for n in counts])
  one, ceiling = (float(np.nanmean(final(arm, attack))) for attack in (NAIVE, "init_diff"))
  law = averaging_law(counts, one, ceiling) if 0 < one <= ceiling else None
  return Averages(counts, measured, law)


def seed_mean_figure(found: Mapping[str, Averages], places: Mapping[str, int]) -> Figure:
  """Leakage of the average of 1, 2, 4, ... models, with the law that it would follow.

  Args:
    found: by arm.
    places: of each arm's colour.

  Returns:
    The figure: points measured, dashed lines the law.
  """
  figure, axes = new_figure(1, 1, (7.6, 4.2))
  axis, marks = axes[0][0], []
  for name, one in found.items():
    look = filling(places[name])
    marks += axis.plot(one.counts, one.measured, "o-", ms=5, linewidth=0.7, **look)
    if one.law is not None:
      axis.plot(one.counts, one.law, "--", color=look["color"], linewidth=1.4)
  counts = sorted({int(n) for one in found.values() for n in one.counts})
  axis.set_xscale("log", base=2)
  axis.set_xticks(counts, list(map(str, counts)))
  axis.set_xlabel("models averaged")
  axis.set_ylabel("leakage: centred NCC")
  axis.set_ylim(top=1.02)
  marks.append(Line2D([], [], color="black", linestyle="--"))
  legend(figure, marks, [*map(short, found), "law"], 4)
  return figure


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


def phases(question: Question, summary: Mapping, most: int = 3) -> list[Phase]:
  """Reads an arm's grid off the summary, along its first two keys.

  Args:
    question: the cells; further keys stay as they are for the baseline.
    summary: of all cells.
    most: how many arms to tell of.

  Returns:
    One phase an arm; none where there is no grid.
  """
  baseline = next(cell for cell in question.cells if cell.arm.name == question.baseline)
  keys = tuple(baseline.values)[:2]
  rest = {key: value for key, value in baseline.values.items() if key not in keys}
  chosen = [c for c in question.cells if all(c.values[k] == v for k, v in rest.items())]
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


def phase_figure(found: Sequence[Phase]) -> Figure:
  """Hidden or not learned? Leakage and accuracy over the grid, all on one scale.

  Args:
    found: one row of maps an arm; of one key, one panel of curves an arm.

  Returns:
    The figure.
  """
  if len(found[0].keys) == 1:
    return _phase_curves(found)
  rows, columns = map(len, found[0].ticks)
  height = 0.95 + min(0.9, max(0.3, 2.4 / columns)) * rows
  size = (10.0, height * len(found) + 0.2)
  figure, axes = new_figure(len(found), 3, size, sharex=True, sharey=True)
  for line, phase in zip(axes, found, strict=True):
    for axis, (name, values) in zip(line, phase.values.items(), strict=True):
      picture = _phase_map(axis, values[0])
      axis.set_title(f"{short(phase.arm, 18)}: {name}", fontsize=9, parse_math=False)
      axis.set_yticks(range(rows), [f"{x:g}" for x in phase.ticks[0]])
      axis.set_xticks(range(columns), [f"{x:g}" for x in phase.ticks[1]])
      axis.tick_params(axis="x", labelrotation=60 if columns > 6 else 0)
    line[0].set_ylabel(phase.keys[0])
  for axis in axes[-1]:
    axis.set_xlabel(found[0].keys[1])
  figure.colorbar(picture, ax=axes, shrink=0.8, pad=0.01)
  return figure


def _phase_map(axis: Axes, values: Float[np.ndarray, "i j"]):
  """One map with its values written in."""
  picture = axis.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
  axis.grid(False)
  axis.set_facecolor("#dddddd")
  # Four characters have to fit into a cell of a panel three inches wide.
  size = min(8.0, 2.8 * 72 / values.shape[1] / 2.6)
  for (i, j), value in np.ndenumerate(values):
    dark = np.isnan(value) or value > 0.5
    text = "-" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}"
    if size >= 5:
      axis.text(j, i, text, ha="center", va="center", size=size, color="black" if dark else "white")
  return picture


def _phase_curves(found: Sequence[Phase]) -> Figure:
  size = (min(10.0, 2.2 + 3.4 * len(found)), 3.6)
  figure, axes = new_figure(1, len(found), size, sharey=True)
  for axis, phase in zip(axes[0], found, strict=True):
    (ticks,) = phase.ticks
    marks = []
    for i, (mean, low, high) in enumerate(phase.values.values()):
      bars = np.nan_to_num(np.maximum([mean - low, high - mean], 0.0))
      look = {"color": ("black", *COLOURS)[(i + 1) % 3], "marker": "os^"[i], "ms": 4}
      marks.append(axis.errorbar(range(len(ticks)), mean, bars, capsize=2, **look))
    axis.set_title(short(phase.arm), parse_math=False)
    axis.set_xticks(range(len(ticks)), [f"{x:g}" for x in ticks])
    axis.tick_params(axis="x", labelrotation=60 if len(ticks) > 6 else 0)
    axis.set_xlabel(phase.keys[0])
    axis.set_ylim(top=1.02)
  legend(figure, marks, list(PHASE_MEASURES), 3)
  return figure
