"""Weights read from the files of their own tools: the same bits come back, lazily, by content."""

import shutil
import sys
from pathlib import Path

import flax.serialization
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import orbax.checkpoint.experimental.v1 as ocp1
import pytest
import safetensors.numpy

from jaxinv.auditing.formats import stored
from jaxinv.auditing.formats.read import read_weights
from jaxinv.errors import InputError


@pytest.fixture
def torch():
  return pytest.importorskip("torch", reason="PyTorch, an optional dependency, is not installed")


@pytest.fixture
def h5py():
  return pytest.importorskip("h5py", reason="h5py, an optional dependency, is not installed")


def make_arrays():
  rng = np.random.default_rng(0)
  values = rng.standard_normal((5, 7))
  values[0, :3] = np.nan, np.inf, -0.0
  floats = ("float16", "bfloat16", "float32", "float64")
  return {
    **{f"w.{name}": values.astype(stored.DTYPES[name]) for name in floats},
    "empty": np.zeros((0, 3), np.float32),
    "column": np.float32([[1], [2]]),
    "steps": np.arange(4),
    "bytes": np.arange(4, dtype=np.uint8),
    "mask": np.array([True, False]),
  }


def assert_bits(weights, arrays):
  """The same names, shapes, types and bits."""
  assert set(weights) == set(arrays)
  for name, array in arrays.items():
    loaded = weights[name].load()
    assert weights[name].shape == loaded.shape == array.shape
    assert weights[name].dtype == loaded.dtype == array.dtype and loaded.dtype.isnative
    assert loaded.tobytes() == np.ascontiguousarray(array).tobytes()
    # Again: loading uses nothing up.
    assert weights[name].load().tobytes() == loaded.tobytes()


def nest(arrays):
  return {"params": {"Dense_0": dict(arrays), "other": [arrays["column"], 3, "text", None]}}


def flat(arrays):
  return {f"params/Dense_0/{k}": v for k, v in arrays.items()} | {
    "params/other/0": arrays["column"]
  }


def test_safetensors(tmp_path):
  arrays = make_arrays()
  safetensors.numpy.save_file(arrays, tmp_path / "x.safetensors", {"format": "np", "note": "{[,"})
  assert_bits(read_weights(tmp_path / "x.safetensors"), arrays)


def test_safetensors_of_torch(tmp_path, torch):
  from safetensors.torch import save_file

  tensors = {"fc1.weight": torch.randn(3, 4), "half": torch.randn(2, 3).bfloat16()}
  save_file(tensors, tmp_path / "x.safetensors")
  half = tensors["half"].view(torch.int16).numpy().view(ml_dtypes.bfloat16)
  expected = {"fc1.weight": tensors["fc1.weight"].numpy(), "half": half}
  assert_bits(read_weights(tmp_path / "x.safetensors"), expected)


