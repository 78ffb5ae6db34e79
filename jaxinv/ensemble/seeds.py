"""What is drawn for each seed: keys, splits, halves, labels; from its number and the root seed.

A seed's draws do not depend on which other seeds are drawn for beside it.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxinv.data import splits
from jaxinv.types import Data, Stream


def seed_keys(root_seed: int, seeds: Sequence[int]) -> Key[Array, " s"]:
  """One key for each seed, from its number and the root seed alone, whoever its neighbours are."""
  return _fold_in_each(jax.random.key(root_seed), jnp.asarray(seeds, jnp.uint32))


def train_keys(root_seed: int, seeds: Sequence[int]) -> Key[Array, " s"]:
  """The keys that initialise and train each seed's model."""
  return _label_each(seed_keys(root_seed, seeds), Stream.TRAIN.label)


@jax.jit
def _fold_in_each(root, seeds):
  return jax.vmap(partial(jax.random.fold_in, root))(seeds)


@jax.jit
def _label_each(keys, label):
  return jax.vmap(lambda key: jax.random.fold_in(key, label))(keys)


def split_data(
  data: Data,
  num_classes: int,
  root_seed: int,
  seeds: Sequence[int],
  holdout: int,
  fixed_split: bool = False,
  halves: bool = False,
) -> Data:
  """The data of a group of seeds: examples shared, a split each.

  Args:
    data: the examples, on the device once; see `splits.whole`.
    num_classes: number of classes, k.
    root_seed: decides, with a seed's number, its split.
    seeds: the numbers of the seeds.
    holdout: examples of each class to hold out.
    fixed_split: one split for all seeds, decided by the root seed.
    halves: train each seed on half of its split: seeds 2 j and 2 j + 1 on complementary halves,
      decided by the root seed and j, so that with one split and evenly many seeds every example
      is in exactly half of the seeds' halves.

  Returns:
    Data with an axis s on `train` and `holdout`.
  """
  keys = seed_keys(root_seed, seeds)
  if fixed_split:
    keys = jnp.broadcast_to(jax.random.key(root_seed), keys.shape)
  index_train, index_holdout = _draw_splits(keys, data.labels, num_classes, holdout)
  if halves:
    pairs = seed_keys(root_seed, [seed // 2 for seed in seeds])
    index_train = _draw_halves(pairs, jnp.asarray(seeds) % 2, data.labels, index_train)
  return data._replace(train=index_train, holdout=index_holdout)


@partial(jax.jit, static_argnames=("num_classes", "holdout"))
def _draw_splits(keys, labels, num_classes, holdout):
  def draw(key):
    return splits.draw_split(Stream.SPLIT.of(key), labels, num_classes, holdout)

  return jax.vmap(draw)(keys)


@jax.jit
def _draw_halves(keys, parities, labels, train):
  def draw(key, parity, train):
    key = Stream.HALF.of(key)
    # By class, and at random within each: every other one is half of each class, one more or less.
    order = jnp.lexsort((jax.random.uniform(key, train.shape), labels[train]))
    return jnp.sort(train[order.reshape(-1, 2)[:, parity]])

  return jax.vmap(draw)(keys, parities, train)


def shuffle_labels(data: Data, root_seed: int, seeds: Sequence[int]) -> Data:
  """Deals out the labels of each seed's training examples among them anew.

  Args:
    data: of a group of seeds.
    root_seed: decides, with a seed's number, what it gets.
    seeds: the numbers of the seeds.

  Returns:
    Data with an axis s on `labels` too; those of examples held out stay.
  """
  return data._replace(labels=_deal_labels(seed_keys(root_seed, seeds), data.labels, data.train))


@jax.jit
def _deal_labels(keys, labels, train):
  def deal(key, train):
    dealt = jax.random.permutation(Stream.LABELS.of(key), labels[train])
    return labels.at[train].set(dealt)

  return jax.vmap(deal)(keys, train)
