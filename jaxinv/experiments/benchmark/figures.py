"""Figures of the benchmark, and what its rows say in words; both from the rows alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from jaxinv.experiments.benchmark.engines import GRAM, LOOP, PRIMAL
from jaxinv.runs.figures import colour, new_figure

Row = Mapping[str, Any]

_ENGINE_WORDS = {
  GRAM: "gram: groups, in the span",
  PRIMAL: "primal: groups",
  LOOP: "primal_loop: one at a time",
  "torch_loop": "PyTorch, one at a time",
  "torch_batched": "PyTorch, one product",
  "torch_vmap": "PyTorch, vmap",
}
_MARKERS = dict(zip(_ENGINE_WORDS, ("D-", "o-", "s--", "v:", "^:", "P:"), strict=True))
# Where the same engine trains all arms, the first of these that was timed tells of their steps.
_COMMON = (PRIMAL, LOOP, "torch_loop", "torch_batched", "torch_vmap")

# Column of the table: what it shows of a row.
_COLUMNS = {
  "batch": lambda r: str(r["batch_size"] or "full"),
  "seeds": lambda r: str(r["num_seeds"]),
  "arm": lambda r: r["arm"],
  "engine": lambda r: r["engine"],
  "width": lambda r: str(r["width"]),
  "compile s": lambda r: _number(r["compile_s"]),
  "ms/step": lambda r: _number(_milliseconds(r)),
  "IQR": lambda r: f"{r['run_s_iqr'] / r['run_s']:.0%}",
  "steps/s": lambda r: f"{r['seed_steps_per_s']:,.0f}",
  "peak MB": lambda r: "" if r["peak_bytes"] is None else f"{r['peak_bytes'] / 1e6:.0f}",
  "products": lambda r: f"{r['gemm_fraction']:.0%}",
  "memory": lambda r: f"{r['bandwidth_fraction']:.0%}",
  "s to train": lambda r: _number(r["seconds_to_accuracy"]),
  "s to held": lambda r: _number(r["seconds_to_holdout"]),
}


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
  """Returns the heads of the columns that people look at, and each row's texts."""
  columns = dict(_COLUMNS)
  if select(rows, engine="torch_loop"):
    columns["x PyTorch"] = lambda row: _gain(rows, row)
  return list(columns), [[show(row) for show in columns.values()] for row in rows]


def _gain(rows: Sequence[Row], row: Row) -> str:
  """How many times as fast as PyTorch one at a time."""
  same = {name: row[name] for name in ("arm", "num_seeds", "batch_size")}
  peer = quickest(rows, engine="torch_loop", **same)
  return f"{row['seed_steps_per_s'] / peer['seed_steps_per_s']:.3g}" if peer else ""


def select(rows: Sequence[Row], **values: Any) -> list[Row]:
  """Returns the rows whose columns have these values."""
  return [row for row in rows if all(row[name] == value for name, value in values.items())]


def quickest(rows: Sequence[Row], **values: Any) -> Row | None:
  """Returns the quickest of the rows whose columns have these values, if there are any."""
  return max(select(rows, **values), key=lambda row: row["seed_steps_per_s"], default=None)


