"""The memory of a program, as the compiler says before it runs, and how much there is."""

import os

import jax
import jax.numpy as jnp
import pytest

from jaxinv.ensemble import memory
from jaxinv.ensemble.memory import Memory, predict_memory
from jaxinv.ensemble.program import state_shapes


def test_the_line_through_two_widths_predicts_a_third(bench):
  """The compiler's own word on each; nothing is run, and the shapes are those that a run has."""

  def peak(width):
    keys, hypers, data = bench.prepare([0] * width)
    states = state_shapes(bench.program, keys, hypers, data)
    return memory.compiled_bytes(bench.program.advance, states, hypers, data, num_steps=3)

  line = memory.predict_memory(peak, 8, 16)
  assert line.of(64) == pytest.approx(peak(64), rel=0.05)
  keys, hypers, data = bench.prepare([0, 1])
  told = state_shapes(bench.program, keys, hypers, data)
  states = bench.program.init(keys, hypers, data)
  assert [(x.shape, x.dtype) for x in jax.tree.leaves(told)] == [
    (x.shape, x.dtype) for x in jax.tree.leaves(states)
  ]
  # At the least a run holds its weights and velocity, or its coefficients and theirs.
  held = sum(x.nbytes for x in jax.tree.leaves((states.params, states.opt_state))) / 2
  assert line.per_run >= held


def test_a_program_that_needs_more_is_told_to():
  """Planted: arguments of 4 kB, results of 4 MB."""
  grow = jax.jit(lambda x: jnp.outer(x, x))
  need = memory.compiled_bytes(grow, jnp.ones(1000))
  assert need == pytest.approx(4e6 + 4e3, rel=0.01)
  donated = jax.jit(lambda x: x + 1, donate_argnums=0)
  assert memory.compiled_bytes(donated, jnp.ones(1000)) == pytest.approx(4e3, rel=0.1)


@pytest.mark.parametrize(("small", "large"), [(1, 2), (8, 16), (16, 8)])
def test_a_line_is_found_from_any_two_widths(small, large):
  line = predict_memory(lambda width: 1000 + 7 * width, small, large)
  assert line == Memory(1000, 7) and line.of(300) == 3100


class Device:
  """As much of a device as is asked."""

  def __init__(self, stats):
    self.memory_stats = lambda: stats


@pytest.mark.parametrize("stats", [None, {}, {"bytes_in_use": 5}, {"bytes_limit": 12345}])
def test_the_memory_is_the_devices_own_and_the_hosts_where_it_has_none(stats, monkeypatch):
  host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  monkeypatch.setattr(jax, "local_devices", lambda: [Device(stats)])
  assert memory.device_memory() == (12345 if stats and "bytes_limit" in stats else host)


class Silent:
  """A compiled program of which the compiler says nothing."""

  def __call__(self):
    raise AssertionError("it was run")

  def lower(self, *args, **static):
    return self

  def compile(self):
    return self

  def memory_analysis(self):
    return None


def test_where_the_compiler_says_nothing_a_program_needs_nothing():
  assert memory.compiled_bytes(Silent(), 1, width=2) == 0
