"""Reads weights from a file of any known format, which is found by its content."""

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

from jaxinv.auditing.formats import (
  from_hdf5,
  from_msgpack,
  from_numpy,
  from_orbax,
  from_safetensors,
  from_torch,
  zips,
)
from jaxinv.auditing.formats.stored import Stored, collect, one_line, printable
from jaxinv.errors import InputError

__all__ = ["Stored", "read_weights"]

_KNOWN = (
  "safetensors, numpy .npz and .npy, Flax msgpack, PyTorch .pt and .pth, Keras .weights.h5 and "
  "other HDF5, and an Orbax checkpoint folder"
)
_Reader = Callable[[Path], Generator[tuple[str, Stored], None, None]]


def read_weights(path: Path) -> dict[str, Stored]:
  """Lists the tensors of a file of weights; each is read when it is asked for.

  Strings, dates and records are passed over, and so is what is no tensor. Numbers of every type
  are listed: whether they are weights is for the caller to say.

  Args:
    path: the file; for Orbax the checkpoint's folder, or the one around it.

  Returns:
    From names to tensors. Levels of nested formats are parted by slashes; a single array without
    a name is called `array`.

  Raises:
    InputError: whatever is wrong with the file, in one line.
  """
  path = Path(path)
  with one_line(printable(path)):
    if path.is_dir():
      folder = from_orbax.find(path)
      return collect(path, from_orbax.read(folder), from_orbax.folder_size(folder))
    # Closed also where a tensor is refused: a reader may have the file open.
    with closing(_find_reader(path)(path)) as found:
      return collect(path, found, path.stat().st_size)


def _find_reader(path: Path) -> _Reader:
  """The reader of a file, by how the file begins."""
  if not path.is_file():
    raise InputError("is not a file" if path.exists() else "there is no such file")
  with open(path, "rb") as file:
    head = file.read(32)
  if not head:
    raise InputError("is empty")
  for magic, reader in _MAGIC.items():
    if head.startswith(magic):
      return reader
  # Before pickles: a header of 640 bytes gives a file the first two bytes of one.
  if head[8:9] == b"{":
    return from_safetensors.read
  if from_torch.is_pickle(head):
    raise InputError(
      "is a Python pickle, which would run code of its own; save the weights as .npz or safetensors"
    )
  if from_msgpack.may_be(head):
    return from_msgpack.read
  raise InputError(f"is of no format known here, which are {_KNOWN}")


def _read_zip(path: Path) -> Generator[tuple[str, Stored], None, None]:
  """A zip archive is numpy's or PyTorch's: its members tell."""
  with zips.open_zip(path) as archive:
    names = [member.filename for member in archive.infolist()]
  if any(name.endswith("/data.pkl") for name in names):
    return from_torch.read_zip(path)
  if any(name.endswith(".npy") for name in names):
    return from_numpy.read_npz(path)
  if any(name.endswith(".weights.h5") for name in names):
    raise InputError("is a Keras archive; unzip it and give the model.weights.h5 inside")
  raise InputError(f"is a zip archive of no format known here, which are {_KNOWN}")


_MAGIC: dict[bytes, _Reader] = {
  b"\x89HDF\r\n\x1a\n": from_hdf5.read,
  b"\x93NUMPY": from_numpy.read_npy,
  b"PK\x03\x04": _read_zip,
  b"PK\x05\x06": _read_zip,  # Without members.
  from_torch.LEGACY_MAGIC: from_torch.read_legacy,
}
