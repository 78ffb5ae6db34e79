"""CIFAR-10 from its binary version: records of a label and 32 x 32 x 3 bytes, in a few files.

A folder and an archive are both read into files by name, and go one way from there. No archive is
ever extracted.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; the format is told at
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import contextlib
import gzip
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from jaxtyping import Float, UInt8

from jaxinv.data.fetch import WHOLE, download, explained, natural_pieces, shown
from jaxinv.errors import InputError
from jaxinv.types import Dataset, TrainTest

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER, ARCHIVE = "cifar-10-batches-bin", "cifar-10-binary.tar.gz"
# fmt: off
NAMES = (
  "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)
# fmt: on
CREDIT = (
  "The photographs are a part of CIFAR-10: credit A. Krizhevsky, Learning Multiple Layers of "
  "Features from Tiny Images, 2009."
)
RESOLUTIONS = (32, 16, 8, 4)
MAX_TOTAL_BYTES = 2**30  # Of all files together, or unpacked; CIFAR-10 has 184,380,000.
MAX_MEMBERS = 10_000

_SIDE = 32
_RECORD = 1 + 3 * _SIDE**2
_TEST, _META = "test_batch.bin", "batches.meta.txt"
_TRAIN = re.compile(r"data_batch_[0-9]+\.bin")
_OTHERS = "--data_dir or JAXINV_DATA names another folder, --dataset=synthetic_shapes needs no file"
_HELP = f"--download fetches CIFAR-10, {_OTHERS}"


def load_cifar10(data_dir: str | os.PathLike, resolution: int = _SIDE) -> TrainTest:
  """Loads CIFAR-10 from a folder or an archive of its binary version, or of a part of it.

  Takes the first there is of: `data_dir` itself where it is an archive, .tar.gz or .tar;
  `cifar-10-batches-bin/` in it; `cifar-10-binary.tar.gz` in it; `data_dir` itself as the folder of
  data_batch_1.bin, data_batch_2.bin, ... and test_batch.bin.

  Args:
    data_dir: the data folder, or an archive.
    resolution: side of the images returned, in pixels, of `RESOLUTIONS`; each of their pixels is
      the mean of a block of the original's.

  Returns:
    The images in [0, 1], file by file in the order of their numbers, and those of the test file.
    Classes have the names in batches.meta.txt where that has ten, or CIFAR-10's.

  Raises:
    InputError: nothing is found, or what is found cannot be used.

  Example:
    >>> import pathlib, tempfile
    >>> temporary = tempfile.TemporaryDirectory()
    >>> folder = pathlib.Path(temporary.name)
    >>> images = b"".join(bytes([label]) + bytes(3072) for label in range(10))  # All black.
    >>> for name in ("data_batch_1.bin", "test_batch.bin"):
    ...   _ = (folder / name).write_bytes(images)
    >>> load_cifar10(folder, resolution=16).train.image_shape
    (16, 16, 3)
  """
  if resolution not in RESOLUTIONS:
    choices = ", ".join(map(str, RESOLUTIONS))
    raise InputError(f"resolution is {resolution}, and CIFAR-10 averages down to {choices} only")
  root = _find_batches(os.path.expanduser(os.fspath(data_dir)))
  files = _read_folder(root) if os.path.isdir(root) else _read_archive(root)
  names = _class_names(files.get(_META, b""))
  numbered = sorted(filter(_TRAIN.fullmatch, files), key=lambda it: (natural_pieces(it), it))
  sides = []
  for kind, chosen in (("training", numbered), ("test", [_TEST] if _TEST in files else [])):
    if not chosen:
      missing = _TEST if kind == "test" else "data_batch_1.bin, data_batch_2.bin, ..."
      raise InputError(f"no {kind} file in {shown(root)}, {missing}: {_HELP}")
    records = np.concatenate([_parse(files[it], os.path.join(root, it)) for it in chosen])
    _check_classes(records, names, kind, root)
    inputs, labels = _pixels(records, resolution), records[:, 0].astype(np.int32)
    shape = (resolution, resolution, 3)
    sides.append(Dataset(inputs, labels, len(names), shape, names, CREDIT))
  return TrainTest(*sides)


def download_cifar10(cache_dir: str | os.PathLike) -> Path:
  """Fetches CIFAR-10's binary version, where it is not there yet, and checks its MD5.

  Args:
    cache_dir: where `cifar-10-binary.tar.gz` is to lie; made if missing.

  Returns:
    The path of the archive.

  Raises:
    InputError: it cannot be fetched or written, what came is not CIFAR-10, or something else lies
      at its place. Nothing half-written stays.
  """
  target = Path(cache_dir).expanduser() / ARCHIVE
  if os.path.lexists(target):
    with explained(f"read {target}"):
      if _md5(target) == MD5:
        return target
    raise InputError(f"{shown(target)} is not CIFAR-10's archive: move it away to download that")
  download(URL, target, lambda it: _md5(it) == MD5, "CIFAR-10", _OTHERS)
  return target


def _find_batches(data_dir: str) -> str:
  """The folder or archive that `load_cifar10` takes."""
  if os.path.isfile(data_dir):
    return data_dir
  if not os.path.isdir(data_dir):
    raise InputError(f"no such folder or archive: '{shown(data_dir)}': {_HELP}")
  for name, is_there in ((FOLDER, os.path.isdir), (ARCHIVE, os.path.isfile)):
    if is_there(found := os.path.join(data_dir, name)):
      return found
  with explained(f"read {data_dir}"):
    if any(_TRAIN.fullmatch(name) for name in os.listdir(data_dir)):
      return data_dir
  looked = f"neither {FOLDER}/ nor {ARCHIVE} is there, nor data_batch_1.bin"
  raise InputError(f"no CIFAR-10 in {shown(data_dir)}: {looked}: {_HELP}")


def _is_wanted(name: str) -> bool:
  """Whether a file of this name is read; others are passed over."""
  return name in (_TEST, _META) or bool(_TRAIN.fullmatch(name))


def _read_folder(root: str) -> dict[str, bytes]:
  """The files of a folder by name."""
  files, left = {}, MAX_TOTAL_BYTES
  with explained(f"read {root}"):
    names = sorted(filter(_is_wanted, os.listdir(root)))
  for path in (os.path.join(root, name) for name in names):
    # A pipe would block; a broken link is a file gone missing.
    if os.path.exists(path) and not os.path.isfile(path):
      raise InputError(f"{shown(path)} is not a file: {WHOLE}")
    with explained(f"read {path}"), open(path, "rb") as file:
      raw = file.read(left + 1)
    if len(raw) > left:
      raise InputError(f"{shown(root)} has over {MAX_TOTAL_BYTES} bytes of images: give fewer")
    files[os.path.basename(path)], left = raw, left - len(raw)
  return files


def _read_archive(path: str) -> dict[str, bytes]:
  """The files of an archive by name, whatever their folder in it."""
  files = {}
  with explained(f"read {path}"), _unpacked(path) as stream:
    # As a stream, tarfile never goes back and asks for small pieces only: these are counted.
    counted = SimpleNamespace(read=_bounded(stream, path))
    with tarfile.open(fileobj=counted, mode="r|") as archive:
      for number, info in enumerate(archive):
        where, name = f"{path}: {info.name!r}", info.name.rpartition("/")[2]
        if number >= MAX_MEMBERS:
          raise InputError(f"{shown(path)} has over {MAX_MEMBERS} members: {WHOLE}")
        if info.issparse() or not (info.isreg() or info.isdir()):
          raise InputError(f"{shown(where)} is a link or a device: pack it anew, of plain files")
        # Before it is read or passed over: a header may promise any size, and tarfile believes it.
        if info.size > MAX_TOTAL_BYTES:
          raise InputError(f"{shown(where)} has over {MAX_TOTAL_BYTES} bytes: give fewer images")
        if not info.isreg() or not _is_wanted(name):
          continue
        if name in files:
          raise InputError(f"{shown(where)} is there twice: pack it anew, with one of each")
        files[name] = archive.extractfile(info).read()
      _check_end(archive)
  return files


@contextlib.contextmanager
def _unpacked(path: str) -> Iterator[io.BufferedIOBase]:
  """An archive opened for reading: what gzip packed, or the file itself."""
  with open(path, "rb") as file:
    is_packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    # Not tarfile's own gzip, which verifies no checksum in a stream.
    with gzip.open(file) if is_packed else contextlib.nullcontext(file) as stream:
      yield stream


def _bounded(stream: io.BufferedIOBase, path: str) -> Callable[[int], bytes]:
  """Reads a stream until it has given `MAX_TOTAL_BYTES`, and no further."""

  def read(size: int) -> bytes:
    if stream.tell() > MAX_TOTAL_BYTES:
      raise InputError(f"{shown(path)} unpacks to over {MAX_TOTAL_BYTES} bytes: give fewer images")
    return stream.read(size)

  return read


def _check_end(archive: tarfile.TarFile) -> None:
  """Raises ReadError unless an archive ended as one does: in zeros, from its last member on.

  By itself tarfile takes any header it cannot read, or none at all, for the end. To go on to the
  end lets gzip verify its checksum, too.
  """
  is_ended = archive.fileobj.tell() == archive.offset + tarfile.BLOCKSIZE
  while chunk := archive.fileobj.read(2**16):
    is_ended &= not chunk.strip(b"\0")
  if not is_ended:
    raise tarfile.ReadError("a header is damaged, or the end is missing")


def _parse(raw: bytes, where: str) -> UInt8[np.ndarray, "n d"]:
  """The records of one file, each a label and its pixels."""
  where = shown(where)
  if not raw:
    raise InputError(f"{where} is empty: {WHOLE}")
  if len(raw) % _RECORD:
    raise InputError(f"{where} has {len(raw)} bytes, no multiple of {_RECORD}: {WHOLE}")
  records = np.frombuffer(raw, np.uint8).reshape(-1, _RECORD)
  wrong = records[:, 0] >= len(NAMES)
  if wrong.any():
    first = int(wrong.argmax())
    problem = f"record {first + 1} of {len(records)} has the label {records[first, 0]}, above 9"
    raise InputError(f"{where}: {problem}: {WHOLE}")
  return records


def _check_classes(
  records: UInt8[np.ndarray, "n d"], names: tuple[str, ...], kind: str, root: str
) -> None:
  """Raises InputError unless every class has an image."""
  counts = np.bincount(records[:, 0], minlength=len(names))
  if not counts.all():
    name = names[int(counts.argmin())]
    raise InputError(f"class '{name}' has no {kind} image in {shown(root)}: add some, or {_HELP}")


def _pixels(records: UInt8[np.ndarray, "n d"], resolution: int) -> Float[np.ndarray, "n p"]:
  """The records' images in [0, 1], averaged down."""
  block = _SIDE // resolution
  # Sums are whole numbers up to 64 * 255, so that each mean is rounded once.
  planes = records[:, 1:].reshape(-1, 3, resolution, block, resolution, block)
  sums = planes.sum((3, 5), dtype=np.uint16) if block > 1 else planes[:, :, :, 0, :, 0]
  pixels = sums.transpose(0, 2, 3, 1).reshape(len(records), -1).astype(np.float32)
  pixels /= np.float32(255 * block**2)
  return pixels


def _class_names(raw: bytes) -> tuple[str, ...]:
  """The lines of batches.meta.txt where they are ten names, or else CIFAR-10's own."""
  lines = [line.strip() for line in raw.decode("utf-8", "replace").splitlines()]
  names = tuple(shown(line) for line in lines if line)
  return names if len(set(names)) == len(names) == len(NAMES) else NAMES


def _md5(path: str | os.PathLike) -> str:
  """The MD5 of a file's contents."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
