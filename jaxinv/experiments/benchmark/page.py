"""The benchmark's page: what the rows say, figures, and how it was measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxinv.experiments.benchmark import figures, words
from jaxinv.runs import page
from jaxinv.runs.figures import save


def write_page(out_dir: Path, rows: Sequence[Mapping[str, Any]], command: str) -> Path:
  """Draws the figures and writes report.html; returns its path."""
  pictures = [
    page.Picture(save(figure, out_dir / "figures" / f"{name}.png"), caption)
    for name, (figure, caption) in figures.draw(rows).items()
  ]
  table = page.Table("Of each row in benchmark.json, the most.", *words.table(rows))
  sections = [
    page.Section("Speed", pictures=pictures),
    page.Section("All rows", tables=[table]),
    page.Section("How it was measured", [*words.method(rows), f"Command: {command}"]),
  ]
  title = f"{' against '.join(dict.fromkeys(row['arm'] for row in rows))}: what training costs"
  return page.write_report(out_dir / "report.html", title, words.verdict(rows), sections)
