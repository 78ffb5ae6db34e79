"""How many networks should train together? Measured, as devices differ."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxinv.ensemble import timing
from jaxinv.experiments.networks.settings import NetworkArm, NetworkSettings
from jaxinv.experiments.networks.training import network_program, on_device, plan, ready
from jaxinv.types import TrainTest

# Steps of a short and of a long chunk, and how often each is timed: the difference has no
# evaluation in it, which ends every chunk.
_SHORT, _LONG, _REPEATS = 1, 6, 3


def seconds_a_step(
  settings: NetworkSettings,
  data: TrainTest,
  arm: NetworkArm,
  widths: Sequence[int],
  done: Callable[[Any], None] = lambda name: None,
) -> dict[int, float]:
  """Seconds of a training step for each network of a group, at several widths of groups.

  Args:
    settings: batch, augmentation, precision; their width and number of seeds do not matter.
    data: the images.
    arm: how the networks are trained.
    widths: networks of a group.
    done: called at each finished measurement, 2 x 4 for each width.

  Returns:
    The median of several measurements, by width; neither compilation nor evaluation is in it.
  """
  calls = {}
  for width in widths:
    chunk = _chunks(replace(settings, arms=(arm,), num_seeds=width, width=width), data)
    calls |= {(width, steps): chunk(steps) for steps in (_SHORT, _LONG)}
  times = timing.time_calls(calls, _REPEATS, done)
  return {
    width: float(np.median(np.subtract(times[width, _LONG], times[width, _SHORT])))
    / ((_LONG - _SHORT) * width)
    for width in widths
  }


def _chunks(settings: NetworkSettings, data: TrainTest) -> Callable[[int], Callable[[], Any]]:
  """From a number of steps to a call that trains the first group for so many more."""
  group = plan(settings, data)[0]
  program = network_program(settings, data, group.arm, group.train.shape[1])
  images = on_device(data)._replace(train=jnp.asarray(group.train))
  keys, hypers, images = ready(settings, group, images)
  states = program.init(keys, hypers, images)

  def chunk(steps: int) -> Callable[[], Any]:
    def call():
      nonlocal states  # Each call takes the memory of the states that it is given.
      states, record = program.advance(states, hypers, images, num_steps=steps)
      return record

    return call

  return chunk
