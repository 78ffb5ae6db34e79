"""A data set is found by its name, in a folder, by a function of the user's own, or is given."""

import numpy as np
import pytest

import jaxinv
from helpers import assert_fails, plant
from jaxinv.data.load import FORMS, Options, load
from jaxinv.errors import InputError

SMALL = Options(num_people=3, images_per_person=2)
OWN = """
import jaxinv
from helpers import plant

def colour():
  return plant(shape=(4, 3, 3))

def listed():
  return [1, 2]

def broken():
  raise KeyError("no such key")

def refused():
  raise jaxinv.InputError("give more")

def unscaled():
  data = plant()
  return data._replace(inputs=data.inputs * 255)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
  (tmp_path / "own_data.py").write_text(OWN)
  monkeypatch.syspath_prepend(tmp_path)


def test_synthetic_faces_are_drawn_as_the_options_say():
  found = load("synthetic_faces", SMALL._replace(seed=5, pose=0.0))
  expected = jaxinv.synthetic_faces(5, num_people=3, images_per_person=2, pose=0.0)
  np.testing.assert_array_equal(found.inputs, expected.inputs)
  assert found.drawn and not found.credit


def test_the_att_faces_carry_their_credit(tmp_path):
  for person in ("s1", "s2"):
    (tmp_path / person).mkdir()
    (tmp_path / person / "1.pgm").write_bytes(b"P5 2 2 255\n" + bytes([0, 50, 100, 255]))
  found = load("att", Options(data_dir=tmp_path))
  assert "AT&T Laboratories Cambridge" in found.credit and not found.drawn


def test_a_function_of_the_users_own_returns_it(own):
  assert load("own_data:colour").image_shape == (4, 3, 3)


def test_options_can_be_given_one_by_one():
  found = jaxinv.load("synthetic_faces", SMALL, num_people=2, pose=0.5)
  expected = load("synthetic_faces", SMALL._replace(num_people=2, pose=0.5))
  np.testing.assert_array_equal(found.inputs, expected.inputs)
  assert found.num_classes == 2
  with pytest.raises(ValueError, match="number_of_people"):
    jaxinv.load("synthetic_faces", number_of_people=2)


def test_what_a_folders_reader_has_to_tell_comes_with_the_images(tmp_path):
  for person in ("ann", "bob"):
    (tmp_path / person).mkdir()
    (tmp_path / person / "1.pgm").write_bytes(b"P5 2 2 255\n" + bytes([0, 50, 100, 255]))
  assert jaxinv.load(f"folder:{tmp_path}").notes == ()
  (tmp_path / "bob" / "list.txt").write_text("1.pgm")
  passed, resized = jaxinv.load(f"folder:{tmp_path}", resolution=(3, 3)).notes
  assert passed == "passed over: 1 without an image's ending (bob/list.txt)"
  assert resized == "2 of 2 images were resized from 2 x 2 to 3 x 3 pixels"


def test_a_data_set_is_taken_as_it_is():
  data = plant()
  assert load(data) is data


@pytest.mark.parametrize(
  ("spec", "parts"),
  [
    ("own_data:listed", ("own_data:listed", "list", "must return a jaxinv.Dataset")),
    ("own_data:broken", ("own_data:broken", "KeyError", "no such key")),
    ("own_data:refused", ("give more",)),
    ("own_data:unscaled", ("scale bytes by 255",)),
    ("own_data:missing", ("--dataset", "'missing'")),
    ("no_such_module:f", ("--dataset", "cannot import no_such_module")),
    ("own_data:", ("package.module:name",)),
    ("faces", ("unknown --dataset 'faces'", *FORMS)),
    ("folder:/no/such", ("/no/such",)),
    ("folder:", ("names no folder",)),
  ],
)
def test_what_cannot_be_had_is_refused_in_one_line(own, spec, parts):
  assert_fails(lambda: load(spec), *parts)


@pytest.mark.parametrize(
  ("options", "part"),
  [
    (SMALL._replace(max_bytes=1e5), "give a smaller --num_people"),
    (SMALL._replace(download=True), "give --dataset=att"),
    (SMALL._replace(resolution=(8, 8)), "--dataset=folder:PATH"),
  ],
)
def test_options_that_do_not_fit_are_refused(options, part):
  with pytest.raises(InputError, match=part):
    load("synthetic_faces", options)
