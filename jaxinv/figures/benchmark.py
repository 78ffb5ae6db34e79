"""Figures of the benchmark, and what its rows say in words; both from the rows alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from jaxinv.figures.common import colour, new_figure

Row = Mapping[str, Any]

TOGETHER, IN_TURN = "primal", "primal_loop"
_ENGINE_WORDS = {TOGETHER: "one program", IN_TURN: "one at a time"}
_ENGINE_STYLES = {TOGETHER: "o-", IN_TURN: "s--"}

# Column of the table: what it shows of a row.
_COLUMNS = {
  "arm": lambda r: r["arm"],
  "engine": lambda r: r["engine"],
  "seeds": lambda r: str(r["num_seeds"]),
  "batch": lambda r: str(r["batch_size"] or "full"),
  "compile s": lambda r: f"{r['compile_s']:.2f}",
  "run s": lambda r: f"{r['run_s']:.4g}",
  "IQR s": lambda r: f"{r['run_s_iqr']:.2g}",
  "seed-steps/s": lambda r: f"{r['seed_steps_per_s']:.4g}",
  "peak MB": lambda r: "" if r["peak_bytes"] is None else f"{r['peak_bytes'] / 1e6:.1f}",
  "GEMM share": lambda r: f"{r['gemm_fraction']:.1%}",
  "s to accuracy": lambda r: _seconds(r["seconds_to_accuracy"]),
}


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
  """Returns the heads of the columns that people look at, and each row's texts."""
  return list(_COLUMNS), [[show(row) for show in _COLUMNS.values()] for row in rows]


def select(rows: Sequence[Row], **values: Any) -> list[Row]:
  """Returns the rows whose columns have these values."""
  return [row for row in rows if all(row[name] == value for name, value in values.items())]


def throughput_figure(rows: Sequence[Row]) -> Figure:
  """Seed-steps a second against the number of seeds, by arm and engine, a panel a batch size.

  Args:
    rows: of the benchmark.

  Returns:
    The figure; bars are the distance between the repeats' quartiles.
  """
  batches, arms = _distinct(rows, "batch_size"), _distinct(rows, "arm")
  figure, axes = new_figure(1, len(batches), (4.2 * len(batches) + 0.6, 3.8), sharey=True)
  for axis, batch in zip(axes[0], batches, strict=True):
    for i, arm in enumerate(arms):
      for engine, style in _ENGINE_STYLES.items():
        chosen = select(rows, batch_size=batch, arm=arm, engine=engine)
        seeds = [row["num_seeds"] for row in chosen]
        rates = np.array([row["seed_steps_per_s"] for row in chosen])
        # As far up as down on the logarithmic axis, and never below zero.
        wide = 1 + np.array([row["run_s_iqr"] / row["run_s"] / 2 for row in chosen])
        bars = rates - rates / wide, rates * wide - rates
        label = f"{arm}, {_ENGINE_WORDS[engine]}"
        axis.errorbar(seeds, rates, bars, fmt=style, color=colour(i), ms=5, capsize=2, label=label)
    axis.set_title(_batch_words(batch))
    _seed_axis(axis, _distinct(rows, "num_seeds"))
  axes[0][0].set_yscale("log")
  _plain_ticks(axes[0][0])
  axes[0][0].set_ylabel("steps of one seed, a second")
  columns = min(len(arms), 2) * len(batches)
  legend = axes[0][0].get_legend_handles_labels()
  figure.legend(*legend, loc="outside lower center", ncols=columns)
  return figure


