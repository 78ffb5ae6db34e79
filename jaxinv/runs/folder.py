"""The folder of a run: what it is asked, what came out, and whether it is whole.

What each file holds is in BUILD.md, under "The run's folder".
"""

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import jaxinv
from jaxinv.errors import InputError
from jaxinv.runs import before_manifests, files, manifest
from jaxinv.types import Dataset

try:
  import fcntl
except ImportError:  # On Windows, where nothing keeps two processes apart.
  fcntl = None

CHECKPOINTS = "checkpoints"
_CONFIG, _LOCK = "config.json", ".lock"
_PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy")


def configuration(command: str, flags: Mapping[str, Any], dataset: Dataset | None) -> dict:
  """Describes a run: its flags, data, versions, device and revision.

  Args:
    command: `launch.NAME`.
    flags: every flag's value.
    dataset: the data, for its digest; None where the run draws its own.

  Returns:
    What config.json holds, not complete yet.
  """
  versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
  device = jax.devices()[0]
  changed = _git("status", "--porcelain", "--untracked-files=no")
  config = {
    "command": command,
    "flags": dict(flags),
    "versions": {"jaxinv": jaxinv.__version__, "python": platform.python_version(), **versions},
    "device": {
      "platform": device.platform,
      "kind": device.device_kind,
      "count": jax.device_count(),
    },
    "precision": jax.config.jax_default_matmul_precision or "default",
    "git_revision": _git("rev-parse", "HEAD"),
    "git_dirty": None if changed is None else bool(changed),
    "complete": False,
  }
  if dataset is not None:
    config["data"] = {
      "examples": len(dataset.labels),
      "classes": dataset.num_classes,
      "image_shape": list(dataset.image_shape) if dataset.image_shape else None,
      "sha256": hashlib.sha256(dataset.inputs.tobytes() + dataset.labels.tobytes()).hexdigest(),
    }
  return config


def _git(*arguments: str) -> str | None:
  """What git says of the source tree that this runs from, or None where it is in none."""
  root = Path(__file__).resolve().parents[2]
  if not (root / ".git").exists():
    return None
  command = ["git", "-C", str(root), *arguments]
  try:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None


def open_folder(
  out_dir: Path, config: dict, overwrite: bool, free_flags: Sequence[str] = ()
) -> bool:
  """Makes a run's folder ready, or says why it may not be used.

  Args:
    out_dir: the folder, made if missing.
    config: this run's configuration.
    overwrite: remove the files of the earlier run that is there, and nothing else.
    free_flags: flags whose values may differ when an unfinished run goes on.

  Returns:
    Whether an unfinished run is there, which this one continues.

  Raises:
    InputError: the folder cannot be written, holds a complete run, one of other settings or what
      no run wrote, or another process is at work in it.
  """
  earlier = check_folder(out_dir, overwrite)
  if earlier is not None and not overwrite:
    _refuse_difference(out_dir, earlier, config, free_flags)
  try:
    out_dir.mkdir(parents=True, exist_ok=True)
    # Nothing is removed or written under the hands of a process that is at work here.
    with working_in(out_dir):
      if manifest.read(out_dir) is None:
        manifest.start(out_dir, before_manifests.files_of(out_dir, earlier) if earlier else ())
      manifest.remove_unfinished(out_dir)
      if overwrite:
        # What is left of a removal that was cut short still tells its settings.
        manifest.remove(out_dir, keep=[_CONFIG])
      files.write_json(out_dir / _CONFIG, config)
  except OSError as error:
    raise InputError(
      f"cannot write to the folder {out_dir} ({error.strerror}): give another --out_dir"
    ) from error
  return earlier is not None and not overwrite


