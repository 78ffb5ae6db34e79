"""The list of the files that a run has written, in its folder: what may be removed, and no more.

`manifest.txt` is a line for itself and then a line for each file, its path relative to the folder.
A file is listed before it appears, so that after a crash nothing of the run is unlisted. The list
is found from a file's own path, so that every writer keeps it, in each of several processes.
"""

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from jaxinv.errors import InputError

try:
  import fcntl
except ImportError:  # On Windows, where several processes cannot share one run.
  fcntl = None

NAME = "manifest.txt"
_HEADER = "# The files that a run of jaxinv has written here; --overwrite removes these alone."


def start(root: Path, names: Collection[str]) -> None:
  """Makes a folder's manifest, or replaces it.

  Args:
    root: the run's folder.
    names: the files that it lists.
  """
  beside = root / f".{NAME}.{os.getpid()}.tmp"
  beside.write_bytes(os.fsencode("\n".join([_HEADER, *names]) + "\n"))
  os.replace(beside, root / NAME)


def read(root: Path) -> list[str] | None:
  """The files that a folder's manifest lists, or None where the folder has none of ours.

  Raises:
    InputError: it lists what lies outside the folder, so it is not of our making.
  """
  path = root / NAME
  if not _is_ours(path):
    return None
  lines = os.fsdecode(path.read_bytes()).split("\n")
  # What stands behind the last line's end was cut short.
  names = [name for name in lines[1:-1] if name]
  for name in names:
    if not _is_inside(name):
      raise InputError(
        f"{path} lists {name!r}, which is not a file of this folder: jaxinv did not write that; "
        "nothing is touched, give another --out_dir"
      )
  return list(dict.fromkeys(names))


def add(path: Path) -> None:
  """Lists a file in the manifest of the run in whose folder it is going to be written.

  A file that is there already and is not the run's is set aside, as NAME.before. Where no folder
  above the file has a manifest, nothing is done.

  Args:
    path: of the file.
  """
  path = Path(os.path.abspath(path))
  root = next((folder for folder in path.parents if _is_ours(folder / NAME)), None)
  if root is None:
    return
  name = path.relative_to(root).as_posix()
  with _opened(root / NAME) as file:
    text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    line = os.fsencode(name)
    if line in whole.split(b"\n"):
      return
    if os.path.lexists(path):
      os.rename(path, _aside(path))
    file.truncate(file.seek(len(whole)))
    file.write(line + b"\n")
    file.flush()
    os.fsync(file.fileno())


def remove(root: Path, keep: Sequence[str] = (), below: str = "") -> None:
  """Removes the files that the manifest lists, one by one, and the folders that this empties.

  Nothing is removed through a symbolic link. What is left is what the manifest then lists.

  Args:
    root: the run's folder.
    keep: files that stay.
    below: remove only what is in this sub-folder; everything if empty.
  """
  names = read(root) or []
  gone = [name for name in names if name not in keep and name.startswith(f"{below}/" * bool(below))]
  folders = {parent for name in gone for parent in PurePosixPath(name).parents[:-1]}
  folders |= {PurePosixPath(below)} if below else set()
  for name in gone:
    if _is_reached_without_links(root, PurePosixPath(name).parent):
      _unlink(root / name)
      _remove_unfinished(root / name)
  for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
    if _is_reached_without_links(root, folder):
      with contextlib.suppress(OSError):  # It is not empty: somebody else's files are in it.
        (root / folder).rmdir()
  start(root, [name for name in names if name not in gone])


def remove_unfinished(root: Path) -> None:
  """Removes what a killed process had begun to write beside the files that are listed."""
  for name in read(root) or []:
    if _is_reached_without_links(root, PurePosixPath(name).parent):
      _remove_unfinished(root / name)


def unfinished(path: Path) -> Path:
  """Where a file is written before it takes its place."""
  return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _remove_unfinished(path: Path) -> None:
  pattern = re.compile(rf"\.{re.escape(path.name)}\.\d+\.tmp")
  with contextlib.suppress(OSError):
    for name in os.listdir(path.parent):
      if pattern.fullmatch(name):
        _unlink(path.parent / name)


def _unlink(path: Path) -> None:
  # A folder that has a listed file's name is not the run's.
  if path.is_symlink() or not path.is_dir():
    path.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
  aside, count = path.with_name(f"{path.name}.before"), 1
  while os.path.lexists(aside):
    count += 1
    aside = path.with_name(f"{path.name}.before{count}")
  return aside


def _is_ours(path: Path) -> bool:
  """Whether a file is a manifest that this program began."""
  try:
    if path.is_symlink() or not path.is_file():
      return False
    with open(path, "rb") as file:
      return file.read(len(_HEADER) + 1) == _HEADER.encode() + b"\n"
  except OSError:
    return False


def _is_inside(name: str) -> bool:
  path = PurePosixPath(name)
  odd = "\0" in name or "\\" in name or re.match("[A-Za-z]:", name) or name == "."
  return not (odd or path.is_absolute() or ".." in path.parts or str(path) != name)


def _is_reached_without_links(root: Path, folder: PurePosixPath) -> bool:
  steps = [root / parent for parent in (folder, *folder.parents[:-1])] if folder.parts else []
  return not any(step.is_symlink() for step in steps)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
  """The manifest to read and to append to, by one process at a time."""
  with open(path, "r+b") as file:
    if fcntl is not None:
      fcntl.flock(file, fcntl.LOCK_EX)
    yield file
