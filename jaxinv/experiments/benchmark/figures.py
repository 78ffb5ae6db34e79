"""Figures of the benchmark, drawn from its rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from jaxinv.experiments.benchmark.engines import GRAM, LOOP, PRIMAL
from jaxinv.experiments.benchmark.rows import (
  ENGINES,
  Row,
  distinct,
  milliseconds,
  most_seeds,
  quickest,
  select,
)
from jaxinv.runs.figures import colour, new_figure

_MARKERS = dict(zip(ENGINES, ("D-", "o-", "s--", "v:", "^:", "P:"), strict=True))
_LABELS = {
  GRAM: "gram: groups, in the span",
  PRIMAL: "primal: groups",
  LOOP: "primal_loop: one at a time",
  "torch_loop": "PyTorch, one at a time",
  "torch_batched": "PyTorch, one product",
  "torch_vmap": "PyTorch, vmap",
}


def throughput_figure(rows: Sequence[Row]) -> Figure:
  """Seed-steps a second against the number of seeds, with what the machine can do at most.

  Args:
    rows: of the benchmark.

  Returns:
    The figure: a row of panels for each batch size, a column for each arm, a line for each engine,
    of its quickest width; bars are the distance between the repeats' quartiles.
  """
  batches, arms, seeds = (distinct(rows, name) for name in ("batch_size", "arm", "num_seeds"))
  engines = [engine for engine in ENGINES if select(rows, engine=engine)]
  size = (1.0 + 2.5 * max(len(arms), 2), 0.9 + 2.9 * len(batches))
  figure, axes = new_figure(len(batches), len(arms), size, sharex=True, sharey=True)
  for line, batch in zip(axes, batches, strict=True):
    line[0].set_ylabel(f"{_batch_label(batch)}\nsteps of one seed, a second")
    for axis, arm in zip(line, arms, strict=True):
      here = select(rows, batch_size=batch, arm=arm)
      for engine in engines:
        _draw_line(axis, [quickest(here, engine=engine, num_seeds=n) for n in seeds], engine)
      _draw_limits(axis, here, seeds)
  for axis, arm in zip(axes[0], arms, strict=True):
    axis.set_title(arm)
  for axis in axes[-1]:
    axis.set_xlabel("number of seeds")
  _seed_axis(axes[0][0], seeds)
  marks = [Line2D([], [], **_style(engine), label=_LABELS[engine]) for engine in engines]
  figure.legend(handles=marks, loc="outside lower center", ncols=3)
  return figure


def _draw_line(axis: Axes, points: Sequence[Row | None], engine: str) -> None:
  points = [row for row in points if row]
  rates = np.array([row["seed_steps_per_s"] for row in points])
  # As far up as down on the logarithmic axis, and never below zero.
  wide = 1 + np.array([row["run_s_iqr"] / row["run_s"] / 2 for row in points])
  if points:
    bars = rates - rates / wide, rates * wide - rates
    axis.errorbar([row["num_seeds"] for row in points], rates, bars, capsize=2, **_style(engine))


def _draw_limits(axis: Axes, rows: Sequence[Row], seeds: Sequence[int]) -> None:
  """The most that the primal engine could do by its products, and by what it must move."""
  row = quickest(rows, engine=PRIMAL)
  if not row:
    return
  limits = {
    "limit of products": row["gemm_rate"] / row["step_flops"],
    "limit of main memory": row["bandwidth"] / row["step_bytes"],
  }
  upper = max(limits.values())
  halo = [patheffects.withStroke(linewidth=2.5, foreground="white")]
  for words, rate in limits.items():
    axis.axhline(rate, color="black", linewidth=0.8, linestyle=(0, (1, 1.5)))
    side = "top" if upper / 3 < rate < upper else "bottom"
    place = {"ha": "right", "va": side, "path_effects": halo, "zorder": 9}
    axis.text(max(seeds) * 1.35, rate, words, fontsize=7, **place)


def _style(engine: str) -> dict[str, Any]:
  mark, place = _MARKERS[engine], list(_MARKERS).index(engine)
  return {"marker": mark[0], "linestyle": mark[1:], "color": colour(place), "ms": 4, "lw": 1.2}


def accuracy_figure(rows: Sequence[Row]) -> Figure:
  """The time of a step and to the accuracies, by arm and engine, at the most seeds.

  Args:
    rows: of the benchmark.

  Returns:
    The figure: a row of panels for each batch size, a bar for each arm and engine.
  """
  rows = most_seeds(rows)
  batches, arms = distinct(rows, "batch_size"), distinct(rows, "arm")
  shown = {b: _shown(select(rows, batch_size=b)) for b in batches}
  height = sum(0.75 + 0.24 * len(chosen) for chosen in shown.values())
  ratios = [len(chosen) for chosen in shown.values()]
  figure, axes = new_figure(
    len(batches), 3, (11.0, height + 0.3), height_ratios=ratios, sharey="row"
  )
  for line, (batch, chosen) in zip(axes, shown.items(), strict=True):
    colours = [colour(arms.index(row["arm"])) for row in chosen]
    values = [[milliseconds(row) for row in chosen]]
    values += [[row[f"seconds_to_{goal}"] for row in chosen] for goal in ("accuracy", "holdout")]
    words = [[f"{v:.3g} ms" for v in values[0]]]
    words += [[_goal_words(row, goal) for row in chosen] for goal in ("accuracy", "holdout")]
    for axis, title, lengths, texts in zip(
      line, _goal_titles(chosen[0]), values, words, strict=True
    ):
      bars = axis.barh(range(len(chosen)), [x or 0 for x in lengths], color=colours, height=0.7)
      axis.bar_label(bars, texts, padding=3, fontsize=8)
      axis.set_title(title, fontsize=9)
      axis.set_xlim(0, 1.75 * max([x for x in lengths if x], default=1))
      axis.grid(False, axis="y")
    names = [f"{row['arm']}, {row['engine']}" for row in chosen]
    line[0].set_yticks(range(len(chosen)), names)
    line[0].set_ylabel(_batch_label(batch))
    line[0].invert_yaxis()
  return figure


def _shown(rows: Sequence[Row]) -> list[Row]:
  """The quickest row of each arm and engine, of the engines that train groups if there are any."""
  engines = [engine for engine in (GRAM, PRIMAL) if select(rows, engine=engine)]
  engines = engines or distinct(rows, "engine")
  found = [quickest(rows, arm=a, engine=e) for a in distinct(rows, "arm") for e in engines]
  return [row for row in found if row]


def _goal_titles(row: Row) -> list[str]:
  held = row["holdout_target"]
  return [
    "one step of one seed",
    f"{row['num_seeds']} seeds to a training accuracy of {row['target_accuracy']:g}",
    f"to a held-out accuracy of {held:.3f}" if held is not None else "nothing is held out",
  ]


def _goal_words(row: Row, goal: str) -> str:
  steps, seconds = row[f"steps_to_{goal}"], row[f"seconds_to_{goal}"]
  return "not reached" if seconds is None else f"{seconds:.3g} s, {steps:g} steps"


def _batch_label(batch: int) -> str:
  """A batch size; 0 is the whole training split."""
  return f"batches of {batch}" if batch else "full batches"


def _seed_axis(axis: Axes, seeds: Sequence[int]) -> None:
  axis.set_xscale("log")
  axis.set_yscale("log")
  axis.set_xticks(seeds, [f"{n:,}" for n in seeds])
  axis.set_xticks([], minor=True)
  axis.set_xlim(min(seeds) / 1.4, max(seeds) * 1.4)
  axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
  axis.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
