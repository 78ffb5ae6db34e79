"""Checkpoints of a group in training: saved whole, verified before they are believed.

Beside the arrays stands the SHA-256 of every file, so that a truncated or damaged checkpoint is
noticed, whatever was damaged, and the one before it is used.

Not by Orbax: among several processes its checkpoints are of all of them together. Each save waits
for all, and only the first writes arrays of the host, while here each process has groups of its own
and saves them when it likes.
"""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxinv.runs import manifest
from jaxinv.runs.files import read_npz, sha256, write_json, write_npz

_ARRAYS, _DIGESTS = "arrays.npz", "sha256.json"
_KEEP = 2


def save(folder: Path, step: int, tree: Any) -> None:
  """Saves a pytree as `folder/step-N`; keeps the newest two.

  Args:
    folder: the checkpoints of one group.
    step: number of steps taken.
    tree: arrays and typed random keys.
  """
  target, partial = folder / f"step-{step:08d}", folder / "partial"
  _remove(partial)
  leaves = jax.device_get([_plain(leaf) for leaf in jax.tree.leaves(tree)])
  write_npz(partial / _ARRAYS, {f"{i:04d}": np.asarray(leaf) for i, leaf in enumerate(leaves)})
  write_json(partial / _DIGESTS, _digests(partial))
  _remove(target)
  for name in (_ARRAYS, _DIGESTS):
    manifest.add(target / name)
  partial.rename(target)
  for old in saved(folder)[:-_KEEP]:
    _remove(old)


def restore(folder: Path, template: Any, say: Callable[[str], None]) -> Any | None:
  """Restores the newest checkpoint that is whole.

  Args:
    folder: the checkpoints of one group.
    template: a pytree of the structure saved, with arrays of the dtypes saved.
    say: told, in one line, of each checkpoint that is damaged and passed over.

  Returns:
    The pytree with arrays on the host (random keys as keys), or None where there is none.
  """
  for path in reversed(saved(folder)):
    try:
      if json.loads((path / _DIGESTS).read_text()) != _digests(path):
        raise ValueError("its files are not those that were saved")
      arrays = read_npz(path / _ARRAYS)
      leaves = [arrays[name] for name in sorted(arrays)]
      like, structure = jax.tree.flatten(template)
      return structure.unflatten([_like(x, y) for x, y in zip(leaves, like, strict=True)])
    except (OSError, ValueError, KeyError) as error:
      say(f"checkpoint {path} is damaged ({error}); the one before it, if any, is used")
      _remove(path)
  return None


def discard(folder: Path) -> None:
  """Removes the checkpoints of a group, which nobody needs once it is finished."""
  for path in (*saved(folder), *folder.glob("partial*")):
    _remove(path)
  with contextlib.suppress(OSError):  # Somebody else's files are in it, or it was never made.
    folder.rmdir()


def _remove(path: Path) -> None:
  """Removes one checkpoint's files, and its folder where nothing else is in that."""
  with contextlib.suppress(OSError):
    for name in (_ARRAYS, _DIGESTS):
      (path / name).unlink(missing_ok=True)
    path.rmdir()


def saved(folder: Path) -> list[Path]:
  """The checkpoints of a folder, oldest first."""
  return sorted(folder.glob("step-*"))


def _plain(leaf):
  """A typed random key as its numbers; anything else as it is."""
  return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _like(stored, template):
  """A stored leaf with the type of the template's."""
  if _is_key(template):
    return jax.random.wrap_key_data(stored, impl=jax.random.key_impl(template))
  return np.asarray(stored, template.dtype)


def _is_key(leaf) -> bool:
  return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _digests(folder: Path) -> dict[str, str]:
  files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _DIGESTS)
  return {str(path.relative_to(folder)): sha256(path) for path in files}
