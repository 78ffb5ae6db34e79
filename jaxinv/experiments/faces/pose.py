"""Recovery against pose: the article's remark, that pose blurs the average, as an experiment."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinv.data import splits
from jaxinv.ensemble.groups import Host
from jaxinv.experiments.experiment import Experiment, make_experiment, split_of
from jaxinv.experiments.leakage import EvalConfig
from jaxinv.experiments.pose_sweep import over_poses
from jaxinv.experiments.settings import Settings
from jaxinv.metrics import images as metrics
from jaxinv.runs import files
from jaxinv.types import Dataset


class PoseSweep(NamedTuple):
  """What came of one arm at several scales of pose.

  Attributes:
    poses: the scales.
    to_average: mean over people of the correlation of the recovered face with the class average,
      both as differences from the mean of all people; a value for each scale and seed.
    to_photograph: the same with each single training photograph, averaged.
    averages: the watched person's class average at each scale, in 0..255.
    recovered: the same person, recovered by `reshape`.
  """

  poses: tuple[float, ...]
  to_average: Float[np.ndarray, "j s"]
  to_photograph: Float[np.ndarray, "j s"]
  averages: Float[np.ndarray, "j h w *c"]
  recovered: Float[np.ndarray, "j h w *c"]


def sweep(
  settings: Settings,
  poses: Sequence[float],
  make_dataset: Callable[[float], Dataset],
  host: Host,
) -> PoseSweep:
  """Trains the first arm on data of every scale of pose, with one compiled program.

  Args:
    settings: of the experiment; its first arm is used.
    poses: the scales.
    make_dataset: from a scale to data, always of the same shape.
    host: progress, messages, when to stop.

  Returns:
    The sweep.

  Raises:
    Stopped: the host asked for it. Nothing of a sweep is kept: it starts anew.
  """
  settings = replace(settings, arms=settings.arms[:1], save_seeds=settings.num_seeds)
  experiment = make_experiment(settings, make_dataset(poses[0]))
  rows = [
    _score(here, np.concatenate([group.images["reshape"] for group in groups]))
    for here, groups in over_poses(experiment, poses, make_dataset, host)
  ]
  return PoseSweep(tuple(poses), *(np.stack(column) for column in zip(*rows, strict=True)))


def _score(experiment: Experiment, images: Float[np.ndarray, "s k h w *c"]):
  """One scale's correlations, a value a seed, and the watched person's pictures."""
  data = split_of(experiment, range(experiment.settings.num_seeds))
  scores = [
    _one_seed(experiment.config, jnp.asarray(x), data.inputs, data.labels, t)
    for x, t in zip(images, data.train, strict=True)
  ]
  to_average, to_photograph, averages = map(np.stack, zip(*jax.device_get(scores), strict=True))
  watch = experiment.settings.watch
  return to_average, to_photograph, averages[0, watch], images[0, watch]


@partial(jax.jit, static_argnames="config")
def _one_seed(
  config: EvalConfig,
  images: Float[Array, "k h w *c"],
  inputs: Float[Array, "n p"],
  labels: Int[Array, " n"],
  train: Int[Array, " m"],
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, "k h w *c"]]:
  """One seed's two correlations, and its class averages in 0..255."""
  means = splits.class_means(inputs, labels, train, config.num_classes).reshape(images.shape)
  everyone = means.mean(0, keepdims=True)
  photographs = inputs[train].reshape(-1, *config.image_shape) - everyone
  to_average = jnp.diagonal(metrics.correlations(images, means - everyone)).mean()
  scores = metrics.correlations(images, photographs)
  to_photograph = scores[labels[train], jnp.arange(len(train))].mean()
  return to_average, to_photograph, 255 * means


def write_pose(out_dir: Path, sweep: PoseSweep) -> None:
  """Writes the sweep over pose as pose.json: the scales, and values for each scale and seed."""
  values = {
    "poses": list(sweep.poses),
    "ncc_centred_to_average": sweep.to_average.tolist(),
    "ncc_centred_to_photograph": sweep.to_photograph.tolist(),
  }
  files.write_json(out_dir / "pose.json", values)
