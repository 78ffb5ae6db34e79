"""What the models of several seeds give away together: attacks on their average."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxinv.attacks import ALL, Attack
from jaxinv.data import splits
from jaxinv.experiments.experiment import Experiment
from jaxinv.experiments.groups import GroupResult
from jaxinv.experiments.leakage import EvalConfig, held_out
from jaxinv.experiments.planning import BLOCKS
from jaxinv.metrics.metric import Targets
from jaxinv.types import Data, Release

# Attacks on the models of several seeds together; `seed_mean` is the first.
TOGETHER = tuple(attack for attack in ALL if not attack.needs_one_model)


def sums_of(results: Sequence[GroupResult], arm: int) -> dict[tuple[int, int], np.ndarray]:
  """Sums of an arm's class weights, in float64.

  Args:
    results: the groups.
    arm: its index.

  Returns:
    By prefix and block, see `groups.sum_of`, [k, p].
  """
  sums: dict[tuple[int, int], np.ndarray] = {}
  for result in results:
    for name, part in result.sums.get(str(arm), {}).items():
      key = tuple(map(int, name.split(".")))
      sums[key] = sums.get(key, 0.0) + np.float64(part)
  return sums


def without_each(
  experiment: Experiment,
  sums: Mapping[tuple[int, int], np.ndarray],
  healthy: Bool[np.ndarray, " s"],
  everyone: Data,
) -> dict[str, dict[str, Float[np.ndarray, " b"]]]:
  """Attacks the average model without each block of seeds in turn, for the jackknife.

  Args:
    experiment: settings and data.
    sums: of `sums_of`.
    healthy: which seeds count.
    everyone: the data, with the splits of all seeds.

  Returns:
    By attack, by measure, one value a block that has seeds; nothing for a single one.
  """
  blocks = sorted({block for _, block in sums})
  found = []
  for left_out in blocks if len(blocks) > 1 else ():
    total = sum(part for (_, block), part in sums.items() if block != left_out)
    counted = healthy & (np.arange(len(healthy)) % BLOCKS != left_out)
    found.append(_measure_mean(experiment, total, counted, everyone))
  if not found:
    return {}
  return {
    attack: {
      name: np.array([float(one[attack][1][name]) for one in found]) for name in found[0][attack][1]
    }
    for attack in found[0]
  }


def _measure_mean(
  experiment: Experiment, total: np.ndarray, counted: Bool[np.ndarray, " s"], everyone: Data
) -> dict[str, tuple]:
  """Attacks the average of the models that count, of which `total` is the sum of class weights."""
  given = jnp.asarray(total / counted.sum(), float), everyone, jnp.asarray(counted)
  return {
    attack.name: jax.device_get(measure_together(experiment.config, attack, *given))
    for attack in TOGETHER
  }


def of_prefixes(
  experiment: Experiment,
  sums: Mapping[tuple[int, int], np.ndarray],
  healthy: Bool[np.ndarray, " s"],
  everyone: Data,
) -> dict[int, dict[str, tuple]]:
  """Attacks the average of the models of the first seeds, for all numbers there are sums of.

  Args: as of `without_each`.

  Returns:
    {number of models: {attack: (images, measures)}}.
  """
  total, found = 0.0, {}
  for prefix in sorted({prefix for prefix, _ in sums}):
    total = total + sum(part for (of, _), part in sums.items() if of == prefix)
    last = 2**prefix if experiment.settings.prefixes else len(healthy)
    counted = healthy & (np.arange(len(healthy)) < last)
    found[int(counted.sum())] = _measure_mean(experiment, total, counted, everyone)
  return found


@partial(jax.jit, static_argnames=("config", "attack"))
def measure_together(
  config: EvalConfig,
  attack: Attack,
  mean_weights: Float[Array, "k p"],
  data: Data,
  healthy: Bool[Array, " s"],
) -> tuple[Float[Array, "k h w *c"], dict[str, Float[Array, ""]]]:
  """An attack on several models' average, compared with the average of their class means.

  Args:
    config: how images are made and compared.
    attack: of several models.
    mean_weights: the class weights averaged over the seeds that count.
    data: examples, and a split for each seed (`train` [s, m]).
    healthy: which seeds count.

  Returns:
    The recovered images in 0..255, and the measures by name.
  """
  shares = partial(splits.class_shares, num_classes=config.num_classes)
  train, held = (
    _mean_over_splits(config, data, index, healthy, shares) for index in (data.train, data.holdout)
  )
  targets = Targets(train, held)
  if config.holdout:
    parts = partial(splits.part_shares, num_classes=config.num_classes, size=held_out(config, data))
    targets = targets._replace(
      train_parts=_mean_over_splits(config, data, data.train, healthy, parts)
    )
  # The attack on the mean itself: averaging comes before the reshaping, and both are linear.
  release = Release(params=None, peers={"kernel": mean_weights.T[None]})
  images = config.recover(attack, release)
  return images, config.compare(images, targets)


def _mean_over_splits(
  config: EvalConfig,
  data: Data,
  index: Int[Array, "s _"],
  healthy: Bool[Array, " s"],
  shares: Callable[[Array, Array], Float[Array, "*j k n"]],
) -> Float[Array, "..."]:
  """Means of each seed's split, as `shares` has them, over the seeds that count; in 0..255."""

  # One seed at a time: all of their shares together would be as large as a data set each.
  def add(total, seed):
    chosen, counts = seed
    return total + counts * shares(data.labels, chosen), None

  start = jnp.zeros(jax.eval_shape(shares, data.labels, index[0]).shape)
  total, _ = jax.lax.scan(add, start, (index, healthy.astype(start.dtype)))
  means = 255 * (total / healthy.sum() @ data.inputs)
  return means.reshape(*means.shape[:-1], *config.image_shape)
