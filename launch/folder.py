"""A run's folder, made ready for one process or for many."""

from pathlib import Path

from jaxinv.runs import folder, processes

from .flags import FREE


def open_together(out_dir: Path, config: dict, overwrite: bool, place: processes.Place) -> None:
  """Makes the folder ready by the first process, while the others wait for it.

  Args:
    out_dir: the run's folder.
    config: this run's configuration.
    overwrite: remove the earlier run that is there.
    place: which of how many processes this is.

  Raises:
    InputError: the folder cannot be used; said by every process.
  """
  if place.first:
    try:
      folder.open_folder(out_dir, config, overwrite, FREE)
    finally:
      # The others are let go even if the folder cannot be used: they then find it so.
      processes.meet(place)
  else:
    processes.meet(place)
    folder.join_folder(out_dir, config, FREE)
