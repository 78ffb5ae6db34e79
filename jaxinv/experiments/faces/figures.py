"""Figures of an experiment on faces: recovered images, curves, measures, an animation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from jaxinv.attacks import weights
from jaxinv.experiments.outcome import ArmOutcome, Outcome
from jaxinv.runs.figures import colour, displayable, mosaic, new_figure
from jaxinv.runs.files import write_file
from jaxinv.types import Dataset

# How attacks and measures are called in figures.
ATTACK_WORDS = {"reshape": "W", "init_diff": "W - W0", "seed_mean": "mean W of all seeds"}
METRIC_WORDS = {
  "ncc": "NCC with the\nclass mean",
  "ncc_centred": "centred NCC",
  "ssim": "SSIM",
  "psnr": "PSNR (dB)",
  "identification": "identification",
  "excess": "excess NCC over\nheld-out mean",
}
_MARKERS = {"reshape": "o", "init_diff": "s", "seed_mean": "^"}


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
    The figure.
  """
  columns = [outcome.train_means[0]]
  heads = ["class\naverage"]
  for name, arm in outcome.arms.items():
    for attack in ("reshape", "init_diff"):
      columns.append(arm.images[attack][0])
      heads.append(f"{name}\n{ATTACK_WORDS[attack]}")
  grid = np.stack([displayable(column) for column in columns], 1)[list(people)]
  rows = -(-len(people) // blocks)
  height, width = grid.shape[-2:]
  inches = 0.85 if blocks > 1 else 1.25
  size = (blocks * (len(columns) + 0.6) * inches, rows * inches * height / width + 0.6)
  figure, axes = new_figure(1, blocks, size)
  for block, axis in enumerate(axes[0]):
    chosen = slice(block * rows, (block + 1) * rows)
    mosaic(axis, grid[chosen], heads, [names[i] for i in people][chosen])
  return figure


class Shares(NamedTuple):
  """Which photographs make up one person's weights, of one model.

  Attributes:
    name: the person's.
    image: the sum of all training photographs, each times its coefficient, scaled to [0, 1]: the
      person's weights less what is left in them of the initial ones.
    own: the person's training photographs, the one with most weight first; in [0, 1].
    own_weight: the coefficient of each in the weights.
    others: photographs of other people with the largest negative coefficients, likewise.
    other_weight: the coefficient of each.
    own_part: the own photographs' part of all coefficients' magnitudes, in [0, 1].
  """

  name: str
  image: Float[np.ndarray, "h w"]
  own: Float[np.ndarray, "_ h w"]
  own_weight: Float[np.ndarray, " _"]
  others: Float[np.ndarray, "_ h w"]
  other_weight: Float[np.ndarray, " _"]
  own_part: float


def find_shares(
  dataset: Dataset, arm: ArmOutcome, train: Int[np.ndarray, " m"], person: int, most: int = 8
) -> Shares:
  """Finds which photographs make up a person's weights in an arm's first seed.

  Args:
    dataset: the photographs.
    arm: trained in the span of the data, so that it has `coefficients`.
    train: the photographs trained on.
    person: the class.
    most: how many of the person's photographs to show; fewer than half as many of other people.

  Returns:
    The shares.
  """
  weight = arm.arrays["coefficients"][0][train, person]
  mine = dataset.labels[train] == person
  own = np.flatnonzero(mine)[np.argsort(-weight[mine], kind="stable")][:most]
  others = np.flatnonzero(~mine)[np.argsort(weight[~mine], kind="stable")][: most * 3 // 8]
  photographs = dataset.inputs[train].reshape(-1, *dataset.image_shape)
  image = np.tensordot(weight, photographs, 1)
  total = np.abs(weight).sum()
  return Shares(
    name=dataset.names[person],
    image=(image - image.min()) / max(np.ptp(image), np.finfo(image.dtype).tiny),
    own=photographs[own],
    own_weight=weight[own],
    others=photographs[others],
    other_weight=weight[others],
    own_part=float(np.abs(weight[mine]).sum() / total) if total > 0 else 0.0,
  )


def shares_figure(shares: Sequence[Shares]) -> Figure:
  """For each person the recovered face, then the photographs it is a weighted sum of.

  Args:
    shares: one a row.

  Returns:
    The figure.
  """
  own, others = (max(len(getattr(s, name)) for s in shares) for name in ("own", "others"))
  height, width = shares[0].image.shape
  columns = 1 + own + others
  size = (0.78 * columns + 0.5, len(shares) * (0.78 * height / width + 0.22) + 0.35)
  figure, axes = new_figure(len(shares), columns, size)
  for row, share in zip(axes, shares, strict=True):
    cells = [(share.image, "sum"), *zip(share.own, share.own_weight, strict=True)]
    cells += [None] * (own - len(share.own))
    cells += zip(share.others, share.other_weight, strict=True)
    cells += [None] * (columns - len(cells))
    for place, (axis, cell) in enumerate(zip(row, cells, strict=True)):
      axis.axis("off")
      if cell is None:
        continue
      image, weight = cell
      axis.imshow(image, cmap="gray", vmin=0, vmax=1)
      colours = {True: "black", False: colour(0 if place <= own else 1)}
      text = weight if isinstance(weight, str) else f"{weight:+.2g}"
      axis.set_title(text, fontsize=8, pad=2, color=colours[place == 0])
    row[0].text(
      -0.08,
      0.5,
      share.name,
      transform=row[0].transAxes,
      rotation=90,
      ha="right",
      va="center",
      fontsize=9,
      parse_math=False,
    )
  return figure


def units_figure(outcome: Outcome, image_shape: tuple[int, int], most: int = 10) -> Figure:
  """The first layer's units of the first seed that moved most, as images: W above, W - W0 below.

  Args:
    outcome: of an experiment with hidden layers.
    image_shape: (h, w) of an image.
    most: how many units to show.

  Returns:
    The figure.
  """
  rows, sides = [], []
  for name, arm in outcome.arms.items():
    now, start = (np.asarray(weights.units(_params(arm, p), image_shape)) for p in _PARAMS)
    moved = np.square(np.nan_to_num(now - start)).sum((1, 2))
    chosen = np.argsort(-moved, kind="stable")[:most]
    for images, word in ((now, "W"), (now - start, "W - W0")):
      rows.append([_min_max(image.ravel()).reshape(image_shape) for image in images[chosen]])
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


def measures_figure(summary: Mapping, arms: Sequence[str]) -> Figure:
  """Each measure by arm and attack, with its 95 % interval over seeds.

  Args:
    summary: of the experiment, see `outcome.summarize`.
    arms: names in order.

  Returns:
    The figure.
  """
  metrics = [m for m in METRIC_WORDS if any(m in _cell(summary, arm, "reshape") for arm in arms)]
  metrics = metrics or ["ncc_centred"]  # An empty panel, where no model came through training.
  figure, axes = new_figure(1, len(metrics), (1.9 * len(metrics), 3.0))
  for axis, metric in zip(axes[0], metrics, strict=True):
    for i, arm in enumerate(arms):
      for j, (attack, marker) in enumerate(_MARKERS.items()):
        cell = _cell(summary, arm, attack).get(metric)
        if cell is None:
          continue
        bars = None if cell["low"] is None else _error_bars(cell)
        place = i + 0.2 * (j - 1)
        axis.errorbar(place, cell["mean"], bars, fmt=marker, color=colour(i), ms=5, capsize=2)
    axis.set_title(METRIC_WORDS[metric], fontsize=9)
    axis.set_xticks(range(len(arms)), arms, rotation=40, ha="right", fontsize=8)
    axis.set_xlim(-0.5, len(arms) - 0.5)
  for attack, marker in _MARKERS.items():
    axes[0][0].plot([], [], marker, color="black", ms=5, label=ATTACK_WORDS[attack])
  figure.legend(
    *axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
  )
  return figure


def _cell(summary: Mapping, arm: str, attack: str) -> Mapping:
  return summary.get(arm, {}).get(attack, {})


def _error_bars(cell: Mapping) -> list[list[float]]:
  """Distances from the mean to the ends; BCa may put an end a hair on the wrong side of it."""
  return [[max(cell["mean"] - cell["low"], 0)], [max(cell["high"] - cell["mean"], 0)]]


def write_animation(path: Path, outcome: Outcome, target: Float[np.ndarray, "h w"]) -> None:
  """An animated GIF of one person's face appearing in the weights, arm by arm.

  The upper row is the weights as they are, the lower one what training changed in them.

  Args:
    path: where to write.
    outcome: of the experiment.
    target: the person's class average, in 0..255, shown at the left.
  """
  # More frames, or more greys, take megabytes (noise cannot be compressed) and look no better.
  chosen = np.unique(np.linspace(0, len(outcome.steps) - 1, 31).astype(int))
  frames = [_frame(outcome, target, int(i)) for i in chosen]
  waits = [160] * (len(frames) - 1) + [2500]
  first, *others = frames
  write_file(
    path,
    lambda file: first.save(
      file, format="GIF", save_all=True, append_images=others, duration=waits, loop=0
    ),
  )


def _frame(outcome: Outcome, target: Float[np.ndarray, "h w"], index: int) -> Image.Image:
  arms = list(outcome.arms.values())
  height, width = target.shape
  scale = max(1, round(112 / height))
  cell = (width * scale + 8, height * scale + 8)
  top, side = 40, 54
  canvas = Image.new("L", (side + cell[0] * (len(arms) + 1), top + 2 * cell[1]), 255)
  draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
  draw.text((side, 3), f"step {outcome.steps[index]}", 0, font)
  for row, word in enumerate(("W", "W - W0")):
    draw.text((4, top + row * cell[1] + cell[1] // 2 - 8), word, 0, font)
  _paste(canvas, target, (side, top), scale)
  draw.text((side, 21), "average", 0, font)
  for i, (name, arm) in enumerate(outcome.arms.items()):
    x = side + cell[0] * (i + 1)
    draw.text((x, 3), name, 0, font)
    accuracy = arm.history["train_accuracy"][0, index]
    draw.text((x, 21), f"acc {accuracy:.2f}" if np.isfinite(accuracy) else "", 0, font)
    for row, image in enumerate(_weights_now(arm, index, target.shape)):
      _paste(canvas, image, (x, top + row * cell[1]), scale)
  return canvas.quantize(32, dither=Image.Dither.NONE)


def _weights_now(
  arm: ArmOutcome, index: int, shape: tuple[int, int]
) -> list[Float[np.ndarray, "h w"]]:
  """One class's weights at a recorded step, and their change since the start, each in 0..255."""
  now, start = arm.frames[index], arm.frames[0]
  return [_min_max(image).reshape(shape) for image in (now, now - start)]


def _min_max(image: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
  image = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
  span = float(image.max()) - float(image.min())
  return (image - image.min()) / span * 255 if span > 0 else np.full_like(image, 127.0)


def _paste(canvas: Image.Image, image, place: tuple[int, int], scale: int) -> None:
  picture: UInt8[np.ndarray, "h w"] = np.clip(image, 0, 255).astype(np.uint8)
  size = (picture.shape[1] * scale, picture.shape[0] * scale)
  canvas.paste(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC), place)


def pose_figure(
  poses: Sequence[float],
  measures: Mapping[str, Float[np.ndarray, "poses s"]],
  averages: Float[np.ndarray, "poses h w"],
  recovered: Float[np.ndarray, "poses h w"],
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
