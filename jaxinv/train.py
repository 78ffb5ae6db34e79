"""A trainer of ONE model: pure functions to start, to step, and to look.

Nothing here knows that there are many models; `ensemble` maps these functions.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxinv.losses import Loss, smooth_targets
from jaxinv.optimizers import Optimizer, clipped
from jaxinv.types import Data, Hyper, Info, Params, PRNGKey, Record, Release, TrainState


class Trainer(NamedTuple):
  """The doors of a training engine, all of one model and all pure.

  Attributes:
    init: (key, hyper, data) -> state, before the first step.
    step: (state, hyper, data) -> (state, info).
    params: (state, data) -> the model's parameters.
    release: (first state's `params`, state, data) -> parameters now and before the first step.
    evaluate: (state, data) -> record.
    extras: state -> arrays by name: what else this engine knows of a model; perhaps nothing.
  """

  init: Callable[[PRNGKey, Hyper, Data], TrainState]
  step: Callable[[TrainState, Hyper, Data], tuple[TrainState, Info]]
  params: Callable[[TrainState, Data], Params]
  release: Callable[[Params, TrainState, Data], Release]
  evaluate: Callable[[TrainState, Data], Record]
  extras: Callable[[TrainState], dict[str, jax.Array]] = lambda state: {}


class Batch(NamedTuple):
  """The examples of one step.

  Attributes:
    index: which they are; None for all of the data set, in its order.
    share: each one's share of the step's objective; their sum is 1, or 0 where none is kept.
  """

  index: Int[Array, " b"] | None
  share: Float[Array, " b"]

  def of(self, values: Array) -> Array:
    """Picks the batch's rows."""
    return values if self.index is None else values.at[self.index].get(mode="promise_in_bounds")


def make_trainer(
  model: nn.Module,
  loss: Loss,
  optimizer: Optimizer,
  batch_size: int = 0,
  off: Collection[str] = (),
) -> Trainer:
  """Builds the primal engine: gradients by autodiff, updates by optax.

  Args:
    model: from inputs [b, p] to logits [b, k]; has `num_classes`.
    loss: per-example loss of logits and targets.
    optimizer: from hyperparameters to an optax transformation.
    batch_size: examples a step; 0 for the whole training split.
    off: hyperparameters that no run makes use of; without them a step is quicker. To know that a
      bound on the gradient's norm will be infinite is not enough where it is traced: the gradient
      is then read once more for its norm, a third of the time of an SGD step on a CPU.

  Returns:
    The trainer. Its initial parameters depend on the key and on `init_scale` alone.
  """
  optimizer = optimizer if "clip_norm" in off else clipped(optimizer)

  def init(key: PRNGKey, hyper: Hyper, data: Data) -> TrainState:
    params = jax.tree.map(lambda x: hyper.init_scale * x, draw_params(model, key, data))
    opt_state = optimizer(hyper).init(params)
    return TrainState(params, opt_state, jnp.zeros((), jnp.int32), key, data.train)

  def step(state: TrainState, hyper: Hyper, data: Data) -> tuple[TrainState, Info]:
    order, batch = next_batch(state, data, batch_size)
    targets = smooth_targets(batch.of(data.labels), model.num_classes, hyper.label_smoothing)

    def objective(params):
      logits = model.apply({"params": params}, batch.of(data.inputs))
      return (batch.share * loss.value(logits, targets)).sum()

    value, grads = jax.value_and_grad(objective)(state.params)
    updates, opt_state = optimizer(hyper).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state, state.step + 1, state.key, order), Info(value)

  def evaluate(state: TrainState, data: Data) -> Record:
    logits = model.apply({"params": state.params}, data.inputs)
    return record(loss, logits, data, all_finite(state.params))

  def params(state: TrainState, data: Data) -> Params:
    return state.params

  def release(first: Params, state: TrainState, data: Data) -> Release:
    return Release(state.params, first)

  return Trainer(init, step, params, release, evaluate)


