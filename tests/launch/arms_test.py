"""The grammar of an arm: what is right is taken as written, what is wrong is said in one line."""

import math

import pytest

from jaxinv.errors import InputError
from jaxinv.experiments.settings import Arm
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.types import Hyper
from launch.arms import parse_arm, parse_arms, parse_grid


def test_an_arm_is_taken_as_written():
  text = (
    "slow-1.b:optimizer=adamw,learning_rate=1e-3,momentum=0.5,weight_decay=0,init_scale=2,"
    "label_smoothing=-0.1,clip_norm=3"
  )
  assert parse_arm(text) == Arm("slow-1.b", "adamw", Hyper(1e-3, 0.5, 0.0, 2.0, -0.1, 3.0))


@pytest.mark.parametrize("text", ["a", "a:", "a:,", "a:optimizer=sgd"])
def test_what_is_not_given_has_its_default(text):
  assert parse_arm(text) == Arm("a", "sgd", Hyper())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_can_be_named(name):
  assert parse_arm(f"x:optimizer={name}").optimizer == name


def test_every_hyperparameter_is_a_key():
  numbers = (0.25, 0.5, 0.75, 1.5, 0.125, math.inf, 300, 0.1, 0.3, 2.5, 1.25, 0.01, 4)
  values = dict(zip(Hyper._fields, numbers, strict=True))
  text = ",".join(f"{key}={value}" for key, value in values.items())
  assert parse_arm(f"x:optimizer=adam,{text}").hyper == Hyper(**values)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "NAME:key=value"),
    (":optimizer=sgd", "NAME:key=value"),
    ("a b:optimizer=sgd", "NAME:key=value"),
    ("../a", "NAME:key=value"),
    (".hidden", "NAME:key=value"),
    ("é", "NAME:key=value"),
    ("a" * 65, "NAME:key=value"),
    ("targets", "not 'targets'"),
    ("Targets:", "not 'targets'"),
    ("a\n", "NAME:key=value"),
    ("a:rate=1", "--arm a: unknown key 'rate=1'.*learning_rate"),
    ("a:learning_rate", "--arm a: 'learning_rate' has no value"),
    ("a:=1", "unknown key '=1'"),
    ("a:name=b", "unknown key 'name=b'"),
    ("a:learning_rate=1,learning_rate=2", "--arm a: 'learning_rate' is given twice"),
    ("a:optimizer=sgd,optimizer=sgd", "'optimizer' is given twice"),
    ("a:optimizer=lion", "--arm a: unknown optimizer 'lion'.*sgd, momentum, nesterov, sgdw, adam"),
    ("a:optimizer=", "unknown optimizer ''"),
    ("a:momentum=0.5", "--arm a: sgd has no momentum.*optimizer=momentum"),
    ("a:learning_rate=fast", "--arm a: learning_rate=fast is not a number"),
    ("a:learning_rate=", "learning_rate= is not a number"),
    ("a:learning_rate=1=2", "learning_rate=1=2 is not a number"),
    ("a:learning_rate=0", "learning_rate=0 is out of range.*above 0"),
    ("a:learning_rate=-1", "learning_rate=-1 is out of range"),
    ("a:learning_rate=1e10", "at most 1e9"),
    ("a:learning_rate=inf", "at most 1e9"),
    ("a:learning_rate=nan", "learning_rate=nan is out of range"),
    ("a:optimizer=adam,momentum=1", "momentum=1 is out of range.*below 1"),
    ("a:optimizer=adam,momentum=-0.1", "momentum=-0.1 is out of range"),
    ("a:weight_decay=-1", "weight_decay=-1 is out of range.*at least 0"),
    ("a:weight_decay=inf", "weight_decay=inf is out of range"),
    ("a:init_scale=-1", "init_scale=-1 is out of range"),
    ("a:init_scale=2e9", "init_scale=2e9 is out of range"),
    ("a:label_smoothing=1", "label_smoothing=1 is out of range.*below 1"),
    ("a:label_smoothing=-1", "label_smoothing=-1 is out of range"),
    ("a:clip_norm=0", "clip_norm=0 is out of range.*above 0"),
    ("a:clip_norm=nan", "clip_norm=nan is out of range"),
    ("a:steps=1.5", "steps=1.5 is out of range.*whole"),
    ("a:steps=-1", "steps=-1 is out of range.*not negative"),
    ("a:steps=-inf", "steps=-inf is out of range"),
    ("a:input_noise=-0.1", "input_noise=-0.1 is out of range.*at least 0"),
    ("a:input_noise=inf", "input_noise=inf is out of range.*at most 1e9"),
    ("a:dropout=1", "dropout=1 is out of range.*below 1"),
    ("a:dropout=-0.5", "dropout=-0.5 is out of range.*at least 0"),
    ("a:dp_clip=0", "dp_clip=0 is out of range.*above 0, inf for no DP-SGD"),
    ("a:dp_clip=-1", "dp_clip=-1 is out of range"),
    ("a:dp_noise=-1", "dp_noise=-1 is out of range.*at least 0"),
    ("a:dp_noise=inf", "dp_noise=inf is out of range"),
    ("a:release_noise=-1", "release_noise=-1 is out of range.*at least 0"),
    ("a:release_noise=nan", "release_noise=nan is out of range"),
    ("a:release_bits=0", "release_bits=0 is out of range.*from 1 to 24, or inf"),
    ("a:release_bits=2.5", "release_bits=2.5 is out of range"),
    ("a:release_bits=25", "release_bits=25 is out of range"),
    ("a:release_bits=-inf", "release_bits=-inf is out of range"),
    ("a:release_bits=two", "release_bits=two is not a number"),
    ("a:dp_clip=1,dp_clip=2", "'dp_clip' is given twice"),
  ],
)
def test_what_is_wrong_is_said_in_one_line(text, message):
  with pytest.raises(InputError, match=message):
    parse_arm(text)


