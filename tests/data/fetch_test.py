"""Reading and downloading: every fault is one clear line, and a download is whole or not there.

Both data sets that are downloaded go through the same tests, with small stand-ins for the files.
"""

import functools
import hashlib
import http.server
import io
import os
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pooch
import pytest

from helpers import assert_fails
from jaxinv.data import att, cifar10
from jaxinv.data.fetch import download, explained
from jaxinv.errors import InputError


def write_faces(path):
  """Two people, with an image of one pixel each."""
  with zipfile.ZipFile(path, "w") as archive:
    for number in (1, 2):
      archive.writestr(f"s{number}/1.pgm", b"P5 1 1 255 %c" % number)


def write_batches(path):
  """An image of each class, all black, to train on and to test on."""
  raw = b"".join(bytes([label]) + bytes(3072) for label in range(10))
  with tarfile.open(path, "w:gz") as archive:
    for name in ("data_batch_1.bin", "test_batch.bin"):
      info = tarfile.TarInfo(name)
      info.size = len(raw)
      archive.addfile(info, io.BytesIO(raw))


class Source(NamedTuple):
  """A data set that can be downloaded.

  Attributes:
    module: of its loader; `URL` in it is where it comes from.
    load, download: the module's functions, of a folder.
    archive: the name under which it lies in the folder.
    write: writes a small stand-in.
    digest: the name in the module of what it is known by, and how that comes of a file.
    says: parts of every message about a download that failed.
    wrong: part of the message where something else came.
  """

  module: ModuleType
  load: Callable
  download: Callable
  archive: str
  write: Callable
  digest: tuple[str, Callable]
  says: tuple[str, ...]
  wrong: str


SOURCES = {
  "att": Source(
    att,
    att.load_att,
    att.download_att,
    "att_faces.zip",
    write_faces,
    ("PIXEL_SHA256", lambda path: att.pixel_digest(att.load_att(path))),
    ("--data_dir or JAXINV_DATA", "--dataset=synthetic_faces needs no file"),
    "is not the AT&T faces, and is removed",
  ),
  "cifar10": Source(
    cifar10,
    cifar10.load_cifar10,
    cifar10.download_cifar10,
    "cifar-10-binary.tar.gz",
    write_batches,
    ("MD5", lambda path: hashlib.md5(path.read_bytes()).hexdigest()),
    ("--data_dir or JAXINV_DATA", "--dataset=synthetic_shapes needs no file"),
    "is not CIFAR-10, and is removed",
  ),
}


@pytest.fixture(params=SOURCES)
def source(request):
  return SOURCES[request.param]


@pytest.fixture
def served(source, tmp_path, monkeypatch):
  """The file that a local server sends for the source's URL, and the requests it got."""
  folder, requests = tmp_path / "served", []
  folder.mkdir()

  class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
      requests.append(self.path)

  handler = functools.partial(Handler, directory=str(folder))
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
  threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
  monkeypatch.setattr(source.module, "URL", f"http://127.0.0.1:{server.server_port}/file")
  for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
    monkeypatch.delenv(name, raising=False)
  yield folder / "file", requests
  server.shutdown()
  server.server_close()


def arrays(loaded):
  """All arrays of a data set, or of its training and its test side."""
  sides = [loaded] if hasattr(loaded, "inputs") else loaded
  return [array for side in sides for array in (side.inputs, side.labels)]


# ---- The download, without a network -------------------------------------------------------------


def test_a_download_is_fetched_once(source, served, tmp_path, monkeypatch, capfd):
  file, requests = served
  source.write(file)
  name, digest = source.digest
  monkeypatch.setattr(source.module, name, digest(file))
  wanted = arrays(source.load(file))
  cache = tmp_path / "new" / "cache"
  for _ in range(2):
    assert source.download(cache) == cache / source.archive
    for array, other in zip(arrays(source.load(cache)), wanted, strict=True):
      np.testing.assert_array_equal(array, other)
  assert len(requests) == 1 and os.listdir(cache) == [source.archive]
  assert (cache / source.archive).read_bytes() == file.read_bytes()
  assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("raw", [None, b"<html>not here</html>", b""])
