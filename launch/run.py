"""How a command runs: its flags are parsed, its folder is opened, and errors are one line each."""

import contextlib
import math
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from jaxinv.ensemble.compilation import use_cache
from jaxinv.ensemble.groups import Host, Stopped
from jaxinv.ensemble.progress import ProgressBar
from jaxinv.errors import InputError
from jaxinv.runs import folder
from jaxinv.runs.processes import Place
from jaxinv.types import Dataset

from .define import explain
from .folder import FREE, open_together

# Exit status of a run that a signal stopped; the same command goes on with it.
STOPPED = 130
# Each device of a CPU has the data once more.
_LARGEST_CPU = 16
_ALONE = Place()


class Opened(NamedTuple):
  """A run's folder that is open for this process, and what its work is given.

  Attributes:
    out_dir: the folder.
    store: its folder of checkpoints.
    config: what config.json holds.
    bar: the progress bar.
    host: progress, messages and stopping, for the library.
    command: what the user typed.
  """

  out_dir: Path
  store: Path
  config: dict[str, Any]
  bar: ProgressBar
  host: Host
  command: str


@contextlib.contextmanager
def opened(
  f: flags.FlagValues,
  name: str,
  argv: Sequence[str],
  dataset: Dataset | None,
  work: int,
  unit: str = "run-steps",
  more: Mapping[str, Any] | None = None,
  place: Place = _ALONE,
  free: Sequence[str] = (),
  polled: bool = True,
  **changed: Any,
) -> Iterator[Opened]:
  """Opens the run's folder for a block of work, at the end of which the run is complete.

  Args:
    f: the command's flags.
    name: the command's.
    argv: its arguments.
    dataset: the data, None where the run draws its own.
    work: how much there is to do.
    unit: what that counts.
    more: further entries of config.json.
    place: which of how many processes this is.
    free: flags that may change when a run goes on, beside those that never matter.
    polled: whether the work asks `host.stop`; a signal ends it at once if not.
    **changed: values of flags as config.json is to tell them.

  Yields:
    The folder and what the work is given.
  """
  config = folder.configuration(f"launch.{name}", values(f) | changed, dataset) | dict(more or {})
  out_dir = Path(f.out_dir)
  open_together(out_dir, config, f.overwrite, place, (*FREE, *free))
  seconds = f.checkpoint_seconds if "checkpoint_seconds" in f else math.inf
  with (
    folder.working_in(out_dir) if place.first else contextlib.nullcontext(),
    ProgressBar(work, unit) as bar,
    StopSignal() if polled else contextlib.nullcontext(bool) as stop,
  ):
    host = Host(bar.advance, bar.say, stop, seconds)
    for note in dataset.notes if dataset and place.first else ():
      bar.say(f"note: {note}")
    yield Opened(out_dir, out_dir / folder.CHECKPOINTS, config, bar, host, typed(name, argv))
    if place.first:
      folder.finish(out_dir, config)


def typed(name: str, argv: Sequence[str] = ()) -> str:
  """The command as the user types it: `jaxinv NAME`, or in a checkout `python -m launch.NAME`."""
  start = ["python", "-m", f"launch.{name}"] if __package__ == "launch" else ["jaxinv", name]
  return shlex.join([*start, *argv])


def values(f: flags.FlagValues) -> dict[str, Any]:
  """Every flag's value by name, but for those that only ask for help."""
  return {name: f[name].value for name in sorted(f) if name not in ("help", "?")}


