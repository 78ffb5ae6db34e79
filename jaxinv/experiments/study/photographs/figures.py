"""Figures of a study on single photographs, and on pose."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxinv.experiments.study.photographs.controls import WHITE_BOX, PhotoLeaks
from jaxinv.metrics.stats import Interval
from jaxinv.runs.figures import (
  colour,
  filling,
  interval_bars,
  legend,
  name_rows,
  new_figure,
  short,
  show,
)


def photographs_figure(
  aucs: Mapping[str, Mapping[str, Interval]], leaks: PhotoLeaks | None, attack: str, title: str
) -> Figure:
  """How well single photographs are inferred, and whether both kinds of attack find the same ones.

  Args:
    aucs: by arm or control, by test, the AUC.
    leaks: of the arm whose photographs are shown, one dot each; None for an empty panel.
    attack: the inversion attack that they are shown under.
    title: of the right panel.

  Returns:
    The figure.
  """
  looks = "osDv^P"
  tests = list(dict.fromkeys(test for found in aucs.values() for test in found))
  size = (10.0, 1.5 + 0.42 * max(len(aucs), 6))
  figure, (axes,) = new_figure(1, 2, size, width_ratios=(1.5, 1))
  axes[0].axvline(0.5, color="black", linewidth=0.8)
  for row, found in enumerate(aucs.values()):
    for i, test in enumerate(tests):
      if test in found and found[test].mean is not None:
        place = row + 0.15 * (i - (len(tests) - 1) / 2)
        look = {"fmt": looks[i % 6], "ms": 4, "capsize": 1.5, "color": colour(i)}
        axes[0].errorbar(found[test].mean, place, xerr=interval_bars(found[test]), **look)
  name_rows(axes[0], list(aucs))
  axes[0].set_xlabel("AUC of telling who was in the training set")
  if leaks is not None:
    axes[1].plot(leaks.shown[attack], leaks.answered, ".", color=colour(0), alpha=0.5, ms=6)
  axes[1].set_xlabel(f"leaks by inversion ({attack}), in s.d.")
  axes[1].set_ylabel("leaks by the model's outputs, in s.d.")
  axes[1].set_title(title, fontsize=9, parse_math=False)
  marks = [Line2D([], [], marker=looks[i % 6], ls="", color=colour(i)) for i in range(len(tests))]
  legend(figure, marks, tests, 5)
  return figure


def exposed_figure(
  images: Float[np.ndarray, "2 j h w *rgb"], notes: Sequence[Sequence[str]]
) -> Figure:
  """Photographs that leak most, above, and least, below.

  Args:
    images: in [0, 1].
    notes: a few words over each.

  Returns:
    The figure.
  """
  columns, height, width = images.shape[1:4]
  figure, axes = new_figure(2, columns, (10.0, 2 * (9.6 / columns * height / width + 0.27)))
  for line, row, words in zip(axes, images, notes, strict=True):
    for axis, image, word in zip(line, row, words, strict=True):
      show(axis, image, largest=1.0)
      axis.set_title(word, fontsize=8, pad=3, parse_math=False)
      axis.axis("off")
  return figure


def pose_figure(
  poses: Sequence[float],
  panels: Mapping[str, Mapping[str, Sequence[Interval]]],
  places: Mapping[str, int],
) -> Figure:
  """Leakage of the person and of the single photograph against the scale of pose.

  Args:
    poses: the scales.
    panels: by title, by arm, a value at each scale.
    places: of each arm's colour.

  Returns:
    The figure.
  """
  figure, axes = new_figure(1, len(panels), (10.0, 4.0))
  marks: dict[str, Any] = {}
  for axis, (title, arms) in zip(axes[0], panels.items(), strict=True):
    for name, values in arms.items():
      shown = [(x, i) for x, i in zip(poses, values, strict=True) if i.mean is not None]
      bars = [np.zeros((2, 1)) if i.low is None else interval_bars(i) for _, i in shown]
      if shown:
        where, means = [x for x, _ in shown], [i.mean for _, i in shown]
        look = {"fmt": "o-", "ms": 4, "capsize": 2, **filling(places[name])}
        marks[name] = axis.errorbar(where, means, np.concatenate(bars, 1), **look)
    axis.set_title(title, fontsize=9, parse_math=False)
    axis.set_xlabel("scale of the pose variation")
    axis.set_ylim(top=1.02)
  lowest = min(0.48, *(axis.get_ylim()[0] for axis in axes[0][1:]))
  for axis in axes[0][1:]:
    axis.set_ylim(bottom=lowest)
    axis.axhline(0.5, color="black", linewidth=0.8)
  legend(figure, list(marks.values()), list(map(short, marks)), 4)
  return figure


def tests_shown(leaks: PhotoLeaks, attack: str) -> dict[str, Interval]:
  """The AUCs of the tests that are drawn: of one inversion attack, outputs, and the weights."""
  return {
    words: leaks.tests[name].auc
    for words, name in (
      ("likeness of the recovered face", f"similarity/{attack}"),
      ("the same, calibrated", f"calibrated/{attack}"),
      *((name, name) for name in ("confidence", "lira", "rmia")),
      ("white box", WHITE_BOX),
    )
  }
