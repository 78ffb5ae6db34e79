"""DP-SGD: its gradient of ONE model, and the epsilon that it promises; Abadi et al. 2016.

arXiv 1607.00133. Every example's gradient is clipped, and noise is added. `private_mean` is
`optax.contrib`'s, for any model; it needs the gradient of every example by itself, each as large as
the model. For dense layers those are outer products, whose norms are known without them (Goodfellow
2015, arXiv 1510.01799), so that `dense_private_mean` gives the same in a fraction of the time.

The accounting is of the same mechanism: each step takes every example with the same probability, on
its own (Poisson sampling), and adds Gaussian noise to the sum of their clipped gradients. Two data
sets are neighbours where one has one example more.
"""

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax.contrib
from jaxtyping import Array, Bool, Float, Key

from jaxinv.errors import InputError
from jaxinv.models.dense import MLP
from jaxinv.training.losses import Loss
from jaxinv.types import Hyper, Params, PRNGKey

# From parameters, inputs [b, p], targets [b, k] and a source of randomness to losses [b].
Losses = Callable[[Params, jax.Array, jax.Array, PRNGKey], jax.Array]
# Of the Renyi accountant. Whole numbers: its series for others does not converge for every noise.
_ORDERS = (*range(2, 65), 128, 256, 512, 1024)
# Width of the cells of the privacy loss, for an epsilon of 1: ten times narrower takes ten times
# longer, and changes an epsilon below 30 by less than 0.01%.
_CELL = 1e-4
# Of groups: the width to begin with, and the most cells of one step's losses.
_GROUP_CELL, _GROUP_CELLS = 3e-3, 10_000


def example_gradients(
  losses: Losses,
  params: Params,
  inputs: Float[Array, "b p"],
  targets: Float[Array, "b k"],
  keys: Key[Array, " b"],
  taken: Bool[Array, " b"],
) -> Params:
  """The gradient of each example by itself.

  Args:
    losses: of the examples.
    params: of the model.
    inputs, targets: of the batch.
    keys: each example's own source of randomness, for what it drops.
    taken: which places of the batch are.

  Returns:
    The gradients, with a leading axis b; zeros for places that are not taken.
  """
  one = jax.grad(lambda p, x, t, key: losses(p, x[None], t[None], key)[0])
  each = jax.vmap(one, in_axes=(None, 0, 0, 0))(params, inputs, targets, keys)
  return jax.tree.map(lambda g: jnp.where(taken.reshape(-1, *(1,) * (g.ndim - 1)), g, 0.0), each)


def private_mean(each: Params, size: int, hyper: Hyper, key: PRNGKey) -> Params:
  """Each example's gradient clipped, their sum with noise, over the batch's mean size.

  Args:
    each: the examples' gradients, with a leading axis b; zeros where a place is not taken.
    size: examples of a batch in the mean, which is no secret, as the number of those taken is.
    hyper: its `dp_clip` bounds each example's norm, `dp_noise` times that is the noise.
    key: source of the noise.

  Returns:
    The gradient.
  """
  private = optax.contrib.differentially_private_aggregate(hyper.dp_clip, hyper.dp_noise, key)
  places = jax.tree.leaves(each)[0].shape[0]
  mean, _ = private.update(each, private.init(None))
  # It has divided by the number of places, many of which are empty.
  return jax.tree.map(lambda g: g * (places / size), mean)


def dense_private_mean(
  model: MLP,
  loss: Loss,
  params: Params,
  inputs: Float[Array, "b p"],
  targets: Float[Array, "b k"],
  taken: Bool[Array, " b"],
  size: int,
  hyper: Hyper,
  key: PRNGKey,
) -> Params:
  """`private_mean` of dense layers, without the examples' gradients.

  The gradient of example i with respect to a layer is the outer product of the layer's input a_i,
  and 1 for the bias, with the derivative d_i by its output: its norm is |d_i| sqrt(|a_i|^2 + 1).

  Args:
    model: dense layers.
    loss: of logits and targets.
    params: of the model.
    inputs, targets, taken: of the batch, see `example_gradients`.
    size, hyper, key: see `private_mean`; the same key gives the same noise.

  Returns:
    The gradient.
  """
  layers = [params[f"Dense_{i}"] for i in range(len(params))]
  shifts = [jnp.zeros((len(inputs), layer["kernel"].shape[1])) for layer in layers]
  logits, back, seen = jax.vjp(partial(_shifted, model, layers, inputs), shifts, has_aux=True)
  (derivatives,) = back(loss.residual(logits, targets))
  of_inputs = [jnp.square(a).sum(1) + float(model.use_bias) for a in seen]
  squares = sum(jnp.square(d).sum(1) * own for d, own in zip(derivatives, of_inputs, strict=True))
  factors = taken / jnp.maximum(jnp.sqrt(squares) / hyper.dp_clip, 1.0)
  clipped = [factors[:, None] * d for d in derivatives]
  total = {
    f"Dense_{i}": {"kernel": a.T @ d} | ({"bias": d.sum(0)} if model.use_bias else {})
    for i, (a, d) in enumerate(zip(seen, clipped, strict=True))
  }
  leaves, structure = jax.tree.flatten(total)
  _, *keys = jax.random.split(key, len(leaves) + 1)
  deviation = hyper.dp_noise * hyper.dp_clip
  noise = [deviation * jax.random.normal(k, g.shape) for g, k in zip(leaves, keys, strict=True)]
  return structure.unflatten([(g + n) / size for g, n in zip(leaves, noise, strict=True)])


