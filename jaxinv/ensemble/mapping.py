"""Functions of one model mapped over the runs of a group: side by side, in blocks, over devices.

This room alone knows that there are many models. A run is one seed under one set of
hyperparameters; the runs of a group lie along the first axis of every leaf that is mapped.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxinv.types import AnyHyper, Data, Snapshot, Trained, TrainState

Run = TypeVar("Run")  # Whatever names a run.

# What has an axis of runs. The examples are shared; the step is the same for all, and not being
# mapped lets a program branch on it.
SHARED_DATA = Data(inputs=None, labels=None, train=0, holdout=0, keep=0, gram=None)
OWN_DATA = Data(inputs=0, labels=None, train=None, holdout=None)
STATE_AXES = TrainState(params=0, opt_state=0, step=None, key=0, order=0, collections=0)
SNAPSHOT_AXES = Snapshot(params=0, step=None)


def trained_axes(data_axes: Data, group: Trained) -> Trained:
  """Which leaves of a group of trained models have an axis of runs."""
  hyper = None if group.hyper is None else 0
  return Trained(0, STATE_AXES, data_axes, hyper, group.earlier and SNAPSHOT_AXES)


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
    width = width_of(in_axes, args)
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
    indices = jnp.arange(width_of(axes, args))
    return jax.lax.map(lambda i: function(*run_at(axes, args, i)), indices)

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
      mesh=mesh_of(width_of(in_axes, args), devices),
      in_specs=by_axis(in_axes, SPREAD, EVERYWHERE),
      out_specs=by_axis(out_axes, SPREAD, EVERYWHERE),
      # It cannot see that the step, the same for all, is the same on all devices.
      check_vma=False,
    )(*args)

  return divided


SPREAD, EVERYWHERE = PartitionSpec("run"), PartitionSpec()


def by_axis(axes, mapped, shared):
  """The tree of axes with one thing for those that are mapped and another for the shared."""
  return jax.tree.map(
    lambda axis: shared if axis is None else mapped, axes, is_leaf=lambda axis: axis is None
  )


def width_of(axes, tree) -> int:
  """Number of runs of a group."""

  def runs(axis, branch):
    return [] if axis is None else [x.shape[0] for x in jax.tree.leaves(branch)]

  return jax.tree.leaves(_over_axes(runs, axes, tree))[0]


def mesh_of(width: int, devices: Sequence[jax.Device]) -> Mesh:
  """As many of the devices as divide a group evenly."""
  count = max(n for n in range(1, len(devices) + 1) if width % n == 0)
  return jax.make_mesh((count,), ("run",), axis_types=(AxisType.Auto,), devices=devices[:count])


def stack_hypers(hypers: Sequence[AnyHyper]) -> AnyHyper:
  """Many hyperparameters as one, each leaf a float with a leading axis s."""
  return jax.tree.map(lambda *column: jnp.asarray(column, float), *hypers)


@jax.jit
def copied(tree):
  """Another copy of arrays on the device, for whoever needs them after training took theirs."""
  return jax.tree.map(jnp.copy, tree)


def divide(num_runs: int, width: int) -> list[range]:
  """Cuts runs 0 .. num_runs - 1 into groups of `width`; the last may be smaller."""
  return [range(i, min(i + width, num_runs)) for i in range(0, num_runs, width)]


def pad(members: Sequence[Run], width: int) -> list[Run]:
  """Fills a group up to `width` with copies of its last member, whose results are dropped.

  A group of another width would be another program, and its results would differ in last bits.
  """
  return list(members) + [members[-1]] * (width - len(members))


def run_at(axes, tree, i):
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


def fetch_run(axes, tree, i: int):
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
  mesh = mesh_of(num_runs, tuple(devices or jax.local_devices()))
  spread, everywhere = (NamedSharding(mesh, spec) for spec in (SPREAD, EVERYWHERE))

  def place(axis, branch):
    return jax.device_put(branch, everywhere if axis is None else spread)

  return _over_axes(place, axes, tree)
