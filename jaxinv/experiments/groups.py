"""Groups of runs: trained, checkpointed, examined, and reduced to what is kept.

The way of a group: initial states, chunks of steps with a record after each, checkpoints, then
what its models give away. A finished group is one small file, so that a run that was stopped
goes on where it was.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxinv.ensemble import mapping
from jaxinv.ensemble.program import Progress, start_group, train_group
from jaxinv.ensemble.seeds import train_keys
from jaxinv.experiments.experiment import Engine, Group, Lab, lesson, places, remembers, split_of
from jaxinv.experiments.leakage import SNAPSHOT_AXES
from jaxinv.experiments.settings import Settings
from jaxinv.models.params import flatten
from jaxinv.runs import checkpoint, files
from jaxinv.types import Data, Hyper, Params, Record, Snapshot, TrainState

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


class _Scene(NamedTuple):
  """A group while it is trained, and all that is needed to look at it.

  Attributes:
    lab: the experiment.
    group: who is trained.
    data: examples and splits, on the devices.
    hypers: each run's hyperparameters.
    firsts: the parameters before the first step.
  """

  lab: Lab
  group: Group
  data: Data
  hypers: Hyper
  firsts: Params

  @property
  def engine(self) -> Engine:
    """What trains it."""
    return self.lab.engines[self.group.engine]


class _Past(NamedTuple):
  """What is carried along a group's training beside its states.

  Attributes:
    trail: what was looked at with each record, on the host; leaves [t, ...].
    earlier: the models at the last record, where an attack needs them.
  """

  trail: dict[str, np.ndarray]
  earlier: Snapshot | None


def _run_group(lab: Lab, group: Group, store: Path | None, host: Host) -> Result:
  settings, engine = lab.settings, lab.engines[group.engine]
  arms, seeds = zip(*mapping.pad(group.runs, group.width), strict=True)
  keys = train_keys(settings.root_seed, seeds)
  hypers = mapping.stack_hypers([settings.arms[arm].hyper for arm in arms])
  data = mapping.shard(split_of(lab, seeds), mapping.SHARED_DATA, group.width)
  keys, hypers = (mapping.shard(x, 0, group.width) for x in (keys, hypers))
  taught = lesson(lab, data, seeds)

  folder = store / _name(group) if store else None
  progress = start_group(engine.program, keys, hypers, taught)
  scene = _Scene(lab, group, data, hypers, mapping.copied(progress.states.params))
  past = _look(scene, progress.states, _snapshot(lab, progress.states))
  stored = checkpoint.restore(folder, (progress, past), host.say) if folder else None
  if stored is not None:
    states = mapping.shard(stored[0].states, mapping.STATE_AXES, group.width)
    progress = stored[0]._replace(states=states)
    past = stored[1]._replace(
      earlier=mapping.shard(stored[1].earlier, SNAPSHOT_AXES, group.width)
      if stored[1].earlier
      else None
    )
  real_runs = len(group.runs)
  host.advanced(_title(lab, group), int(progress.states.step) * real_runs)
  keep = keeper(folder, host, _title(lab, group))
  before = _snapshot(lab, progress.states)

  def look(progress: Progress, length: int) -> None:
    nonlocal past, before
    new = _look(scene, progress.states, before)
    trail = {name: np.concatenate([past.trail[name], new.trail[name]]) for name in new.trail}
    past, before = _Past(trail, before), _snapshot(lab, progress.states)
    host.advanced(_title(lab, group), length * real_runs)
    keep(int(progress.states.step), (progress, past))

  progress = train_group(
    engine.program, progress, hypers, taught, settings.steps, settings.record_every, look
  )
  result = _harvest(lab, group, progress.history, past.trail)
  result |= _measure(scene, progress.states, past.earlier, result["finite"])
  result |= _saved(scene, progress.states, past.earlier, result["saved"])
  if store:
    save_whole(_finished(store, group), result)
    checkpoint.discard(folder)
  return result


def keeper(folder: Path | None, host: Host, title: str) -> Callable[[int, Any], None]:
  """What to call after each chunk: saves a group where it is time to, and stops where asked.

  Args:
    folder: of its checkpoints; None to keep nothing.
    host: says when.
    title: of the group, for people.

  Returns:
    A function of the step and of all that resuming needs; raises Stopped.
  """
  last_save = time.monotonic()

  def keep(step: int, tree: Any) -> None:
    nonlocal last_save
    stop = host.stop()
    if folder and (stop or time.monotonic() - last_save >= host.checkpoint_seconds):
      checkpoint.save(folder, step, tree)
      last_save = time.monotonic()
    if stop:
      raise Stopped(f"stopped at step {step} of {title}")

  return keep


def _snapshot(lab: Lab, states: TrainState) -> Snapshot | None:
  """The models as they are now, where an attack will need them after the next record."""
  if not remembers(lab.settings):
    return None
  return mapping.copied(Snapshot(states.params, states.step))


def _look(scene: _Scene, states: TrainState, earlier: Snapshot | None) -> _Past:
  """What there is to see of a group at a record."""
  trail = {"frames": _frames(scene, states)}
  if scene.lab.settings.glances:
    seen = scene.engine.glance(scene.firsts, states, scene.data, scene.hypers, earlier)
    values, details = jax.device_get(seen)
    real = len(scene.group.runs)
    for attack, measures in values.items():
      trail |= {f"{attack}/{name}": value[None, :real] for name, value in measures.items()}
    trail |= {name: value[None, :real] for name, value in details.items()}
  return _Past(trail, earlier)


def _title(lab: Lab, group: Group) -> str:
  """Which arms and seeds a group trains, for people."""
  names = [lab.settings.arms[arm].name for arm in dict.fromkeys(arm for arm, _ in group.runs)]
  seeds = [seed for _, seed in group.runs]
  return f"{', '.join(names)}: seeds {min(seeds)} to {max(seeds)}"


def _watched(group: Group) -> list[int]:
  """Places in the group of each arm's first seed."""
  return [i for i, (_, seed) in enumerate(group.runs) if seed == 0]


