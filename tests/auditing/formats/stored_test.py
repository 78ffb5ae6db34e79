"""The limits that all readers keep to, and the names, types and lines they share."""

import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import assert_fails
from jaxinv.auditing.formats import stored
from jaxinv.auditing.formats.stored import Stored, collect, count_bytes, flatten, printable

BYTE = np.dtype("uint8")


def of(array):
  return Stored(array.shape, array.dtype, lambda: array)


@pytest.mark.parametrize("name", stored.DTYPES)
def test_an_arrays_bytes_are_counted_and_its_type_is_its_own(name):
  array = np.zeros((3, 4), stored.DTYPES[name])
  assert count_bytes("w", array.shape, array.dtype) == array.nbytes
  assert stored.number_type("w", array.dtype) == array.dtype == np.dtype(array.dtype.name)


@pytest.mark.parametrize(
  "shape", [(-1,), (True,), ("2",), (2.0,), (None,), (2**62,), (2**31, 2**31, 0), (1,) * 33]
)
def test_a_shape_that_no_array_can_have_is_refused(shape):
  assert_fails(lambda: count_bytes("w\n", shape, BYTE), "w\\n has the shape", "which no array has")


@pytest.mark.parametrize("shape", [(), (0,), (2**61,), (2**31, 0), (1,) * 32])
def test_every_other_shape_is_counted(shape):
  assert count_bytes("w", shape, BYTE) == np.prod([1, *shape], dtype=object)


@pytest.mark.parametrize("name", ["float64", "float16", "int32", "uint16", "complex64"])
def test_a_foreign_byte_order_is_the_same_type(name):
  found = stored.number_type("w", np.dtype(name).newbyteorder())
  assert found == np.dtype(name) and found.isnative


def test_what_is_no_number_has_no_type_but_two_bytes_are_bfloat16():
  for text in ("S4", "U4", "O", "M8[D]", "m8[s]", "V3", "V4"):
    assert stored.number_type("w", np.dtype(text)) is None
  assert stored.number_type("w", np.dtype([("a", "f4")])) is None
  assert stored.number_type("w", np.dtype([("a", "f2")])) is None
  assert stored.number_type("w", np.dtype("V2")) == ml_dtypes.bfloat16
  for odd in (ml_dtypes.int4, np.longdouble):
    assert_fails(lambda odd=odd: stored.number_type("w", np.dtype(odd)), "w is of type", "not read")


@pytest.mark.parametrize("order", "CF")
def test_an_array_is_mapped_where_it_lies(tmp_path, order):
  array = np.arange(6, dtype="f4").reshape(2, 3)
  (tmp_path / "x").write_bytes(b"12345" + array.tobytes(order))
  mapped = stored.map_array(tmp_path / "x", (2, 3), array.dtype, 5, order)
  np.testing.assert_array_equal(mapped, array)
  assert not mapped.flags.owndata and not mapped.flags.writeable
  assert stored.map_array(tmp_path / "x", (0, 3), array.dtype, 5).shape == (0, 3)


def test_a_tree_is_flattened_by_its_places_and_walked_once_where_it_holds_itself():
  inner = {"w": 1}
  tree = {"params": inner, "twice": inner, "list": [2, (3, "x")], 5: None, "none": {}}
  tree["self"] = tree
  found = list(flatten(tree))
  assert found[:4] == [("params/w", 1), ("list/0", 2), ("list/1/0", 3), ("list/1/1", "x")]
  # The tree itself is met once more below its own name.
  assert found[4] == ("5", None) and ("self/5", None) in found and len(found) == 6


def test_a_tree_that_is_too_deep_or_too_large_is_refused(monkeypatch):
  deep = 1
  for _ in range(stored.MAX_DEPTH + 1):
    deep = [deep]
  assert len(list(flatten(deep))) == 1
  assert_fails(lambda: list(flatten([deep])), "nested more than 64 deep")
  monkeypatch.setattr(stored, "MAX_NODES", 9)
  assert len(list(flatten([0] * 9))) == 9
  assert_fails(lambda: list(flatten([0] * 10)), "more than 9 values")


@given(st.text())
def test_any_text_can_be_shown_in_one_line(text):
  shown = printable(text, 30)
  assert shown.isprintable()
  assert shown == text or not text.isprintable() or len(text) > 30
  assert len(text) <= 30 or len(shown) <= 10 * 31  # An escape takes up to ten letters.


def test_a_long_name_keeps_its_beginning_and_its_end():
  assert printable("a" * 50 + "b" * 50, 9) == "aaaaaa…bbb"
  assert printable("x" * 300) == "x" * 300


def test_whatever_goes_wrong_is_one_line_and_warnings_are_kept(recwarn):
  def fail(error):
    with stored.one_line("x.npz"):
      warnings.warn("odd", stacklevel=1)
      raise error

  assert_fails(
    lambda: fail(ValueError("bad\nbytes")), "x.npz: cannot be read: damaged", "bad bytes"
  )
  assert_fails(lambda: fail(KeyError()), "(KeyError); save or fetch it again")
  assert_fails(lambda: fail(stored.unsupported("w", "int4")), "x.npz: w is of type 'int4'")
  with pytest.raises(KeyboardInterrupt):
    fail(KeyboardInterrupt())
  assert not recwarn.list


def test_tensors_are_put_together_in_the_files_order_under_printable_names(tmp_path):
  found = collect(tmp_path / "x", [("b\n", of(np.ones(2))), ("a", of(np.zeros(3)))], 99)
  assert list(found) == ["b\\n", "a"]
  np.testing.assert_array_equal(found["b\\n"].load(), np.ones(2))


def test_files_that_hold_none_too_many_or_two_of_one_name_are_refused(tmp_path, monkeypatch):
  one = of(np.ones(1))
  assert_fails(lambda: collect(tmp_path, [], 9), "holds no tensor")
  assert_fails(lambda: collect(tmp_path, [("a\n", one), ("a\\n", one)], 9), "two tensors", "'a\\n'")
  monkeypatch.setattr(stored, "MAX_TENSORS", 2)
  assert len(collect(tmp_path, [("a", one), ("b", one)], 9)) == 2
  assert_fails(lambda: collect(tmp_path, [(name, one) for name in "abc"], 9), "more than 2 tensors")


def test_the_limits_of_what_a_file_may_unpack_to(tmp_path):
  def listed(*sizes, file_size):
    tensors = [(str(i), Stored((size,), BYTE, None)) for i, size in enumerate(sizes)]
    return collect(tmp_path, tensors, file_size)

  most = 2 * 1000 + stored.ROOM
  assert listed(most, file_size=1000)
  assert_fails(lambda: listed(most + 1, file_size=1000), "out of proportion to the file")
  rest = (stored.MAX_RATIO - 2) * 1000
  assert listed(most, rest, file_size=1000)
  assert_fails(lambda: listed(most, rest, 1, file_size=1000), "more than 16 times its size")


def test_a_tensor_that_is_not_what_was_listed_is_refused(tmp_path):
  for array in (np.ones(3), np.ones(2, np.float32)):
    found = collect(tmp_path / "x", [("w", Stored((2,), np.dtype("f8"), lambda it=array: it))], 99)
    assert_fails(found["w"].load, f"{tmp_path}/x: w: changed while it was read")