def slowdown_figure(rows: Sequence[Row]) -> Figure:
  """Each arm's time over the first arm's: for one step, and to the same accuracy.

  Args:
    rows: of the benchmark, with two arms or more.

  Returns:
    The figure, of the engine that trains all seeds together; above 1 is slower.
  """
  batches, (base, *others) = _distinct(rows, "batch_size"), _distinct(rows, "arm")
  measures = {"run_s": ("o-", "one step"), "seconds_to_accuracy": ("^:", "to the same accuracy")}
  figure, axes = new_figure(1, len(batches), (4.2 * len(batches) + 0.6, 3.8), sharey=True)
  for axis, batch in zip(axes[0], batches, strict=True):
    axis.axhline(1, color="black", linewidth=1)
    for i, arm in enumerate(others, 1):
      for column, (style, words) in measures.items():
        points = _ratios(rows, batch, base, arm, column)
        axis.plot(*points, style, color=colour(i), ms=6, label=f"{arm}: {words}")
    axis.set_title(_batch_words(batch))
    _seed_axis(axis, _distinct(rows, "num_seeds"))
  axes[0][0].set_ylim(bottom=0)
  axes[0][0].set_ylabel(f"time / time of {base}")
  legend = axes[0][0].get_legend_handles_labels()
  figure.legend(*legend, loc="outside lower center", ncols=2 * len(batches))
  return figure


def draw(rows: Sequence[Row]) -> dict[str, tuple[Figure, str]]:
  """Draws all figures; returns each with its caption, by the name of its file."""
  drawn = {
    "throughput": (
      throughput_figure(rows),
      "Steps of one seed that are done in a second, by number of seeds. Higher is faster; bars "
      "are the distance between the quartiles of the repeats.",
    )
  }
  if len(_distinct(rows, "arm")) > 1:
    drawn["slowdown"] = (
      slowdown_figure(rows),
      "Time over the first arm's, all seeds trained as one program: for one step, and to the "
      "training accuracy asked for (median over seeds). Above 1 is slower than the first arm; a "
      "point is missing where either did not get there.",
    )
  return drawn


def _ratios(rows, batch: int, base: str, arm: str, column: str) -> tuple[list, list]:
  """Numbers of seeds, and there the column's ratio of an arm to the base; where both have it."""
  seeds, ratios = [], []
  for row in select(rows, batch_size=batch, arm=arm, engine=TOGETHER):
    (other,) = select(rows, batch_size=batch, arm=base, engine=TOGETHER, num_seeds=row["num_seeds"])
    if row[column] and other[column]:
      seeds.append(row["num_seeds"])
      ratios.append(row[column] / other[column])
  return seeds, ratios


def _seed_axis(axis: Axes, seeds: Sequence[int]) -> None:
  axis.set_xscale("log", base=2)
  axis.set_xticks(seeds, [str(n) for n in seeds])
  axis.set_xticks([], minor=True)
  axis.set_xlim(min(seeds) / 1.3, max(seeds) * 1.3)
  axis.set_xlabel("number of seeds")


def _plain_ticks(axis: Axes) -> None:
  """Writes a logarithmic axis's numbers out, the small ticks' too where it spans little."""
  low, high = axis.get_ylim()
  plain = FuncFormatter(lambda value, _: f"{value:,g}")
  axis.yaxis.set_major_formatter(plain)
  axis.yaxis.set_minor_formatter(plain if high < 10 * low else FuncFormatter(lambda *_: ""))


def _batch_words(batch: int) -> str:
  return f"batches of {batch}" if batch else "full batches"


def _distinct(rows: Sequence[Row], column: str) -> list:
  return list(dict.fromkeys(row[column] for row in rows))


