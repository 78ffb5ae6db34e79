"""A run's folder, made ready for one process or for many."""

from pathlib import Path

from jaxinv import cluster, results
from launch.flags import FREE


def open_together(out_dir: Path, config: dict, overwrite: bool, place: cluster.Place) -> None:
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
      results.open_folder(out_dir, config, overwrite, FREE)
    finally:
      # The others are let go even if the folder cannot be used: they then find it so.
      cluster.meet(place)
  else:
    cluster.meet(place)
    results.join_folder(out_dir, config, FREE)
