"""What all figures share: size, colours, saving. No pyplot, so no global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxinv.metrics.stats import Interval
from jaxinv.runs.files import write_file

# Okabe and Ito's colours, which colour-blind readers can tell apart, and one of Tol's. Black is
# kept for the truth.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#882255")

MARKERS = "os^DPvX*<>"

_GAP = 4  # Pixels between two images of a mosaic.

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


def marker(index: int) -> str:
  """The marker of the index-th attack; once all are taken, the first again."""
  return MARKERS[index % len(MARKERS)]


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


def interval_bars(interval: Interval) -> Float[np.ndarray, "2 1"] | None:
  """Distances from the mean to the ends, none below 0."""
  if interval.low is None:
    return None
  return np.maximum([[interval.mean - interval.low], [interval.high - interval.mean]], 0.0)


def filling(index: int) -> dict[str, Any]:
  """The colour of the index-th arm; once all colours are taken, with hollow markers."""
  hollow = index // len(COLOURS) % 2
  return {"color": colour(index), "markerfacecolor": "white" if hollow else colour(index)}


def name_rows(axis: Axes, names: Sequence[str]) -> None:
  """Names the rows of a figure, the first at the top, as they are: `$` is no formula."""
  axis.set_yticks(range(len(names)), list(map(short, names)), parse_math=False)
  axis.set_ylim(len(names) - 0.4, -0.6)


def legend(figure: Figure, marks: Sequence[Any], words: Sequence[str], columns: int) -> None:
  """A legend below all panels, whose words are no formulas."""
  words_below = figure.legend(
    marks, words, loc="outside lower center", ncols=columns, frameon=False
  )
  for text in words_below.get_texts():
    text.set_parse_math(False)


def displayable(images: Float[np.ndarray, "*k h w"]) -> Float[np.ndarray, "*k h w"]:
  """Images in 0..255 whatever their normalisation: signed ones are put around grey."""
  return np.clip(images if images.min() >= 0 else 127.5 + images / 2, 0, 255)


def mosaic(
  axis: Axes, grid: Float[np.ndarray, "r c h w *rgb"], heads: Sequence[str], sides: Sequence[str]
) -> None:
  """Draws a grid of images as one picture, with words above its columns and beside its rows.

  Args:
    axis: where to draw.
    grid: images in 0..255, grey, or in colour with three channels; NaN leaves a place white.
    heads: words above the columns.
    sides: words beside the rows.
  """
  rows, columns, height, width = grid.shape[:4]
  canvas = np.full((rows, height + _GAP, columns, width + _GAP, *grid.shape[4:]), 255.0)
  canvas[:, :height, :, :width] = np.nan_to_num(np.moveaxis(grid, 2, 1), nan=255.0)
  picture = canvas.reshape(rows * (height + _GAP), columns * (width + _GAP), *grid.shape[4:])
  show(axis, picture[:-_GAP, :-_GAP])
  axis.grid(False)
  for spine in axis.spines.values():
    spine.set_visible(False)
  axis.xaxis.tick_top()
  axis.tick_params(length=0)
  # Names are shown as they are: a dollar sign in one is no formula.
  look = {"fontsize": 8, "parse_math": False}
  middles = [
    [i * (side + _GAP) + (side - 1) / 2 for i in range(num)]
    for side, num in ((width, columns), (height, rows))
  ]
  axis.set_xticks(middles[0], heads, **look)
  axis.set_yticks(middles[1], sides, **look)


def show(axis: Axes, image: Float[np.ndarray, "h w *rgb"], largest: float = 255.0) -> None:
  """Draws an image: grey, or in colour where it has three channels, or grey of its one channel.

  Args:
    axis: where to draw.
    image: from 0 to `largest`.
    largest: what is drawn as white.
  """
  image = np.asarray(image) / largest
  if image.ndim == 3 and image.shape[-1] != 3:
    image = image.mean(-1)
  axis.imshow(image.clip(0, 1), cmap="gray", vmin=0, vmax=1)


def heat_map(axis: Axes, values: Float[np.ndarray, "i j"]):
  """Draws shares from 0 to 1 as colours with the values written in; NaN stays grey."""
  picture = axis.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
  axis.grid(False)
  axis.set_facecolor("#dddddd")
  # Four characters have to fit into a cell of a panel three inches wide.
  size = min(8.0, 2.8 * 72 / values.shape[1] / 2.6)
  for (i, j), value in np.ndenumerate(values):
    dark = np.isnan(value) or value > 0.5
    text = "-" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}"
    if size >= 5:
      axis.text(j, i, text, ha="center", va="center", size=size, color="black" if dark else "white")
  return picture


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
