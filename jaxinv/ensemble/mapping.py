"""Many models at once: the only module that knows there is more than one.

It maps the functions of a `Trainer` over runs (a run is one seed under one set of
hyperparameters), in groups of equal width so that one compiled program serves them all. Each local
device trains its part of a group, with no word between them, and a host loop drives the group over
jitted chunks of steps. Nothing is printed or saved here: the caller looks in after every chunk.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from jaxinv.training import primal
from jaxinv.training.primal import Trainer
from jaxinv.types import AnyHyper, Data, Record, TrainState

Run = TypeVar("Run")  # Whatever names a run.

# What has an axis of runs. The examples are shared; the step is the same for all, and not being
# mapped lets a program branch on it.
SHARED_DATA = Data(inputs=None, labels=None, train=0, holdout=0, keep=0, gram=None)
OWN_DATA = Data(inputs=0, labels=None, train=None, holdout=None)
STATE_AXES = TrainState(params=0, opt_state=0, step=None, key=0, order=0, collections=0)

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
      state, _ = primal.run(trainer, state, hyper, data, num_steps)
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


def in_blocks(function: Callable[..., Any], in_axes: Any, out_axes: Any, size: int):
  """Lets a function of a group work on a few of its runs at a time.

  Args:
    function: of a group of any width.
    in_axes: of its arguments, a tuple of prefixes: 0 for leaves with an axis of runs, else None.
    out_axes: of what it returns, likewise.
    size: runs of a block at the most; the largest number up to it is taken that divides the group.

  Returns:
    The function of the whole group.
  """

  def blocked(*args):
    width = _width(in_axes, args)
    length = max(n for n in range(1, min(size, width) + 1) if width % n == 0)
    if length == width:
      return function(*args)

    def block(i):
      def cut(axis, branch):
        if axis is None:
          return branch
        return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, i * length, length), branch)

      return function(*_over_axes(cut, in_axes, args))

    def join(axis, branch):
      return jax.tree.map(lambda x: x[0] if axis is None else x.reshape(-1, *x.shape[2:]), branch)

    return _over_axes(join, out_axes, jax.lax.map(block, jnp.arange(width // length)))

  return blocked


def _over_axes(function, axes, tree):
  """Calls a function of (axis, branch) at each leaf of a prefix tree of axes, None being one."""
  return jax.tree.map(function, axes, tree, is_leaf=lambda axis: axis is None)


def in_turn(function: Callable[..., Any], axes: Any) -> Callable[..., Any]:
  """Maps a function of one model over a group's runs one after another, to bound the memory.

  Args:
    function: of one model.
    axes: of its arguments, a tuple of prefixes: 0 for leaves with an axis of runs, None for shared.

  Returns:
    The function of a group; everything it returns has a leading axis s.
  """

  def mapped(*args):
    indices = jnp.arange(_width(axes, args))
    return jax.lax.map(lambda i: function(*member(axes, args, i)), indices)

  return mapped


def over_devices(
  function: Callable[..., Any], in_axes: Any, out_axes: Any, devices: Sequence[jax.Device]
) -> Callable[..., Any]:
  """Lets each device work on its part of a group; nothing passes between them.

  Args:
    function: of a group.
    in_axes: of its arguments, a tuple of prefixes: 0 for leaves with an axis of runs, else None.
    out_axes: of what it returns, likewise.
    devices: those to use; as many of them as divide the group evenly.

  Returns:
    The function, to be jitted.
  """

  def divided(*args):
    return jax.shard_map(
      function,
      mesh=_mesh(_width(in_axes, args), devices),
      in_specs=_by_axis(in_axes, _SPREAD, _EVERYWHERE),
      out_specs=_by_axis(out_axes, _SPREAD, _EVERYWHERE),
      # It cannot see that the step, the same for all, is the same on all devices.
      check_vma=False,
    )(*args)

  return divided


_SPREAD, _EVERYWHERE = PartitionSpec("run"), PartitionSpec()


def _by_axis(axes, mapped, shared):
  """The tree of axes with one thing for those that are mapped and another for the shared."""
  return jax.tree.map(
    lambda axis: shared if axis is None else mapped, axes, is_leaf=lambda axis: axis is None
  )


def _width(axes, tree) -> int:
  """Number of runs of a group."""

  def runs(axis, branch):
    return [] if axis is None else [x.shape[0] for x in jax.tree.leaves(branch)]

  return jax.tree.leaves(_over_axes(runs, axes, tree))[0]


def _mesh(width: int, devices: Sequence[jax.Device]) -> Mesh:
  """As many of the devices as divide a group evenly."""
  count = max(n for n in range(1, len(devices) + 1) if width % n == 0)
  return jax.make_mesh((count,), ("run",), axis_types=(AxisType.Auto,), devices=devices[:count])


def stack_hypers(hypers: Sequence[AnyHyper]) -> AnyHyper:
  """Many hyperparameters as one, each leaf a float with a leading axis s."""
  return jax.tree.map(lambda *column: jnp.asarray(column, float), *hypers)


def chunk_lengths(num_steps: int, record_every: int, done: int = 0) -> Iterator[int]:
  """Lengths of the chunks that lead from `done` to `num_steps`, a record after each."""
  while done < num_steps:
    length = min(record_every - done % record_every, num_steps - done)
    yield length
    done += length


def start_group(program: Program, keys: Key[Array, " s"], hypers: AnyHyper, data: Data) -> Progress:
  """Initial states of a group, and the record before the first step."""
  states = program.init(keys, hypers, data)
  record = jax.device_get(program.evaluate(states, data))
  return Progress(states, jax.tree.map(lambda x: x[None], record))


@jax.jit
def copied(tree):
  """Another copy of arrays on the device, for whoever needs them after training took theirs."""
  return jax.tree.map(jnp.copy, tree)


def train_group(
  program: Program,
  progress: Progress,
  hypers: AnyHyper,
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

  return _over_axes(pick, axes, tree)


def pick(axes, tree, i: int):
  """One run of a group, as arrays on the first device; nothing is asked of the other devices.

  Args:
    axes: a prefix of the tree: 0 for leaves with an axis of runs, None for shared ones.
    tree: arrays of a group.
    i: which run.

  Returns:
    The tree of one model.
  """

  def row(x):
    if isinstance(x, np.ndarray):
      return x[i]
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      return jax.random.wrap_key_data(row(jax.random.key_data(x)), impl=jax.random.key_impl(x))
    for part in x.addressable_shards:
      rows = range(*part.index[0].indices(x.shape[0]))
      if i in rows:
        return jax.device_put(part.data[i - rows.start], jax.local_devices()[0])
    raise IndexError(f"run {i} of {x.shape[0]}")

  def copy(x):
    return x if isinstance(x, np.ndarray) else x.addressable_shards[0].data

  def choose(axis, branch):
    return jax.tree.map(copy if axis is None else row, branch)

  return _over_axes(choose, axes, tree)


def widest(program: Program) -> int:
  """The most runs that a group should hold, where the memory allows."""
  each = _WIDEST_ON_CPU if program.devices[0].platform == "cpu" else _WIDEST
  return each * len(program.devices)


def shapes(program: Program, keys: Key[Array, " s"], hypers: AnyHyper, data: Data) -> TrainState:
  """The shapes of a group's states and their places on the devices; nothing is run."""
  states = jax.eval_shape(program.init, keys, hypers, data)
  mesh = _mesh(len(keys), program.devices)

  def place(spec, branch):
    def leaf(x):
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree.map(leaf, branch)

  return jax.tree.map(place, _by_axis(STATE_AXES, _SPREAD, _EVERYWHERE), states)


def shard(tree, axes, num_runs: int, devices: Sequence[jax.Device] | None = None):
  """Lays the runs of a group out over the devices, as many of them as divide it evenly.

  Args:
    tree: arrays of a group.
    axes: a prefix of the tree: 0 for leaves with an axis of runs, None for shared ones.
    num_runs: the group's width.
    devices: all of this process's own if not given.

  Returns:
    The tree, split along the runs over the devices; shared leaves are on each of them.
  """
  mesh = _mesh(num_runs, tuple(devices or jax.local_devices()))
  spread, everywhere = (NamedSharding(mesh, spec) for spec in (_SPREAD, _EVERYWHERE))

  def place(axis, branch):
    return jax.device_put(branch, everywhere if axis is None else spread)

  return _over_axes(place, axes, tree)
