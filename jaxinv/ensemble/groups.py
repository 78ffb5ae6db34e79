"""The runner of groups, whatever they train: restored, advanced in chunks, saved, finished.

A command says how its group begins, advances and ends (a `Task`); this room does the rest, so that
every run can be stopped at any moment and goes on where it was. A finished group is one small file.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from jaxinv.models.params import flatten, unflatten
from jaxinv.runs import checkpoint, files

Tree = dict[str, Any]  # Dicts in dicts, with arrays at the ends.


class Host(NamedTuple):
  """What the host does while the devices work; each may do nothing.

  Attributes:
    advanced: (text, run_steps) -> None, told how many steps of how many runs were taken.
    say: (line) -> None, told what the user should know.
    stop: () -> bool, asked between chunks.
    checkpoint_seconds: time between checkpoints; 0 for one after every chunk.
  """

  advanced: Callable[[str, int], None] = lambda text, run_steps: None
  say: Callable[[str], None] = lambda line: None
  stop: Callable[[], bool] = lambda: False
  checkpoint_seconds: float = 10.0


class Stopped(Exception):
  """The host asked to stop; what was done is saved."""


class Training(NamedTuple):
  """A group that is being trained.

  Attributes:
    state: all that resuming needs; a pytree of arrays and typed random keys, none of them empty.
    place: lays a state that a checkpoint held out over the devices.
    step: state -> steps taken.
    lengths: steps taken -> lengths of the chunks that are left.
    advance: (state, length) -> state after a chunk; may take the state's memory.
    finish: state -> what is kept of the group.
  """

  state: Any
  place: Callable[[Any], Any]
  step: Callable[[Any], int]
  lengths: Callable[[int], Iterable[int]]
  advance: Callable[[Any, int], Any]
  finish: Callable[[Any], Tree]


class Task(NamedTuple):
  """A group to be trained.

  Attributes:
    name: of its files; runs of another width are another group, and need another name.
    title: of it, for people.
    num_runs: how many runs it trains, padding not counted in.
    num_steps: of each of them.
    begin: () -> the training, from its first step; not called where the group is finished.
  """

  name: str
  title: str
  num_runs: int
  num_steps: int
  begin: Callable[[], Training]


def run_task(task: Task, store: Path | None, host: Host) -> Tree:
  """Trains a group to its end, from wherever it stands.

  Args:
    task: the group.
    store: folder for checkpoints and finished groups; None to keep nothing.
    host: progress, messages, when to stop.

  Returns:
    What is kept of the group; dicts without anything in them are left out.

  Raises:
    Stopped: the host asked for it; the state is in the store.
  """
  path, folder = (store / f"{task.name}.npz", store / task.name) if store else (None, None)
  finished = load_whole(path, host.say) if path else None
  if finished is not None:
    host.advanced(task.title, task.num_steps * task.num_runs)
    return finished
  training = task.begin()
  state, training = training.state, training._replace(state=None)  # Its memory may be taken.
  stored = checkpoint.restore(folder, state, host.say) if folder else None
  if stored is not None:
    state = training.place(stored)
  done = training.step(state)
  host.advanced(task.title, done * task.num_runs)
  last_save = time.monotonic()
  for length in training.lengths(done):
    state = training.advance(state, length)
    done += length
    host.advanced(task.title, length * task.num_runs)
    stop = host.stop()
    if folder and (stop or time.monotonic() - last_save >= host.checkpoint_seconds):
      checkpoint.save(folder, done, state)
      last_save = time.monotonic()
    if stop:
      raise Stopped(f"stopped at step {done} of {task.title}")
  result = training.finish(state)
  if path:
    save_whole(path, result)
    checkpoint.discard(folder)
  return unflatten(flatten(result))


def save_whole(path: Path, tree: Tree) -> None:
  """Writes arrays, and last their digest beside them: they are finished when that is there."""
  files.write_npz(path, flatten(tree))
  files.write_text(path.with_suffix(".sha256"), _digest(path))


def _digest(path: Path) -> str:
  """A file's SHA-256 and its name, so that none is taken for another."""
  return f"{files.sha256(path)} {path.name}"


def load_whole(path: Path, say: Callable[[str], None]) -> Tree | None:
  """Arrays that `save_whole` wrote, or None where they are not there or damaged, which is said."""
  digest = path.with_suffix(".sha256")
  if not digest.exists():
    return None
  try:
    if _digest(path) != digest.read_text():
      raise ValueError("it is not the file that was saved")
    return unflatten(files.read_npz(path))
  except (OSError, ValueError) as error:
    say(f"{path} is damaged ({error}); it is made again")
    return None
