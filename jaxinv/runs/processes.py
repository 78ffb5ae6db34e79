"""Several processes at one run, by JAX's own distributed runtime.

Each trains whole groups of its own on its own devices, so nothing passes between them but that they
are there; they meet twice, when the run's folder is ready and when all have finished. All must see
the same file system.
"""

from typing import NamedTuple

import jax
from jax.experimental import multihost_utils

from jaxinv.errors import InputError

# A process that has not been heard of for so long is given up.
HEARTBEAT_SECONDS = 60


class Place(NamedTuple):
  """Which of how many processes this is; the first opens the folder and writes the results."""

  index: int = 0
  count: int = 1

  @property
  def first(self) -> bool:
    """Whether this is the first process."""
    return self.index == 0


def join(coordinator: str | None, num_processes: int | None, index: int | None) -> Place:
  """Joins the other processes; to be called before anything is computed.

  Args:
    coordinator: the first process's address, host:port.
    num_processes: how many there are.
    index: which of them this is, from 0. Where all three are None JAX finds them, from SLURM, Open
      MPI, Kubernetes or a TPU pod.

  Returns:
    This process's place.

  Raises:
    InputError: they cannot be found, or do not answer.
  """
  # Without this the runtime ends all processes as soon as one has died.
  jax.config.update("jax_enable_recoverability", True)
  try:
    jax.distributed.initialize(
      coordinator, num_processes, index, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
    )
  except (ValueError, RuntimeError) as error:
    raise InputError(
      f"cannot join the other processes ({' '.join(str(error).split())[:300]}): give "
      "--coordinator=HOST:PORT, --num_processes and --process_id, or start them by a scheduler "
      "that JAX knows"
    ) from error
  return Place(jax.process_index(), jax.process_count())


def meet(place: Place) -> set[int]:
  """Waits for all other processes that are alive.

  Args:
    place: this process's.

  Returns:
    The processes that have died.
  """
  if place.count == 1:
    return set()
  everyone, dead = jax.devices(), set()
  try:
    # The wait is at the block's end.
    with multihost_utils.live_devices(everyone) as alive:
      dead |= {device.process_index for device in set(everyone) - set(alive)}
  except multihost_utils.ProcessFailureError as failure:
    dead |= {device.process_index for device in failure.failed_devices}
  return dead
