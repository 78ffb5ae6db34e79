"""numpy's files: the same bits come back, other values are passed over, bad files are refused."""

import struct
import zipfile

import numpy as np
import pytest

from jaxinv.auditing.formats import stored
from jaxinv.auditing.formats.read import read_weights
from weights_files import Marker, assert_bits, described, make_arrays, make_npy, refusal, refusal_of


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


BAD_NPY = {
  "huge": (make_npy(described((10**6, 10**6))), "takes 4,000,000,000,000 bytes"),
  "overflow": (make_npy(described((2**40, 2**40, 0))), "which no array has"),
  "negative": (make_npy(described((-1,))), "which no array has"),
  "many axes": (make_npy(described((1,) * 40), b"1234"), "which no array has"),
  "cut": (make_npy(described((2,)), b"1234"), "takes 8 bytes, but 4 are there"),
  "more": (make_npy(described((1,)), b"12345678"), "takes 4 bytes, but 8 are there"),
  "objects": (make_npy(described((1,), "|O"), b"\x80\x04N."), "holds Python objects"),
  "hidden objects": (make_npy(described((1,), [("a", "O")]), b"12345678"), "holds Python objects"),
  "huge header": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "damaged"),
  "deep header": (make_npy(b"(" * 9000), "damaged"),
  "code": (make_npy(b"__import__('os').abort()"), "damaged"),
  "python 2": (make_npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (9L,)}"), "36 bytes"),
  "strings": (make_npy(described((1,), "<U1"), b"1234"), "holds no tensor"),
}


@pytest.mark.parametrize("case", BAD_NPY)
def test_bad_npy(tmp_path, case, capfd, recwarn):
  content, words = BAD_NPY[case]
  assert words in refusal_of(tmp_path, content)
  with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
    archive.writestr("inside.npy", content)
  assert words in refusal(tmp_path / "x.npz")
  assert not recwarn.list and capfd.readouterr() == ("", "")


def test_an_object_array_among_others_is_named_and_not_unpickled(tmp_path):
  marker = np.array([Marker(tmp_path / "marker")], dtype=object)
  np.savez(tmp_path / "x.npz", w=np.ones(3), sly=marker)
  assert refusal(tmp_path / "x.npz").startswith("sly holds Python objects")
  np.save(tmp_path / "x.npy", marker)
  assert refusal(tmp_path / "x.npy").startswith("array holds Python objects")
  assert not (tmp_path / "marker").exists()


def test_an_archive_that_unpacks_out_of_proportion_is_refused(tmp_path, monkeypatch):
  zeros = np.zeros(100_000, np.float32)
  np.savez_compressed(tmp_path / "x.npz", w=zeros)
  # The control: within the room that every file has.
  np.testing.assert_array_equal(read_weights(tmp_path / "x.npz")["w"].load(), zeros)
  monkeypatch.setattr(stored, "ROOM", 0)
  assert "w of shape (100000,)" in refusal(tmp_path / "x.npz")
  parts = {str(i): zeros[:200] for i in range(500)}
  noise = np.random.default_rng(0).bytes(20_000)
  np.savez_compressed(tmp_path / "x.npz", **parts, noise=np.frombuffer(noise, np.uint8))
  monkeypatch.setattr(stored, "MAX_RATIO", 1)
  assert "unpacks to more than 1 times its size" in refusal(tmp_path / "x.npz")


def test_an_archive_that_lies_of_a_size(tmp_path):
  header = make_npy(described((2_500_000_000,)))
  with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("w.npy", header + bytes(1000))
  raw, size = (tmp_path / "x.npz").read_bytes(), struct.pack("<I", len(header) + 1000)
  lie = struct.pack("<I", (len(header) + 10_000_000_000) % 2**32)
  assert raw.count(size) == 2
  assert "bytes, but" in refusal_of(tmp_path, raw.replace(size, lie))


def test_a_checksum_is_held_against_the_values(tmp_path):
  np.savez(tmp_path / "x.npz", w=np.ones(10_000))
  raw = bytearray((tmp_path / "x.npz").read_bytes())
  raw[raw.index(np.ones(3).tobytes())] ^= 1
  assert "w: cannot be read: damaged" in refusal_of(tmp_path, bytes(raw))
