"""Weights read from a file of any format: found by content, lazily, refused in one line."""

import os
import pickle

import flax.serialization
import numpy as np
import pytest
import safetensors.numpy

from jaxinv.auditing.formats.read import read_weights
from weights_files import Marker, assert_bits, refusal, refusal_of


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".npy", ".msgpack", ".pt", ".h5", ""])
def test_the_ending_does_not_matter(tmp_path, ending):
  path, arrays = tmp_path / f"x{ending}", {"w": np.ones((2, 3), np.float32)}
  path.write_bytes(safetensors.numpy.save(arrays))
  assert_bits(read_weights(path), arrays)
  path.write_bytes(flax.serialization.to_bytes(arrays))
  assert_bits(read_weights(path), arrays)
  with open(path, "wb") as file:
    np.savez(file, **arrays)
  assert_bits(read_weights(path), arrays)
  with open(path, "wb") as file:
    np.save(file, arrays["w"])
  assert_bits(read_weights(path), {"array": arrays["w"]})


def test_names_are_made_printable(tmp_path):
  names = ["a\nb\x1b[31m", "\u202egnp", "\0", "x" * 10_000, "Zoë/麵"]
  arrays = {name: np.full(2, i, np.float32) for i, name in enumerate(names)}
  safetensors.numpy.save_file(arrays, tmp_path / "x")
  weights = read_weights(tmp_path / "x")
  shown = ["a\\nb\\x1b[31m", "\\u202egnp", "\\x00", "Zoë/麵"]
  assert set(shown) < set(weights) and len(weights) == 5
  assert all(name.isprintable() and len(name) <= 301 for name in weights)
  assert [weights[name].load()[0] for name in shown] == [0, 1, 2, 4]


def test_what_is_no_file(tmp_path):
  assert refusal(tmp_path / "none.npz") == "there is no such file"
  assert "no Orbax checkpoint" in refusal(tmp_path)
  os.mkfifo(tmp_path / "pipe")
  assert refusal(tmp_path / "pipe") == "is not a file"


@pytest.mark.parametrize("content", [b"\n", b"x", b"%PDF-1.7 ...", b"\0" * 100, b"{}", b"\x7fELF"])
def test_an_unknown_format_is_answered_with_those_that_are_known(tmp_path, content):
  assert "no format known here, which are safetensors, numpy" in refusal_of(tmp_path, content)
  assert refusal_of(tmp_path, b"") == "is empty"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["x.safetensors", "x.npz", "x.npy", "x.pt", "x.h5", "x.msgpack"])
def test_a_pickle_by_another_name_is_not_unpickled(tmp_path, name, protocol):
  raw = pickle.dumps({"w": np.ones(2), "marker": Marker(tmp_path / "marker")}, protocol)
  (tmp_path / name).write_bytes(raw)
  line = refusal(tmp_path / name)
  assert "pickle" in line if protocol >= 2 else "no format known" in line
  assert not (tmp_path / "marker").exists()
  # The control: unpickled it would have been there.
  pickle.loads(raw)["marker"].close()
  assert (tmp_path / "marker").exists()
