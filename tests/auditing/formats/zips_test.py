"""Zip archives: only such as numpy and PyTorch write are opened."""

import struct
import zipfile

import pytest

from helpers import assert_fails
from jaxinv.auditing.formats.stored import MAX_HEADER
from jaxinv.auditing.formats.zips import open_zip
from weights_files import described, make_npy, refusal


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


def test_members_come_in_their_order(tmp_path):
  with zipfile.ZipFile(tmp_path / "x", "w") as archive:
    archive.writestr("b", b"12")
    archive.writestr("a", b"3" * 99, zipfile.ZIP_DEFLATED)
  with open_zip(tmp_path / "x") as archive:
    assert {name: archive.read(name) for name in archive.namelist()} == {"b": b"12", "a": b"3" * 99}


@pytest.fixture
def large(tmp_path, monkeypatch):
  """An archive whose end is of the kind that large ones have, zip64."""
  monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
  with zipfile.ZipFile(tmp_path / "x", "w") as archive:
    archive.writestr("a.npy", b"1")
    archive.writestr("b.npy", b"2")
  assert b"PK\x06\x07" in (tmp_path / "x").read_bytes()
  return tmp_path / "x"


def test_a_large_archives_end_is_read_and_held_against_where_it_lies(large):
  with open_zip(large) as archive:
    assert archive.namelist() == ["a.npy", "b.npy"]
  raw = large.read_bytes()
  at = raw.index(b"PK\x06\x07")
  large.write_bytes(raw[: at + 8] + struct.pack("<Q", 1) + raw[at + 16 :])
  assert_fails(lambda: open_zip(large), "whose end is not where it says")


def test_a_list_of_members_that_is_too_long_is_refused_before_it_is_read(large, tmp_path):
  raw, length = large.read_bytes(), struct.pack("<Q", MAX_HEADER + 1)
  at = raw.index(b"PK\x06\x06")
  large.write_bytes(raw[: at + 40] + length + raw[at + 48 :])
  assert_fails(lambda: open_zip(large), "its list of members takes 4,194,305 bytes")
  with zipfile.ZipFile(tmp_path / "small", "w") as archive:
    archive.writestr("a.npy", b"1")
  raw = (tmp_path / "small").read_bytes()
  (tmp_path / "small").write_bytes(raw[:-10] + length[:4] + raw[-6:])
  assert_fails(lambda: open_zip(tmp_path / "small"), "its list of members takes 4,194,305 bytes")


def test_an_encrypted_member_is_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / "x", "w") as archive:
    archive.writestr("a.npy", b"1")
  raw = bytearray((tmp_path / "x").read_bytes())
  for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
    raw[raw.index(magic) + at] |= 1
  (tmp_path / "x").write_bytes(raw)
  assert_fails(lambda: open_zip(tmp_path / "x"), "a.npy is encrypted")


@pytest.mark.parametrize("cut", [1, 21, 22, 40])
def test_an_archive_without_its_end_is_refused(tmp_path, cut):
  with zipfile.ZipFile(tmp_path / "x", "w") as archive:
    archive.writestr("a.npy", b"1" * 100)
  raw = (tmp_path / "x").read_bytes()
  (tmp_path / "x").write_bytes(raw[:-cut])
  assert_fails(lambda: open_zip(tmp_path / "x"), "whose end is missing")


def test_an_archive_whose_comment_is_said_to_follow_its_end_is_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / "x", "w") as archive:
    archive.writestr("a.npy", b"1")
  raw = (tmp_path / "x").read_bytes()
  (tmp_path / "x").write_bytes(raw[:-2] + b"\x01\x00")
  assert_fails(lambda: open_zip(tmp_path / "x"), "whose end is missing")
