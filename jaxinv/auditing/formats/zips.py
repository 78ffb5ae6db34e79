"""Zip archives from anywhere, opened once it is known that they are plain ones."""

import struct
import zipfile
from pathlib import Path

from jaxinv.auditing.formats.stored import MAX_HEADER, printable
from jaxinv.errors import InputError

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")


def open_zip(path: Path) -> zipfile.ZipFile:
  """Opens an archive whose members are stored or deflated, each once and apart from the others.

  Raises:
    InputError: an archive that no tool for weights writes.
  """
  _check_directory(path)
  archive = zipfile.ZipFile(path)
  members = archive.infolist()
  names = set()
  for member in members:
    name = printable(member.filename)
    if member.filename in names:
      raise InputError(f"two members are called '{name}'; give each its own name")
    names.add(member.filename)
    if member.flag_bits & 1:
      raise InputError(f"{name} is encrypted; save it without a password")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
      raise InputError(f"{name} is compressed in a way that numpy does not write; save it anew")
    if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
      raise InputError(f"{name} lies of its size; save or fetch it again")
  # Members that share their bytes are how a small archive unpacks to a huge one.
  if sum(member.compress_size for member in members) > path.stat().st_size:
    raise InputError("its members are larger than the file together; save it anew")
  return archive


def _check_directory(path: Path) -> None:
  """Bounds the list of members, which zipfile would read whole, by what the file's end says."""
  with open(path, "rb") as file:
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size - _LOCATOR.size))
    end = file.read()
    if len(end) < _END.size or end[-_END.size :][:4] != b"PK\x05\x06" or end[-2:] != b"\0\0":
      raise InputError("is a zip archive whose end is missing; save or fetch it again")
    length = _END.unpack(end[-_END.size :])[5]
    if end[:4] == b"PK\x06\x07" and len(end) == _END.size + _LOCATOR.size:
      start = size - _END.size - _LOCATOR.size - _END64.size
      if start != _LOCATOR.unpack(end[: _LOCATOR.size])[2]:
        raise InputError("is a zip archive whose end is not where it says; save it anew")
      file.seek(start)
      length = _END64.unpack(file.read(_END64.size))[8]
  if length > MAX_HEADER:
    raise InputError(f"its list of members takes {length:,} bytes; give it in parts")
