"""Groups of runs: trained, checkpointed, examined, and reduced to what is kept.

The way of a group: initial states, chunks of steps with a record after each, checkpoints, then
what its models give away. A finished group is one small file, so that a run that was stopped
goes on where it was.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxinv import checkpoint, ensemble, files
from jaxinv.experiment import Group, Lab, places, split_of
from jaxinv.types import Data, Record

# What is kept of a finished group: named arrays, see `_harvest`.
Result = dict[str, np.ndarray]


class Host(NamedTuple):
  """What the host does while the devices work; each may do nothing.

  Attributes:
    advanced: (text, run_steps) -> None, told how many steps of how many runs were taken.
    say: (line) -> None, told what the user should know.
    stop: () -> bool, asked between chunks.
    checkpoint_seconds: time between checkpoints; 0 for one after every chunk.
  """

  advanced: Callable[[str, int], None] = lambda text, run_steps: None
  say: Callable[[str], None] = lambda line: None
  stop: Callable[[], bool] = lambda: False
  checkpoint_seconds: float = 10.0


class Stopped(Exception):
  """The host asked to stop; what was done is saved."""


def run_groups(lab: Lab, groups: Sequence[Group], store: Path | None, host: Host) -> list[Result]:
  """Trains and examines every group that is not finished yet.

  Args:
    lab: what to do.
    groups: the plan.
    store: folder for checkpoints and finished groups; None to keep nothing.
    host: progress, messages, when to stop.

  Returns:
    What is kept of each group, in the plan's order.

  Raises:
    Stopped: the host asked for it; the state is in the store.
  """
  results = []
  for group in groups:
    done = _load(store, group, host)
    if done is None:
      done = _run_group(lab, group, store, host)
    else:
      host.advanced(_title(lab, group), lab.settings.steps * len(group.runs))
    results.append(done)
  return results


def _run_group(lab: Lab, group: Group, store: Path | None, host: Host) -> Result:
  settings, engine = lab.settings, lab.engines[group.optimizer]
  arms, seeds = zip(*ensemble.pad(group.runs, group.width), strict=True)
  keys = ensemble.train_keys(settings.root_seed, seeds)
  hypers = ensemble.stack_hypers([settings.arms[arm].hyper for arm in arms])
  data = ensemble.shard(split_of(lab, seeds), engine.program.data_axes, group.width)
  keys, hypers = (ensemble.shard(x, 0, group.width) for x in (keys, hypers))

  folder = store / _name(group) if store else None
  progress = ensemble.start_group(engine.program, keys, hypers, data)
  firsts = ensemble.copied(progress.states.params)
  frames = [_frames(lab, group, progress, data)]
  stored = checkpoint.restore(folder, (progress, frames[0]), host.say) if folder else None
  if stored is not None:
    states = ensemble.shard(stored[0].states, ensemble.STATE_AXES, group.width)
    progress, frames = stored[0]._replace(states=states), [stored[1]]
  real_runs = len(group.runs)
  host.advanced(_title(lab, group), int(progress.states.step) * real_runs)
  last_save = time.monotonic()

  def look(progress: ensemble.Progress, length: int) -> None:
    nonlocal last_save
    frames[:] = [np.concatenate([*frames, _frames(lab, group, progress, data)])]
    host.advanced(_title(lab, group), length * real_runs)
    stop = host.stop()
    if folder and (stop or time.monotonic() - last_save >= host.checkpoint_seconds):
      checkpoint.save(folder, int(progress.states.step), (progress, frames[0]))
      last_save = time.monotonic()
    if stop:
      raise Stopped(f"stopped at step {int(progress.states.step)} of {_title(lab, group)}")

  progress = ensemble.train_group(
    engine.program, progress, hypers, data, settings.steps, settings.record_every, look
  )
  models = (firsts, progress.states, data)
  result = _harvest(lab, group, progress.history, frames[0])
  result |= _measure(lab, group, models, result["finite"])
  result |= _saved(lab, group, models, result["saved"])
  if store:
    files.write_npz(_finished(store, group), result)
    # Written last, so that a group is finished when this is there.
    files.write_text(_digest(store, group), files.sha256(_finished(store, group)))
    shutil.rmtree(folder, ignore_errors=True)
  return result


def _title(lab: Lab, group: Group) -> str:
  """Which arms and seeds a group trains, for people."""
  names = [lab.settings.arms[arm].name for arm in dict.fromkeys(arm for arm, _ in group.runs)]
  seeds = [seed for _, seed in group.runs]
  return f"{', '.join(names)}: seeds {min(seeds)} to {max(seeds)}"


def _watched(group: Group) -> list[int]:
  """Places in the group of each arm's first seed."""
  return [i for i, (_, seed) in enumerate(group.runs) if seed == 0]


