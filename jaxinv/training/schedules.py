"""Learning-rate schedules by name: shapes whose peak is 1, to be multiplied by a run's own rate.

optax's schedules take no traced peak. A shape needs none: it is static, and the rate that it
multiplies stays a leaf that can be mapped over runs.
"""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

# From the number of steps taken so far to the factor on the peak rate.
Schedule = Callable[[Int[Array, ""]], Float[Array, ""]]


def constant(num_steps: int) -> Schedule:
  """The peak rate throughout."""
  return _bounded(optax.constant_schedule(1.0))


def cosine(num_steps: int) -> Schedule:
  """Half a cosine from 1 to 0. Loshchilov & Hutter 2017, arXiv 1608.03983.

  Args:
    num_steps: steps of the whole training, at least 1.

  Returns:
    At step t, (1 + cos(pi t / num_steps)) / 2.
  """
  return _bounded(optax.cosine_decay_schedule(1.0, num_steps))


def one_cycle(num_steps: int) -> Schedule:
  """From 1/25 up to 1 over the first 30 % of steps, then down to 4e-6, both along cosines.

  Smith & Topin 2018, arXiv 1708.07120. Where 30 % is less than a step, it begins at 1.

  Args:
    num_steps: steps of the whole training, at least 1.

  Returns:
    optax's `cosine_onecycle_schedule`.
  """
  return _bounded(optax.cosine_onecycle_schedule(num_steps, 1.0))


def warmup_cosine(num_steps: int) -> Schedule:
  """Linearly up over the first 5 % of steps, w in number, then half a cosine from 1 to 0.

  Goyal et al. 2017, arXiv 1706.02677. The first step is not at rate 0, which would be lost.

  Args:
    num_steps: steps of the whole training, at least 1.

  Returns:
    At step t, (t + 1) / (w + 1) up to step w; then the cosine over the other steps.
  """
  warmup = num_steps // 20
  return _bounded(optax.warmup_cosine_decay_schedule(1 / (warmup + 1), 1.0, warmup, num_steps))


def steps(num_steps: int) -> Schedule:
  """1, and from 50 % of the steps on 0.1, and from 75 % on 0.01. He et al. 2016, arXiv 1512.03385.

  Args:
    num_steps: steps of the whole training, at least 1.

  Returns:
    A drop happens at the first step with that share of all steps behind it.
  """
  # Rounded up: even the only step of a training is at the peak rate.
  half, three_quarters = -(-num_steps // 2), -(-3 * num_steps // 4)
  return _bounded(optax.piecewise_constant_schedule(1.0, {half: 0.1, three_quarters: 0.1}))


def _bounded(schedule: optax.Schedule) -> Schedule:
  """A schedule that is an array, and in [0, 1] whatever optax's rounding."""
  return lambda step: jnp.clip(jnp.asarray(schedule(step), float), 0.0, 1.0)


SCHEDULES: dict[str, Callable[[int], Schedule]] = {
  "constant": constant,
  "cosine": cosine,
  "one_cycle": one_cycle,
  "warmup_cosine": warmup_cosine,
  "steps": steps,
}
