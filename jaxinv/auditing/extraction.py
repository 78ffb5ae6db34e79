"""Reads images out of a model's tensors by the attacks of `recover`, some at a time.

An attack sees a model whose inputs lie in the order of an image (height, width, channels), whatever
the order in the file. Of attacks that look at each unit by itself, only some units are in memory.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from jaxinv.attacks import attack as attack_values
from jaxinv.auditing.formats.stored import Stored
from jaxinv.auditing.sources import Source, as_images
from jaxinv.errors import InputError
from jaxinv.metrics.structure import morans_i
from jaxinv.types import Params, Release

# Attacks whose image of a unit depends on that unit's weights alone: some units at a time do.
_BY_UNIT = ("reshape", "init_diff", "seed_mean", "update_ratio")
_ABOUT_CLASSES = ("class_centred", "seed_mean", "mi_face")
# Bytes of the images that are worked on at once, and of those that an attack on all classes makes.
_BLOCK_BYTES, _WHOLE_BYTES = 2**25, 2**28
_SAMPLE = 256  # Units that choose a layout.


class Held(NamedTuple):
  """What the attacker holds: tensors by name.

  Attributes:
    tensors: of the audited model.
    init: its initial weights, where they are known.
    previous: an earlier release of it.
    peers: it and other models of the same kind, trained on the same people; or none.
  """

  tensors: Mapping[str, Stored]
  init: Mapping[str, Stored] | None = None
  previous: Mapping[str, Stored] | None = None
  peers: Sequence[Mapping[str, Stored]] = ()


class Task(NamedTuple):
  """One attack on one source."""

  source: Source
  attack: str


def named(params: Params | Mapping[str, Stored]) -> dict[str, Stored]:
  """The arrays of a pytree by name, `a/b/c`.

  Args:
    params: any pytree of arrays; or stored tensors by name, which stay as they are.

  Returns:
    Each array by its path.
  """
  leaves = jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda it: isinstance(it, Stored))
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    if isinstance(leaf, Stored)
    else _stored(leaf)
    for path, leaf in leaves
  }


def _stored(leaf: Any) -> Stored:
  array = np.asarray(leaf)
  return Stored(array.shape, array.dtype, lambda: array)


def with_companions(held: Held) -> Held:
  """Gives the tensors of the other models the names that they have in the audited one.

  A name may have more or less in front of it, as `model.fc.weight` has before `fc.weight`.

  Raises:
    InputError: a tensor has none of its name and shape in another model.
  """

  def aligned(tensors: Mapping[str, Stored] | None, which: str) -> dict[str, Stored] | None:
    if tensors is None:
      return None
    return {
      name: _counterpart(name, stored, tensors, which) for name, stored in held.tensors.items()
    }

  return held._replace(
    init=aligned(held.init, "the initial weights"),
    previous=aligned(held.previous, "the previous weights"),
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


def plan(
  sources: Sequence[Source], held: Held, attacks: Sequence[str]
) -> tuple[list[Task], list[str]]:
  """Which attacks are carried out on which sources; and what is left out, in words."""
  for attack in attacks:
    if attack not in attack_values.ATTACKS:
      names = ", ".join(attack_values.ATTACKS)
      raise InputError(f"unknown attack '{attack}': choose from {names}")
    if lacks := _lacks(attack, held):
      raise InputError(f"{attack} needs {lacks}")
  possible = [attack for attack in attack_values.ATTACKS if not _lacks(attack, held)]
  asked = attacks or [attack for attack in possible if attack != "mi_face"]
  tasks, notes = [], []
  for source in sources:
    for attack in asked:
      if why := _unfit(attack, source):
        notes.append(f"{attack} of {source.tensor} ({source.what}) was left out: {why}.")
      elif not _pointless(attack, source):
        tasks.append(Task(source, attack))
  if not tasks:
    raise InputError(f"none of the attacks {', '.join(asked)} is possible here: {notes[0]}")
  return tasks, notes


def _lacks(attack: str, held: Held) -> str:
  """What an attack needs that the attacker does not hold; nothing if it can be carried out."""
  needs = {
    "init_diff": (held.init is None, "the initial weights: give init_params (--init_weights)"),
    "update_ratio": (
      held.previous is None,
      "an earlier release: give previous_params (--previous_weights)",
    ),
    "seed_mean": (not held.peers, "several models: give peers (--weights more than once)"),
  }
  absent, words = needs.get(attack, (False, ""))
  return words if absent else ""


def _pointless(attack: str, source: Source) -> bool:
  """Attacks that are about classes, on something else; nobody need be told."""
  return source.what != "class" and attack in _ABOUT_CLASSES


def _unfit(attack: str, source: Source) -> str:
  """Why an attack that the reader may expect is left out."""
  if source.what == "class" and attack == "class_centred" and source.num < 2:
    return "there is one class only"
  if attack == "update_ratio":
    if not source.layers:
      return "it is for dense layers"
    if source.layers[0].bias is None:
      return "there is no bias beside the kernel"
    if len(source.layers) > 1:
      return "it is for a layer that sees the images; see what is said of its units"
  if attack not in _BY_UNIT and source.what == "class":
    size = 4 * source.num * int(np.prod(source.image_shape))
    if size > _WHOLE_BYTES:
      return f"its images of {source.num} classes together would take {size / 2**20:.0f} MiB"
  return ""


def _rows(tensors: Mapping[str, Stored], source: Source) -> np.ndarray:
  """A tensor as vectors of pixels, [u, p]; a view where its axes allow."""
  array = tensors[source.tensor].load().transpose(source.order)
  return array.reshape(-1, int(np.prod(source.image_shape)))


def choose_layout(held: Held, source: Source) -> str:
  """The layout in which a tensor's images are smoothest."""
  if len(source.layouts) == 1:
    return source.layouts[0]
  rows = _rows(held.tensors, source)
  rows = _finite(rows[:: -(-len(rows) // _SAMPLE)], source.tensor)
  smooth = [morans_i(as_images(rows, source.image_shape, it)).mean() for it in source.layouts]
  return source.layouts[int(np.argmax(smooth))]


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


def images(task: Task, held: Held, layout: str) -> Iterator[Float[np.ndarray, "b h w c"]]:
  """The images that an attack makes of a source, some at a time, not normalised."""
  if len(task.source.layers) > 1:
    yield _attack(task, _chain_release(task, held, layout))
    return
  step = max(1, _BLOCK_BYTES // (4 * int(np.prod(task.source.image_shape))))
  if task.attack not in _BY_UNIT:
    step = task.source.num
  models = {
    "params": held.tensors,
    "init_params": held.init if task.attack == "init_diff" else None,
    "previous_params": held.previous if task.attack == "update_ratio" else None,
  }
  peers = held.peers if task.attack == "seed_mean" else ()
  load = partial(_load_units, source=task.source)
  loaded = {field: load(tensors) for field, tensors in models.items() if tensors is not None}
  others = [load(tensors) for tensors in peers]
  for start in range(0, task.source.num, step):
    cut = partial(_one_layer, task.source, layout, slice(start, start + step))
    release = Release(**{field: cut(units) for field, units in loaded.items()})
    if others:
      release = release._replace(peers=_stacked(map(cut, others)))
    yield _attack(task, release)


def _attack(task: Task, release: Release) -> Float[np.ndarray, "b h w c"]:
  """Carries an attack out; to it, the channels of a pixel are pixels side by side."""
  height, width, channels = task.source.image_shape
  images = attack_values.ATTACKS[task.attack](release, (height, width * channels))
  return np.asarray(images, np.float32).reshape(-1, height, width, channels)


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


def _chain_release(task: Task, held: Held, layout: str) -> Release:
  """What the attacker holds of a model with hidden layers."""
  model = partial(_all_layers, task.source, layout)
  release = Release(model(held.tensors))
  if task.attack == "init_diff":
    release = release._replace(init_params=model(held.init))
  if task.attack == "seed_mean":
    release = release._replace(peers=_stacked(map(model, held.peers)))
  return release


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
