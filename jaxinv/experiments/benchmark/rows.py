"""The benchmark's rows: choosing among them, comparing them, and as a table of texts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxinv.experiments.benchmark.engines import GRAM, LOOP, PRIMAL
from jaxinv.runs.text import number, percent, significant

Row = Mapping[str, Any]
ENGINES = (GRAM, PRIMAL, LOOP, "torch_loop", "torch_batched", "torch_vmap")

# Column of the table: its text of a row.
_COLUMNS = {
  "batch": lambda r: str(r["batch_size"] or "full"),
  "seeds": lambda r: str(r["num_seeds"]),
  "arm": lambda r: r["arm"],
  "engine": lambda r: r["engine"],
  "width": lambda r: str(r["width"]),
  "compile s": lambda r: significant(r["compile_s"], 3),
  "ms/step": lambda r: significant(milliseconds(r), 3),
  "IQR": lambda r: percent(r["run_s_iqr"] / r["run_s"]),
  "steps/s": lambda r: f"{r['seed_steps_per_s']:,.0f}",
  "peak MB": lambda r: number(r["peak_bytes"] and r["peak_bytes"] / 1e6, 0),
  "products": lambda r: percent(r["gemm_fraction"]),
  "memory": lambda r: percent(r["bandwidth_fraction"]),
  "s to train": lambda r: significant(r["seconds_to_accuracy"], 3),
  "s to held": lambda r: significant(r["seconds_to_holdout"], 3),
}


class Ratio(NamedTuple):
  """How many times as long a step of one row takes as a step of another.

  Attributes:
    row: the row.
    times: its time over the other's.
    is_within_spread: whether the times differ by no more than half their interquartile ranges
      together.
  """

  row: Row
  times: float
  is_within_spread: bool


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
  return significant(row["seed_steps_per_s"] / peer["seed_steps_per_s"], 3) if peer else ""


def select(rows: Sequence[Row], **values: Any) -> list[Row]:
  """Returns the rows whose columns have these values."""
  return [row for row in rows if all(row[name] == value for name, value in values.items())]


def quickest(rows: Sequence[Row], **values: Any) -> Row | None:
  """Returns the quickest of the rows whose columns have these values, if there are any."""
  return max(select(rows, **values), key=lambda row: row["seed_steps_per_s"], default=None)


def distinct(rows: Sequence[Row], column: str) -> list:
  """The values of a column, each once, in order."""
  return list(dict.fromkeys(row[column] for row in rows))


def milliseconds(row: Row) -> float:
  """Time of one step of one seed."""
  return 1e3 / row["seed_steps_per_s"]


def ratio(row: Row, to: Row) -> Ratio:
  """Compares the time of a step of one row with that of another, of as many seeds."""
  spread = (row["run_s_iqr"] + to["run_s_iqr"]) / 2
  is_within = abs(row["run_s"] - to["run_s"]) <= spread
  return Ratio(row, to["seed_steps_per_s"] / row["seed_steps_per_s"], is_within)


def most_seeds(rows: Sequence[Row]) -> list[Row]:
  """The rows of the largest number of seeds."""
  return select(rows, num_seeds=max(distinct(rows, "num_seeds")))


def find_rival(rows: Sequence[Row]) -> str | None:
  """The arm that the first one is compared with: Adam, else the second; None for one arm."""
  base, *others = distinct(rows, "arm")
  adams = [row["arm"] for row in rows if row["optimizer"] == "adam" and row["arm"] != base]
  return next(iter([*adams, *others]), None)


def compare(rows: Sequence[Row], base: str, rival: str | None) -> dict[str, Any]:
  """What the verdict says of one batch size: the times of a step, and to the accuracies.

  Args:
    rows: of one batch size and number of seeds.
    base: the arm that the others are compared with.
    rival: the arm that it is compared with at length, if there is one.

  Returns:
    What the template is filled with.
  """
  both = [arm for arm in (base, rival) if arm]
  pair = rival and _pair(rows, base, rival)
  return {
    "batch_size": rows[0]["batch_size"],
    "num_seeds": rows[0]["num_seeds"],
    "base": base,
    "rival": rival,
    "step": pair and _compare_steps(*pair),
    "others": _other_arms(rows, base, rival),
    "span": rival and _span(rows, base, rival),
    "arrivals": _arrivals(rows, both, pair),
    "engines": [_by_engine(rows, arm) for arm in both],
  }


def _pair(rows: Sequence[Row], base: str, rival: str) -> tuple[Row, Row] | None:
  """Two arms' quickest rows by the first engine, other than the span's, that trains both."""
  for engine in ENGINES[1:]:
    pair = tuple(quickest(rows, arm=arm, engine=engine) for arm in (base, rival))
    if all(pair):
      return pair
  return None


def _compare_steps(first: Row, second: Row) -> dict[str, Any]:
  """Two arms' steps by one engine: their times, and what memory and products would take, in ms."""
  moved = second["step_bytes"] - first["step_bytes"]
  return {
    "first": first,
    "second": second,
    "ms": [milliseconds(first), milliseconds(second)],
    "ratio": ratio(second, first),
    "longer_ms": milliseconds(second) - milliseconds(first),
    "moving_ms": moved / second["bandwidth"] * 1e3,
    "products_ms": first["step_flops"] / first["gemm_rate"] * 1e3,
  }


