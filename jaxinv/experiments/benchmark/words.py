"""What the benchmark's rows say, in words and as a table; computed from the rows alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxinv.experiments.benchmark.engines import GRAM, LOOP, PRIMAL

Row = Mapping[str, Any]

ENGINE_WORDS = {
  GRAM: "gram: groups, in the span",
  PRIMAL: "primal: groups",
  LOOP: "primal_loop: one at a time",
  "torch_loop": "PyTorch, one at a time",
  "torch_batched": "PyTorch, one product",
  "torch_vmap": "PyTorch, vmap",
}
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
  "ms/step": lambda r: _number(milliseconds(r)),
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


def verdict(rows: Sequence[Row]) -> list[str]:
  """What the rows say of the first arm against Adam (or the second arm), at the most seeds.

  Args:
    rows: of the benchmark.

  Returns:
    Paragraphs for people, every number and every comparison in them computed from the rows.
  """
  rows = select(rows, num_seeds=max(distinct(rows, "num_seeds")))
  base, *others = distinct(rows, "arm")
  adams = [row["arm"] for row in rows if row["optimizer"] == "adam" and row["arm"] != base]
  rival = next(iter([*adams, *others]), None)
  paragraphs = []
  for batch in distinct(rows, "batch_size"):
    here = select(rows, batch_size=batch)
    topics = {"to the same accuracy": _arrival_words(here, base, rival)}
    if rival:
      steps = [*_step_words(here, base, rival), *_other_words(here, base, rival)]
      topics = {"a step": steps + _span_words(here, base, rival), **topics}
    topics["by engine"] = [_gain_words(here, arm) for arm in (base, rival) if arm]
    head = f"{batch_words(batch)}, {_seed_words(here[0]['num_seeds'])}".capitalize()
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
  (short, long), (first, second) = map(milliseconds, pair), pair
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
  for arm in distinct(rows, "arm"):
    pair = _pair(rows, base, arm)
    if arm not in (base, rival) and pair:
      ratio = milliseconds(pair[1]) / milliseconds(pair[0])
      told.append(f"one of {arm} {_times(ratio)}{_doubt(*pair)}")
  return [f"By the same engine, against a step of {base}: {', '.join(told)}."] if told else []


def _span_words(rows: Sequence[Row], base: str, rival: str) -> list[str]:
  """What training in the span of the data is worth to the arms that allow it."""
  span, other = quickest(rows, arm=base, engine=GRAM), quickest(rows, arm=rival)
  if not span or not other:
    return []
  own, ratio = milliseconds(span), milliseconds(other) / milliseconds(span)
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
  for engine in ENGINE_WORDS:
    row = quickest(rows, arm=arm, engine=engine)
    if row and engine != best["engine"]:
      ratio = best["seed_steps_per_s"] / row["seed_steps_per_s"]
      told.append(f"{engine} {_times(ratio)}{_doubt(best, row)}")
  against = f"; against that, the others take: {', '.join(told)}" if told else ""
  own = f"{best['engine']}, {milliseconds(best):.3g} ms a seed"
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


def milliseconds(row: Row) -> float:
  """Time of one step of one seed."""
  return 1e3 / row["seed_steps_per_s"]


def _times(ratio: float) -> str:
  return f"**{ratio:.3g} times**"


def _number(value: float | None) -> str:
  return "" if value is None else f"{value:.3g}"


def batch_words(batch: int) -> str:
  """A batch size; 0 is the whole training split."""
  return f"batches of {batch}" if batch else "full batches"


def _seed_words(count: int) -> str:
  return f"{count} seeds" if count > 1 else "one seed"


def distinct(rows: Sequence[Row], column: str) -> list:
  """The values of a column, each once, in order."""
  return list(dict.fromkeys(row[column] for row in rows))
