"""The toy's models trained in groups of seeds, and their data's averages read back out.

Checkpoints hold a group's state and its weights at every step so far, so that a run that was
stopped goes on where it was, bit for bit.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxinv.ensemble import mapping, memory
from jaxinv.ensemble.groups import Host, Task, Training, run_task
from jaxinv.ensemble.program import chunk_lengths, prepare
from jaxinv.experiments.toy.toy import FEATURES, Engine, Settings, draw, make_engine
from jaxinv.metrics.images import normalize

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
  engine = make_engine(settings)
  divided = mapping.divide(settings.num_seeds, _width(settings, engine))
  results = [
    _Result(**run_task(_task(engine, settings, members, len(divided[0])), store, host or Host()))
    for members in divided
  ]
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


class _Result(NamedTuple):
  """What is kept of a group, its padding dropped; `path` of the first seeds only."""

  path: Float[np.ndarray, "v t p k"]
  initial: Float[np.ndarray, "s p k"]
  final: Float[np.ndarray, "s p k"]
  record: dict[str, np.ndarray]


def _task(engine: Engine, settings: Settings, members: range, width: int) -> Task:
  """Seeds that are trained together; the width counts the padding in."""
  chunk = _chunk(settings)

  def begin() -> Training:
    seeds = mapping.pad(members, width)
    hypers = [settings.arm.hyper] * width
    data = draw(settings, seeds)
    keys, hypers, data = prepare(settings.root_seed, seeds, hypers, data, mapping.OWN_DATA)
    states = engine.program.init(keys, hypers, data)
    initial = np.asarray(engine.weights(states))
    # At least one, though perhaps none is asked for: checkpoints hold no empty arrays.
    rows = max(1, min(settings.kept - members.start, len(members)))

    def advance(state, length):
      states, weights = engine.advance(state[0], hypers, data, num_steps=length)
      return states, np.concatenate([state[1], np.asarray(weights[:rows])], 1)

    def finish(state):
      states, path = state
      record = jax.device_get(engine.program.evaluate(states, data))
      ends = {"initial": initial, "final": np.asarray(engine.weights(states))}
      ends["record"] = record._asdict()
      return {"path": path} | jax.tree.map(lambda x: x[: len(members)], ends)

    return Training(
      (states, initial[:rows, None]),
      place=lambda state: (mapping.shard(state[0], mapping.STATE_AXES, width), state[1]),
      step=lambda state: int(state[0].step),
      lengths=lambda done: chunk_lengths(settings.steps, chunk, done),
      advance=advance,
      finish=finish,
    )

  title = f"seeds {members[0]} to {members[-1]}"
  name = f"group-{members.start:07d}-of-{width}"
  return Task(name, title, len(members), settings.steps, begin)


def _assemble(settings: Settings, results: Sequence[_Result]) -> Outcome:
  path = np.concatenate([result.path for result in results])[: settings.kept]
  parts = [(result.initial, result.final, result.record) for result in results]
  initial, final, record = jax.tree.map(lambda *x: np.concatenate(x), *parts)
  recovered = np.asarray(_normalize(final, settings.normalize, settings.data_max))
  healthy = record["finite"] & np.isfinite(final).all((1, 2))
  with np.errstate(all="ignore"):  # No movement is defined from zero, nor of what diverged.
    movement = _norm(final - initial) / _norm(initial)
  errors = np.abs(recovered - np.transpose(settings.means)).max((1, 2))
  names = [f"weight_{x}{k + 1}" for x in FEATURES for k in range(len(settings.means))]
  model = {name: record[name] for name in ("train_loss", "train_accuracy")}
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