def _other_arms(rows: Sequence[Row], base: str, rival: str | None) -> list[Ratio]:
  """The steps of the arms beside those two, against the first arm's by the same engine."""
  arms = [arm for arm in distinct(rows, "arm") if arm not in (base, rival)]
  pairs = [pair for pair in (_pair(rows, base, arm) for arm in arms) if pair]
  return [ratio(second, first) for first, second in pairs]


def _span(rows: Sequence[Row], base: str, rival: str) -> dict[str, Any] | None:
  """The first arm trained in the span of the data, against its rival's quickest engine."""
  span, other = quickest(rows, arm=base, engine=GRAM), quickest(rows, arm=rival)
  if not span:
    return None
  is_both = bool(select(rows, arm=rival, engine=GRAM))
  return {"ms": milliseconds(span), "other": ratio(other, span), "rival_can": is_both}


def _arrivals(rows: Sequence[Row], arms: Sequence[str], pair: tuple[Row, Row] | None) -> list[dict]:
  """Steps and seconds to each accuracy, by each arm's quickest engine and by the same one."""
  goals = ["accuracy"] + ["holdout"] * (rows[0]["holdout_target"] is not None)
  best = [quickest(rows, arm=arm) for arm in arms]
  return [
    {
      "goal": goal,
      "target": rows[0]["target_accuracy" if goal == "accuracy" else "holdout_target"],
      "arms": [
        {"row": row, "steps": row[f"steps_to_{goal}"], "seconds": row[f"seconds_to_{goal}"]}
        for row in best
      ],
      "times": _times_as_long(best, goal),
      "times_by_one": _times_as_long(pair or (), goal),
    }
    for goal in goals
  ]


def _times_as_long(rows: Sequence[Row], goal: str) -> float | None:
  """How many times as long the second of two rows takes; None where one does not get there."""
  seconds = [row[f"seconds_to_{goal}"] for row in rows]
  return seconds[1] / seconds[0] if len(seconds) == 2 and all(seconds) else None


def _by_engine(rows: Sequence[Row], arm: str) -> dict[str, Any]:
  """The quickest engine of an arm, and the others against it."""
  best = quickest(rows, arm=arm)
  others = [quickest(rows, arm=arm, engine=name) for name in ENGINES if name != best["engine"]]
  return {
    "best": best,
    "ms": milliseconds(best),
    "others": [ratio(row, best) for row in others if row],
  }
