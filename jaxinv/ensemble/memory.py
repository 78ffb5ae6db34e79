"""How much memory a compiled program takes, told before it runs, and how much there is."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Memory(NamedTuple):
  """The peak memory of a compiled program as a line: bytes = fixed + per_run * width."""

  fixed: float
  per_run: float

  def of(self, width: int) -> float:
    """Bytes at a width."""
    return self.fixed + self.per_run * width


def predict_memory(peak: Callable[[int], int], small: int, large: int) -> Memory:
  """Predicts a program's peak memory at all widths from that at two; measured, it is affine.

  Args:
    peak: from a width to the bytes that a program compiled for it takes.
    small: a width.
    large: another.

  Returns:
    The line through both.
  """
  low, high = peak(small), peak(large)
  per_run = (high - low) / (large - small)
  return Memory(low - per_run * small, per_run)


def compiled_bytes(jitted: Callable[..., Any], *args: Any, **static: Any) -> int:
  """Compiles a program, runs nothing, and says how much memory it takes, in bytes.

  Args:
    jitted: what `jax.jit` returned.
    *args: its arguments, or only their shapes.
    **static: its static arguments.

  Returns:
    Arguments, results and what it needs between, on all devices that share one memory.
  """
  memory = jitted.lower(*args, **static).compile().memory_analysis()
  if memory is None:
    return 0
  sizes = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
  return int(sizes - memory.alias_size_in_bytes)


def device_memory() -> int:
  """Memory that this process may plan with, in bytes: the device's own, or what the host has."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if "bytes_limit" in stats:
    return int(stats["bytes_limit"])
  return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
