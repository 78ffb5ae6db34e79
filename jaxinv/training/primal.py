"""The primal engine of ONE model: gradients by autodiff, updates by optax."""

from collections.abc import Collection

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxinv.models.dense import Dropout, kernel_first
from jaxinv.training.batches import next_batch, poisson_batch
from jaxinv.training.dpsgd import (
  capacity,
  example_gradients,
  is_linear,
  linear_private_mean,
  private_mean,
)
from jaxinv.training.losses import Loss, smooth_targets
from jaxinv.training.optimizers import Optimizer, clipped, stopped, undecayed
from jaxinv.training.projection import Projection, project_difference
from jaxinv.training.trainer import Trainer, all_finite, draw_params, record
from jaxinv.types import (
  Data,
  Hyper,
  Info,
  Params,
  PRNGKey,
  Record,
  Release,
  Snapshot,
  Stream,
  TrainState,
)


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
    noise = jax.random.fold_in(jax.random.fold_in(state.key, Stream.STEP_NOISE.label), state.step)
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


def _turn_kernels(params: Params | None) -> Params | None:
  """From kernels [p, k] to [k, p], and back; None stays."""
  return jax.tree.map(lambda x: x.T if x.ndim == 2 else x, params)
