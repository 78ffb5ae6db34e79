"""Flax's msgpack: nested maps whose leaves are arrays, as `flax.serialization.to_bytes` writes.

The file is walked where it lies, so that a length is held against the file before it is believed,
and an array is mapped, not copied. https://github.com/msgpack/msgpack/blob/master/spec.md
"""

import mmap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxinv.auditing.formats.stored import (
  DTYPES,
  MAX_DEPTH,
  MAX_NODES,
  Stored,
  count_bytes,
  flatten,
  map_array,
  printable,
  unsupported,
)
from jaxinv.errors import InputError

_CHUNKED = "__msgpack_chunked_array__"
_ARRAY, _SCALAR = 1, 3  # Flax's own types of msgpack's extensions.
_MAX_KEY = 4096  # Bytes.
# Kind, and bytes of the number that follows: a length, or the value itself.
_LONG = {
  0xC0: ("none", 0),
  0xC2: ("bool", 0),
  0xC3: ("bool", 0),
  0xCA: ("float", 4),
  0xCB: ("float", 8),
  **{0xC4 + i: ("bytes", 1 << i) for i in range(3)},
  **{0xC7 + i: ("extension", 1 << i) for i in range(3)},
  **{0xCC + i: ("int", 1 << i) for i in range(4)},
  **{0xD0 + i: ("signed", 1 << i) for i in range(4)},
  **{0xD9 + i: ("text", 1 << i) for i in range(3)},
  **{0xDC + i: ("list", 2 << i) for i in range(2)},
  **{0xDE + i: ("map", 2 << i) for i in range(2)},
}


class _Array(NamedTuple):
  """Shape and type of an array, and the first byte and end of its values, part by part."""

  shape: tuple[int, ...]
  dtype: np.dtype
  parts: tuple[tuple[int, int], ...]


def may_be(head: bytes) -> bool:
  """Whether a file can be Flax's by its first byte: a map, or an array alone."""
  return 0x80 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF) or 0xC7 <= head[0] <= 0xC9


def read(path: Path) -> Iterator[tuple[str, Stored]]:
  """The arrays of a Flax msgpack file.

  Raises:
    InputError: a file that is cut short, nested too deep, or not as Flax writes it.
  """
  with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
    tree, end = _read(data, 0, 0, iter(range(MAX_NODES)))
    if end != len(data):
      raise InputError(
        f"{len(data) - end:,} bytes follow its end; it is damaged or no Flax msgpack"
      )
  for name, leaf in flatten(tree if isinstance(tree, dict) else {"array": tree}):
    if isinstance(leaf, _Array):
      yield name, Stored(leaf.shape, leaf.dtype, partial(_load, path, leaf))


def _load(path: Path, array: _Array) -> np.ndarray:
  if len(array.parts) == 1:
    return map_array(path, array.shape, array.dtype, array.parts[0][0])
  parts = [
    map_array(path, (stop - start,), np.dtype("uint8"), start) for start, stop in array.parts
  ]
  return np.concatenate(parts).view(array.dtype).reshape(array.shape)


def _read(data: mmap.mmap, at: int, depth: int, budget: Iterator[int]) -> tuple[Any, int]:
  """A value and its end: maps and lists of values, arrays, integers; None for anything else."""
  if depth > MAX_DEPTH:
    raise InputError(f"is nested more than {MAX_DEPTH} deep, as weights are not")
  if next(budget, None) is None:
    raise InputError(f"holds more than {MAX_NODES:,} values; save the weights alone")
  kind, value, at = _read_head(data, at)
  if kind == "map":
    table = {}
    for _ in range(value):
      key, at = _read_key(data, at)
      if key in table:
        raise InputError(f"two values are called '{key}'; give each its own name")
      table[key], at = _read(data, at, depth + 1, budget)
    return (_join(table) if _CHUNKED in table else table), at
  if kind == "list":
    items = []
    for _ in range(value):
      item, at = _read(data, at, depth + 1, budget)
      items.append(item)
    return items, at
  if kind == "extension":
    code, start, stop = value
    return (_read_array(data, start, stop) if code in (_ARRAY, _SCALAR) else None), at
  return (value if kind == "int" else None), at


