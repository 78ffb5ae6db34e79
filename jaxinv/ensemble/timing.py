"""The only reader of the clock: lowering, compiling and running, measured apart.

Every time is taken until the result is ready (JAX returns before that), after a warm-up, and
several times, with the median and the spread told.
"""

import contextlib
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import AxisType, PartitionSpec

Clock = Callable[[], float]
Name = TypeVar("Name", bound=Hashable)

# Operations that take some hundredths of a second.
_PRODUCTS_ON_CPU, _PRODUCTS = 10**10, 10**13


class Compiled(NamedTuple):
  """A program made ready to run.

  Attributes:
    call: takes the arguments it was compiled for, without the static ones.
    lower_s: seconds to trace it and to lower it to StableHLO.
    compile_s: seconds XLA took to compile that, never from JAX's persistent cache.
    peak_bytes: memory of its arguments, outputs and temporary buffers, less what outputs share
      with arguments, as the compiler states it of one device; None where it does not.
  """

  call: Callable[..., Any]
  lower_s: float
  compile_s: float
  peak_bytes: int | None


class Spread(NamedTuple):
  """Repeated measurements: their median, and the distance between their quartiles."""

  median: float
  iqr: float


def compile_timed(
  jitted: Callable[..., Any], *args: Any, clock: Clock = time.perf_counter, **static: Any
) -> Compiled:
  """Compiles a jitted function for given arguments; runs nothing.

  Args:
    jitted: what `jax.jit` returned.
    *args: arguments as it will be called with; donated ones are left alone.
    clock: the time in seconds.
    **static: its static arguments, by name.

  Returns:
    The program and what it took to make it.
  """
  start = clock()
  lowered = jitted.lower(*args, **static)
  middle = clock()
  with _without_cache():
    compiled = lowered.compile()
  end = clock()
  return Compiled(compiled, middle - start, end - middle, _peak_bytes(compiled))


@contextlib.contextmanager
def _without_cache() -> Iterator[None]:
  """Keeps JAX from finding compiled programs on the disk, and from leaving them there."""
  enabled = jax.config.jax_enable_compilation_cache
  # JAX asks once whether there is a cache; to reset it makes it ask again.
  jax.config.update("jax_enable_compilation_cache", False)
  compilation_cache.reset_cache()
  try:
    yield
  finally:
    jax.config.update("jax_enable_compilation_cache", enabled)
    compilation_cache.reset_cache()


def _peak_bytes(compiled: Any) -> int | None:
  memory = compiled.memory_analysis()
  if memory is None:
    return None
  sizes = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
  return int(sizes - memory.alias_size_in_bytes)


def time_calls(
  calls: Mapping[Name, Callable[[], Any]],
  repeats: int,
  done: Callable[[Name], None] = lambda name: None,
  clock: Clock = time.perf_counter,
) -> dict[Name, list[float]]:
  """Times several calls side by side, so that what drifts meanwhile hits them all alike.

  Each is called once to warm up, then once in each repeat; every other repeat goes through them
  backwards, so that none always follows the same neighbour.

  Args:
    calls: what to call, by name; each returns arrays, which are waited for.
    repeats: how often each is timed.
    done: told of each finished call, outside of the time measured.
    clock: the time in seconds.

  Returns:
    The seconds of each repeat in order, by name.
  """
  seconds: dict[Name, list[float]] = {name: [] for name in calls}
  for repeat in range(-1, repeats):
    for name in list(calls) if repeat % 2 == 0 else reversed(list(calls)):
      start = clock()
      jax.block_until_ready(calls[name]())
      end = clock()
      if repeat >= 0:
        seconds[name].append(end - start)
      done(name)
  return seconds


def spread(seconds: Sequence[float]) -> Spread:
  """Returns the median of repeated measurements and the distance between their quartiles."""
  low, median, high = np.percentile(seconds, [25, 50, 75])
  return Spread(float(median), float(high - low))


class Work(NamedTuple):
  """Something to time whose amount is known.

  Attributes:
    call: does it, and returns arrays to wait for.
    amount: how much one call does: floating-point operations, or bytes.
  """

  call: Callable[[], Any]
  amount: float


def products(m: int, k: int, n: int) -> Work:
  """Products [m, k] by [k, n] on all devices at once, at JAX's precision, one after another.

  Args:
    m: rows of the first matrix.
    k: columns of the first, rows of the second.
    n: columns of the second.

  Returns:
    As many products as take some hundredths of a second; 2 m k n operations each.
  """
  a, b = _on_each_device((m, k)), _on_each_device((k, n))
  product = _at_once(lambda a, b: (a[0] @ b[0])[None])
  each = a.shape[0] * 2 * m * k * n
  enough = _PRODUCTS_ON_CPU if jax.devices()[0].platform == "cpu" else _PRODUCTS
  rounds = min(100, -(-enough // each))

  def call():
    for _ in range(rounds):
      result = product(a, b)
    return result  # A device works in order: where the last is ready, all are.

  return Work(call, rounds * each)


def model_products(batch: int, features: int, classes: int) -> dict[str, Work]:
  """A linear model's own two products, and large square ones, by name."""
  # Large enough to keep the device busy, small enough to take well below a second.
  square = 1024 if jax.devices()[0].platform == "cpu" else 4096
  return {
    "logits": products(batch, features, classes),
    "gradient": products(features, batch, classes),
    "square": products(square, square, square),
  }


def sweep(num_bytes: int) -> Work:
  """All devices together add 1 to each of many numbers, in place.

  Args:
    num_bytes: of the numbers; more than all caches hold, to measure the main memory.

  Returns:
    One pass over them, in bytes read and written.
  """
  itemsize = jax.dtypes.canonicalize_dtype(float).itemsize
  numbers = _on_each_device((max(1, num_bytes // itemsize // jax.local_device_count()),))
  add = _at_once(lambda x: x + 1, donate_argnums=0)

  def call():
    nonlocal numbers
    numbers = add(numbers)
    return numbers

  return Work(call, 2 * numbers.nbytes)


def _on_each_device(shape: tuple[int, ...]) -> jax.Array:
  """Numbers of all sorts, an array of a shape on each device: [devices, *shape]."""
  # Not drawn at random, which takes several times the memory of a large array.
  draw = _at_once(lambda i: jnp.sin(i + jnp.arange(math.prod(shape), dtype=float)))
  return draw(jnp.arange(jax.local_device_count())).reshape(-1, *shape)


def _at_once(function: Callable[..., jax.Array], **options: Any) -> Callable[..., jax.Array]:
  """Compiles a function to work on all devices at once, each on its part of the leading axis."""
  devices, spec = jax.local_devices(), PartitionSpec("device")
  mesh = jax.make_mesh((len(devices),), ("device",), (AxisType.Auto,), devices=devices)
  return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec), **options)
