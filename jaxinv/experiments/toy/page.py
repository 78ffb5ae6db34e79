"""The page of the two Gaussians: its figures, and what they show in words made of numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxinv.experiments.toy import figures
from jaxinv.experiments.toy.groups import Outcome
from jaxinv.experiments.toy.toy import FEATURES, Settings
from jaxinv.runs.figures import save
from jaxinv.runs.page import Picture, Section, Table, run_section, write_report

# Errors up to this share of the data's largest value read as "recovered"; only words hang on it.
_CLOSE = 0.05
# Of more seeds lines and circles are neither told apart nor drawn quickly.
_MOST_SEEDS = 500


class Story(NamedTuple):
  """All that the page tells of.

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


def write_page(out_dir: Path, story: Story) -> Path:
  """Draws both figures and writes report.html.

  Args:
    out_dir: the run's folder.
    story: what to tell.

  Returns:
    The page's path.
  """
  sections = [
    _open_section(story),
    _numbers_section(story),
    run_section(story.command, story.config),
  ]
  if story.outcome.healthy[: story.settings.kept].any():
    shown = _draw(out_dir / "figures", story)
    sections = [_weights_section(story, shown[0]), _recovered_section(story, shown[1]), *sections]
  title = "Two Gaussians: what a model's weights give away"
  if len(story.settings.means) != 2:
    title = f"{len(story.settings.means)} Gaussians: what a model's weights give away"
  return write_report(out_dir / "report.html", title, _lead(story), sections)


def _draw(folder: Path, story: Story) -> list[Picture]:
  settings, outcome = story.settings, story.outcome
  shown = np.flatnonzero(outcome.healthy[: settings.kept])[:_MOST_SEEDS]
  class_means = np.transpose(settings.means)
  weights = figures.weights_figure(
    outcome.weights[shown], class_means, settings.normalize, settings.data_max
  )
  recovered = figures.recovered_figure(
    story.points, story.labels, class_means, outcome.recovered[shown]
  )
  seeds = "one seed" if len(shown) == 1 else f"{len(shown)} seeds"
  if len(shown) < settings.num_seeds:
    seeds = f"{len(shown)} of {settings.num_seeds} seeds"
  return [
    Picture(
      save(weights, folder / "weights.png"),
      f"Every weight through training, {seeds}: thin lines are single seeds, thick ones their "
      "mean. Left as they are; right as whoever scales them sees them, on a logarithmic axis.",
    ),
    Picture(
      save(recovered, folder / "recovered.png"),
      "The points of the first seed, the true average of each class, and what the weights of each "
      f"of {seeds} say it is.",
    ),
  ]


def interval_text(cell: Mapping, digits: int = 4) -> str:
  """A mean with its interval, for people: `0.0059 (0.0036 to 0.0089)`."""
  mean = f"{_number(cell['mean'], digits)}"
  if cell["low"] is None:
    return mean
  return f"{mean} ({_number(cell['low'], digits)} to {_number(cell['high'], digits)})"


def _number(value: float, digits: int) -> str:
  """Fixed digits, without a minus before a zero."""
  return f"{round(value, digits) + 0.0:.{digits}f}"


def _cells(story: Story, attack: str) -> Mapping:
  return story.summary[story.settings.arm.name].get(attack, {})


def _lead(story: Story) -> list[str]:
  settings, outcome = story.settings, story.outcome
  num_classes, num_healthy = len(settings.means), int(outcome.healthy.sum())
  count = 2 * num_classes
  scaled = "the smallest is 0 and " if settings.normalize == "min-max" else ""
  models = "One model" if settings.num_seeds == 1 else f"{settings.num_seeds} models"
  lead = [
    f"{models}, each nothing but {count} numbers, learned to tell {num_classes} clouds of points "
    f"apart. Then we forgot the points, took the {count} numbers, and scaled them so that "
    f"{scaled}the largest is {settings.data_max:g}, the largest value of the data."
  ]
  if num_healthy:
    error = _cells(story, "reshape")["max_error"]
    what = "**Out come the average points of the classes**"
    if error["mean"] > _CLOSE * settings.data_max:
      what = "**Here the average points of the classes do not come out**"
    over = "" if num_healthy == 1 else f", mean over {num_healthy} seeds with its 95 % interval"
    lead.append(
      f"{what}: the largest error of any coordinate is {interval_text(error)}{over}. The classes' "
      f"averages are {_places(settings)}, and the points lie around them with a standard deviation "
      f"of {settings.spread:g}."
    )
  diverged = story.summary[settings.arm.name]["diverged"]
  if diverged:
    numbers = ", ".join(map(str, diverged))
    lead.append(f"**Seeds {numbers} diverged** and are in no mean and no figure.")
  return lead


