"""Files that may be missing or broken: errors in one line, names to show, places, and a download.

What is downloaded is believed only once the caller has looked at it.
"""

import contextlib
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from tarfile import TarError
from zipfile import BadZipFile

from jaxinv.errors import InputError

WHOLE = "put a readable, whole copy in its place"

# All but the first are what an unsound archive makes gzip, tarfile and zipfile raise.
_ERRORS = (OSError, EOFError, OverflowError, RuntimeError, ValueError)
_ERRORS += (zlib.error, BadZipFile, TarError)


@contextlib.contextmanager
def explained(
  what: str, remedy: str = WHOLE, errors: tuple[type[Exception], ...] = _ERRORS
) -> Iterator[None]:
  """Turns what reading, unpacking and downloading raise into an InputError: cannot do `what`.

  Args:
    what: what is done in it, as in "read some/file".
    remedy: what the user can do where that fails.
    errors: the exceptions that are the file's fault.

  Raises:
    InputError: it failed; one raised in it goes on as it is.
  """
  try:
    yield
  except InputError:
    raise
  except errors as error:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if type(error).__name__ == "UnidentifiedImageError":  # Pillow's names a Python object.
      reason = "it is no image of a known format"
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


def data_dir(given: str | os.PathLike | None = None) -> Path:
  """The folder of the data: the one given, else the variable JAXINV_DATA's, else `cache_dir()`."""
  return Path(given or os.environ.get("JAXINV_DATA") or cache_dir()).expanduser()


def cache_dir() -> Path:
  """The user's cache folder for jaxinv."""
  import pooch  # A tenth of a second to import.

  return Path(pooch.os_cache("jaxinv"))


def natural_pieces(name: str) -> list[tuple[str, int, str]]:
  """A key that sorts names with the numbers in them by value: s2 before s10.

  Args:
    name: of a file or folder, of any characters.

  Returns:
    The key; the same for names that differ in case or leading zeros only.
  """
  # Numbers by length and digits: int() refuses those that are very long.
  pieces = re.findall("([^0-9]*)0*([0-9]*)", name.casefold())
  return [(text, len(number), number) for text, number in pieces]


def shown(text: str | os.PathLike) -> str:
  """A path or a message on one line, whatever its characters."""
  return "".join(c if c.isprintable() else repr(c)[1:-1] for c in os.fspath(text))
