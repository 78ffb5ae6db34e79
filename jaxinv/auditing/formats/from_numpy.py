"""numpy's .npy, and .npz, a zip archive of them. Object arrays are refused: they hold pickles."""

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile, ZipInfo

import numpy as np

from jaxinv.auditing.formats.stored import Stored, count_bytes, map_array, number_type, printable
from jaxinv.auditing.formats.zips import open_zip
from jaxinv.errors import InputError

_START = 16 << 10  # Bytes in which a header ends; numpy itself believes none above 10,000.


class _Header(NamedTuple):
  """What a .npy says of itself: shape, order, type as stored, and where the values begin."""

  shape: tuple[int, ...]
  order: str
  dtype: np.dtype
  start: int


def read_npy(path: Path) -> Iterator[tuple[str, Stored]]:
  """The one array of a .npy, mapped.

  Raises:
    InputError: an object array, or a file that is not as long as its header says.
  """
  with open(path, "rb") as file:
    header = _read_header("array", file.read(_START), path.stat().st_size)
  dtype = number_type("array", header.dtype)
  if dtype is not None:
    yield "array", Stored(header.shape, dtype, partial(_map, path, header, dtype))


def _map(path: Path, header: _Header, dtype: np.dtype) -> np.ndarray:
  stored = header.dtype if header.dtype.kind != "V" else dtype
  array = map_array(path, header.shape, stored, header.start, header.order)
  return array.astype(dtype, copy=False)


def read_npz(path: Path) -> Iterator[tuple[str, Stored]]:
  """The arrays of a .npz.

  Raises:
    InputError: an object array, or a member that is not as long as its header says.
  """
  archive = open_zip(path)
  for member in archive.infolist():
    if not member.filename.endswith(".npy"):
      continue
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as file:
      header = _read_header(name, file.read(_START), member.file_size)
    dtype = number_type(name, header.dtype)
    if dtype is not None:
      yield name, Stored(header.shape, dtype, partial(_unpack, archive, member, dtype))


def _unpack(archive: ZipFile, member: ZipInfo, dtype: np.dtype) -> np.ndarray:
  with archive.open(member) as file:
    array = np.lib.format.read_array(file, allow_pickle=False)
  return array.view(dtype) if array.dtype.kind == "V" else array.astype(dtype, copy=False)


def _read_header(name: str, start: bytes, size: int) -> _Header:
  """Reads a header and holds it against the bytes that there are."""
  file = io.BytesIO(start)
  major, _ = np.lib.format.read_magic(file)
  parse = np.lib.format.read_array_header_1_0
  # Version 3 differs from 2 in the names of records' fields alone, and records are passed over.
  shape, fortran, dtype = (parse if major == 1 else np.lib.format.read_array_header_2_0)(file)
  if dtype.hasobject:
    raise InputError(
      f"{printable(name)} holds Python objects, which only unpickling would read; save it as an "
      "array of numbers, or leave it out"
    )
  header = _Header(shape, "F" if fortran else "C", dtype, file.tell())
  need, have = count_bytes(name, shape, dtype), size - header.start
  if need != have:
    raise InputError(
      f"{printable(name)} of shape {shape} and type {dtype} takes {need:,} bytes, but {have:,} are "
      "there; save or fetch it again"
    )
  return header
