"""Exact SGD of a linear model in the span of its data, without ever forming the weights.

A linear model's gradient is a weighted sum of the training inputs, X^T R, with the residuals R of
the logits as weights. An optimiser whose update is linear in the gradients (SGD, momentum,
Nesterov; weight decay, coupled or not; any schedule of the rate) therefore never leaves

  W(t) = c(t) W(0) + X^T A(t),    b(t) = c(t) b(0) + 1^T A(t)

with one scalar c and one coefficient for each example and class. So the optimiser itself, as optax
has it, is run on (c, A) in place of (W, b): what is linear does not mind. The logits are
c Z(0) + G A, with Z(0) those of the initial weights and G = X X^T + 1 the examples' products with
each other (the 1 is the bias, an input that is always 1). A gradient's norm, for clipping, is
|X^T R|^2 = <R, G R>. A step takes 2 b n k operations instead of 4 b p k, and touches n k numbers
instead of p k.

A(t) is worth having for itself: it says how much of each example is in the weights. This is the
representer theorem at work (Kimeldorf & Wahba 1971), and the dual form of gradient descent.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxinv.models.params import class_weights, output_bias
from jaxinv.training.batches import Batch, next_batch
from jaxinv.training.hyper import IN_SPAN, OUTSIDE
from jaxinv.training.losses import Loss, smooth_targets
from jaxinv.training.optimizers import Optimizer, is_linear, stopped
from jaxinv.training.projection import Means, Projection
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
  TrainState,
)

# What the span knows of a model: the share of each example and of the initial weights in it.
EXTRAS = ("coefficients", "init_share")


class Span(NamedTuple):
  """A point, or a direction, in the span of the initial weights and the data.

  Attributes:
    scale: the share of the initial weights, c.
    coefficients: the share of each example in each class's weights, A transposed: so laid out, the
      products of a group of models with `gram` are quicker on CPUs.
  """

  scale: Float[Array, ""]
  coefficients: Float[Array, "k n"]


class SpanModel(NamedTuple):
  """What this engine keeps in place of parameters.

  Attributes:
    span: where the weights are.
    start_logits: logits of all examples under the initial weights; constant.
    start_bias: the initial biases, zeros where there are none; constant.
    start_sums: sum over the pixels of each class's initial weights; constant.
    start_gram: products of these weights with each other, each class's less their mean; constant.
    init_scale: the factor on the initial weights as they are drawn; constant.
  """

  span: Span
  start_logits: Float[Array, "n k"]
  start_bias: Float[Array, " k"]
  start_sums: Float[Array, " k"]
  start_gram: Float[Array, "k k"]
  init_scale: Float[Array, ""]


def is_exact(optimizer: str | Optimizer, hidden: Sequence[int], used: Collection[str] = ()) -> bool:
  """Whether this engine is exact for a way of training.

  Args:
    optimizer: its name, or the function itself.
    hidden: units of the hidden layers.
    used: hyperparameters that are used.

  Returns:
    Whether the model has no hidden layers, the optimiser is linear in the gradients, and the
    gradients stay in the span of the data.

  Example:
    >>> is_exact("sgd", ()), is_exact("sgd", (16,)), is_exact("adam", ())
    (True, False, False)
  """
  return not hidden and is_linear(optimizer) and not set(OUTSIDE) & set(used)


def is_faster(num_examples: int, num_features: int) -> bool:
  """Whether this engine is the quicker one: as long as there are fewer examples than features.

  By the count of operations it is so up to twice as many, but the primal engine's products are
  larger and run nearer to the machine's rate. Beyond that the matrix of products, n^2 numbers,
  also soon takes more memory than the weights of many models.
  """
  return num_examples <= num_features


def gram_matrix(inputs: Float[Array, "n p"], use_bias: bool) -> Float[Array, "n n"]:
  """The products of all examples with each other, for `Data.gram`.

  Args:
    inputs: the examples.
    use_bias: whether the model has a bias.

  Returns:
    X X^T, plus 1 where there is a bias.
  """
  return jnp.matmul(inputs, inputs.T, precision="highest") + float(use_bias)


class _Engine(NamedTuple):
  """What of a way of training is static; see `make_trainer`."""

  model: nn.Module
  loss: Loss
  optimizer: Optimizer
  batch_size: int
  used: frozenset[str]


def make_trainer(
  model: nn.Module,
  loss: Loss,
  optimizer: Optimizer,
  batch_size: int = 0,
  used: Collection[str] = IN_SPAN,
) -> Trainer:
  """Builds the engine; takes what `primal.make_trainer` takes, and trains the same models.

  Args:
    model: linear, from inputs [b, p] to logits [b, k]; has `num_classes`.
    loss: per-example loss of logits and targets.
    optimizer: one of `optimizers.LINEAR`, or any other that is linear in the gradients.
    batch_size: examples a step; 0 for the whole training split.
    used: hyperparameters that runs use; without the others a step is quicker.

  Returns:
    The trainer; needs `gram` in its data.
  """
  engine = _Engine(model, loss, optimizer, batch_size, frozenset(used))
  return Trainer(
    init=partial(_init, engine),
    step=partial(_step, engine),
    params=partial(_params, engine),
    logits=lambda params, inputs: model.apply({"params": params}, inputs),
    release=partial(_release, engine),
    evaluate=partial(_evaluate, engine),
    project=_project,
    extras=_extras,
  )


def _start_params(model: nn.Module, key: PRNGKey, init_scale: Float[Array, ""], data: Data):
  """The initial parameters, which no state holds: they are drawn again where they are needed."""
  return jax.tree.map(lambda x: init_scale * x, draw_params(model, key, data))


def _init(engine: _Engine, key: PRNGKey, hyper: Hyper, data: Data) -> TrainState:
  model = engine.model
  init_scale = jnp.asarray(hyper.init_scale, data.inputs.dtype)
  params = _start_params(model, key, init_scale, data)
  logits = model.apply({"params": params}, data.inputs)
  weights = class_weights(params, data.inputs.shape[-1], model.num_classes)
  centred = weights - weights.mean(1, keepdims=True)
  span = Span(jnp.ones((), logits.dtype), jnp.zeros_like(logits.T))
  opt_state = engine.optimizer(hyper).init(span)
  bias = output_bias(params, model.num_classes)
  start = SpanModel(span, logits, bias, weights.sum(1), centred @ centred.T, init_scale)
  return TrainState(start, opt_state, jnp.zeros((), jnp.int32), key, data.train)


def _step(engine: _Engine, state: TrainState, hyper: Hyper, data: Data) -> tuple[TrainState, Info]:
  """Takes the residuals of a batch, and lets the optimiser update the coefficients by them."""
  hyper = stopped(hyper, state.step) if "steps" in engine.used else hyper
  span, start_logits = state.params.span, state.params.start_logits
  order, batch = next_batch(state, data, engine.batch_size)
  rows = batch.of(data.gram)
  logits = span.scale * batch.of(start_logits) + (span.coefficients @ rows.T).T
  targets = smooth_targets(batch.of(data.labels), engine.model.num_classes, hyper.label_smoothing)
  value = (batch.share * engine.loss.value(logits, targets)).sum()
  residual = batch.share[:, None] * engine.loss.residual(logits, targets)
  if "clip_norm" in engine.used:
    residual = _clipped(residual, rows, batch, hyper.clip_norm)
  span, opt_state = _descend(engine, span, state.opt_state, hyper, residual.T, batch.index)
  params = state.params._replace(span=span)
  return TrainState(params, opt_state, state.step + 1, state.key, order), Info(value)


def _clipped(
  residual: Float[Array, "b k"], rows: Float[Array, "b n"], batch: Batch, bound: Float[Array, ""]
) -> Float[Array, "b k"]:
  """Residuals whose gradient has at most a given norm, |X^T R|^2 = <R, G R>."""
  among = rows if batch.index is None else rows[:, batch.index]
  # Of residuals whose gradient is zero, rounding may give a square below it.
  norm = jnp.sqrt(jnp.maximum((residual * (among @ residual)).sum(), 0.0))
  return residual * jnp.where(norm < bound, 1.0, bound / norm)


def _descend(
  engine: _Engine,
  span: Span,
  opt_state: OptState,
  hyper: Hyper,
  residual: Float[Array, "k b"],
  index: Int[Array, " b"] | None,
) -> tuple[Span, OptState]:
  """Lets the optimiser take the gradient whose coefficients are the residuals."""
  memory = any(jnp.ndim(leaf) for leaf in jax.tree.leaves(opt_state))
  sparse = index is not None and not memory and "weight_decay" not in engine.used
  optimizer = engine.optimizer(hyper)
  if not sparse:
    whole = residual if index is None else _scatter(span, residual, index)
    grads = Span(jnp.zeros_like(span.scale), whole)
    updates, opt_state = optimizer.update(grads, opt_state, span)
    return optax.apply_updates(span, updates), opt_state
  # Without a velocity or decay only the batch's coefficients change: the others are left alone.
  grads = Span(jnp.zeros_like(span.scale), residual)
  here = span._replace(coefficients=span.coefficients[:, index])
  updates, opt_state = optimizer.update(grads, opt_state, here)
  coefficients = span.coefficients.at[:, index].add(updates.coefficients, **_IN_PLACE)
  return span._replace(coefficients=coefficients), opt_state


# What is known of a batch's indices.
_IN_PLACE = {"mode": "promise_in_bounds", "unique_indices": True}


def _scatter(span: Span, residual: Float[Array, "k b"], index: Int[Array, " b"]):
  """The residuals of all examples: zeros but for the batch's."""
  return jnp.zeros_like(span.coefficients).at[:, index].set(residual, **_IN_PLACE)


