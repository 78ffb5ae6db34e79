"""Many small models in one program, in groups that are kept; used to tune and to audit."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxinv.ensemble import mapping, memory
from jaxinv.ensemble.groups import Host, Task, Training, run_task
from jaxinv.ensemble.program import (
  Program,
  Progress,
  advance_group,
  chunk_lengths,
  place_group,
  prepare,
  start_group,
  state_shapes,
  widest,
)
from jaxinv.ensemble.seeds import train_keys
from jaxinv.experiments.settings import Settings
from jaxinv.types import Data, Hyper

# Looks of the host while a group trains.
_CHUNKS = 10


class Job(NamedTuple):
  """Models to be trained in one program.

  Attributes:
    name: of its files.
    title: of it, for people.
    program: trains a group.
    hypers: of each model.
    seeds: of each model.
    data: (numbers of the models of a group) -> their data.
    keep: what is kept of a group at its end; arrays [s, ...] by name.
  """

  name: str
  title: str
  program: Program
  hypers: Sequence[Hyper]
  seeds: Sequence[int]
  data: Callable[[Sequence[int]], Data]
  keep: Callable[[Progress, Data], dict[str, np.ndarray]]


def train(job: Job, settings: Settings, store: Path | None, host: Host) -> dict[str, np.ndarray]:
  """Trains all models of a job, group by group.

  Args:
    job: the models.
    settings: steps, root seed, width and memory.
    store: folder for checkpoints and finished groups; None to keep nothing.
    host: progress, messages, when to stop.

  Returns:
    What is kept, by name, one row a model.

  Raises:
    Stopped: the host asked for it; the state is in the store.
  """
  width = _width(job, settings)
  parts = [
    run_task(_task(job, settings, members, width), store, host)
    for members in mapping.divide(len(job.seeds), width)
  ]
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _width(job: Job, settings: Settings) -> int:
  """As many models as are quick and fit, in groups that are all alike."""
  devices, number = len(job.program.devices), len(job.seeds)
  one = state_shapes(
    job.program, train_keys(0, [0]), mapping.stack_hypers([job.hypers[0]]), job.data([0])
  )
  state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((one.params, one.opt_state)))
  # A step needs gradient and noise beside the state, and what it was before.
  fitting = int(settings.memory_fraction * memory.device_memory() / max(8 * state, 1))
  most = settings.width or max(devices, min(widest(job.program), fitting))
  each = -(-number // -(-number // most))
  return -(-each // devices) * devices if number > devices else number


def _task(job: Job, settings: Settings, members: range, width: int) -> Task:
  def begin() -> Training:
    chosen = mapping.pad(members, width)
    seeds, hypers = ([values[i] for i in chosen] for values in (job.seeds, job.hypers))
    keys, hypers, data = prepare(
      settings.root_seed, seeds, hypers, job.data(chosen), job.program.data_axes
    )
    return Training(
      start_group(job.program, keys, hypers, data),
      place=lambda progress: place_group(progress, width),
      step=lambda progress: int(progress.states.step),
      lengths=lambda done: chunk_lengths(settings.steps, -(-settings.steps // _CHUNKS), done),
      advance=lambda progress, length: advance_group(job.program, progress, hypers, data, length),
      finish=lambda progress: {
        name: np.asarray(values)[: len(members)]
        for name, values in job.keep(progress, data).items()
      },
    )

  name = f"{job.name}-{members.start:07d}-of-{width}"
  return Task(name, job.title, len(members), settings.steps, begin)
