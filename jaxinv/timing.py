"""The only reader of the clock: lowering, compiling and running, measured apart.

Every time is taken until the result is ready (JAX returns before that), after a warm-up, and
several times, with the median and the spread told. Besides the clock there are the two ways of
training many models that the benchmark compares, made ready to be timed.
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxinv import ensemble, train
from jaxinv.train import Trainer
from jaxinv.types import Data, Hyper, Record, TrainState

Clock = Callable[[], float]
Name = TypeVar("Name", bound=Hashable)

# A product timed fewer times than this might show nothing but a disturbance.
_FEWEST_PRODUCTS = 3


class Compiled(NamedTuple):
  """A program made ready to run.

  Attributes:
    call: takes the arguments it was compiled for, without the static ones.
    lower_s: seconds to trace it and to lower it to StableHLO.
    compile_s: seconds XLA took to compile that; a hit in JAX's persistent cache counts as that.
    peak_bytes: memory of its arguments, outputs and temporary buffers, less what outputs share
      with arguments, as the compiler states it; None where it does not.
  """

  call: Callable[..., Any]
  lower_s: float
  compile_s: float
  peak_bytes: int | None


class Spread(NamedTuple):
  """Repeated measurements: their median, and the distance between their quartiles."""

  median: float
  iqr: float


class Training(NamedTuple):
  """Some steps of some models, ready to be timed.

  Attributes:
    compiled: the program behind it.
    call: () -> arrays to wait for; each call goes on where the one before stopped.
  """

  compiled: Compiled
  call: Callable[[], Any]


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
  compiled = lowered.compile()
  end = clock()
  return Compiled(compiled, middle - start, end - middle, _peak_bytes(compiled))


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


def matmul_rate(
  m: int, k: int, n: int, seconds: float = 0.3, clock: Clock = time.perf_counter
) -> float:
  """Measures how fast the device multiplies [m, k] by [k, n], in float32 at JAX's precision.

  Args:
    m: rows of the first matrix.
    k: columns of the first, rows of the second.
    n: columns of the second.
    seconds: how long to go on.
    clock: the time in seconds.

  Returns:
    Floating-point operations a second, 2 m k n in one product, of the fastest product.
  """
  key_a, key_b = jax.random.split(jax.random.key(0))
  a, b = jax.random.normal(key_a, (m, k)), jax.random.normal(key_b, (k, n))
  product = jax.jit(jnp.matmul)
  jax.block_until_ready(product(a, b))
  begin, times = clock(), []
  while len(times) < _FEWEST_PRODUCTS or clock() - begin < seconds:
    start = clock()
    jax.block_until_ready(product(a, b))
    times.append(clock() - start)
  return 2 * m * k * n / min(times)


def gemm_rate(batch: int, features: int, classes: int) -> float:
  """The best rate, in FLOP/s, of a linear model's own two products and of a large square one."""
  # Large enough to keep the device busy, small enough to take well below a second.
  square = 1024 if jax.devices()[0].platform == "cpu" else 4096
  shapes = ((batch, features, classes), (features, batch, classes), (square, square, square))
  return max(matmul_rate(*shape) for shape in shapes)


def train_together(
  trainer: Trainer, keys: Key[Array, " s"], hypers: Hyper, data: Data, num_steps: int
) -> Training:
  """Prepares training of all models by the program that an experiment uses, without its records.

  Args:
    trainer: the engine for one model.
    keys: one for each model.
    hypers: hyperparameters, each leaf [s].
    data: examples, and a split for each model.
    num_steps: steps in one call.

  Returns:
    The training, compiled but not begun.
  """
  # What an experiment measures between chunks is no part of a step, and in small batches it would
  # be a large part of the time.
  program = ensemble.make_program(trainer._replace(evaluate=_no_record))
  states = program.init(keys, hypers, data)
  compiled = compile_timed(program.advance, states, hypers, data, num_steps=num_steps)

  def call():
    nonlocal states
    states, record = compiled.call(states, hypers, data)  # The old states' memory is given up.
    return states, record

  return Training(compiled, call)


def _no_record(state: TrainState, data: Data) -> Record:
  return Record(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()), jnp.ones((), bool))


def train_in_turn(
  trainer: Trainer, keys: Key[Array, " s"], hypers: Hyper, data: Data, num_steps: int
) -> Training:
  """Prepares training of one model after another, all by one program for one model.

  Takes the arguments of `train_together`, and the models are the same.
  """
  init = jax.jit(trainer.init)
  steps = jax.jit(partial(train.run, trainer, num_steps=num_steps), donate_argnums=0)
  axes = (0, 0, ensemble.SHARED_DATA)
  models = [ensemble.member(axes, (keys, hypers, data), i) for i in range(len(keys))]
  states = [init(*model) for model in models]
  compiled = compile_timed(steps, states[0], *models[0][1:])

  def call():
    for i, (_, hyper, own) in enumerate(models):
      states[i], info = compiled.call(states[i], hyper, own)
    # One device works in order: where the last info is ready, all before it is.
    return states, info

  return Training(compiled, call)


def steps_to_accuracy(
  program: ensemble.Program,
  keys: Key[Array, " s"],
  hypers: Hyper,
  data: Data,
  target: float,
  max_steps: int,
  record_every: int,
) -> Float[np.ndarray, " s"]:
  """Trains until every model has classified the target's share of its training split right.

  Returns:
    The first recorded step at which each had; infinite where none was within `max_steps`.
  """
  progress, steps = ensemble.start_group(program, keys, hypers, data), [0]
  while True:
    reached = progress.history.train_accuracy >= target
    if reached.any(0).all() or steps[-1] == max_steps:
      return np.where(reached, np.array(steps)[:, None], np.inf).min(0)
    steps.append(min(steps[-1] + record_every, max_steps))
    progress = ensemble.train_group(program, progress, hypers, data, steps[-1], record_every)