def _weights(span: Span, start: Params, data: Data) -> Params:
  """The parameters at a point of the span."""

  def leaf(initial):
    if initial.ndim == 1:
      return span.scale * initial + span.coefficients.sum(1)
    # The barrier keeps XLA from making the product transposed, which takes a CPU three times as
    # long as to make and to transpose it.
    product = jax.lax.optimization_barrier(span.coefficients @ data.inputs)
    return span.scale * initial + product.T

  return jax.tree.map(leaf, start)


def _params(engine: _Engine, state: TrainState, data: Data) -> Params:
  return _release(engine, state.params, state, data).params


def _release(
  engine: _Engine,
  first: SpanModel,
  state: TrainState,
  data: Data,
  earlier: Snapshot | None = None,
) -> Release:
  # One draw for all; to draw takes longer than all else here.
  start = _start_params(engine.model, state.key, first.init_scale, data)
  previous = earlier and _weights(earlier.params.span, start, data)
  return Release(_weights(state.params.span, start, data), start, previous_params=previous)


def _evaluate(engine: _Engine, state: TrainState, data: Data) -> Record:
  span, start_logits = state.params.span, state.params.start_logits
  logits = span.scale * start_logits + (span.coefficients @ data.gram).T
  return record(engine.loss, logits, data, all_finite(span))


def _project(params: SpanModel, minus: SpanModel | None, data: Data, means: Means) -> Projection:
  share, own = params.span
  if minus is not None:
    share, own = share - minus.span.scale, own - minus.span.coefficients
  start = params.start_logits.T - params.start_bias[:, None]
  start -= params.start_sums[:, None] * data.pixel_means[None]
  cross = start @ own.T
  moved = own @ data.pixel_gram
  gram = share**2 * params.start_gram + share * (cross + cross.T) + moved @ own.T
  products = (share * start + moved) @ means.shares.T
  return Projection(products, gram, share * params.start_bias + own.sum(1))


def _extras(state: TrainState) -> dict[str, jax.Array]:
  span = state.params.span
  return dict(zip(EXTRAS, (span.coefficients.T, span.scale), strict=True))
