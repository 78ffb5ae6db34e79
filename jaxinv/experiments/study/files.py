"""The files that a study writes beside those of every run."""

from pathlib import Path

import numpy as np

from jaxinv.experiments.files import write_arms
from jaxinv.experiments.outcome import ArmOutcome, summarize
from jaxinv.experiments.study.photographs import controls
from jaxinv.experiments.study.photographs.controls import PoseStudy
from jaxinv.experiments.study.study import CONTROLS, StudyResult, StudySpec
from jaxinv.runs import files
from jaxinv.runs.tables import exact, measurements, plain, write_csv
from jaxinv.types import Dataset


def write_study(out_dir: Path, spec: StudySpec, result: StudyResult, dataset: Dataset) -> dict:
  """Writes a study's numbers, images and weights.

  Args:
    out_dir: the run's folder.
    spec: of the study.
    result: what came of it.
    dataset: the photographs.

  Returns:
    The summary, as recorded in summary.json.
  """
  summary = write_arms(out_dir, result.outcome)
  for name, verdict in result.verdicts.items():
    summary[name]["verdict"] = plain(verdict._asdict())
  for name, promised in result.epsilons.items():
    summary[name]["epsilon"] = plain(
      {"epsilon": promised.photograph, "delta": spec.delta, **promised._asdict()}
    )
  for name, arm in result.outcome.arms.items():
    summary[name]["seed_mean_of"] = plain(arm.prefixes)
    summary[name]["identified"] = {
      attack: {"step": times.step, "holdout_accuracy": times.accuracy}
      for attack, times in result.identified[name].items()
    }
  write_cells(out_dir, spec, result)
  write_paired(out_dir, result)
  if result.control is not None:
    _write_controls(out_dir, result, dataset)
    table = controls.summarize_leaks(result.leaks)
    table["wrong memberships"] = controls.summarize_leaks({"": result.chance})[""]
    others = summarize(result.control) | summarize(result.shuffled)
    people = {name: {attack: others[name][attack] for attack in others[name]} for name in others}
    summary[CONTROLS] = plain({"photographs": table, "people": people})
  files.write_json(out_dir / "summary.json", summary)
  return summary


def write_cells(out_dir: Path, spec: StudySpec, result: StudyResult) -> None:
  """Writes cells.csv: one row a cell, seed, attack and metric, at the end."""
  keys = list(dict.fromkeys(key for cell in spec.cells for key in cell.values))
  rows = []
  for cell in spec.cells:
    where = [cell.arm.name, cell.base, *(f"{cell.values[key]:g}" for key in keys)]
    measures = result.outcome.arms[cell.arm.name].measures
    rows += [[*where, *row] for row in measurements(measures)]
  head = ["cell", "arm", *keys, "seed", "attack", "metric", "value"]
  write_csv(out_dir / "cells.csv", head, rows)


def write_paired(out_dir: Path, result: StudyResult) -> None:
  """Writes paired.csv: each cell's difference from the baseline, with its interval."""
  rows = [
    [row.arm, row.when, row.attack, row.metric, *map(exact, row.difference)]
    for row in result.rows
    if row.difference.mean is not None
  ]
  write_csv(
    out_dir / "paired.csv", ["cell", "when", "attack", "metric", "mean", "low", "high", "n"], rows
  )


def _write_controls(out_dir: Path, result: StudyResult, dataset: Dataset) -> None:
  """Writes logits/ of the control models, and photographs.csv."""
  for name, arm in result.control.arms.items():
    files.write_npz(out_dir / "logits" / f"{name}.npz", _logits(arm, result))
  rows = []
  members, chosen = result.halves.members, result.halves.candidates
  for name, found in result.leaks.items():
    if found is None:
      continue
    attack = controls.best_inversion(found)
    for place, i in enumerate(chosen):
      label = dataset.labels[i]
      inside = int(members[:, i].sum())
      scores = found.shown[attack][place], found.answered[place]
      aucs = (found.tests[t].by_photograph[place] for t in (f"similarity/{attack}", "lira"))
      where = [name, i, dataset.names[label], int((dataset.labels[:i] == label).sum())]
      counts = [inside, len(members) - inside]
      rows.append([*where, *counts, attack, *map(exact, (*scores, *aucs))])
  head = ["arm", "photograph", "person", "number", "in", "out", "attack"]
  scores = ["shown", "answered", "inversion_auc", "lira_auc"]
  write_csv(out_dir / "photographs.csv", [*head, *scores], rows)


def _logits(arm: ArmOutcome, result: StudyResult) -> dict[str, np.ndarray]:
  """An arm's logits of all examples, and who was in whose training set."""
  return {
    "logits": arm.details["logits"],
    "members": result.halves.members,
    "holdout": result.halves.population,
    "healthy": arm.healthy,
  }


def write_pose(out_dir: Path, pose: PoseStudy) -> None:
  """Writes pose.json: the scales, leakage of people by seed, and AUC of photographs."""
  files.write_json(out_dir / "pose.json", plain(pose._asdict()))
