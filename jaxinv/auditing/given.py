"""What a caller gives an audit, made one: tensors by name, and references as images of people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxinv.auditing.formats.read import read_weights
from jaxinv.auditing.formats.stored import Stored
from jaxinv.auditing.sources import ImageShape
from jaxinv.data.folder import load_references
from jaxinv.errors import InputError
from jaxinv.types import Params, References


class AttackerTensors(NamedTuple):
  """What the attacker holds: tensors by name.

  Attributes:
    params: of the audited model.
    init_params: its initial weights, where they are known.
    previous_params: an earlier release of it.
    peers: it and other models of the same kind, trained on the same people; or none.
  """

  params: Mapping[str, Stored]
  init_params: Mapping[str, Stored] | None = None
  previous_params: Mapping[str, Stored] | None = None
  peers: Sequence[Mapping[str, Stored]] = ()


def attacker_tensors(
  params: Any, init_params: Any = None, previous_params: Any = None, peers: Sequence[Any] = ()
) -> AttackerTensors:
  """Everything that the attacker holds, by the names that tensors have where they were given.

  Args:
    params: the audited model, see `named`.
    init_params: its initial weights likewise, where they are known.
    previous_params: an earlier release likewise.
    peers: other models likewise.

  Returns:
    The tensors; the audited model is the first of the peers, where there are any.

  Raises:
    InputError: the audited model has no arrays, or something given cannot be read.
  """
  model = named(params)
  if not model:
    raise InputError("there are no arrays in the parameters: give those of a trained model")
  first, previous = (None if it is None else named(it) for it in (init_params, previous_params))
  if isinstance(peers, str | Path | Mapping):
    raise InputError("peers are several models: give a list of paths or of parameters")
  return AttackerTensors(model, first, previous, (model, *map(named, peers)) if peers else ())


def named(params: str | Path | Params | Mapping[str, Stored]) -> dict[str, Stored]:
  """The arrays of a file or of a pytree by name, `a/b/c`; an array alone is called `array`.

  Args:
    params: a path, see `formats.read.read_weights`; any pytree of arrays, or of nested lists of
      numbers; or stored tensors by name, which stay as they are.

  Returns:
    Each array by its path.

  Raises:
    InputError: a file cannot be read, or a leaf is not an array of numbers.

  Example:
    >>> list(named({"fc": {"kernel": [[1.0, 2.0], [3.0, 4.0]], "bias": [0.0, 0.0]}}))
    ['fc/bias', 'fc/kernel']
  """
  if isinstance(params, str | Path):
    return read_weights(Path(params))
  leaves = jax.tree_util.tree_leaves_with_path(params, is_leaf=_is_array)
  names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
  return {
    name or "array": _stored(name or "array", leaf)
    for name, (_, leaf) in zip(names, leaves, strict=True)
  }


def _is_array(branch: Any) -> bool:
  """Whether a branch is one array: stored in a file, or lists in lists down to a number."""
  if isinstance(branch, Stored):
    return True
  nested = isinstance(branch, list | tuple)
  while isinstance(branch, list | tuple) and branch:
    branch = branch[0]
  return nested and isinstance(branch, int | float)


def _stored(name: str, leaf: Any) -> Stored:
  if isinstance(leaf, Stored):
    return leaf
  try:
    array = np.asarray(leaf)
  except Exception as error:  # Other tools' arrays may raise anything.
    raise InputError(
      f"{name} cannot be made an array ({' '.join(str(error).split())}): give numbers in rows of "
      "one length"
    ) from error
  if array.dtype == object:
    raise InputError(f"{name} is a {type(leaf).__name__}, not an array: give arrays, or a path")
  return Stored(array.shape, array.dtype, lambda: array)


def with_companions(held: AttackerTensors) -> AttackerTensors:
  """Gives the tensors of the other models the names that they have in the audited one.

  A name may have more or less in front of it, as `model.fc.weight` has before `fc.weight`.

  Raises:
    InputError: a tensor has none of its name and shape in another model.
  """

  def aligned(tensors: Mapping[str, Stored] | None, which: str) -> dict[str, Stored] | None:
    if tensors is None:
      return None
    return {
      name: _counterpart(name, stored, tensors, which) for name, stored in held.params.items()
    }

  return held._replace(
    init_params=aligned(held.init_params, "the initial weights"),
    previous_params=aligned(held.previous_params, "the previous weights"),
    peers=tuple(aligned(peer, f"model {i + 1}") for i, peer in enumerate(held.peers)),
  )


def _counterpart(name: str, stored: Stored, tensors: Mapping[str, Stored], which: str) -> Stored:
  same = [name] if name in tensors else []
  if not same:
    same += [it for it in tensors if it.endswith((f"/{name}", f".{name}"))]
    same += [it for it in tensors if name.endswith((f"/{it}", f".{it}"))]
  if len(same) != 1:
    raise InputError(f"there is no tensor {name} in {which}: give those of the same model")
  found = tensors[same[0]]
  if found.shape != stored.shape:
    raise InputError(
      f"{name} is {found.shape} in {which} and {stored.shape} in the audited model: "
      "give those of the same model"
    )
  return found


def whole_shape(image_shape: Sequence[int]) -> ImageShape:
  """Height, width and channels of images, 1 channel unless said otherwise.

  Args:
    image_shape: (height, width) or (height, width, channels).

  Raises:
    InputError: it is neither.
  """
  shape = tuple(image_shape) if isinstance(image_shape, Sequence) else (image_shape,)
  if len(shape) not in (2, 3) or any(size != int(size) or size < 1 for size in shape):
    raise InputError(
      f"the image shape is {shape}: give height and width, and channels if there are several"
    )
  height, width, channels = (*map(int, shape), 1)[:3]
  return height, width, channels


def as_references(
  given: References | str | Path | Any | None,
  labels: Sequence[int] | None,
  image_shape: ImageShape,
) -> References | None:
  """Images to compare with, however they were given.

  Args:
    given: as `data.folder.load_references` returns them; or a folder; or an array
      [n, h, w] or [n, h, w, c] in 0..255, or in 0..1.
    labels: of an array the class of each image, an index; each is of its own where there are none.
    image_shape: height, width and channels.

  Returns:
    The references, or None where none were given.

  Raises:
    InputError: they are of another shape, or cannot be read.
  """
  if labels is not None and (given is None or isinstance(given, References | str | Path)):
    raise InputError("reference_labels are the classes of an array of references: give that too")
  if given is None:
    return None
  if isinstance(given, str | Path):
    given = load_references(Path(given), image_shape)
  elif not isinstance(given, References):
    given = _labelled(given, labels)
  if given.images.shape[1:] != image_shape:
    raise InputError(
      f"the references are images of {given.images.shape[1:]}, the model's of {image_shape}: load "
      "them with its image shape"
    )
  return given


def _labelled(given: Any, labels: Sequence[int] | None) -> References:
  """References from an array of images and their classes."""
  images = np.asarray(given)
  if images.ndim not in (3, 4) or not images.size or images.dtype.kind not in "fiub":
    raise InputError(
      f"the references are of shape {images.shape}: give a folder, or an array [n, h, w] or "
      "[n, h, w, c] of numbers"
    )
  images = images.astype(np.float32).reshape(*images.shape[:3], -1)
  if not np.isfinite(images).all() or images.min() < 0 or images.max() > 255:
    raise InputError("the references have values outside of 0..255: scale them so")
  if images.max() <= 1:
    images = 255 * images
  files = tuple(f"image {i}" for i in range(len(images)))
  if labels is None:
    return References(images, np.arange(len(images)), files, files, grouped=False)
  person = np.asarray(labels)
  if person.shape != (len(images),) or person.dtype.kind not in "iu":
    raise InputError(f"reference_labels: give the class of each of the {len(images)} images")
  num = int(person.max()) + 1
  if sorted(set(person.tolist())) != list(range(num)):
    raise InputError(f"reference_labels: each class from 0 to {num - 1} needs an image")
  names = tuple(f"class {k}" for k in range(num))
  return References(images, person, names, files, grouped=True, ordered=True)
