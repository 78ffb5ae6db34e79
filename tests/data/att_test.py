"""Faces from folders and zips of PGMs: every layout loads alike, every fault is one clear line."""

import hashlib
import os
import random
import shutil
import stat
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from helpers import assert_fails
from jaxinv.data import att
from jaxinv.data.att import download_att, load_att, pixel_digest, read_pgm
from jaxinv.errors import InputError

SHAPE = (5, 4)


def pgm(image, maxval=255, header=None):
  """A binary PGM of an integer image."""
  h, w = image.shape
  header = header or f"P5\n{w} {h}\n{maxval}\n".encode()
  return header + image.astype(">u2" if maxval > 255 else np.uint8).tobytes()


def face(seed, shape=SHAPE):
  return np.random.default_rng(seed).integers(0, 256, shape)


def faces(people=("s1", "s2", "s10"), images=(1, 2, 10), prefix=""):
  """Path -> bytes, no two images alike; the people in order, so that their rows are too."""
  names = [f"{prefix}{person}/{i}.pgm" for person in people for i in images]
  return {name: pgm(face(seed)) for seed, name in enumerate(names)}


def expected(count):
  return np.stack([face(seed).ravel() for seed in range(count)]) / 255


def write_folder(root, files):
  for name, raw in files.items():
    path = Path(root) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
  return root


def write_zip(path, files, method=zipfile.ZIP_DEFLATED):
  path.parent.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(path, "w", method) as archive:
    for name, raw in files.items():
      archive.writestr(name, raw)
  return path


def write_either(kind, tmp_path, files):
  if kind == "zip":
    return write_zip(tmp_path / "faces.zip", files)
  return write_folder(tmp_path / "faces", files)


def assert_same(a, b):
  np.testing.assert_array_equal(a.inputs, b.inputs)
  np.testing.assert_array_equal(a.labels, b.labels)
  assert a[2:] == b[2:]


either = pytest.mark.parametrize("kind", ["folder", "zip"])


# ---- What loads ----------------------------------------------------------------------------------


@either
def test_images_are_rows_in_natural_order(kind, tmp_path):
  files = faces()
  shuffled = dict(sorted(files.items(), reverse=True))
  dataset = load_att(write_either(kind, tmp_path, shuffled))
  np.testing.assert_array_equal(dataset.inputs, expected(9).astype(np.float32))
  np.testing.assert_array_equal(dataset.labels, np.repeat([0, 1, 2], 3))
  assert dataset.inputs.dtype == np.float32 and dataset.labels.dtype == np.int32
  assert dataset.num_classes == 3 and dataset.names == ("s1", "s2", "s10")
  assert dataset.image_shape == SHAPE


@pytest.mark.parametrize("prefix", ["", "att_faces/", "orl_faces/", "my faces é/"])
@either
def test_layouts_load_alike(kind, prefix, tmp_path):
  plain = load_att(write_folder(tmp_path / "plain", faces()))
  assert_same(load_att(write_either(kind, tmp_path, faces(prefix=prefix))), plain)


@either
def test_strays_are_passed_over(kind, tmp_path):
  files = faces(prefix="att_faces/")
  strays = ["README", ".DS_Store", "Thumbs.db", "mean.pgm", "._mean.pgm", "s1", ".cache/1.pgm"]
  strays += ["__MACOSX/att_faces/s1/._1.pgm", "__MACOSX/s1/1.pgm", ".git/a/1.pgm", "docs/a.txt"]
  strays += ["att_faces/" + it for it in ("README", "mean.pgm", ".DS_Store", "s1/._1.pgm")]
  strays += ["att_faces/s1/" + it for it in ("Thumbs.db", "1.png", "1.pgm.gz", "pgm", ".x.pgm")]
  strays += ["att_faces/s2/.hidden/1.pgm", "att_faces/empty/README"]
  plain = load_att(write_folder(tmp_path / "plain", files))
  files |= dict.fromkeys(strays, b"not an image")
  assert_same(load_att(write_either(kind, tmp_path, files)), plain)


@either
def test_added_people_come_after_the_numbered(kind, tmp_path):
  people = ("s1", "s2", "s40", "s41", "anna", "Zoë")
  dataset = load_att(write_either(kind, tmp_path, faces(people, images=(1,))))
  assert dataset.names == people
  np.testing.assert_allclose(dataset.inputs, expected(6), atol=1e-7)


