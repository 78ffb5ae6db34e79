"""Any pytree of parameters: by name, and its dense layers found, applied, read as class weights."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinv.errors import InputError
from jaxinv.types import Params


def flatten(tree: Params) -> dict[str, Any]:
  """The leaves of a pytree by name, levels parted by slashes.

  Example:
    >>> flatten({"Dense_0": {"kernel": 1, "bias": 2}})
    {'Dense_0/bias': 2, 'Dense_0/kernel': 1}
  """
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def unflatten(arrays: Mapping[str, Any]) -> Params:
  """The tree of dicts that `flatten` was given.

  Example:
    >>> unflatten({"Dense_0/bias": 2, "Dense_0/kernel": 1})
    {'Dense_0': {'bias': 2, 'kernel': 1}}
  """
  tree: Params = {}
  for name, array in arrays.items():
    *above, last = name.split("/")
    branch = tree
    for level in above:
      branch = branch.setdefault(level, {})
    branch[last] = array
  return tree


def weight_movement(params: Params, init_params: Params) -> Float[Array, ""]:
  """|W - W0| / |W0|, Frobenius norms over all kernels; not finite where W0 is zero.

  Args:
    params: of a trained model.
    init_params: of the same model before training.

  Returns:
    How far training moved the weights, relative to their initial size.

  Example:
    >>> start = {"kernel": jnp.ones((6, 2))}
    >>> round(float(weight_movement({"kernel": 1.5 * start["kernel"]}, start)), 6)
    0.5
  """

  def kernels(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim >= 2]

  def norm(leaves):
    return jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in leaves))

  pairs = zip(kernels(params), kernels(init_params), strict=True)
  return norm([a - b for a, b in pairs]) / norm(kernels(init_params))


class Layer(NamedTuple):
  """A dense layer, as it was found in a pytree.

  Attributes:
    kernel: as [in, out].
    bias: one value an output; None where there is none.
  """

  kernel: Float[Array | np.ndarray, "_ _"]
  bias: Float[Array | np.ndarray, " _"] | None


def find_kernels(
  params: Params, num_features: int, num_classes: int | None = None
) -> list[Float[Array | np.ndarray, "_ _"]]:
  """Finds the kernels that lead from the inputs to the classes, in any pytree of parameters.

  Two-dimensional leaves are tried in the natural order of their paths (`Dense_2` before
  `Dense_10`), those passed over once more; each must take up where the one before it ended, as
  [in, out] or, as PyTorch keeps them, [out, in].

  Args:
    params: any pytree; leaves that are not matrices (biases, scales) are passed over.
    num_features: features of an input, p.
    num_classes: classes, k, where known; else the width at which the chain ends.

  Returns:
    The kernels as [in, out], first to last: one for a linear model.

  Raises:
    InputError: no chain of matrices leads from p features to k classes.
  """
  return [layer.kernel for layer in find_layers(params, num_features, num_classes)]


class Place(NamedTuple):
  """Where a layer stands among named shapes.

  Attributes:
    kernel: index of its kernel.
    transposed: whether that is kept as [out, in].
    bias: index of its bias; None where there is none.
  """

  kernel: int
  transposed: bool
  bias: int | None


def find_layers(params: Params, num_features: int, num_classes: int | None = None) -> list[Layer]:
  """Finds the kernels as `find_kernels` does, each with its bias.

  A bias is a vector that stands beside its kernel, in the same branch of the pytree (for
  PyTorch's flat names: the same up to the last dot), with one value an output.

  Args:
    params: any pytree.
    num_features: features of an input, p.
    num_classes: classes, k, where known; else the width at which the chain ends.

  Returns:
    The layers, first to last.

  Raises:
    InputError: no chain of matrices leads from p features to k classes.
  """
  named = flatten(params)
  leaves = list(named.values())
  shapes = [(name, jnp.shape(leaf)) for name, leaf in named.items()]

  def take(place):
    kernel = leaves[place.kernel]
    bias = None if place.bias is None else leaves[place.bias]
    return Layer(kernel.T if place.transposed else kernel, bias)

  return [take(place) for place in plan_layers(shapes, num_features, num_classes)]


def plan_layers(
  shapes: Sequence[tuple[str, tuple[int, ...]]], num_features: int, num_classes: int | None = None
) -> list[Place]:
  """Finds the layers by names and shapes alone; see `find_layers`.

  Args:
    shapes: name and shape of every array; parts of a name end in a slash or a dot.
    num_features: features of an input, p.
    num_classes: classes, k, where known.

  Returns:
    The layers, first to last.

  Raises:
    InputError: no chain of matrices leads from p features to k classes.
  """
  order = sorted(range(len(shapes)), key=lambda i: natural(shapes[i][0]))
  matrices = [i for i in order if len(shapes[i][1]) == 2]
  chain, width = [], num_features
  transposed = _is_transposed([shapes[i][1] for i in matrices], num_features)
  left, before = matrices, None
  # Once more for what stands before its inputs: Flax counts layers as they are made, and in
  # `Dense(k)(relu(Dense(u)(x)))` the last is made first.
  while before is None or (left != before and width != num_classes):
    before = left
    for i in before:
      shape = shapes[i][1]
      if width not in shape:
        continue
      # A square kernel says nothing of its orientation: it has that of the others.
      if shape[0] != shape[1]:
        transposed = shape[0] != width
      chain.append((i, transposed))
      left = [j for j in left if j != i]
      width = shape[0] if transposed else shape[1]
  if not chain or (num_classes is not None and width != num_classes):
    raise InputError(_no_chain([shapes[i] for i in order], num_features, num_classes))
  return _add_biases(chain, shapes, order)


def _no_chain(
  shapes: Sequence[tuple[str, tuple[int, ...]]], num_features: int, num_classes: int | None
) -> str:
  """What to say where no kernel fits."""
  goal = "the classes" if num_classes is None else f"{num_classes} classes"
  return (
    f"no kernel leads from {num_features} features to {goal}: the parameters hold "
    f"{', '.join(f'{name} {tuple(shape)}' for name, shape in shapes) or 'nothing'}; "
    "give the image shape and number of classes that the model was made for"
  )


def _add_biases(
  chain: Sequence[tuple[int, bool]],
  shapes: Sequence[tuple[str, tuple[int, ...]]],
  order: Sequence[int],
) -> list[Place]:
  """Gives each kernel the vector of its branch and width; the first kernel takes the first."""
  vectors = defaultdict(list)
  for i in order:
    if len(shapes[i][1]) == 1:
      vectors[_branch(shapes[i][0]), shapes[i][1][0]].append(i)

  def place(i, transposed):
    name, shape = shapes[i]
    beside = vectors[_branch(name), shape[0] if transposed else shape[1]]
    return Place(i, transposed, beside.pop(0) if beside else None)

  return [place(*link) for link in chain]


def _branch(name: str) -> str:
  """Where a leaf stands: its name up to the last dot or slash."""
  return name[: max(name.rfind("."), name.rfind("/"), 0)]


def _is_transposed(matrices: Sequence[tuple[int, ...]], num_features: int) -> bool:
  """Whether the first kernel of the inputs that is not square is [out, in]."""
  oblong = [m for m in matrices if m[0] != m[1] and num_features in m]
  return bool(oblong) and oblong[0][0] != num_features


def natural(text: str) -> list[tuple[int, str]]:
  """A key that sorts numbers inside a text by their value."""
  parts = re.split(r"(\d+)", text)
  return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def class_weights(
  params: Params, num_features: int, num_classes: int | None = None
) -> Float[Array, "k p"]:
  """What each class weighs each pixel with.

  For a linear model its kernel, one row a class. For an MLP the product of the kernels, first to
  last: each class's sum of the first layer's units, weighted by the layers after it as if nothing
  stood between.

  Args:
    params: parameters of one model.
    num_features: pixels of an image, p.
    num_classes: classes, k, where known.

  Returns:
    One row of p weights a class.

  Raises:
    InputError: no kernel fits.

  Example:
    >>> class_weights({"kernel": jnp.ones((6, 2))}, num_features=6).shape
    (2, 6)
  """
  product, *others = find_kernels(params, num_features, num_classes)
  for kernel in others:
    product = product @ kernel
  return jnp.asarray(product.T)


def dense_logits(
  params: Params, inputs: Float[Array, "b p"], num_classes: int | None = None
) -> Float[Array, "b k"]:
  """The logits of a chain of dense layers with ReLU between them, from any pytree.

  Args:
    params: parameters of one model; layers without a bias have one of zeros.
    inputs: examples.
    num_classes: classes, k, where known.

  Returns:
    One row of logits an example, as the model itself gives them.

  Raises:
    InputError: no chain of matrices leads from p features to k classes.
  """
  first, *others = find_layers(params, inputs.shape[-1], num_classes)
  outputs = _affine(first, inputs)
  for layer in others:
    # Not `relu`, whose derivative at 0 is 0: without biases a blank image would be stuck there.
    # That of `maximum` is 1/2.
    outputs = _affine(layer, jnp.maximum(outputs, 0.0))
  return outputs


def _affine(layer: Layer, inputs: Float[Array, "b i"]) -> Float[Array, "b o"]:
  outputs = inputs @ layer.kernel
  return outputs if layer.bias is None else outputs + layer.bias[None]


def output_bias(params: Params, num_classes: int) -> Float[Array, " k"]:
  """The bias of the layer whose output is the classes, the last of that size; zeros without one."""
  biases = [x for x in jax.tree.leaves(params) if x.shape == (num_classes,)]
  return biases[-1] if biases else jnp.zeros(num_classes)
