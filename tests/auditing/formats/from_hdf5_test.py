"""Keras's and other HDF5 files: the same bits come back; what leads out of the file is refused."""

import sys
import zlib

import numpy as np
import pytest

from jaxinv.auditing.formats.read import read_weights
from jaxinv.errors import InputError
from weights_files import assert_bits, make_arrays, refusal


def save_as_keras(h5py, path, arrays):
  """Laid out as Keras 3 does: /layers/NAME/vars/0, bfloat16 as two bytes and an attribute."""
  with h5py.File(path, "w") as file:
    for i, array in enumerate(arrays.values()):
      dataset = file.create_dataset(f"layers/dense/vars/{i}", data=array)
      dataset.attrs["dtype"] = array.dtype.name
    file.create_group("optimizer/vars")
    file["layers/dense"].attrs["name"] = "dense"
  return {f"layers/dense/vars/{i}": array for i, array in enumerate(arrays.values())}


def test_keras(tmp_path, h5py):
  expected = save_as_keras(h5py, tmp_path / "x.weights.h5", make_arrays())
  assert_bits(read_weights(tmp_path / "x.weights.h5"), expected)


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_hdf5(tmp_path, h5py, version):
  array = np.arange(60, dtype=np.float32).reshape(20, 3)
  with h5py.File(tmp_path / "x.h5", "w", libver=version) as file:
    packed = {"chunks": (7, 2), "compression": "gzip"}
    file.create_dataset("a", data=array, shuffle=True, fletcher32=True, **packed)
    file.create_dataset("b", data=array.astype(">f8"), **packed)
    file.create_dataset("c", data=array, chunks=(7, 2))
    file["text"], file["scalar"], file["soft"] = "text", np.float32(2), h5py.SoftLink("/a")
    file["nothing"], file["twice"] = h5py.Empty("f4"), file["a"]
  expected = {"a": array, "b": array.astype("f8"), "c": array, "twice": array}
  expected["scalar"] = np.array(2, np.float32)
  assert_bits(read_weights(tmp_path / "x.h5"), expected)


def test_without_h5py_the_line_says_what_to_install(tmp_path, h5py, monkeypatch):
  h5py.File(tmp_path / "x.h5", "w").close()
  monkeypatch.setitem(sys.modules, "h5py", None)
  with pytest.raises(InputError, match="pip install h5py"):
    read_weights(tmp_path / "x.h5")


def test_an_hdf5_file_is_not_left(tmp_path, h5py):
  with h5py.File(tmp_path / "other.h5", "w") as file:
    file["w"] = np.ones(3)
  (tmp_path / "secret.raw").write_bytes(bytes(24))

  def said_of(write):
    with h5py.File(tmp_path / "x.h5", "w") as file:
      file["mine"] = np.ones(2)
      write(file)
    return refusal(tmp_path / "x.h5")

  def link(file):
    file["w"] = h5py.ExternalLink("other.h5", "/w")

  def store(file):
    file.create_dataset("w", (3,), "f8", external=[(str(tmp_path / "secret.raw"), 0, 24)])

  def compose(file):
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "w", (3,))
    file.create_virtual_dataset("w", layout)

  assert "/w stands in another file" in said_of(link)
  assert "w takes its values from another file" in said_of(store)
  assert "w takes its values from another file" in said_of(compose)


def test_hdf5_groups_in_themselves_and_without_end(tmp_path, h5py):
  with h5py.File(tmp_path / "x.h5", "w") as file:
    group = file.create_group("a")
    group["self"], group["root"], group["w"] = group, file["/"], np.ones(2)
    group["soft"] = h5py.SoftLink("/a/soft")
    # Two ways on at every step: 2**30 paths.
    for i in range(30):
      group = group.create_group("next")
      group.parent["other"] = group
      group["w"] = np.full(2, i)
  weights = read_weights(tmp_path / "x.h5")
  assert len(weights) == 31 and "a/w" in weights
  with h5py.File(tmp_path / "y.h5", "w") as file:
    group = file.id
    for _ in range(20_000):  # Of which HDF5's own walk would overflow the stack.
      group = h5py.h5g.create(group, b"a")
  assert "nested more than 64 deep" in refusal(tmp_path / "y.h5")


def test_hdf5_datasets_that_unpack_out_of_proportion(tmp_path, h5py):
  def said_of(shape, **options):
    with h5py.File(tmp_path / "x.h5", "w") as file:
      file.create_dataset("w", shape, "f4", **options)
    return refusal(tmp_path / "x.h5")

  assert "w of shape (1000000, 1000000)" in said_of((10**6, 10**6))
  assert "w of shape (1000000, 1000000)" in said_of((10**6, 10**6), chunks=(100, 100))
  huge = {"chunks": (30_000, 30_000), "maxshape": (None, None)}
  assert "pieces too large" in said_of((1, 1), **huge)
  assert "compressed otherwise" in said_of((9,), data=np.zeros(9), compression="lzf")
  assert "compressed otherwise" in said_of((9,), data=np.zeros(9), scaleoffset=2)


def test_a_gzipped_piece_that_unpacks_to_more_than_it_can_hold(tmp_path, h5py):
  with h5py.File(tmp_path / "x.h5", "w") as file:
    dataset = file.create_dataset("w", (10,), "f4", chunks=(10,), compression="gzip")
    dataset.id.write_direct_chunk((0,), zlib.compress(np.ones(10, "f4").tobytes()))
    # The control: one that tells the truth.
    lie = file.create_dataset("lie", (10,), "f4", chunks=(10,), compression="gzip")
    lie.id.write_direct_chunk((0,), zlib.compress(bytes(1_000_000)))
  weights = read_weights(tmp_path / "x.h5")
  np.testing.assert_array_equal(weights["w"].load(), np.ones(10, "f4"))
  with pytest.raises(InputError, match="lie: unpacks to more than it can hold"):
    weights["lie"].load()