def check_folder(out_dir: Path, overwrite: bool) -> dict | None:
  """Says why a folder may not be used, before anything is written.

  Args:
    out_dir: the folder.
    overwrite: replace the run that is there; a folder that holds none is then used as it is.

  Returns:
    The configuration of the run that is there, or None.

  Raises:
    InputError: a complete run is not to be replaced, or the folder is somebody else's.
  """
  earlier = _read_config(out_dir, overwrite)
  if overwrite:
    return earlier
  listed = manifest.read(out_dir)
  if earlier is None and listed is None and (found := _contents(out_dir)):
    raise InputError(
      f"{out_dir} is not empty: it holds {found[0]}, but no config.json that says whose it is; "
      "nothing is touched, give another --out_dir"
    )
  if earlier is None and (found := [name for name in listed or () if (out_dir / name).exists()]):
    raise InputError(
      f"{out_dir} holds {found[-1]} of a run whose config.json is gone: "
      "give --overwrite to start anew, or another --out_dir"
    )
  if earlier is not None and earlier.get("complete"):
    raise InputError(
      f"{out_dir} holds a complete run: give --overwrite to replace it, or another --out_dir"
    )
  return earlier


def _contents(out_dir: Path) -> list[str]:
  """What a folder holds, but for what a process leaves that was killed as it opened it."""
  try:
    names = sorted(path.name for path in out_dir.iterdir())
  except (FileNotFoundError, NotADirectoryError):
    return []
  except OSError as error:
    raise InputError(
      f"cannot read the folder {out_dir} ({error.strerror}): give another --out_dir"
    ) from error
  return [name for name in names if not (name == _LOCK or name.startswith(f".{manifest.NAME}."))]


def join_folder(out_dir: Path, config: dict, free_flags: Sequence[str] = ()) -> None:
  """Raises InputError unless another process has just opened the folder for the same run."""
  opened = _read_config(out_dir, overwrite=False)
  if opened is None or opened.get("complete"):
    raise InputError(
      f"the first process has not opened {out_dir} where this one sees it: give all processes the "
      "same folder on a file system that they share, and see what the first one says"
    )
  _refuse_difference(out_dir, opened, config, free_flags)


def _read_config(out_dir: Path, overwrite: bool) -> dict | None:
  path, ours = out_dir / _CONFIG, manifest.read(out_dir) is not None
  try:
    config = json.loads(path.read_text())
    if isinstance(config, dict) and config and not (ours or before_manifests.is_config(config)):
      raise InputError(f"{path} is of no run of jaxinv: nothing is touched, give another --out_dir")
    if not isinstance(config, dict) or not isinstance(config.get("flags"), dict):
      raise ValueError("it describes no run")
    return config
  except (FileNotFoundError, NotADirectoryError):
    return None
  except InputError:
    raise
  except (OSError, ValueError, RecursionError) as error:
    if overwrite:
      return None
    anew = "give --overwrite to start anew, or" if ours else "give"
    raise InputError(f"{path} cannot be read ({error}): {anew} another --out_dir") from error


def _refuse_difference(out_dir: Path, earlier: dict, config: dict, free: Sequence[str]) -> None:
  """Raises unless the unfinished run was asked for the same, by the same command and data."""
  pairs = [("command", earlier.get("command"), config["command"])]
  then, now = earlier.get("flags", {}), config["flags"]
  pairs += [
    (f"--{name}", then.get(name), now.get(name))
    for name in sorted({*then, *now})
    if name not in free
  ]
  pairs.append(("the data set's contents", earlier.get("data"), config.get("data")))
  for name, old, new in pairs:
    # Through JSON and back, tuples are lists.
    if json.loads(json.dumps(new)) != old:
      what = "" if name.startswith("the") else f" ({old} there, {new} here)"
      raise InputError(
        f"{out_dir} holds an unfinished run of another configuration: {name} differs{what}; "
        "give what it had, --overwrite to start anew, or another --out_dir"
      )


@contextlib.contextmanager
def working_in(out_dir: Path) -> Iterator[None]:
  """Holds a run's folder, so that no second process writes there.

  Raises:
    InputError: another process holds it.
  """
  if fcntl is None:
    yield
    return
  path = out_dir / _LOCK
  with open(path, "a") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
      raise InputError(
        f"another process is at work in {out_dir}: wait for it, or give another --out_dir"
      ) from None
    yield
    path.unlink(missing_ok=True)


def finish(out_dir: Path, config: dict) -> None:
  """Marks a run as complete, the last thing to be done, and drops what only resuming needs."""
  files.write_json(out_dir / _CONFIG, {**config, "complete": True})
  manifest.remove(out_dir, below=CHECKPOINTS)
