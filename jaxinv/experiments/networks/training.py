"""Networks trained in groups, with checkpoints; a finished group is one file."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from jaxinv.data.splits import joined
from jaxinv.ensemble import mapping
from jaxinv.ensemble.groups import Host, Task, Training, Tree, run_task
from jaxinv.ensemble.program import (
  Program,
  advance_group,
  chunk_lengths,
  make_program,
  place_group,
  prepare,
  start_group,
)
from jaxinv.errors import InputError, choose
from jaxinv.experiments.networks.settings import (
  KeepMasks,
  NetworkArm,
  NetworkSettings,
  draw_masks,
  model_of,
  train_config,
)
from jaxinv.models.params import weight_movement
from jaxinv.training.hyper import used
from jaxinv.training.losses import LOSSES
from jaxinv.training.network import make_trainer, variables_of
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.types import Data, Params, RobustHyper, TrainTest

# The images are shared; each run has a split of its own.
_AXES = Data(inputs=None, labels=None, train=0, holdout=None)
# The verifier's seed, which no arm can have.
_VERIFIER_SEED = 2**32 - 1


class TrainedNetwork(NamedTuple):
  """One trained network.

  Attributes:
    variables: parameters and running statistics.
    steps: when it was recorded.
    history: `train_loss`, `train_accuracy`, `holdout_accuracy`, `finite`, each [t].
    weight_movement: see `params.weight_movement`.
  """

  variables: Params
  steps: np.ndarray
  history: dict[str, np.ndarray]
  weight_movement: float


def healthy(network: TrainedNetwork) -> bool:
  """Whether a network's losses and parameters stayed finite."""
  return bool(network.history["finite"].all())


class NetworkGroup(NamedTuple):
  """Networks of one arm that are trained together.

  Attributes:
    name: of its files.
    arm: how they are trained.
    seeds: of its networks.
    train: [s, m], the images that each is trained on.
    width: networks that the group holds, padding counted in.
  """

  name: str
  arm: NetworkArm
  seeds: tuple[int, ...]
  train: np.ndarray
  width: int

  @property
  def is_verifier(self) -> bool:
    """Whether this is the network that classifies the images recovered from the others."""
    return self.seeds == (_VERIFIER_SEED,)


def plan(settings: NetworkSettings, data: TrainTest, processes: int = 1) -> list[NetworkGroup]:
  """Divides the runs of each arm into groups of one width; the verifier is the last group.

  Args:
    settings: arms, seeds, and the width, where that is given: else a group has one network for each
      device of this process, but no more than leave work for all processes.
    data: the images.
    processes: how many share the run.

  Returns:
    The groups.
  """
  masks = draw_masks(settings, data.train.labels)
  width = width_of(settings, processes)
  groups = []
  for arm in settings.arms:
    for members in mapping.divide(settings.num_seeds, width):
      train = np.stack([_trained_on(masks, seed, arm.copies) for seed in members])
      name = f"{arm.name}-{members[0]:05d}-of-{width}"
      groups.append(NetworkGroup(name, arm, tuple(members), train, width))
  everything = np.arange(len(data.train.labels))[None]
  return [*groups, NetworkGroup("verifier.0", settings.verifier, (_VERIFIER_SEED,), everything, 1)]


def _trained_on(masks: KeepMasks, seed: int, copies: int) -> Int[np.ndarray, " m"]:
  """Indices of the images that a seed trains on, each candidate as often as there are copies."""
  kept = masks.kept[seed]
  return np.repeat(np.flatnonzero(kept), np.where(masks.candidate, copies, 1)[kept])


