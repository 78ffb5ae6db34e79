"""A trainer of ONE model: pure functions to start, to step, and to look.

Nothing here knows that there are many models; `ensemble` maps these functions.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from jaxinv.losses import Loss, smooth_targets
from jaxinv.optimizers import Optimizer
from jaxinv.types import Data, Hyper, Info, Params, PRNGKey, Record, TrainState


class Trainer(NamedTuple):
  """The doors of a training engine, all of one model and all pure.

  Attributes:
    init: (key, hyper, data) -> state, before the first step.
    step: (state, hyper, data) -> (state, info).
    params: (state, data) -> the model's parameters.
    evaluate: (state, data) -> record.
  """

  init: Callable[[PRNGKey, Hyper, Data], TrainState]
  step: Callable[[TrainState, Hyper, Data], tuple[TrainState, Info]]
  params: Callable[[TrainState, Data], Params]
  evaluate: Callable[[TrainState, Data], Record]


def make_trainer(
  model: nn.Module, loss: Loss, optimizer: Optimizer, batch_size: int = 0
) -> Trainer:
  """Builds the primal engine: gradients by autodiff, updates by optax.

  Args:
    model: from inputs [b, p] to logits [b, k]; has `num_classes`.
    loss: per-example loss of logits and targets.
    optimizer: from hyperparameters to an optax transformation.
    batch_size: examples a step; 0 for the whole training split.

  Returns:
    The trainer. Its initial parameters depend on the key and on `init_scale` alone.
  """

  def init(key: PRNGKey, hyper: Hyper, data: Data) -> TrainState:
    key_init, key_steps = jax.random.split(key)
    params = model.init(key_init, data.inputs[:1])["params"]
    params = jax.tree.map(lambda x: hyper.init_scale * x, params)
    opt_state = optimizer(hyper).init(params)
    return TrainState(params, opt_state, jnp.zeros((), jnp.int32), key_steps, data.train)

  def step(state: TrainState, hyper: Hyper, data: Data) -> tuple[TrainState, Info]:
    order, batch = next_batch(state, data, batch_size)
    targets = smooth_targets(data.labels[batch], model.num_classes, hyper.label_smoothing)

    def objective(params):
      logits = model.apply({"params": params}, data.inputs[batch])
      return loss.value(logits, targets).mean()

    value, grads = jax.value_and_grad(objective)(state.params)
    updates, opt_state = optimizer(hyper).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state, state.step + 1, state.key, order), Info(value)

  def evaluate(state: TrainState, data: Data) -> Record:
    logits = model.apply({"params": state.params}, data.inputs)
    values = loss.value(logits, jax.nn.one_hot(data.labels, model.num_classes))
    correct = (logits.argmax(-1) == data.labels).astype(logits.dtype)
    finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(state.params)]).all()
    train_loss = values[data.train].mean()
    return Record(
      train_loss=train_loss,
      train_accuracy=correct[data.train].mean(),
      # The mean of nothing is NaN, which is what a split without held-out examples should say.
      holdout_accuracy=correct[data.holdout].mean(),
      finite=finite & jnp.isfinite(train_loss),
    )

  return Trainer(init, step, lambda state, data: state.params, evaluate)


def next_batch(
  state: TrainState, data: Data, batch_size: int
) -> tuple[Int[Array, " m"], Int[Array, " b"]]:
  """The epoch's order and this step's batch: without replacement, shuffled once an epoch.

  The examples left over where the batch size does not divide the split wait for the next epoch.

  Args:
    state: its step says where in the epoch it stands.
    data: its `train` holds the indices to draw from.
    batch_size: examples a step; 0, or the split's size, for all of it in its own order.

  Returns:
    The order in force, to be carried on, and the batch's indices into the data set.
  """
  num_train = data.train.shape[0]
  if batch_size in (0, num_train):
    return state.order, data.train
  position = state.step % (num_train // batch_size)
  # The predicate is never mapped, so under vmap this stays a branch and no permutation is drawn
  # in the steps between.
  order = jax.lax.cond(
    position == 0,
    lambda: jax.random.permutation(jax.random.fold_in(state.key, state.step), data.train),
    lambda: state.order,
  )
  return order, jax.lax.dynamic_slice(order, (position * batch_size,), (batch_size,))


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
