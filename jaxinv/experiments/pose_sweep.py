"""An experiment on data of several scales of pose, all with the same compiled programs."""

from collections.abc import Callable, Iterator, Sequence

from jaxinv.ensemble.groups import Host
from jaxinv.experiments.experiment import Experiment, with_data
from jaxinv.experiments.groups import GroupResult, run_groups
from jaxinv.experiments.planning import plan
from jaxinv.types import Dataset


def over_poses(
  experiment: Experiment,
  poses: Sequence[float],
  make_dataset: Callable[[float], Dataset],
  host: Host,
) -> Iterator[tuple[Experiment, list[GroupResult]]]:
  """Trains and examines an experiment at every scale of pose.

  Args:
    experiment: on data of the first scale.
    poses: the scales.
    make_dataset: from a scale to data, always of the same shape.
    host: progress, messages, when to stop.

  Yields:
    For each scale, the experiment with its data, and what is kept of its groups.

  Raises:
    Stopped: the host asked for it. Nothing of a sweep is kept: it starts anew.
  """
  for pose in poses:
    here = with_data(experiment, make_dataset(pose))
    named = host._replace(advanced=lambda _, steps, pose=pose: host.advanced(f"pose {pose}", steps))
    yield here, run_groups(here, plan(here), None, named)
