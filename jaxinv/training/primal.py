"""The primal engine of ONE model: gradients by autodiff, updates by optax."""

from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from jaxinv.errors import InputError
from jaxinv.models.dense import MLP, Dropout, kernel_first
from jaxinv.training.batches import Batch, next_batch, poisson_batch
from jaxinv.training.dpsgd import (
  capacity,
  dense_private_mean,
  example_gradients,
  private_mean,
)
from jaxinv.training.hyper import IN_SPAN
from jaxinv.training.losses import Loss, smooth_targets
from jaxinv.training.optimizers import Optimizer, restricted, stopped
from jaxinv.training.projection import Means, Projection, project_difference
from jaxinv.training.trainer import Trainer, all_finite, draw_params, record
from jaxinv.types import (
  Data,
  Hyper,
  Info,
  OptState,
  Params,
  PRNGKey,
  Record,
  Release,
  Snapshot,
  Stream,
  TrainState,
)


class _Engine(NamedTuple):
  """What of a way of training is static; see `make_trainer`.

  Attributes:
    model: from inputs and kernels [p, k] to logits.
    loss: of logits and targets.
    optimizer: restricted to what is used.
    batch_size: examples a step; 0 for the whole training split.
    used: the hyperparameters that runs use.
    turn: from the parameters that a state holds to those of the model, and back.
  """

  model: nn.Module
  loss: Loss
  optimizer: Optimizer
  batch_size: int
  used: frozenset[str]
  turn: Callable[[Params | None], Params | None]


class _StepData(NamedTuple):
  """What one step trains on.

  Attributes:
    inputs: of the batch, with noise where that is used.
    targets: of the batch.
    batch: which examples these are, and their shares.
    keys: sources of randomness: batch, noise on inputs, dropout, DP-SGD's noise.
    size: examples of a batch, in the mean.
  """

  inputs: Float[Array, "b p"]
  targets: Float[Array, "b k"]
  batch: Batch
  keys: Key[Array, "4"]
  size: int


def make_trainer(
  model: nn.Module,
  loss: Loss,
  optimizer: Optimizer,
  batch_size: int = 0,
  used: Collection[str] = IN_SPAN,
  transposed_kernel: bool = False,
) -> Trainer:
  """Builds the primal engine, for any model, loss and optimiser.

  Args:
    model: from inputs [b, p] to logits [b, k]; carries nothing beside its parameters.
    loss: per-example loss of logits and targets.
    optimizer: from hyperparameters to an optax transformation.
    batch_size: examples a step; 0 for the whole training split.
    used: hyperparameters that runs use, see `hyper.used`: the others are left out of the program.
      To know that a bound on the gradient's norm will be infinite is not enough where it is traced:
      the gradient is then read once more for its norm, a third of the time of an SGD step on a CPU.
      `dp_clip` stands for DP-SGD, which draws its batches by Poisson sampling.
    transposed_kernel: whether states hold a linear model's kernel as [k, p], as the gradient comes
      out of one product of many models: turning it took a tenth of a step of Adam on a CPU.

  Returns:
    The trainer. Its initial parameters depend on the key and on `init_scale` alone.

  Raises:
    InputError: dropout is used, and the model is not a dense one of this package.

  Example:
    >>> from jaxinv.models.dense import make_model
    >>> from jaxinv.training.losses import LOSSES
    >>> from jaxinv.training.optimizers import OPTIMIZERS
    >>> from jaxinv.training.trainer import run
    >>> index = jnp.arange(2)
    >>> data = Data(jnp.eye(2), labels=index, train=index, holdout=index[:0])
    >>> trainer = make_trainer(make_model(2), LOSSES["softmax"], OPTIMIZERS["sgd"])
    >>> state = trainer.init(jax.random.key(0), Hyper(), data)
    >>> state, info = run(trainer, state, Hyper(learning_rate=1.0), data, 20)
    >>> float(trainer.evaluate(state, data).train_accuracy)
    1.0
  """
  if "dropout" in used and not isinstance(model, MLP):
    raise InputError("dropout is for dense models made by make_model: leave dropout out")
  engine = _Engine(
    model.clone(dot_general=kernel_first) if transposed_kernel else model,
    loss,
    restricted(optimizer, used),
    batch_size,
    frozenset(used),
    _turn_kernels if transposed_kernel else lambda params: params,
  )
  return Trainer(
    init=partial(_init, engine),
    step=partial(_step, engine),
    params=lambda state, data: engine.turn(state.params),
    logits=lambda params, inputs: model.apply({"params": params}, inputs),
    release=partial(_release, engine),
    evaluate=partial(_evaluate, engine),
    project=partial(_project, engine),
  )


def first_moment(opt_state: OptState) -> Params | None:
  """The running sum of gradients that an optimiser carries; None where it carries none.

  Args:
    opt_state: of optax: Adam's first moment, momentum's trace.

  Returns:
    A tree like the parameters: of gradients alone, so that it lies in the span of the examples,
    however the optimiser scales its steps.
  """
  for name in ("mu", "trace"):
    found = optax.tree_utils.tree_get(opt_state, name)
    if found is not None:
      return found
  return None


def keeping_moment(trainer: Trainer) -> Trainer:
  """A trainer of this engine whose `extras` hold the `first_moment`, as its checkpoints do."""

  def extras(state):
    found = first_moment(state.opt_state)
    # As the parameters are: a state may hold them turned.
    return {} if found is None else {"moment": trainer.params(state._replace(params=found), None)}

  return trainer._replace(extras=extras)


