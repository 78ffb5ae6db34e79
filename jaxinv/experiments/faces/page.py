"""The page of an experiment on faces: its figures, and the numbers its template is filled with."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxinv.experiments.faces import figures
from jaxinv.experiments.faces.animation import write_animation
from jaxinv.experiments.faces.pose import PoseSweep
from jaxinv.experiments.faces.shares import Shares, find_shares
from jaxinv.experiments.outcome import Outcome
from jaxinv.experiments.settings import Arm, optimizer_name
from jaxinv.metrics import stats
from jaxinv.metrics.metric import DEFAULT
from jaxinv.runs import page
from jaxinv.runs.figures import save, save_all
from jaxinv.runs.tables import cell, number_rows
from jaxinv.runs.text import number
from jaxinv.types import Dataset, Hyper

# Below this much centred NCC a picture reads as noise to most people, above the other as a face;
# only words depend on it, no number does.
_NOISE, _FACE = 0.35, 0.6


class PageData(NamedTuple):
  """All that the page is of.

  Attributes:
    dataset: the faces.
    outcome: what came of the experiment.
    summary: its means and intervals.
    config: what config.json holds.
    people: classes shown first; the watched one leads.
    arms: the ways of training.
    command: the command line that makes this run.
    pose: the sweep over pose, where one was made.
  """

  dataset: Dataset
  outcome: Outcome
  summary: Mapping
  config: Mapping
  people: Sequence[int]
  arms: Sequence[Arm]
  command: str
  pose: PoseSweep | None = None


def write_page(out_dir: Path, data: PageData) -> Path:
  """Draws all figures and writes report.html.

  Args:
    out_dir: the run's folder.
    data: what the page is of.

  Returns:
    The page's path.
  """
  dataset, flags = data.dataset, data.config["flags"]
  drawn = draw(out_dir / "figures", data)
  values = {
    "command": data.command,
    "config": data.config,
    "credit": dataset.credit,
    "figures": drawn,
    "num_people": dataset.num_classes,
    "num_photographs": len(dataset.labels) - dataset.num_classes * flags["holdout"],
    "num_seeds": flags["num_seeds"],
    "is_drawn": dataset.drawn,
    "are_named": bool(flags["people"]),
    "watched": dataset.names[data.people[0]],
    "chance": 1 / dataset.num_classes,
    "number_rows": number_rows(data.summary, partial(number, digits=4)),
    **_arms(data),
    **_shares(data),
    "pose": _pose(data.pose),
  }
  return page.write_page(out_dir / "report.html", __package__, values)


def draw(folder: Path, data: PageData) -> dict[str, Path]:
  """Draws the figures into a folder; returns their files by name."""
  outcome, names = data.outcome, data.dataset.names
  everybody = range(data.dataset.num_classes)
  blocks = max(1, min(2, len(names) // 8))
  drawn = {
    "people": figures.people_figure(outcome, names, data.people),
    "curves": figures.curves_figure(outcome),
    "measures": figures.measures_figure(outcome, data.summary),
  }
  if data.config["flags"]["hidden"]:
    drawn["units"] = figures.units_figure(outcome, data.dataset.image_shape)
  if found := _made_of_photographs(data):
    drawn["shares"] = figures.shares_figure(found[1])
  if data.pose:
    drawn["pose"] = _draw_pose(data.pose)
  saved = save_all(drawn, folder)
  # Everybody at once is for a glance: at full size the noise alone would take megabytes.
  all_people = figures.people_figure(outcome, names, everybody, blocks)
  saved["all_people"] = save(all_people, folder / "all_people.png", dpi=65)
  saved["training"] = folder / "training.gif"
  write_animation(saved["training"], outcome, outcome.train_means[0, data.people[0]])
  return saved


def _draw_pose(pose: PoseSweep):
  measures = {
    "with the class average": pose.to_average,
    "with a single photograph": pose.to_photograph,
  }
  return figures.pose_figure(pose.poses, measures, pose.averages, pose.recovered)


def _arms(data: PageData) -> dict[str, Any]:
  """What is said of each arm, and of each against the first."""
  outcome, summary = data.outcome, data.summary
  own = [metric.label for metric in outcome.metrics if metric not in DEFAULT]
  return {
    "arms": [_arm(summary, arm) for arm in outcome.arms],
    "diverged": {arm: s["diverged"] for arm, s in summary.items() if s["diverged"]},
    "attacks": [f"{attack.label} ({attack.name})" for attack in figures.single(outcome.attacks)],
    "own_metrics": own,
    "comparisons": _comparisons(outcome),
    **_hyper_table(data.arms),
  }


def _arm(summary: Mapping, arm: str) -> dict[str, Any]:
  """One arm: what an attacker sees, and what it is good for."""

  def mean(attack: str, metric: str) -> float | None:
    found = cell(summary, arm, attack, metric)
    return None if found is None else found.mean

  plain, more = mean("reshape", "ncc_centred"), mean("init_diff", "ncc_centred")
  finished = plain is not None and more is not None
  return {
    "name": arm,
    "finished": finished,
    "plain": plain,
    "more": more,
    "view": _view(plain) if finished else "",
    "view_less_initial": _view(more) if finished else "",
    "is_covered": finished and plain < _FACE <= more,
    "train": mean("model", "train_accuracy"),
    "holdout": mean("model", "holdout_accuracy"),
    "identified": mean("init_diff", "identification"),
  }


def _view(correlation: float) -> str:
  if correlation >= _FACE:
    return "face"
  return "noise" if correlation < _NOISE else "veiled"


def _comparisons(outcome: Outcome) -> list[tuple[str, str, list[tuple[str, stats.Interval]]]]:
  """Each arm against the first, paired by seed: by attack, where there is an interval."""
  first, *others = outcome.arms
  compared = []
  for arm in others:
    differences = []
    for attack in figures.single(outcome.attacks):
      measured = [outcome.arms[a].measures.get(attack.name, {}) for a in (arm, first)]
      if all("ncc_centred" in measures for measures in measured):
        found = stats.paired_difference(*(measures["ncc_centred"] for measures in measured))
        differences += [(attack.label, found)] if found.low is not None else []
    compared += [(arm, first, differences)] if differences else []
  return compared


def _hyper_table(arms: Sequence[Arm]) -> dict[str, Any]:
  """How the arms were trained: their rates, and what else some arm has beside its default."""
  usual = Hyper()._replace(learning_rate=None)._asdict()
  shown = [name for name in usual if any(getattr(a.hyper, name) != usual[name] for a in arms)]
  rows = [
    (arm.name, optimizer_name(arm), *(f"{getattr(arm.hyper, name):g}" for name in shown))
    for arm in arms
  ]
  return {"hyper_head": ("arm", "optimizer", *shown), "hyper_rows": rows}


def _made_of_photographs(data: PageData) -> tuple[str, list[Shares]] | None:
  """The first arm that was trained in the span of the data, and what its faces are made of."""
  for name, arm in data.outcome.arms.items():
    if "coefficients" in arm.arrays and arm.healthy[0]:
      train = data.outcome.splits["train"][0]
      return name, [find_shares(data.dataset, arm, train, i) for i in data.people[:3]]
  return None


def _shares(data: PageData) -> dict[str, Any]:
  found = _made_of_photographs(data)
  if found is None:
    return {"shares": []}
  left = float(data.outcome.arms[found[0]].arrays["init_share"][0])
  return {"shares": found[1], "shares_arm": found[0], "shares_left": left}


def _pose(pose: PoseSweep | None) -> dict[str, Any] | None:
  """The ends of the sweep: the scales, and the means over seeds."""
  if pose is None:
    return None
  ends = {"to_average": pose.to_average, "to_photograph": pose.to_photograph}
  means = {name: values.mean(1)[[0, -1]].tolist() for name, values in ends.items()}
  return {"scales": (pose.poses[0], pose.poses[-1]), **means}
