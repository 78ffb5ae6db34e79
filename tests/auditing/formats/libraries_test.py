"""Hostile files of PyTorch, HDF5 and Orbax: bounded before their libraries are asked."""

import json
import os
import shutil
import zipfile
import zlib

import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxinv.auditing.formats import from_torch, stored
from jaxinv.auditing.formats.read import read_weights
from jaxinv.errors import InputError

WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.fixture
def torch():
  return pytest.importorskip("torch", reason="PyTorch, an optional dependency, is not installed")


@pytest.fixture
def h5py():
  return pytest.importorskip("h5py", reason="h5py, an optional dependency, is not installed")


def refusal(path):
  """The one line with which a file is refused, when it is listed or when it is loaded."""
  with pytest.raises(InputError) as caught:
    for tensor in read_weights(path).values():
      tensor.load()
  line = str(caught.value)
  assert line.startswith(f"{path}: ") and line.isprintable() and len(line) < 1000
  assert "Type-check" not in line
  return line.removeprefix(f"{path}: ")


# PyTorch


class Marker:
  """Unpickled, it makes a file."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return open, (self.path, "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_torch_file_is_not_run(tmp_path, torch, zipped):
  tree = {"w": torch.ones(2), "sly": Marker(tmp_path / "marker")}
  torch.save(tree, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
  assert refusal(tmp_path / "x.pt").startswith("holds io.open, which tensors")
  assert not (tmp_path / "marker").exists()
  # The control: unpickled it would have been there.
  torch.load(tmp_path / "x.pt", weights_only=False)["sly"].close()
  assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_more_than_tensors_is_named(tmp_path, torch, zipped):
  def said_of(value):
    torch.save(value, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    return refusal(tmp_path / "x.pt")

  assert "torch.nn.modules.linear.Linear" in said_of(torch.nn.Linear(2, 2))
  assert "multiarray.scalar" in said_of({"w": torch.ones(2), "best": np.float64(0.5)})
  # Which weights_only lets pass, but a file could ask for any number of bytes so.
  assert "bytearray" in said_of({"w": torch.ones(2), "state": bytearray(3)})
  assert "holds no tensor" in said_of({"epoch": 3})
  assert "_rebuild_tensor_v3" in said_of({"w": torch.zeros(2, dtype=torch.float8_e5m2)})


def rewrite(path, change):
  """The members of a zip archive, changed: from name and content to content, or None to drop."""
  with zipfile.ZipFile(path) as archive:
    members = {name: archive.read(name) for name in archive.namelist()}
  with zipfile.ZipFile(path, "w") as archive:
    for name, content in members.items():
      new = change(name, content)
      if new is not None:
        archive.writestr(name, new)


def test_a_pickle_that_names_by_its_stack_is_refused(tmp_path, torch):
  torch.save({"w": torch.ones(2)}, tmp_path / "x.pt")
  sly = b"\x80\x04\x8c\x02io\x8c\x04open\x93."
  rewrite(tmp_path / "x.pt", lambda name, raw: sly if name.endswith("/data.pkl") else raw)
  assert "which may do harm" in refusal(tmp_path / "x.pt")


def test_torch_archives_as_torch_does_not_write_them(tmp_path, torch, monkeypatch):
  def said_of(change, value=None):
    torch.save(value or {"w": torch.ones(200)}, tmp_path / "x.pt")
    rewrite(tmp_path / "x.pt", change)
    return refusal(tmp_path / "x.pt")

  assert "damaged" in said_of(lambda name, raw: None if name.endswith("data/0") else raw)
  assert "damaged" in said_of(lambda name, raw: raw[:-1] if name.endswith(".pkl") else raw)
  torch.save({"w": torch.ones(200)}, tmp_path / "y.pt")
  with zipfile.ZipFile(tmp_path / "y.pt", "a") as archive:
    archive.writestr("y/constants.pkl", b"")
  assert "TorchScript" in refusal(tmp_path / "y.pt")
  with zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("z/data.pkl", b"N." + bytes(1000))
  assert "is compressed" in refusal(tmp_path / "z.pt")
  monkeypatch.setattr(from_torch, "MAX_NODES", 10)
  assert "more than 20 instructions" in said_of(lambda name, raw: raw)


def test_a_torch_tensor_of_one_value_repeated_without_end_is_refused(tmp_path, torch):
  torch.save({"w": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "x.pt")
  assert "out of proportion" in refusal(tmp_path / "x.pt")


def test_dicts_in_themselves_and_without_end(tmp_path, torch):
  tree = {"w": torch.ones(2)}
  tree["again"] = [tree, tree]
  torch.save(tree, tmp_path / "x.pt")
  assert list(read_weights(tmp_path / "x.pt")) == ["w", "again/0/w"]
  for _ in range(stored.MAX_DEPTH + 1):
    tree = {"more": tree}
  torch.save(tree, tmp_path / "x.pt")
  assert "nested more than 64 deep" in refusal(tmp_path / "x.pt")


# HDF5


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


# Orbax


@pytest.fixture
def folder(tmp_path):
  """A checkpoint whose array lies in plain files."""
  ocp.PyTreeCheckpointer(use_ocdbt=False).save(tmp_path / "ckpt", WEIGHTS)
  return tmp_path / "ckpt"


def edit(path, **changes):
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


BAD_ARRAYS = {
  "huge": ({"shape": [10**6, 10**6], "chunks": [10**6, 10**6]}, "pieces of (1000000, 1000000)"),
  "huge pieces": ({"chunks": [10**6, 10**6]}, "pieces of (1000000, 1000000)"),
  "many pieces": ({"shape": [10**6, 10**6], "chunks": [1, 1]}, "1,000,000,000,000 pieces"),
  "out of proportion": ({"shape": [10**5, 10**5], "chunks": [2000, 2000]}, "out of proportion"),
  "blosc": (
    {"compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 0}},
    "packed by",
  ),
  "another size": ({"shape": [2, 4], "chunks": [2, 4]}, "damaged"),
  "another type": ({"dtype": "<f8"}, "damaged"),
  "objects": ({"dtype": "|O"}, "damaged"),
  "negative": ({"shape": [-2, 3]}, "damaged"),
  "missing piece": ({"shape": [4, 3]}, "damaged"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_of_a_checkpoint(folder, case):
  changes, words = BAD_ARRAYS[case]
  edit(folder / "w" / ".zarray", **changes)
  assert words in refusal(folder)


def leaf(*keys, **value):
  value = {"value_type": "np.ndarray", "skip_deserialize": False} | value
  path = [{"key": key, "key_type": 2} for key in keys]
  return {"tree_metadata": {"x": {"key_metadata": path, "value_metadata": value}}}


@pytest.mark.parametrize("key", ["../outside", "", "w/../../outside", "/etc"])
def test_a_checkpoint_is_not_left(folder, key):
  shutil.copytree(folder / "w", folder.parent / "outside")
  edit(folder / "_METADATA", **leaf(key))
  assert "damaged" in refusal(folder)


def test_bad_trees_of_a_checkpoint(folder):
  file = folder / "_METADATA"
  good = file.read_text()
  for bad in ("", "[]", "{}", '{"tree_metadata": 3}', good[:-9], "[" * 100_000):
    file.write_text(bad)
    assert "damaged" in refusal(folder)
  file.write_text(good + " " * stored.MAX_HEADER)
  assert "takes more than 4,194,304 bytes" in refusal(folder)
  file.write_text(json.dumps(json.loads(good) | leaf("w", value_type="string")))
  assert "holds no tensor" in refusal(folder)


def test_a_checkpoint_of_other_things_than_files(folder):
  (folder / "link").symlink_to("/", target_is_directory=True)
  assert "holds a link to another folder" in refusal(folder)
  (folder / "link").unlink()
  os.mkfifo(folder / "pipe")
  assert "but pipe" in refusal(folder)


@pytest.mark.parametrize("damage", ["cut", "empty", "remove", "zeros"])
def test_a_damaged_database_of_a_checkpoint(tmp_path, damage):
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "ckpt", WEIGHTS)
  np.testing.assert_array_equal(read_weights(tmp_path / "ckpt")["w"].load(), WEIGHTS["w"])
  for path in (tmp_path / "ckpt").rglob("d/*"):
    raw = path.read_bytes()
    new = {"cut": raw[: len(raw) // 2], "empty": b"", "zeros": bytes(len(raw))}
    path.unlink() if damage == "remove" else path.write_bytes(new[damage])
  assert "damaged" in refusal(tmp_path / "ckpt")
