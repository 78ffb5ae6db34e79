"""Single training photographs out of the change of a first layer: the photographs as sources.

Gradient descent moves a first layer only within the span of its inputs: W - W0 = X^T A, with the
photographs X [n, p] and any coefficients A [n, u], whatever stands behind that layer. So the rank
of the change is the number of photographs, and its columns are mixtures of them. Photographs are
nearly independent of each other in their finest detail; independent component analysis of the
detail finds the mixtures that are single photographs. No label and no forward pass is needed.

Two things are known of photographs besides: their pixels lie in [0, 1], and a bias sees each of
them as a pixel of value 1, so that the change of the bias gives every component its scale and sign.
Both tell a photograph from the difference of two that are nearly the same, whose detail is sparser
than either's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxinv.attacks.single.separation import separate
from jaxinv.errors import InputError
from jaxinv.models.params import find_layers
from jaxinv.types import Params

# A gap between neighbouring singular values counts as a cliff from this ratio on; no noise has it
# (a test simulates that). Above the second the number of photographs is certain.
_CLIFF, _CERTAIN = 1.25, 10.0
# In photographs of little contrast the first value is so much further ahead of the second, for the
# mean that all have in common. Behind a single photograph the values fall further.
_COMMON = 10.0
# Of the singular values, this share at the end says nothing: there may be a sum of coefficients
# that is always zero.
_LAST = 0.12
# Columns that moved by less than this share of the one that moved most did not move.
_STILL = 1e-4
# What is below this share of the largest value is not looked at: the products of columns square it.
_NOTHING = 5e-8
# Of a blurred cliff, the upper side is at least this share of the second value: the first is of the
# mean that photographs have in common.
_FAINT = 0.01
# A factor of the initial weights is believed where it takes so much of the power in the directions
# that photographs do not reach.
_SMALLER = 0.01


class Change(NamedTuple):
  """What training did to a first layer, in double precision.

  Attributes:
    kernel: the change, one column a unit.
    bias: of the units' biases; None where there are none, or they are not known.
    rounding: standard deviation of what rounding leaves of a kernel's entry.
  """

  kernel: Float[np.ndarray, "p u"]
  bias: Float[np.ndarray, " u"] | None
  rounding: float = 0.0


class Count(NamedTuple):
  """How many photographs a change is made of.

  Attributes:
    number: of photographs; 0 where no cliff is found.
    cliff: the ratio of the last singular value that counts to the first that does not.
    certain: whether the cliff is far steeper than any that chance or an optimiser makes.
  """

  number: int
  cliff: float
  certain: bool


class Unmixed(NamedTuple):
  """What a change is made of: n components, each meant to be one photograph.

  Attributes:
    images: the components. In the unit of the inputs where `is_scaled`, else each of mean 1.
    coefficients: how much of each is in each unit's change: images and these give the change.
    stability: from -1 to 1, how much independent restarts agree on each component: the attacker's
      own confidence. The index of ICASSO (Himberg et al. 2004).
    values: all singular values of the change, falling.
    count: how many photographs they tell of.
    is_scaled: whether a bias gave the scale.
  """

  images: Float[np.ndarray, "n h w *c"]
  coefficients: Float[np.ndarray, "n u"]
  stability: Float[np.ndarray, " n"]
  values: Float[np.ndarray, " r"]
  count: Count
  is_scaled: bool


def change_of(
  params: Params, minus: Params | None, num_features: int, factor: float | None = 1.0
) -> Change:
  """The change of the first layer between two states of a model.

  Args:
    params: the later parameters; or of an optimiser's state a tree like them, as the first moment
      of Adam or the trace of momentum, which is a sum of gradients and so in the span as well.
    minus: the earlier ones; None to take nothing off.
    num_features: features of an input, p.
    factor: what the earlier ones are multiplied by: (1 - rate x decay)^steps under weight decay.
      None to find it, see `decay_factor`.

  Returns:
    The change.

  Raises:
    InputError: no kernel takes inputs of so many features, the models differ in their units, or the
      factor is sought in weights that are not finite.
  """
  now = find_layers(params, num_features)[0]
  kernel, bias = np.asarray(now.kernel), now.bias
  rounding = float(np.sqrt(np.mean(np.square(np.spacing(np.abs(kernel)).astype(float))) / 12))
  kernel, bias = kernel.astype(float), None if bias is None else np.asarray(bias, float)
  if minus is None:
    return Change(kernel, bias, rounding)
  first = find_layers(minus, num_features)[0]
  before = np.asarray(first.kernel, float)
  if before.shape != kernel.shape:
    raise InputError(
      f"the first layers have {kernel.shape[1]} and {before.shape[1]} units: give two states of "
      "one model"
    )
  factor = decay_factor(kernel, before) if factor is None else factor
  if bias is not None and first.bias is not None:
    bias = bias - factor * np.asarray(first.bias, float)
  return Change(kernel - factor * before, bias if first.bias is not None else None, rounding)


def side_by_side(changes: Sequence[Change]) -> Change:
  """Changes of several models trained on the same photographs as one with all their units.

  Raises:
    InputError: none is given, or they are not of the same inputs.
  """
  if len({len(change.kernel) for change in changes}) != 1:
    sizes = ", ".join(str(len(change.kernel)) for change in changes) or "none"
    raise InputError(
      f"changes of first layers with these numbers of features were given: {sizes}: give at least "
      "one, and all of the same photographs"
    )
  biases = [change.bias for change in changes]
  return Change(
    np.concatenate([change.kernel for change in changes], 1),
    None if any(bias is None for bias in biases) else np.concatenate(biases),
    max(change.rounding for change in changes),
  )


def decay_factor(kernel: Float[np.ndarray, "p u"], init: Float[np.ndarray, "p u"]) -> float:
  """What weight decay left of the initial weights: c of W = c W0 + X^T A.

  In the directions of the units' space that the photographs do not reach, W is c W0 alone: c is
  found there by least squares, and these directions are found, as those in which W - c W0 is
  smallest, by turns.

  Args:
    kernel: W.
    init: W0.

  Returns:
    The factor c; right where there are clearly fewer photographs than units. 1 where another makes
    nothing clearly smaller.

  Raises:
    InputError: a weight is not finite.
  """
  _check_finite(kernel, init)
  factor, last = 1.0, max(1, kernel.shape[1] // 4)
  usual = _smallest(kernel - init, last)
  for _ in range(20):
    rest = kernel - factor * init
    quiet = np.linalg.eigh(rest.T @ rest)[1][:, :last]
    before, seen = factor, init @ quiet
    factor = float(np.vdot(seen, kernel @ quiet) / max(np.vdot(seen, seen), 1e-300))
    if abs(factor - before) < 1e-12:
      break
  return factor if _smallest(kernel - factor * init, last) < _SMALLER * usual else 1.0


def _smallest(change: Float[np.ndarray, "p u"], last: int) -> float:
  """The power in the directions of the units' space that have least."""
  return float(np.maximum(np.linalg.eigvalsh(change.T @ change)[:last], 0.0).sum())


