"""What tests of files of weights use: arrays of every type, refusals, a hostile pickle."""

import struct

import numpy as np
import pytest

from jaxinv.auditing.formats import stored
from jaxinv.auditing.formats.read import read_weights
from jaxinv.errors import InputError


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


def refusal(path):
  """The one line with which a file is refused, when it is listed or when it is loaded."""
  with pytest.raises(InputError) as caught:
    for tensor in read_weights(path).values():
      tensor.load()
  line = str(caught.value)
  assert line.startswith(f"{path}: ") and line.isprintable() and len(line) < 1000
  assert "Type-check" not in line
  return line.removeprefix(f"{path}: ")


def refusal_of(tmp_path, content):
  (tmp_path / "x").write_bytes(content)
  return refusal(tmp_path / "x")


class Marker:
  """Unpickled, it makes a file."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return open, (self.path, "w")


def make_npy(header, data=b"", version=b"\x01\x00"):
  text = header if isinstance(header, bytes) else repr(header).encode() + b"\n"
  length = struct.pack("<H" if version[0] == 1 else "<I", len(text))
  return b"\x93NUMPY" + version + length + text + data


def described(shape, dtype="<f4"):
  return {"descr": dtype, "fortran_order": False, "shape": shape}