def _frames(scene: _Scene, states: TrainState) -> np.ndarray:
  """Weights of the watched class now, of each arm's first seed in the group: [1, arms, p]."""
  watch, chosen = scene.engine.watch, scene.lab.settings.watch
  frames = [watch(states, scene.data, i, chosen) for i in _watched(scene.group)]
  # A group without a first seed keeps one zero: checkpoints hold no empty arrays.
  return np.stack(jax.device_get(frames))[None] if frames else np.zeros((1, 1, 1), np.float32)


def _harvest(lab: Lab, group: Group, history: Record, trail: dict[str, np.ndarray]) -> Result:
  """What is kept of a group's training: who they were, curves of all, frames of the first seeds."""
  arms, seeds = (np.array(column) for column in zip(*group.runs, strict=True))
  real = len(group.runs)
  saved = np.flatnonzero(seeds < lab.settings.save_seeds)
  result = {"arm": arms, "seed": seeds, "saved": saved}
  result["finite"] = history.finite[:, :real].all(0)
  for name, values in history._asdict().items():
    result[f"history/{name}"] = values[:, :real]
  for place, i in enumerate(_watched(group)):
    result[f"frames/{arms[i]}"] = trail["frames"][:, place]
  return result | {f"trail/{name}": trail[name] for name in trail if name != "frames"}


def _measure(
  scene: _Scene, states: TrainState, earlier: Snapshot | None, healthy: np.ndarray
) -> Result:
  """The measures of all models, and sums of the class weights of the healthy ones."""
  settings, group = scene.lab.settings, scene.group
  padding, real = group.width - len(group.runs), len(group.runs)
  wanted = [f"{arm}/{_prefix(settings, seed)}" for arm, seed in group.runs]
  sums = list(dict.fromkeys(wanted))
  place = np.array([sums.index(name) for name in wanted] + [0] * padding, np.int32)
  # What only fills the group up counts as unhealthy, so that no sum has it.
  healthy = np.concatenate([healthy, np.zeros(padding, bool)])
  measure = scene.engine.measure(places(settings, group.width))
  measured = measure(scene.firsts, states, scene.data, place, healthy, scene.hypers, earlier)
  measured = jax.device_get(measured)
  result = {}
  for attack, measures in measured.measures.items():
    for name, values in measures.items():
      result[f"measures/{attack}/{name}"] = values[:real]
  totals = measured.sums.sum(0, np.float64)
  for name, total in zip(sums, totals[: len(sums)], strict=True):
    if healthy[place == sums.index(name)].any():
      result[f"sum/{name}"] = total.astype(np.float32)
  if settings.photographs:
    result |= {f"details/{name}": values[:real] for name, values in measured.details.items()}
  return result


def _prefix(settings: Settings, seed: int) -> int:
  """Which sum of weights a seed is in: the n-th holds the seeds from 2^(n - 1) to 2^n - 1."""
  return seed.bit_length() if settings.prefixes else 0


def _saved(
  scene: _Scene, states: TrainState, earlier: Snapshot | None, saved: np.ndarray
) -> Result:
  """Images, weights and whatever else is kept of the first seeds."""
  rows = [_arrays(scene, states, earlier, int(i)) for i in saved]
  if not rows:
    return {}
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _arrays(scene: _Scene, states: TrainState, earlier: Snapshot | None, i: int) -> Result:
  """What is kept of one model."""
  examine = scene.engine.examine
  findings = jax.device_get(examine(scene.firsts, states, scene.data, i, scene.hypers, earlier))
  row = {name: getattr(findings, name) for name in ("weights", "init_weights", "bias")}
  row |= {f"images/{attack}": images for attack, images in findings.images.items()}
  row |= {f"extras/{name}": array for name, array in findings.extras.items()}
  if scene.lab.settings.hidden:
    for name in ("params", "init_params"):
      row |= {f"{name}/{path}": leaf for path, leaf in flatten(getattr(findings, name)).items()}
  return row


def _finished(store: Path, group: Group) -> Path:
  return store / f"{_name(group)}.npz"


def _name(group: Group) -> str:
  """What its files are called; with another width the same number would be other runs."""
  return f"group-{group.index:05d}-of-{group.width}"


def _load(store: Path | None, group: Group, host: Host) -> Result | None:
  """A finished group, or None where it is not there or damaged, which is said."""
  return load_whole(_finished(store, group), host.say) if store else None


def save_whole(path: Path, arrays: Result) -> None:
  """Writes arrays, and last their digest beside them: they are finished when that is there."""
  files.write_npz(path, arrays)
  files.write_text(path.with_suffix(".sha256"), _digest(path))


def _digest(path: Path) -> str:
  """A file's SHA-256 and its name, so that none is taken for another."""
  return f"{files.sha256(path)} {path.name}"


def load_whole(path: Path, say: Callable[[str], None]) -> Result | None:
  """Arrays that `save_whole` wrote, or None where they are not there or damaged, which is said."""
  digest = path.with_suffix(".sha256")
  if not digest.exists():
    return None
  try:
    if _digest(path) != digest.read_text():
      raise ValueError("it is not the file that was saved")
    return files.read_npz(path)
  except (OSError, ValueError) as error:
    say(f"{path} is damaged ({error}); it is made again")
    return None
