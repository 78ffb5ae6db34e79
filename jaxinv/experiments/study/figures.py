"""Figures of a study on people: verdicts, attackers, faces, use against leakage, grids."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxinv.attacks.attack import Attack, denoised, init_diff
from jaxinv.experiments.outcome import ArmOutcome, Outcome
from jaxinv.experiments.study.comparison import LEAKAGE, NAIVE
from jaxinv.experiments.study.page_data import PHASE_MEASURES, Averages, Phase
from jaxinv.experiments.study.verdict import Verdict
from jaxinv.metrics.claims import Label
from jaxinv.metrics.stats import Interval
from jaxinv.runs.figures import (
  COLOURS,
  colour,
  filling,
  heat_map,
  interval_bars,
  legend,
  mosaic,
  name_rows,
  new_figure,
  short,
)

# The colour of each verdict.
_LABEL_COLOURS = {
  Label.LOWERS: colour(2),
  Label.HIDES: colour(4),
  Label.NO_EFFECT: colour(6),
  Label.TOO_LITTLE: colour(5),
  Label.UNDECIDED: colour(0),
  Label.TOO_FEW: "0.8",
  Label.RAISES: colour(1),
  Label.NOT_COMPARABLE: colour(7),
  Label.NOT_USEFUL: colour(3),
  Label.NOT_TRAINED: colour(6),
}

# Of as many attacks as there may be, neighbours differ.
_MARKERS = "os^DPv<>*Xhd"

# Of more cells than this a figure names none.
_MOST_NAMED = 40


def verdicts_figure(verdicts: Mapping[str, Verdict], margin: float) -> Figure:
  """Differences from the baseline with their intervals, naive and strongest attacker.

  Args:
    verdicts: by cell; those without a difference are left out.
    margin: differences that do not matter.

  Returns:
    The figure: a row a cell; of many cells without names, and in order of the difference.
  """
  shown = {k: v for k, v in verdicts.items() if v.strongest and v.strongest.mean is not None}
  if len(shown) > _MOST_NAMED:
    shown = dict(sorted(shown.items(), key=lambda item: item[1].strongest.mean))
  height = 1.4 + (0.26 * len(shown) if len(shown) <= _MOST_NAMED else 6.0)
  figure, axes = new_figure(1, 2, (10.0, height), sharex=True, sharey=True)
  titles = ("naive attacker (reshape)", "strongest attacker on each")
  for axis, kind, title in zip(axes[0], ("naive", "strongest"), titles, strict=True):
    axis.axvspan(-margin, margin, color="black", alpha=0.08, linewidth=0)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_title(title)
    axis.set_xlabel("difference of leakage from the baseline")
    for row, verdict in enumerate(shown.values()):
      _draw_difference(axis, row, verdict, getattr(verdict, kind))
  name_rows(axes[0][0], list(shown))
  if len(shown) > _MOST_NAMED:
    axes[0][0].set_yticks([])
  _name_labels(figure, list(shown.values()))
  return figure


def _draw_difference(axis: Axes, row: int, verdict: Verdict, interval: Interval | None) -> None:
  """One difference; hollow where it is no comparison at equal use."""
  if interval is None or interval.mean is None:
    return
  tone = _LABEL_COLOURS[verdict.label]
  face = "white" if verdict.label.at_end else tone
  axis.errorbar(
    interval.mean, row, xerr=interval_bars(interval), fmt="o", ms=5, capsize=2, color=tone, mfc=face
  )


def _name_labels(figure: Figure, verdicts: Sequence[Verdict]) -> None:
  labels = [label for label in Label if any(v.label == label for v in verdicts)]
  marks = [
    Line2D([], [], marker="o", ls="", color=_LABEL_COLOURS[x], mfc="white" if x.at_end else None)
    for x in labels
  ]
  if labels:
    legend(figure, marks, [f"{x} (at the end)" if x.at_end else x for x in labels], 3)


def attackers_figure(
  leakage: Mapping[str, Mapping[str, Interval]], attackers: Mapping[str, Attack]
) -> Figure:
  """Leakage under each attack, one panel for all attackers that hold the same.

  Args:
    leakage: by arm, by attack.
    attackers: the attacks by name.

  Returns:
    The figure: a row an arm; the strongest attack of a panel is filled.
  """
  attacks = [a for a in attackers.values() if any(a.name in found for found in leakage.values())]
  markers = {a.name: _MARKERS[i % len(_MARKERS)] for i, a in enumerate(attacks)}
  kinds = list(dict.fromkeys(a.knowledge for a in attacks)) or [NAIVE.knowledge]
  size = (10.0, 1.5 + 0.36 * len(leakage))
  figure, axes = new_figure(1, len(kinds), size, sharex=True, sharey=True)
  for axis, kind in zip(axes[0], kinds, strict=True):
    alike = {a.name: markers[a.name] for a in attacks if a.knowledge == kind}
    for row, found in enumerate(leakage.values()):
      _draw_attacks(
        axis, row, {a: i for a, i in found.items() if a in alike and i.mean is not None}, alike
      )
    axis.set_title(kind.replace(" and ", " and\n"), fontsize=9)
    axis.set_xlabel("centred NCC")
  name_rows(axes[0][0], list(leakage))
  axes[0][0].set_xlim(right=1.02)
  marks = [Line2D([], [], marker=m, ls="", color="black", ms=5) for m in markers.values()]
  if attacks:
    legend(figure, marks, list(markers), min(len(attacks), 6))
  return figure


def _draw_attacks(
  axis: Axes, row: int, held: Mapping[str, Interval], markers: Mapping[str, str]
) -> None:
  """One arm's leakage under attacks that need the same, beneath each other."""
  best = max(held, key=lambda attack: held[attack].mean, default=None)
  for i, (attack, interval) in enumerate(held.items()):
    place = row + 0.26 * (i - (len(held) - 1) / 2)
    face = colour(0) if attack == best else "white"
    look = {"fmt": markers[attack], "ms": 5, "capsize": 2, "color": colour(0), "mfc": face}
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
    pair = [arm.images[a][0][chosen] if arm.healthy[0] else None for a in (NAIVE.name, attack)]
    columns.append([np.full_like(columns[0][0], np.nan) if x is None else x for x in pair])
    heads.append(f"{short(name, 16)}\n{attack if arm.healthy[0] else 'diverged'}")
  grid = np.moveaxis(np.array(columns), 0, 2).swapaxes(0, 1)
  grid = grid.reshape(-1, *grid.shape[2:])
  sides = [f"{names[i]}\n{who}" for i in chosen for who in ("naive", "strongest")]
  inches = min(1.05, 9.6 / len(columns))
  height = len(grid) * inches * grid.shape[2] / grid.shape[3] + 0.6
  figure, axes = new_figure(1, 1, (inches * len(columns) + 0.8, height))
  # Images of mode `max` have signs, and are put around grey.
  signed = (grid < 0).any(tuple(range(2, grid.ndim)), keepdims=True)
  mosaic(axes[0][0], np.clip(np.where(signed, 127.5 + grid / 2, grid), 0, 255), heads, sides)
  return figure


