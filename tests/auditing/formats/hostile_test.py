"""Files of weights that are damaged, or made to do harm: one line, no code run, little memory."""

import json
import os
import pickle
import struct
import zipfile

import msgpack
import numpy as np
import pytest

from jaxinv.auditing.formats import from_msgpack, stored
from jaxinv.auditing.formats.read import read_weights
from jaxinv.errors import InputError


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


# What is not a file of weights at all.


def test_what_is_no_file(tmp_path):
  assert refusal(tmp_path / "none.npz") == "there is no such file"
  assert "no Orbax checkpoint" in refusal(tmp_path)
  os.mkfifo(tmp_path / "pipe")
  assert refusal(tmp_path / "pipe") == "is not a file"


@pytest.mark.parametrize("content", [b"\n", b"x", b"%PDF-1.7 ...", b"\0" * 100, b"{}", b"\x7fELF"])
def test_an_unknown_format_is_answered_with_those_that_are_known(tmp_path, content):
  assert "no format known here, which are safetensors, numpy" in refusal_of(tmp_path, content)
  assert refusal_of(tmp_path, b"") == "is empty"


class Marker:
  """Unpickled, it makes a file."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return open, (self.path, "w")


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


# safetensors


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


# numpy


def make_npy(header, data=b"", version=b"\x01\x00"):
  text = header if isinstance(header, bytes) else repr(header).encode() + b"\n"
  length = struct.pack("<H" if version[0] == 1 else "<I", len(text))
  return b"\x93NUMPY" + version + length + text + data


def described(shape, dtype="<f4"):
  return {"descr": dtype, "fortran_order": False, "shape": shape}


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


def test_members_that_share_bytes_are_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
    archive.writestr("w.npy", make_npy(described((100,)), bytes(400)))
    for i in range(9):
      archive.filelist.append(other := zipfile.ZipInfo(f"{i}.npy"))
      first = archive.filelist[0]
      for field in ("header_offset", "compress_size", "file_size", "CRC"):
        setattr(other, field, getattr(first, field))
  assert "larger than the file together" in refusal(tmp_path / "x.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_as_numpy_does_not_write_them(tmp_path):
  member = make_npy(described((1,)), b"1234")

  def make(names, method=zipfile.ZIP_STORED, comment=b""):
    with zipfile.ZipFile(tmp_path / "x", "w", method) as archive:
      archive.comment = comment
      for name in names:
        archive.writestr(name, member)
    return refusal(tmp_path / "x")

  assert "two members are called 'w.npy'" in make(["w.npy", "w.npy"])
  assert "compressed in a way" in make(["w.npy"], zipfile.ZIP_LZMA)
  assert "whose end is missing" in make(["w.npy"], comment=b"x")
  assert "of no format known here" in make(["readme.txt"])
  assert "of no format known here" in make([])
  assert "model.weights.h5 inside" in make(["config.json", "model.weights.h5"])
  assert "two tensors are called 'w\\n'" in make(["w\n.npy", "w\\n.npy"])


def test_a_checksum_is_held_against_the_values(tmp_path):
  np.savez(tmp_path / "x.npz", w=np.ones(10_000))
  raw = bytearray((tmp_path / "x.npz").read_bytes())
  raw[raw.index(np.ones(3).tobytes())] ^= 1
  assert "w: cannot be read: damaged" in refusal_of(tmp_path, bytes(raw))


# Flax


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
