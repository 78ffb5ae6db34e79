"""Many models at once: the only module that knows there is more than one.

It maps the functions of a `Trainer` over runs (a run is one seed under one set of
hyperparameters), in groups of equal width so that one compiled program serves them all, and
drives each group from a host loop over jitted chunks of steps. Nothing is printed or saved here:
the caller looks in after every chunk.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Key

from jaxinv import train
from jaxinv.data import splits
from jaxinv.train import Trainer
from jaxinv.types import Data, Dataset, Hyper, Record, TrainState

Run = TypeVar("Run")  # Whatever names a run.

# What has an axis of runs. The examples are shared; the step is the same for all, and not being
# mapped lets a program branch on it.
SHARED_DATA = Data(inputs=None, labels=None, train=0, holdout=0)
OWN_DATA = Data(inputs=0, labels=None, train=None, holdout=None)
STATE_AXES = TrainState(params=0, opt_state=0, step=None, key=0, order=0)

# Labels of the streams drawn from a seed's key.
_SPLIT, _TRAIN = 0, 1


# Beyond this many models a device is busy all the time, and a wider group only takes more memory
# and, where the last one is not full, more padding.
_LARGEST_WIDTH = 64


class Program(NamedTuple):
  """The compiled functions of one engine and optimiser, for groups of runs.

  Attributes:
    init: (keys, hypers, data) -> states.
    advance: (states, hypers, data, num_steps) -> (states, record); takes the states' memory.
    evaluate: (states, data) -> record.
    trainer: the engine for one model that these map.
    data_axes: which leaves of the data have an axis of runs.
  """

  init: Callable[..., TrainState]
  advance: Callable[..., tuple[TrainState, Record]]
  evaluate: Callable[..., Record]
  trainer: Trainer
  data_axes: Data


class Progress(NamedTuple):
  """How far a group has come.

  Attributes:
    states: the runs' states, each leaf with a leading axis s but for the step.
    history: one record for each recorded step so far, on the host; leaves [t, s].
  """

  states: TrainState
  history: Record


def make_program(trainer: Trainer, data_axes: Data = SHARED_DATA) -> Program:
  """Maps a trainer over runs and compiles it, once for each chunk length and width.

  Args:
    trainer: the engine for one model.
    data_axes: which leaves of the data have an axis of runs.

  Returns:
    The program. Nothing is compiled before its first call.
  """
  init = jax.vmap(trainer.init, in_axes=(0, 0, data_axes), out_axes=STATE_AXES)
  evaluate = jax.vmap(trainer.evaluate, in_axes=(STATE_AXES, data_axes))

  def advance(states, hypers, data, num_steps):
    steps = partial(train.run, trainer, num_steps=num_steps)
    mapped = jax.vmap(steps, in_axes=(STATE_AXES, 0, data_axes), out_axes=(STATE_AXES, 0))
    states, info = mapped(states, hypers, data)
    record = evaluate(states, data)
    return states, record._replace(finite=record.finite & jnp.isfinite(info.loss).all(1))

  advance = jax.jit(advance, static_argnames="num_steps", donate_argnums=0)
  return Program(jax.jit(init), advance, jax.jit(evaluate), trainer, data_axes)


def seed_keys(root_seed: int, seeds: Sequence[int]) -> Key[Array, " s"]:
  """One key for each seed, from its number and the root seed alone, whoever its neighbours are."""
  return _fold_in_each(jax.random.key(root_seed), jnp.asarray(seeds, jnp.uint32))


def train_keys(root_seed: int, seeds: Sequence[int]) -> Key[Array, " s"]:
  """The keys that initialise and train each seed's model."""
  return _label_each(seed_keys(root_seed, seeds), _TRAIN)


@jax.jit
def _fold_in_each(root, seeds):
  return jax.vmap(partial(jax.random.fold_in, root))(seeds)


@jax.jit
def _label_each(keys, label):
  return jax.vmap(lambda key: jax.random.fold_in(key, label))(keys)


def split_data(
  dataset: Dataset,
  inputs: Float[Array, "n p"],
  root_seed: int,
  seeds: Sequence[int],
  holdout: int,
  fixed_split: bool = False,
) -> Data:
  """The data of a group of seeds: examples shared, a split each.

  Args:
    dataset: the examples, on the host.
    inputs: the same examples' inputs on the device, handed in so that they are there once.
    root_seed: decides, with a seed's number, its split.
    seeds: the numbers of the seeds.
    holdout: examples of each class to hold out.
    fixed_split: one split for all seeds, decided by the root seed.

  Returns:
    Data with an axis s on `train` and `holdout`.
  """
  keys = seed_keys(root_seed, seeds)
  if fixed_split:
    keys = jnp.broadcast_to(jax.random.key(root_seed), keys.shape)
  labels = jnp.asarray(dataset.labels)
  index_train, index_holdout = _draw_splits(keys, labels, dataset.num_classes, holdout)
  return Data(inputs, labels, index_train, index_holdout)


@partial(jax.jit, static_argnames=("num_classes", "holdout"))
def _draw_splits(keys, labels, num_classes, holdout):
  def draw(key):
    return splits.draw_split(jax.random.fold_in(key, _SPLIT), labels, num_classes, holdout)

  return jax.vmap(draw)(keys)


def stack_hypers(hypers: Sequence[Hyper]) -> Hyper:
  """Many hyperparameters as one, each leaf float32 with a leading axis s."""
  return Hyper(*(jnp.asarray(column, jnp.float32) for column in zip(*hypers, strict=True)))


