"""The parts of a person go together, whatever was drawn."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.data.person import PERSON_RANGES, POSE_RANGES, VIEW_RANGES, Person, settle


def people(number=200):
  """Evenly drawn, each field [number], in its range."""
  low, high = np.array(list(PERSON_RANGES.values()), np.float32).T
  draws = jax.random.uniform(jax.random.key(0), (number, len(low)))
  return settle(Person(*jnp.asarray(low + (high - low) * np.asarray(draws)).T))


def test_only_men_have_beards_or_are_bald():
  found = people()
  woman = np.asarray(found.woman, bool)
  assert 0 < woman.sum() < len(woman)
  assert not np.asarray(found.beard)[woman].any()
  assert not np.asarray(found.moustache)[woman].any()
  assert (np.asarray(found.beard)[~woman] > 0).all()
  assert (np.asarray(found.hairline)[woman] > -1).all()


def test_mouth_lies_below_nose_below_eyes():
  found = people()
  assert (found.eye_y < found.nose_y).all() and (found.nose_y < found.mouth_y).all()


def test_ranges_are_in_order_and_pose_is_part_of_the_view():
  for low, high in (*PERSON_RANGES.values(), *VIEW_RANGES.values()):
    assert low < high
  assert POSE_RANGES.items() <= VIEW_RANGES.items()