@pytest.mark.parametrize("second", ["a", "A:optimizer=adam"])
def test_an_arm_named_twice_is_refused_whatever_its_case(second):
  with pytest.raises(InputError, match="is named twice"):
    parse_arms(["a", "b", second])


def test_arms_keep_their_order():
  assert [arm.name for arm in parse_arms(["z", "a", "m"])] == ["z", "a", "m"]


@pytest.mark.parametrize(
  ("key", "texts"),
  [
    ("steps", ("0", "1", "2e3", "inf")),
    ("input_noise", ("0", "1e9")),
    ("dropout", ("0", "0.999")),
    ("dp_clip", ("1e-30", "1e30", "inf")),
    ("dp_noise", ("0", "1e9")),
    ("release_noise", ("0", "1e9")),
    ("release_bits", ("1", "24", "3.0", "inf")),
  ],
)
def test_the_ends_of_what_makes_sense_make_sense(key, texts):
  for text in texts:
    assert getattr(parse_arm(f"a:{key}={text}").hyper, key) == float(text)


def test_a_grid_is_taken_as_written_and_keeps_its_order():
  grid = parse_grid(["release_bits=4,2,inf", "dp_clip=1", "learning_rate=1e-3,0.1"])
  assert list(grid.items()) == [
    ("release_bits", (4.0, 2.0, math.inf)),
    ("dp_clip", (1.0,)),
    ("learning_rate", (0.001, 0.1)),
  ]
  assert parse_grid([]) == {}


@pytest.mark.parametrize("key", Hyper._fields)
def test_every_hyperparameter_can_be_an_axis(key):
  default = getattr(Hyper(), key)
  assert parse_grid([f"{key}={default}"]) == {key: (default,)}


@pytest.mark.parametrize(
  ("texts", "message"),
  [
    (["dropout"], "--grid 'dropout': give it as KEY=value,value.*learning_rate.*release_bits"),
    (["rate=1"], "--grid 'rate=1': give it as KEY=value,value"),
    (["optimizer=sgd,adam"], "--grid 'optimizer=sgd,adam'"),
    (["=1"], "--grid '=1'"),
    ([""], "--grid ''"),
    (["dropout=0.1", "dropout=0.2"], "--grid: 'dropout' is given twice"),
    (["dropout=0.1,0.1"], "--grid 'dropout=0.1,0.1': a value is given twice"),
    (["steps=10,1e1"], "a value is given twice"),
    (["dropout=0.1,0.1000000001"], "a value is given twice"),  # Of one name in six digits.
    (["dropout="], "--grid: dropout= is not a number"),
    (["dropout=0.1,"], "--grid: dropout= is not a number"),
    (["dropout=0.1,high"], "--grid: dropout=high is not a number"),
    (["dropout=0.5,1"], "--grid: dropout=1 is out of range.*below 1"),
    (["release_bits=8,0"], "--grid: release_bits=0 is out of range"),
    (["dp_noise=1,nan"], "--grid: dp_noise=nan is out of range"),
  ],
)
def test_a_grid_that_is_wrong_is_refused_in_one_line(texts, message):
  with pytest.raises(InputError, match=message) as caught:
    parse_grid(texts)
  assert "\n" not in str(caught.value)
