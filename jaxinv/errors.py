"""The one exception that means: the user can mend this."""

import contextlib
import importlib
import operator
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

Value = TypeVar("Value")


class InputError(ValueError):
  """What the user gave cannot be used: says in one line what, where, and what to do.

  The launch scripts print the message alone, without a traceback, and exit with status 1.

  Example:
    >>> try:
    ...   choose("loss", "hinge", {"softmax": 1, "sigmoid": 2})
    ... except InputError as error:
    ...   print(error)
    unknown loss 'hinge': choose from softmax, sigmoid
  """


@contextlib.contextmanager
def named(what: str) -> Iterator[None]:
  """Puts before the message of an InputError of this block what it is about."""
  try:
    yield
  except InputError as error:
    raise InputError(f"{what}: {error}") from None


@contextlib.contextmanager
def own_code(what: str) -> Iterator[None]:
  """Makes whatever code of the user's own raises in this block an InputError of one line.

  Args:
    what: which code it is, for the message: `attack 'blur'`.

  Raises:
    InputError: the kind of what was raised, and the first line that it says.

  Example:
    >>> try:
    ...   with own_code("--model: mine:net(4)"):
    ...     [].pop()
    ... except InputError as error:
    ...   print(error)
    --model: mine:net(4): IndexError: pop from empty list
  """
  try:
    with named(what):
      yield
  except InputError:
    raise
  except Exception as error:
    first = next(iter(str(error).splitlines()), "")
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    raise InputError(f"{what}: {said}") from error


def choose(kind: str, name: str | Value, known: Mapping[str, Value]) -> Value:
  """What a name stands for, or an error that lists the names there are.

  Args:
    kind: what is named, for the message: `loss`.
    name: the name; what is not a string stands for itself.
    known: from each name to what it stands for.

  Returns:
    What the name stands for.

  Raises:
    InputError: the name is not among those known.

  Example:
    >>> choose("loss", "softmax", {"softmax": 1, "sigmoid": 2})
    1
  """
  if not isinstance(name, str):
    return name
  if name not in known:
    raise InputError(f"unknown {kind} {name!r}: choose from {', '.join(known)}")
  return known[name]


def resolve(kind: str, given: Iterable[str | Value], known: Sequence[Value]) -> tuple[Value, ...]:
  """Values given by name or as values of the caller's own, as values.

  Args:
    kind: what is given, for the message: `metric`.
    given: names of those known, and values of the same type, mixed; or one alone.
    known: the values that have a name; each says it as `name`.

  Returns:
    The values, in the order given.

  Raises:
    InputError: a name is unknown, or two values have one name.
  """
  own = type(known[0])
  given = (given,) if isinstance(given, str | own) else given
  by_name = {value.name: value for value in known}
  found = tuple(it if isinstance(it, own) else choose(kind, str(it), by_name) for it in given)
  if twice := [name for name, count in Counter(it.name for it in found).items() if count > 1]:
    raise InputError(f"{kind} '{twice[0]}' is named twice")
  return found


def named_object(spec: str, what: str, kind: type = object) -> Any:
  """Imports an object of the user's own code, from the current folder too, as `python -m` does.

  Args:
    spec: `package.module:name`.
    what: what it is given for, for the message: `--attack`.
    kind: the type that it must have; `collections.abc.Callable` for a function.

  Returns:
    The object.

  Raises:
    InputError: the module cannot be imported, has no such name, or the object has another type.

  Example:
    >>> named_object("math:pi", "--number", float)
    3.141592653589793
  """
  if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", spec):
    raise InputError(f"{what}: {spec!r} is not of the form package.module:name")
  module, name = spec.split(":")
  try:
    if os.getcwd() not in sys.path and "" not in sys.path:
      sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    imported = importlib.import_module(module)
  except (Exception, SystemExit) as error:  # The module's code may raise anything.
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    raise InputError(f"{what}: cannot import {module} ({reason}): mend or install it") from None
  try:
    found = operator.attrgetter(name)(imported)
  except AttributeError:
    raise InputError(f"{what}: {module} has no {name!r}: check the spelling") from None
  if not isinstance(found, kind):
    raise InputError(
      f"{what}: {spec} is of type {type(found).__name__}, and must be of type {kind.__name__}"
    )
  return found
