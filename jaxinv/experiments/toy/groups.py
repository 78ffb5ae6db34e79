"""The toy's models trained in groups of seeds, and their data's averages read back out.

Checkpoints hold a group's state and its weights at every step so far, so that a run that was
stopped goes on where it was, bit for bit.
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxinv.ensemble import mapping, memory
from jaxinv.ensemble.program import chunk_lengths
from jaxinv.ensemble.seeds import train_keys
from jaxinv.experiments.groups import Host, Stopped
from jaxinv.experiments.toy.toy import FEATURES, Engine, Settings, draw, make_engine
from jaxinv.metrics.images import normalize
from jaxinv.runs import checkpoint
from jaxinv.types import Record

# A step of one such model is so small that wider groups still pay, up to here.
_LARGEST_WIDTH = 256
# Bounds what a group's chunk of weights takes, and how long a signal waits to be noticed.
_LONGEST_CHUNK, _SHORTEST_CHUNK = 10_000, 100


class Outcome(NamedTuple):
  """What came of the experiment.

  Attributes:
    weights: at each step, from the initial ones on, of the first seeds.
    recovered: the final weights, normalised, of the same seeds; NaN where the seed diverged.
    final: the final weights of every seed.
    healthy: whether a seed's loss and weights ended finite.
    measures: by attack, by name, one value a seed; NaN where the seed diverged.
  """

  weights: Float[np.ndarray, "v t p k"]
  recovered: Float[np.ndarray, "v p k"]
  final: Float[np.ndarray, "s p k"]
  healthy: Bool[np.ndarray, " s"]
  measures: dict[str, dict[str, Float[np.ndarray, " s"]]]


def run(settings: Settings, store: Path | None = None, host: Host | None = None) -> Outcome:
  """Trains every seed, in groups, and reads its data's averages back out of its weights.

  Args:
    settings: what to do; see `check`.
    store: folder for checkpoints; None to keep none.
    host: progress, messages, when to stop.

  Returns:
    The outcome.

  Raises:
    Stopped: the host asked for it; the state is in the store.
  """
  engine, host = make_engine(settings), host or Host()
  divided = mapping.divide(settings.num_seeds, _width(settings, engine))
  results = []
  for members in divided:
    group = _Group(members, len(divided[0]), last=members == divided[-1])
    folder = store / f"group-{members.start:07d}" if store else None
    results.append(_run_group(engine, settings, group, folder, host))
  return _assemble(settings, results)


def _width(settings: Settings, engine: Engine) -> int:
  if settings.width:
    return min(settings.width, settings.num_seeds)
  one = draw(settings, [0])
  need = one.inputs.nbytes + 4 * int(np.prod(settings.shape)) * _chunk(settings) * 2
  fitting = max(1, int(memory.device_memory() / 4 // need))
  return min(fitting, _LARGEST_WIDTH * jax.local_device_count(), settings.num_seeds)


def _chunk(settings: Settings) -> int:
  chosen = settings.chunk or max(_SHORTEST_CHUNK, -(-settings.steps // 50))
  return min(chosen, _LONGEST_CHUNK)


class _Group(NamedTuple):
  """Seeds that are trained together; `width` counts the padding in, `last` has none after it."""

  members: range
  width: int
  last: bool


class _Result(NamedTuple):
  """What is kept of a group, its padding dropped; `path` of the first seeds only."""

  path: Float[np.ndarray, "v t p k"]
  initial: Float[np.ndarray, "s p k"]
  final: Float[np.ndarray, "s p k"]
  record: Record


def _run_group(
  engine: Engine, settings: Settings, group: _Group, folder: Path | None, host: Host
) -> _Result:
  seeds = mapping.pad(group.members, group.width)
  keys = train_keys(settings.root_seed, seeds)
  hypers = mapping.stack_hypers([settings.arm.hyper] * group.width)
  data = mapping.shard(draw(settings, seeds), mapping.OWN_DATA, group.width)
  keys, hypers = (mapping.shard(x, 0, group.width) for x in (keys, hypers))
  states = engine.program.init(keys, hypers, data)
  initial = np.asarray(engine.weights(states))
  # At least one, though perhaps none is asked for: checkpoints hold no empty arrays.
  rows = max(1, min(settings.kept - group.members.start, len(group.members)))
  path = initial[:rows, None]
  stored = checkpoint.restore(folder, (states, path), host.say) if folder else None
  if stored is not None:
    states, path = mapping.shard(stored[0], mapping.STATE_AXES, group.width), stored[1]
  advance = partial(engine.advance, hypers=hypers, data=data)
  states, path = _train(advance, settings, group, (states, path), folder, host)
  record = jax.device_get(engine.program.evaluate(states, data))
  real = (initial, np.asarray(engine.weights(states)), record)
  return _Result(path, *jax.tree.map(lambda x: x[: len(group.members)], real))


def _train(advance, settings: Settings, group: _Group, progress, folder: Path | None, host: Host):
  """Takes a group from its (states, path) to the end, a look of the host after each chunk."""
  states, path = progress[0], [progress[1]]
  rows, done, size = len(path[0]), int(states.step), len(group.members)
  title = f"seeds {group.members[0]} to {group.members[-1]}"
  host.advanced(title, done * size)
  saved = time.monotonic()
  for length in chunk_lengths(settings.steps, _chunk(settings), done):
    states, weights = advance(states, num_steps=length)
    path.append(np.asarray(weights[:rows]))
    done += length
    host.advanced(title, length * size)
    # A group that is done is saved whole; after the last one nothing is left that takes time.
    stop, whole = host.stop(), done == settings.steps and not group.last
    if folder and (stop or whole or time.monotonic() - saved >= host.checkpoint_seconds):
      path = [np.concatenate(path, 1)]
      checkpoint.save(folder, done, (states, path[0]))
      saved = time.monotonic()
    if stop:
      raise Stopped(f"stopped at step {done} of {title}")
  return states, np.concatenate(path, 1)


def _assemble(settings: Settings, results: Sequence[_Result]) -> Outcome:
  path = np.concatenate([result.path for result in results])[: settings.kept]
  parts = [(result.initial, result.final, result.record) for result in results]
  initial, final, record = jax.tree.map(lambda *x: np.concatenate(x), *parts)
  recovered = np.asarray(_normalize(final, settings.normalize, settings.data_max))
  healthy = record.finite & np.isfinite(final).all((1, 2))
  with np.errstate(all="ignore"):  # No movement is defined from zero, nor of what diverged.
    movement = _norm(final - initial) / _norm(initial)
  errors = np.abs(recovered - np.transpose(settings.means)).max((1, 2))
  names = [f"weight_{x}{k + 1}" for x in FEATURES for k in range(len(settings.means))]
  model = {"train_loss": record.train_loss, "train_accuracy": record.train_accuracy}
  model |= {"weight_movement": movement}
  model |= dict(zip(names, final.reshape(len(final), -1).T, strict=True))
  measures = {"model": model, "reshape": {"max_error": errors}}
  for values in measures.values():
    for name in values:
      values[name] = np.where(healthy, values[name], np.nan)
  recovered = np.where(healthy[:, None, None], recovered, np.float32(np.nan))
  return Outcome(path, recovered[: settings.kept], final, healthy, measures)


def _normalize(
  weights: Float[np.ndarray, "s p k"], mode: str, largest: float
) -> Float[Array, "s p k"]:
  return jax.vmap(lambda w: normalize(w, mode, largest))(weights)


def _norm(matrices: Float[np.ndarray, "s p k"]) -> Float[np.ndarray, " s"]:
  return np.sqrt(np.square(matrices, dtype=np.float64).sum((1, 2)))
