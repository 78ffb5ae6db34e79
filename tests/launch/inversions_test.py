"""The grammar of an inversion: presets, changes to them, a user's own recipes, and refusals."""

import math

import numpy as np
import pytest

from jaxinv.attacks.recipes import INVERSIONS, STARTS, Inversion, for_resolution
from jaxinv.errors import InputError
from jaxinv.runs import files
from launch.arms import refuse_twins
from launch.inversions import _TAKEN, parse_inversion, parse_inversions

EVERY_KEY = (
  "start=noise,steps=7,step_size=0.25,radius=3,scales=4-2-1,total_variation=0.5,statistics=0.125,"
  "jitter=2,flip=true,spread=0.375"
)
EVERY_VALUE = Inversion("noise", 7, 0.25, 3.0, (4, 2, 1), 0.5, 0.125, 2, True, 0.375)


@pytest.mark.parametrize("resolution", [8, 16, 32])
@pytest.mark.parametrize("name", INVERSIONS)
def test_a_preset_is_made_to_suit_the_resolution(name, resolution):
  expected = name, for_resolution(INVERSIONS[name], resolution)
  for text in (name, f"{name}:", f"{name}:,"):
    assert parse_inversion(text, (resolution, resolution)) == expected


def test_what_a_user_changes_in_a_preset_is_taken_as_it_is_and_the_rest_suits_the_resolution():
  preset = for_resolution(INVERSIONS["priors"], 32)
  assert preset.step_size == 0.2 and preset.jitter == 2  # So that scaling either would be seen.
  _, recipe = parse_inversion("priors:step_size=0.1,total_variation=0.001", (32, 32))
  assert recipe == preset._replace(step_size=0.1, total_variation=0.001)
  _, recipe = parse_inversion("priors:jitter=1,flip=false", (32, 32))
  assert recipe == preset._replace(jitter=1, flip=False)


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_a_recipe_of_one_s_own_is_pgd_but_for_what_is_given(resolution):
  pgd = for_resolution(INVERSIONS["pgd"], resolution)
  assert parse_inversion("mine-1.b:steps=50", (resolution, resolution)) == (
    "mine-1.b",
    pgd._replace(steps=50),
  )
  assert parse_inversion("Pgd2:start=grey", (resolution, resolution)) == (
    "Pgd2",
    pgd._replace(start="grey"),
  )


@pytest.mark.parametrize("resolution", [8, 32])
@pytest.mark.parametrize("name", ["mine", "ball"])
def test_every_field_is_a_key_and_is_taken_as_written(name, resolution):
  found, recipe = parse_inversion(f"{name}:{EVERY_KEY}", (resolution, resolution))
  assert (found, recipe) == (name, EVERY_VALUE)
  # Static arguments: another type would be another program.
  assert [type(value) for value in recipe] == [type(value) for value in EVERY_VALUE]


@pytest.mark.parametrize(
  ("text", "field", "value"),
  [
    *((f"start={start}", "start", start) for start in STARTS),
    ("steps=1", "steps", 1),
    ("steps=1e6", "steps", 10**6),
    ("step_size=1e9", "step_size", 1e9),
    ("radius=inf", "radius", math.inf),
    ("radius=1e-9", "radius", 1e-9),
    ("scales=1", "scales", (1,)),
    ("scales=16-1", "scales", (16, 1)),
    ("total_variation=0", "total_variation", 0.0),
    ("statistics=1e9", "statistics", 1e9),
    ("jitter=0", "jitter", 0),
    ("jitter=15", "jitter", 15),
    ("flip=false", "flip", False),
    ("spread=0", "spread", 0.0),
  ],
)
def test_the_ends_of_what_makes_sense_make_sense(text, field, value):
  assert getattr(parse_inversion(f"x:{text}", (16, 16))[1], field) == value