def throughput_figure(rows: Sequence[Row]) -> Figure:
  """Seed-steps a second against the number of seeds, with what the machine can do at most.

  Args:
    rows: of the benchmark.

  Returns:
    The figure: a row of panels for each batch size, a column for each arm, a line for each engine,
    of its quickest width; bars are the distance between the repeats' quartiles.
  """
  batches, arms, seeds = (_distinct(rows, name) for name in ("batch_size", "arm", "num_seeds"))
  engines = [engine for engine in _ENGINE_WORDS if select(rows, engine=engine)]
  size = (1.0 + 2.5 * max(len(arms), 2), 0.9 + 2.9 * len(batches))
  figure, axes = new_figure(len(batches), len(arms), size, sharex=True, sharey=True)
  for line, batch in zip(axes, batches, strict=True):
    line[0].set_ylabel(f"{_batch_words(batch)}\nsteps of one seed, a second")
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
  marks = [Line2D([], [], **_style(engine), label=_ENGINE_WORDS[engine]) for engine in engines]
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
  rows = select(rows, num_seeds=max(_distinct(rows, "num_seeds")))
  batches, arms = _distinct(rows, "batch_size"), _distinct(rows, "arm")
  shown = {b: _shown(select(rows, batch_size=b)) for b in batches}
  height = sum(0.75 + 0.24 * len(chosen) for chosen in shown.values())
  ratios = [len(chosen) for chosen in shown.values()]
  figure, axes = new_figure(
    len(batches), 3, (11.0, height + 0.3), height_ratios=ratios, sharey="row"
  )
  for line, (batch, chosen) in zip(axes, shown.items(), strict=True):
    colours = [colour(arms.index(row["arm"])) for row in chosen]
    values = [[_milliseconds(row) for row in chosen]]
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
    line[0].set_ylabel(_batch_words(batch))
    line[0].invert_yaxis()
  return figure


def _shown(rows: Sequence[Row]) -> list[Row]:
  """The quickest row of each arm and engine, of the engines that train groups if there are any."""
  engines = [engine for engine in (GRAM, PRIMAL) if select(rows, engine=engine)]
  engines = engines or _distinct(rows, "engine")
  found = [quickest(rows, arm=a, engine=e) for a in _distinct(rows, "arm") for e in engines]
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


def draw(rows: Sequence[Row]) -> dict[str, tuple[Figure, str]]:
  """Draws all figures; returns each with its caption, by the name of its file."""
  return {
    "throughput": (
      throughput_figure(rows),
      "Steps of one seed that are done in a second, by number of seeds. Higher is faster; bars "
      "are the distance between the quartiles of the repeats. Dotted, the most that the primal "
      "engine could do if it did nothing but its matrix products at the best rate measured here, "
      "and if all that a step must read and write came from main memory; what stays in caches can "
      "be quicker than the latter.",
    ),
    "accuracy": (
      accuracy_figure(rows),
      "At the largest number of seeds: the time of one step, and the time of all seeds to the "
      "training accuracy asked for (median over seeds) and to the best held-out accuracy that "
      "the median model of every arm reaches. Shorter is faster.",
    ),
  }


def _seed_axis(axis: Axes, seeds: Sequence[int]) -> None:
  axis.set_xscale("log")
  axis.set_yscale("log")
  axis.set_xticks(seeds, [f"{n:,}" for n in seeds])
  axis.set_xticks([], minor=True)
  axis.set_xlim(min(seeds) / 1.4, max(seeds) * 1.4)
  axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
  axis.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))


def verdict(rows: Sequence[Row]) -> list[str]:
  """What the rows say of the first arm against Adam (or the second arm), at the most seeds.

  Args:
    rows: of the benchmark.

  Returns:
    Paragraphs for people, every number and every comparison in them computed from the rows.
  """
  rows = select(rows, num_seeds=max(_distinct(rows, "num_seeds")))
  base, *others = _distinct(rows, "arm")
  adams = [row["arm"] for row in rows if row["optimizer"] == "adam" and row["arm"] != base]
  rival = next(iter([*adams, *others]), None)
  paragraphs = []
  for batch in _distinct(rows, "batch_size"):
    here = select(rows, batch_size=batch)
    topics = {"to the same accuracy": _arrival_words(here, base, rival)}
    if rival:
      steps = [*_step_words(here, base, rival), *_other_words(here, base, rival)]
      topics = {"a step": steps + _span_words(here, base, rival), **topics}
    topics["by engine"] = [_gain_words(here, arm) for arm in (base, rival) if arm]
    head = f"{_batch_words(batch)}, {_seed_words(here[0]['num_seeds'])}".capitalize()
    for topic, words in topics.items():
      paragraphs.append(" ".join([f"**{head}: {topic}.**", *words]))
  return paragraphs


