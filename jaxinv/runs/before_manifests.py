"""Runs of versions that kept no manifest: known by their config.json, and by their files' names."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from jaxinv.runs.files import read_json

_KEYS = ("command", "flags", "versions", "device", "precision", "git_revision", "complete")
_FILES = (
  *("config.json", "metrics.csv", "summary.json", "history.npz", "splits.npz", "trajectory.npz"),
  *("cells.csv", "paired.csv", "photographs.csv", "report.html", "benchmark.json"),
  *("benchmark.csv", "verdict.txt", "pose.json", "audit.json", "recovered.npz", "power.csv"),
)
_FIGURES = (
  *("accuracy", "all_people", "attackers", "clearest", "curves", "grid", "kernels", "measures"),
  *("memorisation", "most_exposed", "neighbours", "people", "phase", "photographs", "pose"),
  *("power", "recognition", "recovered", "restarts", "scores", "seed_mean", "shares", "throughput"),
  *("through_training", "units", "verdicts", "weights"),
)
_GROUP = r"((cells|halves|shuffled)/)?[^/]*-\d{5,7}(-of-\d+)?"
_CHECKPOINT = rf"{_GROUP}(/(step|partial)-\d{{8}}/(arrays\.npz|sha256\.json)|\.npz|\.sha256)"


def is_config(config: Mapping) -> bool:
  """Whether this program wrote a configuration."""
  return (
    all(key in config for key in _KEYS)
    and str(config["command"]).startswith("launch.")
    and isinstance(config["versions"], Mapping)
    and "jax" in config["versions"]
  )


def files_of(out_dir: Path, config: Mapping) -> list[str]:
  """The files that such a run is known to have written, relative to its folder.

  Args:
    out_dir: the run's folder.
    config: what its config.json holds.

  Returns:
    Those that are there; nothing whose name the run did not give.
  """
  arms = _arms(out_dir, config)
  figures = "|".join(map(re.escape, [*_FIGURES, *(f"neighbours-{arm}" for arm in arms)]))
  arrays = "|".join(map(re.escape, [*arms, *(f"{arm}.untrained" for arm in arms)]))
  known = re.compile(
    "|".join(map(re.escape, _FILES))
    + rf"|figures/({figures}|images_\d+|grid-\w+)\.png|figures/training\.gif"
    + rf"|(recovered|weights|logits)/({arrays}|targets|verifier)\.npz"
    + rf"|checkpoints/({_CHECKPOINT})"
  )
  # Links are not followed: what lies behind them is not in this folder.
  found = (
    (Path(folder) / name).relative_to(out_dir).as_posix()
    for folder, _, names in os.walk(out_dir)
    for name in names
  )
  return sorted(name for name in found if known.fullmatch(name))


def _arms(out_dir: Path, config: Mapping) -> list[str]:
  """The names of a run's arms: those asked for, those it planned, and those it reported."""
  asked = config["flags"].get("arm") or []
  names = [str(arm).partition(":")[0] for arm in asked] if isinstance(asked, list) else []
  for found in (config.get("engines"), read_json(out_dir / "summary.json")):
    names += found if isinstance(found, Mapping) else []
  return list(dict.fromkeys(names))
