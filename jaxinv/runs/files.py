"""Writing files so that none is ever seen half written: beside it first, then renamed."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxinv.runs import manifest


def write_file(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
  """Calls `write` with a new file, and puts that in `path`'s place once it is whole and on disk.

  In a run's folder the file is listed in the run's manifest first.

  Args:
    path: where the file shall stand; its folder is made.
    write: writes the contents to an open binary file.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  manifest.add(path)
  beside = manifest.unfinished(path)
  try:
    with open(beside, "wb") as file:
      write(file)
      file.flush()
      os.fsync(file.fileno())
    os.replace(beside, path)
  finally:
    beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
  """Writes a text file, whole or not at all."""
  write_file(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
  """Writes JSON, whole or not at all; refuses NaN, which is none."""
  write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes named arrays as .npz, whole or not at all. Names may contain slashes."""
  write_file(path, lambda file: np.savez(file, **arrays))


def read_npz(path: Path) -> dict[str, np.ndarray]:
  """Reads all arrays of an .npz, its checksums verified; objects are never unpickled."""
  with np.load(path, allow_pickle=False) as stored:
    return {name: stored[name] for name in stored.files}


def read_json(path: Path) -> Any | None:
  """Reads JSON; None where the file is not there or holds none."""
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError, RecursionError):
    return None


def sha256(path: Path) -> str:
  """The SHA-256 of a file's contents."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