def chunk_lengths(num_steps: int, record_every: int, done: int = 0) -> Iterator[int]:
  """Lengths of the chunks that lead from `done` to `num_steps`, a record after each."""
  while done < num_steps:
    length = min(record_every - done % record_every, num_steps - done)
    yield length
    done += length


def start_group(program: Program, keys: Key[Array, " s"], hypers: Hyper, data: Data) -> Progress:
  """Initial states of a group, and the record before the first step."""
  states = program.init(keys, hypers, data)
  record = jax.device_get(program.evaluate(states, data))
  return Progress(states, jax.tree.map(lambda x: x[None], record))


def train_group(
  program: Program,
  progress: Progress,
  hypers: Hyper,
  data: Data,
  num_steps: int,
  record_every: int,
  look: Callable[[Progress, int], None] = lambda progress, length: None,
) -> Progress:
  """Trains a group to the end, from wherever it stands.

  Args:
    program: the compiled engine.
    progress: where the group stands; its states' memory is given up.
    hypers: hyperparameters, each leaf [s].
    data: the group's data.
    num_steps: total number of steps, those already taken counted in.
    record_every: steps from one record to the next.
    look: called after each chunk with the progress and the chunk's length; may raise to stop.

  Returns:
    The progress at the end.
  """
  for length in chunk_lengths(num_steps, record_every, int(progress.states.step)):
    states, record = program.advance(progress.states, hypers, data, num_steps=length)
    record = jax.device_get(record)
    history = jax.tree.map(
      lambda past, new: np.concatenate([past, new[None]]), progress.history, record
    )
    progress = Progress(states, history)
    look(progress, length)
  return progress


def divide(num_runs: int, width: int) -> list[range]:
  """Cuts runs 0 .. num_runs - 1 into groups of `width`; the last may be smaller."""
  return [range(i, min(i + width, num_runs)) for i in range(0, num_runs, width)]


def pad(members: Sequence[Run], width: int) -> list[Run]:
  """Fills a group up to `width` with copies of its last member, whose results are dropped.

  A group of another width would be another program, and its results would differ in last bits.
  """
  return list(members) + [members[-1]] * (width - len(members))


def member(axes, tree, i):
  """One run of a group: the i-th along every leaf that has an axis of runs.

  Args:
    axes: a prefix of the tree: 0 for leaves with an axis of runs, None for shared ones.
    tree: arrays of a group.
    i: which run; may be traced.

  Returns:
    The tree of one model.
  """

  def pick(axis, branch):
    return branch if axis is None else jax.tree.map(lambda x: x[i], branch)

  return jax.tree.map(pick, axes, tree, is_leaf=lambda axis: axis is None)


def fit_width(program: Program, hyper: Hyper, data: Data, fraction: float = 0.5) -> int:
  """How many runs a group may hold: as many as fit, and no more than pays.

  Args:
    program: the engine.
    hyper: hyperparameters of any run.
    data: data of any group.
    fraction: share of the device's memory to plan with.

  Returns:
    The width, a multiple of the number of local devices.
  """
  fitting = int(fraction * device_memory() // run_bytes(program, hyper, data))
  devices = jax.local_device_count()
  return max(devices, min(fitting, _LARGEST_WIDTH * devices) // devices * devices)


def run_bytes(program: Program, hyper: Hyper, data: Data) -> int:
  """Estimates the memory that one more run takes, in bytes, without compiling anything.

  The state twice (one may be in flight), gradients and updates as large as the parameters, the
  batch or the logits of all examples, and what recovery makes of the weights: four images a class.
  """
  key = jax.random.key(0)
  one = Data(
    *(
      jax.ShapeDtypeStruct(x.shape[1:] if axis == 0 else x.shape, x.dtype)
      for x, axis in zip(data, program.data_axes, strict=True)
    )
  )
  state = jax.eval_shape(program.trainer.init, key, hyper, one)
  logits = data.inputs.shape[-2] * 64 * 4
  batch = _size(one.train) * data.inputs.shape[-1] * 4
  params = sum(map(_size, jax.tree.leaves(state.params))) * 4
  moments = sum(map(_size, jax.tree.leaves(state.opt_state))) * 4
  return 2 * (params + moments) + 6 * params + logits + batch


def _size(x: jax.ShapeDtypeStruct) -> int:
  return int(np.prod(x.shape, dtype=np.int64))


def device_memory() -> int:
  """Memory that this process may plan with, in bytes: the device's own, or what the host has."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if "bytes_limit" in stats:
    return int(stats["bytes_limit"])
  return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def shard(tree, axes, num_runs: int):
  """Lays the runs of a group out over all local devices, where they divide evenly.

  Args:
    tree: arrays of a group.
    axes: a prefix of the tree: 0 for leaves with an axis of runs, None for shared ones.
    num_runs: the group's width.

  Returns:
    The tree, split along the runs over the devices; shared leaves are on each of them.
  """
  devices = jax.local_devices()
  if len(devices) == 1 or num_runs % len(devices):
    return tree
  mesh = jax.make_mesh((len(devices),), ("run",), axis_types=(AxisType.Auto,), devices=devices)
  spread, everywhere = (NamedSharding(mesh, PartitionSpec(*p)) for p in (("run",), ()))

  def place(axis, branch):
    return jax.device_put(branch, everywhere if axis is None else spread)

  return jax.tree.map(place, axes, tree, is_leaf=lambda x: x is None)
