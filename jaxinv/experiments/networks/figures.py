"""Figures of inverted networks: what was recovered, how often it is recognised, what it is like."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxinv.experiments.networks.findings import ArmResult, NetworksResult, Summary
from jaxinv.runs.figures import colour, new_figure

# Of so many seeds the grid shows a row, and of so many restarts a column.
_SEEDS, _RESTARTS = 2, 8


def grid_figure(result: NetworksResult, inversion: str) -> Figure:
  """Classes by models: a real image of each class, the start, what is recovered from each model.

  Args:
    result: the experiment.
    inversion: which one.

  Returns:
    The figure.
  """
  rows: list[tuple[str, np.ndarray]] = [("a real image", _typical(result))]
  rows.append(("the start", result.starts[inversion]))
  for name, arm in result.arms.items():
    rows += [(model, images[:, 0]) for model, images in _shown(name, arm, inversion)]
  return _image_grid(result, rows, result.names)


def restarts_figure(result: NetworksResult, inversion: str, label: int) -> Figure:
  """Several recovered images of one class: the first restarts of the first models of each arm.

  Args:
    result: the experiment.
    inversion: which one.
    label: the class.

  Returns:
    The figure.
  """
  rows = []
  for name, arm in result.arms.items():
    rows += [(model, images[label]) for model, images in _shown(name, arm, inversion)]
  columns = [f"restart {i + 1}" for i in range(min(_RESTARTS, len(rows[0][1])))]
  return _image_grid(result, rows, columns)


def neighbours_figure(result: NetworksResult, arm: str, inversion: str) -> Figure:
  """Recovered images of the first model, each above its nearest training and test image.

  Args:
    result: the experiment.
    arm: which one.
    inversion: which one.

  Returns:
    The figure; under each real image its cosine of last features.
  """
  inverted = result.arms[arm].inverted[inversion]
  near = inverted.neighbours
  trained, held_out = (
    result.train_inputs[near.trained[:, 0]],
    result.test_inputs[near.held_out[:, 0]],
  )
  rows = [("recovered", inverted.images[0, :, 0]), ("nearest trained on", trained)]
  rows.append(("nearest held out", held_out))
  below = [None, near.trained_similarity[:, 0], near.held_out_similarity[:, 0]]
  return _image_grid(result, rows, result.names, below)


def kernels_figure(result: NetworksResult) -> Figure:
  """The first layer's kernels of each arm's first model, each scaled to its own range."""
  most = min(24, min(arm.kernels.shape[-1] for arm in result.arms.values()))
  figure, axes = new_figure(
    len(result.arms), most, (0.42 * most + 1.2, 0.62 * len(result.arms) + 0.4)
  )
  for row, (name, arm) in zip(axes, result.arms.items(), strict=True):
    for axis, kernel in zip(row, np.moveaxis(arm.kernels, -1, 0)[:most], strict=True):
      _draw_image(axis, (kernel - kernel.min()) / max(np.ptp(kernel), 1e-12))
    _name_row(row[0], name)
  return figure


def recognition_figure(result: NetworksResult, summary: Summary) -> Figure:
  """How often the verifier names the class asked for, by inversion and arm, with intervals."""
  figure, axes = new_figure(1, 1, (7.5, 0.9 + 0.45 * len(inversions(result)) * len(result.arms)))
  axis = axes[0][0]
  chance, ceiling = 1 / len(result.names), result.verifier["holdout_accuracy"]
  axis.axvline(chance, color="black", linestyle=":", label="chance")
  axis.axvline(ceiling, color="black", linestyle="--", label="the verifier on test images")
  _dots(axis, result, summary, ["verifier_accuracy"])
  axis.set_xlabel("recovered images that an independent network takes for their class")
  figure.legend(loc="outside lower center", ncols=4, frameon=False)
  return figure


def memorisation_figure(result: NetworksResult, summary: Summary) -> Figure:
  """Share of recovered images nearer to members than to others, by features and by pixels."""
  height = 0.9 + 0.45 * len(inversions(result)) * len(result.arms)
  figure, axes = new_figure(1, 2, (10.0, height), sharex=True, sharey=True)
  for axis, how in zip(axes[0], ("features", "pixels"), strict=True):
    axis.axvline(0.5, color="black", linestyle=":", label="no memory" if how == "pixels" else None)
    _dots(axis, result, summary, [f"nearer_{how}"], legend=how == "pixels")
    axis.set_xlabel(f"nearest candidate was trained on, by {how}")
  figure.legend(loc="outside lower center", ncols=4, frameon=False)
  return figure


def curves_figure(result: NetworksResult) -> Figure:
  """Accuracy on training and held-out images by step: mean over seeds, and all of them."""
  figure, axes = new_figure(1, 2, (10.0, 3.6), sharey=True)
  titles = {"train_accuracy": "training images", "holdout_accuracy": "test images"}
  for axis, (curve, title) in zip(axes[0], titles.items(), strict=True):
    for i, (name, arm) in enumerate(result.arms.items()):
      values = arm.history[curve][arm.healthy]
      label = name if curve == "train_accuracy" else None
      axis.fill_between(arm.steps, values.min(0), values.max(0), color=colour(i), alpha=0.2, lw=0)
      axis.plot(arm.steps, values.mean(0), "o-", ms=3, color=colour(i), label=label)
    axis.set_title(title)
    axis.set_xlabel("training step (band: all seeds)")
    axis.set_ylim(0, 1)
  axes[0][0].set_ylabel("accuracy")
  figure.legend(loc="outside lower center", ncols=5, frameon=False)
  return figure


def inversions(result: NetworksResult) -> list[str]:
  """Names of the inversions, in order."""
  return list(next(iter(result.arms.values())).inverted)


def _dots(
  axis: Axes, result: NetworksResult, summary: Summary, metrics: Sequence[str], legend: bool = True
) -> None:
  """A dot with its interval for each inversion and arm, inversions from the top down."""
  names, step = inversions(result), 0.8 / len(result.arms)
  for i, arm in enumerate(result.arms):
    for metric in metrics:
      for place, inversion in enumerate(names):
        entry = summary[arm].get(inversion, {}).get(metric)
        if entry is None:
          continue
        y = place + step * (i - (len(result.arms) - 1) / 2)
        first = legend and place == 0
        axis.plot(entry["mean"], y, "o", color=colour(i), label=arm if first else None)
        if entry["low"] is not None:
          axis.plot([entry["low"], entry["high"]], [y, y], color=colour(i), lw=2)
  axis.set_yticks(range(len(names)), names)
  axis.set_ylim(len(names) - 0.5, -0.5)
  axis.set_xlim(-0.02, 1.02)


def _shown(name: str, arm: ArmResult, inversion: str) -> list[tuple[str, np.ndarray]]:
  """Names and images [k, r, p] of an arm's first models that did not diverge."""
  inverted = arm.inverted[inversion]
  pairs = zip(inverted.seeds[:_SEEDS], inverted.images, strict=False)
  return [(f"{name}, model {seed + 1}", images) for seed, images in pairs]


