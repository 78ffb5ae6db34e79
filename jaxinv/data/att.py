"""The AT&T (Olivetti) database of faces, or any faces laid out like it: one folder a person.

Folders and zips are listed as `PgmFile`s, and go one way from there. No file is ever extracted.

F. Samaria and A. Harter, "Parameterisation of a stochastic model for human face identification",
IEEE WACV 1994. Credit the images to AT&T Laboratories Cambridge (Olivetti Research Laboratory).
"""

import contextlib
import hashlib
import os
import re
import stat
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple
from zipfile import ZipFile

import numpy as np
from jaxtyping import Float

from jaxinv.data.fetch import WHOLE, download, explained, natural_pieces, shown
from jaxinv.errors import InputError
from jaxinv.types import Dataset

URL = "https://www.cl.cam.ac.uk/research/dtg/attarchive/pub/data/att_faces.zip"
# Of the decoded pixels, people and images in order: it holds for every way of packing them.
PIXEL_SHA256 = "2e4844a9f4fa4397058f69d6208047170f2e9d399cda18b55c1e8d28f0a83431"
CREDIT = (
  "The photographs are the AT&T Database of Faces: credit AT&T Laboratories Cambridge "
  "(F. Samaria and A. Harter, 1994)."
)
MAX_IMAGE_BYTES = 64 * 2**20
MAX_TOTAL_BYTES = 4 * 2**30

_OTHERS = "--data_dir or JAXINV_DATA names another folder, --dataset=synthetic_faces needs no file"
_HELP = f"--download fetches the AT&T faces, {_OTHERS}"
_SPACE = rb"(?:#[^\r\n]*[\r\n]|\s)"  # White space, or a comment with its line end.
_HEADER = re.compile(rb"P5" + 3 * (_SPACE + rb"+([0-9]{1,18})") + rb"(?=" + _SPACE + rb")")
_BREAK = re.compile(_SPACE)
_CRLF_BREAK = re.compile(rb"(?:#[^\r\n]*)?\r\n|" + _SPACE)
_LOOSE_BREAK = re.compile(rb"[ \t]*(?:#[^\r\n]*)?(?:\r\n|[\r\n])(?:#[^\r\n]*(?:\r\n|[\r\n]))*")
_HIDDEN = re.compile(r"\.|__MACOSX$")  # Of files and folders: the system's own, as ._1.pgm.


class PgmFile(NamedTuple):
  """An image not yet read, in a folder or in a zip.

  Attributes:
    parts: path below the root: one or two folders, the last of them the person's, and the file.
    size: its declared number of bytes.
    open: opens it for reading.
  """

  parts: tuple[str, ...]
  size: int
  open: Callable[[], IO[bytes]]


def load_att(data_dir: str | os.PathLike) -> Dataset:
  """Loads people's faces from a folder or a zip of binary PGMs.

  Takes the first there is of: `data_dir` itself where it is a zip; `att_faces/` in it;
  `att_faces.zip` in it; `data_dir` itself as the folder of people.

  Args:
    data_dir: the data folder, or a zip.

  Returns:
    The images in [0, 1], all of one size; a class is a folder that directly holds PGMs. People
    named s1, s2, ... come first, by number, and then the others, by name.

  Raises:
    InputError: nothing is found, or what is found cannot be used.

  Example:
    >>> import pathlib, tempfile
    >>> temporary = tempfile.TemporaryDirectory()
    >>> folder = pathlib.Path(temporary.name)
    >>> for person in ("s1", "s2"):
    ...   (folder / person).mkdir()
    ...   _ = (folder / person / "1.pgm").write_bytes(b"P5 3 2 255 " + bytes(range(6)))
    >>> people = load_att(folder)
    >>> people.names, people.image_shape
    (('s1', 's2'), (2, 3))
  """
  root = _find_faces(os.path.expanduser(os.fspath(data_dir)))
  if os.path.isdir(root):
    return _decode_people(_list_folder(root), root)
  with explained(f"read {root}"):
    archive = ZipFile(root)
  with archive:
    return _decode_people(_list_zip(archive, root), root)


def download_att(cache_dir: str | os.PathLike) -> Path:
  """Fetches the AT&T faces, where they are not there yet, and checks them pixel by pixel.

  Args:
    cache_dir: where `att_faces.zip` is to lie; made if missing.

  Returns:
    The path of the zip.

  Raises:
    InputError: it cannot be fetched or written, what came is not the AT&T faces, or other faces
      lie at its place. Nothing half-written stays.
  """
  target = Path(cache_dir).expanduser() / "att_faces.zip"
  if (there := _digest_at(target)) == PIXEL_SHA256:
    return target
  if there:  # Somebody's own faces are not to be replaced; a broken file is.
    raise InputError(f"{shown(target)} has other faces than AT&T's: move it away to download them")
  download(URL, target, lambda it: _digest_at(it) == PIXEL_SHA256, "the AT&T faces", _OTHERS)
  return target


