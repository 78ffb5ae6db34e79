"""Settings out of range are refused by name, and programs have names by what costs them much."""

import pytest

from jaxinv.attacks.attack import Attack
from jaxinv.errors import InputError
from jaxinv.experiments.settings import Arm, Settings, check, check_names, program_name
from jaxinv.types import Hyper


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"num_seeds": 0}, "num_seeds"),
    ({"save_seeds": 0}, "save_seeds"),
    ({"record_every": 0}, "record_every"),
    ({"steps": -1}, "steps"),
    ({"batch_size": -1}, "batch_size"),
    ({"batch_size": 99}, "training examples"),
    ({"holdout": -1}, "holdout"),
    ({"holdout": 8}, "too few"),
    ({"watch": 5}, "classes"),
    ({"width": -1}, "width"),
    ({"engine": "torch"}, "torch"),
    ({"memory_fraction": 0.0}, "memory_fraction"),
    ({"memory_fraction": 1.1}, "memory_fraction"),
    ({"memory_fraction": float("nan")}, "memory_fraction"),
    ({"loss": "hinge"}, "hinge"),
    ({"normalize": "log"}, "log"),
    ({"arms": ()}, "no arm"),
    ({"arms": (Arm("a", "rmsprop", Hyper()),)}, "rmsprop"),
    ({"arms": (Arm("a", "sgd", Hyper()), Arm("a", "adam", Hyper()))}, "named twice"),
  ],
)
def test_settings_that_make_no_sense_are_refused_by_name(planted, change, words):
  usual = {"arms": (Arm("a", "sgd", Hyper()),), "batch_size": 8}
  with pytest.raises(InputError, match=words) as caught:
    check(Settings(**{**usual, **change}), planted)
  assert "\n" not in str(caught.value)


def test_settings_are_checked_against_the_data_set(planted):
  arms = (Arm("a", "sgd", Hyper()), Arm("b", "adam", Hyper()))
  check(Settings(arms, batch_size=30, watch=4), planted)
  # Two of eight images of five people are held out, and a control is trained on half of the rest.
  check(Settings(arms, batch_size=15, halves=True), planted)
  for change, words in (
    ({"batch_size": 16}, "15 training examples, the half that a control model is trained on"),
    ({"num_seeds": 3}, "3 seeds cannot hold every example in exactly half"),
    ({"holdout": 1}, "35 training examples cannot be halved"),
  ):
    with pytest.raises(InputError, match=words):
      check(Settings(arms, halves=True, **{"batch_size": 8, **change}), planted)
  with pytest.raises(InputError, match="not an image"):
    check(Settings(arms), planted._replace(image_shape=None))


@pytest.mark.parametrize("name", ["model", "seed_mean", "two words", "", "a/b"])
def test_a_name_that_files_could_not_hold_is_refused(planted, name):
  attack = Attack(name, lambda release, shape: release)
  with pytest.raises(InputError, match=f"'{name}' cannot name an attack"):
    check(Settings((Arm("a", "sgd", Hyper()),), batch_size=8, attacks=(attack,)), planted)


def test_names_are_there_and_differ():
  check_names(["a", "b"])
  with pytest.raises(InputError, match="no arm"):
    check_names([])
  with pytest.raises(InputError, match="'b' is named twice"):
    check_names(["a", "b", "c", "b"])


def test_arms_share_a_program_unless_a_defence_costs_every_step_or_look():
  def name(optimizer="sgd", **hyper):
    return program_name(Arm("a", optimizer, Hyper(**hyper)))

  assert name() == name(learning_rate=3.0, weight_decay=0.1, clip_norm=1.0) == "sgd"
  own = {name(**{field: 0.5}) for field in ("input_noise", "dropout", "release_noise")}
  assert len(own) == 3 and "sgd" not in own
  assert name(dropout=0.5) == name(dropout=0.1, learning_rate=2.0)

  def descend(hyper):
    return hyper

  assert name(descend).endswith("descend")
