"""What an attacker recovers from trained networks, by every recipe; of each network one file.

The attacker has a network, the mean of the training images, and nothing else.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinv.attacks import inversion
from jaxinv.attacks.inversion import Inversion
from jaxinv.ensemble.groups import Host, Stopped, load_whole, save_whole
from jaxinv.ensemble.seeds import seed_keys
from jaxinv.experiments.networks.settings import DeepArm, DeepSettings, model_of
from jaxinv.experiments.networks.training import DeepGroup, TrainedNetwork, healthy
from jaxinv.training import network as deep
from jaxinv.types import Params, PRNGKey, TrainTest

# Labels of the streams drawn from the key of a seed's attacker.
START, _INVERT, ROBUST = range(3)
# Images inverted together, to bound the memory.
_TOGETHER = 512
# By arm and seed, images by inversion, each [k, r, p].
Recovered = dict[tuple[str, int], dict[str, np.ndarray]]


def recover_all(
  settings: DeepSettings,
  data: TrainTest,
  groups: Sequence[DeepGroup],
  trained: Sequence[list[TrainedNetwork]],
  store: Path | None,
  host: Host,
) -> Recovered:
  """Inverts every network by every recipe, or reads what was recovered before.

  Args:
    settings: what to do.
    data: the images; only their mean is given to the attacker.
    groups: who was trained; the verifier is not inverted.
    trained: each group's networks.
    store: folder of what is finished; None to keep nothing.
    host: progress, messages, when to stop.

  Returns:
    The images; a network that diverged has none.

  Raises:
    Stopped: the host asked for it.
  """
  found: Recovered = {}
  for group, networks in zip(groups, trained, strict=True):
    if group.is_verifier:
      continue
    for seed, network in zip(group.seeds, networks, strict=True):
      if healthy(network):
        # Networks of groups of another width differ in last bits. No arm's name begins so.
        name = f"_recovered-{group.arm.name}-{seed:05d}-of-{group.width}.npz"
        path = store / name if store else None
        found[group.arm.name, seed] = _kept(settings, data, group.arm, network, seed, path, host)
      else:
        host.advanced(f"{group.arm.name}, seed {seed}: diverged", num_steps(settings))
  return found


def num_steps(settings: DeepSettings) -> int:
  """Steps of all inversions of one network."""
  return sum(recipe.steps * len(recipe.scales) for recipe in settings.inversions.values())


def _kept(
  settings: DeepSettings,
  data: TrainTest,
  arm: DeepArm,
  network: TrainedNetwork,
  seed: int,
  path: Path | None,
  host: Host,
) -> dict[str, np.ndarray]:
  """What is recovered from one network; from its file, where that is there."""
  images = load_whole(path, host.say) if path else None
  if images is not None:
    host.advanced(f"{arm.name}, seed {seed}", num_steps(settings))
    return images
  images = _recover(settings, data, arm, network, seed, host)
  if path:
    save_whole(path, images)
  return images


def _recover(
  settings: DeepSettings,
  data: TrainTest,
  arm: DeepArm,
  network: TrainedNetwork,
  seed: int,
  host: Host,
) -> dict[str, np.ndarray]:
  model, labels = model_of(settings, arm, data), wanted(settings, data)
  key = attacker_key(settings, seed)
  images = {}
  for name, recipe in settings.inversions.items():
    title = f"inverting {arm.name}, seed {seed}: {name}"
    host.advanced(title, 0)
    begin = starts(settings, data, recipe, key)
    again = jax.random.fold_in(key, _INVERT)
    ends = []
    for i, part in enumerate(_in_parts(begin, labels)):
      if host.stop():
        raise Stopped(f"stopped before all of {arm.name}, seed {seed}, was inverted")
      own = jax.random.fold_in(again, i)
      ends.append(np.asarray(_invert(model, recipe, network.variables, *part, own)))
    images[name] = np.concatenate(ends).reshape(data.train.num_classes, settings.restarts, -1)
    host.advanced(title, recipe.steps * len(recipe.scales))
  return images


def _in_parts(begin: Array, labels: Array) -> list[tuple[Array, Array]]:
  """Images to start from and their classes, as many in each part as are inverted together."""
  places = range(0, len(labels), _TOGETHER)
  return [(begin[i : i + _TOGETHER], labels[i : i + _TOGETHER]) for i in places]


@partial(jax.jit, static_argnums=(0, 1))
def _invert(
  model: nn.Module, recipe: Inversion, variables: Params, begin: Array, labels: Array, key: PRNGKey
) -> Array:
  victim = deep.make_victim(model, variables)
  return inversion.invert(victim, recipe, begin, labels, model.image_shape, key)[0]


def attacker_key(settings: DeepSettings, seed: int) -> PRNGKey:
  """The randomness of whoever inverts a seed's models; arms share it."""
  return seed_keys(settings.root_seed, [seed])[0]


def wanted(settings: DeepSettings, data: TrainTest) -> Int[Array, " i"]:
  """The class that each recovered image is to be of: all restarts of one class in a row."""
  return jnp.repeat(jnp.arange(data.train.num_classes), settings.restarts)


def starts(
  settings: DeepSettings, data: TrainTest, recipe: Inversion, key: PRNGKey
) -> Float[Array, "i p"]:
  """Where an inversion of all classes and restarts begins."""
  mean = jnp.asarray(data.train.inputs.mean(0))
  num = data.train.num_classes * settings.restarts
  begin = jax.random.fold_in(key, START)
  return inversion.make_starts(begin, recipe, mean, num, data.train.image_shape)
