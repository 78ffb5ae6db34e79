"""safetensors: the same bits come back from the library's files; bad headers are refused."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxinv.auditing.formats.read import read_weights
from weights_files import assert_bits, make_arrays, refusal_of


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


def make_safetensors(header, data=b"", length=None):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start, stop, shape=(1,), dtype="F32"):
  return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


BAD_SAFETENSORS = {
  "longer than the file": (make_safetensors({}, length=2**63), "more than the file has"),
  "long": (make_safetensors(b"{" + b" " * (5 << 20) + b"}"), "takes 5,242,882 bytes"),
  "overlap": (make_safetensors({"a": entry(0, 4), "b": entry(0, 4)}, b"1234"), "lies at 0..4"),
  "gap": (make_safetensors({"a": entry(4, 8)}, b"12345678"), "lies at 4..8"),
  "beyond": (make_safetensors({"a": entry(0, 4)}), "end at byte"),
  "trailing": (make_safetensors({"a": entry(0, 4)}, b"12345"), "end at byte"),
  "backwards": (make_safetensors({"a": entry(4, 0)}, b"1234"), "lies at 4..0"),
  "wrong size": (make_safetensors({"a": entry(0, 4, (2,))}, b"1234"), "lies at 0..4"),
  "negative": (make_safetensors({"a": entry(0, 4, (-1, -1))}, b"1234"), "which no array has"),
  "overflow": (make_safetensors({"a": entry(0, 0, (2**62, 4, 0))}), "which no array has"),
  "no number": (make_safetensors({"a": entry(0, 4, (True,))}, b"1234"), "which no array has"),
  "4 bits": (make_safetensors({"a": entry(0, 1, (2,), "F4")}, b"1"), "type 'F4', which is not"),
  "list": (make_safetensors(b'{"a":[[]]}'), "not described as a tensor is"),
  "huge number": (make_safetensors(b'{"a":' + b"9" * 9999 + b"}"), "damaged"),
  "deep": (make_safetensors(b'{"a":' + b"[" * 100_000), "damaged"),
  "double": (make_safetensors(b'{"a":{},"a":{}}'), "stands twice"),
  "no tensor": (make_safetensors({"__metadata__": {"a": "b"}}), "holds no tensor"),
}


@pytest.mark.parametrize("case", BAD_SAFETENSORS)
def test_bad_safetensors(tmp_path, case):
  content, words = BAD_SAFETENSORS[case]
  assert words in refusal_of(tmp_path, content)
