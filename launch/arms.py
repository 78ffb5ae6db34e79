"""The grammar of an arm: `NAME:key=value,key=value`."""

import math
import re
from collections.abc import Callable, Container, Sequence

from jaxinv.errors import InputError, choose, named, named_object
from jaxinv.experiments.settings import Arm
from jaxinv.training.hyper import FIELDS
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.types import Hyper

# Of each key: which numbers are in range, and that in words.
Ranges = dict[str, tuple[Callable[[float], bool], str]]

_LARGEST = 1e9
_RANGES: Ranges = {name: (field.accepts, field.range) for name, field in FIELDS.items()}
# The same of what only networks have.
_NETWORK_RANGES: Ranges = {
  "width_factor": (lambda x: 0 < x <= 16, "above 0 and at most 16"),
  "adversary_radius": (lambda x: 0 <= x <= _LARGEST, "at least 0 and at most 1e9"),
  "copies": (lambda x: 1 <= x <= 1000 and x == int(x), "that is whole, from 1 to 1000"),
  "adversary_steps": (lambda x: 1 <= x <= 1000 and x == int(x), "that is whole, from 1 to 1000"),
}
_ARM_RANGES = _RANGES | _NETWORK_RANGES


def parse_arms(texts: Sequence[str]) -> tuple[Arm, ...]:
  """Parses arms, each `NAME:key=value,key=value`.

  Args:
    texts: one a flag.

  Returns:
    The arms in order.

  Raises:
    InputError: what is wrong, in which arm, and what would be right.
  """
  arms = tuple(map(parse_arm, texts))
  refuse_twins([arm.name for arm in arms])
  return arms


def refuse_twins(names: Sequence[str], flag: str = "arm") -> None:
  """Raises InputError where two arms, or what else the flag gives, have one name."""
  for i, name in enumerate(names):
    # Names become file names, and on some systems those do not tell cases apart.
    if name.lower() in map(str.lower, names[:i]):
      raise InputError(f"--{flag}: '{name}' is named twice: give each {flag} a name of its own")


def parse_arm(text: str) -> Arm:
  """Parses one arm; see `parse_arms`."""
  name, values = split_arm(text, ("optimizer", *Hyper._fields))
  optimizer = values.pop("optimizer", "sgd")
  with named(f"--arm {name}"):
    if ":" in optimizer:
      optimizer = named_object(optimizer, "optimizer", Callable)
    else:
      choose("optimizer", optimizer, OPTIMIZERS)
  refuse_momentum(f"--arm {name}", optimizer, values)
  return Arm(
    name, optimizer, Hyper(**{k: number(f"--arm {name}", k, v) for k, v in values.items()})
  )


def refuse_momentum(where: str, optimizer: str, keys: Container[str]) -> None:
  """Raises InputError where plain SGD is given a momentum, which it would not use."""
  if optimizer == "sgd" and "momentum" in keys:
    raise InputError(f"{where}: sgd has no momentum: give optimizer=momentum")


def split_arm(text: str, keys: Sequence[str], flag: str = "arm") -> tuple[str, dict[str, str]]:
  """Takes an arm apart into its name and what is given for each key.

  Args:
    text: `NAME:key=value,key=value`.
    keys: those that there are.
    flag: what the arm was given by, for messages.

  Returns:
    The name, and texts by key.

  Raises:
    InputError: what is wrong, in which arm, and what would be right.
  """
  name, _, rest = text.partition(":")
  if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name) or name.lower() == "targets":
    raise InputError(
      f"--{flag} '{text}': give it as NAME:key=value,key=value, the name at most 64 letters, "
      "digits, '_', '-' and '.', and not 'targets'"
    )
  values: dict[str, str] = {}
  for part in filter(None, rest.split(",")):
    key, equals, value = part.partition("=")
    if key in keys and not equals:
      raise InputError(f"--{flag} {name}: '{key}' has no value: give {key}=value")
    if key not in keys:
      raise InputError(
        f"--{flag} {name}: unknown key '{part}': give key=value with a key of {', '.join(keys)}"
      )
    if key in values:
      raise InputError(f"--{flag} {name}: '{key}' is given twice")
    values[key] = value
  return name, values


def parse_grid(texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
  """Parses a grid, each axis `KEY=value,value`.

  Args:
    texts: one a flag.

  Returns:
    The values by key, in order.

  Raises:
    InputError: what is wrong, on which axis, and what would be right.
  """
  grid: dict[str, tuple[float, ...]] = {}
  for text in texts:
    key, equals, rest = text.partition("=")
    if not equals or key not in _RANGES:
      known = ", ".join(_RANGES)
      raise InputError(f"--grid '{text}': give it as KEY=value,value with a key of {known}")
    if key in grid:
      raise InputError(f"--grid: '{key}' is given twice")
    values = tuple(number("--grid", key, value) for value in rest.split(","))
    # Cells are named by their values in six digits, and names become file names.
    if len({f"{value:g}" for value in values}) < len(values):
      raise InputError(f"--grid '{text}': a value is given twice")
    grid[key] = values
  return grid


def number(where: str, key: str, text: str, ranges: Ranges = _ARM_RANGES) -> float:
  """The number given for a key, if it makes sense there; raises InputError else."""
  accept, words = ranges[key]
  try:
    value = float(text)
  except ValueError:
    raise InputError(f"{where}: {key}={text} is not a number") from None
  if math.isnan(value) or not accept(value):
    raise InputError(f"{where}: {key}={text} is out of range: give a number {words}")
  return value
