"""What an attack needs and is about decides where it is carried out."""

import numpy as np
import pytest

from jaxinv.attacks.attack import Attack, class_centred, mi_face, reshape
from jaxinv.auditing.given import attacker_tensors
from jaxinv.auditing.plan import DEFAULT, plan
from jaxinv.auditing.sources import find_sources
from jaxinv.errors import InputError

LINEAR = {"w": np.ones((4, 30), np.float32), "b": np.ones(4, np.float32)}


def planned(params, attacks=(), **others):
  held = attacker_tensors(params, **others)
  sources, _ = find_sources(held.params, (6, 5, 1))
  tasks, notes = plan(sources, held, attacks)
  return [(task.source.what, task.attack.name) for task in tasks], notes


def test_all_that_can_be_carried_out_is_but_for_the_slow_one():
  everything = {"init_params": LINEAR, "previous_params": LINEAR, "peers": [LINEAR]}
  tasks, notes = planned(LINEAR, **everything)
  assert tasks == [("class", attack.name) for attack in DEFAULT] and not notes
  assert mi_face not in DEFAULT
  assert planned(LINEAR)[0] == [("class", "reshape"), ("class", "class_centred")]


def test_attacks_on_all_classes_together_are_for_classes_only():
  together = Attack("together", reshape.recover)
  each = Attack("each", reshape.recover, per_unit=True)
  tasks, notes = planned({"x": np.ones((3, 2, 30))}, (together, each))
  assert tasks == [("unit", "each")] and not notes


def test_a_class_alone_has_no_mean_to_take_off():
  tasks, notes = planned({"w": np.ones((1, 30))})
  assert tasks == [("class", "reshape")] and "there is one class only" in notes[0]
  with pytest.raises(InputError, match="none of the attacks class_centred is possible"):
    planned({"w": np.ones((1, 30))}, (class_centred,))


def test_an_attack_on_linear_models_is_left_out_of_others():
  own = Attack("own", reshape.recover, per_unit=True, linear_only=True)
  mlp = {"0.weight": np.ones((7, 30)), "2.weight": np.ones((4, 7))}
  tasks, notes = planned(mlp, (own,))
  assert tasks == [("unit", "own")] and "see what is said of its units" in notes[0]
