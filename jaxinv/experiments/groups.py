"""The groups of an experiment: what is looked at while they train, and what is kept of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxinv.ensemble import mapping, program
from jaxinv.ensemble.groups import Host, Task, Training, Tree, run_task
from jaxinv.experiments.engines import Engine
from jaxinv.experiments.experiment import Experiment, remembers, split_of
from jaxinv.experiments.experiment import training_labels as taught_to
from jaxinv.experiments.planning import BLOCKS, Group, places
from jaxinv.experiments.settings import Settings
from jaxinv.types import Snapshot, Trained


class GroupResult(NamedTuple):
  """What is kept of a finished group, s runs of which v are saved.

  Attributes:
    arm: index of each run's arm.
    seed: each run's seed.
    saved: places in the group of the runs whose weights and images are kept.
    finite: whether a run's losses and parameters stayed finite.
    history: by name, [t, s].
    frames: weights of the watched class at each record, by arm, of the first seeds here [t, p].
    measures: by attack, by metric, [s].
    sums: by arm, by `sum_of` its seeds, the class weights of healthy models added up, [k, p].
    trail: measures at every record, by attack, by metric, [t, s].
    trail_details: what is more than a number at every record: `identified` and
      `by_person` by attack [t, s, k].
    details: what is more than a number at the end, see `leakage.Findings`; leaves [s, ...].
    images: by attack, [v, k, h, w].
    arrays: weights and what else is kept of the saved runs; leaves [v, ...].
  """

  arm: np.ndarray
  seed: np.ndarray
  saved: np.ndarray
  finite: np.ndarray
  history: Tree
  measures: Tree
  frames: Tree = {}  # noqa: RUF012, as nobody changes it; nor those below.
  sums: Tree = {}  # noqa: RUF012
  trail: Tree = {}  # noqa: RUF012
  trail_details: Tree = {}  # noqa: RUF012
  details: Tree = {}  # noqa: RUF012
  images: Tree = {}  # noqa: RUF012
  arrays: Tree = {}  # noqa: RUF012


def run_groups(
  experiment: Experiment, groups: Sequence[Group], store: Path | None, host: Host
) -> list[GroupResult]:
  """Trains and examines every group that is not finished yet.

  Args:
    experiment: what to do.
    groups: the plan.
    store: folder for checkpoints and finished groups; None to keep nothing.
    host: progress, messages, when to stop.

  Returns:
    What is kept of each group, in the plan's order.

  Raises:
    Stopped: the host asked for it; the state is in the store.
  """
  return [GroupResult(**run_task(_task(experiment, group), store, host)) for group in groups]


def _task(experiment: Experiment, group: Group) -> Task:
  settings = experiment.settings
  names = [settings.arms[arm].name for arm in dict.fromkeys(arm for arm, _ in group.runs)]
  seeds = [seed for _, seed in group.runs]
  return Task(
    # With another width the same number would be other runs.
    name=f"group-{group.index:05d}-of-{group.width}",
    title=f"{', '.join(names)}: seeds {min(seeds)} to {max(seeds)}",
    num_runs=len(group.runs),
    num_steps=settings.steps,
    begin=lambda: _begin(experiment, group),
  )


class _State(NamedTuple):
  """What resuming a group needs.

  Attributes:
    progress: states and history.
    trail: what was looked at with each record, on the host; leaves [t, ...].
    earlier: the models at the last record, where an attack needs them.
  """

  progress: program.Progress
  trail: Tree
  earlier: Snapshot | None


class _Scene(NamedTuple):
  """A group, and all that is needed to look at it.

  Attributes:
    experiment: what it belongs to.
    group: which runs are trained.
    whole: the runs as trained so far; its state is that at the start.
  """

  experiment: Experiment
  group: Group
  whole: Trained

  @property
  def engine(self) -> Engine:
    """What trains it."""
    return self.experiment.engines[self.group.engine]

  def at(self, progress: program.Progress, earlier: Snapshot | None) -> Trained:
    """The runs as they are now."""
    return self.whole._replace(state=progress.states, earlier=earlier)


def _begin(experiment: Experiment, group: Group) -> Training:
  settings, engine = experiment.settings, experiment.engines[group.engine]
  arms, seeds = zip(*mapping.pad(group.runs, group.width), strict=True)
  members = program.prepare(
    settings.root_seed,
    seeds,
    [settings.arms[arm].hyper for arm in arms],
    split_of(experiment, seeds),
    mapping.SHARED_DATA,
  )
  keys, hypers, data = members
  taught = taught_to(experiment, data, seeds)
  start = program.start_group(engine.program, keys, hypers, taught)
  firsts = mapping.copied(start.states.params)
  scene = _Scene(experiment, group, Trained(firsts, None, data, hypers))

  def place(state: _State) -> _State:
    earlier = state.earlier and mapping.shard(state.earlier, mapping.SNAPSHOT_AXES, group.width)
    return state._replace(
      progress=program.place_group(state.progress, group.width), earlier=earlier
    )

  def advance(state: _State, length: int) -> _State:
    before = _snapshot(settings, state.progress)
    progress = program.advance_group(engine.program, state.progress, hypers, taught, length)
    new = _look(scene, scene.at(progress, before))
    trail = jax.tree.map(lambda past, new: np.concatenate([past, new]), state.trail, new)
    return _State(progress, trail, before)

  before = _snapshot(settings, start)
  return Training(
    state=_State(start, _look(scene, scene.at(start, before)), before),
    place=place,
    step=lambda state: int(state.progress.states.step),
    lengths=lambda done: program.chunk_lengths(settings.steps, settings.record_every, done),
    advance=advance,
    finish=lambda state: _finish(scene, state),
  )


def _snapshot(settings: Settings, progress: program.Progress) -> Snapshot | None:
  """The models as they are now, where an attack will need them after the next record."""
  if not remembers(settings):
    return None
  return mapping.copied(Snapshot(progress.states.params, progress.states.step))


def _look(scene: _Scene, group: Trained) -> Tree:
  """What there is to see of a group at a record; leaves [1, ...]."""
  seen: Tree = {"frames": _frames(scene, group)}
  if scene.experiment.settings.at_records:
    real = len(scene.group.runs)
    measures, details = jax.device_get(scene.engine.look(group))
    seen |= jax.tree.map(lambda x: x[None, :real], {"measures": measures, "details": details})
  return seen


def _watched(group: Group) -> list[int]:
  """Places in the group of each arm's first seed."""
  return [i for i, (_, seed) in enumerate(group.runs) if seed == 0]


