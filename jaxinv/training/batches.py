"""Which examples a step of ONE model takes, with what share of the objective, and augmented how."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxinv.types import Data, PRNGKey, TrainState


class Batch(NamedTuple):
  """The examples of one step.

  Attributes:
    index: which they are; None for all of the data set, in its order.
    share: each one's share of the step's objective; their sum is 1, or 0 where none is kept. Of a
      Poisson batch it is 1 in the mean.
  """

  index: Int[Array, " b"] | None
  share: Float[Array, " b"]

  def of(self, values: Array) -> Array:
    """Picks the batch's rows."""
    return values if self.index is None else values.at[self.index].get(mode="promise_in_bounds")


def next_batch(state: TrainState, data: Data, batch_size: int) -> tuple[Int[Array, " m"], Batch]:
  """The epoch's order and this step's batch: without replacement, shuffled once an epoch.

  The examples left over where the batch size does not divide the split wait for the next epoch.

  Args:
    state: its step says where in the epoch it stands.
    data: its `train` holds the indices to draw from.
    batch_size: examples a step; 0, or the split's size, for all of it.

  Returns:
    The order in force, to be carried on, and the batch.
  """
  num_train, num_examples = data.train.shape[0], data.inputs.shape[-2]
  dtype = data.inputs.dtype
  if batch_size in (0, num_train):
    if 2 * num_train < num_examples:
      return state.order, Batch(data.train, shares(_kept(data, data.train)))
    # All examples with no share for those held out: their products with the weights are taken in
    # vain, but no run needs a copy of its own split, and all runs share one matrix product.
    chosen = jnp.ones(num_examples, dtype)
    if num_train < num_examples:
      chosen = jnp.zeros(num_examples, dtype).at[data.train].set(1.0)
    return state.order, Batch(None, shares(chosen if data.keep is None else chosen * data.keep))
  position = state.step % (num_train // batch_size)

  def shuffle():
    key = jax.random.fold_in(jax.random.split(state.key)[1], state.step)
    return jax.random.permutation(key, data.train)

  # The predicate is never mapped, so under vmap this stays a branch and no permutation is drawn
  # in the steps between.
  order = jax.lax.cond(position == 0, shuffle, lambda: state.order)
  index = jax.lax.dynamic_slice(order, (position * batch_size,), (batch_size,))
  return order, Batch(index, shares(_kept(data, index)))


def poisson_batch(key: PRNGKey, data: Data, batch_size: int, capacity: int) -> Batch:
  """A batch that each training example joins by a coin of its own, as DP-SGD's accounting asks.

  Args:
    key: source of randomness.
    data: its `train` holds the indices to draw from.
    batch_size: examples in the mean; 0, or the split's size, for all of it.
    capacity: places of the batch, see `privacy.capacity`; who finds none is left out.

  Returns:
    The batch; a place's share is 1 / `batch_size`, or 0 where it is not taken or not kept.
  """
  num_train = data.train.shape[0]
  size = batch_size or num_train
  joins = jax.random.uniform(key, (num_train,)) < size / num_train
  index = data.train[jnp.argsort(~joins, stable=True)[:capacity]]
  taken = jnp.arange(capacity) < joins.sum()
  return Batch(index, taken * _kept(data, index) / size)


def _kept(data: Data, index: Int[Array, " b"]) -> Float[Array, " b"]:
  if data.keep is None:
    return jnp.ones(index.shape, data.inputs.dtype)
  return data.keep[index]


def shares(weights: Float[Array, " b"]) -> Float[Array, " b"]:
  """Weights over their sum; zeros where there is nothing to share."""
  total = weights.sum()
  return jnp.where(total > 0, weights / jnp.where(total > 0, total, 1.0), 0.0)


def flip_and_crop(
  key: PRNGKey,
  images: Float[Array, "b p"],
  image_shape: tuple[int, int, int],
  pad: int,
  mirror: bool = True,
) -> Float[Array, "b p"]:
  """Mirrors each image left-right with probability 1/2, then shifts it by up to `pad` pixels.

  The usual augmentation of small images, He et al. 2016, arXiv 1512.03385, but that what a shift
  brings in is the image's reflection rather than black.

  Args:
    key: source of randomness; an image's draw depends on it and on the image's place alone, and
      not on the batch's size.
    images: the batch, each image row by row (h, then w, then c).
    image_shape: (h, w, c).
    pad: most pixels that an image moves by each way, all shifts being equally likely; 0 for flips
      only.
    mirror: whether any image is mirrored.

  Returns:
    The batch, changed.
  """
  top = jnp.array([1 + mirror, 2 * pad + 1, 2 * pad + 1])

  def change(place, image):
    flip, y, x = jax.random.randint(jax.random.fold_in(key, place), (3,), 0, top)
    image = image.reshape(image_shape)
    image = jnp.where(flip, image[:, ::-1], image)
    image = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    return jax.lax.dynamic_slice(image, (y, x, 0), image_shape).ravel()

  return jax.vmap(change)(jnp.arange(len(images)), images)
