"""CIFAR-10 from folders and archives: each loads alike, and every fault is one clear line."""

import functools
import gzip
import io
import os
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest

from helpers import assert_fails
from jaxinv.data import cifar10
from jaxinv.data.cifar10 import NAMES, download_cifar10, load_cifar10
from jaxinv.errors import InputError

RECORD = 3073
META = b"\n".join(name.encode() for name in NAMES) + b"\n\n"
TEST = "test_batch.bin"


def records(seed, count=10, labels=None):
  """Random records; their classes in turn unless given."""
  raw = np.random.default_rng(seed).integers(0, 256, (count, RECORD)).astype(np.uint8)
  raw[:, 0] = np.arange(count) % 10 if labels is None else labels
  return raw


def batches(numbers=(1, 2, 10)):
  """Name -> bytes: some training files and the test file, no two alike."""
  files = {f"data_batch_{i}.bin": records(i).tobytes() for i in numbers}
  return files | {TEST: records(99).tobytes()}


def expected(raw):
  """The images of records, pixel by pixel as the format's page tells them."""
  planes = raw[:, 1:].reshape(-1, 3, 1024)
  return np.stack([planes[:, c] for c in range(3)], -1).reshape(len(raw), -1) / np.float32(255)


def write_folder(root, files):
  root = Path(root)
  root.mkdir(parents=True, exist_ok=True)
  for name, raw in files.items():
    (root / name).write_bytes(raw)
  return root


