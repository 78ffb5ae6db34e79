"""One table of hyperparameters: it has them all, and what follows from it is consistent."""

import math

import pytest

from jaxinv.errors import InputError
from jaxinv.training.hyper import (
  FIELDS,
  IN_SPAN,
  NEUTRAL,
  ON_RELEASE,
  OUTSIDE,
  check_hyper,
  program_words,
  used,
)
from jaxinv.types import Hyper


def test_the_table_has_every_field_and_the_usual_values_change_nothing_and_are_in_range():
  assert tuple(FIELDS) == Hyper._fields
  assert {name: getattr(Hyper(), name) for name in NEUTRAL} == NEUTRAL
  assert set(FIELDS) - set(NEUTRAL) == {"learning_rate", "momentum", "init_scale"}
  check_hyper(Hyper())
  assert not used(Hyper()) and not program_words(Hyper())


def test_what_is_used_is_what_is_not_as_usual():
  assert used(Hyper(3.0, 0.5, init_scale=9.0)) == set()
  for name in NEUTRAL:
    assert used(Hyper(**{name: 0.5})) == {name}


def test_all_that_may_be_left_out_acts_in_one_of_three_ways():
  assert OUTSIDE == ("input_noise", "dropout", "dp_clip", "dp_noise")
  assert ON_RELEASE == ("release_noise", "release_bits")
  assert {"weight_decay", "label_smoothing", "clip_norm", "steps"} == IN_SPAN
  assert set(NEUTRAL) == {*OUTSIDE, *ON_RELEASE, *IN_SPAN}


@pytest.mark.parametrize("value", [math.nan, -math.inf, -1, 1e39, True, "0.1"])
@pytest.mark.parametrize("name", FIELDS)
def test_numbers_out_of_range_are_refused_with_their_range_in_one_line(name, value):
  endless = name in ("clip_norm", "dp_clip", "steps")
  if endless and value == 1e39:
    value = 0 if name != "steps" else 1.5
  with pytest.raises(InputError, match=f"^{name}=.* is out of range: give a number") as caught:
    check_hyper(Hyper()._replace(**{name: value}))
  assert "\n" not in str(caught.value)


def test_noise_in_units_of_no_bound_is_refused():
  with pytest.raises(InputError, match="give dp_clip too"):
    check_hyper(Hyper(dp_noise=1.0))
  check_hyper(Hyper(dp_noise=1.0, dp_clip=2.0))