@pytest.mark.parametrize("length", [0x80 + 256 * i for i in range(1, 7)])
def test_safetensors_whose_first_bytes_are_those_of_a_pickle(tmp_path, length):
  header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(length)
  array = np.float32([1, 2])
  (tmp_path / "x").write_bytes(length.to_bytes(8, "little") + header + array.tobytes())
  assert_bits(read_weights(tmp_path / "x"), {"w": array})


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
  arrays = make_arrays() | {"a/b": np.ones(2), "scalar": np.array(2.5, np.float32)}
  arrays |= {"column order": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
  others = {"names": np.array(["Zoë"]), "day": np.array(["2020-01-01"], "datetime64[D]")}
  save(tmp_path / "x.npz", **arrays, **others, record=np.zeros(2, [("a", "f4"), ("b", "i4")]))
  # Strings, dates and records are passed over.
  assert_bits(read_weights(tmp_path / "x.npz"), arrays)


def test_a_foreign_byte_order_is_turned(tmp_path):
  array = np.arange(6.0).reshape(2, 3)
  np.savez(tmp_path / "x.npz", a=array.astype(">f8"))
  assert_bits(read_weights(tmp_path / "x.npz"), {"a": array})
  np.save(tmp_path / "x.npy", array.astype(">f8"))
  assert_bits(read_weights(tmp_path / "x.npy"), {"array": array})


@pytest.mark.parametrize("name", [*make_arrays(), "scalar", "fortran"])
def test_npy(tmp_path, name):
  others = {"scalar": np.array(2.5), "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
  array = (make_arrays() | others)[name]
  np.save(tmp_path / "x.npy", array)
  assert_bits(read_weights(tmp_path / "x.npy"), {"array": array})


def test_flax_msgpack(tmp_path):
  arrays = make_arrays()
  tree = nest(arrays) | {"complex": 1j, "scale": np.float32(2), "of jax": jnp.ones((2, 2))}
  expected = flat(arrays) | {"scale": np.array(2, np.float32), "of jax": np.ones((2, 2), "f4")}
  (tmp_path / "x.msgpack").write_bytes(flax.serialization.to_bytes(tree))
  assert_bits(read_weights(tmp_path / "x.msgpack"), expected)


@pytest.mark.parametrize("size", [1, 2, 100, 70_000])
def test_flax_msgpack_of_one_array(tmp_path, size):
  array = np.random.default_rng(0).standard_normal(size).astype(np.float32)
  (tmp_path / "x").write_bytes(flax.serialization.to_bytes(array))
  assert_bits(read_weights(tmp_path / "x"), {"array": array})


def test_flax_msgpack_of_an_array_in_parts(tmp_path, monkeypatch):
  monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 100)
  tree = {"big": np.arange(77.0).reshape(7, 11), "half": np.ones((60, 1), ml_dtypes.bfloat16)}
  raw = flax.serialization.to_bytes({"params": tree.copy()})
  assert b"__msgpack_chunked_array__" in raw
  (tmp_path / "x").write_bytes(raw)
  assert_bits(read_weights(tmp_path / "x"), {f"params/{k}": v for k, v in tree.items()})


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


def make_state(torch):
  torch.manual_seed(0)
  model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
  state = model.state_dict()
  state["turned"] = torch.arange(6.0).bfloat16().reshape(2, 3).T
  return state


def numpy_of(torch, state):
  half = {k: v for k, v in state.items() if v.dtype == torch.bfloat16}
  bits = {k: v.view(torch.int16).numpy().view(ml_dtypes.bfloat16) for k, v in half.items()}
  return {k: bits[k] if k in bits else v.numpy() for k, v in state.items()}


@pytest.mark.parametrize("zipped", [True, False])
def test_torch(tmp_path, torch, zipped):
  state = make_state(torch)
  torch.save(state, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
  assert_bits(read_weights(tmp_path / "x.pt"), numpy_of(torch, state))


def test_torch_checkpoints_are_flattened_and_what_is_no_tensor_passed_over(tmp_path, torch):
  state, model = make_state(torch), torch.nn.Linear(2, 2)
  optimizer = torch.optim.Adam(model.parameters())
  model(torch.ones(1, 2)).sum().backward()
  optimizer.step()
  schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
  parts = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "epoch": 3}
  torch.save({"state_dict": state, "name": "x", **parts}, tmp_path / "x.pt")
  weights = read_weights(tmp_path / "x.pt")
  model_part = {k: v for k, v in weights.items() if k.startswith("state_dict/")}
  expected = {f"state_dict/{k}": v for k, v in numpy_of(torch, state).items()}
  assert_bits(model_part, expected)
  assert weights["optimizer/state/0/exp_avg"].shape == (2, 2)
  torch.save(state["0.weight"], tmp_path / "one.pt")
  assert_bits(read_weights(tmp_path / "one.pt"), {"array": state["0.weight"].numpy()})


def test_without_torch_the_line_says_how_to_convert(tmp_path, torch, monkeypatch):
  torch.save({"w": torch.ones(2)}, tmp_path / "x.pt")
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(InputError, match=r"pip install torch, or .* python -c \"import torch, safe"):
    read_weights(tmp_path / "x.pt")


def test_the_conversion_that_is_advised_works(tmp_path, torch, monkeypatch):
  from jaxinv.auditing.formats.from_torch import _INSTALL

  torch.save({"w": torch.ones(2, 3).T}, tmp_path / "IN.pt")
  monkeypatch.chdir(tmp_path)
  exec(_INSTALL.split('python -c "')[1].removesuffix('"'), {})
  assert_bits(read_weights(Path("OUT.safetensors")), {"w": np.ones((3, 2), np.float32)})


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