def width_of(settings: NetworkSettings, processes: int = 1) -> int:
  """Networks of a group; see `plan`."""
  most = -(-settings.num_seeds // processes)
  return min(settings.width or len(jax.local_devices()), most)


def num_steps(settings: NetworkSettings, group: NetworkGroup) -> int:
  """Steps of each network of a group."""
  return train_config(settings, group.arm, group.train.shape[1]).num_steps


def train_groups(
  settings: NetworkSettings,
  data: TrainTest,
  groups: Sequence[NetworkGroup],
  store: Path | None,
  host: Host,
) -> list[list[TrainedNetwork]]:
  """Trains every group that is not finished yet.

  Args:
    settings: what to do.
    data: the images.
    groups: the plan.
    store: folder for checkpoints and finished groups; None to keep nothing.
    host: progress, messages, when to stop.

  Returns:
    Each group's networks, in the order of its seeds.

  Raises:
    Stopped: the host asked for it; the state is in the store.
    InputError: the verifier diverged.
  """
  # Groups of an arm are one program.
  make = cache(lambda arm, num_train: network_program(settings, data, arm, num_train))
  images, results = on_device(data), []
  for group in groups:
    kept = run_task(_task(settings, make, group, images), store, host)
    done = _networks(group, kept)
    if group.is_verifier and not healthy(done[0]):
      raise InputError(
        "the verifier diverged, and cannot check anything: give it a smaller learning_rate with "
        "--verifier, and --overwrite"
      )
    results.append(done)
  return results


def on_device(data: TrainTest) -> Data:
  """All images in a row, those for training first; trained on is what a group says."""
  whole, num_train = joined(data), len(data.train.labels)
  holdout = jnp.arange(num_train, len(whole.labels))
  inputs, labels = jnp.asarray(whole.inputs), jnp.asarray(whole.labels)
  return Data(inputs, labels, jnp.arange(num_train)[None], holdout)


def network_program(
  settings: NetworkSettings, data: TrainTest, arm: NetworkArm, num_train: int
) -> Program:
  """The program that trains an arm's networks on so many images each."""
  trainer = make_trainer(
    model_of(settings, arm, data),
    LOSSES["softmax"],
    choose("optimizer", arm.optimizer, OPTIMIZERS),
    train_config(settings, arm, num_train),
    used(arm.hyper.base),
  )
  # Mapped, the convolutions of several models become one grouped convolution, which on CPUs is far
  # slower than one after another.
  block = 1 if jax.default_backend() == "cpu" else 0
  return make_program(trainer, _AXES, block=block)


def _task(
  settings: NetworkSettings,
  make: Callable[[NetworkArm, int], Program],
  group: NetworkGroup,
  images: Data,
) -> Task:
  """Trains a group; what is kept of it are `TrainedNetwork`s with a leading axis s."""
  steps, real = num_steps(settings, group), len(group.seeds)
  every = settings.record_every * max(1, group.train.shape[1] // settings.batch_size)

  def begin() -> Training:
    program = make(group.arm, group.train.shape[1])
    keys, hypers, data = ready(settings, group, images._replace(train=jnp.asarray(group.train)))
    start = start_group(program, keys, hypers, data)
    first = jax.device_get(start.states.params)

    def finish(progress):
      variables = jax.device_get(variables_of(progress.states))
      return {
        "steps": np.cumsum([0, *chunk_lengths(steps, every)]),
        "history": {name: x[:, :real] for name, x in progress.history._asdict().items()},
        "variables": jax.tree.map(lambda x: x[:real], variables),
        "weight_movement": np.asarray(jax.vmap(weight_movement)(variables["params"], first)),
      }

    return Training(
      start,
      place=lambda progress: place_group(progress, group.width),
      step=lambda progress: int(progress.states.step),
      lengths=lambda done: chunk_lengths(steps, every, done),
      advance=lambda progress, length: advance_group(program, progress, hypers, data, length),
      finish=finish,
    )

  return Task(group.name, _title(group), real, steps, begin)


def ready(
  settings: NetworkSettings, group: NetworkGroup, data: Data
) -> tuple[Key[Array, " s"], RobustHyper, Data]:
  """Keys, hyperparameters and data of a group, padded to its width and laid out over the devices.

  Args:
    settings: the root seed.
    group: the group that is trained.
    data: the images, on the device, and what each of the group's networks is trained on.

  Returns:
    What `ensemble.start_group` takes.
  """
  seeds = mapping.pad(group.seeds, group.width)
  rows = np.array(mapping.pad(range(len(group.seeds)), group.width))
  data = data._replace(train=data.train[rows])
  return prepare(settings.root_seed, seeds, [group.arm.hyper] * group.width, data, _AXES)


def _networks(group: NetworkGroup, result: Tree) -> list[TrainedNetwork]:
  """A group's networks, from the arrays that are kept of it."""
  return [
    TrainedNetwork(
      jax.tree.map(lambda x, i=i: x[i], result["variables"]),
      result["steps"],
      {name: x[:, i] for name, x in result["history"].items()},
      float(result["weight_movement"][i]),
    )
    for i in range(len(group.seeds))
  ]


def _title(group: NetworkGroup) -> str:
  """Which arm and seeds a group trains, for people."""
  if group.is_verifier:
    return "the verifier"
  return f"{group.arm.name}: seeds {group.seeds[0]} to {group.seeds[-1]}"
