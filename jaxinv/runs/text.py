"""Numbers, intervals and lists as words: one way to write each, in pages and in figures."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from jaxinv.metrics.stats import Interval


def number(value: float | np.number | None, digits: int = 3, sign: str = "") -> str:
  """A number with fixed digits, without a minus before a zero; nothing where there is none.

  Args:
    value: the number.
    digits: behind the point.
    sign: `+` to write a plus too.

  Example:
    >>> number(-0.0001), number(0.5, 2, "+"), number(None)
    ('0.000', '+0.50', '')
  """
  if value is None or not math.isfinite(value):
    return ""
  return f"{round(float(value), digits) + 0.0:{sign}.{digits}f}"


def significant(value: float | np.number | None, digits: int = 6) -> str:
  """A number with so many significant digits; nothing where there is none."""
  return "" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def interval(found: Interval | Mapping | None, digits: int = 3, sign: str = "") -> str:
  """A mean with its interval; nothing where there is no mean.

  Args:
    found: an interval, or a cell of summary.json.
    digits: behind the point.
    sign: `+` to write a plus too.

  Example:
    >>> interval({"mean": 0.965, "low": 0.962, "high": 0.969, "n": 8})
    '0.965 (0.962 to 0.969)'
  """
  if found is None:
    return ""
  found = found if isinstance(found, Mapping) else found._asdict()
  mean, low, high = (number(found[name], digits, sign) for name in ("mean", "low", "high"))
  return f"{mean} ({low} to {high})" if low else mean


def percent(value: float | np.number | None, digits: int = 0) -> str:
  """A share in percent; nothing where there is none."""
  return "" if value is None or not math.isfinite(value) else f"{value:.{digits}%}"


def count(amount: int, noun: str) -> str:
  """An amount with its noun.

  Example:
    >>> count(1, "seed"), count(1024, "class")
    ('1 seed', '1,024 classes')
  """
  return f"{amount:,} {noun if amount == 1 else plural(noun)}"


def plural(noun: str) -> str:
  """The plural of a regular noun: `classes`, `units`."""
  return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def listed(words: Iterable[str]) -> str:
  """A list in words.

  Example:
    >>> listed(["a", "b", "c"]), listed([])
    ('a, b and c', 'none')
  """
  *most, last = list(words) or ["none"]
  return f"{', '.join(most)} and {last}" if most else last


def span(values: Iterable[float], digits: int = 2) -> str:
  """The smallest and the largest of some values.

  Example:
    >>> span([0.91, 0.29, 0.5])
    '0.29 to 0.91'
  """
  values = list(values)
  low, high = (number(end(values), digits) for end in (min, max))
  return low if low == high else f"{low} to {high}"


FILTERS = {
  function.__name__: function
  for function in (number, significant, interval, percent, count, plural, listed, span)
}
