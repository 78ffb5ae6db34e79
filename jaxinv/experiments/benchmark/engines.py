"""What the benchmark times: ways of training many linear classifiers, each made ready for it.

Beside them stand what a step must at least compute and move, and how many steps an accuracy takes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxinv.ensemble import mapping
from jaxinv.ensemble.program import Program, chunk_lengths, make_program, start_group, train_group
from jaxinv.ensemble.timing import Compiled, compile_timed
from jaxinv.experiments.benchmark import torch_peers
from jaxinv.training.trainer import run
from jaxinv.types import Data, Hyper, Record, TrainState

# Engines by the names that their rows have. PRIMAL and GRAM train groups of models as launch.faces
# does; LOOP, and PyTorch's, are what one would otherwise write.
PRIMAL, GRAM, LOOP = "primal", "gram", "primal_loop"
ONE_BY_ONE = (LOOP, "torch_loop")

# How many numbers an optimiser remembers of each weight.
_MEMORIES = {"sgd": 0, "momentum": 1, "nesterov": 1, "sgdw": 1, "adam": 2, "adamw": 2}


class Models(NamedTuple):
  """Linear classifiers to train alike, one for each key.

  Attributes:
    optimizer: a name in `optimizers.OPTIMIZERS`.
    hyper: its hyperparameters, numbers.
    batch_size: examples a step; 0 for the whole training split.
    program: trains a group of them.
    keys: one for each model.
    data: examples, and a split for each model.
  """

  optimizer: str
  hyper: Hyper
  batch_size: int
  program: Program
  keys: Key[Array, " s"]
  data: Data


class Training(NamedTuple):
  """Some steps of some models, ready to be timed.

  Attributes:
    call: () -> arrays to wait for; each call goes on where the one before stopped.
    compiled: the program behind it; None where there is none.
    devices: how many take part.
  """

  call: Callable[[], Any]
  compiled: Compiled | None = None
  devices: int = 1


class Sizes(NamedTuple):
  """Examples of a step, all examples, features and classes."""

  batch: int
  examples: int
  features: int
  classes: int


class Curves(NamedTuple):
  """Accuracies of some models while they are trained; 0 from where a model has diverged.

  Attributes:
    steps: the recorded steps.
    train_accuracy: of each model, on its training split.
    holdout_accuracy: on what was held out; NaN where nothing was.
  """

  steps: Int[np.ndarray, " t"]
  train_accuracy: Float[np.ndarray, "t s"]
  holdout_accuracy: Float[np.ndarray, "t s"]


def train_together(models: Models, num_steps: int) -> Training:
  """Prepares training of a group by the program of an experiment, without its records.

  Args:
    models: the group.
    num_steps: steps in one call.

  Returns:
    The training, compiled but not begun.
  """
  # What an experiment measures between chunks is no part of a step, and in small batches it would
  # be a large part of the time.
  trainer = models.program.trainer._replace(evaluate=_no_record)
  mapped = models.program
  program = make_program(trainer, mapped.data_axes, mapped.devices, mapped.block)
  keys, hypers, data = _placed(models)
  states = models.program.init(keys, hypers, data)
  compiled = compile_timed(program.advance, states, hypers, data, num_steps=num_steps)

  def call():
    nonlocal states
    states, record = compiled.call(states, hypers, data)  # The old states' memory is given up.
    return states, record

  return Training(call, compiled, len(states.key.sharding.device_set))


def train_in_turn(models: Models, num_steps: int) -> Training:
  """Prepares training of one model after another, all by one program for one model.

  Takes the arguments of `train_together`, and the models are the same.
  """
  trainer = models.program.trainer
  init = jax.jit(trainer.init)
  steps = jax.jit(partial(run, trainer, num_steps=num_steps), donate_argnums=0)
  group = (models.keys, _hypers(models), models.data)
  axes = (0, 0, models.program.data_axes)
  each = [mapping.run_at(axes, group, i) for i in range(len(models.keys))]
  states = [init(*model) for model in each]
  compiled = compile_timed(steps, states[0], *each[0][1:])

  def call():
    for i, (_, hyper, own) in enumerate(each):
      states[i], info = compiled.call(states[i], hyper, own)
    # One device works in order: where the last info is ready, all before it is.
    return states, info

  return Training(call, compiled)


def train_by_peer(name: str, models: Models, num_steps: int) -> Training:
  """Prepares the same training by PyTorch, from the same initial weights and on the same splits.

  Args:
    name: a way of `peers.PEERS`.
    models: the models; their program is asked for the initial weights only, and is primal.
    num_steps: steps in one call.

  Returns:
    The training; the batches are drawn by torch, and so are others than JAX's.
  """
  keys, hypers, data = _placed(models)
  axes = (mapping.STATE_AXES, models.program.data_axes)
  show = jax.vmap(models.program.trainer.params, in_axes=axes)
  params = show(models.program.init(keys, hypers, data), data)
  (kernels,) = (leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 3)
  job = torch_peers.Job(
    inputs=np.asarray(models.data.inputs, np.float32),
    labels=np.asarray(models.data.labels),
    num_classes=kernels.shape[-1],
    train=np.asarray(models.data.train),
    weights=np.asarray(kernels, np.float32),
    optimizer=models.optimizer,
    hyper=models.hyper,
    batch_size=models.batch_size,
    num_steps=num_steps,
    seed=0,
  )
  return Training(torch_peers.PEERS[name](job).call)


def prepare(engine: str, models: Models, num_steps: int) -> Training:
  """Prepares a training by an engine's name."""
  if engine in torch_peers.PEERS:
    return train_by_peer(engine, models, num_steps)
  return (train_in_turn if engine == LOOP else train_together)(models, num_steps)