def test_a_download_of_something_else(raw, source, served, tmp_path):
  file, _ = served
  source.write(file)  # Sound, and yet not the data.
  if raw is not None:
    file.write_bytes(raw)
  cache = tmp_path / "cache"
  assert_fails(lambda: source.download(cache), source.module.URL, source.wrong, *source.says)
  assert os.listdir(cache) == []


def test_a_download_not_found(source, served, tmp_path, capfd):
  cache = tmp_path / "cache"
  assert_fails(lambda: source.download(cache), "cannot download", "404", *source.says)
  assert os.listdir(cache) == [] and capfd.readouterr() == ("", "")


def test_a_download_without_network(source, tmp_path, monkeypatch):
  # Nothing listens on port 9 (discard) of this machine.
  monkeypatch.setattr(source.module, "URL", "http://127.0.0.1:9/file")
  assert_fails(lambda: source.download(tmp_path), "cannot download", *source.says)
  assert os.listdir(tmp_path) == []


def test_an_interrupted_download_leaves_nothing(source, tmp_path, monkeypatch):
  def interrupted(url, known_hash, fname, path):
    (Path(path) / fname).write_bytes(b"half")
    raise KeyboardInterrupt

  monkeypatch.setattr("pooch.retrieve", interrupted)
  monkeypatch.setattr(pooch.get_logger(), "level", 7)
  with pytest.raises(KeyboardInterrupt):
    source.download(tmp_path)
  assert os.listdir(tmp_path) == [] and pooch.get_logger().level == 7


def test_a_download_to_no_folder(source, tmp_path):
  (tmp_path / "file").write_text("")
  assert_fails(lambda: source.download(tmp_path / "file"), "cannot download", *source.says)


@pytest.mark.parametrize("is_right", [True, False])
def test_what_was_there_gives_way_only_to_what_is_right(is_right, tmp_path, monkeypatch):
  def give(url, known_hash, fname, path):
    assert target.read_text() == "old" and Path(path).name.startswith(".")
    (Path(path) / fname).write_text(url)
    return str(Path(path) / fname)

  monkeypatch.setattr("pooch.retrieve", give)
  target = tmp_path / "here" / "file"
  target.parent.mkdir()
  target.write_text("old")
  call = functools.partial(download, "new", target, lambda _: is_right, "the data", "do without")
  if is_right:
    call()
  else:
    assert_fails(call, "what came from new is not the data, and is removed: do without")
  assert target.read_text() == ("new" if is_right else "old")
  assert os.listdir(target.parent) == ["file"]


# ---- What goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("error", "reason"),
  [
    (FileNotFoundError(2, "No such file or directory", "x"), "No such file or directory"),
    (EOFError(), "EOFError"),
    (OverflowError("a\nb"), "a\\nb"),
    (NotImplementedError("no such method"), "no such method"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "can't decode"),
    (zlib.error("Error -3"), "Error -3"),
    (zipfile.BadZipFile("File is not a zip file"), "not a zip"),
    (tarfile.ReadError("a header is damaged"), "a header is damaged"),
  ],
)
def test_what_files_raise_is_one_line_with_a_remedy(error, reason):
  def fail(*remedy):
    with explained("read a\x1bb", *remedy):
      raise error

  assert_fails(fail, "cannot read a\\x1bb (", reason, "): put a readable, whole copy in its")
  assert_fails(lambda: fail("give another"), "): give another")


@pytest.mark.parametrize(
  "error", [InputError("told already"), TypeError("a mistake of ours"), KeyboardInterrupt()]
)
def test_what_is_told_already_and_what_is_no_fault_of_a_file_goes_on_as_it_is(error):
  with pytest.raises(type(error)) as caught, explained("read it"):
    raise error
  assert caught.value is error
