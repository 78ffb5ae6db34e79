"""Figures of single photographs: side by side, the map, the cliff, the attacker's confidence."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxinv.experiments.photographs.photographs import (
  ALONE,
  ATTACKERS,
  MOMENT,
  UNMIXED,
  Attacked,
  Cell,
  Result,
)
from jaxinv.experiments.photographs.score import RECOVERED, Score
from jaxinv.experiments.photographs.settings import Axis
from jaxinv.metrics.stats import Interval
from jaxinv.runs.figures import (
  filling,
  heat_map,
  interval_bars,
  legend,
  mosaic,
  name_rows,
  new_figure,
  short,
)

_LOOKS = {
  UNMIXED: {"marker": "o", "linestyle": "-"},
  ALONE: {"marker": "^", "linestyle": ":"},
  MOMENT: {"marker": "s", "linestyle": "--"},
}
_HELD = {UNMIXED: "W0 known", ALONE: "weights alone", MOMENT: "optimiser's state"}
# Photographs shown of each third: the best, those in the middle, the worst.
_SHOWN = 5


def side_by_side_figure(cell: Cell) -> Figure | None:
  """Originals above, what the weights gave below: the best, the middle and the worst, by rule.

  Args:
    cell: of one arm; its first seed that did not diverge is shown.

  Returns:
    The figure; None where no component was found.
  """
  seed, found = first_found(cell, UNMIXED)
  if found is None or not len(found.unmixed.images):
    return None
  rows = [_row(cell, found, seed, ranks) for ranks in shown_ranks(found)]
  count = max(len(ranks) for _, ranks in rows)
  image_shape = cell.dataset.image_shape
  height = 2.3 * len(rows) * image_shape[0] / image_shape[1]
  figure, axes = new_figure(len(rows), 1, (1.0 * count + 0.9, min(14.0, 1.1 * height)))
  for axis, (grid, heads) in zip(axes[:, 0], rows, strict=True):
    mosaic(axis, grid, heads, ["photograph", "from weights"])
  for axis, words in zip(axes[:, 0], ("best", "middle", "worst"), strict=False):
    axis.set_title(words, loc="left")
  return figure


def first_found(cell: Cell, attack: str) -> tuple[int, Attacked | None]:
  """The first seed in which an attacker found something, and what."""
  found = cell.attacked.get(attack, ())
  return next(((i, x) for i, x in enumerate(found) if x is not None), (0, None))


def shown_ranks(found: Attacked) -> list[np.ndarray]:
  """Which photographs are shown: by rank of their correlation, the best, the middle, the worst."""
  order = np.argsort(-found.score.quality, kind="stable")
  if len(order) <= 3 * _SHOWN:
    return [order]
  middle = len(order) // 2 - _SHOWN // 2
  return [order[:_SHOWN], order[middle : middle + _SHOWN], order[-_SHOWN:]]


def _row(cell: Cell, found: Attacked, seed: int, ranks: np.ndarray):
  """Photographs and their components as the two rows of a mosaic, with their correlations."""
  shape = cell.dataset.image_shape
  truth = cell.dataset.inputs[cell.members[seed][ranks]].reshape(-1, *shape)
  seen = _partners(found.score, found.unmixed.images, ranks, found.unmixed.is_scaled)
  heads = [f"{value:.3f}" for value in found.score.quality[ranks]]
  return 255 * np.stack([truth, seen]), heads


def _partners(
  score: Score, images: np.ndarray, ranks: np.ndarray, is_scaled: bool
) -> Float[np.ndarray, "i h w *c"]:
  """The component of each of some photographs, ready to be drawn; NaN where it has none."""
  seen = np.full((len(ranks), *images.shape[1:]), np.nan)
  for i, rank in enumerate(ranks):
    partner = np.flatnonzero(score.photograph == rank)
    if len(partner):
      seen[i] = _drawable(images[partner[0]], is_scaled)
  return seen


def _drawable(image: np.ndarray, is_scaled: bool) -> np.ndarray:
  """In [0, 1]: as it is where its scale is known and fits, else between percentiles."""
  fits = is_scaled and np.mean((image < 0) | (image > 1)) < 0.05
  low, high = (0.0, 1.0) if fits else np.percentile(image, (0.5, 99.5))
  return np.clip((image - low) / max(high - low, 1e-12), 0, 1)


def field_figure(cell: Cell) -> Figure | None:
  """Photographs above, and what each attacker of the field has for them below, on one model.

  Args:
    cell: of one arm; its first seed that did not diverge is shown. The photographs are those with
      the largest correlation in the mean over attackers.

  Returns:
    The figure; None where nobody of the field attacked.
  """
  seed, unmixed = first_found(cell, UNMIXED)
  if not cell.field or unmixed is None:
    return None
  found = {name: guesses[seed] for name, guesses in cell.field.items()}
  quality = unmixed.score.quality + sum(guess.score.quality for guess in found.values())
  ranks = np.argsort(-quality, kind="stable")[: 2 * _SHOWN]
  grid = [*_row(cell, unmixed, seed, ranks)[0]]
  for guess in found.values():
    grid.append(255 * _partners(guess.score, guess.images, ranks, is_scaled=False))
  shape = cell.dataset.image_shape
  height = min(14.0, 1.1 * len(grid) * shape[0] / shape[1])
  figure, axes = new_figure(1, 1, (1.0 * len(ranks) + 1.8, height))
  names = [name.replace("_", "\n") for name in ("photograph", UNMIXED, *found)]
  mosaic(axes[0][0], np.stack(grid), [""] * len(ranks), names)
  return figure


def map_figure(summary: Mapping, cells: Mapping[str, Mapping[int, Cell]]) -> Figure:
  """Shares of photographs identified and recovered against their number, by arm and attacker."""
  figure, axes = new_figure(1, 2, (10.5, 3.9), sharey=True)
  lines, words = [], []
  for index, (arm, by_number) in enumerate(cells.items()):
    for attack, look in _LOOKS.items():
      numbers = [n for n in by_number if summary[arm][str(n)].get(attack)]
      if not numbers:
        continue
      for axis, metric in zip(axes[0], ("identified", "recovered"), strict=True):
        found = [Interval(**summary[arm][str(n)][attack][metric]) for n in numbers]
        style = filling(index) | look | {"markersize": 5}
        line = axis.plot(numbers, [x.mean for x in found], **style)[0]
        for number, interval in zip(numbers, found, strict=True):
          bars = interval_bars(interval)
          if bars is not None:
            axis.errorbar([number], [interval.mean], bars, color=style["color"], capsize=2)
      lines.append(line)
      words.append(f"{arm}, {_HELD[attack]}")
  units = max(cell.units for by_number in cells.values() for cell in by_number.values())
  for axis, title in zip(axes[0], ("identified", f"recovered (above {RECOVERED:g})"), strict=True):
    axis.set_ylim(-0.03, 1.05)
    axis.set_title(title)
    axis.set_xlabel("photographs trained on")
    if units <= 1.3 * axis.get_xlim()[1]:
      axis.axvline(units, color="black", linestyle=":", linewidth=1)
      axis.annotate("units", (units, 0.5), rotation=90, ha="right", fontsize=8)
  axes[0][0].set_ylabel("share of the photographs")
  legend(figure, lines, words, 3)
  return figure


def arms_figure(summary: Mapping, cells: Mapping[str, Mapping[int, Cell]], number: int) -> Figure:
  """Shares of one number of photographs identified and recovered, a row an arm, by attacker."""
  height = 1.2 + 0.34 * len(cells)
  figure, axes = new_figure(1, 2, (10.5, height), sharey=True)
  marks = {}
  for row, arm in enumerate(cells):
    table = summary[arm][str(number)]
    for i, (attack, look) in enumerate(_LOOKS.items()):
      if not table.get(attack):
        continue
      for axis, metric in zip(axes[0], ("identified", "recovered"), strict=True):
        found = Interval(**table[attack][metric])
        place, style = (
          row + 0.22 * (i - 1),
          filling(i) | {"marker": look["marker"], "markersize": 5},
        )
        marks[_HELD[attack]] = axis.plot([found.mean], [place], linestyle="", **style)[0]
        if (bars := interval_bars(found)) is not None:
          axis.errorbar([found.mean], [place], xerr=bars, color=style["color"], capsize=2)
  chance = next(iter(cells.values()))[number].chance_identified
  marks["by chance"] = axes[0][0].axvline(chance, color="black", linestyle=":", linewidth=1)
  for axis, title in zip(axes[0], ("identified", f"recovered (above {RECOVERED:g})"), strict=True):
    axis.set_xlim(-0.03, 1.03)
    axis.set_title(title)
    axis.set_xlabel(f"share of {number} photographs")
  name_rows(axes[0][0], list(cells))
  legend(figure, list(marks.values()), list(marks), 4)
  return figure


def heat_figure(summary: Mapping, result: Result, arms: Sequence[str], axis: Axis) -> Figure:
  """The share identified over the number of photographs and what is varied, a panel an arm.

  The line is that beyond which there are more photographs than columns to unmix them from, and a
  dot says that the spectrum of the first seed tells their number, so that float32 left their rank.

  Args:
    summary: as in summary.json.
    result: what came of the run.
    arms: names of the arms as they were given.
    axis: what is varied.
  """
  panels = [
    (arm, attack)
    for arm in arms
    for attack in ATTACKERS
    if any(attack in cell.attacked for cell in result.cells[_named(arm, axis, 0)].values())
  ]
  numbers = list(next(iter(result.cells.values())))
  rows = range(len(axis.values))
  width = min(12.0, 1.4 + (0.9 + 0.55 * len(numbers)) * len(panels))
  figure, axes = new_figure(1, len(panels), (max(4.0, width), 1.5 + 0.42 * len(rows)), sharey=True)
  for place, (arm, attack) in zip(axes[0], panels, strict=True):
    names = [_named(arm, axis, i) for i in rows]
    shares = [
      [summary[name][str(n)].get(attack, {}).get("identified", {}).get("mean") for n in numbers]
      for name in names
    ]
    picture = heat_map(place, np.array(shares, float))
    for i, name in enumerate(names):
      units = max(cell.units for cell in result.cells[name].values())
      limit = np.searchsorted(numbers, units, side="right") - 0.5
      place.plot([limit, limit], [i - 0.5, i + 0.5], color="#D55E00", linewidth=2)
      for j, number in enumerate(numbers):
        _, found = first_found(result.cells[name][number], attack)
        if found is not None and found.unmixed.count.certain:
          place.plot([j + 0.36], [i - 0.34], "o", color="#D55E00", markersize=3)
    place.set_title(f"{short(arm, 18)}\n{_HELD[attack]}", parse_math=False, fontsize=9)
    place.set_xticks(range(len(numbers)), list(map(str, numbers)))
    place.set_yticks(rows, [f"{value:g}" for value in axis.values])
    place.set_xlabel("photographs")
  axes[0][0].set_ylabel(axis.key)
  figure.colorbar(picture, ax=axes, shrink=0.8, pad=0.01, label="share identified")
  return figure


def _named(arm: str, axis: Axis, i: int) -> str:
  """The name of an arm at the i-th value of an axis."""
  return f"{arm}-{axis.key}-{axis.values[i]:g}"


def cliff_figure(cells: Mapping[str, Mapping[int, Cell]]) -> Figure:
  """Singular values of the change of each arm's first model, for the largest number."""
  figure, axes = new_figure(1, 1, (6.5, 3.9))
  axis = axes[0][0]
  for index, (arm, by_number) in enumerate(cells.items()):
    number = max(by_number)
    _, found = first_found(by_number[number], UNMIXED)
    if found is None or not found.unmixed.values[0]:
      continue
    values = found.unmixed.values / found.unmixed.values[0]
    axis.semilogy(
      np.arange(1, len(values) + 1), np.maximum(values, 1e-9), label=arm, **filling(index)
    )
    axis.axvline(number, color="black", linestyle=":", linewidth=1)
  axis.set_xlabel("singular value of the change of the first layer")
  axis.set_ylabel("over the largest")
  _legend(axis)
  return figure


def confidence_figure(cells: Sequence[tuple[str, Cell]]) -> Figure:
  """The attacker's own confidence against the truth, a point a component."""
  figure, axes = new_figure(1, 1, (5.5, 3.9))
  axis = axes[0][0]
  for index, (arm, cell) in enumerate(cells):
    _, found = first_found(cell, UNMIXED)
    if found is not None:
      style = {"s": 12, "alpha": 0.7, "color": filling(index)["color"], "label": arm}
      axis.scatter(found.unmixed.stability, found.score.correlation, **style)
  axis.set_xlabel("stability: agreement of restarts")
  axis.set_ylabel("correlation with the closest picture")
  axis.set_ylim(None, 1.02)
  _legend(axis)
  return figure


def _legend(axis: Axes) -> None:
  """A legend whose words are no formulas, where there is anything to name."""
  if axis.get_legend_handles_labels()[0]:
    for text in axis.legend().get_texts():
      text.set_parse_math(False)