def findings(rows: Sequence[Row]) -> list[str]:
  """What the rows say, at the largest number of seeds: one paragraph a question.

  Args:
    rows: of the benchmark.

  Returns:
    Paragraphs for people, every number and every comparison in them computed from the rows.
  """
  most = select(rows, num_seeds=max(_distinct(rows, "num_seeds")))
  batches, (base, *others) = _distinct(rows, "batch_size"), _distinct(rows, "arm")
  step, gain, arrival = [], [], []
  for batch in batches:
    here, words = select(most, batch_size=batch), f"with {_batch_words(batch)}"
    together = {row["arm"]: row for row in select(here, engine=TOGETHER)}
    in_turn = {row["arm"]: row for row in select(here, engine=IN_TURN)}
    step += [f"{words}, {_step_words(together[arm], together[base])}" for arm in others]
    gains = [_gain_words(together[arm], in_turn[arm]) for arm in together]
    gain.append(f"{words}, {' and '.join(gains)}")
    arrival.append(f"{words}, {', '.join(map(_arrival_words, together.values()))}")
  count = most[0]["num_seeds"]
  models = f"{count} models" if count > 1 else "one model"
  paragraphs = [
    f"**One program against one model at a time.** Training {models} as one program, against "
    f"the loop over single models: {'; '.join(gain)}.",
    f"**To the same accuracy** (training accuracy {most[0]['target_accuracy']:g}, {models} as "
    f"one program, median over seeds): {'; '.join(arrival)}.",
    _gemm_words(rows),
  ]
  if step:
    paragraphs.insert(0, f"**A step.** Training {models} as one program: {'; '.join(step)}.")
  return paragraphs


def method(rows: Sequence[Row]) -> list[str]:
  """How the rows were measured, in paragraphs for people."""
  row, most = rows[0], max(row["timed_seeds"] for row in select(rows, engine=IN_TURN))
  return [
    f"Device: {row['device']}. A time is the median of {row['repeats']} repeats of {row['steps']} "
    "steps each, after one to warm up, waited for until ready, and without compiling. All rows "
    "were timed in turns, every other round backwards, so that what else the machine did hit them "
    "alike.",
    f"{TOGETHER} is one program for all seeds; {IN_TURN} a program for one model, called for one "
    f"seed after another. Of the latter at most {most} of the seeds were timed, and the time was "
    "scaled to all.",
    "Peak memory is what the compiler states: arguments, outputs and temporary buffers, less what "
    "they share. GEMM share: what the forward product and the kernel's gradient would take at the "
    "best rate measured in this process, over the time taken. Time to accuracy: the median over "
    "seeds of the step at which it was first seen, times the measured time of a step of all seeds.",
  ]


def _step_words(row: Row, base: Row) -> str:
  ratio = _times(row["run_s"] / base["run_s"])
  return f"a step of {row['arm']} took {ratio} as long as one of {base['arm']}{_doubt(row, base)}"


def _gain_words(together: Row, in_turn: Row) -> str:
  gain = _times(in_turn["run_s"] / together["run_s"])
  return f"{gain} as many steps a second for {together['arm']}{_doubt(together, in_turn)}"


def _doubt(row: Row, other: Row) -> str:
  """Says so where two times differ by no more than half their interquartile ranges together."""
  within = abs(row["run_s"] - other["run_s"]) <= (row["run_s_iqr"] + other["run_s_iqr"]) / 2
  return " (within the spread of the repeats)" if within else ""


def _times(ratio: float) -> str:
  return f"**{ratio:.3g} times**"


def _seconds(seconds: float | None) -> str:
  return "not reached" if seconds is None else f"{seconds:.3g}"


def _arrival_words(row: Row) -> str:
  reached = f"{row['seeds_reached']} of {row['num_seeds']} seeds"
  if row["seconds_to_accuracy"] is None:
    return f"{row['arm']} had it in {reached} within {row['max_steps']} steps, too few for a median"
  took = f"{row['steps_to_accuracy']:g} steps or **{_seconds(row['seconds_to_accuracy'])} s**"
  return f"{row['arm']} took {took} (reached by {reached})"


def _gemm_words(rows: Sequence[Row]) -> str:
  shares = np.array([row["gemm_fraction"] for row in rows])
  return (
    f"**Where the time goes.** At the best rate of a matrix product measured here "
    f"({rows[0]['gemm_rate'] / 1e9:.3g} GFLOP/s), the two products of a step would take "
    f"{shares.min():.1%} to {shares.max():.1%} of the time measured."
  )
