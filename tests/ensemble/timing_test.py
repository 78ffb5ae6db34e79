"""Tests of timing, none of which asserts how long anything takes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.ensemble import timing


class FakeClock:
  """A clock that only work moves on."""

  def __init__(self):
    self.now = 0.0

  def __call__(self) -> float:
    return self.now


def test_compiled_returns_what_the_function_returns():
  def scale(x, y, power):
    return {"sum": x + y, "power": x**power}

  jitted = jax.jit(scale, static_argnames="power")
  x, y = jnp.arange(4.0), jnp.ones(4)
  compiled = timing.compile_timed(jitted, x, y, power=3)
  for name, value in compiled.call(x, y).items():
    np.testing.assert_array_equal(value, jitted(x, y, power=3)[name])


def test_compiling_measures_lowering_and_compiling_apart_and_runs_nothing():
  ticks = iter([10.0, 12.0, 17.0])
  jitted = jax.jit(lambda x: x + 1, donate_argnums=0)
  x = jnp.arange(1000.0)
  compiled = timing.compile_timed(jitted, x, clock=lambda: next(ticks))
  assert (compiled.lower_s, compiled.compile_s) == (2.0, 5.0)
  assert not x.is_deleted()


def test_peak_bytes_counts_a_donated_buffer_once():
  x = jnp.zeros(1 << 16)
  kept = timing.compile_timed(jax.jit(lambda x: x + 1), x)
  donated = timing.compile_timed(jax.jit(lambda x: x + 1, donate_argnums=0), x)
  assert kept.peak_bytes >= 2 * x.nbytes
  assert donated.peak_bytes == kept.peak_bytes - x.nbytes


def test_peak_bytes_where_the_compiler_says_nothing():
  class Silent:
    def memory_analysis(self):
      return None

  assert timing._peak_bytes(Silent()) is None


def test_calls_are_interleaved_and_their_order_alternates():
  order = []
  calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
  timing.time_calls(calls, 4)
  rounds = ["".join(order[i : i + 3]) for i in range(0, len(order), 3)]
  assert rounds[1:] == ["abc", "cba", "abc", "cba"]
  assert sorted(rounds[0]) == ["a", "b", "c"]


def test_times_are_of_the_call_alone_without_the_warm_up():
  clock, costs = FakeClock(), {"fast": itertools.count(1), "slow": itertools.count(100, 10)}

  def work(name):
    clock.now += next(costs[name])

  def done(name):
    clock.now += 1000

  calls = {name: (lambda name=name: work(name)) for name in costs}
  seconds = timing.time_calls(calls, 3, done, clock)
  assert seconds == {"fast": [2, 3, 4], "slow": [110, 120, 130]}


def test_every_finished_call_is_told_of():
  told = []
  timing.time_calls({"a": lambda: None, "b": lambda: None}, 2, told.append)
  assert sorted(told) == ["a"] * 3 + ["b"] * 3


def test_results_are_waited_for(monkeypatch):
  waited = []
  monkeypatch.setattr(jax, "block_until_ready", waited.append)
  timing.time_calls({"a": lambda: "result"}, 2)
  assert waited == ["result"] * 3


def test_donated_states_can_be_threaded_on():
  step = jax.jit(lambda x: x + 1, donate_argnums=0)
  state = jnp.zeros(3)

  def call():
    nonlocal state
    state = step(state)
    return state

  timing.time_calls({"step": call}, 4)
  np.testing.assert_array_equal(state, np.full(3, 5.0))


@pytest.mark.parametrize(
  ("values", "median", "iqr"),
  [([3.0], 3.0, 0.0), ([1.0, 2.0, 3.0, 4.0, 100.0], 3.0, 2.0), ([5.0, 1.0], 3.0, 2.0)],
)
def test_spread(values, median, iqr):
  assert timing.spread(values) == (median, iqr)


@pytest.mark.parametrize("shape", [(3, 5, 7), (600, 700, 800)])
def test_products_count_their_operations_on_all_devices(shape):
  work = timing.products(*shape)
  m, k, n = shape
  rounds, rest = divmod(work.amount, jax.local_device_count() * 2 * m * k * n)
  assert rest == 0 and 1 <= rounds <= 100
  assert rounds == 100 or work.amount >= 1e10
  assert work.call().shape == (jax.local_device_count(), m, n)


def test_a_model_s_products_are_those_of_its_logits_and_gradient():
  works = timing.model_products(4, 30, 5)
  assert {name: work.call().shape[1:] for name, work in works.items()} == {
    "logits": (4, 5),
    "gradient": (30, 5),
    "square": (1024, 1024),
  }


def test_a_sweep_changes_every_number_and_counts_what_is_read_and_written():
  numbers = 24 * jax.local_device_count()
  work = timing.sweep(4 * numbers)
  assert work.amount == 2 * 4 * numbers
  first = np.array(work.call())
  np.testing.assert_allclose(work.call(), first + 1)
  assert first.size == numbers


def test_compiling_neither_uses_nor_fills_the_cache_on_the_disk(tmp_path):
  def entries():
    return len(list(tmp_path.iterdir()))

  before = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", str(tmp_path))
  try:
    timing.compile_timed(jax.jit(lambda x: jnp.linalg.inv(x) @ x), jnp.eye(50))
    assert entries() == 0
    with timing._without_cache():
      pass
    assert jax.config.jax_enable_compilation_cache
  finally:
    jax.config.update("jax_compilation_cache_dir", before)
