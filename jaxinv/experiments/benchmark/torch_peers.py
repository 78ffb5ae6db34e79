"""What a user would otherwise write to train many linear classifiers: PyTorch, in three ways.

All take steps of softmax cross-entropy on the CPU in float32, with torch's own optimisers as they
are by default, and from the same seed all draw the same batches. PyTorch is an optional
dependency: this module can be imported without it.
"""

import importlib.util
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxinv.types import Hyper

# Those of `jaxinv.optimizers` that torch has too.
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw")

Tensor = Any  # A torch.Tensor; torch may be missing.
Examples = tuple[Tensor, Tensor]  # Inputs [*s b p] and labels [*s b].


class Job(NamedTuple):
  """Linear classifiers to train, on the host.

  Attributes:
    inputs: all examples.
    labels: class of each, from 0 to `num_classes` - 1.
    num_classes: number of classes, k.
    train: indices of each model's training examples.
    weights: each model's initial kernel; biases start at zero.
    optimizer: a name in `OPTIMIZERS`.
    hyper: numbers, the same for all models; `init_scale` does not matter.
    batch_size: examples a step, at most m; 0 for the whole training split.
    num_steps: steps of one call.
    seed: source of the shuffling.
  """

  inputs: Float[np.ndarray, "n p"]
  labels: Int[np.ndarray, " n"]
  num_classes: int
  train: Int[np.ndarray, "s m"]
  weights: Float[np.ndarray, "s p k"]
  optimizer: str
  hyper: Hyper
  batch_size: int
  num_steps: int
  seed: int


class Peer(NamedTuple):
  """A training made ready to be timed.

  Attributes:
    call: takes `num_steps` more steps of every model, and returns when they are taken.
    weights: () -> kernels [s, p, k] and biases [s, k] as they are now.
  """

  call: Callable[[], Any]
  weights: Callable[[], tuple[np.ndarray, np.ndarray]]


def installed() -> bool:
  """Whether PyTorch can be imported."""
  return importlib.util.find_spec("torch") is not None


def torch_loop(job: Job) -> Peer:
  """One `torch.nn.Linear` after another, each in the ordinary training loop."""
  import torch
  from torch.nn.functional import cross_entropy
  from torch.nn.utils import clip_grad_norm_

  models = [_linear(kernel) for kernel in job.weights]
  optimizers = [_optimizer(job, model.parameters()) for model in models]
  streams = _each(job)

  def call():
    for model, optimizer, stream in zip(models, optimizers, streams, strict=True):
      for inputs, labels in itertools.islice(stream, job.num_steps):
        optimizer.zero_grad()
        logits = model(inputs)
        cross_entropy(logits, labels, label_smoothing=job.hyper.label_smoothing).backward()
        if _clips(job):
          clip_grad_norm_(model.parameters(), job.hyper.clip_norm)
        optimizer.step()

  def weights():
    stacks = (torch.stack([getattr(m, name) for m in models]) for name in ("weight", "bias"))
    return _on_host(*stacks)

  return Peer(call, weights)


def torch_batched(job: Job) -> Peer:
  """All models as one stack of kernels, multiplied by `torch.baddbmm`, under one optimiser.

  The loss is the sum over models of each model's mean, so that each gets its own gradient, and
  the optimisers work element by element, so that one over the stack equals one for each model.
  """
  import torch
  from torch.nn.functional import cross_entropy

  num_models = len(job.weights)
  # As torch's own layers have it, [s, k, p]: full batches are a third quicker than by [s, p, k].
  kernels = torch.nn.Parameter(torch.tensor(job.weights).mT.contiguous())
  biases = torch.nn.Parameter(torch.zeros(kernels.shape[:2]))
  optimizer, stream = _optimizer(job, [kernels, biases]), _together(job)

  def call():
    for inputs, labels in itertools.islice(stream, job.num_steps):
      optimizer.zero_grad()
      # Examples that all models share are seen, not copied, by each. The logits are [s, k, b].
      inputs, labels = inputs.expand(num_models, -1, -1), labels.expand(num_models, -1)
      logits = torch.baddbmm(biases.unsqueeze(-1), kernels, inputs.mT)
      mean = cross_entropy(logits, labels, label_smoothing=job.hyper.label_smoothing)
      (num_models * mean).backward()
      if _clips(job):
        _clip_each([kernels.grad, biases.grad], job.hyper.clip_norm)
      optimizer.step()

  return Peer(call, lambda: _on_host(kernels, biases))


def torch_vmap(job: Job) -> Peer:
  """`torch.func.vmap` of one model's gradient over stacked parameters, under one optimiser."""
  from torch.func import functional_call, grad, stack_module_state, vmap
  from torch.nn.functional import cross_entropy

  models = [_linear(kernel) for kernel in job.weights]
  params, _ = stack_module_state(models)
  optimizer, stream = _optimizer(job, params.values()), _together(job)
  skeleton = models[0].to("meta")  # It is called with others' parameters only.
  values = {name: param.detach() for name, param in params.items()}  # The same memory.

  def objective(params, inputs, labels):
    logits = functional_call(skeleton, params, (inputs,))
    return cross_entropy(logits, labels, label_smoothing=job.hyper.label_smoothing)

  mapped = None if _full(job) and _shared(job) else 0
  gradients = vmap(grad(objective), in_dims=(0, mapped, mapped))

  def call():
    for inputs, labels in itertools.islice(stream, job.num_steps):
      grads = gradients(values, inputs, labels)
      if _clips(job):
        _clip_each(list(grads.values()), job.hyper.clip_norm)
      for name, param in params.items():
        param.grad = grads[name]
      optimizer.step()

  return Peer(call, lambda: _on_host(params["weight"], params["bias"]))