def training_figure(arms: Mapping[str, ArmOutcome], target: float) -> Figure:
  """Leakage against held-out accuracy through training: mean over seeds, middle 80 % of them.

  Args:
    arms: by name.
    target: the accuracy at which arms are compared.

  Returns:
    The figure: a curve an arm, with a dot at its end.
  """
  figure, axes = new_figure(1, 3, (13.0, 4.4), sharex=True, sharey=True)
  lines: dict[str, Line2D] = {}
  for axis, attack in zip(axes[0], (NAIVE.name, denoised.name, init_diff.name), strict=True):
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
  values = arm.trail[attack][LEAKAGE][arm.healthy]
  low, high = np.quantile(values, [0.1, 0.9], axis=0)
  dashes = "--" if index // len(COLOURS) % 2 else "-"
  axis.fill_between(accuracy, low, high, color=colour(index), alpha=0.15, linewidth=0)
  axis.plot(accuracy[-1], values.mean(0)[-1], "o", color=colour(index), ms=5)
  return axis.plot(accuracy, values.mean(0), dashes, color=colour(index), linewidth=1.4)[0]


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
      picture = heat_map(axis, values[0])
      axis.set_title(f"{short(phase.arm, 18)}: {name}", fontsize=9, parse_math=False)
      axis.set_yticks(range(rows), [f"{x:g}" for x in phase.ticks[0]])
      axis.set_xticks(range(columns), [f"{x:g}" for x in phase.ticks[1]])
      axis.tick_params(axis="x", labelrotation=60 if columns > 6 else 0)
    line[0].set_ylabel(phase.keys[0])
  for axis in axes[-1]:
    axis.set_xlabel(found[0].keys[1])
  figure.colorbar(picture, ax=axes, shrink=0.8, pad=0.01)
  return figure


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
