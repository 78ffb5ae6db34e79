"""safetensors: a JSON header that says where each tensor lies, then the bytes of all.

Read here rather than by the library of that name, so that the header is bounded before it is read
and a tensor is mapped, not copied. https://github.com/huggingface/safetensors#format
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from jaxinv.auditing.formats.stored import (
  DTYPES,
  MAX_HEADER,
  Stored,
  count_bytes,
  map_array,
  printable,
  unsupported,
)
from jaxinv.errors import InputError

_NAMES = {
  "BOOL": "bool",
  "BF16": "bfloat16",
  "F8_E4M3": "float8_e4m3fn",
  "F8_E4M3FNUZ": "float8_e4m3fnuz",
  "F8_E5M2": "float8_e5m2",
  "F8_E5M2FNUZ": "float8_e5m2fnuz",
  "F8_E8M0": "float8_e8m0fnu",
  "C64": "complex64",
  **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
  **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
  **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}


def read(path: Path) -> Iterator[tuple[str, Stored]]:
  """The tensors of a safetensors file.

  Raises:
    InputError: a header that does not describe the file.
  """
  size = path.stat().st_size
  with open(path, "rb") as file:
    length = int.from_bytes(file.read(8), "little")
    if length > size - 8:
      raise InputError(
        f"its header is said to take {length:,} bytes, more than the file has; save or fetch it "
        "again"
      )
    if length > MAX_HEADER:
      raise InputError(f"its header takes {length:,} bytes, too many; give it in parts")
    header = json.loads(file.read(length), object_pairs_hook=_without_doubles)
  if not isinstance(header, dict):
    raise InputError("its header is not a table of tensors")
  header.pop("__metadata__", None)
  reached = 0
  entries = [(name, *_entry(name, entry)) for name, entry in header.items()]
  for name, dtype, shape, start, stop in sorted(entries, key=lambda entry: entry[3:]):
    # No gap and no overlap: each byte belongs to one tensor, so nothing is there unseen.
    if start != reached or stop - start != count_bytes(name, shape, dtype):
      raise InputError(
        f"{printable(name)} lies at {start:,}..{stop:,}, where it cannot be; save or fetch it again"
      )
    reached = stop
    load = partial(map_array, path, shape, dtype, 8 + length + start)
    yield name, Stored(shape, dtype, load)
  if 8 + length + reached != size:
    raise InputError(
      f"its tensors end at byte {8 + length + reached:,}, the file at {size:,}; save or fetch it "
      "again"
    )


def _entry(name: str, entry: Any) -> tuple:
  """Type, shape, first byte and end of a tensor."""
  try:
    dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    described = isinstance(dtype, str) and type(start) is int and type(stop) is int
  except (TypeError, KeyError, ValueError):
    described = False
  if not described:
    raise InputError(f"{printable(name)} is not described as a tensor is")
  if dtype not in _NAMES:
    raise unsupported(name, dtype)
  return DTYPES[_NAMES[dtype]], shape, start, stop


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  table = dict(pairs)
  if len(table) < len(pairs):
    raise InputError("a name stands twice in its header; give each tensor its own name")
  return table
