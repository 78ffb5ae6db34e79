"""Numbers, intervals and lists as words."""

import math

import numpy as np
import pytest

from jaxinv.metrics.stats import Interval
from jaxinv.runs import text


@pytest.mark.parametrize(
  ("value", "arguments", "words"),
  [
    (0.12345, (), "0.123"),
    (-0.0001, (), "0.000"),
    (-0.0001, (3, "+"), "+0.000"),
    (0.5, (2, "+"), "+0.50"),
    (-12.0, (0,), "-12"),
    (np.float32(0.25), (), "0.250"),
    (None, (), ""),
    (math.nan, (), ""),
    (math.inf, (), ""),
  ],
)
def test_a_number_has_fixed_digits_and_no_minus_before_a_zero(value, arguments, words):
  assert text.number(value, *arguments) == words


def test_an_interval_is_the_same_from_a_tuple_and_from_a_cell():
  found = Interval(0.9651, 0.9619, 0.9688, 8)
  for one in (found, found._asdict()):
    assert text.interval(one) == "0.965 (0.962 to 0.969)"
    assert text.interval(one, 2, "+") == "+0.97 (+0.96 to +0.97)"
  assert text.interval(Interval(0.5, None, None, 1)) == "0.500"
  assert text.interval(Interval(None, None, None, 0)) == text.interval(None) == ""


def test_other_numbers():
  assert text.significant(1234.5678, 3) == "1.23e+03" and text.significant(None) == ""
  assert text.percent(0.125) == "12%" and text.percent(0.125, 1) == "12.5%"
  assert text.percent(None) == text.percent(math.nan) == ""


def test_nouns_and_lists():
  assert text.count(1, "seed") == "1 seed" and text.count(0, "seed") == "0 seeds"
  assert text.count(2048, "class") == "2,048 classes"
  assert text.listed(["a"]) == "a" and text.listed(["a", "b"]) == "a and b"
  assert text.listed(iter("abc")) == "a, b and c" and text.listed([]) == "none"
  assert text.span([0.91, 0.29]) == "0.29 to 0.91" and text.span([0.5, 0.501]) == "0.50"
