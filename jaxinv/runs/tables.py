"""The tables of a run: measurements as rows of CSV, results as JSON, means as rows of a page."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxinv.metrics.stats import Interval
from jaxinv.runs import files
from jaxinv.runs.text import number

# Attacks on the models of several seeds together, which have one image for all of them.
SEVERAL = ("seed_mean", "denoised_seed_mean")
# {arm: {attack: {metric: values [s]}}}
Measures = Mapping[str, Mapping[str, Mapping[str, Float[np.ndarray, " _"]]]]


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
  """Writes rows of texts and numbers, quoted where needed."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(head)
  writer.writerows(rows)
  files.write_text(path, text.getvalue())


def write_metrics(out_dir: Path, arms: Measures) -> None:
  """Writes metrics.csv: one row a measurement, `arm,seed,attack,metric,value`.

  Args:
    out_dir: the run's folder.
    arms: by arm, attack and metric a value for each seed. What is not finite has no row; the seed
      of `SEVERAL` is -1.
  """
  rows = [(arm, *row) for arm, attacks in arms.items() for row in measurements(attacks)]
  write_csv(out_dir / "metrics.csv", ("arm", "seed", "attack", "metric", "value"), rows)


def measurements(
  attacks: Mapping[str, Mapping[str, Float[np.ndarray, " s"]]],
) -> list[tuple[int, str, str, str]]:
  """One arm's measurements that are finite, as rows: seed, attack, metric, value."""
  return [
    (-1 if attack in SEVERAL else seed, attack, metric, exact(value))
    for attack, measures in attacks.items()
    for metric, values in measures.items()
    for seed, value in enumerate(values)
    if np.isfinite(value)
  ]


def exact(value: float | int | np.number | None) -> str:
  """A number as CSV holds it: nine significant digits; nothing where there is none."""
  return "" if value is None or not math.isfinite(value) else f"{float(value):.9g}"


def plain(value: Any) -> Any:
  """A value as JSON can hold it: tuples with names as mappings, what is not finite as null."""
  if hasattr(value, "_asdict"):
    return plain(value._asdict())
  if isinstance(value, Mapping):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, np.ndarray | np.generic):
    return plain(value.tolist())
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def cell(summary: Mapping, arm: str, attack: str, metric: str) -> Interval | None:
  """A mean of a summary with its interval; None where there is none."""
  found = summary.get(arm, {}).get(attack, {}).get(metric)
  return Interval(**found) if found else None


def number_rows(
  summary: Mapping, write: Callable[[float | None], str] = number
) -> list[tuple[str, ...]]:
  """All means of a summary as texts: arm, attack, metric, mean, low, high, seeds.

  Args:
    summary: `{arm: {attack: {metric: {"mean", "low", "high", "n"}}}}`; what else is in it is
      passed over.
    write: a number as text.
  """
  return [
    (arm, attack, metric, *(write(found[end]) for end in ("mean", "low", "high")), str(found["n"]))
    for arm, attacks in summary.items()
    for attack, metrics in attacks.items()
    if isinstance(metrics, Mapping)
    for metric, found in metrics.items()
    if isinstance(found, Mapping) and found.keys() >= {"mean", "low", "high", "n"}
  ]