def _no_record(state: TrainState, data: Data) -> Record:
  return Record(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()), jnp.ones((), bool))


def _hypers(models: Models) -> Hyper:
  return mapping.stack_hypers([models.hyper] * len(models.keys))


def _placed(models: Models) -> tuple[Key[Array, " s"], Hyper, Data]:
  """Keys, hyperparameters and data, each device's part on it."""
  group, axes = (models.keys, _hypers(models), models.data), (0, 0, models.program.data_axes)
  return mapping.shard(group, axes, len(models.keys), models.program.devices)


def step_flops(engine: str, sizes: Sizes) -> int:
  """Operations of a step's matrix products, for one model.

  Args:
    engine: an engine's name.
    sizes: of the data; a full batch counts the training split only, though the primal engine
      multiplies the examples held out as well, with no share.

  Returns:
    Multiplications and additions: of X W and X^T residual, or in the span of G A.
  """
  if engine == GRAM:
    return 2 * sizes.batch * sizes.examples * sizes.classes
  return 4 * sizes.batch * sizes.features * sizes.classes


def step_bytes(engine: str, optimizer: str, sizes: Sizes, itemsize: int) -> int:
  """Bytes that a step must at least move, for one model, if nothing stays in a cache.

  Weights and the optimiser's memories are read and written once, the gradient is written and read
  once; examples, which many models can share, are not counted. In the span, coefficients take the
  place of weights, the gradient is of the batch's examples alone, and SGD writes only theirs.

  Args:
    engine: an engine's name.
    optimizer: an optimiser's name.
    sizes: of the data.
    itemsize: bytes of a number.

  Returns:
    The bytes, read and written.
  """
  weights = sizes.classes * (sizes.examples if engine == GRAM else sizes.features)
  gradient = sizes.classes * sizes.batch if engine == GRAM else weights
  memories = _MEMORIES[optimizer]
  written = weights if memories else gradient
  return itemsize * (weights + written + 2 * gradient + 2 * memories * weights)


def train_curves(models: Models, max_steps: int, record_every: int) -> Curves:
  """Trains a group, and records the accuracies on the way.

  Args:
    models: the group.
    max_steps: steps to take.
    record_every: steps from one record to the next.

  Returns:
    The curves, from before the first step on.
  """
  keys, hypers, data = _placed(models)
  start = start_group(models.program, keys, hypers, data)
  end = train_group(models.program, start, hypers, data, max_steps, record_every)
  steps = np.cumsum([0, *chunk_lengths(max_steps, record_every)])
  finite = end.history.finite
  accuracies = (end.history.train_accuracy, end.history.holdout_accuracy)
  return Curves(steps, *(np.where(finite, values, 0 * finite) for values in accuracies))


def steps_to_accuracy(curves: Curves, target: float) -> Float[np.ndarray, " s"]:
  """The first recorded step at which each model had a training accuracy; infinite for never."""
  return np.where(curves.train_accuracy >= target, curves.steps[:, None], np.inf).min(0)


def shared_holdout(curves: Sequence[Curves]) -> float | None:
  """The best held-out accuracy, of the median model, that every arm reaches; None without any."""
  best = min(float(_middle(each).max()) for each in curves)
  return None if np.isnan(best) else best


def steps_to_holdout(curves: Curves, target: float) -> int:
  """The first recorded step at which the median model had a held-out accuracy it does reach."""
  return int(curves.steps[np.argmax(_middle(curves) >= target)])


def _middle(curves: Curves) -> Float[np.ndarray, " t"]:
  return np.median(curves.holdout_accuracy, 1)
