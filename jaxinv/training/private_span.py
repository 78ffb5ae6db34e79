"""DP-SGD of a linear model, with noise drawn at every step only where the examples see it.

A linear model sees its weights through the examples alone, and the gradient lies in their span.
DP-SGD's noise is the same in every direction, so it falls apart into two that are independent: what
lies in the span, as many normals in orthonormal coordinates of it as the span has dimensions, and
what lies outside, which no logit ever sees. So the primal engine itself trains the model in
coordinates of the span, Q W with the rows of Q orthonormal, and the outside is a field of normals
whose variance follows, with rate l, decay d, noise s of a gradient and share c of the initial
weights,

  c <- (1 - l d) c,    v <- (1 - l d)^2 v + (l s)^2.

It is drawn once a block of steps, in place of at every one. Where models are looked at no more than
once in a block before its end, all looks of one model together are distributed as DP-SGD's, so that
what two releases say together is right too: let blocks end where records are made.

With n examples of p features a step draws n k normals in place of p k, and multiplies by weights
that are n wide. The models are not those of the primal engine with the same key, but have the same
distribution; without noise they are the same up to rounding.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinv.models.params import output_bias
from jaxinv.training import primal
from jaxinv.training.hyper import IN_SPAN
from jaxinv.training.losses import Loss
from jaxinv.training.optimizers import Optimizer, sgd, stopped
from jaxinv.training.projection import Means, Projection
from jaxinv.training.trainer import Trainer, all_finite
from jaxinv.types import (
  Data,
  Hyper,
  Info,
  Params,
  PRNGKey,
  Record,
  Release,
  Rotation,
  Snapshot,
  Stream,
  TrainState,
)

# What leads out of the examples' span, or needs the norm of noise outside it.
_REFUSED = frozenset(("clip_norm", "dropout", "input_noise"))


class Outside(NamedTuple):
  """The weights outside of the examples' span, and a part inside that does not count.

  Attributes:
    field: initial weights and noise up to the end of the last block.
    within: coordinates of the part that does not count.
    share: of the field in the weights by now.
    variance: of the noise since.
    key: source of that noise.
  """

  field: Float[Array, "p k"]
  within: Float[Array, "r k"]
  share: Float[Array, ""]
  variance: Float[Array, ""]
  key: PRNGKey


class Parted(NamedTuple):
  """What this engine keeps in place of parameters.

  Attributes:
    seen: the parameters of the model in coordinates of the span: kernel [r, k], and the bias.
    outside: what the examples do not see.
  """

  seen: Params
  outside: Outside


class _Engine(NamedTuple):
  """What of a way of training is static; see `make_trainer`."""

  inner: Trainer
  num_classes: int
  batch_size: int
  block: int
  used: frozenset[str]


def is_exact(optimizer: str | Optimizer, hidden: Sequence[int], used: Collection[str] = ()) -> bool:
  """Whether this engine trains models of the distribution that a way of training has.

  Args:
    optimizer: its name, or the function itself.
    hidden: units of the hidden layers.
    used: hyperparameters that are used.

  Returns:
    Whether it is DP-SGD of a model without hidden layers by plain SGD.

  Example:
    >>> is_exact("sgd", (), ("dp_clip", "dp_noise")), is_exact("sgd", ()), is_exact("sgd", (9,))
    (True, False, False)
  """
  return not hidden and optimizer in ("sgd", sgd) and "dp_clip" in used and not _REFUSED & set(used)


def is_faster(num_examples: int, num_features: int) -> bool:
  """Whether this engine is the quicker one: where the span is at most half of all directions."""
  return 2 * num_examples <= num_features


def rotation_of(inputs: Float[np.ndarray, "n p"]) -> Rotation:
  """Orthonormal coordinates of the examples' span, for `Data.rotation`.

  By a QR decomposition in double precision, which asks for no rank: an example keeps its norm,
  which DP-SGD clips by, however small it is beside others and however alike they are.

  Args:
    inputs: the examples.

  Returns:
    The rotation, r = min(n, p).

  Example:
    >>> coordinates, basis = rotation_of(np.float32([[3, 0, 4], [6, 0, 8]]))
    >>> np.allclose(coordinates @ basis, [[3, 0, 4], [6, 0, 8]]), basis.shape
    (True, (2, 3))
  """
  columns, coordinates = np.linalg.qr(np.asarray(inputs, np.float64).T)
  return Rotation(jnp.asarray(coordinates.T, float), jnp.asarray(columns.T, float))


def make_trainer(
  model: nn.Module,
  loss: Loss,
  optimizer: Optimizer,
  batch_size: int = 0,
  used: Collection[str] = IN_SPAN,
  block: int = 25,
) -> Trainer:
  """Builds the engine; takes what `primal.make_trainer` takes, see `is_exact`.

  Args:
    model: linear, from inputs [b, p] to logits [b, k]; has `num_classes`.
    loss: per-example loss of logits and targets.
    optimizer: plain SGD.
    batch_size: examples a step in the mean; 0 for the size of the training split.
    used: hyperparameters that runs use, `dp_clip` among them.
    block: steps from one draw of the outside to the next, perhaps those between two records.

  Returns:
    The trainer; needs `rotation` in its data.
  """
  inner = primal.make_trainer(model, loss, optimizer, batch_size, used)
  engine = _Engine(inner, model.num_classes, batch_size, block, frozenset(used))
  return Trainer(
    init=partial(_init, engine),
    step=partial(_step, engine),
    params=lambda state, data: _weights(state.params, data),
    logits=inner.logits,
    release=_release,
    evaluate=partial(_evaluate, engine),
    project=partial(_project, engine),
    settle=_settle,
  )


def _in_span(data: Data) -> Data:
  """The data as the inner engine sees them: the same products, far fewer features."""
  return data._replace(inputs=data.rotation.coordinates)


def _init(engine: _Engine, key: PRNGKey, hyper: Hyper, data: Data) -> TrainState:
  state = engine.inner.init(key, hyper, data)
  field = _kernel(state.params)
  within = _coordinates(field, data)
  one, zero = jnp.ones((), field.dtype), jnp.zeros((), field.dtype)
  outside = Outside(field, within, one, zero, _block_key(key, state.step))
  return state._replace(params=Parted(_with_kernel(state.params, within), outside))


def _step(engine: _Engine, state: TrainState, hyper: Hyper, data: Data) -> tuple[TrainState, Info]:
  """A step of the inner engine, and what it adds outside, which is drawn at the end of a block."""
  inner = state._replace(params=state.params.seen)
  after, info = engine.inner.step(inner, hyper, _in_span(data))
  hyper = stopped(hyper, state.step) if "steps" in engine.used else hyper
  decay = hyper.weight_decay if "weight_decay" in engine.used else 0.0
  factor = 1.0 - hyper.learning_rate * decay
  size = engine.batch_size or data.train.shape[0]
  deviation = hyper.learning_rate * hyper.dp_noise * hyper.dp_clip / size
  outside = state.params.outside
  outside = outside._replace(
    share=outside.share * factor, variance=outside.variance * factor**2 + deviation**2
  )

  def next_block():
    return _drawn(outside, data)._replace(key=_block_key(state.key, after.step))

  # The step is never mapped, so under vmap this stays a branch, and nothing is drawn in a block.
  outside = jax.lax.cond(after.step % engine.block == 0, next_block, lambda: outside)
  return after._replace(params=Parted(after.params, outside)), info


def _block_key(key: PRNGKey, step: Int[Array, ""]) -> PRNGKey:
  return jax.random.fold_in(Stream.UNSEEN_NOISE.of(key), step)


def _drawn(outside: Outside, data: Data) -> Outside:
  """The outside with its noise in the field."""
  field = outside.field
  noise = jax.random.normal(outside.key, field.shape, field.dtype)
  field = outside.share * field + jnp.sqrt(outside.variance) * noise
  return _all_in_field(outside, field, _coordinates(field, data))


def _all_in_field(outside: Outside, field: Array, within: Array) -> Outside:
  one, zero = jnp.ones_like(outside.share), jnp.zeros_like(outside.variance)
  return Outside(field, within, one, zero, outside.key)


def _settle(params: Parted, data: Data) -> Parted:
  """The same weights with all of the outside in its field."""
  outside = params.outside

  def scaled():
    return _all_in_field(outside, outside.share * outside.field, outside.share * outside.within)

  # At the end of a block there is nothing to draw.
  drawn = jax.lax.cond(outside.variance > 0, lambda: _drawn(outside, data), scaled)
  return params._replace(outside=drawn)


def _weights(params: Parted, data: Data) -> Params:
  """The model's parameters: the field, but inside of the span what is seen."""
  seen, outside = _settle(params, data)
  inside = _kernel(seen) - outside.within
  moved = jnp.matmul(data.rotation.basis.T, inside, precision="highest")
  return _with_kernel(seen, outside.field + moved)


