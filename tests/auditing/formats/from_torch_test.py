"""PyTorch's files: the same bits come back; no code of the file's is run, and it is bounded."""

import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from jaxinv.auditing.formats import from_torch, stored
from jaxinv.auditing.formats.read import read_weights
from jaxinv.errors import InputError
from weights_files import Marker, assert_bits, refusal


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
