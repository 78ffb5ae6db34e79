"""The page of the two Gaussians: its figures, and the numbers that its template is filled with."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxinv.experiments.toy import figures
from jaxinv.experiments.toy.groups import Outcome
from jaxinv.experiments.toy.toy import FEATURES, Settings
from jaxinv.runs import page
from jaxinv.runs.figures import save_all
from jaxinv.runs.tables import number_rows
from jaxinv.runs.text import count, interval, number, significant

# Errors up to this share of the data's largest value read as "recovered"; only words hang on it.
_CLOSE = 0.05
# Of more seeds lines and circles are neither told apart nor drawn quickly.
_MOST_SEEDS = 500


class PageData(NamedTuple):
  """All that the page is of.

  Attributes:
    settings: what was done.
    outcome: what came of it.
    summary: its means and intervals.
    config: what config.json holds.
    command: the command line that makes this run.
    points: of the first seed.
    labels: their classes.
  """

  settings: Settings
  outcome: Outcome
  summary: Mapping
  config: Mapping
  command: str
  points: Float[np.ndarray, "n p"]
  labels: Int[np.ndarray, " n"]


def write_page(out_dir: Path, data: PageData) -> Path:
  """Draws both figures and writes report.html.

  Args:
    out_dir: the run's folder.
    data: what the page is of.

  Returns:
    The page's path.
  """
  settings, arm = data.settings, data.settings.arm
  shown = np.flatnonzero(data.outcome.healthy[: settings.kept])[:_MOST_SEEDS]
  values = {
    **asdict(settings),
    "optimizer": arm.optimizer,
    "hyper": arm.hyper,
    "means": [_point(mean) for mean in settings.means],
    "num_healthy": int(data.outcome.healthy.sum()),
    "diverged": data.summary[arm.name]["diverged"],
    "number_rows": number_rows(data.summary, significant),
    "config": data.config,
    "command": data.command,
    **_recovered(data, shown),
  }
  return page.write_page(out_dir / "report.html", __package__, values | _draw(out_dir, data, shown))


def _draw(out_dir: Path, data: PageData, shown: Int[np.ndarray, " v"]) -> dict[str, Any]:
  """The figures of the seeds that are shown; none where all diverged."""
  if not len(shown):
    return {"figures": {}}
  settings, outcome = data.settings, data.outcome
  class_means = np.transpose(settings.means)
  drawn = {
    "weights": figures.weights_figure(
      outcome.weights[shown], class_means, settings.normalize, settings.data_max
    ),
    "recovered": figures.recovered_figure(
      data.points, data.labels, class_means, outcome.recovered[shown]
    ),
  }
  seeds = count(len(shown), "seed")
  if len(shown) < settings.num_seeds:
    seeds = f"{len(shown)} of {settings.num_seeds} seeds"
  return {"figures": save_all(drawn, out_dir / "figures"), "seeds_shown": seeds}


def _recovered(data: PageData, shown: Int[np.ndarray, " v"]) -> dict[str, Any]:
  """What came out, and what the means at hand say of it."""
  settings, table = data.settings, data.summary[data.settings.arm.name]
  middle = np.mean(settings.means, 0)
  values = {
    "is_adaptive": settings.arm.optimizer.startswith("adam"),
    "is_mirrored": np.abs(middle).max() <= 1e-6 * max(settings.data_max, 1e-30),
    "middle": _point(middle),
  }
  if data.outcome.healthy.any():
    error = table["reshape"]["max_error"]
    sums = np.abs(data.outcome.final[data.outcome.healthy].sum(2)).mean(0)
    values |= {"max_error": error, "is_close": error["mean"] <= _CLOSE * settings.data_max}
    values |= {"sums": sums.tolist()}
  if len(shown):
    values["weights"] = _weight_rows(data, table["model"])
  return values


def _weight_rows(data: PageData, cells: Mapping) -> list[tuple[str, ...]]:
  """Each weight: its value, what the attacker makes of it, and the truth."""
  settings = data.settings
  recovered = data.outcome.recovered[data.outcome.healthy[: settings.kept]].mean(0)
  names = iter(figures.weight_names(*settings.shape))
  return [
    (
      f"{next(names)}: {feature} to class {k + 1}",
      interval(cells[f"weight_{feature}{k + 1}"], 4),
      number(float(recovered[i, k]), 3),
      f"{mean[i]:g}",
    )
    for i, feature in enumerate(FEATURES)
    for k, mean in enumerate(settings.means)
  ]


def _point(values: Iterable[float]) -> str:
  return f"({', '.join(f'{value:g}' for value in values)})"
