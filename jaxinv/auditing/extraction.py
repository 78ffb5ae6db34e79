"""Reads images out of a model's tensors by attacks, some at a time.

An attack sees a model whose inputs lie in the order of an image (height, width, channels), whatever
the order in the file. Of attacks that look at each unit by itself, only some units are in memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import jax
import numpy as np
from jaxtyping import Float

from jaxinv.attacks.attack import Attack
from jaxinv.auditing.formats.stored import Stored
from jaxinv.auditing.given import AttackerTensors
from jaxinv.auditing.plan import Task
from jaxinv.auditing.sources import ImageShape, Source
from jaxinv.errors import InputError
from jaxinv.metrics.structure import morans_i
from jaxinv.types import Params, Release

_BLOCK_BYTES = 2**25  # Of the images that are worked on at once.
_SAMPLE = 256  # Units that choose a layout.


class AttackFailed(Exception):
  """An attack gave no images; the message says why."""


def as_images(
  rows: Float[np.ndarray, "u p"], image_shape: ImageShape, layout: str
) -> Float[np.ndarray, "u h w c"]:
  """Vectors of pixels as images.

  Args:
    rows: one image each.
    image_shape: height, width and channels.
    layout: a name in `LAYOUTS`.

  Returns:
    The images; a view where the layout allows.
  """
  size = dict(zip("hwc", image_shape, strict=True))
  stacked = rows.reshape(len(rows), *(size[letter] for letter in layout))
  return stacked.transpose(0, *(1 + layout.index(letter) for letter in "hwc"))


def _rows(tensors: Mapping[str, Stored], source: Source) -> np.ndarray:
  """A tensor as vectors of pixels, [u, p]; a view where its axes allow."""
  array = tensors[source.tensor].load().transpose(source.order)
  return array.reshape(-1, int(np.prod(source.image_shape)))


def choose_layout(held: AttackerTensors, source: Source) -> str:
  """The layout in which a tensor's images are smoothest."""
  if len(source.layouts) == 1:
    return source.layouts[0]
  rows = _rows(held.params, source)
  rows = _finite(rows[:: -(-len(rows) // _SAMPLE)], source.tensor)
  smooth = [morans_i(as_images(rows, source.image_shape, it)).mean() for it in source.layouts]
  return source.layouts[int(np.argmax(smooth))]


def choose_change_layout(
  now: Mapping[str, Stored], before: Mapping[str, Stored], source: Source
) -> str:
  """The layout in which what changed between two states of a tensor is smoothest."""
  if len(source.layouts) == 1:
    return source.layouts[0]
  later, earlier = (now[source.tensor], before[source.tensor])
  change = later._replace(load=lambda: np.float32(later.load()) - np.float32(earlier.load()))
  return choose_layout(AttackerTensors({source.tensor: change}), source)


def first_layer(tensors: Mapping[str, Stored], source: Source, layout: str) -> Params:
  """A dense source's first layer as a linear model, its inputs in the order of an image."""
  return _one_layer(source, layout, slice(None), _load_units(tensors, source))


def _finite(values: np.ndarray, name: str) -> Float[np.ndarray, "..."]:
  """As float32; raises InputError unless all are finite."""
  with np.errstate(over="ignore", under="ignore"):
    single = values.astype(np.float32)
  if values.dtype == np.float64 and 0 < np.abs(values).max(initial=0) < np.finfo(np.float32).tiny:
    raise InputError(
      f"{name} is below float32: its largest value is {np.abs(values).max():.2g}; scale it up"
    )
  if not np.isfinite(single).all():
    where = "holds NaN or infinite values" if not np.isfinite(values).all() else "is beyond float32"
    raise InputError(
      f"{name} {where}: the model has diverged or the file is damaged; give one with finite weights"
    )
  return single


def images(
  task: Task, held: AttackerTensors, layout: str
) -> Iterator[Float[np.ndarray, "b h w c"]]:
  """The images that an attack makes of a source, some at a time, not normalised.

  Args:
    task: which attack, on what.
    held: what the attacker holds; the attack is given the model and what it needs.
    layout: how pixels lie in the tensor.

  Yields:
    Images of the next units, or of all classes.

  Raises:
    InputError: weights are not finite.
    AttackFailed: the attack raises an exception or gives something else than these images.
  """
  source, attack = task
  if len(source.layers) > 1:
    release = _release(held, attack, partial(_all_layers, source, layout))
    yield _attack(task, release, source.num)
    return
  step = max(1, _BLOCK_BYTES // (4 * int(np.prod(source.image_shape))))
  if not attack.per_unit:
    step = source.num
  loaded = _only_needed(held, attack, partial(_load_units, source=source))
  for start in range(0, source.num, step):
    units = slice(start, min(start + step, source.num))
    release = _release(loaded, attack, partial(_one_layer, source, layout, units))
    yield _attack(task, release, units.stop - start)


def _only_needed(held: AttackerTensors, attack: Attack, load: Callable) -> AttackerTensors:
  """Each model that an attack needs, loaded; the others left away."""

  def loaded(field: str):
    return load(getattr(held, field)) if field in attack.needs else None

  peers = tuple(map(load, held.peers)) if "peers" in attack.needs else ()
  return AttackerTensors(load(held.params), loaded("init_params"), loaded("previous_params"), peers)


def _release(held: AttackerTensors, attack: Attack, model: Callable[..., Params]) -> Release:
  """What an attack is given: the model, and what else it needs."""
  made = _only_needed(held, attack, model)
  peers = _stacked(made.peers) if made.peers else None
  return Release(made.params, made.init_params, peers, made.previous_params)


def _attack(task: Task, release: Release, num: int) -> Float[np.ndarray, "b h w c"]:
  """Carries an attack out."""
  height, width, channels = task.source.image_shape
  shape = (height, width, channels) if channels > 1 else (height, width)
  try:
    found = np.asarray(task.attack.recover(release, shape), np.float32)
  except Exception as error:  # The attack may be the caller's own.
    said = " ".join(str(error).split())[:200]
    kind = "" if isinstance(error, InputError) else f"it raised {type(error).__name__}: "
    raise AttackFailed(f"{kind}{said}") from error
  if len(found.shape) < 2 or len(found) != num or found.size != num * height * width * channels:
    raise AttackFailed(
      f"it gave an array of shape {found.shape}, not {num} images of {height} x {width}"
      + f" x {channels}" * (channels > 1)
    )
  return found.reshape(-1, height, width, channels)


def _load_units(tensors: Mapping[str, Stored], source: Source):
  """A tensor's vectors of pixels and the biases beside them."""
  bias = source.layers[0].bias if source.layers else None
  return _rows(tensors, source), None if bias is None else tensors[bias].load()


def _one_layer(source: Source, layout: str, units: slice, loaded) -> Params:
  """Some units as a linear model of their own, its inputs in the order of an image."""
  rows, bias = loaded
  images = as_images(_finite(rows[units], source.tensor), source.image_shape, layout)
  layer = {"kernel": images.reshape(len(images), -1).T}
  if bias is not None:
    layer["bias"] = _finite(bias[units], source.layers[0].bias)
  return {"layer_0": layer}


def _stacked(models: Iterable[Params]) -> Params:
  """Parameters of several models with a leading axis of models."""
  return jax.tree.map(lambda *leaves: np.stack(leaves), *models)


def _all_layers(source: Source, layout: str, tensors: Mapping[str, Stored]) -> Params:
  """A chain of dense layers, the inputs of the first in the order of an image."""
  params = _one_layer(source, layout, slice(None), _load_units(tensors, source))
  for i, link in enumerate(source.layers[1:]):
    kernel = _finite(tensors[link.kernel].load(), link.kernel)
    layer = {"kernel": kernel.T if link.transposed else kernel}
    if link.bias is not None:
      layer["bias"] = _finite(tensors[link.bias].load(), link.bias)
    params[f"layer_{i + 1}"] = layer
  return params
