"""Figures of the two Gaussians: the weights through training, and what is recovered from them."""

import jax
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from jaxinv.metrics.images import normalize
from jaxinv.runs.figures import colour, new_figure

# A curve is drawn through this many steps; more would not be told apart.
_MOST_POINTS = 400
# Room that a label takes, as a share of the axis's height.
_LABEL = 0.052


def weight_names(num_features: int, num_classes: int) -> list[str]:
  """Names as in the article: w12 joins feature 1 to class 2."""
  return [f"w{i + 1}{k + 1}" for i in range(num_features) for k in range(num_classes)]


def weights_figure(
  weights: Float[np.ndarray, "v t p k"],
  class_means: Float[np.ndarray, "p k"],
  mode: str,
  data_max: float,
) -> Figure:
  """Every weight through training, as it is and as the attacker scales it.

  Args:
    weights: of each seed at each step, the initial ones first; all finite.
    class_means: true mean of each class.
    mode: how the attacker normalises, see `metrics.images.normalize`.
    data_max: the largest magnitude of the data that the attacker knows.

  Returns:
    The figure: a thin line a seed, a thick one the mean.
  """
  figure, axes = new_figure(1, 2, (10.5, 4.4))
  last = weights.shape[1] - 1
  even = np.unique(np.linspace(0, last, _MOST_POINTS).astype(int))
  _curves(axes[0][0], even, weights[:, even])
  axes[0][0].set_title("the weights")
  axes[0][0].set_ylabel("weight")
  # Most of what happens to the ratios happens in the first steps.
  early = np.unique(np.geomspace(1, last + 1, _MOST_POINTS).astype(int)) - 1
  scaled = jax.vmap(jax.vmap(lambda w: normalize(w, mode, data_max)))(weights[:, early])
  axes[0][1].set_xscale("symlog", linthresh=1)
  for mean in np.unique(class_means):
    axes[0][1].axhline(mean, color="black", linestyle="--", linewidth=0.9, zorder=5)
  _curves(axes[0][1], early, np.asarray(scaled))
  axes[0][1].set_title(f"the same, scaled by the attacker (largest: {data_max:g})")
  axes[0][1].set_ylabel("weight, in the unit of the data")
  for axis in axes[0]:
    axis.set_xlabel("step")
  _name_weights(figure, *weights.shape[2:])
  return figure


def _curves(axis: Axes, steps: Int[np.ndarray, " t"], weights: Float[np.ndarray, "v t p k"]):
  """One colour a weight; the last value of its mean beside its end."""
  num_seeds, num_steps = weights.shape[:2]
  curves = weights.reshape(num_seeds, num_steps, -1)
  names = weight_names(*weights.shape[2:])
  # Seeds that lie over each other still show where most of them are.
  alpha = float(np.clip(4 / num_seeds, 0.03, 0.45))
  for i in range(curves.shape[2]):
    lines = [np.stack([steps, curve], 1) for curve in curves[:, :, i]]
    axis.add_collection(LineCollection(lines, colors=colour(i), linewidths=0.7, alpha=alpha))
    axis.plot(steps, curves[:, :, i].mean(0), color=colour(i), linewidth=1.8)
  axis.autoscale_view()
  axis.margins(x=0.01)
  ends = curves[:, -1].mean(0)
  for i, place in enumerate(_spread_out(ends, _LABEL * np.ptp(axis.get_ylim()))):
    text = f" {names[i]} = {round(ends[i], 2) + 0.0:.2f}"  # No minus before a zero.
    axis.annotate(
      text,
      (1, place),
      xycoords=("axes fraction", "data"),
      color=colour(i),
      va="center",
      fontweight="bold",
      annotation_clip=False,
    )


def _spread_out(values: Float[np.ndarray, " v"], gap: float) -> Float[np.ndarray, " v"]:
  """Moves places apart until neighbours are a gap from each other, and no further."""
  places = values.astype(np.float64)
  order = np.argsort(places, kind="stable")
  for _ in range(50 * len(places)):
    distance = np.diff(places[order])
    if (distance >= gap * 0.999).all():
      break
    i = int(distance.argmin())
    push = (gap - distance[i]) / 2
    places[order[i]] -= push
    places[order[i + 1]] += push
  return places


def _name_weights(figure: Figure, num_features: int, num_classes: int) -> None:
  """A legend below: what each weight joins."""
  axis = figure.axes[0]
  names = weight_names(num_features, num_classes)
  for i, name in enumerate(names):
    feature, label = "xy"[i // num_classes], i % num_classes + 1
    axis.plot([], [], color=colour(i), linewidth=1.8, label=f"{name}: {feature} to class {label}")
  axis.plot([], [], "--", color="black", linewidth=0.9, label="true class averages")
  handles, labels = axis.get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)


def recovered_figure(
  points: Float[np.ndarray, "n p"],
  labels: Int[np.ndarray, " n"],
  class_means: Float[np.ndarray, "p k"],
  recovered: Float[np.ndarray, "v p k"],
) -> Figure:
  """The points of one seed, the true class averages, and what each seed's weights say they are.

  Args:
    points: of one seed.
    labels: class of each.
    class_means: true mean of each class.
    recovered: by each seed's attacker; all finite.

  Returns:
    The figure: the whole plane, then closer views of the first three classes.
  """
  num_classes = class_means.shape[1]
  views = min(num_classes, 3)
  figure, axes = new_figure(1, 1 + views, (3.6 * (1 + views), 4.1))
  for axis in axes[0]:
    _scatter(axis, points, labels, class_means, recovered)
    axis.set_xlabel("x")
  axes[0][0].set_ylabel("y")
  everything = [points, class_means.T, recovered.transpose(0, 2, 1).reshape(-1, 2)]
  _frame(axes[0][0], np.concatenate(everything))
  axes[0][0].set_title("all points")
  for k, axis in enumerate(axes[0][1:]):
    _frame(axis, np.concatenate([points[labels == k], class_means.T[[k]], recovered[:, :, k]]))
    axis.set_title(f"class {k + 1}, closer")
  handles, words = axes[0][0].get_legend_handles_labels()
  figure.legend(handles, words, loc="outside lower center", ncols=3 + views, frameon=False)
  return figure


def _scatter(axis: Axes, points, labels, class_means, recovered) -> None:
  for k in range(class_means.shape[1]):
    mine = points[labels == k]
    label = f"points of class {k + 1}, first seed" if k < 3 else None
    axis.plot(*mine.T, "o", color=colour(k), ms=3.5, alpha=0.5, mew=0, label=label)
  axis.plot(*class_means, "x", color="black", ms=13, mew=1.6, zorder=6, label="true class average")
  axis.plot(
    *recovered.transpose(1, 0, 2).reshape(2, -1),
    "o",
    color="none",
    mec="#B00020",
    ms=7,
    mew=1.2,
    alpha=float(np.clip(8 / len(recovered), 0.1, 0.9)),
    label="recovered from the weights, one a seed",
  )


def _frame(axis: Axes, places: Float[np.ndarray, "n 2"]) -> None:
  """A square view of all places, with a margin."""
  middle = (places.max(0) + places.min(0)) / 2
  half = 0.55 * max(float(np.ptp(places, 0).max()), 1e-6)
  axis.set_xlim(middle[0] - half, middle[0] + half)
  axis.set_ylim(middle[1] - half, middle[1] + half)
  axis.set_aspect("equal")
