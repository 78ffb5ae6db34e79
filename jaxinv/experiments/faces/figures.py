"""Figures of an experiment on faces: recovered images, what they are made of, curves, measures."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxinv.attacks import weights
from jaxinv.attacks.attack import Attack
from jaxinv.experiments.faces.animation import min_max
from jaxinv.experiments.faces.shares import Shares
from jaxinv.experiments.outcome import ArmOutcome, Outcome
from jaxinv.runs.figures import (
  colour,
  displayable,
  interval_bars,
  legend,
  marker,
  mosaic,
  new_figure,
  show,
)
from jaxinv.runs.tables import cell


def people_figure(
  outcome: Outcome, names: Sequence[str], people: Sequence[int], blocks: int = 1
) -> Figure:
  """Class average beside each arm's recovered images of the first seed, one person a row.

  Args:
    outcome: of the experiment.
    names: name of each class.
    people: classes to show.
    blocks: number of columns of people, to keep a long list short.

  Returns:
    The figure: a column for each attack on single models.
  """
  columns, heads = [outcome.train_means[0]], ["class\naverage"]
  for name, arm in outcome.arms.items():
    for attack in single(outcome.attacks):
      if attack.name in arm.images:
        columns.append(arm.images[attack.name][0])
        heads.append(f"{name}\n{textwrap.fill(attack.label, 12 if blocks > 1 else 18)}")
  grid = np.stack([displayable(column) for column in columns], 1)[list(people)]
  rows = -(-len(people) // blocks)
  height, width = grid.shape[2:4]
  inches = 0.85 if blocks > 1 else 1.25
  size = (blocks * (len(columns) + 0.6) * inches, rows * inches * height / width + 0.6)
  figure, axes = new_figure(1, blocks, size)
  for block, axis in enumerate(axes[0]):
    chosen = slice(block * rows, (block + 1) * rows)
    mosaic(axis, grid[chosen], heads, [names[i] for i in people][chosen])
  return figure


def single(attacks: Iterable[Attack]) -> list[Attack]:
  """The attacks on one model at a time, which recover an image of every model."""
  return [attack for attack in attacks if "peers" not in attack.needs]


def shares_figure(shares: Sequence[Shares]) -> Figure:
  """For each person the recovered face, then the photographs it is a weighted sum of.

  Args:
    shares: one a row.

  Returns:
    The figure.
  """
  own, others = (max(len(getattr(s, name)) for s in shares) for name in ("own", "others"))
  height, width = shares[0].image.shape[:2]
  columns = 1 + own + others
  size = (0.78 * columns + 0.5, len(shares) * (0.78 * height / width + 0.22) + 0.35)
  figure, axes = new_figure(len(shares), columns, size)
  for row, share in zip(axes, shares, strict=True):
    for axis in row:
      axis.axis("off")
    _draw_share(row[0], share.image, "sum", "black")
    for axis, image, weight in zip(row[1:], share.own, share.own_weight, strict=False):
      _draw_share(axis, image, f"{weight:+.2g}", colour(0))
    for axis, image, weight in zip(row[1 + own :], share.others, share.other_weight, strict=False):
      _draw_share(axis, image, f"{weight:+.2g}", colour(1))
    place = {"transform": row[0].transAxes, "rotation": 90, "ha": "right", "va": "center"}
    row[0].text(-0.08, 0.5, share.name, fontsize=9, parse_math=False, **place)
  return figure


def _draw_share(axis: Axes, image: Float[np.ndarray, "h w *c"], title: str, tone: str) -> None:
  show(axis, image, largest=1.0)
  axis.set_title(title, fontsize=8, pad=2, color=tone)


def units_figure(outcome: Outcome, image_shape: tuple[int, ...], most: int = 10) -> Figure:
  """The first layer's units of the first seed that moved most, as images: W above, W - W0 below.

  Args:
    outcome: of an experiment with hidden layers.
    image_shape: (h, w) of an image, or (h, w, c).
    most: how many units to show.

  Returns:
    The figure.
  """
  rows, sides = [], []
  for name, arm in outcome.arms.items():
    now, start = (np.asarray(weights.units(_params(arm, p), image_shape)) for p in _PARAMS)
    moved = np.square(np.nan_to_num(now - start)).reshape(len(now), -1).sum(1)
    chosen = np.argsort(-moved, kind="stable")[:most]
    for images, word in ((now, "W"), (now - start, "W - W0")):
      rows.append([min_max(image) for image in images[chosen]])
      sides.append(f"{name}\n{word}")
  grid = np.array(rows)
  size = (grid.shape[1] + 0.8, len(rows) * image_shape[0] / image_shape[1] + 0.4)
  figure, axes = new_figure(1, 1, size)
  mosaic(axes[0][0], grid, [""] * grid.shape[1], sides)
  return figure


_PARAMS = ("params/", "init_params/")


def _params(arm: ArmOutcome, prefix: str) -> dict[str, np.ndarray]:
  """All parameters of the first seed, by path."""
  return {name: x[0] for name, x in arm.arrays.items() if name.startswith(prefix)}


def curves_figure(outcome: Outcome) -> Figure:
  """Training loss and both accuracies by step: mean over seeds, and the middle 80 % as a band.

  Args:
    outcome: of the experiment.

  Returns:
    The figure.
  """
  titles = {
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
    "holdout_accuracy": "held-out accuracy",
  }
  figure, axes = new_figure(1, 3, (10.0, 3.1))
  for axis, (curve, title) in zip(axes[0], titles.items(), strict=True):
    for i, (name, arm) in enumerate(outcome.arms.items()):
      values = arm.history[curve][arm.healthy]
      if values.size and np.isfinite(values).all():
        low, high = np.quantile(values, [0.1, 0.9], axis=0)
        axis.fill_between(outcome.steps, low, high, color=colour(i), alpha=0.2, linewidth=0)
        axis.plot(outcome.steps, values.mean(0), color=colour(i), label=name)
    axis.set_title(title)
    axis.set_xlabel("step")
  axes[0][0].set_yscale("log")
  handles, labels = axes[0][0].get_legend_handles_labels()
  if handles:
    axes[0][0].legend(handles, labels)
  return figure


def measures_figure(outcome: Outcome, summary: Mapping) -> Figure:
  """Each measure by arm and attack, with its 95 % interval over seeds.

  Args:
    outcome: of the experiment: its arms, attacks and metrics.
    summary: its means, see `outcome.summarize`.

  Returns:
    The figure: a panel a metric.
  """
  arms, attacks = list(outcome.arms), outcome.attacks
  found = {
    (metric.name, arm, attack.name): cell(summary, arm, attack.name, metric.name)
    for metric in outcome.metrics
    for arm in arms
    for attack in attacks
  }
  metrics = [
    m for m in outcome.metrics if any(found[m.name, a, b.name] for a in arms for b in attacks)
  ]
  metrics = metrics or outcome.metrics[:1]  # An empty panel, where every model diverged.
  figure, axes = new_figure(1, len(metrics), (max(1.9 * len(metrics), 4.0), 3.0))
  for axis, metric in zip(axes[0], metrics, strict=True):
    for i, arm in enumerate(arms):
      for j, attack in enumerate(attacks):
        interval = found[metric.name, arm, attack.name]
        if interval is not None and interval.mean is not None:
          place = i + 0.6 * ((j + 0.5) / len(attacks) - 0.5)
          look = {"fmt": marker(j), "color": colour(i), "ms": 5, "capsize": 2}
          axis.errorbar(place, interval.mean, interval_bars(interval), **look)
    axis.set_title(metric.label, fontsize=9, parse_math=False)
    axis.set_xticks(range(len(arms)), arms, rotation=40, ha="right", fontsize=8, parse_math=False)
    axis.set_xlim(-0.5, len(arms) - 0.5)
  marks = [
    Line2D([], [], marker=marker(j), ls="", color="black", ms=5) for j in range(len(attacks))
  ]
  legend(figure, marks, [attack.label for attack in attacks], min(4, len(attacks)))
  return figure


def pose_figure(
  poses: Sequence[float],
  measures: Mapping[str, Float[np.ndarray, "poses s"]],
  averages: Float[np.ndarray, "poses h w *c"],
  recovered: Float[np.ndarray, "poses h w *c"],
) -> Figure:
  """Recovery against the scale of pose: one person's average and recovered face, and the measures.

  Args:
    poses: scales of the pose variation.
    measures: by what they say, a value for each scale and seed.
    averages: one person's class average at each scale, 0..255.
    recovered: the same person recovered, 0..255.

  Returns:
    The figure.
  """
  figure, axes = new_figure(1, 2, (10.0, 3.6), width_ratios=(1.25, 1))
  heads = [f"pose {pose:g}" for pose in poses]
  mosaic(axes[0][0], np.stack([averages, recovered]), heads, ["class\naverage", "recovered"])
  for i, (name, values) in enumerate(measures.items()):
    axes[0][1].plot(poses, values, ".", color=colour(i), alpha=0.35, ms=5)
    axes[0][1].plot(poses, values.mean(1), "-", color=colour(i), label=name)
  axes[0][1].set_xlabel("scale of the pose variation (0: all frontal)")
  axes[0][1].set_ylabel("mean over people, one dot a seed")
  axes[0][1].legend()
  return figure
