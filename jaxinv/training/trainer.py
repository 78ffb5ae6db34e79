"""What all training engines share: the doors of a `Trainer` of ONE model, its record, its loop.

Nothing here knows that there are many models; `ensemble` maps these functions.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxinv.errors import InputError
from jaxinv.training.batches import shares
from jaxinv.training.losses import Loss
from jaxinv.training.projection import Means, Projection
from jaxinv.types import AnyHyper, Data, Info, Params, PRNGKey, Record, Release, TrainState


class Trainer(NamedTuple):
  """The doors of a training engine, all of one model and all pure.

  Attributes:
    init: (key, hyper, data) -> state, before the first step.
    step: (state, hyper, data) -> (state, info).
    params: (state, data) -> the model's parameters.
    logits: (parameters as `release` gives them, inputs [n, p]) -> the model's own logits [n, k].
    release: (first state's `params`, state, data, earlier snapshot or None) -> parameters now,
      before the first step, and where a snapshot is given at its time.
    evaluate: (state, data) -> record.
    project: (a state's settled `params`, another's to take off or None, data, class means) -> what
      correlations with the means need of the class weights, see `projection`; None for models
      whose class weights see no pixels.
    settle: (a state's `params`, data) -> the same in a form that `project` takes, made once for all
      projections; most engines keep them so.
    extras: state -> arrays by name: what else this engine knows of a model; perhaps nothing.

  Example: see `run`.
  """

  init: Callable[[PRNGKey, AnyHyper, Data], TrainState]
  step: Callable[[TrainState, AnyHyper, Data], tuple[TrainState, Info]]
  params: Callable[[TrainState, Data], Params]
  logits: Callable[[Params, Float[Array, "n p"]], Float[Array, "n k"]]
  release: Callable[..., Release]
  evaluate: Callable[[TrainState, Data], Record]
  project: Callable[[Params, Params | None, Data, Means], Projection] | None = None
  settle: Callable[[Params, Data], Params] = lambda params, data: params
  extras: Callable[[TrainState], dict[str, jax.Array]] = lambda state: {}


def draw_params(model: nn.Module, key: PRNGKey, data: Data) -> Params:
  """A model's initial parameters, before they are scaled.

  Args:
    model: the model.
    key: the run's key, as its state carries it; the steps draw from its other half.
    data: says how many features there are.

  Returns:
    The pytree of parameters.

  Raises:
    InputError: the model carries more than parameters, which would not be trained.
  """
  variables = dict(model.init(jax.random.split(key)[0], data.inputs[:1]))
  params = variables.pop("params", None)
  if variables or params is None:
    raise InputError(
      f"the model holds {', '.join(variables) or 'nothing'}, and this engine trains parameters "
      "alone: give a Flax module with parameters and nothing beside them"
    )
  return params


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

  Example:
    >>> from jaxinv.data.splits import whole
    >>> from jaxinv.models import make_model
    >>> from jaxinv.training import LOSSES, OPTIMIZERS, make_trainer
    >>> from jaxinv.types import Dataset, Hyper
    >>> import numpy as np
    >>> inputs, labels = np.eye(6, dtype=np.float32), np.array([0, 0, 0, 1, 1, 1])
    >>> two = Dataset(inputs, labels, 2, (2, 3), ("a", "b"))
    >>> trainer = make_trainer(make_model(2), LOSSES["softmax"], OPTIMIZERS["sgd"])
    >>> data = whole(two)
    >>> state = trainer.init(jax.random.key(0), Hyper(), data)
    >>> state, info = run(trainer, state, Hyper(), data, num_steps=50)
    >>> info.loss.shape, float(trainer.evaluate(state, data).train_accuracy)
    ((50,), 1.0)
    >>> trainer.params(state, data)["Dense_0"]["kernel"].shape
    (6, 2)
  """
  return jax.lax.scan(lambda carry, _: trainer.step(carry, hyper, data), state, length=num_steps)