@either
def test_people_may_have_different_numbers_of_images(kind, tmp_path):
  files = faces(("s1",), (1, 2, 3)) | faces(("bob",), (7,))
  dataset = load_att(write_either(kind, tmp_path, files))
  assert dataset.labels.tolist() == [0, 0, 0, 1]


@either
def test_upper_case_endings(kind, tmp_path):
  plain = load_att(write_folder(tmp_path / "plain", faces()))
  files = {name.replace(".pgm", ".PGM"): raw for name, raw in faces().items()}
  assert_same(load_att(write_either(kind, tmp_path, files)), plain)


@either
def test_clashing_names_become_paths(kind, tmp_path):
  files = faces(("a/s1", "a/s2", "b/s1"), (1,))
  dataset = load_att(write_either(kind, tmp_path, files))
  assert dataset.names == ("a/s1", "s2", "b/s1")
  np.testing.assert_allclose(dataset.inputs, expected(3), atol=1e-7)


@either
def test_very_long_numbers_in_names(kind, tmp_path):
  names = ["s1/" + "9" * 200 + ".pgm", "s1/1" + "0" * 200 + ".pgm", "s2/1.pgm"]
  files = {name: pgm(face(seed)) for seed, name in enumerate(names)}
  dataset = load_att(write_either(kind, tmp_path, files))
  np.testing.assert_allclose(dataset.inputs, expected(3), atol=1e-7)


def test_places_are_tried_in_order(tmp_path):
  def images(value):
    return {f"{p}/1.pgm": pgm(np.full(SHAPE, value)) for p in ("s1", "s2")}

  write_folder(tmp_path, images(51))
  assert load_att(tmp_path).inputs[0, 0] == np.float32(0.2)
  write_zip(tmp_path / "att_faces.zip", images(102))
  assert load_att(str(tmp_path)).inputs[0, 0] == np.float32(0.4)
  write_folder(tmp_path / "att_faces", images(255))
  assert load_att(tmp_path).inputs[0, 0] == 1.0
  assert load_att(tmp_path / "att_faces.zip").inputs[0, 0] == np.float32(0.4)
  assert load_att(tmp_path / "att_faces").inputs[0, 0] == 1.0