def write_tar(path, files, mode="w:gz", extra=(), form=tarfile.USTAR_FORMAT):
  """An archive of files by name, then of `extra`: pairs of a TarInfo and its bytes."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(path, mode, format=form) as archive:
    for name, raw in files.items():
      info = tarfile.TarInfo(name)
      info.size = len(raw)
      archive.addfile(info, io.BytesIO(raw))
    for info, raw in extra:
      archive.addfile(info, io.BytesIO(raw))
  return path


def in_folder(files, folder="cifar-10-batches-bin/"):
  return {folder + name: raw for name, raw in files.items()}


def write_either(kind, tmp_path, files):
  if kind == "archive":
    return write_tar(tmp_path / "cifar.tar.gz", in_folder(files))
  return write_folder(tmp_path / "cifar", files)


def assert_same(a, b):
  for x, y in zip(a, b, strict=True):
    np.testing.assert_array_equal(x.inputs, y.inputs)
    np.testing.assert_array_equal(x.labels, y.labels)
    assert x[2:] == y[2:]


either = pytest.mark.parametrize("kind", ["folder", "archive"])


# ---- What loads ----------------------------------------------------------------------------------


@either
def test_images_are_in_the_order_of_their_files_numbers(kind, tmp_path):
  data = load_cifar10(write_either(kind, tmp_path, batches()))
  raw = np.concatenate([records(1), records(2), records(10)])
  np.testing.assert_array_equal(data.train.inputs, expected(raw))
  np.testing.assert_array_equal(data.train.labels, raw[:, 0])
  np.testing.assert_array_equal(data.test.inputs, expected(records(99)))
  for side in data:
    assert side.inputs.dtype == np.float32 and side.labels.dtype == np.int32
    assert side.image_shape == (32, 32, 3) and side.num_classes == 10 and side.names == NAMES


@pytest.mark.parametrize("resolution", [32, 16, 8, 4])
def test_colours_and_places_are_where_they_belong(resolution, tmp_path):
  """One block of one colour of one image is lit, and nothing else."""
  row, column, colour, block = 1, 2, 1, 32 // resolution
  planes = np.zeros((10, 3, 32, 32), np.uint8)
  rows, columns = (slice(i * block, (i + 1) * block) for i in (row, column))
  planes[7, colour, rows, columns] = 51
  raw = np.concatenate([np.arange(10, dtype=np.uint8)[:, None], planes.reshape(10, -1)], 1)
  root = write_folder(tmp_path, {"data_batch_1.bin": raw.tobytes(), TEST: raw.tobytes()})
  train = load_cifar10(root, resolution).train
  wanted = np.zeros((10, resolution, resolution, 3))
  wanted[7, row, column, colour] = 0.2
  assert train.image_shape == wanted.shape[1:]
  np.testing.assert_array_equal(train.inputs, wanted.reshape(10, -1).astype(np.float32))


@pytest.mark.parametrize("resolution", [16, 8, 4])
def test_averaging_down_gives_the_blocks_exact_means(resolution, tmp_path):
  root = write_folder(tmp_path, batches())
  block = 32 // resolution
  whole = load_cifar10(root).test.inputs.astype(np.float64) * 255
  blocks = np.rint(whole).reshape(10, resolution, block, resolution, block, 3)
  wanted = (blocks.mean((2, 4)) / 255).astype(np.float32).reshape(10, -1)
  np.testing.assert_array_equal(load_cifar10(root, resolution).test.inputs, wanted)


def test_extreme_bytes_are_0_and_1_at_every_resolution(tmp_path):
  raw = np.repeat(np.array([[0], [255]], np.uint8), 10, 0) * np.ones((1, RECORD), np.uint8)
  raw[:, 0] = np.arange(20) % 10
  root = write_folder(tmp_path, {"data_batch_1.bin": raw.tobytes(), TEST: raw.tobytes()})
  for resolution in cifar10.RESOLUTIONS:
    inputs = load_cifar10(root, resolution).train.inputs
    assert (inputs[:10] == 0).all() and (inputs[10:] == 1).all()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize(
  "folder", ["", "./", "cifar-10-batches-bin/", "my data é/" + "x" * 120 + "/"]
)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_archives_load_as_folders_do(mode, folder, form, tmp_path):
  files = batches() | {"batches.meta.txt": META, "readme.html": b"<html>"}
  plain = load_cifar10(write_folder(tmp_path / "plain", files))
  path = write_tar(tmp_path / "any name", in_folder(files, folder), mode, form=form)
  assert_same(load_cifar10(path), plain)


def test_the_first_of_four_places_is_taken(tmp_path):
  def one(seed):
    return {"data_batch_1.bin": records(seed).tobytes(), TEST: records(99).tobytes()}

  def first():
    return load_cifar10(tmp_path).train.inputs

  write_folder(tmp_path, one(1))
  np.testing.assert_array_equal(first(), expected(records(1)))
  path = write_tar(tmp_path / "cifar-10-binary.tar.gz", in_folder(one(2)))
  np.testing.assert_array_equal(first(), expected(records(2)))
  write_folder(tmp_path / "cifar-10-batches-bin", one(3))
  np.testing.assert_array_equal(first(), expected(records(3)))
  np.testing.assert_array_equal(load_cifar10(path).train.inputs, expected(records(2)))


@either
def test_strays_are_passed_over(kind, tmp_path):
  plain = load_cifar10(write_folder(tmp_path / "plain", batches()))
  strays = ["readme.html", "data_batch_.bin", "data_batch_1.bin~", "._data_batch_3.bin", "test.bin"]
  strays += ["data_batch_3.BIN.part", "xdata_batch_3.bin", "test_batch.bin.gz", "data_batch_x.bin"]
  files = batches() | dict.fromkeys(strays, b"no records")
  assert_same(load_cifar10(write_either(kind, tmp_path, files)), plain)


def test_files_may_differ_in_their_number_of_records(tmp_path):
  files = {f"data_batch_{i}.bin": records(i, 10 * i + i % 3).tobytes() for i in (1, 2)}
  data = load_cifar10(write_folder(tmp_path, files | {TEST: records(9, 31).tobytes()}))
  assert len(data.train.labels) == 11 + 22 and len(data.test.labels) == 31


def test_the_home_folder_may_be_a_tilde(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(write_folder(tmp_path, batches())))
  assert len(load_cifar10("~").train.labels) == 30


@pytest.mark.parametrize(
  ("meta", "names"),
  [
    (b"".join(b" c%d \r\n" % i for i in range(10)), tuple(f"c{i}" for i in range(10))),
    (b"\n\n" + META, NAMES),
    (b"", NAMES),
    (b"cat\ndog\n", NAMES),
    (META + b"frog princess", NAMES),
    (b"cat\n" * 10, NAMES),
    (META.replace(b"cat", b"\xff\x1b"), tuple({"cat": "\ufffd\\x1b"}.get(n, n) for n in NAMES)),
  ],
)
@either
def test_names_of_classes(kind, meta, names, tmp_path):
  source = write_either(kind, tmp_path, batches() | {"batches.meta.txt": meta})
  data = load_cifar10(source)
  assert data.train.names == data.test.names == names


# ---- What does not -------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [0, -16, 1, 2, 5, 31, 33, 64])
def test_resolutions_that_blocks_cannot_give(resolution, tmp_path):
  root = write_folder(tmp_path, batches())
  assert_fails(
    lambda: load_cifar10(root, resolution), f"resolution is {resolution}", "32, 16, 8, 4"
  )


@pytest.mark.parametrize("name", ["missing", "a\nb"])
def test_no_such_folder(name, tmp_path):
  call = functools.partial(load_cifar10, tmp_path / name)
  assert_fails(call, "no such folder", "--download", "--data_dir", "JAXINV_DATA")
  assert_fails(call, "--dataset=synthetic_shapes needs no file")


def test_nothing_in_the_folder(tmp_path):
  write_folder(tmp_path, {"photo.bin": b"", TEST: records(0).tobytes()})
  assert_fails(lambda: load_cifar10(tmp_path), str(tmp_path), "nor data_batch_1.bin", "--download")


@pytest.mark.parametrize(
  ("left_out", "part"), [("data_batch_1.bin", "no training file"), (TEST, "no test file")]
)
@either
def test_files_that_are_missing(kind, left_out, part, tmp_path):
  files = batches((1,))
  del files[left_out]
  # In the named folder, as one without training files is not taken for CIFAR-10's otherwise.
  write_folder(tmp_path / "cifar-10-batches-bin", files)
  write_tar(tmp_path / "cifar.tar.gz", files)
  source = tmp_path / "cifar.tar.gz" if kind == "archive" else tmp_path
  assert_fails(lambda: load_cifar10(source), part, left_out, "--download", "synthetic_shapes")


@pytest.mark.parametrize("name", ["data_batch_2.bin", TEST])
@pytest.mark.parametrize(("size", "part"), [(0, "empty"), (3072, "3072 bytes"), (-1, "3073")])
@either
def test_files_that_are_no_whole_records(kind, name, size, part, tmp_path):
  files = batches()
  files[name] = files[name][:size]
  assert_fails(lambda: load_cifar10(write_either(kind, tmp_path, files)), name, part, "whole copy")


@pytest.mark.parametrize("name", ["data_batch_2.bin", TEST])
@either
def test_a_label_above_9(kind, name, tmp_path):
  raw = records(0)
  raw[[6, 8], 0] = 10, 255
  source = write_either(kind, tmp_path, batches() | {name: raw.tobytes()})
  assert_fails(lambda: load_cifar10(source), name, "record 7 of 10", "label 10", "above 9")


@pytest.mark.parametrize(("name", "kind"), [("data_batch_1.bin", "training"), (TEST, "test")])
def test_a_class_without_images(name, kind, tmp_path):
  raw = records(0, labels=[0, 1, 2, 4, 4, 5, 6, 7, 8, 9])
  root = write_folder(tmp_path, batches((1,)) | {name: raw.tobytes()})
  assert_fails(lambda: load_cifar10(root), "'cat'", f"no {kind} image", str(root), "--download")


@either
def test_files_too_large_together(kind, tmp_path, monkeypatch):
  source = write_either(kind, tmp_path, batches())
  monkeypatch.setattr(cifar10, "MAX_TOTAL_BYTES", 100_000)
  assert_fails(lambda: load_cifar10(source), str(source), "over 100000 bytes", "give fewer")


def test_what_is_no_file(tmp_path):
  root = write_folder(tmp_path, batches())
  (root / "data_batch_3.bin").symlink_to("gone")
  assert_fails(lambda: load_cifar10(root), "cannot read", "data_batch_3.bin", "No such file")
  (root / "data_batch_3.bin").unlink()
  os.mkfifo(root / "data_batch_3.bin")
  assert_fails(lambda: load_cifar10(root), "data_batch_3.bin is not a file")


@pytest.mark.parametrize("function", ["open", "os.listdir"])
@either
def test_unreadable(kind, function, tmp_path, monkeypatch):
  def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")

  source = write_either(kind, tmp_path, batches())
  if (kind, function) == ("archive", "os.listdir"):
    source = tmp_path  # With nothing by a known name, so that the folder itself is looked into.
  with monkeypatch.context() as patch:
    patch.setattr(
      *((cifar10, "open") if function == "open" else (function,)), refuse, raising=False
    )
    assert_fails(lambda: load_cifar10(source), "cannot read", "Permission denied")


# ---- Archives that are broken or mean harm -------------------------------------------------------


def info(name, kind, size=0, target=""):
  made = tarfile.TarInfo(name)
  made.type, made.size, made.linkname = kind, size, target
  return made


@pytest.mark.parametrize("name", ["data_batch_3.bin", "readme"])
@pytest.mark.parametrize(
  "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_refused(kind, name, tmp_path):
  extra = [(info(name, kind, target="/etc/passwd"), b"")]
  path = write_tar(tmp_path / "cifar.tar", batches(), "w", extra)
  assert_fails(lambda: load_cifar10(path), name, "a link or a device", "pack it anew")


@pytest.mark.parametrize("name", ["data_batch_1.bin", "other/data_batch_1.bin"])
def test_members_there_twice_are_refused(name, tmp_path):
  raw = records(3).tobytes()
  extra = [(info(name, tarfile.REGTYPE, len(raw)), raw)]
  path = write_tar(tmp_path / "cifar.tar.gz", batches(), "w:gz", extra)
  assert_fails(lambda: load_cifar10(path), name, "twice")


def test_a_folder_by_a_files_name_is_no_file(tmp_path):
  extra = [(info("data_batch_3.bin", tarfile.DIRTYPE), b"")]
  path = write_tar(tmp_path / "cifar.tar.gz", batches(), "w:gz", extra)
  assert len(load_cifar10(path).train.labels) == 30


@pytest.mark.parametrize("name", ["data_batch_3.bin", "readme"])
@pytest.mark.parametrize("size", [10**6, 2**33 - 1, 2**60])
def test_a_member_that_promises_more_than_there_is(name, size, tmp_path):
  path = tmp_path / "cifar.tar"
  # GNU's form, as it can promise the most.
  header = info(name, tarfile.REGTYPE, size).tobuf(tarfile.GNU_FORMAT)
  good = write_tar(path, batches(), "w").read_bytes()
  path.write_bytes(header + good)
  assert_fails(lambda: load_cifar10(path), "cifar.tar")


@pytest.mark.parametrize("name", ["data_batch_3.bin", "readme"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_bomb_is_not_unpacked(kind, name, tmp_path, monkeypatch):
  monkeypatch.setattr(cifar10, "MAX_TOTAL_BYTES", 2**20)
  path = tmp_path / "cifar.tar.gz"
  with gzip.open(path, "wb", compresslevel=1) as file:
    file.write(info(name, kind, 2**26).tobuf(tarfile.GNU_FORMAT) + bytes(2**26 + 1024))
  read = []
  real = gzip.GzipFile.read

  def count(self, size=-1):
    raw = real(self, size)
    read.append(len(raw))
    return raw

  monkeypatch.setattr(gzip.GzipFile, "read", count)
  assert_fails(lambda: load_cifar10(path), "over 1048576 bytes")
  assert sum(read) < 2**20 + 2**16


def test_a_file_larger_than_all_may_be_is_not_begun(tmp_path, monkeypatch):
  monkeypatch.setattr(cifar10, "MAX_TOTAL_BYTES", 30_000)
  path = write_tar(tmp_path / "cifar.tar", batches((1,)), "w")
  monkeypatch.setattr("tarfile.TarFile.extractfile", None)
  assert_fails(lambda: load_cifar10(path), "data_batch_1.bin", "over 30000 bytes")


def test_too_many_members(tmp_path, monkeypatch):
  monkeypatch.setattr(cifar10, "MAX_MEMBERS", 20)
  path = write_tar(tmp_path / "cifar.tar", dict.fromkeys(map(str, range(21)), b""), "w")
  assert_fails(lambda: load_cifar10(path), "over 20 members")


@pytest.mark.parametrize("raw", [b"", b"no archive", b"\x1f\x8b", b"\x1f\x8b\x08\0", b"x" * 2000])
def test_no_archive(raw, tmp_path):
  (tmp_path / "cifar-10-binary.tar.gz").write_bytes(raw)
  assert_fails(lambda: load_cifar10(tmp_path), "cannot read", "binary.tar.gz", "whole copy")


def test_an_archive_of_nothing(tmp_path):
  path = write_tar(tmp_path / "cifar.tar.gz", {})
  assert_fails(lambda: load_cifar10(path), "no training file")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_every_cut_is_noticed(mode, tmp_path):
  files = {f"data_batch_{i}.bin": records(i).tobytes() for i in (1, 2, 3)}
  path = write_tar(tmp_path / "cifar", {TEST: records(0).tobytes()} | files, mode)
  whole, rng = path.read_bytes(), random.Random(0)
  # What fills a plain archive up behind its end (two empty blocks) may be missing.
  last = len(whole) if mode == "w:gz" else 4 * (512 + 61 * 512)
  # With all edges of blocks in the plain one, where nothing but the missing end tells.
  cuts = {*range(0, last, 512), *(rng.randrange(last) for _ in range(60)), last - 1}
  if mode == "w:gz":
    cuts = set(rng.sample(sorted(cuts), 60)) | {last - 1, last - 8, last - 9}
  for size in cuts | ({last} if mode == "w" else set()):
    path.write_bytes(whole[:size])
    assert_fails(lambda: load_cifar10(path), "cannot read", str(path))


def test_every_damaged_header_is_noticed(tmp_path):
  path = write_tar(tmp_path / "cifar.tar", batches(), "w")
  whole = path.read_bytes()
  for member in range(4):
    raw = bytearray(whole)
    raw[member * (512 + 61 * 512) + 150] ^= 1  # In its checksum.
    path.write_bytes(raw)
    assert_fails(lambda: load_cifar10(path), "cannot read", str(path))


def test_a_wrong_checksum_of_gzip_is_noticed(tmp_path):
  """In the images themselves nothing else would tell."""
  path = tmp_path / "cifar.tar.gz"
  plain = write_tar(path, batches(), "w").read_bytes()
  packed = bytearray(gzip.compress(plain, 0))  # Level 0 stores the bytes as they are.
  packed[20_000] ^= 1
  path.write_bytes(packed)
  assert_fails(lambda: load_cifar10(path), "cannot read", "CRC")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_broken_archives_raise_nothing_else(mode, form, tmp_path):
  name = "é" * 60 + "/data_batch_1.bin"  # With a header of its own in either form.
  path = write_tar(tmp_path / "cifar", {name: b"no record"}, mode, form=form)
  whole, rng, failed = path.read_bytes().rstrip(b"\0"), random.Random(0), 0
  for _ in range(500):
    raw = bytearray(whole)
    for _ in range(rng.choice([1, 1, 2, 8])):
      raw[rng.randrange(len(raw))] = rng.choice([rng.randrange(256), *b"0179xgLSK \0="])
    path.write_bytes(raw + bytes(rng.choice([0, 1024])) * (mode == "w"))
    with pytest.raises(InputError) as caught:
      load_cifar10(path)
    failed += "cannot read" in str(caught.value)
    assert str(caught.value).isprintable()
  assert failed > 100


# ---- The download, without a network: what is there already --------------------------------------


@pytest.mark.parametrize("raw", [b"", b"half an archive"])
def test_download_leaves_what_is_not_its_own(raw, tmp_path, monkeypatch):
  path = tmp_path / "cifar-10-binary.tar.gz"
  path.write_bytes(raw)
  monkeypatch.setattr("pooch.retrieve", None)  # Nothing is asked for.
  assert_fails(lambda: download_cifar10(tmp_path), str(path), "not CIFAR-10's", "move it away")
  assert path.read_bytes() == raw


def test_download_leaves_a_folder_by_its_name(tmp_path):
  (tmp_path / "cifar-10-binary.tar.gz").mkdir()
  assert_fails(lambda: download_cifar10(tmp_path), "cannot read", "Is a directory")


def test_the_official_address_and_digest():
  assert cifar10.URL == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
  assert cifar10.MD5 == "c32a1d4ab5d03f1284b67883e8d87530"


# ---- The real images -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
  root = os.environ.get("JAXINV_DATA")
  if not root or not (Path(root) / "cifar-10-batches-bin").is_dir():
    pytest.skip("JAXINV_DATA names no folder with cifar-10-batches-bin/")
  return Path(root)


def test_the_real_images(real):
  data = load_cifar10(real)
  folder = real / "cifar-10-batches-bin"
  raw = [(folder / f"data_batch_{i}.bin").read_bytes() for i in range(1, 6)]
  assert len(data.train.labels) * RECORD == sum(map(len, raw)) and data.train.names == NAMES
  first = np.frombuffer(raw[0][:RECORD], np.uint8)
  assert data.train.labels[0] == first[0]
  np.testing.assert_array_equal(data.train.inputs[0], expected(first[None])[0])
  last = np.frombuffer((folder / TEST).read_bytes()[-RECORD:], np.uint8)
  np.testing.assert_array_equal(data.test.inputs[-1], expected(last[None])[0])


def test_the_real_images_are_smooth_in_both_directions_and_similar_in_all_colours(real):
  """Which they are not where rows, columns or colours are mixed up."""
  images = load_cifar10(real).test.inputs.reshape(-1, 32, 32, 3)
  spread = images.std((1, 2, 3)).mean()
  for axis in (1, 2):
    assert np.abs(np.diff(images, axis=axis)).mean() < 0.3 * spread
  red, green, blue = images.reshape(-1, 3).T
  assert min(np.corrcoef(red, green)[0, 1], np.corrcoef(green, blue)[0, 1]) > 0.8
