"""Splits by class into training and held-out examples, and the means of their classes."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxinv.errors import InputError
from jaxinv.types import Data, Dataset, PRNGKey, TrainTest

# Of a class, so many parts at most are compared with what is held out: more say little more.
_MOST_PARTS = 8


def check_dataset(dataset: Dataset) -> None:
  """Checks what every experiment takes for granted of a data set.

  Args:
    dataset: of anybody's making.

  Raises:
    InputError: the parts do not fit each other, inputs are not numbers in [0, 1], labels are not
      whole numbers from 0 to k - 1, or a class has no example.
  """
  for name in ("inputs", "labels"):
    values = getattr(dataset, name)
    if not isinstance(values, np.ndarray | jax.Array):
      raise InputError(f"the data's {name} are a {type(values).__name__}: give a NumPy array")
  inputs, labels = np.asarray(dataset.inputs), np.asarray(dataset.labels)
  if inputs.ndim != 2:
    raise InputError(f"the data's inputs are of shape {inputs.shape}: give one row an example")
  if labels.shape != inputs.shape[:1]:
    raise InputError(
      f"the data have {len(inputs)} inputs and labels of shape {labels.shape}: give each one label"
    )
  _check_inputs(inputs)
  shape = dataset.image_shape
  if shape is not None and (
    len(shape) not in (2, 3) or min(shape) < 1 or math.prod(shape) != inputs.shape[1]
  ):
    raise InputError(
      f"the data's {inputs.shape[1]} features are not an image of shape {tuple(shape)}: give "
      "(h, w) or (h, w, c) with as many values"
    )
  _check_labels(labels, dataset.num_classes, dataset.names)


def _check_inputs(inputs: np.ndarray) -> None:
  """Raises InputError unless inputs are floating-point numbers in [0, 1]."""
  if inputs.dtype.kind != "f":
    raise InputError(
      f"the data's inputs are of type {inputs.dtype}: give float32 in [0, 1]; scale bytes by 255"
    )
  low, high = inputs.min(initial=0.0), inputs.max(initial=0.0)
  if not np.isfinite(low + high):
    raise InputError("the data's inputs are not all finite: mend or leave out such examples")
  if low < 0 or high > 1:
    raise InputError(
      f"the data's inputs lie in {low:g} to {high:g}: give values in [0, 1]; scale bytes by 255"
    )


def _check_labels(labels: np.ndarray, num_classes: int, names: Sequence[str]) -> None:
  """Raises InputError unless there are two classes or more, each with a name and an example."""
  if num_classes < 2:
    raise InputError(f"the data have {num_classes} class: a classifier needs 2 or more")
  if len(names) != num_classes:
    raise InputError(f"the data have {num_classes} classes and {len(names)} names: give one each")
  if labels.dtype.kind not in "iu":
    raise InputError(f"the data's labels are of type {labels.dtype}: give whole numbers, int32")
  wrong = labels[(labels < 0) | (labels >= num_classes)]
  if wrong.size:
    raise InputError(
      f"label {wrong[0]} is none of {num_classes} classes: give labels from 0 to {num_classes - 1}"
    )
  empty = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
  if empty.size:
    raise InputError(f"class '{names[empty[0]]}' has no example: give it some or leave it out")


def check_split(dataset: Dataset, holdout: int) -> None:
  """Raises InputError unless every class keeps an example to train on after `holdout` are gone."""
  counts = np.bincount(dataset.labels, minlength=dataset.num_classes)
  smallest = int(counts.argmin())
  if counts[smallest] <= holdout:
    count = counts[smallest]
    raise InputError(
      f"class '{dataset.names[smallest]}' has {count} example{'s' if count != 1 else ''}, too few "
      f"to hold out {holdout} and train on the rest: give --holdout={max(count - 1, 0)} "
      f"{'or less ' if count > 1 else ''}or leave the class out"
    )


def draw_split(
  key: PRNGKey, labels: Int[Array, " n"], num_classes: int, holdout: int
) -> tuple[Int[Array, " m"], Int[Array, " o"]]:
  """Holds out `holdout` examples of each class, chosen at random.

  Args:
    key: source of randomness.
    labels: class of each example; every class has more than `holdout`.
    num_classes: number of classes, k, static.
    holdout: examples of each class to hold out, static; o = k * holdout.

  Returns:
    The indices of the training and of the held-out examples, each in rising order.
  """
  num_examples = labels.shape[0]
  # Sorted by class, and at random within each; an example's rank in its class is then its place
  # less the place where the class begins.
  by_class = jnp.lexsort((jax.random.uniform(key, (num_examples,)), labels))
  begins = jnp.searchsorted(labels[by_class], jnp.arange(num_classes))
  rank = jnp.arange(num_examples) - begins[labels[by_class]]
  held = jnp.zeros(num_examples, bool).at[by_class].set(rank < holdout)
  order = jnp.argsort(held, stable=True)
  num_train = num_examples - num_classes * holdout
  return order[:num_train], order[num_train:]


def class_means(
  inputs: Float[Array, "n p"], labels: Int[Array, " n"], index: Int[Array, " m"], num_classes: int
) -> Float[Array, "k p"]:
  """Mean example of each class, over the examples named by `index`.

  Args:
    inputs: all examples.
    labels: class of each.
    index: the examples to average; empty gives zeros.
    num_classes: number of classes, k, static.

  Returns:
    One mean a class.
  """
  return split_means(inputs, labels, (index,), num_classes)[0]


def class_shares(
  labels: Int[Array, " n"], index: Int[Array, " m"], num_classes: int
) -> Float[Array, "k n"]:
  """Weight of each example in its class's mean over `index`; each row sums to 1, or to 0."""
  chosen = jnp.zeros(labels.shape[0]).at[index].set(1.0)
  members = jax.nn.one_hot(labels, num_classes, axis=0) * chosen[None]
  return members / jnp.maximum(members.sum(1, keepdims=True), 1.0)