def draw_params(model: nn.Module, key: PRNGKey, data: Data) -> Params:
  """A model's initial parameters, before they are scaled.

  Args:
    model: the model.
    key: the run's key, as its state carries it; the steps draw from its other half.
    data: says how many features there are.

  Returns:
    The pytree of parameters.
  """
  return model.init(jax.random.split(key)[0], data.inputs[:1])["params"]


def record(loss: Loss, logits: Float[Array, "n k"], data: Data, finite: Bool[Array, ""]) -> Record:
  """What is measured of one model, from its logits of all examples.

  Args:
    loss: of logits and targets.
    logits: of all examples.
    data: labels, split and which examples count.
    finite: whether the model's parameters are.

  Returns:
    The record.
  """
  values = loss.value(logits, jax.nn.one_hot(data.labels, logits.shape[-1], dtype=logits.dtype))
  correct = _first_largest(logits, data.labels).astype(logits.dtype)
  if data.keep is None:
    train_loss, train_accuracy = values[data.train].mean(), correct[data.train].mean()
  else:
    share = _shares(data.keep[data.train])
    train_loss, train_accuracy = share @ values[data.train], share @ correct[data.train]
  return Record(
    train_loss=train_loss,
    train_accuracy=train_accuracy,
    # The mean of nothing is NaN, which is what a split without held-out examples should say.
    holdout_accuracy=correct[data.holdout].mean(),
    finite=finite & jnp.isfinite(train_loss),
  )


def _first_largest(logits: Float[Array, "n k"], labels: Int[Array, " n"]) -> Bool[Array, " n"]:
  """Whether argmax is the label, never where it is NaN; on CPUs in a third of argmax's time."""
  later = jnp.arange(logits.shape[-1])[None] >= labels[:, None]
  own = jnp.take_along_axis(logits, labels[:, None], 1)
  return ((own > logits) | ((own == logits) & later)).all(-1)


def all_finite(tree: Params) -> Bool[Array, ""]:
  """Whether every number of a pytree is finite."""
  return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


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
      return state.order, Batch(data.train, _shares(_kept(data, data.train)))
    # All examples with no share for those held out: their products with the weights are taken in
    # vain, but no run needs a copy of its own split, and all runs share one matrix product.
    chosen = jnp.ones(num_examples, dtype)
    if num_train < num_examples:
      chosen = jnp.zeros(num_examples, dtype).at[data.train].set(1.0)
    return state.order, Batch(None, _shares(chosen if data.keep is None else chosen * data.keep))
  position = state.step % (num_train // batch_size)

  def shuffle():
    key = jax.random.fold_in(jax.random.split(state.key)[1], state.step)
    return jax.random.permutation(key, data.train)

  # The predicate is never mapped, so under vmap this stays a branch and no permutation is drawn
  # in the steps between.
  order = jax.lax.cond(position == 0, shuffle, lambda: state.order)
  index = jax.lax.dynamic_slice(order, (position * batch_size,), (batch_size,))
  return order, Batch(index, _shares(_kept(data, index)))


def _kept(data: Data, index: Int[Array, " b"]) -> Float[Array, " b"]:
  if data.keep is None:
    return jnp.ones(index.shape, data.inputs.dtype)
  return data.keep[index]


def _shares(weights: Float[Array, " b"]) -> Float[Array, " b"]:
  """Weights over their sum; zeros where there is nothing to share."""
  total = weights.sum()
  return jnp.where(total > 0, weights / jnp.where(total > 0, total, 1.0), 0.0)


def run(
  trainer: Trainer, state: TrainState, hyper: Hyper, data: Data, num_steps: int
) -> tuple[TrainState, Info]:
  """Takes `num_steps` steps in one scan; 25 + 25 of them equal 50, bit for bit.

  Args:
    trainer: the engine.
    state: where to start.
    hyper: hyperparameters.
    data: examples and split.
    num_steps: number of steps, static.

  Returns:
    The last state, and each step's info with a leading axis of `num_steps`.
  """
  return jax.lax.scan(lambda carry, _: trainer.step(carry, hyper, data), state, length=num_steps)
