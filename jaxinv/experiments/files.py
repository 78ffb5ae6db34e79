"""The files of an experiment: measurements, recovered images, weights and curves of every arm."""

from pathlib import Path

from jaxinv.experiments.outcome import Outcome, summarize
from jaxinv.models.params import flatten
from jaxinv.runs import files, tables


def write_outcome(out_dir: Path, outcome: Outcome) -> dict:
  """Writes an experiment's numbers and images.

  Args:
    out_dir: the run's folder.
    outcome: what came of the experiment.

  Returns:
    The summary, as recorded in summary.json.
  """
  summary = write_arms(out_dir, outcome)
  files.write_json(out_dir / "summary.json", summary)
  return summary


def write_arms(out_dir: Path, outcome: Outcome) -> dict:
  """Writes all of `write_outcome` but summary.json, which it returns."""
  for name, arm in outcome.arms.items():
    files.write_npz(out_dir / "recovered" / f"{name}.npz", arm.images)
    files.write_npz(out_dir / "weights" / f"{name}.npz", arm.arrays)
  means = {"train_mean": outcome.train_means[0], "train_mean_seeds": outcome.train_means}
  means |= {"holdout_mean": outcome.holdout_means[0]}
  means |= {"holdout_mean_seeds": outcome.holdout_means}
  files.write_npz(out_dir / "recovered" / "targets.npz", means)
  files.write_npz(out_dir / "splits.npz", outcome.splits)
  history = {}
  for name, arm in outcome.arms.items():
    history[f"{name}/step"] = outcome.steps
    history |= {f"{name}/{curve}": values for curve, values in arm.history.items()}
    history[f"{name}/watched"] = arm.frames
    history |= flatten({name: {**arm.trail, "identified": arm.identified}})
  files.write_npz(out_dir / "history.npz", history)
  tables.write_metrics(out_dir, {name: arm.measures for name, arm in outcome.arms.items()})
  return summarize(outcome)