def _coordinates(weights: Float[Array, "p k"], data: Data) -> Float[Array, "r k"]:
  return jnp.matmul(data.rotation.basis, weights, precision="highest")


def _kernel(params: Params) -> Array:
  """The one matrix of a linear model."""
  (kernel,) = (x for x in jax.tree.leaves(params) if x.ndim == 2)
  return kernel


def _with_kernel(params: Params, kernel: Array) -> Params:
  return jax.tree.map(lambda x: kernel if x.ndim == 2 else x, params)


def _release(
  first: Parted, state: TrainState, data: Data, earlier: Snapshot | None = None
) -> Release:
  # Before the first step the field is the weights.
  start = _with_kernel(first.seen, first.outside.field)
  previous = earlier and _weights(earlier.params, data)
  return Release(_weights(state.params, data), start, previous_params=previous)


def _evaluate(engine: _Engine, state: TrainState, data: Data) -> Record:
  seen, outside = state.params
  found = engine.inner.evaluate(state._replace(params=seen), _in_span(data))
  return found._replace(finite=found.finite & all_finite(outside[:4]))


def _project(
  engine: _Engine, params: Parted, minus: Parted | None, data: Data, means: Means
) -> Projection:
  """Of settled parameters, without forming weights: W = F + Q^T (S - Q F), and means see S."""
  parts = params.seen, params.outside.field, params.outside.within
  if minus is not None:
    others = minus.seen, minus.outside.field, minus.outside.within
    parts = jax.tree.map(jnp.subtract, parts, others)
  seen, field, within = parts
  own, num_features = _kernel(seen), field.shape[0]
  averages = (field.sum(0) + data.rotation.basis.sum(1) @ (own - within)) / num_features
  gram = field.T @ field + own.T @ own - within.T @ within
  gram -= num_features * averages[:, None] * averages[None]
  products = own.T @ (means.shares @ data.rotation.coordinates).T
  products -= averages[:, None] * num_features * (means.shares @ data.pixel_means)[None]
  return Projection(products, gram, output_bias(seen, engine.num_classes))
