"""A run's folder, made ready for one process or for many."""

from collections.abc import Sequence
from pathlib import Path

from jaxinv.runs import folder, processes

# Flags that say where and how to work, not what: they may change when a run goes on.
FREE = (
  *("out_dir", "overwrite", "data_dir", "download", "checkpoint_seconds", "compilation_cache"),
  *("memory_fraction", "distributed", "coordinator", "num_processes", "process_id"),
)


def open_together(
  out_dir: Path, config: dict, overwrite: bool, place: processes.Place, free: Sequence[str] = FREE
) -> None:
  """Makes the folder ready by the first process, while the others wait for it.

  Args:
    out_dir: the run's folder.
    config: this run's configuration.
    overwrite: remove the earlier run that is there.
    place: which of how many processes this is.
    free: flags whose values may differ when an unfinished run goes on.

  Raises:
    InputError: the folder cannot be used; said by every process.
  """
  if place.first:
    try:
      folder.open_folder(out_dir, config, overwrite, free)
    finally:
      # The others are let go even if the folder cannot be used: they then find it so.
      processes.meet(place)
  else:
    processes.meet(place)
    folder.join_folder(out_dir, config, free)
