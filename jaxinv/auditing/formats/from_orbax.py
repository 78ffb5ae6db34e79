"""Orbax checkpoints: a folder with the tree in `_METADATA`, and the arrays in TensorStore's files.

The tree is read here and each array through TensorStore, as Orbax does: so one array can be
restored without the others, and none before its size is known.
"""

import json
import math
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxinv.auditing.formats.stored import (
  MAX_HEADER,
  ROOM,
  Stored,
  count_bytes,
  number_type,
  printable,
)
from jaxinv.errors import InputError

_TREE = "_METADATA"
_DATABASE = "manifest.ocdbt"
# Those of which TensorStore unpacks no more than a chunk can hold.
_CODECS = {"zstd", "gzip", "bytes", "crc32c", "transpose", "sharding_indexed"}
_ARRAYS = {"jax.Array", "np.ndarray", "scalar"}
_MAX_FILES = 1_000_000
_MAX_CHUNKS = 10_000


def find(folder: Path) -> Path:
  """The folder of an Orbax checkpoint itself, given that or one or two above it.

  Raises:
    InputError: no checkpoint, or several.
  """
  for depth in ("", "*/", "*/*/"):
    found = sorted(path.parent for path in folder.glob(f"{depth}{_TREE}"))
    if len(found) > 1:
      names = ", ".join(printable(path.relative_to(folder)) for path in found[:5])
      raise InputError(f"holds {len(found)} Orbax checkpoints ({names}); give the folder of one")
    if found:
      return found[0]
  raise InputError(
    f"is a folder, and no Orbax checkpoint (there is no {_TREE} in it); give the file of weights"
  )


def folder_size(folder: Path) -> int:
  """The bytes of all files in a folder.

  Raises:
    InputError: something in it that is neither a file nor a folder, or too many files.
  """
  total = count = 0
  for parent, folders, names in os.walk(folder):
    if any(Path(parent, name).is_symlink() for name in folders):
      raise InputError(f"holds a link to another folder in {printable(parent)}; copy what it names")
    for name in names:
      # Links to files are followed: the caches of model hubs are made of them.
      status = os.stat(Path(parent, name))
      count += 1
      if not stat.S_ISREG(status.st_mode) or count > _MAX_FILES:
        raise InputError(f"holds no plain files alone, but {printable(name)}, or too many")
      total += status.st_size
  return total


def read(folder: Path) -> Iterator[tuple[str, Stored]]:
  """The arrays of a checkpoint.

  Raises:
    InputError: a tree that is not as Orbax writes it, or an array that is not there.
  """
  file = folder / _TREE
  if file.stat().st_size > MAX_HEADER:
    raise InputError(f"its {_TREE} takes more than {MAX_HEADER:,} bytes")
  metadata = json.loads(file.read_bytes())
  limit = 2 * folder_size(folder) + ROOM
  for entry in metadata["tree_metadata"].values():
    value = entry["value_metadata"]
    # Of what is empty nothing is stored, and strings are in a file of their own.
    if value.get("skip_deserialize") or value["value_type"] not in _ARRAYS:
      continue
    keys = [str(key["key"]) for key in entry["key_metadata"]]
    name = "/".join(keys)
    array = _open(folder, ".".join(keys), metadata)
    dtype = number_type(name, array.dtype.numpy_dtype)
    if dtype is not None:
      _check_chunks(name, array, limit)
      yield name, Stored(tuple(array.shape), dtype, partial(_load, array))


def _open(folder: Path, key: str, metadata: dict[str, Any]) -> Any:
  """An array of the checkpoint, of which nothing is read yet but what describes it."""
  import tensorstore as ts  # Orbax's own; half a second to import.

  base = {"driver": "file", "path": f"{folder.resolve()}/"}
  # TensorStore refuses a key that leads out of the folder.
  if (folder / _DATABASE).exists():
    store = {"driver": "ocdbt", "base": base, "path": f"{key}/"}
  else:
    store = base | {"path": f"{base['path']}{key}/"}
  # Orbax has not always stored what is zero throughout, and says so.
  zeros = not metadata.get("store_array_data_equal_to_fill_value", False)
  spec = {
    "driver": "zarr3" if metadata.get("use_zarr3") else "zarr",
    "kvstore": store,
    "fill_missing_data_reads": zeros,
  }
  return ts.open(spec, open=True, read=True).result()


def _check_chunks(name: str, array: Any, limit: int) -> None:
  """Refuses an array in pieces that are too large, too many, or packed without bound."""
  shape, dtype, layout = tuple(array.shape), array.dtype.numpy_dtype, array.chunk_layout
  for chunk in (layout.read_chunk.shape, layout.write_chunk.shape):
    chunk = tuple(chunk or (1,) * len(shape))
    pieces = math.prod(-(-size // max(step, 1)) for size, step in zip(shape, chunk, strict=True))
    if count_bytes(name, chunk, dtype) > limit or pieces > _MAX_CHUNKS:
      raise InputError(f"{printable(name)} lies in {pieces:,} pieces of {chunk}, as none is saved")
  codec = array.codec.to_json() if array.codec else {}
  unknown = set(_codecs(codec)) - _CODECS
  if unknown or codec.get("filters"):
    raise InputError(
      f"{printable(name)} is packed by {printable(sorted(unknown))}, which Orbax does not use"
    )


def _codecs(codec: Any) -> Iterator[str]:
  """The names of the codecs that pack a chunk, one inside another."""
  if isinstance(codec, list):
    for item in codec:
      yield from _codecs(item)
  elif isinstance(codec, dict):
    yield from (str(codec[key]) for key in ("id", "name") if key in codec)
    for key in ("compressor", "codecs", "index_codecs", "configuration"):
      yield from _codecs(codec.get(key))


def _load(array: Any) -> np.ndarray:
  return np.asarray(array.read().result())
