"""The manifest: all that a run writes is listed first, and only what is listed is removed."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxinv.errors import InputError
from jaxinv.runs import files, manifest

ROOT = Path(__file__).resolve().parents[2]


def test_a_file_is_listed_before_it_appears(tmp_path):
  manifest.start(tmp_path, ())

  def write(file):
    assert manifest.read(tmp_path) == ["figures/x.png"]
    assert not (tmp_path / "figures" / "x.png").exists()

  files.write_file(tmp_path / "figures" / "x.png", write)
  assert (tmp_path / "figures" / "x.png").exists()


def test_a_file_written_twice_is_listed_once(tmp_path):
  manifest.start(tmp_path, ())
  for _ in range(2):
    files.write_text(tmp_path / "a b/x.txt", "x")
  assert manifest.read(tmp_path) == ["a b/x.txt"]
  assert not list(tmp_path.rglob("*.before"))


def test_outside_of_a_run_nothing_is_listed(tmp_path):
  (tmp_path / manifest.NAME).write_text("bread\nbutter\n")
  files.write_text(tmp_path / "sub" / "x.txt", "x")
  assert (tmp_path / manifest.NAME).read_text() == "bread\nbutter\n"
  assert manifest.read(tmp_path) is None


@pytest.mark.parametrize(
  "name", ["../precious", "/tmp/precious", "a/../../precious", "a/..", "..", ".", "./x", "C:/x"]
)
def test_a_manifest_that_lists_what_is_outside_is_refused_and_nothing_is_removed(tmp_path, name):
  (tmp_path / "precious").write_text("mine")
  root = tmp_path / "run"
  root.mkdir()
  manifest.start(root, ["x.txt", name])
  (root / "x.txt").write_text("ours")
  with pytest.raises(InputError, match="nothing is touched") as caught:
    manifest.remove(root)
  assert "\n" not in str(caught.value)
  assert (tmp_path / "precious").exists() and (root / "x.txt").exists()


def test_links_are_not_followed_wherever_they_stand_in_a_path(tmp_path):
  outside, root = tmp_path / "outside", tmp_path / "run"
  (outside / "deep").mkdir(parents=True)
  (outside / "deep" / "precious").write_text("mine")
  (outside / "precious").write_text("mine")
  root.mkdir()
  (root / "a").symlink_to(outside)
  (root / "b").symlink_to(outside / "precious")
  manifest.start(root, ["a/deep/precious", "a/precious", "b"])
  manifest.remove(root)
  assert (outside / "deep" / "precious").exists() and (outside / "precious").exists()
  assert (root / "a").is_symlink() and not (root / "b").is_symlink()


def test_a_manifest_that_is_a_link_is_none(tmp_path):
  manifest.start(tmp_path, ["x"])
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / manifest.NAME).symlink_to(tmp_path / manifest.NAME)
  assert manifest.read(tmp_path / "run") is None


def test_a_folder_with_a_listed_name_stays(tmp_path):
  (tmp_path / "x" / "y").mkdir(parents=True)
  manifest.start(tmp_path, ["x", "missing"])
  manifest.remove(tmp_path)
  assert (tmp_path / "x" / "y").exists()


def test_a_last_line_that_was_cut_short_names_no_file(tmp_path):
  manifest.start(tmp_path, ["a.txt"])
  with open(tmp_path / manifest.NAME, "a") as file:
    file.write("note")  # Of notes.txt, had there been time.
  assert manifest.read(tmp_path) == ["a.txt"]
  files.write_text(tmp_path / "b.txt", "b")
  assert manifest.read(tmp_path) == ["a.txt", "b.txt"]


def test_many_writers_at_once_lose_no_line(tmp_path):
  manifest.start(tmp_path, ())
  names = [[f"{i}/{j}.txt" for j in range(20)] for i in range(8)]
  threads = [
    threading.Thread(target=lambda own=own: [manifest.add(tmp_path / name) for name in own])
    for own in names
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert sorted(manifest.read(tmp_path)) == sorted(name for own in names for name in own)


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
  manifest.start(tmp_path, ())
  code = f"""
import os, signal
from pathlib import Path
from jaxinv.runs import files
def write(file):
  file.write(b"half")
  file.flush()
  os.kill(os.getpid(), signal.SIGKILL)
files.write_file(Path({str(tmp_path)!r}) / "figures" / "x.png", write)
"""
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
  foreign = tmp_path / "figures" / ".mine.png.1.tmp"
  foreign.write_text("mine")
  assert len(os.listdir(tmp_path / "figures")) == 2
  manifest.remove_unfinished(tmp_path)
  assert os.listdir(tmp_path / "figures") == [foreign.name]
