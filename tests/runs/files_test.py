"""Files: whole or not at all."""

import json

import numpy as np
import pytest

from jaxinv.runs import files


def test_what_is_written_is_read_back(tmp_path):
  arrays = {"a/b": np.arange(6).reshape(2, 3), "flag": np.array([True]), "none": np.zeros((0, 2))}
  files.write_npz(tmp_path / "new" / "x.npz", arrays)
  back = files.read_npz(tmp_path / "new" / "x.npz")
  assert set(back) == set(arrays)
  for name, array in arrays.items():
    np.testing.assert_array_equal(back[name], array)
    assert back[name].dtype == array.dtype
  files.write_text(tmp_path / "x.txt", "Zoë\n")
  assert (tmp_path / "x.txt").read_bytes() == "Zoë\n".encode()
  files.write_json(tmp_path / "x.json", {"a": [1, None]})
  assert json.loads((tmp_path / "x.json").read_text()) == {"a": [1, None]}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("before", [None, "old"])
def test_a_writer_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, before, error):
  path = tmp_path / "x.txt"
  if before:
    path.write_text(before)

  def fail(file):
    file.write(b"half")
    raise error

  with pytest.raises(error):
    files.write_file(path, fail)
  assert [p.name for p in tmp_path.iterdir()] == (["x.txt"] if before else [])
  assert not before or path.read_text() == before


def test_nan_is_no_json_and_leaves_nothing(tmp_path):
  with pytest.raises(ValueError, match="JSON"):
    files.write_json(tmp_path / "x.json", {"a": float("nan")})
  assert not list(tmp_path.iterdir())


def test_objects_are_never_unpickled(tmp_path):
  np.savez(tmp_path / "x.npz", a=np.array([{"any": "thing"}], dtype=object))
  with pytest.raises(ValueError, match="pickle"):
    files.read_npz(tmp_path / "x.npz")