def pixel_digest(dataset: Dataset) -> str:
  """SHA-256, in hexadecimal, of a data set's pixels as bytes 0..255, in the order of its rows."""
  return hashlib.sha256(np.rint(dataset.inputs * 255).astype(np.uint8).tobytes()).hexdigest()


def read_pgm(raw: bytes, where: str) -> Float[np.ndarray, "h w"]:
  """Decodes a binary PGM (P5), as https://netpbm.sourceforge.net/doc/pgm.html has it.

  Args:
    raw: the file's bytes; those after the raster are passed over.
    where: its name, for messages.

  Returns:
    The image, float32 in [0, 1]: each value divided by the file's maxval.

  Raises:
    InputError: it is no such file, or cut short.
  """
  if raw[:2] != b"P5":
    raise InputError(f"{where} begins with {raw[:2]!r}, not b'P5': convert it to binary grey PGM")
  header = _HEADER.match(raw)
  width, height, maxval = map(int, header.groups()) if header else (0, 0, 0)
  if not (width and height and 1 <= maxval <= 65535):
    raise InputError(f"{where} has an impossible PGM header, {raw[:24]!r}: {WHOLE}")
  dtype = np.dtype(np.uint8 if maxval < 256 else ">u2")
  size = width * height * dtype.itemsize
  start = _raster_start(raw, header.end(), size)
  # Before anything is allocated: a header may promise any size.
  if len(raw) - start < size:
    problem = f"{width} x {height} pixels need {size} bytes, and it has {len(raw) - start}"
    raise InputError(f"{where} is truncated: {problem}: {WHOLE}")
  values = np.frombuffer(raw, dtype, width * height, start).reshape(height, width)
  if values.max() > maxval:
    raise InputError(f"{where} has values above its maxval, {maxval}: convert it to PGM anew")
  return values.astype(np.float32) / np.float32(maxval)


def _raster_start(raw: bytes, end: int, size: int) -> int:
  """Where the raster begins, of `size` bytes, when the maxval ends at `end`."""
  # One white space ends the header; where its other lines end in CRLF, that one does too.
  start = (_CRLF_BREAK if b"\r\n" in raw[:end] else _BREAK).match(raw, end).end()
  # More is believed only where the bytes behind it are exactly the raster, as a raster may itself
  # begin with a line end or a '#'.
  is_exact = _LOOSE_BREAK.fullmatch(raw, end, max(len(raw) - size, 0))
  return max(start, len(raw) - size) if is_exact else start


def _find_faces(data_dir: str) -> str:
  """The folder or zip that `load_att` takes."""
  if os.path.isfile(data_dir):
    return data_dir
  if not os.path.isdir(data_dir):
    raise InputError(f"no such folder or zip: '{shown(data_dir)}': {_HELP}")
  for name, is_there in (("att_faces", os.path.isdir), ("att_faces.zip", os.path.isfile)):
    if is_there(found := os.path.join(data_dir, name)):
      return found
  if _list_folder(data_dir):
    return data_dir
  looked = "neither att_faces/ nor att_faces.zip is there, nor PGMs one or two folders below it"
  raise InputError(f"no faces in {shown(data_dir)}: {looked}: {_HELP}")


def _list_folder(root: str) -> list[PgmFile]:
  """The PGMs one and two folders below `root`; links are followed, but no folder is read twice."""
  files, seen, level = [], set(), [()]
  for _ in range(3):
    below = []
    # Links last, so that a folder goes by its own name.
    for folder in sorted(level, key=lambda it: (os.path.islink(os.path.join(root, *it)), it)):
      real = os.path.realpath(os.path.join(root, *folder))
      if real not in seen:
        seen.add(real)
        subfolders, images = _list_one(root, folder)
        below += subfolders
        files += images
    level = below
  return files


def _list_one(root: str, folder: tuple[str, ...]) -> tuple[list[tuple[str, ...]], list[PgmFile]]:
  """The folders and the PGMs directly in one folder."""
  here, subfolders, images = os.path.join(root, *folder), [], []
  with explained(f"read {here}"):
    names = os.listdir(here)
  for parts in ((*folder, name) for name in names if not _HIDDEN.match(name)):
    path = os.path.join(root, *parts)
    if os.path.isdir(path):
      subfolders.append(parts)
    # A broken link is an image gone missing; a pipe would block.
    elif _is_image(parts) and (os.path.isfile(path) or not os.path.exists(path)):
      with explained(f"read {path}"):
        images.append(PgmFile(parts, os.stat(path).st_size, partial(open, path, "rb")))
  return subfolders, images


