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
import optax
from jaxtyping import Array, Float, Int

from jaxinv.attacks import inversion
from jaxinv.attacks.inversion import Victim
from jaxinv.attacks.recipes import Inversion
from jaxinv.ensemble.groups import Host, Stopped, load_whole, save_whole
from jaxinv.ensemble.seeds import seed_keys
from jaxinv.experiments.networks.settings import NetworkArm, NetworkSettings, model_of
from jaxinv.experiments.networks.training import NetworkGroup, TrainedNetwork, healthy
from jaxinv.types import Params, PRNGKey, Stream, TrainTest

# Labels of the streams drawn from the key of a seed's attacker.
_START, _INVERT = range(2)
# Images inverted together, to bound the memory.
_TOGETHER = 512
# By arm and seed, images by inversion, each [k, r, p].
Recovered = dict[tuple[str, int], dict[str, np.ndarray]]


def recover_all(
  settings: NetworkSettings,
  data: TrainTest,
  groups: Sequence[NetworkGroup],
  trained: Sequence[list[TrainedNetwork]],
  store: Path | None,
  host: Host,
) -> Recovered:
  """Inverts every network by every recipe, or reads what was recovered before.

  Args:
    settings: what to do.
    data: the images; only their mean is given to the attacker.
    groups: the groups that were trained; the verifier is not inverted.
    trained: each group's networks.
    store: folder of what is finished; None to keep nothing.
    host: progress, messages, when to stop.

  Returns:
    The images; a network that diverged has none.

  Raises:
    Stopped: the host asked for it.
  """
  result: Recovered = {}
  for group, networks in zip(groups, trained, strict=True):
    if group.is_verifier:
      continue
    for seed, network in zip(group.seeds, networks, strict=True):
      if healthy(network):
        # Networks of groups of another width differ in last bits. No arm's name begins so.
        name = f"_recovered-{group.arm.name}-{seed:05d}-of-{group.width}.npz"
        path = store / name if store else None
        result[group.arm.name, seed] = _kept(settings, data, group.arm, network, seed, path, host)
      else:
        host.advanced(f"{group.arm.name}, seed {seed}: diverged", num_steps(settings))
  return result


def num_steps(settings: NetworkSettings) -> int:
  """Steps of all inversions of one network."""
  return sum(recipe.steps * len(recipe.scales) for recipe in settings.inversions.values())


def _kept(
  settings: NetworkSettings,
  data: TrainTest,
  arm: NetworkArm,
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
  settings: NetworkSettings,
  data: TrainTest,
  arm: NetworkArm,
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
  victim = make_victim(model, variables)
  return inversion.invert(victim, recipe, begin, labels, model.image_shape, key)[0]


def make_victim(model: nn.Module, variables: Params) -> Victim:
  """A network as `inversion` attacks it: cross-entropy, and its statistics where it has them.

  Args:
    model: the network.
    variables: its parameters and running statistics.

  Returns:
    The victim.
  """

  def loss(images, labels):
    logits = model.apply(variables, images).logits
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

  def statistics(images):
    _, sown = model.apply(variables, images, mutable=["distance"])
    return sum(jax.tree.leaves(sown), jnp.zeros(()))

  return Victim(loss, statistics if "batch_stats" in variables else None)


def attacker_key(settings: NetworkSettings, seed: int) -> PRNGKey:
  """The randomness of an attacker that inverts a seed's models; arms share it."""
  return Stream.ATTACKER.of(seed_keys(settings.root_seed, [seed])[0])


def robustness_key(settings: NetworkSettings, seed: int) -> PRNGKey:
  """The randomness of the attack that measures the robust accuracy of a seed's models."""
  return Stream.ROBUSTNESS.of(seed_keys(settings.root_seed, [seed])[0])


def wanted(settings: NetworkSettings, data: TrainTest) -> Int[Array, " i"]:
  """The class asked for of each recovered image: all restarts of one class in a row."""
  return jnp.repeat(jnp.arange(data.train.num_classes), settings.restarts)


def starts(
  settings: NetworkSettings, data: TrainTest, recipe: Inversion, key: PRNGKey
) -> Float[Array, "i p"]:
  """Where an inversion of all classes and restarts begins."""
  mean = jnp.asarray(data.train.inputs.mean(0))
  num = data.train.num_classes * settings.restarts
  begin = jax.random.fold_in(key, _START)
  return inversion.make_starts(begin, recipe, mean, num, data.train.image_shape)