def split_means(
  rows: Float[Array, "n p"],
  labels: Int[Array, " n"],
  indices: Sequence[Int[Array, " _"]],
  num_classes: int,
) -> Float[Array, "i k p"]:
  """The mean of each class over each of some indices, that share no example; zeros for no example.

  By sums over the classes: a tenth of the time of a product with `class_shares`.
  """
  num_sums = len(indices) * num_classes
  place = jnp.full(len(labels), num_sums)
  for i, index in enumerate(indices):
    place = place.at[index].set(i * num_classes + labels[index])
  counts = jnp.bincount(place, length=num_sums).astype(rows.dtype)
  sums = jax.ops.segment_sum(rows, place, num_sums) / jnp.maximum(counts, 1.0)[:, None]
  return sums.reshape(len(indices), num_classes, -1)


def part_shares(
  labels: Int[Array, " n"], index: Int[Array, " m"], num_classes: int, size: int
) -> Float[Array, "j k n"]:
  """Weights of the means of equally large parts of each class: to compare with a mean of as many.

  The mean of few examples is less like the others of its class than that of many.

  Args:
    labels: class of each example.
    index: the examples to average, in rising order.
    num_classes: number of classes, k, static.
    size: examples of a part, above 0, static; of a class that has fewer, all are one part.

  Returns:
    For each of j parts (as many as a class of the mean size has, 8 at most) `class_shares` of it;
    parts share no example, but where a class has fewer than j: there they come again.

  Example:
    >>> shares = part_shares(jnp.zeros(5, int), jnp.arange(5), 1, size=2)
    >>> shares.tolist()
    [[[0.5, 0.0, 0.5, 0.0, 0.0]], [[0.0, 0.5, 0.0, 0.5, 0.0]]]
  """
  num_parts = max(1, min(_MOST_PARTS, index.shape[0] // num_classes // size))
  members = jax.nn.one_hot(labels[index], num_classes, axis=0)
  rank = members.cumsum(1) - 1
  parts = jnp.clip(members.sum(1, keepdims=True) // size, 1, num_parts)
  place = jnp.where((members > 0) & (rank < parts * size), rank % parts, -1)
  wanted = jnp.arange(num_parts)[:, None, None] % parts[None]
  chosen = (place[None] == wanted).astype(members.dtype)
  shares = chosen / jnp.maximum(chosen.sum(2, keepdims=True), 1.0)
  return jnp.zeros((num_parts, num_classes, labels.shape[0])).at[:, :, index].set(shares)


def whole(dataset: Dataset) -> Data:
  """The data set with nothing held out, on the device."""
  everything = jnp.arange(len(dataset.labels))
  inputs = jnp.asarray(dataset.inputs, float)
  return Data(inputs, jnp.asarray(dataset.labels), everything, everything[:0])


def joined(data: TrainTest) -> Dataset:
  """A data set that comes divided as one, its training examples first."""
  inputs, labels = (
    np.concatenate([getattr(part, name) for part in data]) for name in ("inputs", "labels")
  )
  return data.train._replace(inputs=inputs, labels=labels)


def divide(dataset: Dataset, share: float, seed: int | Sequence[int]) -> TrainTest:
  """Divides each class of a data set at random, in one proportion, into training and test examples.

  Args:
    dataset: the data set.
    share: of each class's examples that are for testing, rounded; at least one, and never all.
    seed: decides which.

  Returns:
    Both parts, each in the data set's order.

  Raises:
    InputError: a class has fewer than two examples.
  """
  rng, inputs, labels = np.random.default_rng(seed), *map(np.asarray, dataset[:2])
  held = np.zeros(len(labels), bool)
  for label, name in enumerate(dataset.names):
    members = rng.permutation(np.flatnonzero(labels == label))
    if len(members) < 2:
      raise InputError(
        f"class '{name}' has {len(members)} example, which cannot be divided into training and "
        "test examples: give it more or leave it out"
      )
    held[members[: min(max(1, round(share * len(members))), len(members) - 1)]] = True
  parts = (dataset._replace(inputs=inputs[part], labels=labels[part]) for part in (~held, held))
  return TrainTest(*parts)


def clearest_and_most_varied(
  inputs: Float[np.ndarray, "n p"], labels: Int[np.ndarray, " n"], num_classes: int
) -> tuple[int, ...]:
  """Three classes by how much their images differ among themselves: least, middle, most."""
  spread = [float(inputs[labels == k].var(0).mean()) for k in range(num_classes)]
  order = np.argsort(spread)
  return tuple(dict.fromkeys(int(order[i]) for i in (0, len(order) // 2, -1)))