def _list_zip(archive: ZipFile, where: str) -> list[PgmFile]:
  """The PGMs one and two folders below the top of a zip; refuses one with a path that leaves it."""
  files = {}
  for info in archive.infolist():
    # The name as written: zipfile cuts it at a NUL, and on Windows turns backslashes.
    name = info.orig_filename
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or re.search(r"^[A-Za-z]:|[\\\0]", name):
      raise InputError(f"{shown(where)} has a member with an unsafe path, {name!r}: do not use it")
    if stat.S_ISLNK(info.external_attr >> 16) or info.is_dir() or not _is_image(path.parts):
      continue
    # For these two methods alone zipfile bounds what one read unpacks.
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
      problem = "is encrypted, or neither stored nor deflated: pack it anew, as a plain zip"
      raise InputError(f"{shown(where)}: {name!r} {problem}")
    files[path.parts] = PgmFile(path.parts, info.file_size, partial(archive.open, info))
  return list(files.values())


def _decode_people(files: list[PgmFile], root: str) -> Dataset:
  """Groups images by person, reads them, and checks that they are of one size."""
  people = _group_people(files, root)
  if sum(file.size for images in people.values() for file in images) > MAX_TOTAL_BYTES:
    raise InputError(f"{shown(root)} has over {MAX_TOTAL_BYTES} bytes of images: give fewer")
  rows, labels, first = [], [], None
  for label, images in enumerate(people.values()):
    for file in images:
      where = shown(os.path.join(root, *file.parts))
      image = read_pgm(_read_bytes(file, where), where)
      first = first or (where, image.shape)
      if image.shape != first[1]:
        sizes = [f"{name} is {w} x {h}" for name, (h, w) in (first, (where, image.shape))]
        raise InputError(f"images differ in size: {' and '.join(sizes)}: make them one size")
      rows.append(image.ravel())
      labels.append(label)
  count = Counter(folder[-1] for folder in people)
  names = tuple(name[-1] if count[name[-1]] == 1 else "/".join(name) for name in people)
  # Folders may be named in bytes that are no text; what is shown and written must be.
  names = tuple(name.encode("utf-8", "replace").decode() for name in names)
  labels = np.array(labels, np.int32)
  return Dataset(np.stack(rows), labels, len(people), first[1], names, CREDIT)


def _read_bytes(file: PgmFile, where: str) -> bytes:
  """Reads an image's file, never more than it declares and a byte."""
  if file.size > MAX_IMAGE_BYTES:
    raise InputError(f"{where} has over {MAX_IMAGE_BYTES} bytes: make it smaller or remove it")
  with explained(f"read {where}"), file.open() as stream:
    raw = stream.read(file.size + 1)
  if len(raw) != file.size:
    raise InputError(f"{where} has not the {file.size} bytes it declares: {WHOLE}")
  return raw


def _group_people(files: list[PgmFile], root: str) -> dict[tuple[str, ...], list[PgmFile]]:
  """Images by their person's folder, both in order; there are two people or more."""
  people = defaultdict(list)
  for file in files:
    people[file.parts[:-1]].append(file)
  # Images beside people's folders are strays; but not where their own folder is among people's.
  above = {folder[:-1] for folder in people} & set(people)
  if above and any(len(folder) == 1 and folder not in above for folder in people):
    mixed = shown(os.path.join(root, *min(above)))
    raise InputError(f"{mixed} holds images and folders of images: move one or the other away")
  # s1, s2, ... before other names, so that adding people leaves the labels of those as they are.
  is_numbered = {folder: bool(re.fullmatch("[sS][0-9]+", folder[-1])) for folder in people}
  folders = sorted(people.keys() - above, key=lambda it: (not is_numbered[it], _natural_key(it)))
  if len(folders) < 2:
    problem = f"PGMs of one person only, {folders[0][-1]!r}," if folders else "no PGMs"
    raise InputError(f"{problem} one or two folders below {shown(root)}: add people, or {_HELP}")
  return {it: sorted(people[it], key=lambda file: _natural_key(file.parts)) for it in folders}


def _natural_key(parts: tuple[str, ...]) -> tuple:
  """Sorts paths with the numbers in them by value: s2 before s10."""
  return [natural_pieces(part) for part in parts], parts


def _is_image(parts: tuple[str, ...]) -> bool:
  """Whether a path below the root is that of a person's image: one or two folders deep."""
  is_deep = 2 <= len(parts) <= 3 and not any(map(_HIDDEN.match, parts))
  return is_deep and parts[-1].lower().endswith(".pgm")


def _digest_at(path: str | os.PathLike) -> str | None:
  """The pixels' digest of a zip, or None where it is missing or cannot be used."""
  with contextlib.suppress(InputError):
    return pixel_digest(load_att(path))