def _frames(lab: Lab, group: Group, progress: ensemble.Progress, data: Data) -> np.ndarray:
  """Weights of the watched class now, of each arm's first seed in the group: [1, arms, p]."""
  watch = lab.engines[group.optimizer].watch
  frames = [watch(progress.states, data, i, lab.settings.watch) for i in _watched(group)]
  # A group without a first seed keeps one zero: checkpoints hold no empty arrays.
  return np.stack(jax.device_get(frames))[None] if frames else np.zeros((1, 1, 1), np.float32)


def _harvest(lab: Lab, group: Group, history: Record, frames: np.ndarray) -> Result:
  """What is kept of a group's training: who they were, curves of all, frames of the first seeds."""
  arms, seeds = (np.array(column) for column in zip(*group.runs, strict=True))
  real = len(group.runs)
  saved = np.flatnonzero(seeds < lab.settings.save_seeds)
  result = {"arm": arms, "seed": seeds, "saved": saved}
  result["finite"] = history.finite[:, :real].all(0)
  for name, values in history._asdict().items():
    result[f"history/{name}"] = values[:, :real]
  for place, i in enumerate(_watched(group)):
    result[f"frames/{arms[i]}"] = frames[:, place]
  return result


def _measure(lab: Lab, group: Group, models, healthy: np.ndarray) -> Result:
  """The measures of all models, and by arm the sum of the class weights of the healthy ones."""
  engine, padding = lab.engines[group.optimizer], group.width - len(group.runs)
  arms = list(dict.fromkeys(arm for arm, _ in group.runs))
  place = np.array([arms.index(arm) for arm, _ in group.runs] + [0] * padding, np.int32)
  # What only fills the group up counts as unhealthy, so that no sum has it.
  healthy = np.concatenate([healthy, np.zeros(padding, bool)])
  measure = engine.measure(places(lab.settings, group.width))
  measured = jax.device_get(measure(*models, place, healthy))
  result = {}
  for attack, measures in measured.measures.items():
    for name, values in measures.items():
      result[f"measures/{attack}/{name}"] = values[: len(group.runs)]
  for arm, total in zip(arms, measured.sums.sum(0, np.float64), strict=False):
    if healthy[place == arms.index(arm)].any():
      result[f"sum/{arm}"] = total
  return result


def _saved(lab: Lab, group: Group, models, saved: np.ndarray) -> Result:
  """Images, weights and whatever else is kept of the first seeds."""
  rows = [_arrays(lab, group, models, int(i)) for i in saved]
  if not rows:
    return {}
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _arrays(lab: Lab, group: Group, models, i: int) -> Result:
  """What is kept of one model."""
  findings = jax.device_get(lab.engines[group.optimizer].examine(*models, i))
  row = {name: getattr(findings, name) for name in ("weights", "init_weights", "bias")}
  row |= {f"images/{attack}": images for attack, images in findings.images.items()}
  row |= {f"extras/{name}": array for name, array in findings.extras.items()}
  if lab.settings.hidden:
    for name in ("params", "init_params"):
      for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(findings, name)):
        row[f"{name}/{jax.tree_util.keystr(path, simple=True, separator='/')}"] = leaf
  return row


def _finished(store: Path, group: Group) -> Path:
  return store / f"{_name(group)}.npz"


def _name(group: Group) -> str:
  """What its files are called; with another width the same number would be other runs."""
  return f"group-{group.index:05d}-of-{group.width}"


def _digest(store: Path, group: Group) -> Path:
  return _finished(store, group).with_suffix(".sha256")


def _load(store: Path | None, group: Group, host: Host) -> Result | None:
  """A finished group, or None where it is not there or damaged, which is said."""
  if store is None or not _digest(store, group).exists():
    return None
  path = _finished(store, group)
  try:
    if files.sha256(path) != _digest(store, group).read_text():
      raise ValueError("it is not the file that was saved")
    return files.read_npz(path)
  except (OSError, ValueError) as error:
    host.say(f"finished group {path} is damaged ({error}); it is trained again")
    return None
