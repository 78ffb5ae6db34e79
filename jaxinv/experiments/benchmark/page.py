"""The benchmark's page and verdict: its figures, and the numbers its templates are filled with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxinv.experiments.benchmark import figures
from jaxinv.experiments.benchmark import rows as of_rows
from jaxinv.experiments.benchmark.engines import GRAM, LOOP, PRIMAL
from jaxinv.experiments.benchmark.rows import Row
from jaxinv.runs import page
from jaxinv.runs.figures import save_all


def write_page(out_dir: Path, rows: Sequence[Row], command: str, config: Mapping) -> Path:
  """Draws the figures and writes report.html.

  Args:
    out_dir: the run's folder.
    rows: of the benchmark.
    command: the command line that makes this run.
    config: what config.json holds.

  Returns:
    The page's path.
  """
  drawn = {
    "throughput": figures.throughput_figure(rows),
    "accuracy": figures.accuracy_figure(rows),
  }
  head, texts = of_rows.table(rows)
  values = {
    "command": command,
    "config": config,
    "arms": of_rows.distinct(rows, "arm"),
    "row": rows[0],
    "engines": {"primal": PRIMAL, "gram": GRAM, "loop": LOOP},
    "head": head,
    "texts": texts,
    "figures": save_all(drawn, out_dir / "figures"),
    **_verdict(rows),
  }
  return page.write_page(out_dir / "report.html", __package__, values)


def verdict(rows: Sequence[Row]) -> list[str]:
  """What the rows say of the first arm against Adam (or the second arm), at the most seeds.

  Args:
    rows: of the benchmark.

  Returns:
    Paragraphs of plain text, every number and comparison in them computed from the rows.
  """
  return page.paragraphs(page.render(__package__, _verdict(rows), "verdict.html.jinja"))


def _verdict(rows: Sequence[Row]) -> dict[str, Any]:
  rows = of_rows.most_seeds(rows)
  base, rival = rows[0]["arm"], of_rows.find_rival(rows)
  batches = of_rows.distinct(rows, "batch_size")
  return {
    "batches": [of_rows.compare(of_rows.select(rows, batch_size=b), base, rival) for b in batches]
  }
