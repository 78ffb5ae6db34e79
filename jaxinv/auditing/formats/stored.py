"""What a reader of weights hands on, and the limits that all readers keep to.

A file of weights may come from anywhere, and may be made to do harm. What it says of itself is
checked before anything of that size is allocated, so that reading it takes no more memory than
twice its size and a fixed 128 MiB, of which `ROOM` is for arrays and the rest for names.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxinv.errors import InputError

MAX_HEADER = 4 << 20  # Bytes of text that says what follows. Python makes some twenty times of it.
MAX_TENSORS = 50_000
MAX_NODES = 20 * MAX_TENSORS  # Of a tree: containers, numbers, tensors.
MAX_DEPTH = 64
MAX_NAME = 300
ROOM = 64 << 20  # Bytes that an array may take in memory, however small its file.
# Zeros compress a thousandfold, weights hardly: the time to unpack a file has a limit too.
MAX_RATIO = 16

_NUMPY = (
  *("bool", "float16", "float32", "float64", "complex64", "complex128"),
  *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
)
_OTHERS = (
  *("bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn"),
  *("float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
)
DTYPES = {name: np.dtype(name) for name in _NUMPY}
DTYPES |= {name: np.dtype(getattr(ml_dtypes, name)) for name in _OTHERS}


class Stored(NamedTuple):
  """A tensor in a file.

  Attributes:
    shape: its shape.
    dtype: its type, in the machine's byte order.
    load: reads this one tensor, in its own type; raises InputError where the file is damaged. The
      array may be a view of the file, and read-only.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  load: Callable[[], np.ndarray]


def collect(path: Path, found: Iterable[tuple[str, Stored]], file_size: int) -> dict[str, Stored]:
  """Puts a file's tensors together, and checks what holds for every format.

  Args:
    path: the file or folder, for messages.
    found: names, as they stand in the file, and tensors.
    file_size: bytes of the file, or of all in the folder.

  Returns:
    From printable names to tensors, in the file's order.

  Raises:
    InputError: no tensor, too many, too large ones, or two of one name.
  """
  weights, total = {}, 0
  for name, stored in found:
    name = printable(name)
    if name in weights:
      raise InputError(f"two tensors are called '{name}'; give each its own name")
    if len(weights) == MAX_TENSORS:
      raise InputError(f"holds more than {MAX_TENSORS:,} tensors; give it in parts")
    size = count_bytes(name, stored.shape, stored.dtype)
    if size > 2 * file_size + ROOM:
      raise InputError(
        f"{name} of shape {stored.shape} and type {stored.dtype} unpacks to {size:,} bytes, out of "
        "proportion to the file; save it uncompressed"
      )
    total += size
    if total > MAX_RATIO * file_size + ROOM:
      raise InputError(
        f"unpacks to more than {MAX_RATIO} times its size, as weights do not; save it uncompressed"
      )
    weights[name] = stored._replace(load=partial(_load, path, name, stored))
  if not weights:
    raise InputError("holds no tensor; give the file that the weights were saved to")
  return weights


def _load(path: Path, name: str, stored: Stored) -> np.ndarray:
  with one_line(f"{printable(path)}: {name}"):
    array = stored.load()
    if array.shape != stored.shape or array.dtype != stored.dtype:
      raise InputError("changed while it was read; run this again")
    return array


def count_bytes(name: str, shape: tuple, dtype: np.dtype) -> int:
  """The bytes of an array, of whose shape nothing is believed.

  Args:
    name: of the tensor, for the message.
    shape: as declared.
    dtype: the type.

  Returns:
    The bytes.

  Raises:
    InputError: a shape that no array can have.
  """
  possible = len(shape) <= 32 and all(type(size) is int and size >= 0 for size in shape)
  # Beside a size of 0 the others count too: numpy multiplies them, and would overflow.
  if not possible or math.prod(max(size, 1) for size in shape) * dtype.itemsize >= 2**62:
    raise InputError(f"{printable(name)} has the shape {printable(shape)}, which no array has")
  return math.prod(shape) * dtype.itemsize


def number_type(name: str, dtype: np.dtype) -> np.dtype | None:
  """The type of a tensor's numbers in the machine's byte order; None for strings, dates, records.

  numpy and HDF5 have no bfloat16: they save it as two bytes without a meaning, and save nothing
  else so.

  Raises:
    InputError: numbers of a type that is not read here, such as 4-bit integers.
  """
  if dtype.name in DTYPES:
    return DTYPES[dtype.name]
  if dtype.kind in "OSUMm" or dtype.type is np.void:
    return DTYPES["bfloat16"] if dtype.name == "void16" and dtype.names is None else None
  raise unsupported(name, dtype)


def unsupported(name: str, dtype: Any) -> InputError:
  """What to say of a type that cannot be read."""
  return InputError(f"{printable(name)} is of type '{printable(dtype)}', which is not read here")


def map_array(
  path: Path, shape: tuple[int, ...], dtype: np.dtype, start: int, order: str = "C"
) -> np.ndarray:
  """An array that lies plain in a file, mapped into memory rather than read."""
  if 0 in shape:
    return np.zeros(shape, dtype)
  return np.asarray(np.memmap(path, dtype, "r", start, shape, order))


def flatten(tree: Any) -> Iterator[tuple[str, Any]]:
  """The leaves of nested dicts, lists and tuples, with their names: `params/Dense_0/kernel`.

  A container that stands in several places, or in itself, is walked once.

  Raises:
    InputError: nested too deep, or too much of it.
  """
  seen, nodes = set(), 0

  def walk(prefix, branch, depth):
    nonlocal nodes
    if depth > MAX_DEPTH:
      raise InputError(f"is nested more than {MAX_DEPTH} deep, as weights are not")
    pairs = branch.items() if isinstance(branch, dict) else enumerate(branch)
    for key, value in pairs:
      nodes += 1
      if nodes > MAX_NODES:
        raise InputError(f"holds more than {MAX_NODES:,} values; save the weights alone")
      # Cut at every level: names inside a name that is very long would multiply it.
      name = printable(f"{prefix}/{key}" if prefix else str(key))
      if not isinstance(value, dict | list) and type(value) is not tuple:
        yield name, value
      elif id(value) not in seen:
        seen.add(id(value))
        yield from walk(name, value, depth + 1)

  yield from walk("", tree, 0)


def printable(text: Any, limit: int = MAX_NAME) -> str:
  """A text from a file as it can be shown: one line, no control characters, not too long."""
  text = str(text)
  if len(text) > limit:
    text = f"{text[: limit * 2 // 3]}…{text[-(limit // 3) :]}"
  if text.isprintable():
    return text
  return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def one_line(where: str) -> Iterator[None]:
  """Makes one line of whatever goes wrong inside, and keeps warnings to itself.

  A library that meets a damaged file may raise anything; what it says stands in brackets.

  Args:
    where: what the line begins with.

  Raises:
    InputError: in place of every exception.
  """
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      yield
  except InputError as error:
    raise InputError(f"{where}: {error}") from error
  except Exception as error:
    said = printable(" ".join(str(error).split()) or type(error).__name__, 200)
    raise InputError(
      f"{where}: cannot be read: damaged or cut short ({said}); save or fetch it again"
    ) from error
