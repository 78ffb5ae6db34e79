"""One table of a run's hyperparameters: neutral value, range, where each acts; all else follows.

A hyperparameter at its neutral value changes nothing. A program that leaves it out is quicker, and
trains the same model.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from jaxinv.errors import InputError
from jaxinv.types import Hyper

_LARGEST = 1e9


class Field(NamedTuple):
  """What is known of one hyperparameter.

  Attributes:
    accepts: whether a number is in its range.
    range: that range in words, after "give a number".
    acts: where: at the `start`, in the `loss`, in the `update`; on each `example` by itself, which
      leads out of the span of the data; on `release`.
    neutral: the value that changes nothing; None where every value counts.
    program: its word in the name of a program, where it needs one of its own because it costs every
      step or every look much, whatever its strength.
  """

  accepts: Callable[[float], bool]
  range: str
  acts: str
  neutral: float | None = None
  program: str = ""


def _between(low: int, high: int) -> tuple[Callable[[float], bool], str]:
  return lambda x: low <= x < high, f"at least {low} and below {high}"


_AMOUNT = (lambda x: 0 <= x <= _LARGEST, "at least 0 and at most 1e9")

FIELDS: dict[str, Field] = {
  "learning_rate": Field(lambda x: 0 < x <= _LARGEST, "above 0 and at most 1e9", "update"),
  "momentum": Field(*_between(0, 1), "update"),
  "weight_decay": Field(*_AMOUNT, "update", 0.0),
  "init_scale": Field(*_AMOUNT, "start"),
  "label_smoothing": Field(lambda x: -1 < x < 1, "above -1 and below 1", "loss", 0.0),
  "clip_norm": Field(lambda x: x > 0, "above 0, inf for no clipping", "update", math.inf),
  "steps": Field(
    lambda x: x >= 0 and (x == math.inf or x == int(x)),
    "that is whole and not negative",
    "update",
    math.inf,
  ),
  "input_noise": Field(*_AMOUNT, "example", 0.0, "noise"),
  "dropout": Field(*_between(0, 1), "example", 0.0, "dropout"),
  "dp_clip": Field(lambda x: x > 0, "above 0, inf for no DP-SGD", "example", math.inf, "dp"),
  "dp_noise": Field(*_AMOUNT, "example", 0.0),
  "release_noise": Field(*_AMOUNT, "release", 0.0, "release"),
  "release_bits": Field(
    lambda x: x in (*range(1, 25), math.inf), "of bits from 1 to 24, or inf", "release", math.inf,
    "release",
  ),
}  # fmt: skip

NEUTRAL = {name: field.neutral for name, field in FIELDS.items() if field.neutral is not None}
# What leads out of the span of the data, or bounds each example by itself.
OUTSIDE = tuple(name for name, field in FIELDS.items() if field.acts == "example")
# What changes the parameters that are released, and not those that are trained.
ON_RELEASE = tuple(name for name, field in FIELDS.items() if field.acts == "release")
# What a step obeys unless it is told which of them its runs use; the others cost it much.
IN_SPAN = frozenset(NEUTRAL) - {*OUTSIDE, *ON_RELEASE}


def used(hyper: Hyper) -> frozenset[str]:
  """The hyperparameters that a way of training uses, of those that may be left out.

  Example:
    >>> sorted(used(Hyper(learning_rate=0.1, weight_decay=0.01, dropout=0.5)))
    ['dropout', 'weight_decay']
  """
  return frozenset(name for name, value in NEUTRAL.items() if getattr(hyper, name) != value)


def program_words(hyper: Hyper) -> tuple[str, ...]:
  """The words of a program's name for what costs it much, each once.

  Example:
    >>> program_words(Hyper(dropout=0.5, release_noise=0.1, release_bits=8))
    ('dropout', 'release')
  """
  own = used(hyper)
  words = [field.program for name, field in FIELDS.items() if name in own and field.program]
  return tuple(dict.fromkeys(words))


def check_hyper(hyper: Hyper) -> None:
  """Refuses hyperparameters that are out of range.

  Args:
    hyper: of one run, numbers.

  Raises:
    InputError: which one, its value, and its range.

  Example:
    >>> check_hyper(Hyper(dropout=1.5))
    Traceback (most recent call last):
    jaxinv.errors.InputError: dropout=1.5 is out of range: give a number at least 0 and below 1
  """
  for name, field in FIELDS.items():
    value = getattr(hyper, name)
    if isinstance(value, bool | str) or math.isnan(value) or not field.accepts(value):
      raise InputError(f"{name}={value} is out of range: give a number {field.range}")
  if "dp_noise" in used(hyper) and "dp_clip" not in used(hyper):
    raise InputError("dp_noise is in units of dp_clip: give dp_clip too")