def run(
  name: str,
  main: Callable[[Sequence[str]], int | None],
  f: flags.FlagValues,
  about: str,
  argv: Sequence[str] | None,
  resumes: bool = True,
  unused: Sequence[str] = (),
  ignored: Sequence[str] = (),
) -> int:
  """Runs a command: parses its flags, and turns what may go wrong into one line and a status.

  Args:
    name: the command's.
    main: the command, given the arguments; returns an exit status of its own, or nothing.
    f: its flags.
    about: its help text.
    argv: the arguments, without the program's name; those of the process if None.
    resumes: whether the command goes on where it was stopped.
    unused: flags of all commands that have no effect in this one: not in --help, and refused with
      another value than the default.
    ignored: the same, of those that do no harm.

  Returns:
    The exit status: 0 done, 1 for what the user got wrong, 130 stopped by a signal, or the
    command's own.
  """
  argv = sys.argv[1:] if argv is None else argv
  try:
    if any(re.fullmatch(r"--?(help|helpshort|h|\?)", argument) for argument in argv):
      # The examples are those of a checkout.
      about = re.sub(r"python -m launch\.(\w+)", lambda found: typed(found[1]), about)
      print(explain(f, about, (*unused, *ignored)), flush=True)
      return 0
    if any(re.fullmatch(r"--?helpfull", argument) for argument in argv):
      print(f.get_help(), flush=True)
      return 0
    _parse(f, argv)
    _refuse(f, name, unused)
    _configure_jax(f)
    with _term_interrupts():
      return main(argv) or 0
  except BrokenPipeError:
    # Whoever read what is printed has gone; the run's files are what counts.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  except (InputError, flags.Error) as error:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 1
  except OSError as error:
    # A disk that is full, a folder that may not be written any more.
    where = f" {error.filename}" if error.filename else ""
    print(f"error: cannot read or write{where} ({error.strerror or error})", file=sys.stderr)
    return 1
  except (Stopped, KeyboardInterrupt) as stop:
    again = "goes on from there" if resumes else "starts anew"
    print(f"{str(stop) or 'stopped'}; the same command {again}", file=sys.stderr)
    return STOPPED
  return 0


def _parse(f: flags.FlagValues, argv: Sequence[str]) -> None:
  """Gives the flags their values, as if they had never had others."""
  f.unparse_flags()
  extra = f(["command", *argv])[1:]
  if extra:
    raise InputError(f"unknown argument '{extra[0]}': flags look like --name=value")


def _refuse(f: flags.FlagValues, command: str, unused: Sequence[str]) -> None:
  """Refuses numbers that bounds let through, a folder without a name, and flags without effect."""
  for name in f:
    if isinstance(f[name].value, float) and not math.isfinite(f[name].value):
      raise InputError(f"--{name}: {f[name].value} is out of range: give a finite number")
  if not f.out_dir.strip():
    raise InputError("--out_dir is empty: name a folder")
  for name in unused:
    # Another value than the default is a misunderstanding.
    if f[name].value != f[name].default:
      raise InputError(f"--{name} has no meaning for {typed(command)}: leave it out")


def _configure_jax(f: flags.FlagValues) -> None:
  """Sets what JAX takes for the whole process only."""
  cores = f.cpu_devices or min(_LARGEST_CPU, len(os.sched_getaffinity(0)))
  with contextlib.suppress(RuntimeError):  # Of a process that has used JAX before.
    jax.config.update("jax_num_cpu_devices", cores)
  jax.config.update("jax_enable_x64", f.jax_enable_x64)
  jax.config.update("jax_default_matmul_precision", f.matmul_precision)
  use_cache(f.compilation_cache)


@contextlib.contextmanager
def _term_interrupts() -> Iterator[None]:
  """Lets SIGTERM end a command as Ctrl-C does, wherever it is; see `StopSignal` for training."""
  try:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
  except ValueError:  # Not the main thread, where no signal arrives either.
    yield
    return
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)


class StopSignal:
  """Asks the work to stop at the next record on Ctrl-C or SIGTERM; a second one stops at once."""

  def __init__(self):
    self.asked = False
    self._before: dict[int, Any] = {}

  def __enter__(self):
    try:
      for number in (signal.SIGINT, signal.SIGTERM):
        self._before[number] = signal.signal(number, self._ask)
    except ValueError:
      pass  # Not the main thread, where no signal arrives either.
    return self

  def __exit__(self, *_):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def __call__(self) -> bool:
    """Whether to stop."""
    return self.asked

  def _ask(self, number, frame):
    if self.asked:
      raise KeyboardInterrupt
    self.asked = True
