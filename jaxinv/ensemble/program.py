"""A trainer's functions as compiled programs of groups, and the host's loop over chunks of steps.

Groups of equal width are one compiled program. Nothing is printed or saved here: the caller looks
in after every chunk.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Key

from jaxinv.ensemble import mapping
from jaxinv.ensemble.mapping import SHARED_DATA, STATE_AXES, in_blocks, in_turn, over_devices
from jaxinv.ensemble.seeds import train_keys
from jaxinv.training.trainer import Trainer
from jaxinv.training.trainer import run as run_steps
from jaxinv.types import AnyHyper, Data, Record, TrainState

# On a CPU the states of the runs that step side by side should about fit a core's own cache:
# measured, see BUILD.md. Elsewhere all of a group step side by side.
_CACHED_BYTES = 2**20
# For `block`: about as many runs as a CPU's quickest product of the examples and their weights has,
# measured likewise; it may be more than fit a cache.
TOGETHER, _TOGETHER_ON_CPU = -1, 8
# Wider groups only take memory: the device is busy, and the host's work between chunks is small.
_WIDEST_ON_CPU, _WIDEST = 128, 1024


class Program(NamedTuple):
  """The compiled functions of one engine and optimiser, for groups of runs.

  Attributes:
    init: (keys, hypers, data) -> states.
    advance: (states, hypers, data, num_steps) -> (states, record); takes the states' memory.
    evaluate: (states, data) -> record.
    trainer: the engine for one model that these map.
    data_axes: which leaves of the data have an axis of runs.
    devices: the devices that share a group's runs.
    block: how many of a device's runs step side by side; 0 for as many as suit the device, or
      TOGETHER.
  """

  init: Callable[..., TrainState]
  advance: Callable[..., tuple[TrainState, Record]]
  evaluate: Callable[..., Record]
  trainer: Trainer
  data_axes: Data
  devices: tuple[jax.Device, ...]
  block: int = 0


class Progress(NamedTuple):
  """How far a group has come.

  Attributes:
    states: the runs' states, each leaf with a leading axis s but for the step.
    history: one record for each recorded step so far, on the host; leaves [t, s].
  """

  states: TrainState
  history: Record


def make_program(
  trainer: Trainer,
  data_axes: Data = SHARED_DATA,
  devices: Sequence[jax.Device] | None = None,
  block: int = 0,
) -> Program:
  """Maps a trainer over runs and compiles it, once for each chunk length and width.

  Args:
    trainer: the engine for one model.
    data_axes: which leaves of the data have an axis of runs.
    devices: those that share a group's runs; all of this process's own if not given.
    block: how many of a device's runs step side by side; 0 for as many as suit the device, or
      TOGETHER.

  Returns:
    The program. Nothing is compiled before its first call.
  """
  devices = tuple(devices or jax.local_devices())
  start_axes = (0, 0, data_axes)

  def init(*args):
    # One after another: drawing initial weights takes several times their memory.
    states = in_turn(trainer.init, start_axes)(*args)
    return states._replace(step=states.step[0])

  evaluate = jax.vmap(trainer.evaluate, in_axes=(STATE_AXES, data_axes))

  def advance(states, hypers, data, num_steps):
    axes, ends = (STATE_AXES, 0, data_axes), (STATE_AXES, 0)

    def one(state, hyper, data):
      # The steps' losses are not looked at, and so not computed.
      state, _ = run_steps(trainer, state, hyper, data, num_steps)
      return state, trainer.evaluate(state, data)

    side_by_side = jax.vmap(one, in_axes=axes, out_axes=ends)

    def one_device(*args):
      size = _suitable_block(args[0], devices[0], block)
      return in_blocks(side_by_side, axes, ends, size)(*args)

    return over_devices(one_device, axes, ends, devices)(states, hypers, data)

  return Program(
    init=jax.jit(over_devices(init, start_axes, STATE_AXES, devices)),
    advance=jax.jit(advance, static_argnames="num_steps", donate_argnums=0),
    evaluate=jax.jit(over_devices(evaluate, (STATE_AXES, data_axes), 0, devices)),
    trainer=trainer,
    data_axes=data_axes,
    devices=devices,
    block=block,
  )


def _suitable_block(states: TrainState, device: jax.Device, block: int) -> int:
  """How many runs should step side by side; see `_CACHED_BYTES` and `TOGETHER`."""
  if block > 0:
    return block
  width = states.key.shape[0]
  if device.platform != "cpu":
    return width
  if block == TOGETHER:
    divisors = [n for n in range(1, width + 1) if width % n == 0]
    return min(divisors, key=lambda n: abs(math.log(n / _TOGETHER_ON_CPU)))
  return max(1, _CACHED_BYTES * width // max(1, _bytes(states)))


def _bytes(states: TrainState) -> int:
  leaves = jax.tree.leaves((states.params, states.opt_state, states.order))
  return sum(x.size * x.dtype.itemsize for x in leaves)


def chunk_lengths(num_steps: int, record_every: int, done: int = 0) -> Iterator[int]:
  """Lengths of the chunks that lead from `done` to `num_steps`, a record after each."""
  while done < num_steps:
    length = min(record_every - done % record_every, num_steps - done)
    yield length
    done += length


def prepare(
  root_seed: int, seeds: Sequence[int], hypers: Sequence[AnyHyper], data: Data, data_axes: Data
) -> tuple[Key[Array, " s"], AnyHyper, Data]:
  """Keys, hyperparameters and data of a group, laid out over the devices.

  Args:
    root_seed: with a seed's number, decides all of its randomness.
    seeds: the group's seeds, padding counted in.
    hypers: the hyperparameters of each run.
    data: the group's data.
    data_axes: which leaves of the data have an axis of runs.

  Returns:
    What `start_group` takes.
  """
  width = len(seeds)
  keys, stacked = train_keys(root_seed, seeds), mapping.stack_hypers(hypers)
  keys, stacked = (mapping.shard(x, 0, width) for x in (keys, stacked))
  return keys, stacked, mapping.shard(data, data_axes, width)


def start_group(program: Program, keys: Key[Array, " s"], hypers: AnyHyper, data: Data) -> Progress:
  """Initial states of a group, and the record before the first step."""
  states = program.init(keys, hypers, data)
  record = jax.device_get(program.evaluate(states, data))
  return Progress(states, jax.tree.map(lambda x: x[None], record))


def place_group(progress: Progress, width: int) -> Progress:
  """A group's progress that a checkpoint held, laid out over the devices."""
  return progress._replace(states=mapping.shard(progress.states, STATE_AXES, width))