def spectrum(change: Change) -> tuple[Float[np.ndarray, " u"], Float[np.ndarray, "u u"]]:
  """Singular values of a change, falling, and the right singular vectors, one a column.

  From the products of the columns with each other, in double precision: what is below 5e-8 of the
  largest is lost, which is less than what rounding to float32 adds.

  Raises:
    InputError: the change is not finite.
  """
  _check_finite(change.kernel, change.bias)
  powers, vectors = np.linalg.eigh(change.kernel.T @ change.kernel)
  return np.sqrt(np.maximum(powers[::-1], 0.0)), vectors[:, ::-1]


def rank(values: Float[np.ndarray, " u"]) -> int:
  """How many singular values are more than what double precision leaves of none."""
  return int((values > _NOTHING * values[0]).sum())


def count_sources(change: Change, values: Float[np.ndarray, " u"]) -> Count:
  """How many photographs a change is made of: where its singular values fall off a cliff.

  A cliff is a ratio of neighbouring values that is larger than all others near it. Columns that
  did not move do not count, and the last values are never looked at: where there are as many
  photographs as units, nothing can be said.

  Args:
    change: the change.
    values: its singular values, falling.

  Returns:
    The count.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> made = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 20))
    >>> change = Change(made + 1e-9 * rng.normal(size=(40, 20)), None)
    >>> count_sources(change, spectrum(change)[0]).number
    2
  """
  num_features, lengths = change.kernel.shape[0], np.linalg.norm(change.kernel, axis=0)
  # Units that never fired moved by the rounding of weight decay at most.
  moved = int((lengths > _STILL * lengths.max()).sum())
  most = int(min(num_features, moved) * (1 - _LAST)) - 1
  if most < 1 or values[0] == 0:
    return Count(0, 1.0, certain=False)
  # Below this the values are those of rounding, and their ratios chance.
  floor = max(change.rounding * (num_features**0.5 + moved**0.5), _NOTHING * values[0])
  kept = np.log(np.maximum(values, floor))
  falls = kept[:-1] - kept[1:]
  ahead = falls[:most] - np.log(np.where(np.arange(most) == 0, _COMMON, 1.0))
  best = int(ahead.argmax())
  # What rounding leaves is flat: a fall that goes on is an optimiser's, not a number.
  further = np.exp(falls[best + 1 : best + 3 + best // 16].sum())
  cliff = float(np.exp(falls[best]))
  if np.exp(ahead[best]) >= max(_CERTAIN, 3 * further):
    return Count(best + 1, cliff, certain=True)
  # A blurred cliff: what stands out from its neighbourhood. The first values fall steeply in any
  # set of photographs, which have their mean in common; the last are an optimiser's.
  most = min(most, int((values > _FAINT * values[1]).sum()))
  if most < 3:
    return Count(0, 1.0, certain=False)
  near = [np.delete(falls[max(0, k - 4) : k + 5], min(k, 4)).max() for k in range(most)]
  best = 2 + int((falls[:most] - near)[2:].argmax())
  cliff = float(np.exp(falls[best] - near[best]))
  return Count(best + 1 if cliff >= _CLIFF else 0, cliff, certain=False)


def unmix(
  change: Change,
  image_shape: tuple[int, ...],
  number: int | None = None,
  restarts: int = 3,
  seed: int = 0,
  largest: float = 1.0,
) -> Unmixed:
  """Reads single training photographs out of the change of a first layer.

  Args:
    change: see `change_of` and `side_by_side`.
    image_shape: (h, w) or (h, w, c), each side at least 3, with h * w * c = p.
    number: of photographs, where it is known; None to count them.
    restarts: independent starts, of which the best is gone on with; at least 2 for a stability.
    seed: of their randomness.
    largest: value of an input, used where a bias gives the scale: 1 of pixels, infinite of what
      another layer passes on. None is below 0.

  Returns:
    The components, by falling stability; none where no photographs are counted.

  Raises:
    InputError: the number or the shape does not fit the change, or the change is not finite.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> photographs = np.full((3, 24, 24), 0.5)  # Rectangles that hide each other.
    >>> for photograph in photographs:
    ...   for _ in range(20):
    ...     (top, left), (high, wide) = rng.integers(0, 24, 2), rng.integers(3, 12, 2)
    ...     photograph[top : top + high, left : left + wide] = rng.uniform()
    >>> coefficients = rng.normal(size=(3, 16))
    >>> kernel, bias = photographs.reshape(3, -1).T @ coefficients, coefficients.sum(0)
    >>> found = unmix(Change(kernel, bias), (24, 24))
    >>> seen = np.corrcoef(found.images.reshape(3, -1), photographs.reshape(3, -1))[:3, 3:]
    >>> bool((seen.max(0) > 0.98).all())
    True
  """
  values, vectors = spectrum(change)
  count = count_sources(change, values)
  number = count.number if number is None else number
  _check(change, image_shape, number, restarts, values)
  values_of = values[:number]
  basis = change.kernel @ (vectors[:, :number] / values_of)
  mixed = values_of[:, None] * vectors[:, :number].T
  is_scaled = change.bias is not None and bool(np.any(change.bias))
  if number == 0:
    return Unmixed(np.zeros((0, *image_shape)), mixed, np.zeros(0), values, count, is_scaled)
  # What a bias, or else the mean over the pixels, sees of each image of the basis.
  ones = vectors[:, :number].T @ change.bias / values_of if is_scaled else basis.mean(0)
  pictures = basis.T.reshape(number, *image_shape)
  most = largest if is_scaled else np.inf
  found, stability = separate(pictures, ones, most, restarts, seed)
  images = (basis @ found).T.reshape(number, *image_shape)
  order = np.argsort(-stability, kind="stable")
  coefficients = np.linalg.solve(found, mixed)
  return Unmixed(images[order], coefficients[order], stability[order], values, count, is_scaled)


def _check(
  change: Change,
  image_shape: tuple[int, ...],
  number: int,
  restarts: int,
  values: Float[np.ndarray, " u"],
) -> None:
  """Raises InputError unless so many images of this shape can be sought in the change."""
  num_features, units = change.kernel.shape
  if len(image_shape) not in (2, 3) or min(image_shape[:2]) < 3:
    raise InputError(f"images of shape {tuple(image_shape)} have no detail: give 3 pixels or more")
  if np.prod(image_shape) != num_features:
    raise InputError(
      f"the layer takes {num_features} features, which is no image of shape {tuple(image_shape)}"
    )
  if restarts < 1:
    raise InputError(f"{restarts} restarts find nothing: give 1 or more")
  most = rank(values)
  if number < 0 or number > most:
    raise InputError(
      f"{number} photographs cannot be told apart in a change of {units} units and rank {most}: "
      f"give {most} or fewer"
    )


def _check_finite(*arrays: Float[np.ndarray, "..."] | None) -> None:
  """Raises InputError unless all numbers are finite."""
  if not all(np.isfinite(array).all() for array in arrays if array is not None):
    raise InputError("the change holds numbers that are not finite: the model diverged")
