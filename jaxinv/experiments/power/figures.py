"""The figure of the blind score's power: what it flags, and what the models can do by then."""

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxinv.experiments.power.power import Power
from jaxinv.runs.figures import colour, new_figure


def power_figure(power: Power) -> Figure:
  """Share of classes flagged and held-out accuracy by step: mean over seeds, and all of them.

  Args:
    power: the curves.

  Returns:
    The figure; a log axis on which step 0 has its place too.
  """
  figure, axes = new_figure(1, 2, (10.0, 4.0), sharex=True, sharey=True)
  lines = []
  for i, curves in enumerate(power.arms.values()):
    lines.append(_draw(axes[0][0], power.steps, curves.structured, i))
    _draw(axes[0][1], power.steps, curves.holdout_accuracy, i)
  lines.append(axes[0][0].axhline(power.alpha, color="black", linestyle=":", linewidth=1.1))
  axes[0][0].set_title("classes whose weights look like an image")
  axes[0][0].set_ylabel("share")
  axes[0][1].set_title("held-out accuracy")
  for axis in axes[0]:
    axis.set_xscale("symlog", linthresh=1, linscale=0.5)
    axis.set_xticks(power.steps[_powers(power.steps)])
    axis.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    axis.set_xticks(power.steps, minor=True)
    axis.set_xlim(-0.25, 1.2 * max(1, power.steps[-1]))
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlabel("training step (band: all seeds)")
  words = [*power.arms, f"false alarms allowed: {power.alpha:g}"]
  legend = figure.legend(lines, words, loc="outside lower center", ncols=5, frameon=False)
  for text in legend.get_texts():
    text.set_parse_math(False)
  return figure


def _powers(steps: Int[np.ndarray, " t"]) -> np.ndarray:
  """Which steps are 0 or a power of ten: the others have no room for a label."""
  return np.array([str(step).strip("0") in ("", "1") for step in steps])


def _draw(
  axis: Axes, steps: Int[np.ndarray, " t"], values: Float[np.ndarray, "t s"], index: int
) -> Line2D:
  axis.fill_between(
    steps, values.min(1), values.max(1), color=colour(index), alpha=0.2, linewidth=0
  )
  return axis.plot(steps, values.mean(1), "o-", color=colour(index), ms=3.5, linewidth=1.5)[0]
