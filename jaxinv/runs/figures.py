"""What all figures share: size, colours, saving. No pyplot, so no global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from jaxinv.runs.files import write_file

# Okabe and Ito's colours, which colour-blind readers can tell apart, and one of Tol's. Black is
# kept for the truth.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#882255")

_STYLE = {
  "font.size": 9,
  "axes.titlesize": 10,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "grid.alpha": 0.25,
  "legend.frameon": False,
  "figure.dpi": 110,
}


def colour(index: int) -> str:
  """The colour of the index-th arm, the same in every figure."""
  return COLOURS[index % len(COLOURS)]


def new_figure(
  rows: int, columns: int, size: tuple[float, float], **kwargs
) -> tuple[Figure, np.ndarray]:
  """A figure with a grid of axes in the house's style.

  Args:
    rows: rows of axes.
    columns: columns of axes.
    size: (width, height) in inches.
    **kwargs: passed on to `Figure.subplots`.

  Returns:
    The figure and its axes, always as a two-dimensional array.
  """
  with mpl.rc_context(_STYLE):
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def short(name: str, most: int = 34) -> str:
  """A name that fits into a figure: one that is too long loses its middle."""
  return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2) :]}"


def legend(figure: Figure, marks: Sequence[Any], words: Sequence[str], columns: int) -> None:
  """A legend below all panels, whose words are no formulas."""
  words_below = figure.legend(
    marks, words, loc="outside lower center", ncols=columns, frameon=False
  )
  for text in words_below.get_texts():
    text.set_parse_math(False)


def save(figure: Figure, path: Path, dpi: int = 110) -> Path:
  """Saves a figure as PNG, whole or not at all, without a date so that equal figures are equal."""
  with mpl.rc_context(_STYLE):
    write_file(
      path, lambda file: figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    )
  return path


def save_all(figures: Mapping[str, Figure], folder: Path) -> dict[str, Path]:
  """Saves figures as NAME.png into a folder; returns their paths by name."""
  return {name: save(figure, folder / f"{name}.png") for name, figure in figures.items()}