def _shifted(model: MLP, layers: Sequence[Params], x: Float[Array, "b p"], shifts: Sequence[Array]):
  """The logits where each layer's output is shifted, by which one derives; each layer's input."""
  seen = []
  for i, (layer, shift) in enumerate(zip(layers, shifts, strict=True)):
    seen.append(x)
    x = x @ layer["kernel"] + (layer["bias"][None] if model.use_bias else 0.0) + shift
    x = model.activation(x) if i + 1 < len(layers) else x
  return x, seen


def epsilon(
  noise_multiplier: float,
  sampling_rate: float,
  steps: int,
  delta: float,
  group: int = 1,
  models: int = 1,
) -> float:
  """Epsilon that DP-SGD keeps to, at a delta: an upper bound, and a tight one.

  By the privacy loss distribution (Doroshenko et al. 2022, arXiv 2207.04380) of `dp_accounting`:
  at most 0.1% above the exact value (5% where that is beyond 100 and promises little), in a tenth
  of a second. The Renyi accountant, 10% to 1000% above, says how wide the cells can be; its bound
  stands in where these overflow: noise below about 0.015, or delta below about 1e-14.

  Of a group it takes seconds, see `_of_group`, and is far more than the group times the epsilon of
  one: 12.4 of one photograph, 226 of eight (noise 1, rate 0.1, 300 steps, delta 1e-5).

  The guarantee is of the models alone, and of one training with settings that were fixed before.
  Outside it: the number of training examples, which is public; examples that are held out; and
  whatever was chosen by looking at how models of the same data came out, such as when to stop.

  Args:
    noise_multiplier: standard deviation of the noise, in units of the clipping norm.
    sampling_rate: probability of each example to be in a batch, in (0, 1].
    steps: number of steps.
    delta: probability with which the bound may fail, in (0, 1).
    group: examples that are in the data or not together, such as all photographs of a person.
    models: released models, each trained so on the same data with noise and batches of its own.

  Returns:
    Epsilon; infinite without noise.

  Raises:
    InputError: if a number is out of range.

  Example:
    >>> one, two = (epsilon(1.0, 0.1, 300, 1e-5, group=g) for g in (1, 2))
    >>> round(one, 1), round(two, 1)
    (12.4, 30.2)
  """
  _check(sampling_rate, steps, delta, noise_multiplier, group, models)
  noise = noise_multiplier / group
  if noise < 2.0**-500:  # Whose square is 0.
    return math.inf
  import dp_accounting as dp  # A second to import, and few runs need it.

  # Of a noise that is very large it warns at length, and is right all the same.
  logging.getLogger("absl").setLevel(logging.ERROR)
  # As if whoever is in the batch of a group brought the whole group along: a bound, too.
  rate = -math.expm1(group * math.log1p(-sampling_rate)) if sampling_rate < 1 else 1.0
  step = dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise))
  event = dp.SelfComposedDpEvent(step, steps * models)
  bound = float(dp.rdp.RdpAccountant(_ORDERS).compose(event).get_epsilon(delta))
  if group > 1 and sampling_rate < 1:
    tight = _of_group(noise_multiplier, sampling_rate, steps * models, delta, group, bound)
  else:
    tight = _by_losses(event, delta, _CELL * max(bound, 1.0))
  return tight if tight < math.inf else bound


class Guarantee(NamedTuple):
  """What DP-SGD promises, at one delta: three epsilons.

  Attributes:
    photograph: of one photograph, from one model.
    person: of all photographs of one person that are trained on, from one model.
    models: of one photograph, from all models together.
    num_photographs: how many of a person there are.
    num_models: how many models there are.
  """

  photograph: float
  person: float
  models: float
  num_photographs: int
  num_models: int


def guarantee(
  noise: float, rate: float, steps: int, delta: float, num_photographs: int, num_models: int
) -> Guarantee:
  """The epsilons of a photograph, of a person and of all models, see `epsilon`; without steps 0."""
  found = [
    epsilon(noise, rate, steps, delta, group, models) if steps else 0.0
    for group, models in ((1, 1), (num_photographs, 1), (1, num_models))
  ]
  return Guarantee(*found, num_photographs, num_models)


