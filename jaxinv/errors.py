"""The one exception that means: the user can mend this."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import TypeVar

Value = TypeVar("Value")


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


def choose(kind: str, name: str, known: Mapping[str, Value]) -> Value:
  """What a name stands for, or an error that lists the names there are.

  Args:
    kind: what is named, for the message: `loss`.
    name: the name.
    known: from each name to what it stands for.

  Returns:
    What the name stands for.

  Raises:
    InputError: the name is not among those known.

  Example:
    >>> choose("loss", "softmax", {"softmax": 1, "sigmoid": 2})
    1
  """
  if name not in known:
    raise InputError(f"unknown {kind} '{name}': choose from {', '.join(known)}")
  return known[name]
