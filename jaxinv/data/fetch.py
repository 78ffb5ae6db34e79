"""Data files that may be missing or broken: what goes wrong is told in one line, and a download.

What is downloaded is believed only once the caller has looked at it.
"""

import contextlib
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from tarfile import TarError
from zipfile import BadZipFile

from jaxinv.data.names import shown
from jaxinv.errors import InputError

WHOLE = "put a readable, whole copy in its place"

# All but the first are what an unsound archive makes gzip, tarfile and zipfile raise.
_ERRORS = (OSError, EOFError, OverflowError, RuntimeError, ValueError)
_ERRORS += (zlib.error, BadZipFile, TarError)


@contextlib.contextmanager
def explained(what: str, remedy: str = WHOLE) -> Iterator[None]:
  """Turns what reading, unpacking and downloading raise into an InputError: cannot do `what`.

  Args:
    what: what is done in it, as in "read some/file".
    remedy: what the user can do where that fails.

  Raises:
    InputError: it failed; one raised in it goes on as it is.
  """
  try:
    yield
  except InputError:
    raise
  except _ERRORS as error:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise InputError(f"cannot {shown(what)} ({shown(reason)}): {remedy}") from error


def download(
  url: str, target: Path, is_right: Callable[[str], bool], name: str, remedy: str
) -> None:
  """Fetches a file to its place, in one step once it is whole and right.

  Args:
    url: where it comes from.
    target: where it is to lie, in place of any file that is there; its folder is made if missing.
    is_right: whether the file at a path is the one that is wanted.
    name: what is wanted, for messages.
    remedy: what the user can do without it.

  Raises:
    InputError: it cannot be fetched or written, or is not right. Nothing half-written stays.
  """
  with explained(f"download {url} to {target}", remedy):
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that putting it there is one step; hidden, so that no loader looks in.
    with tempfile.TemporaryDirectory(prefix=".fetch_", dir=target.parent) as folder:
      fetched = _retrieve(url, target.name, folder)
      if not is_right(fetched):
        raise InputError(f"what came from {url} is not {name}, and is removed: {remedy}")
      os.replace(fetched, target)


def _retrieve(url: str, name: str, folder: str) -> str:
  """Downloads a file into a folder, by that name."""
  import pooch  # Only downloading needs it.

  logger = pooch.get_logger()
  level = logger.level
  logger.setLevel("WARNING")  # It would tell users to write the hash into their code.
  try:
    return pooch.retrieve(url, known_hash=None, fname=name, path=folder)
  finally:
    logger.setLevel(level)