PEERS: dict[str, Callable[[Job], Peer]] = {
  "torch_loop": torch_loop,
  "torch_batched": torch_batched,
  "torch_vmap": torch_vmap,
}


def _on_host(kernels: Tensor, biases: Tensor) -> tuple[np.ndarray, np.ndarray]:
  """Copies kernels [s, k, p] as [s, p, k], and biases [s, k], to what later steps leave alone."""
  return kernels.detach().mT.numpy().copy(), biases.detach().numpy().copy()


def _linear(kernel: Float[np.ndarray, "p k"]) -> Any:
  """A linear layer with a given kernel and no bias yet."""
  import torch

  layer = torch.nn.Linear(*kernel.shape)
  with torch.no_grad():
    layer.weight.copy_(torch.tensor(kernel).T)
    layer.bias.zero_()
  return layer


def _optimizer(job: Job, params: Iterable[Tensor]) -> Any:
  """The optimiser of `jaxinv.optimizers` by torch's own name, with torch's choice of kernels."""
  from torch import optim

  rate, b1, decay = job.hyper.learning_rate, job.hyper.momentum, job.hyper.weight_decay
  match job.optimizer:
    case "sgd":
      return optim.SGD(params, rate, weight_decay=decay)
    case "momentum" | "nesterov":
      nesterov = job.optimizer == "nesterov"
      return optim.SGD(params, rate, momentum=b1, weight_decay=decay, nesterov=nesterov)
    case "adam":
      return optim.Adam(params, rate, betas=(b1, 0.999), eps=1e-8, weight_decay=decay)
    case "adamw":
      return optim.AdamW(params, rate, betas=(b1, 0.999), eps=1e-8, weight_decay=decay)
  raise ValueError(f"torch has no optimiser like {job.optimizer!r}")


def _clips(job: Job) -> bool:
  return not math.isinf(job.hyper.clip_norm)


def _clip_each(grads: Sequence[Tensor], max_norm: float) -> None:
  """Clips, in place, each model's global norm: `clip_grad_norm_` along the leading axis."""
  import torch

  norms = torch.stack([grad.flatten(1).norm(dim=1) for grad in grads]).norm(dim=0)
  factors = (max_norm / (norms + 1e-6)).clamp(max=1)
  for grad in grads:
    grad.mul_(factors.view(-1, *(1,) * (grad.dim() - 1)))


def _full(job: Job) -> bool:
  return job.batch_size in (0, job.train.shape[1])


def _shared(job: Job) -> bool:
  """Whether all models train on the same examples, in the same order."""
  return bool((job.train == job.train[0]).all())


def _tensors(job: Job) -> tuple[Tensor, Tensor, Tensor]:
  """Inputs [n, p], labels [n] and splits [s, m] as torch wants them."""
  import torch

  inputs = torch.tensor(job.inputs)
  return inputs, torch.tensor(job.labels).long(), torch.tensor(job.train).long()


def _each(job: Job) -> list[Iterator[Examples]]:
  """Each model's own examples of every step, for ever."""
  inputs, labels, train = _tensors(job)
  if not _full(job):
    return [_batches(inputs, labels, orders, job.batch_size) for orders in _orders(job)]
  if _shared(job):
    return [itertools.repeat((inputs[train[0]], labels[train[0]]))] * len(train)
  return [itertools.repeat((inputs[split], labels[split])) for split in train]


def _together(job: Job) -> Iterator[Examples]:
  """The same of all models at once; without the leading axis where the examples are shared."""
  import torch

  inputs, labels, train = _tensors(job)
  if not _full(job):
    orders = map(torch.stack, zip(*_orders(job), strict=True))
    return _batches(inputs, labels, orders, job.batch_size)
  split = train[0] if _shared(job) else train
  return itertools.repeat((inputs[split], labels[split]))


def _orders(job: Job) -> list[Iterator[Tensor]]:
  """For each model, the order [m] of its examples in every epoch."""
  if not 0 < job.batch_size <= job.train.shape[1]:
    raise ValueError(f"no batch of {job.batch_size} from {job.train.shape[1]} training examples")
  _, _, train = _tensors(job)
  return [_shuffles(split, job.seed + i) for i, split in enumerate(train)]


def _shuffles(split: Tensor, seed: int) -> Iterator[Tensor]:
  """Yields a split's indices [m] in a new order, for ever."""
  import torch

  generator = torch.Generator().manual_seed(seed)
  while True:
    yield split[torch.randperm(len(split), generator=generator)]


def _batches(
  inputs: Tensor, labels: Tensor, orders: Iterable[Tensor], batch_size: int
) -> Iterator[Examples]:
  """Yields the examples of each step; what does not fill a batch waits for the next epoch.

  Args:
    inputs: all examples, [n, p].
    labels: class of each, [n].
    orders: the order of the indices in each epoch, [*s, m].
    batch_size: examples a step, b.

  Yields:
    Inputs [*s, b, p] and labels [*s, b].
  """
  for order in orders:
    for start in range(0, order.shape[-1] - batch_size + 1, batch_size):
      batch = order[..., start : start + batch_size]
      yield inputs[batch], labels[batch]
