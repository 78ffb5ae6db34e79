"""Files of weights changed at random or cut: arrays or one line, in silence and little memory."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import flax.serialization
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy

from jaxinv.auditing.formats.read import read_weights
from jaxinv.errors import InputError

TREE = {
  "params": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4), "bias": np.ones(4, "f2")}
}
FLAT = TREE["params"]


def save_torch(path, zipped):
  torch = pytest.importorskip("torch", reason="PyTorch, an optional dependency, is not installed")
  state = {k: torch.tensor(v) for k, v in FLAT.items()}
  torch.save({"state_dict": state, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)


def save_hdf5(path, version, **options):
  h5py = pytest.importorskip("h5py", reason="h5py, an optional dependency, is not installed")
  with h5py.File(path, "w", libver=version) as file:
    for i, array in enumerate(FLAT.values()):
      file.create_dataset(f"layers/dense/vars/{i}", data=array, **options)


def to_file(save):
  def write(path):
    with open(path, "wb") as file:
      save(file)

  return write


def save_managed(folder):
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder, TREE)


SAVERS = {
  "safetensors": lambda path: safetensors.numpy.save_file(FLAT, path),
  "npz": to_file(lambda file: np.savez(file, **FLAT)),
  "npz compressed": to_file(lambda file: np.savez_compressed(file, **FLAT)),
  "npy": to_file(lambda file: np.save(file, FLAT["kernel"])),
  "flax": to_file(lambda file: file.write(flax.serialization.to_bytes(TREE))),
  "torch": lambda path: save_torch(path, True),
  "torch before 1.6": lambda path: save_torch(path, False),
  "hdf5": lambda path: save_hdf5(path, "earliest"),
  "hdf5 compressed": lambda path: save_hdf5(path, "latest", compression="gzip", shuffle=True),
  "orbax": save_managed,
  "orbax files": lambda path: ocp.PyTreeCheckpointer(use_ocdbt=False).save(path, TREE),
}


@pytest.fixture(params=SAVERS)
def saved(request, tmp_path):
  """A valid file or folder, and the contents of all its files."""
  path = tmp_path / "weights"
  SAVERS[request.param](path)
  files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
  return path, {file: file.read_bytes() for file in files}


def is_read(path):
  """Whether a file gives arrays; else it has been refused in one line."""
  try:
    for tensor in read_weights(path).values():
      array = tensor.load()
      assert (array.shape, array.dtype) == (tensor.shape, tensor.dtype)
      array.tobytes()
    return True
  except InputError as error:
    line = str(error)
    # A type error would be this package's own.
    assert line.isprintable() and len(line) < 1000 and "Type-check" not in line
    return False


def mutate(raw, rng):
  """Bytes changed, cut off, repeated, or overwritten by the numbers that do most harm."""
  raw, at, length = bytearray(raw), rng.integers(len(raw)), int(rng.choice([1, 2, 4, 8]))
  kind = rng.integers(5)
  if kind == 0:
    return bytes(raw[:at])
  if kind == 1:
    for i in rng.integers(len(raw), size=length):
      raw[i] = rng.integers(256)
  elif kind == 2:
    raw[at] ^= 1 << rng.integers(8)
  elif kind == 3:
    filler = [b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7][rng.integers(3)]
    raw[at : at + length] = filler[:length]
  else:
    start = rng.integers(len(raw))
    raw[at:at] = raw[start : start + rng.integers(1, 64)]
  return bytes(raw)


def test_files_changed_at_random_are_read_or_refused_in_one_line(saved, capfd, recwarn):
  path, files = saved
  assert is_read(path)
  rng, outcomes = np.random.default_rng(0), []
  for _ in range(80):
    file = list(files)[rng.integers(len(files))]
    file.write_bytes(mutate(files[file], rng))
    outcomes.append(is_read(path))
    file.write_bytes(files[file])
  assert is_read(path)
  assert not all(outcomes)
  assert capfd.readouterr() == ("", "") and not recwarn.list


def test_a_file_cut_anywhere_is_refused(saved, capfd, recwarn):
  path, files = saved
  if path.is_dir():
    pytest.skip("a folder is no one file to cut")
  raw = files[path]
  for length in {*range(0, min(len(raw), 40)), *range(0, len(raw), 1 + len(raw) // 60)}:
    path.write_bytes(raw[:length])
    assert not is_read(path), length
  assert capfd.readouterr() == ("", "") and not recwarn.list


MAGIC = [b"", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"\x81\xa1w", b"\xdf"]
MAGIC += [b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", b"\x10\0\0\0\0\0\0\0{", b"\x80\x04"]


@pytest.mark.parametrize("magic", MAGIC)
def test_random_bytes_behind_a_magic_number_are_refused(tmp_path, magic, capfd, recwarn):
  rng = np.random.default_rng(0)
  for length in [0, 1, 7, *[500] * 12]:
    (tmp_path / "x").write_bytes(magic + rng.bytes(length))
    assert not is_read(tmp_path / "x")
  assert capfd.readouterr() == ("", "") and not recwarn.list


ROOM = 128  # MiB that a file may take besides twice its size.
MEASURE = textwrap.dedent("""
  import json, re, sys
  from pathlib import Path
  import h5py, numpy, tensorstore
  from jaxinv.errors import InputError
  from jaxinv.auditing.formats.read import read_weights

  def peak():
    # Not getrusage: a new process has its parent's peak there.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

  start, refused = peak(), []
  for path in sys.argv[2:]:
    try:
      for tensor in read_weights(path).values():
        tensor.load()
    except InputError:
      refused.append(path)
  hostile = peak() - start
  numpy.load(sys.argv[1])["w"]
  print(json.dumps([len(refused), hostile / 1024, (peak() - start) / 1024]))
""")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is Linux's to tell")
def test_hostile_files_take_little_memory(tmp_path):
  h5py = pytest.importorskip("h5py", reason="h5py, an optional dependency, is not installed")
  paths = [tmp_path / name for name in ("bomb.npz", "wide.msgpack", "wide.safetensors", "x.h5")]
  zeros = np.lib.stride_tricks.as_strided(np.float32(0), (50 << 20,), (0,))
  np.savez_compressed(paths[0], w=zeros)
  paths[1].write_bytes(b"\x81\xa1w\xdd\x00\x40\x00\x00" + b"\x80" * 2**22)
  header = b'{"a":[' + b"{}," * 1_300_000 + b"{}]}"
  paths[2].write_bytes(len(header).to_bytes(8, "little") + header)
  with h5py.File(paths[3], "w") as file:
    file.create_dataset("w", (10**5, 10**5), "f4")
  arguments = [sys.executable, "-c", MEASURE, paths[0], *paths]
  done = subprocess.run(arguments, capture_output=True, text=True, check=True)
  refused, hostile, careless = json.loads(done.stdout)
  assert refused == len(paths) and hostile < ROOM
  # The control: numpy itself unpacks all of it.
  assert careless > 190