def _of_group(
  noise: float, rate: float, steps: int, delta: float, group: int, bound: float
) -> float:
  """`epsilon` of a group by the mixture of Gaussians, in cells as wide as the result allows.

  A step takes a binomial number of the group, and that many clipped gradients shift the noise: a
  mixture whose privacy loss bounds what any such gradients give away (Ganesh 2024, arXiv
  2401.10294), at most a few percent above the exact value at rates of 0.01 or more.

  Any width gives an upper bound. They are made narrower until that changes little, or until one
  step's losses have so many that it takes long.
  """
  import dp_accounting as dp
  from scipy.stats import binom

  counts, shift = range(group + 1), group / noise
  step = dp.dp_event.MixtureOfGaussiansDpEvent(noise, [*counts], [*binom.pmf(counts, group, rate)])
  event = dp.SelfComposedDpEvent(step, steps)
  # No wider than a share of a common loss, nor so narrow that all steps' have millions.
  least = max((10 * shift + shift**2 / 2) / _GROUP_CELLS, 1e-6, 1e-7 * bound)
  cell = max(min(_GROUP_CELL * bound, 0.3), 1e-6 * bound, least)
  found, settled = math.inf, False
  while not settled:
    narrower = _by_losses(event, delta, cell)
    settled = 0.98 * found <= narrower < math.inf or cell < least
    found, cell = min(found, narrower), cell / 3
  return min(bound, found)


def _by_losses(event: Any, delta: float, cell: float) -> float:
  """Epsilon by the privacy loss distribution, in cells so wide; infinite where it overflows."""
  import dp_accounting as dp

  accountant = dp.pld.PLDAccountant(value_discretization_interval=cell)
  try:
    with np.errstate(all="ignore"):
      return float(accountant.compose(event).get_epsilon(delta))
  except OverflowError:
    return math.inf


def noise_for(target_epsilon: float, sampling_rate: float, steps: int, delta: float) -> float:
  """The least noise multiplier with which DP-SGD keeps to an epsilon.

  Args:
    target_epsilon: what `epsilon` shall not exceed, above 0.
    sampling_rate: probability of each example to be in a batch, in (0, 1].
    steps: number of steps.
    delta: probability with which the bound may fail, in (0, 1).

  Returns:
    The noise multiplier, by bisection: at most 0.1% above the least (or above 1e-6), never below.

  Raises:
    InputError: if a number is out of range, or no noise is enough.
  """
  _check(sampling_rate, steps, delta)
  if not 0 < target_epsilon < math.inf:
    raise InputError(f"the epsilon to keep to is a finite number above 0, not {target_epsilon}")

  def enough(noise: float) -> bool:
    return epsilon(noise, sampling_rate, steps, delta) <= target_epsilon

  high = 1.0
  while not enough(high):
    if (high := 2 * high) > 2.0**20:
      raise InputError(f"no noise is known to give epsilon {target_epsilon}: take a larger one")
  low = high / 2
  while low > 2.0**-20 and enough(low):
    low, high = low / 2, low
  while high > 1.001 * low:
    middle = math.sqrt(low * high)
    low, high = (low, middle) if enough(middle) else (middle, high)
  return high


def capacity(batch_size: int, num_train: int, tail: float = 1e-12) -> int:
  """How many places a Poisson batch of a compiled program needs, whose shapes are fixed.

  A batch that finds no place is cut, which the accountant does not know of. Where the other
  examples alone leave a place for the one in question, nothing is cut with it or without it; and
  whether they do does not depend on it. So delta grows by at most the probability that in some step
  they do not: steps * tail / rate, with rate = batch_size / num_train (of a group of g examples,
  for which g places must be left, steps * tail / rate^g). Chua et al. 2024, arXiv 2411.04205, have
  a factor of 1 + exp(epsilon), as they compare with a run that is never cut on both sides.

  Args:
    batch_size: mean size of a batch; each example is in it with probability batch_size / num_train.
    num_train: number of training examples.
    tail: the largest probability that a batch is larger than its places, in (0, 1).

  Returns:
    The smallest number of places, at most `num_train`.

  Raises:
    InputError: if a number is out of range.
  """
  if not 1 <= batch_size <= num_train:
    raise InputError(f"the mean batch size is from 1 to {num_train} examples, not {batch_size}")
  if not 0 < tail < 1:
    raise InputError(f"the tail is a probability between 0 and 1, not {tail}")
  from scipy.stats import binom  # Slow to import.

  exceeded = binom.sf(np.arange(num_train + 1), num_train, batch_size / num_train)
  return int(np.argmax(exceeded <= tail))


def _check(
  rate: float, steps: int, delta: float, noise: float = 0.0, group: int = 1, models: int = 1
) -> None:
  """Refuses what is no run of DP-SGD."""
  if not 0 < rate <= 1:
    raise InputError(f"the sampling rate is above 0 and at most 1, not {rate}")
  if not steps >= 1:
    raise InputError(f"the number of steps is at least 1, not {steps}")
  if not 0 < delta < 1:
    raise InputError(f"delta is a probability between 0 and 1, not {delta}")
  if not (group >= 1 and models >= 1):
    raise InputError(f"group and models are numbers of at least 1, not {group} and {models}")
  if not 0 <= noise < math.inf:
    raise InputError(f"the noise multiplier is a finite number, at least 0, not {noise}")