def _typical(result: NetworksResult) -> np.ndarray:
  """Of each class the test image that is nearest to the class's mean."""
  chosen = []
  for label in range(len(result.names)):
    members = result.test_inputs[result.test_labels == label]
    chosen.append(members[np.square(members - members.mean(0)[None]).sum(1).argmin()])
  return np.stack(chosen)


def _image_grid(
  result: NetworksResult,
  rows: Sequence[tuple[str, np.ndarray]],
  columns: Sequence[str],
  below: Sequence[np.ndarray | None] = (),
) -> Figure:
  size = (0.82 * len(columns) + 1.5, (0.95 + 0.12 * bool(below)) * len(rows) + 0.3)
  figure, axes = new_figure(len(rows), len(columns), size)
  for i, (name, images) in enumerate(rows):
    for j, axis in enumerate(axes[i]):
      _draw_image(axis, images[j].reshape(result.image_shape))
      if i == 0:
        axis.set_title(columns[j], fontsize=8, parse_math=False)
      if below and below[i] is not None:
        axis.set_xlabel(f"{below[i][j]:.2f}", fontsize=7)
    _name_row(axes[i][0], name)
  return figure


def _name_row(axis: Axes, name: str) -> None:
  axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8, parse_math=False)


def _draw_image(axis: Axes, image: np.ndarray) -> None:
  axis.imshow(np.clip(image, 0, 1), interpolation="nearest", cmap="gray", vmin=0, vmax=1)
  axis.grid(False)
  axis.set_xticks([])
  axis.set_yticks([])
  for spine in axis.spines.values():
    spine.set_visible(False)