def advance_group(
  program: Program, progress: Progress, hypers: AnyHyper, data: Data, length: int
) -> Progress:
  """Takes a group one chunk further.

  Args:
    program: the compiled engine.
    progress: where the group stands; its states' memory is given up.
    hypers: hyperparameters, each leaf [s].
    data: the group's data.
    length: steps of the chunk.

  Returns:
    The progress, with a record more.
  """
  states, record = program.advance(progress.states, hypers, data, num_steps=length)
  record = jax.device_get(record)
  history = jax.tree.map(
    lambda past, new: np.concatenate([past, new[None]]), progress.history, record
  )
  return Progress(states, history)


def train_group(
  program: Program,
  progress: Progress,
  hypers: AnyHyper,
  data: Data,
  num_steps: int,
  record_every: int,
) -> Progress:
  """Trains a group to the end of `num_steps`, from wherever it stands; see `advance_group`."""
  for length in chunk_lengths(num_steps, record_every, int(progress.states.step)):
    progress = advance_group(program, progress, hypers, data, length)
  return progress


def widest(program: Program) -> int:
  """The most runs that a group should hold, where the memory allows."""
  each = _WIDEST_ON_CPU if program.devices[0].platform == "cpu" else _WIDEST
  return each * len(program.devices)


def state_shapes(
  program: Program, keys: Key[Array, " s"], hypers: AnyHyper, data: Data
) -> TrainState:
  """The shapes of a group's states and their places on the devices; nothing is run."""
  states = jax.eval_shape(program.init, keys, hypers, data)
  mesh = mapping.mesh_of(len(keys), program.devices)

  def place(spec, branch):
    def leaf(x):
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree.map(leaf, branch)

  return jax.tree.map(
    place, mapping.by_axis(STATE_AXES, mapping.SPREAD, mapping.EVERYWHERE), states
  )