def _places(settings: Settings) -> str:
  *some, last = (f"({x:g}, {y:g})" for x, y in settings.means)
  return f"{', '.join(some)} and {last}"


def _weights_section(story: Story, picture: Picture) -> Section:
  settings = story.settings
  text = [
    "The model gives each class a score: x times one weight plus y times another. w11 joins x to "
    "class 1, w12 joins x to class 2, w21 joins y to class 1, and so on. Training starts from "
    "small random weights, and the gradient moves them at every step **towards the points of the "
    "class and away from the points of the others**: it is a sum of points, nothing else.",
    "So the weights of a class are made of points. How large they are only tells how long and how "
    "fast the model was trained, and an attacker sets that right by scaling: **what counts is "
    "their ratios**, and the right-hand figure shows whether and when these become the data's.",
  ]
  if len(settings.means) == 2:
    final = story.outcome.final[story.outcome.healthy]
    sums = np.abs(final.sum(2)).mean(0)
    text.append(
      "Two classes that mirror each other have weights that do so too: after "
      f"{settings.steps} steps w11 + w12 is {sums[0]:.2g} in size and w21 + w22 is {sums[1]:.2g}, "
      "in the mean over seeds."
    )
  return Section("The weights through training", text, [picture])


def _recovered_section(story: Story, picture: Picture) -> Section:
  settings = story.settings
  healthy = story.outcome.healthy[: settings.kept]
  recovered = story.outcome.recovered[healthy].mean(0)
  cells, rows = _cells(story, "model"), []
  names = iter(figures.weight_names(*settings.shape))
  for i, feature in enumerate(FEATURES):
    for k, mean in enumerate(settings.means):
      rows.append(
        (
          f"{next(names)}: {feature} to class {k + 1}",
          interval_text(cells[f"weight_{feature}{k + 1}"]),
          _number(float(recovered[i, k]), 3),
          f"{mean[i]:g}",
        )
      )
  head = ("weight", f"after {settings.steps} steps (95 % interval)", "scaled", "true average")
  table = Table("Means over seeds.", head, rows)
  return Section("What is recovered", [_why(settings)], [picture], [table])


def _why(settings: Settings) -> str:
  """Whether the data's own shape helps, said of the means at hand."""
  middle = np.mean(settings.means, 0)
  mirrored = np.abs(middle).max() <= 1e-6 * max(settings.data_max, 1e-30)
  text = (
    "A class's weights are a sum of its own points less a sum of the others', so they point from "
    "the others towards the class. "
  )
  if settings.arm.optimizer.startswith("adam"):
    text += (
      f"But {settings.arm.optimizer} divides each weight's step by the size of its gradients, so "
      "that the ratios of the weights need not be those of the sum. "
    )
  if mirrored:
    return text + (
      "Here the classes' averages balance around the origin, so that this is the direction of "
      "the class's own average. The attacker needs to know no more than how large the data get."
    )
  return text + (
    f"Here the classes' averages do not balance around the origin (their middle is "
    f"({middle[0]:g}, {middle[1]:g})), so that this need not be the direction of the class's own "
    "average: what is recovered is what sets the classes apart."
  )


def _open_section(story: Story) -> Section:
  settings, hyper = story.settings, story.settings.arm.hyper
  batch = f"{settings.batch_size} points" if settings.batch_size else "all points"
  text = [
    "This follows the first experiment of Lab41's article “Uncovering a model's secrets” (2019). "
    "There the means are (2, 0) and (-2, 0), and after 10,000 steps of gradient descent the "
    "weights are 5.27, -5.25, 0.01 and 0.01.",
    "The article gives **neither the spread of the Gaussians, nor the learning rate, nor the "
    f"loss**. This run used a standard deviation of {settings.spread:g}, "
    f"{settings.points_per_class} points a class that each seed draws anew, the {settings.loss} "
    f"loss, {settings.arm.optimizer} at a learning rate of {hyper.learning_rate:g} with {batch} "
    f"at each of {settings.steps} steps, and initial weights scaled by {hyper.init_scale:g}. "
    "Other choices move the length of the weights.",
  ]
  return Section("What the article leaves open", text)


def _numbers_section(story: Story) -> Section:
  rows = []
  for attack, metrics in story.summary[story.settings.arm.name].items():
    if attack != "diverged":
      for metric, cell in metrics.items():
        ends = ["" if cell[end] is None else f"{cell[end]:.6g}" for end in ("low", "high")]
        rows.append((attack, metric, f"{cell['mean']:.6g}", *ends, str(cell["n"])))
  head = ("attack", "metric", "mean", "low", "high", "seeds")
  table = Table("Means over seeds, 95 % bootstrap intervals (BCa).", head, rows)
  return Section("All numbers", tables=[table], folded=True)
