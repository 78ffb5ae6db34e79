"""Flax's msgpack: the same bits come back; what is not as Flax writes it is refused."""

import flax.serialization
import jax.numpy as jnp
import ml_dtypes
import msgpack
import numpy as np
import pytest

from jaxinv.auditing.formats import from_msgpack
from jaxinv.auditing.formats.read import read_weights
from weights_files import assert_bits, flat, make_arrays, nest, refusal_of


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


def packed(shape, dtype, data):
  return msgpack.packb((shape, dtype, data))


def make_flax(*array, name="w"):
  return msgpack.packb({name: msgpack.ExtType(1, packed(*array))})


def chunked(shape, chunks):
  parts = {str(i): msgpack.ExtType(1, packed(*chunk)) for i, chunk in enumerate(chunks)}
  return msgpack.packb({"w": {"__msgpack_chunked_array__": True, "shape": shape, "chunks": parts}})


HALF = ((1,), "float32", b"1234")
BAD_FLAX = {
  "huge bytes": (b"\x81\xa1w\xc6\xff\xff\xff\xff", "ends in the middle"),
  "huge array": (b"\x81\xa1w\xc9\xff\xff\xff\xff\x01", "ends in the middle"),
  "huge map": (b"\xdf\xff\xff\xff\xff\xa1a\x01", "ends in the middle"),
  "huge list": (b"\x81\xa1w\xdd\xff\xff\xff\xff", "ends in the middle"),
  "huge shape": (make_flax((10**5, 10**5), "float32", b"1234"), "takes 40,000,000,000 bytes"),
  "negative": (make_flax((-1, -1), "float32", b"1234"), "which no array has"),
  "overflow": (make_flax((2**40, 2**40, 0), "float32", b""), "which no array has"),
  "many axes": (make_flax((1,) * 40, "float32", b"1234"), "not as Flax writes it"),
  "words for axes": (make_flax(("1",), "float32", b"1234"), "which no array has"),
  "objects": (make_flax((1,), "object", b"12345678"), "type 'object', which is not read"),
  "strings": (make_flax((1,), "str32", b"1234"), "holds no tensor"),
  "number": (msgpack.packb({"w": msgpack.ExtType(1, b"\x01")}), "ends in the middle"),
  "deep lists": (b"\x81\xa1w" + b"\x91" * 100_000 + b"\x01", "more than 64 deep"),
  "deep maps": (b"\x81\xa1w" * 100_000 + b"\x01", "more than 64 deep"),
  "many values": (b"\x81\xa1w\xdd\x00\x00\x20\x00" + b"\x80" * 2**13, "more than 1,000 values"),
  "double": (b"\x82\xa1w\x01\xa1w\x01", "two values are called 'w'"),
  "long name": (make_flax(*HALF, name="x" * 5000), "is none"),
  "reserved": (b"\x81\xa1w\xc1", "no value begins as"),
  "trailing": (make_flax(*HALF) + b"\x00", "1 bytes follow its end"),
  "no array": (msgpack.packb({"epoch": 3, "of": [1.5, None, "x"]}), "holds no tensor"),
  "parts short": (chunked({"0": 10**9}, [HALF, HALF]), "but 8 are there"),
  "parts mixed": (chunked({"0": 2}, [HALF, ((1,), "int32", b"1234")]), "not as Flax writes it"),
  "no parts": (chunked({"0": 2}, []), "not as Flax writes it"),
  "parts shaped by words": (chunked({"0": "2"}, [HALF, HALF]), "which no array has"),
}


@pytest.mark.parametrize("case", BAD_FLAX)
def test_bad_flax_msgpack(tmp_path, case, monkeypatch):
  monkeypatch.setattr(from_msgpack, "MAX_NODES", 1000)
  content, words = BAD_FLAX[case]
  assert words in refusal_of(tmp_path, content)
