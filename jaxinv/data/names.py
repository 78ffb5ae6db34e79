"""Names of files and folders: in their natural order, and as they can be shown."""

import os
import re


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