def _pair(rows: Sequence[Row], base: str, rival: str) -> tuple[Row, Row] | None:
  """Two arms' quickest rows by the first engine that trains both."""
  for engine in _COMMON:
    pair = tuple(quickest(rows, arm=arm, engine=engine) for arm in (base, rival))
    if all(pair):
      return pair
  return None


def _step_words(rows: Sequence[Row], base: str, rival: str) -> list[str]:
  """How much longer the rival's step takes by the same engine, and why."""
  pair = _pair(rows, base, rival)
  if not pair:
    return [f"No engine but the span's trained both {base} and {rival}."]
  (short, long), (first, second) = map(_milliseconds, pair), pair
  words = [
    f"A step of {rival} takes {_times(long / short)} as long as one of {base}"
    f"{_doubt(first, second)} by the same engine ({first['engine']}: {long:.3g} against "
    f"{short:.3g} ms a seed)."
  ]
  more = (second["step_bytes"] - first["step_bytes"]) / second["bandwidth"] * 1e3
  if more > 0 and long > short:
    words.append(
      f"It must read and write at least {second['step_bytes'] / 1e6:.3g} MB (weights, gradient and "
      f"what the optimiser remembers of each weight) against {first['step_bytes'] / 1e6:.3g} MB; "
      f"from main memory, at the {second['bandwidth'] / 1e9:.3g} GB/s measured here, the "
      f"difference would take {more:.2g} ms, and the step is {long - short:.2g} ms longer"
      + (", so part of it must be served by caches." if more > long - short else ".")
    )
  products = first["step_flops"] / first["gemm_rate"] * 1e3
  words.append(
    f"The matrix products, the same in both, would take {products:.2g} ms at the best rate "
    f"measured here ({first['gemm_rate'] / 1e9:.3g} GFLOP/s): {first['gemm_fraction']:.0%} of "
    f"{base}'s step and {second['gemm_fraction']:.0%} of {rival}'s. The bytes that must be moved "
    f"go by at {first['bandwidth_fraction']:.0%} and {second['bandwidth_fraction']:.0%} of the "
    "main memory's rate."
  )
  return words


def _other_words(rows: Sequence[Row], base: str, rival: str) -> list[str]:
  """The same of the other arms, in a few words."""
  told = []
  for arm in _distinct(rows, "arm"):
    pair = _pair(rows, base, arm)
    if arm not in (base, rival) and pair:
      ratio = _milliseconds(pair[1]) / _milliseconds(pair[0])
      told.append(f"one of {arm} {_times(ratio)}{_doubt(*pair)}")
  return [f"By the same engine, against a step of {base}: {', '.join(told)}."] if told else []


def _span_words(rows: Sequence[Row], base: str, rival: str) -> list[str]:
  """What training in the span of the data is worth to the arms that allow it."""
  span, other = quickest(rows, arm=base, engine=GRAM), quickest(rows, arm=rival)
  if not span or not other:
    return []
  own, ratio = _milliseconds(span), _milliseconds(other) / _milliseconds(span)
  cannot = "" if select(rows, arm=rival, engine=GRAM) else f"; {rival} cannot"
  return [
    f"{base} can also be trained in the span of the data (gram), where its step takes {own:.3g} ms "
    f"a seed{cannot}. By its quickest engine here ({other['engine']}) a step of {rival} takes "
    f"{_times(ratio)} that."
  ]


def _arrival_words(rows: Sequence[Row], base: str, rival: str | None) -> list[str]:
  """Steps and seconds to the accuracies, by each arm's quickest engine and by the same one."""
  row, told = rows[0], []
  goals = {"accuracy": f"a training accuracy of {row['target_accuracy']:g}"}
  if row["holdout_target"] is not None:
    goals["holdout"] = (
      f"the best held-out accuracy that all arms reach, {row['holdout_target']:.3f}"
    )
  for goal, name in goals.items():
    best = [quickest(rows, arm=arm) for arm in (base, rival) if arm]
    text = f"To {name}: {', '.join(_one_arrival(each, goal) for each in best)}"
    text += _arrival_ratio(best, goal, "each by its quickest engine")
    if rival and (pair := _pair(rows, base, rival)):
      text += _arrival_ratio(pair, goal, f"both by {pair[0]['engine']}")
    told.append(f"{text}.")
  return told