def _frames(scene: _Scene, group: Trained) -> np.ndarray:
  """Weights of the watched class now, of each arm's first seed in the group: [1, arms, p]."""
  watch, chosen = scene.engine.watch, scene.experiment.settings.watch
  frames = [watch(group, i, chosen) for i in _watched(scene.group)]
  # A group without a first seed keeps one zero: checkpoints hold no empty arrays.
  return np.stack(jax.device_get(frames))[None] if frames else np.zeros((1, 1, 1), np.float32)


def _finish(scene: _Scene, state: _State) -> Tree:
  """What is kept of a group: its runs, curves of all, measures, and the saved runs' arrays."""
  group, settings = scene.group, scene.experiment.settings
  arms, seeds = (np.array(column) for column in zip(*group.runs, strict=True))
  history = jax.tree.map(lambda x: x[:, : len(group.runs)], state.progress.history)._asdict()
  finite, trail = history["finite"].all(0), state.trail
  watched = enumerate(_watched(group))
  saved, model = (
    np.flatnonzero(seeds < settings.save_seeds),
    scene.at(state.progress, state.earlier),
  )
  result = {
    "arm": arms,
    "seed": seeds,
    "saved": saved,
    "finite": finite,
    "history": history,
    "frames": {str(arms[i]): trail["frames"][:, place] for place, i in watched},
    "trail": trail.get("measures", {}),
    "trail_details": trail.get("details", {}),
  }
  return result | _measure(scene, model, finite) | _saved(scene, model, saved)


def _measure(scene: _Scene, model: Trained, finite: np.ndarray) -> Tree:
  """The measures of all models, and sums of the class weights of the healthy ones."""
  settings, group = scene.experiment.settings, scene.group
  real, padding = len(group.runs), group.width - len(group.runs)
  wanted = [(str(arm), sum_of(settings, seed)) for arm, seed in group.runs]
  kinds = list(dict.fromkeys(wanted))
  place = np.array([kinds.index(kind) for kind in wanted] + [0] * padding, np.int32)
  # What only fills the group up counts as unhealthy, so that no sum has it.
  healthy = np.concatenate([finite, np.zeros(padding, bool)])
  measured = scene.engine.measure(places(settings, group.width))(model, place, healthy)
  measures, sums, details = jax.device_get(measured)
  result: Tree = {"sums": {}, "measures": jax.tree.map(lambda x: x[:real], measures)}
  totals = sums.sum(0, np.float64)
  for i, (arm, name) in enumerate(kinds):
    if healthy[place == i].any():
      result["sums"].setdefault(arm, {})[name] = totals[i].astype(np.float32)
  if settings.photographs:
    result["details"] = jax.tree.map(lambda x: x[:real], details)
  return result


def sum_of(settings: Settings, seed: int) -> str:
  """Which sum of weights a seed is in: PREFIX.BLOCK.

  The n-th prefix holds the seeds from 2^(n - 1) to 2^n - 1, or the one prefix there is all. Blocks
  are for the jackknife, which leaves one of them out.
  """
  return f"{seed.bit_length() if settings.prefixes else 0}.{seed % BLOCKS}"


def _saved(scene: _Scene, model: Trained, saved: np.ndarray) -> Tree:
  """Images, weights and whatever else is kept of the first seeds."""
  rows = [_arrays(scene, model, int(i)) for i in saved]
  return jax.tree.map(lambda *row: np.stack(row), *rows) if rows else {}


def _arrays(scene: _Scene, model: Trained, i: int) -> dict[str, Any]:
  """What is kept of one model."""
  findings = jax.device_get(scene.engine.examine(model, i))
  kept = ["weights", "init_weights", "bias"]
  kept += ["init_bias"] if scene.engine.is_linear else ["params", "init_params"]
  arrays = {name: getattr(findings, name) for name in kept}
  return {"images": findings.images, "arrays": arrays | findings.extras}
