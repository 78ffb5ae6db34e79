"""The figures of a run on privacy: what each epsilon costs and hides; the claim and the proof."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxinv.experiments.privacy.audit import Audit
from jaxinv.experiments.privacy.canaries import CANARIES, SCORES
from jaxinv.experiments.privacy.privacy import Point
from jaxinv.metrics.stats import Interval
from jaxinv.runs.figures import colour, interval_bars, legend, marker, new_figure

# The place of the arm without privacy, as a multiple of the largest epsilon.
_BEYOND = 8.0


def curve_figure(points: Sequence[Point], chance: float) -> Figure:
  """Accuracy, leakage and identification by epsilon, with what bounds the last.

  Args:
    points: an arm each; the one without privacy stands at the right.
    chance: share of people identified by chance, and accuracy of a guess.

  Returns:
    The figure: means over seeds with 95 % intervals, on a logarithmic axis of epsilon.
  """
  figure, axes = new_figure(1, 3, (11.0, 4.0), sharex=True)
  accuracy, leakage, identified = axes[0]
  _draw(accuracy, points, "accuracy", 0)
  _draw(leakage, points, "leakage", 1)
  _draw(leakage, points, "naive", 2)
  _draw(identified, points, "identified", 1)
  private = [p for p in points if p.chosen.epsilon < math.inf]
  at = [p.chosen.epsilon for p in private]
  for name, style in (("recovered_person", "-"), ("recovered", "--")):
    values = [getattr(p.limits, name) for p in private]
    identified.plot(at, values, style, color="0.35", linewidth=1.3)
  for axis in (accuracy, identified):
    axis.axhline(chance, color="black", linestyle=":", linewidth=1.1)
  for axis, title in zip(
    axes[0],
    ("held-out accuracy", "leakage (centred NCC)", "people identified"),
    strict=True,
  ):
    axis.set_title(title)
    # Ends of few seeds' intervals may lie outside of what there is.
    axis.set_ylim(-0.03, 1.04)
    _epsilon_axis(axis, points)
  marks = [
    *(Line2D([], [], color=colour(i), marker="o", ms=4) for i in (0, 1, 2)),
    *(Line2D([], [], color="0.35", linestyle=style) for style in ("-", "--")),
    Line2D([], [], color="black", linestyle=":"),
  ]
  words = ["accuracy", "strongest attack on one model", "the weights reshaped"]
  words += ["most that is possible: all photographs of a person", "of one photograph", "chance"]
  legend(figure, marks, words, 3)
  return figure


def _places(points: Sequence[Point]) -> list[float]:
  largest = max([p.chosen.epsilon for p in points if p.chosen.epsilon < math.inf], default=1.0)
  return [min(p.chosen.epsilon, _BEYOND * largest) for p in points]


def _draw(axis: Axes, points: Sequence[Point], name: str, index: int) -> None:
  """A quantity's means and intervals; those without privacy apart, as no epsilon leads there."""
  shown = [
    (at, getattr(p, name), p.chosen.epsilon == math.inf)
    for at, p in zip(_places(points), points, strict=True)
    if getattr(p, name).mean is not None
  ]
  line = [(at, found.mean) for at, found, plain in shown if not plain]
  if line:
    axis.plot(*zip(*line, strict=True), color=colour(index), linewidth=1.5)
  for at, found, plain in shown:
    _point(axis, at, found, index, "s" if plain else "o")


def _point(axis: Axes, at: float, found: Interval, index: int, mark: str) -> None:
  bars = interval_bars(found)
  axis.errorbar(at, found.mean, yerr=bars, fmt=mark, ms=4.5, capsize=2, color=colour(index))


def _epsilon_axis(axis: Axes, points: Sequence[Point]) -> None:
  places = _places(points)
  names = ["none" if p.chosen.epsilon == math.inf else f"{p.chosen.epsilon:g}" for p in points]
  axis.set_xscale("log")
  axis.set_xticks(places, names)
  axis.set_xticks([], minor=True)
  axis.set_xlabel("epsilon of a photograph")


def audit_figure(audits: Sequence[Audit]) -> Figure:
  """The empirical epsilon against the claimed one, and a test's advantage against the most.

  Args:
    audits: of all epsilons, canaries and kinds of attacker.

  Returns:
    The figure: a line for each canary and kind of attacker; none may be above the black one.
  """
  figure, axes = new_figure(1, 2, (10.0, 4.4), sharex=True)
  claimed = sorted({audit.epsilon for audit in audits})
  left, right = axes[0]
  left.plot(claimed, claimed, color="black", linewidth=1.3)
  most = {audit.epsilon: audit.limit for audit in audits}
  right.plot(claimed, [most[e] for e in claimed], color="black", linewidth=1.3)
  marks, words = [Line2D([], [], color="black")], ["no more is possible, if the claim is true"]
  for i, canary in enumerate(CANARIES):
    for j, attacker in enumerate(SCORES):
      own = [a for a in audits if (a.canary, a.attacker) == (canary, attacker)]
      own.sort(key=lambda audit: audit.epsilon)
      look = {"color": colour(i), "linestyle": "-" if j else "--", "marker": marker(j), "ms": 5}
      at = [a.epsilon for a in own]
      left.plot(at, [a.by_noise for a in own], linewidth=1.4, **look)
      left.plot(at, [a.bound.epsilon for a in own], linewidth=0.7, alpha=0.6, **look)
      right.plot(at, [a.advantage for a in own], linewidth=1.4, **look)
      marks.append(Line2D([], [], **look))
      words.append(f"{canary} canary, {attacker}")
  left.set_title("epsilon: claimed, and proven at least")
  left.set_ylabel("lower bound (thin: by the errors alone)")
  left.set_yscale("symlog", linthresh=1)
  left.set_ylim(-0.05, 1.3 * max(claimed))
  right.set_title("hits less false alarms of a test for the canary")
  right.set_ylim(-0.03, 1.04)
  for axis in axes[0]:
    axis.set_xscale("log")
    axis.set_xticks(claimed, [f"{e:g}" for e in claimed])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("claimed epsilon")
  left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
  left.set_yticks([0, *np.unique([1, *claimed])])
  left.set_yticks([], minor=True)
  legend(figure, marks, words, 3)
  return figure