def _one_arrival(row: Row, goal: str) -> str:
  if row[f"seconds_to_{goal}"] is None:
    reached = f"{row['seeds_reached']} of {row['accuracy_seeds']} models"
    return f"{row['arm']} had it in {reached} within {row['max_steps']} steps, too few for a median"
  return f"{row['arm']} in {row[f'steps_to_{goal}']:g} steps or {row[f'seconds_to_{goal}']:.3g} s"


def _arrival_ratio(pair: Sequence[Row], goal: str, how: str) -> str:
  seconds = [row[f"seconds_to_{goal}"] for row in pair]
  if len(seconds) < 2 or not all(seconds):
    return ""
  return f"; {pair[1]['arm']} takes {_times(seconds[1] / seconds[0])} as long, {how}"


def _gain_words(rows: Sequence[Row], arm: str) -> str:
  """The quickest engine of an arm against all others."""
  best, told = quickest(rows, arm=arm), []
  for engine in _ENGINE_WORDS:
    row = quickest(rows, arm=arm, engine=engine)
    if row and engine != best["engine"]:
      ratio = best["seed_steps_per_s"] / row["seed_steps_per_s"]
      told.append(f"{engine} {_times(ratio)}{_doubt(best, row)}")
  against = f"; against that, the others take: {', '.join(told)}" if told else ""
  own = f"{best['engine']}, {_milliseconds(best):.3g} ms a seed"
  return f"A step of {arm} is quickest by {own}{against}."


def _doubt(row: Row, other: Row) -> str:
  """Says so where two times differ by no more than half their interquartile ranges together."""
  within = abs(row["run_s"] - other["run_s"]) <= (row["run_s_iqr"] + other["run_s_iqr"]) / 2
  return " (within the spread of the repeats)" if within else ""


def method(rows: Sequence[Row]) -> list[str]:
  """How the rows were measured, in paragraphs for people."""
  row = rows[0]
  paragraphs = [
    f"Device: {row['device']}. A time is the median of {row['repeats']} repeats of {row['steps']} "
    "steps each, after one to warm up, waited for until ready, and without compiling. All rows of "
    "one batch size and number of seeds were timed in turns, every other round backwards, so that "
    "what else the machine did hit them alike. Compiling was timed without JAX's cache on the "
    "disk.",
    f"{PRIMAL} and {GRAM} train groups, one after another, as launch.faces does; one group was "
    f"timed, and the time multiplied by their number. Of {LOOP} and of PyTorch's ways some of the "
    "seeds were timed (timed_seeds in the rows), and the time was scaled to all. PyTorch's "
    "optimisers are as they are by default, from the same initial weights and splits.",
    "Peak memory is what the compiler states: arguments, outputs and temporary buffers, less what "
    "they share. Products and memory: what the matrix products of the training examples would "
    "take at the rate of the quickest of three (the model's own two and a large square one), and "
    "what a step must read and write (weights and the optimiser's memories once each, the gradient "
    "written and read) would take at the rate of a large pass over main memory, over the time "
    "taken; both rates are medians too, timed in turns with the rest.",
    f"Time to an accuracy: the first of the steps looked at where it was seen, times the measured "
    f"time of a step of all seeds. The steps are of {row['accuracy_seeds']} models by JAX; "
    "PyTorch, whose batches have another order, is taken to need as many.",
  ]
  return paragraphs


def _milliseconds(row: Row) -> float:
  return 1e3 / row["seed_steps_per_s"]


def _times(ratio: float) -> str:
  return f"**{ratio:.3g} times**"


def _number(value: float | None) -> str:
  return "" if value is None else f"{value:.3g}"


def _batch_words(batch: int) -> str:
  return f"batches of {batch}" if batch else "full batches"


def _seed_words(count: int) -> str:
  return f"{count} seeds" if count > 1 else "one seed"


def _distinct(rows: Sequence[Row], column: str) -> list:
  return list(dict.fromkeys(row[column] for row in rows))
