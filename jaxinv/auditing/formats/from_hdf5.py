"""Keras 3's .weights.h5 and other HDF5 files: groups of groups, the leaves datasets.

HDF5 can name data in other files, unpack without bound, and contain itself. None of that is
followed: only what stands plain or gzipped in the file, where a group holds it.
"""

import math
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxinv.auditing.formats.stored import (
  MAX_DEPTH,
  MAX_NODES,
  ROOM,
  Stored,
  count_bytes,
  number_type,
  printable,
)
from jaxinv.errors import InputError

_MISSING = "is HDF5, as Keras saves weights, and needs h5py: pip install h5py"
_GZIP, _SHUFFLE, _CHECKSUM = 1, 2, 3


def read(path: Path) -> Iterator[tuple[str, Stored]]:
  """The datasets of numbers in an HDF5 file.

  Raises:
    InputError: h5py is not installed, or the file leads out of itself.
  """
  try:
    import h5py  # Optional.
  except ImportError as error:
    raise InputError(_MISSING) from error
  limit = 2 * path.stat().st_size + ROOM
  with h5py.File(path, "r", locking=False) as file:
    for place, dataset in _walk(file):
      name = place.strip("/")
      _check_place(name, dataset)
      dtype = number_type(name, dataset.dtype) if dataset.shape is not None else None
      if dtype is not None:
        if dataset.chunks and count_bytes(name, dataset.chunks, dtype) > limit:
          raise InputError(f"{printable(name)} lies in pieces too large for the file")
        yield name, Stored(tuple(dataset.shape), dtype, partial(_load, path, place, dtype))


def _walk(file: Any) -> Iterator[tuple[str, Any]]:
  """Every dataset that a group holds itself, with its place; each group once, by its address."""
  import h5py

  seen, nodes, waiting = set(), 0, [("", file)]
  while waiting:
    prefix, group = waiting.pop()
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
      continue
    seen.add(address)
    inside = []
    for key in group:
      nodes += 1
      if nodes > MAX_NODES:
        raise InputError(f"holds more than {MAX_NODES:,} values; save the weights alone")
      place = f"{prefix}/{key}"
      link = group.get(key, getlink=True)
      if isinstance(link, h5py.ExternalLink):
        raise InputError(f"{printable(place)} stands in another file; copy it into this one")
      # What a soft link names inside the file is found where it stands.
      if not isinstance(link, h5py.HardLink):
        continue
      member = group[key]
      if isinstance(member, h5py.Dataset):
        yield place, member
      elif isinstance(member, h5py.Group):
        if place.count("/") > MAX_DEPTH:
          raise InputError(f"is nested more than {MAX_DEPTH} deep, as weights are not")
        inside.append((place, member))
    waiting.extend(reversed(inside))


def _check_place(name: str, dataset: Any) -> None:
  """Refuses a dataset whose values lie in another file, or packed by what is not bounded here."""
  import h5py

  created = dataset.id.get_create_plist()
  # Before its shape is asked for: a virtual one would open other files to tell it.
  if created.get_layout() == h5py.h5d.VIRTUAL or created.get_external_count():
    raise InputError(f"{printable(name)} takes its values from another file; copy it into this one")
  filters = [created.get_filter(i)[0] for i in range(created.get_nfilters())]
  if set(filters) - {_GZIP, _SHUFFLE, _CHECKSUM} or filters.count(_GZIP) > 1:
    raise InputError(
      f"{printable(name)} is compressed otherwise than by gzip; h5repack -f NONE IN OUT unpacks it"
    )


def _load(path: Path, place: str, dtype: np.dtype) -> np.ndarray:
  import h5py

  with h5py.File(path, "r", locking=False) as file:
    dataset = file[place]
    _check_place(place, dataset)
    _check_gzip(dataset, path.stat().st_size)
    array = dataset[()] if dataset.shape else np.asarray(dataset[()], dataset.dtype)
  return array.view(dtype) if array.dtype.kind == "V" else array.astype(dtype, copy=False)


def _check_gzip(dataset: Any, file_size: int) -> None:
  """Unpacks each chunk up to its size, since HDF5 would unpack whatever comes."""
  created = dataset.id.get_create_plist()
  filters = [created.get_filter(i)[0] for i in range(created.get_nfilters())]
  if _GZIP not in filters:
    return
  size = math.prod(dataset.chunks) * dataset.id.get_type().get_size()
  # A checksum below gzip is inside.
  size += 4 * filters[: filters.index(_GZIP)].count(_CHECKSUM)
  chunks = []
  dataset.id.chunk_iter(chunks.append)  # Asked for one by one, each would be searched for.
  for chunk in chunks:
    if chunk.filter_mask & 1 << filters.index(_GZIP):
      continue
    if chunk.size > file_size:
      raise InputError("has a piece that is larger than the file; save or fetch it again")
    _, packed = dataset.id.read_direct_chunk(chunk.chunk_offset)
    if len(zlib.decompressobj().decompress(packed, size + 1)) > size:
      raise InputError("unpacks to more than it can hold; save or fetch it again")
