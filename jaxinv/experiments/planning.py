"""The plan of an experiment: its runs in groups that are quick and fit the memory."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxinv.ensemble import mapping, memory
from jaxinv.ensemble.program import chunk_lengths, state_shapes, widest
from jaxinv.ensemble.seeds import train_keys
from jaxinv.errors import InputError
from jaxinv.experiments.experiment import Experiment, remembers, split_of, training_labels
from jaxinv.experiments.settings import Settings, program_name
from jaxinv.types import Hyper, Snapshot, Trained

# The average model of an arm is measured without each of so many parts of its seeds in turn.
BLOCKS = 8


class Group(NamedTuple):
  """Runs that are trained together, each an (arm, seed); `width` counts the padding in.

  Attributes:
    index: its number in the plan.
    engine: name of the engine that trains it, in `Experiment.engines`.
    runs: the runs that it trains.
    width: how many models it holds.
  """

  index: int
  engine: str
  runs: tuple[tuple[int, int], ...]
  width: int


def plan(experiment: Experiment, num_processes: int = 1) -> list[Group]:
  """Divides the runs of each engine into groups of one width, all arms' seeds in a row.

  The width is what the settings say, else the one that is quick; either way no wider than fits the
  memory, and the groups are made alike so that little of the last one is padding.

  Args:
    experiment: settings, data and engines.
    num_processes: how many share the groups; there is one for each, where there are runs enough.

  Returns:
    The groups.

  Raises:
    InputError: not even one run a device fits.
  """
  groups = []
  for name in experiment.engines:
    arms = [i for i, arm in enumerate(experiment.settings.arms) if program_name(arm) == name]
    runs = [(arm, seed) for arm in arms for seed in range(experiment.settings.num_seeds)]
    width = choose_width(experiment, name, -(-len(runs) // num_processes))
    for members in mapping.divide(len(runs), width):
      chosen = tuple(runs[i] for i in members)
      groups.append(Group(len(groups), name, chosen, width))
  return groups


def choose_width(experiment: Experiment, name: str, num_runs: int) -> int:
  """How many runs a group of an engine holds; see `plan`."""
  program, devices = experiment.engines[name].program, len(experiment.engines[name].program.devices)
  width = experiment.settings.width
  if not width:
    width = _even(num_runs, widest(program), devices)
  budget = experiment.settings.memory_fraction * memory.device_memory()
  if peak_bytes(experiment, name, width) <= budget:
    return width
  # Between a width that may fit and one that does not: the peak is now training's, now measuring's,
  # each a line, so that the line between the two is above it, and beyond them it would be below.
  wide = max(width, 2 * devices)
  need = memory.predict_memory(lambda w: peak_bytes(experiment, name, w), devices, wide)
  # Rounding should not lose the run that just fits.
  fitting = int((budget - need.fixed) / need.per_run + 1e-6) // devices * devices
  if fitting < devices:
    raise InputError(
      f"training one model on each device takes about {need.of(devices) / 1e9:.1f} GB, of the "
      f"{budget / 1e9:.1f} GB that may be planned with: give smaller layers, fewer examples, or "
      "more by --memory_fraction"
    )
  return _even(num_runs, fitting, devices)


def describe(experiment: Experiment, groups: Sequence[Group]) -> dict[str, dict]:
  """By engine's name, of which kind it is and in what groups, for config.json and for people."""
  return {
    name: {
      "engine": engine.kind,
      "width": next(group.width for group in groups if group.engine == name),
      "groups": sum(group.engine == name for group in groups),
      "devices": len(engine.program.devices),
    }
    for name, engine in experiment.engines.items()
  }


def _even(num_runs: int, most: int, devices: int) -> int:
  """The width of as few groups as `most` allows, all alike; fills the devices evenly."""
  if num_runs <= devices:
    return num_runs
  num_groups = -(-num_runs // most)
  each = -(-num_runs // num_groups)
  return -(-each // devices) * devices


def places(settings: Settings, width: int) -> int:
  """The most sums of weights that a group can need: one for each arm that it can span, or more."""
  arms = min(len(settings.arms), 2 + (width - 1) // settings.num_seeds)
  # An arm's seeds, up to the last, are in so many sums: see `groups.sum_of`.
  each = 1 + (settings.num_seeds - 1).bit_length() if settings.prefixes else 1
  return min(width, arms * each * min(settings.num_seeds, BLOCKS))


def peak_bytes(experiment: Experiment, name: str, width: int) -> int:
  """Memory that a group takes at its worst, in bytes, told by the compiler before anything runs.

  Args:
    experiment: settings, data and engines.
    name: which engine.
    width: runs of the group.

  Returns:
    Bytes on one device, or of all where the devices share the host's memory.
  """
  settings, engine = experiment.settings, experiment.engines[name]
  program = engine.program
  # Splits and keys of all runs are small: made, for their places on the devices.
  data = mapping.shard(split_of(experiment, [0] * width), program.data_axes, width)
  keys = mapping.shard(train_keys(0, [0] * width), 0, width)
  hypers = mapping.shard(mapping.stack_hypers([Hyper()] * width), 0, width)
  states = state_shapes(program, keys, hypers, data)
  length = next(chunk_lengths(settings.steps, settings.record_every), 1)
  taught = training_labels(experiment, data, [0] * width)
  train = memory.compiled_bytes(program.advance, states, hypers, taught, num_steps=length)
  earlier = Snapshot(states.params, states.step) if remembers(settings) else None
  group = Trained(states.params, states, data, hypers, earlier)
  places_of = np.zeros(width, np.int32), np.ones(width, bool)
  measured = engine.measure(places(settings, width))
  measure = memory.compiled_bytes(measured, group, *places_of)
  shared = len(program.devices) if program.devices[0].platform == "cpu" else 1
  # Beside what is trained, the first parameters are kept all along, perhaps those before the last
  # record too.
  params = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(states.params))
  return max(shared * train + (2 if earlier else 1) * params, shared * measure)