def test_home_is_expanded(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  write_folder(tmp_path / "data", faces())
  assert load_att("~/data").num_classes == 3


def test_links_are_followed_once(tmp_path):
  plain = load_att(write_folder(tmp_path / "plain", faces()))
  root = write_folder(tmp_path / "data", faces(("s1", "s2")))
  shutil.copytree(tmp_path / "plain" / "s10", tmp_path / "elsewhere")
  (root / "s10").symlink_to(tmp_path / "elsewhere")
  (root / "a").symlink_to(root)
  (root / "again").symlink_to(root / "s1")
  (root / "s1" / "up").symlink_to("..")
  (root / "self").symlink_to("self")
  (root / "self.pgm").symlink_to("self.pgm")
  assert_same(load_att(root), plain)
  (tmp_path / "link").symlink_to(root)
  assert_same(load_att(tmp_path / "link"), plain)


def test_pipes_do_not_block(tmp_path):
  root = write_folder(tmp_path, faces())
  os.mkfifo(root / "s1" / "99.pgm")
  assert len(load_att(root).labels) == 9


def test_links_in_a_zip_are_passed_over(tmp_path):
  path = write_zip(tmp_path / "faces.zip", faces())
  plain = load_att(path)
  link = zipfile.ZipInfo("s1/3.pgm")
  link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
  with zipfile.ZipFile(path, "a") as archive:
    archive.writestr(link, "/etc/passwd")
  assert_same(load_att(path), plain)


def test_the_last_of_a_zips_doubles_counts(tmp_path):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
      archive.writestr("s1/1.pgm", pgm(face(7)))
      for name, raw in faces(("s1", "s2"), (1,)).items():
        archive.writestr(name, raw)
  np.testing.assert_allclose(load_att(tmp_path / "faces.zip").inputs, expected(2), atol=1e-7)


# ---- What does not load --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing", "a\nb", "x.zip", ""])
def test_no_such_folder(name, tmp_path):
  path = tmp_path / name if name else ""
  assert_fails(lambda: load_att(path), "no such", "--download", "--data_dir", "JAXINV_DATA")


def test_nothing_found_says_where_it_looked(tmp_path):
  (tmp_path / "s1").mkdir()
  (tmp_path / "stray.pgm").write_bytes(pgm(face(0)))
  wanted = (str(tmp_path), "att_faces.zip", "--download", "JAXINV_DATA", "synthetic_faces")
  assert_fails(lambda: load_att(tmp_path), *wanted)


@either
def test_no_pgms(kind, tmp_path):
  write_either(kind, tmp_path, {"s1/1.png": b"", "a/b/c/1.pgm": pgm(face(0)), "1.pgm": b""})
  source = tmp_path / "faces.zip" if kind == "zip" else tmp_path / "att_faces"
  if kind == "folder":
    (tmp_path / "faces").rename(source)
  assert_fails(lambda: load_att(source), "PGMs one or two folders below", str(source))
  assert_fails(lambda: load_att(source if kind == "zip" else tmp_path), "no PGMs", "--download")


@either
def test_one_person(kind, tmp_path):
  source = write_either(kind, tmp_path, faces(("anna",)))
  assert_fails(lambda: load_att(source), "one person", "anna", str(source))


@either
def test_images_and_people_in_one_folder(kind, tmp_path):
  source = write_either(kind, tmp_path, faces() | {"s1/old/1.pgm": pgm(face(0))})
  assert_fails(lambda: load_att(source), "s1 holds images and folders", "move")


@either
def test_different_sizes_name_two_images(kind, tmp_path):
  source = write_either(kind, tmp_path, faces() | {"s2/3.pgm": pgm(face(0, (4, 6)))})
  wanted = ("s1/1.pgm is 4 x 5", "s2/3.pgm is 6 x 4", "one size")
  assert_fails(lambda: load_att(source), *wanted)


@either
def test_a_transposed_image_is_another_size(kind, tmp_path):
  source = write_either(kind, tmp_path, faces() | {"s2/3.pgm": pgm(face(0, SHAPE[::-1]))})
  assert_fails(lambda: load_att(source), "s2/3.pgm is 5 x 4")


@pytest.mark.parametrize("raw", [b"", pgm(face(0))[:-1], b"P2\n1 1\n255\n7\n", b"\x89PNG\r\n"])
@either
def test_a_broken_image_is_named(kind, raw, tmp_path):
  source = write_either(kind, tmp_path, faces() | {"s2/3.pgm": raw})
  assert_fails(lambda: load_att(source), f"{source}/s2/3.pgm")


@either
def test_an_image_too_large(kind, tmp_path, monkeypatch):
  source = write_either(kind, tmp_path, faces())
  monkeypatch.setattr(att, "MAX_IMAGE_BYTES", 20)
  assert_fails(lambda: load_att(source), "s1/1.pgm", "over 20 bytes")


@either
def test_images_too_large_together(kind, tmp_path, monkeypatch):
  source = write_either(kind, tmp_path, faces())
  monkeypatch.setattr(att, "MAX_TOTAL_BYTES", 200)
  assert_fails(lambda: load_att(source), str(source), "over 200 bytes")


def test_a_link_to_nothing(tmp_path):
  root = write_folder(tmp_path, faces())
  (root / "s2" / "3.pgm").symlink_to("gone")
  assert_fails(lambda: load_att(root), "cannot read", "s2/3.pgm", "No such file")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
@pytest.mark.parametrize("name", ["s2/1.pgm", "s2"])
def test_no_permission(name, tmp_path):
  root = write_folder(tmp_path, faces())
  (root / name).chmod(0)
  try:
    assert_fails(lambda: load_att(root), "cannot read", name, "Permission denied")
  finally:
    (root / name).chmod(0o700)


@pytest.mark.parametrize("function", ["builtins.open", "os.listdir", "zipfile.ZipFile.open"])
def test_an_unreadable_file(function, tmp_path, monkeypatch):
  def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")

  kind = "zip" if "zip" in function else "folder"
  source = write_either(kind, tmp_path, faces())
  with monkeypatch.context() as patch:
    # The module has taken `open` by its name, so that the patch must reach it there.
    patch.setattr(
      *((att, "open") if "builtins" in function else (function,)), refuse, raising=False
    )
    assert_fails(lambda: load_att(source), "cannot read", "Permission denied")


# ---- Zips that are broken or mean harm -----------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 300, -1, -30])
def test_a_cut_zip(size, tmp_path):
  path = write_zip(tmp_path / "att_faces.zip", faces())
  path.write_bytes(path.read_bytes()[:size])
  assert_fails(lambda: load_att(tmp_path), "cannot read", str(path))


def test_no_zip(tmp_path):
  path = tmp_path / "faces.txt"
  path.write_text("P5 is not all there is")
  assert_fails(lambda: load_att(path), "cannot read", str(path), "not a zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_wrong_checksum(method, tmp_path):
  path = write_zip(tmp_path / "faces.zip", faces(), method)
  raw = path.read_bytes()
  with zipfile.ZipFile(path) as archive:
    info = archive.getinfo("s2/1.pgm")
    begin = info.header_offset + 30 + len(info.filename)
  middle = begin + info.compress_size // 2
  path.write_bytes(raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :])
  assert_fails(lambda: load_att(path), "cannot read", "s2/1.pgm")


def test_an_encrypted_zip(tmp_path):
  path = write_zip(tmp_path / "faces.zip", faces())
  raw = bytearray(path.read_bytes())
  with zipfile.ZipFile(path) as archive:
    offset = archive.getinfo("s1/1.pgm").header_offset
  raw[offset + 6] |= 1
  raw[raw.index(b"PK\x01\x02") + 8] |= 1
  path.write_bytes(raw)
  assert_fails(lambda: load_att(path), "s1/1.pgm", "encrypted", "pack it anew")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bound_are_refused(method, tmp_path):
  path = write_zip(tmp_path / "faces.zip", faces(), method)
  assert_fails(lambda: load_att(path), "deflated", "pack it anew")


@pytest.mark.parametrize(
  "name",
  [
    *("../s3/1.pgm", "s3/../../1.pgm", "/s3/1.pgm", "C:/s3/1.pgm", "c:1.pgm", "s3\\1.pgm", "..\\x"),
    *("..", "//host/s3/1.pgm", "s3/..", "s3/1.pgm\0.txt", "../README", "s\n\\3/1.pgm"),
  ],
)
def test_a_path_that_leaves_the_zip(name, tmp_path):
  path = tmp_path / "faces.zip"
  with zipfile.ZipFile(path, "w") as archive:
    for good, raw in faces().items():
      archive.writestr(good, raw)
    info = zipfile.ZipInfo("x")
    info.filename = name  # Past the constructor, which mends some names.
    archive.writestr(info, pgm(face(0)))
  assert_fails(lambda: load_att(path), "unsafe path", str(path))


def lie_about_size(path, name, size):
  """Declares another unpacked size of a member in the zip's directory."""
  raw = bytearray(path.read_bytes())
  place = raw.index(b"PK\x01\x02")
  while raw[place + 46 : place + 46 + len(name)] != name.encode():
    place = raw.index(b"PK\x01\x02", place + 4)
  raw[place + 24 : place + 28] = struct.pack("<I", size)
  path.write_bytes(raw)


@pytest.mark.parametrize("size", [0, 20, 10**6])
def test_a_member_that_lies_about_its_size(size, tmp_path):
  path = write_zip(tmp_path / "faces.zip", faces() | {"s2/1.pgm": b"P5" + bytes(10**5)})
  lie_about_size(path, "s2/1.pgm", size)
  assert_fails(lambda: load_att(path), "s2/1.pgm")


def test_a_bomb_is_not_unpacked(tmp_path):
  path = write_zip(tmp_path / "faces.zip", faces() | {"s2/1.pgm": bytes(att.MAX_IMAGE_BYTES + 1)})
  assert_fails(lambda: load_att(path), "s2/1.pgm", "over")


def test_broken_zips_raise_nothing_else(tmp_path):
  good = write_zip(tmp_path / "good.zip", faces()).read_bytes()
  path, rng, failed = tmp_path / "bad.zip", random.Random(0), 0
  for _ in range(1500):
    raw = bytearray(good)
    for _ in range(rng.choice([1, 1, 2, 8])):
      raw[rng.randrange(len(raw))] = rng.randrange(256)
    path.write_bytes(raw[: rng.choice([len(raw), rng.randrange(len(raw))])])
    try:
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_att(path)
    except InputError as error:
      failed += 1
      assert "\n" not in str(error)
  assert failed > 500


# ---- One PGM -------------------------------------------------------------------------------------

HEADERS = [
  b"P5\n4 5\n255\n",
  b"P5 4 5 255 ",
  b"P5\t4\t5\t255\t",
  b"P5\r4\r5\r255\r",
  b"P5\r\n4 5\r\n255\r\n",
  b"P5\r\n# by a Windows tool\r\n4 5\r\n255\r\n",
  b"P5\x0b4\x0c5 \n 255\n",
  b"P5\n\n  4\n\n5 \t 255\n",
  b"P5\n# CREATOR: xv 3.10a\n4 5\n255\n",
  b"P5 # one\n# two 9 9 9\n4 # width\n5#height\n# maxval\n255\n",
  b"P5#\n4#\n5#\n255\n",
  b"P5\n4 5\n255# after the maxval\n",
  b"P5\n4 5\n255 # after the maxval\n",
  b"P5\n4 5\n255\n# after the maxval\n# and again\n",
  b"P5\n4 5\n255\r\n",
  b"P5\n4 5\n255 \n",
  b"P5\n#\xff\xfe not ASCII\n4 5\n255\n",
  b"P5\n004 05\n0255\n",
]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("first", [b"\n", b"\r", b"#", b" ", b"7", b"\0"])
def test_headers(header, first):
  image = face(3)
  image[0, 0] = first[0]
  decoded = read_pgm(pgm(image, header=header), "here")
  assert decoded.dtype == np.float32
  np.testing.assert_array_equal(decoded, (image / 255).astype(np.float32))


@pytest.mark.parametrize("header", [*HEADERS[:11], HEADERS[16]])
@pytest.mark.parametrize("tail", [b"\n", b"\r\n", b"\0" * 7, b"P5\n4 5\n255\n" + b"x" * 20])
def test_bytes_after_the_raster_are_passed_over(header, tail):
  image = face(4)
  image[0, 0] = 10 if b"\n" in header else 7  # A line end that is a pixel.
  decoded = read_pgm(pgm(image, header=header) + tail, "here")
  np.testing.assert_array_equal(decoded, (image / 255).astype(np.float32))


@pytest.mark.parametrize("maxval", [1, 2, 100, 254, 255, 256, 257, 1023, 4095, 65535])
def test_values_are_shares_of_maxval(maxval):
  image = np.array([[0, 1], [maxval // 2, maxval]])
  decoded = read_pgm(pgm(image, maxval), "here")
  assert decoded.dtype == np.float32
  np.testing.assert_array_equal(decoded, (image / maxval).astype(np.float32))


def test_two_bytes_are_big_endian():
  assert read_pgm(b"P5 1 1 65535 \x01\x00", "here")[0, 0] == np.float32(256 / 65535)


@pytest.mark.parametrize(
  ("raw", "part"),
  [
    (b"", "begins with b''"),
    (b"P2\n1 1\n255\n7\n", "P2"),
    (b"P6\n1 1\n255\nabc", "P6"),
    (b"\x89PNG\r\n\x1a\n", "\\x89P"),
    (b"P5", "header"),
    (b"P5\n4 5\n255", "header"),
    (b"P5\n4 5\n255#no end", "header"),
    (b"P5\n4 5\n" + b"x" * 20, "header"),
    (b"P51 1 255\n7", "header"),
    (b"P5\n-4 5\n255\n" + b"x" * 20, "header"),
    (b"P5\n4.0 5\n255\n" + b"x" * 20, "header"),
    (b"P5\n0 5\n255\n", "header"),
    (b"P5\n4 0\n255\n", "header"),
    (b"P5\n1 1\n0\n\0", "header"),
    (b"P5\n1 1\n65536\n\0\0", "header"),
    (b"P5\n" + b"9" * 5000 + b" 1\n255\n", "header"),
    (b"P5\n4 5\n255\n" + b"x" * 19, "truncated"),
    (b"P5\r\n4 5\r\n255\r\n" + b"x" * 19, "truncated"),
    (b"P5\n4 5\n65535\n" + b"x" * 39, "truncated"),
    (b"P5\n999999999 999999999\n255\nabc", "truncated"),
    (b"P5\n1 1\n100\n\xc8", "above its maxval"),
  ],
)
def test_a_bad_pgm(raw, part):
  assert_fails(lambda: read_pgm(raw, "in/some/place"), "in/some/place", part)


# Not the looser breaks: a file cut behind one can be a whole file with another beginning.
@pytest.mark.parametrize("header", [*HEADERS[:12], *HEADERS[16:]])
def test_every_cut_is_noticed(header):
  raw = pgm(np.full(SHAPE, 200), header=header)
  for size in range(len(raw)):
    assert_fails(lambda size=size: read_pgm(raw[:size], "here"), "here")


def test_broken_pgms_raise_nothing_else():
  rng, decoded = random.Random(0), 0
  for _ in range(20000):
    header = rng.choice(HEADERS)
    raw = bytearray(pgm(face(0), rng.choice([255, 65535]), header))
    for _ in range(rng.randrange(4)):
      raw[rng.randrange(len(header))] = rng.choice([rng.randrange(256), *b"0123456789 \n\r\t#P"])
    raw = raw[: rng.choice([len(raw), rng.randrange(len(raw) + 1)])]
    try:
      image = read_pgm(bytes(raw), "here")
    except InputError as error:
      assert "\n" not in str(error)
      continue
    decoded += 1
    assert image.ndim == 2 and image.min() >= 0 and image.max() <= 1
  assert decoded > 2000


def test_headers_take_linear_time():
  for filler in (b"#" * 10**6, b" " * 10**6, b"#\n" * 10**6, b"1 " * 10**6, b"\n#" * 10**6):
    for raw in (b"P5" + filler, b"P5 1 1 255" + filler):
      try:
        read_pgm(raw, "here")
      except InputError as error:
        assert len(str(error)) < 200


# ---- The download, without a network: what is there already --------------------------------------


def test_download_replaces_a_broken_zip(tmp_path, monkeypatch):
  good = write_zip(tmp_path / "good.zip", faces())
  dataset = load_att(good)

  def give(url, known_hash, fname, path):
    return str(shutil.copy(good, Path(path) / fname))

  monkeypatch.setattr("pooch.retrieve", give)
  monkeypatch.setattr(att, "PIXEL_SHA256", pixel_digest(dataset))
  (tmp_path / "att_faces.zip").write_bytes(b"half a zip")
  assert_same(load_att(download_att(str(tmp_path))), dataset)


def test_download_leaves_other_peoples_faces(tmp_path, monkeypatch):
  path = write_zip(tmp_path / "att_faces.zip", faces())
  before = path.read_bytes()
  monkeypatch.setattr("pooch.retrieve", None)  # Nothing is asked for.
  assert_fails(lambda: download_att(tmp_path), "other faces", "move it away")
  assert path.read_bytes() == before


# ---- The real faces ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
  root = os.environ.get("JAXINV_DATA")
  if not root or not (Path(root) / "att_faces").is_dir():
    pytest.skip("JAXINV_DATA names no folder with att_faces/")
  return Path(root)


def test_the_real_faces(real):
  dataset = load_att(real)
  assert dataset.inputs.shape == (400, 112 * 92) and dataset.image_shape == (112, 92)
  assert dataset.names == tuple(f"s{i}" for i in range(1, 41)) and dataset.num_classes == 40
  np.testing.assert_array_equal(dataset.labels, np.repeat(np.arange(40), 10))
  assert pixel_digest(dataset) == att.PIXEL_SHA256


def test_the_digest_is_of_the_files_own_bytes(real):
  digest = hashlib.sha256()
  for person in range(1, 41):
    for i in range(1, 11):
      raw = (real / "att_faces" / f"s{person}" / f"{i}.pgm").read_bytes()
      digest.update(raw[-112 * 92 :])
  assert digest.hexdigest() == att.PIXEL_SHA256


@pytest.mark.parametrize("prefix", ["", "orl_faces/"])
def test_the_real_faces_in_a_zip(real, prefix, tmp_path, monkeypatch):
  root = real / "att_faces"
  files = {prefix + str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.pgm")}
  path = write_zip(tmp_path / "att_faces.zip", files | {"README": b"faces"})
  assert_same(load_att(path), load_att(real))
  monkeypatch.setattr("pooch.retrieve", None)  # What is there already is not fetched.
  assert download_att(tmp_path) == path