def _read_head(data: mmap.mmap, at: int) -> tuple[str, Any, int]:
  """Kind of the value at a byte; its number, or where it lies; where what follows begins."""
  first = _take(data, at, 1)[0]
  at += 1
  if first < 0x80 or first >= 0xE0:
    return "int", first if first < 0x80 else first - 256, at
  if first < 0xC0:
    kind = "map" if first < 0x90 else "list" if first < 0xA0 else "text"
    value = first & (31 if kind == "text" else 15)
  elif 0xD4 <= first <= 0xD8:
    kind, value = "extension", 1 << (first - 0xD4)
  elif first in _LONG:
    kind, width = _LONG[first]
    value = int.from_bytes(_take(data, at, width), "big", signed=kind == "signed")
    at += width
  else:
    raise InputError(f"no value begins as the one at byte {at - 1:,}; no Flax msgpack, or damaged")
  if kind in ("text", "bytes"):
    return kind, (at, _end(data, at, value)), at + value
  if kind == "extension":
    return kind, (_take(data, at, 1)[0], at + 1, _end(data, at + 1, value)), at + 1 + value
  return "int" if kind == "signed" else kind, value, at


def _read_key(data: mmap.mmap, at: int) -> tuple[str, int]:
  kind, value, at = _read_head(data, at)
  if kind == "int":
    return str(value), at
  if kind not in ("text", "bytes") or value[1] - value[0] > _MAX_KEY:
    raise InputError(f"the name that ends at byte {at:,} is none")
  return printable(data[slice(*value)].decode()), at


def _read_array(data: mmap.mmap, start: int, stop: int) -> _Array | None:
  """What Flax packs into an extension: shape, name of the type, values; None for strings."""
  (_, fields, at), shape = _read_head(data, start), []
  kind, axes, at = _read_head(data, at)
  if fields != 3 or kind != "list" or axes > 32:
    raise InputError(f"the array at byte {start:,} is not as Flax writes it")
  for _ in range(axes):
    _, size, at = _read_head(data, at)
    shape.append(size)
  name, at = _read_key(data, at)
  kind, place, at = _read_head(data, at)
  if kind != "bytes" or at != stop:
    raise InputError(f"the array at byte {start:,} does not end where it says")
  if name not in DTYPES:
    if name.startswith(("str", "bytes", "void", "datetime", "timedelta")):
      return None
    raise unsupported(f"the array at byte {start:,}", name)
  return _check(_Array(tuple(shape), DTYPES[name], (place,)))


def _join(table: dict[str, Any]) -> _Array:
  """An array that Flax has cut into parts, since msgpack keeps no more than 2 GiB in one."""
  shape, chunks = table.get("shape"), table.get("chunks")
  tables = isinstance(shape, dict) and isinstance(chunks, dict)
  parts = list(chunks.values()) if tables else []
  if not parts or not all(isinstance(x, _Array) and x.dtype == parts[0].dtype for x in parts):
    raise InputError(f"an array in parts ({_CHUNKED}) is not as Flax writes it")
  places = tuple(place for part in parts for place in part.parts)
  return _check(_Array(tuple(shape.values()), parts[0].dtype, places))


def _check(array: _Array) -> _Array:
  """Holds an array's shape against the bytes that it has."""
  need = count_bytes("an array", array.shape, array.dtype)
  have = sum(stop - start for start, stop in array.parts)
  if need != have:
    raise InputError(
      f"an array of shape {array.shape} and type {array.dtype} takes {need:,} bytes, but {have:,} "
      "are there; save or fetch it again"
    )
  return array


def _take(data: mmap.mmap, at: int, count: int) -> bytes:
  return data[at : _end(data, at, count)]


def _end(data: mmap.mmap, at: int, count: int) -> int:
  if at + count > len(data):
    raise InputError("ends in the middle of a value; save or fetch it again")
  return at + count
