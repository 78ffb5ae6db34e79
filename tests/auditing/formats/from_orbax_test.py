"""Orbax checkpoints of every kind come back; what is damaged, or leads elsewhere, is refused."""

import json
import os
import shutil

import numpy as np
import orbax.checkpoint as ocp
import orbax.checkpoint.experimental.v1 as ocp1
import pytest

from jaxinv.auditing.formats import stored
from jaxinv.auditing.formats.read import read_weights
from jaxinv.errors import InputError
from weights_files import assert_bits, flat, make_arrays, refusal

WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}


def save_standard(folder, tree):
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder, tree)


def save_managed(folder, tree):
  with ocp.CheckpointManager(folder) as manager:
    manager.save(0, args=ocp.args.StandardSave(tree))


def save_zarr3(folder, tree):
  handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True, use_zarr3=True)
  ocp.Checkpointer(handler).save(folder, tree)


ORBAX = {
  "standard": save_standard,
  "managed": save_managed,
  "pytree": lambda folder, tree: ocp.PyTreeCheckpointer().save(folder, tree),
  "files": lambda folder, tree: ocp.PyTreeCheckpointer(use_ocdbt=False).save(folder, tree),
  "zarr3": save_zarr3,
  "version 1": lambda folder, tree: ocp1.save(folder, tree),
}


@pytest.mark.parametrize("kind", ORBAX)
def test_orbax(tmp_path, kind):
  arrays = make_arrays()
  del arrays["empty"]  # Which Orbax cannot save.
  tree = {"params": {"Dense_0": arrays, "other": [arrays["column"], None]}, "none": {}}
  ORBAX[kind](tmp_path / "a b#%41" / "ckpt", tree | {"zeros": np.zeros((2, 3))})
  expected = flat(arrays) | {"zeros": np.zeros((2, 3))}
  assert_bits(read_weights(tmp_path / "a b#%41" / "ckpt"), expected)


def test_orbax_is_found_below_a_folder_but_not_chosen_among_several(tmp_path):
  tree = {"w": np.ones((2, 3), np.float32)}
  save_managed(tmp_path / "run", tree)
  for folder in ("run", "run/0", "run/0/default"):
    assert_bits(read_weights(tmp_path / folder), tree)
  shutil.copytree(tmp_path / "run" / "0", tmp_path / "run" / "1")
  with pytest.raises(InputError, match=r"holds 2 Orbax checkpoints \(0/default, 1/default\); give"):
    read_weights(tmp_path / "run")


# Damaged ones.


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
