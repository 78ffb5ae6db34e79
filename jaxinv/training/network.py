"""A trainer of ONE convolutional network, with or against an adversary; see `train.Trainer`.

What it has beside the engine of linear models: running statistics in the state, augmentation on the
device, a learning rate that follows a schedule, and inputs that an adversary moves first.
"""

from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxinv.models.convnets import Outputs
from jaxinv.training.adversary import ADVERSARIES, Radius, gradient_of
from jaxinv.training.batches import flip_and_crop, next_batch
from jaxinv.training.hyper import IN_SPAN
from jaxinv.training.losses import Loss, smooth_targets
from jaxinv.training.optimizers import SCHEDULES, Optimizer, restricted
from jaxinv.training.trainer import Trainer, all_finite, record
from jaxinv.types import (
  Data,
  Info,
  Params,
  PRNGKey,
  Record,
  Release,
  RobustHyper,
  Snapshot,
  Stream,
  TrainState,
)

# Images that are looked at together where a whole data set is.
_TOGETHER = 512


class TrainConfig(NamedTuple):
  """What of a way of training is static: another config is another program.

  Attributes:
    num_steps: of the whole training, which the schedule spans.
    batch_size: examples a step; 0 for the whole training split.
    schedule: a name in `optimizers.SCHEDULES`.
    adversary: a name in `adversary.ADVERSARIES`.
    adversary_steps: of each attack.
    flip: whether images are mirrored at random.
    shift: pixels by which images are shifted at random, at the most.
  """

  num_steps: int
  batch_size: int = 128
  schedule: str = "constant"
  adversary: str = "none"
  adversary_steps: int = 3
  flip: bool = False
  shift: int = 0


def make_trainer(
  model: nn.Module,
  loss: Loss,
  optimizer: Optimizer,
  config: TrainConfig,
  used: Collection[str] = IN_SPAN,
) -> Trainer:
  """Builds the engine.

  The adversary attacks the network as it is in evaluation, by its running statistics: what it does
  to an image then depends on no other (as in Zhang et al. 2019, arXiv 1901.08573).

  Args:
    model: a network of `convnets`.
    loss: per-example loss of logits and targets.
    optimizer: from hyperparameters to an optax transformation.
    config: all else that is static.
    used: hyperparameters that runs use; without the others a step is quicker.

  Returns:
    The trainer. Its hyperparameters are a `RobustHyper`, of whose base `init_scale`, `steps` and
    those of privacy and release have no meaning here.
  """
  optimizer = restricted(optimizer, used)
  factor = SCHEDULES[config.schedule](max(1, config.num_steps))

  def init(key: PRNGKey, hyper: RobustHyper, data: Data) -> TrainState:
    collections = dict(model.init(jax.random.split(key)[0], data.inputs[:1]))
    params = collections.pop("params")
    opt_state = optimizer(hyper.base).init(params)
    return TrainState(params, opt_state, jnp.zeros((), jnp.int32), key, data.train, collections)

  def step(state: TrainState, hyper: RobustHyper, data: Data) -> tuple[TrainState, Info]:
    rate = hyper.base.learning_rate * factor(state.step)
    base = hyper.base._replace(learning_rate=rate)
    order, batch = next_batch(state, data, config.batch_size)
    labels = batch.of(data.labels)
    noise = jax.random.fold_in(jax.random.fold_in(state.key, Stream.STEP_NOISE.label), state.step)
    inputs = _shown(model, config, state, batch.of(data.inputs), labels, hyper.radius, noise)
    targets = smooth_targets(labels, model.num_classes, base.label_smoothing)

    def objective(params):
      variables = {"params": params, **state.collections}
      said, moved = model.apply(variables, inputs, train=True, mutable=list(state.collections))
      return (batch.share * loss.value(said.logits, targets)).sum(), moved

    (value, moved), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
    updates, opt_state = optimizer(base).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state, state.step + 1, state.key, order, moved), Info(value)

  return Trainer(
    init=init,
    step=step,
    params=lambda state, data: state.params,
    logits=lambda params, inputs: all_outputs(model, {"params": params}, inputs).logits,
    release=_release,
    evaluate=partial(_evaluate, model, loss),
  )


def _evaluate(model: nn.Module, loss: Loss, state: TrainState, data: Data) -> Record:
  logits = all_outputs(model, variables_of(state), data.inputs).logits
  return record(loss, logits, data, all_finite(state.params))


def _release(
  first: Params, state: TrainState, data: Data, earlier: Snapshot | None = None
) -> Release:
  return Release(state.params, first, previous_params=earlier and earlier.params)


def _shown(
  model: nn.Module,
  config: TrainConfig,
  state: TrainState,
  inputs: Float[Array, "b p"],
  labels: Int[Array, " b"],
  radius: Radius,
  key: PRNGKey,
) -> Float[Array, "b p"]:
  """A batch as the network is to see it: augmented, then moved by the adversary."""
  augment, attack = jax.random.split(key)
  if config.flip or config.shift:
    inputs = flip_and_crop(augment, inputs, model.image_shape, config.shift, config.flip)
  if config.adversary == "none":
    return inputs
  gradient = gradient_of(logits_of(model, variables_of(state)), labels)
  return ADVERSARIES[config.adversary](gradient, inputs, radius, config.adversary_steps, attack)


def variables_of(state: TrainState) -> Params:
  """All that a network needs to answer: its parameters and its running statistics."""
  return {"params": state.params, **state.collections}


def logits_of(model: nn.Module, variables: Params) -> Callable[[jax.Array], jax.Array]:
  """A network in evaluation as a function from inputs [b, p] to logits [b, k]."""
  return lambda inputs: model.apply(variables, inputs).logits


def all_outputs(model: nn.Module, variables: Params, inputs: Float[Array, "n p"]) -> Outputs:
  """What a network in evaluation says of any number of inputs, some at a time.

  Args:
    model: the network.
    variables: see `variables_of`.
    inputs: as many as there are.

  Returns:
    Logits [n, k] and features [n, d].
  """
  size = min(_TOGETHER, len(inputs))
  whole = len(inputs) // size * size
  answer = partial(model.apply, variables)
  said = jax.lax.map(answer, inputs[:whole].reshape(-1, size, inputs.shape[1]))
  said = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), said)
  if whole == len(inputs):
    return said
  rest = answer(inputs[whole:])
  return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), said, rest)