def _turn_kernels(params: Params | None) -> Params | None:
  """From kernels [p, k] to [k, p], and back; None stays."""
  return jax.tree.map(lambda x: x.T if x.ndim == 2 else x, params)


def _init(engine: _Engine, key: PRNGKey, hyper: Hyper, data: Data) -> TrainState:
  drawn = engine.turn(draw_params(engine.model, key, data))
  params = jax.tree.map(lambda x: hyper.init_scale * x, drawn)
  opt_state = engine.optimizer(hyper).init(params)
  return TrainState(params, opt_state, jnp.zeros((), jnp.int32), key, data.train)


def _step(engine: _Engine, state: TrainState, hyper: Hyper, data: Data) -> tuple[TrainState, Info]:
  """Draws a batch, takes the gradient of its losses, and lets the optimiser update."""
  hyper = stopped(hyper, state.step) if "steps" in engine.used else hyper
  draw, gradient = (_poisson, _private) if "dp_clip" in engine.used else (_shuffled, _plain)
  keys = _step_keys(state)
  order, batch = draw(engine, state, data, keys[0])
  seen = _StepData(
    inputs=_noisy(engine, batch.of(data.inputs), hyper, keys[1]),
    targets=smooth_targets(
      batch.of(data.labels), _num_classes(engine, state.params, data), hyper.label_smoothing
    ),
    batch=batch,
    keys=keys,
    size=engine.batch_size or data.train.shape[0],
  )
  value, grads = gradient(engine, state.params, hyper, seen)
  updates, opt_state = engine.optimizer(hyper).update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  return TrainState(params, opt_state, state.step + 1, state.key, order), Info(value)


def _step_keys(state: TrainState) -> Key[Array, "4"]:
  stream = jax.random.fold_in(state.key, Stream.STEP_NOISE.label)
  return jax.random.split(jax.random.fold_in(stream, state.step), 4)


def _num_classes(engine: _Engine, params: Params, data: Data) -> int:
  """How many logits the model gives an example; nothing is computed."""
  logits = jax.eval_shape(partial(_logits, engine), params, data.inputs[:1])
  return logits.shape[-1]


def _logits(engine: _Engine, params: Params, inputs: Float[Array, "b p"], *dropout: Dropout):
  return engine.model.apply({"params": engine.turn(params)}, inputs, *dropout)


def _shuffled(engine: _Engine, state: TrainState, data: Data, key: PRNGKey):
  """The epoch's order, and its next batch."""
  return next_batch(state, data, engine.batch_size)


def _poisson(engine: _Engine, state: TrainState, data: Data, key: PRNGKey):
  """A batch that each example joins by itself; there is no order to carry on."""
  num_train = data.train.shape[0]
  size = engine.batch_size or num_train
  return state.order, poisson_batch(key, data, size, capacity(size, num_train))


def _noisy(engine: _Engine, inputs: Float[Array, "b p"], hyper: Hyper, key: PRNGKey):
  if "input_noise" not in engine.used:
    return inputs
  return inputs + hyper.input_noise * jax.random.normal(key, inputs.shape, inputs.dtype)


def _losses(engine: _Engine, hyper: Hyper, params: Params, inputs, targets, key: PRNGKey):
  """The loss of each example, [b]; inputs of the layers are dropped where that is used."""
  dropout = (Dropout(key, hyper.dropout),) if "dropout" in engine.used else ()
  return engine.loss.value(_logits(engine, params, inputs, *dropout), targets)


def _objective(engine: _Engine, hyper: Hyper, seen: _StepData, params: Params):
  """The batch's losses, each by its share."""
  losses = _losses(engine, hyper, params, seen.inputs, seen.targets, seen.keys[2])
  return (seen.batch.share * losses).sum()


def _plain(engine: _Engine, params: Params, hyper: Hyper, seen: _StepData):
  """The objective, and its gradient."""
  return jax.value_and_grad(partial(_objective, engine, hyper, seen))(params)


def _private(engine: _Engine, params: Params, hyper: Hyper, seen: _StepData):
  """The objective, and the noisy mean of the examples' clipped gradients."""
  value, taken = _objective(engine, hyper, seen, params), seen.batch.share > 0
  inputs, targets, keys, size = seen.inputs, seen.targets, seen.keys, seen.size
  if isinstance(engine.model, MLP) and "dropout" not in engine.used:
    parts = (engine.model, engine.loss, params, inputs, targets, taken, size)
    return value, dense_private_mean(*parts, hyper, keys[3])
  own_keys = jax.random.split(keys[2], len(taken))
  losses = partial(_losses, engine, hyper)
  each = example_gradients(losses, params, inputs, targets, own_keys, taken)
  return value, private_mean(each, size, hyper, keys[3])


def _evaluate(engine: _Engine, state: TrainState, data: Data) -> Record:
  logits = _logits(engine, state.params, data.inputs)
  return record(engine.loss, logits, data, all_finite(state.params))


def _release(
  engine: _Engine, first: Params, state: TrainState, data: Data, earlier: Snapshot | None = None
) -> Release:
  turn = engine.turn
  previous = earlier and turn(earlier.params)
  return Release(turn(state.params), turn(first), previous_params=previous)


def _project(
  engine: _Engine, params: Params, minus: Params | None, data: Data, means: Means
) -> Projection:
  turn = engine.turn
  return project_difference(turn(params), turn(minus), _num_classes(engine, params, data), means)
