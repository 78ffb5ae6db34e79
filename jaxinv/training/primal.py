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

from jaxinv.models.dense import Dropout, kernel_first
from jaxinv.training.batches import next_batch, poisson_batch, shares
from jaxinv.training.dpsgd import example_gradients, is_linear, linear_private_mean, private_mean
from jaxinv.training.losses import Loss, smooth_targets
from jaxinv.training.optimizers import Optimizer, clipped, stopped, undecayed
from jaxinv.training.privacy import capacity
from jaxinv.training.projection import Projection, project_difference
from jaxinv.types import (
  AnyHyper,
  Data,
  Hyper,
  Info,
  Params,
  PRNGKey,
  Record,
  Release,
  Snapshot,
  TrainState,
)

# Labels of the streams drawn from a run's key beside the two of its split: see `TrainState.key`.
_STEP_NOISE = 2


class Trainer(NamedTuple):
  """The doors of a training engine, all of one model and all pure.

  Attributes:
    init: (key, hyper, data) -> state, before the first step.
    step: (state, hyper, data) -> (state, info).
    params: (state, data) -> the model's parameters.
    release: (first state's `params`, state, data, earlier snapshot or None) -> parameters now,
      before the first step, and where a snapshot is given at its time.
    evaluate: (state, data) -> record.
    project: (a state's `params`, another's to take off or None, data) -> what correlations with
      the examples need of the class weights, see `projection`; None for models whose class weights
      see no pixels.
    extras: state -> arrays by name: what else this engine knows of a model; perhaps nothing.
  """

  init: Callable[[PRNGKey, AnyHyper, Data], TrainState]
  step: Callable[[TrainState, AnyHyper, Data], tuple[TrainState, Info]]
  params: Callable[[TrainState, Data], Params]
  release: Callable[..., Release]
  evaluate: Callable[[TrainState, Data], Record]
  project: Callable[[Params, Params | None, Data], Projection] | None = None
  extras: Callable[[TrainState], dict[str, jax.Array]] = lambda state: {}


def make_trainer(
  model: nn.Module,
  loss: Loss,
  optimizer: Optimizer,
  batch_size: int = 0,
  off: Collection[str] = (),
  features: Collection[str] = (),
  turned: bool = False,
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
    features: hyperparameters that runs make use of only where they are named, for each costs every
      step much: `input_noise`, `dropout`, and `dp_clip` for DP-SGD, which draws its batches by
      Poisson sampling.
    turned: whether states hold a linear model's kernel as [k, p], which is how the gradient comes
      out of the one large product of many models with the same examples: a tenth of a step of Adam
      went into turning it around on a CPU. The doors show it as [p, k] all the same.

  Returns:
    The trainer. Its initial parameters depend on the key and on `init_scale` alone.
  """
  optimizer = undecayed(optimizer) if "weight_decay" in off else optimizer
  optimizer = optimizer if "clip_norm" in off else clipped(optimizer)

  turn = _turn_kernels if turned else lambda params: params
  if turned:
    model = model.clone(dot_general=kernel_first)

  def init(key: PRNGKey, hyper: Hyper, data: Data) -> TrainState:
    params = jax.tree.map(lambda x: hyper.init_scale * x, turn(draw_params(model, key, data)))
    opt_state = optimizer(hyper).init(params)
    return TrainState(params, opt_state, jnp.zeros((), jnp.int32), key, data.train)

  def step(state: TrainState, hyper: Hyper, data: Data) -> tuple[TrainState, Info]:
    hyper = hyper if "steps" in off else stopped(hyper, state.step)
    noise = jax.random.fold_in(jax.random.fold_in(state.key, _STEP_NOISE), state.step)
    keys = jax.random.split(noise, 4)
    if "dp_clip" not in features:
      order, batch = next_batch(state, data, batch_size)
    else:
      size, num_train = batch_size or data.train.shape[0], data.train.shape[0]
      order = state.order
      batch = poisson_batch(keys[0], data, size, capacity(size, num_train))
    targets = smooth_targets(batch.of(data.labels), model.num_classes, hyper.label_smoothing)
    inputs = batch.of(data.inputs)
    if "input_noise" in features:
      inputs += hyper.input_noise * jax.random.normal(keys[1], inputs.shape, inputs.dtype)

    def losses(params, inputs, targets, key):
      dropout = (Dropout(key, hyper.dropout),) if "dropout" in features else ()
      return loss.value(model.apply({"params": turn(params)}, inputs, *dropout), targets)

    def objective(params):
      return (batch.share * losses(params, inputs, targets, keys[2])).sum()

    if "dp_clip" not in features:
      value, grads = jax.value_and_grad(objective)(state.params)
    else:
      value, taken = objective(state.params), batch.share > 0
      if is_linear(model) and "dropout" not in features:
        parts = (model, loss, state.params, inputs, targets, taken, size)
        grads = linear_private_mean(*parts, hyper, keys[3])
      else:
        own_keys = jax.random.split(keys[2], len(taken))
        each = example_gradients(losses, state.params, inputs, targets, own_keys, taken)
        grads = private_mean(each, size, hyper, keys[3])
    updates, opt_state = optimizer(hyper).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state, state.step + 1, state.key, order), Info(value)

  def evaluate(state: TrainState, data: Data) -> Record:
    logits = model.apply({"params": turn(state.params)}, data.inputs)
    return record(loss, logits, data, all_finite(state.params))

  def params(state: TrainState, data: Data) -> Params:
    return turn(state.params)

  def release(
    first: Params, state: TrainState, data: Data, earlier: Snapshot | None = None
  ) -> Release:
    previous = earlier and turn(earlier.params)
    return Release(turn(state.params), turn(first), previous_params=previous)

  def project(params: Params, minus: Params | None, data: Data) -> Projection:
    return project_difference(turn(params), turn(minus), model.num_classes, data)

  return Trainer(init, step, params, release, evaluate, project)


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


def _turn_kernels(params: Params | None) -> Params | None:
  """From kernels [p, k] to [k, p], and back; None stays."""
  return jax.tree.map(lambda x: x.T if x.ndim == 2 else x, params)


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
    share = shares(data.keep[data.train])
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


def run(
  trainer: Trainer, state: TrainState, hyper: AnyHyper, data: Data, num_steps: int
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
