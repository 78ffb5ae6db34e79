"""The one exception that means: the user can mend this."""

import contextlib
from collections.abc import Iterator


class InputError(ValueError):
  """What the user gave cannot be used: says in one line what, where, and what to do.

  The launch scripts print the message alone, without a traceback, and exit with status 1.
  """


@contextlib.contextmanager
def named(what: str) -> Iterator[None]:
  """Puts before the message of an InputError of this block what it is about."""
  try:
    yield
  except InputError as error:
    raise InputError(f"{what}: {error}") from None