def test_a_ball_can_be_taken_from_a_preset():
  assert parse_inversion("ball:radius=inf", (16, 16))[1] == INVERSIONS["pgd"]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "--inversion '': give it as NAME:key=value"),
    (":steps=1", "give it as NAME:key=value"),
    ("a b:steps=1", "give it as NAME:key=value"),
    ("../a:steps=1", "give it as NAME:key=value"),
    ("targets:steps=1", "not 'targets'"),
    ("bal", "--inversion bal: there is no such preset: choose from pgd, pgd_grey,.* bal:key=value"),
    ("Ball", "--inversion Ball: there is no such preset"),
    ("mine:", "--inversion mine: there is no such preset"),
    ("mine:,", "--inversion mine: there is no such preset"),
    ("model:steps=1", "--inversion model: the results have another use for this name"),
    ("Diverged:steps=1", "--inversion Diverged: the results have another use"),
    ("file:steps=1", "--inversion file: the results have another use"),
    ("a:rate=1", "--inversion a: unknown key 'rate=1'.*key of start, steps, .*, spread"),
    ("a:steps", "--inversion a: 'steps' has no value: give steps=value"),
    ("pgd:4-2-1", "--inversion pgd: unknown key '4-2-1'"),
    ("a:scales=4,2,1", "--inversion a: unknown key '2'"),
    ("a:steps=1,steps=2", "--inversion a: 'steps' is given twice"),
    ("a:start=men", "--inversion a: unknown start 'men': choose from grey, mean, noise"),
    ("a:start=", "unknown start ''"),
    ("a:steps=0", "--inversion a: steps=0 is out of range: give a number that is whole, from 1 to"),
    ("a:steps=-1", "steps=-1 is out of range"),
    ("a:steps=1.5", "steps=1.5 is out of range.*whole"),
    ("a:steps=1000001", "steps=1000001 is out of range.*from 1 to 1000000"),
    ("a:steps=inf", "steps=inf is out of range"),
    ("a:steps=nan", "steps=nan is out of range"),
    ("a:steps=", "--inversion a: steps= is not a number"),
    ("a:step_size=0", "step_size=0 is out of range: give a number above 0"),
    ("a:step_size=-0.1", "step_size=-0.1 is out of range"),
    ("a:step_size=inf", "step_size=inf is out of range.*at most 1e9"),
    ("a:step_size=nan", "step_size=nan is out of range"),
    ("a:step_size=long", "step_size=long is not a number"),
    ("a:radius=0", "radius=0 is out of range.*above 0 and at most 1e9, or inf for no ball"),
    ("a:radius=-inf", "radius=-inf is out of range"),
    ("a:radius=1e39", "radius=1e39 is out of range"),  # Infinite in the images' own precision.
    ("a:radius=nan", "radius=nan is out of range"),
    ("a:scales=", "--inversion a: scales= is not valid.*such as 4-2-1"),
    ("a:scales=4-", "scales=4- is not valid"),
    ("a:scales=-2-1", "scales=-2-1 is not valid"),
    ("a:scales=2.0-1", "scales=2.0-1 is not valid"),
    ("a:scales=4-nan-1", "scales=4-nan-1 is not valid"),
    ("a:scales=10000-1", "scales=10000-1 is not valid"),
    ("a:scales=4-2", "--inversion a: scales fall, and end at 1, such as 4-2-1; not '4-2'"),
    ("a:scales=1-2-1", "--inversion a: scales fall"),
    ("a:scales=2-2-1", "--inversion a: scales fall"),
    ("a:scales=2-1-0", "--inversion a: scales fall"),
    ("a:scales=3-1", "--inversion a: scales: blocks of 3 do not fill 16 x 16 pixels"),
    ("a:total_variation=-1", "total_variation=-1 is out of range: give a number at least 0"),
    ("a:total_variation=inf", "total_variation=inf is out of range"),
    ("a:statistics=-1", "statistics=-1 is out of range"),
    ("a:statistics=nan", "statistics=nan is out of range"),
    ("a:jitter=-1", "--inversion a: jitter=-1 is out of range.*whole and not negative"),
    ("a:jitter=0.5", "jitter=0.5 is out of range"),
    ("a:jitter=inf", "jitter=inf is out of range"),
    ("a:jitter=nan", "jitter=nan is out of range"),
    ("a:jitter=16", "--inversion a: jitter is from 0 to less than the image's 16 x 16 pixels"),
    ("a:flip=yes", "--inversion a: flip=yes is not valid: give true or false"),
    ("a:flip=1", "flip=1 is not valid"),
    ("a:flip=True", "flip=True is not valid"),
    ("a:spread=-0.1", "spread=-0.1 is out of range"),
    ("a:spread=inf", "spread=inf is out of range"),
    ("a:spread=nan", "spread=nan is out of range"),
  ],
)
def test_what_is_wrong_is_said_in_one_line(text, message):
  with pytest.raises(InputError, match=message) as refused:
    parse_inversion(text, (16, 16))
  assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", INVERSIONS)
def test_a_misspelt_preset_is_refused_with_the_list_of_presets(name):
  with pytest.raises(InputError, match=", ".join(INVERSIONS)):
    parse_inversion(f"{name}_", (16, 16))


def test_a_preset_that_does_not_suit_the_resolution_is_named():
  with pytest.raises(InputError, match="--inversion coarse_to_fine: scales: blocks of 4"):
    parse_inversion("coarse_to_fine", (10, 10))
  assert parse_inversion("coarse_to_fine:scales=2-1", (10, 10))[1].scales == (2, 1)


def test_a_name_that_is_not_refused_can_be_that_of_an_array(tmp_path):
  """And the control: numpy's own words cannot."""
  array = np.arange(3.0)
  for name in ("pgd", "a.b-c", "arr_0", "args", "kwds", "self"):
    parse_inversion(f"{name}:steps=1", (16, 16))
    files.write_npz(tmp_path / "x.npz", {name: array})
    np.testing.assert_array_equal(files.read_npz(tmp_path / "x.npz")[name], array)
  for name in _TAKEN[2:]:
    with pytest.raises((TypeError, ValueError, KeyError)):
      files.write_npz(tmp_path / "x.npz", {name: array})
      files.read_npz(tmp_path / "x.npz")[name]


def test_inversions_keep_their_order():
  recipes = parse_inversions(["priors", "mine:steps=5", "ball:radius=2"], (16, 16))
  assert list(recipes) == ["priors", "mine", "ball"]
  assert recipes["ball"] == INVERSIONS["ball"]._replace(radius=2.0)
  assert parse_inversions([], (16, 16)) == {}


@pytest.mark.parametrize("second", ["ball", "ball:radius=2", "Ball:steps=3"])
def test_an_inversion_named_twice_is_refused_whatever_its_case(second):
  with pytest.raises(
    InputError, match=r"--inversion: '.all' is named twice: give each inversion a"
  ):
    parse_inversions(["ball", "pgd", second], (16, 16))


def test_twins_are_told_of_by_their_flag():
  refuse_twins(["a", "b"], "inversion")
  with pytest.raises(InputError, match=r"^--arm: 'A' is named twice: give each arm a name"):
    refuse_twins(["a", "A"])
