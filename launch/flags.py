"""The flags that commands share, and how a command runs.

Each command has its own set of flags, not absl's global one, so that commands can be imported
and run side by side in one process.
"""

import contextlib
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from jaxinv.data.att import download_att, load_att
from jaxinv.data.synthetic_faces import synthetic_faces
from jaxinv.ensemble import memory
from jaxinv.ensemble.groups import Stopped
from jaxinv.errors import InputError
from jaxinv.experiments.settings import ENGINES, Arm, Settings
from jaxinv.metrics.images import NORMALIZATIONS
from jaxinv.models.dense import INITIALIZERS
from jaxinv.runs import processes
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.types import Dataset, Hyper

# Exit status of a run that a signal stopped; the same command goes on with it.
STOPPED = 130
# Flags that say where and how to work, not what: they may change when a run goes on.
FREE = (
  *("out_dir", "overwrite", "data_dir", "download", "checkpoint_seconds", "compilation_cache"),
  *("memory_fraction", "distributed", "coordinator", "num_processes", "process_id"),
)


# Each device of a CPU has the data once more.
_LARGEST_CPU = 16


def define_run(f: flags.FlagValues, out_dir: str) -> None:
  """Adds the flags of every command: where to write, how many seeds, which device settings."""
  flags.DEFINE_string("out_dir", out_dir, "The run's folder, made if missing.", flag_values=f)
  flags.DEFINE_bool(
    "overwrite",
    False,
    "Replace the run in --out_dir: the files that it wrote, which its manifest.txt lists, are "
    "removed, and nothing else. Without it a complete run is refused and an unfinished one goes "
    "on.",
    flag_values=f,
  )
  flags.DEFINE_integer(
    "seed",
    0,
    "The root seed: all randomness follows from it and from each seed's number.",
    lower_bound=0,
    upper_bound=2**32 - 1,
    flag_values=f,
  )
  flags.DEFINE_string(
    "compilation_cache",
    None,
    "Folder of compiled programs, which make the second start of a command quick; the user's "
    "cache folder where not given, none where empty.",
    flag_values=f,
  )
  flags.DEFINE_enum(
    "matmul_precision",
    "highest",
    ["default", "high", "highest"],
    "Precision of matrix products: highest is full float32; default is TF32 on NVIDIA GPUs and "
    "bfloat16 on TPUs. No difference on CPUs.",
    flag_values=f,
  )

  flags.DEFINE_integer(
    "cpu_devices",
    0,
    "Devices to make of a CPU, each of which trains its part of the models; 0 for one a core, at "
    "most 16. No meaning on GPUs and TPUs.",
    0,
    256,
    flag_values=f,
  )
  flags.DEFINE_bool(
    "jax_enable_x64", False, "Compute in float64, to check what float32 rounds.", flag_values=f
  )


def define_data(f: flags.FlagValues, datasets: Sequence[str]) -> None:
  """Adds the flags that choose and find the data; `datasets` are those the command can use."""
  flags.DEFINE_string("dataset", datasets[0], f"The data: {' or '.join(datasets)}.", flag_values=f)
  flags.DEFINE_string(
    "data_dir",
    None,
    "Folder of the data, or a zip of it; else the environment variable JAXINV_DATA, else the "
    "user's cache folder.",
    flag_values=f,
  )
  flags.DEFINE_bool(
    "download",
    False,
    "Fetch the data set from its owners into the user's cache folder first (att only).",
    flag_values=f,
  )
  flags.DEFINE_integer(
    "data_seed",
    0,
    "Decides what faces synthetic_faces draws.",
    lower_bound=0,
    upper_bound=2**32 - 1,
    flag_values=f,
  )
  flags.DEFINE_float(
    "pose",
    1.0,
    "Scale of the pose variation of synthetic_faces; 0 for all of a person's faces frontal.",
    lower_bound=0.0,
    upper_bound=3.0,
    flag_values=f,
  )
  flags.DEFINE_integer(
    "num_people", 40, "People that synthetic_faces draws.", 2, 10_000, flag_values=f
  )
  flags.DEFINE_integer("images_per_person", 10, "Images of each of them.", 1, 10_000, flag_values=f)


def load_dataset(f: flags.FlagValues) -> Dataset:
  """Loads the images that the flags of `define_data` name.

  Raises:
    InputError: no such data set, or it cannot be had or read.
  """
  if f.dataset == "synthetic_faces":
    if f.download:
      raise InputError("--download: synthetic_faces needs no file; give --dataset=att")
    return draw_faces(f, f.pose)
  if f.dataset == "att":
    return load_att(download_att(cache_dir()) if f.download else data_dir(f))
  raise InputError(f"unknown --dataset '{f.dataset}': choose from synthetic_faces, att")


def draw_faces(f: flags.FlagValues, pose: float) -> Dataset:
  """Draws the synthetic faces that the flags name, with another scale of pose."""
  need = f.num_people * f.images_per_person * 112 * 92 * 4
  if need > memory.device_memory() / 4:
    raise InputError(
      f"{f.num_people} people with {f.images_per_person} images each take {need / 1e9:.0f} GB: "
      "give a smaller --num_people or --images_per_person"
    )
  return synthetic_faces(
    f.data_seed, num_people=f.num_people, images_per_person=f.images_per_person, pose=pose
  )


def define_distributed(f: flags.FlagValues) -> None:
  """Adds the flags that let several processes, on one host or many, share a run."""
  flags.DEFINE_bool(
    "distributed",
    False,
    "Share the run with other processes started by the same command; --out_dir must be one folder "
    "for all. SLURM, Open MPI, Kubernetes and TPU pods say themselves who they are; elsewhere give "
    "the three flags below.",
    flag_values=f,
  )
  flags.DEFINE_string(
    "coordinator", None, "Address of the first process, HOST:PORT.", flag_values=f
  )
  flags.DEFINE_integer("num_processes", None, "How many processes there are.", 1, flag_values=f)
  flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", 0, flag_values=f)


def place(f: flags.FlagValues) -> processes.Place:
  """Joins the other processes where --distributed says so; to be called before all else."""
  given = [
    name for name in ("coordinator", "num_processes", "process_id") if f[name].value is not None
  ]
  if given and not f.distributed:
    raise InputError(f"--{given[0]} is for several processes: give --distributed too")
  if not f.distributed:
    return processes.Place()
  if given and len(given) < 3:
    raise InputError(
      f"--distributed: only --{', --'.join(given)} is given: give all of --coordinator, "
      "--num_processes and --process_id, or none"
    )
  if given and not _is_address(f.coordinator):
    raise InputError(f"--coordinator: '{f.coordinator}' is no HOST:PORT")
  if given and f.process_id >= f.num_processes:
    raise InputError(
      f"--process_id: {f.process_id} is none of {f.num_processes} processes, counted from 0"
    )
  return processes.join(f.coordinator, f.num_processes, f.process_id)


def _is_address(text: str) -> bool:
  found = re.fullmatch(r"[^\s:]+:(\d{1,5})", text)
  return bool(found) and int(found[1]) < 2**16


def define_training(f: flags.FlagValues, **defaults: Any) -> None:
  """Adds the flags of training many models; `defaults` gives each one's default by name."""

  def integer(name, low, high, text):
    flags.DEFINE_integer(
      name, defaults[name], text, lower_bound=low, upper_bound=high, flag_values=f
    )

  integer("num_seeds", 1, 10**6, "Number of seeds: models trained for each arm.")
  integer("steps", 0, 10**8, "Training steps of each model; 0 leaves them untrained.")
  integer("batch_size", 0, 10**7, "Examples a step; 0 for the whole training split.")
  integer("holdout", 0, 10**6, "Examples of each class kept out of training.")
  integer("save_seeds", 1, 10**6, "Of how many seeds weights and recovered images are kept.")
  integer(
    "width", 0, 10**6, "Runs trained together as one group; 0 for as many as are quick and fit."
  )
  integer(
    "record_every", 0, 10**8, "Steps from one record of the curves to the next; 0 for 50 records."
  )
  flags.DEFINE_bool(
    "fixed_split", False, "One split into training and held-out for all seeds.", flag_values=f
  )
  flags.DEFINE_enum("loss", defaults["loss"], list(LOSSES), "The loss.", flag_values=f)
  flags.DEFINE_enum(
    "initializer",
    "torch_uniform",
    list(INITIALIZERS),
    "How kernels start: torch_uniform is uniform within +-1/sqrt(fan in).",
    flag_values=f,
  )
  flags.DEFINE_enum(
    "normalize",
    defaults["normalize"],
    list(NORMALIZATIONS),
    "How recovered weights are scaled: min-max to 0..255, or the largest magnitude to the data's "
    "largest value.",
    flag_values=f,
  )
  flags.DEFINE_multi_string(
    "arm",
    defaults["arm"],
    "One way of training, 'NAME:key=value,key=value'; repeat for several. Keys: optimizer "
    f"({', '.join(OPTIMIZERS)}), {', '.join(Hyper._fields)}.",
    flag_values=f,
  )
  flags.DEFINE_float(
    "checkpoint_seconds",
    10.0,
    "Seconds between checkpoints; 0 for one at every record.",
    lower_bound=0.0,
    flag_values=f,
  )


def define_models(f: flags.FlagValues) -> None:
  """Adds the flags that say what models are trained, and how."""
  flags.DEFINE_list(
    "hidden",
    [],
    "Units of each hidden layer, e.g. 128,64; none for a linear model.",
    flag_values=f,
  )
  flags.DEFINE_bool("use_bias", True, "Whether layers have a bias.", flag_values=f)
  flags.DEFINE_enum(
    "engine",
    "auto",
    ["auto", *ENGINES],
    "How to train: primal keeps the weights; gram keeps a coefficient for each training image, for "
    "linear models and SGD: the same models many times faster; auto takes it where it can and it "
    "pays.",
    flag_values=f,
  )
  flags.DEFINE_float(
    "memory_fraction",
    0.5,
    "Share of the device's memory to plan with; a wider group is divided.",
    0.01,
    1.0,
    flag_values=f,
  )


def settings(f: flags.FlagValues, arms: Sequence[Arm], **others: Any) -> Settings:
  """The settings of an experiment, from the flags of `define_training` and `define_models`.

  Args:
    f: the flags.
    arms: the ways of training.
    **others: further fields of `Settings`.

  Returns:
    The settings.
  """
  same = ("num_seeds", "steps", "batch_size", "holdout", "fixed_split", "loss", "use_bias")
  same += ("initializer", "normalize", "engine", "width", "memory_fraction", "save_seeds")
  return Settings(
    arms=tuple(arms),
    root_seed=f.seed,
    hidden=integers("hidden", f.hidden, 1, 65536),
    record_every=f.record_every or max(1, f.steps // 50),
    **{name: f[name].value for name in same},
    **others,
  )


def integers(name: str, texts: Sequence[str], low: int, high: int) -> tuple[int, ...]:
  """Whole numbers of a list flag, each from `low` to `high`; raises InputError else."""
  for text in texts:
    if not re.fullmatch(r"-?\d{1,9}", text.strip()) or not low <= int(text) <= high:
      raise InputError(f"--{name}: '{text}' is no whole number from {low} to {high}")
  return tuple(map(int, texts))


def floats(name: str, texts: Sequence[str], low: float, high: float) -> tuple[float, ...]:
  """Numbers of a list flag, each from `low` to `high`; raises InputError else."""
  for text in texts:
    try:
      fine = low <= float(text) <= high
    except ValueError:
      fine = False
    if not fine:
      raise InputError(f"--{name}: '{text}' is no number from {low:g} to {high:g}")
  return tuple(map(float, texts))


def data_dir(f: flags.FlagValues) -> Path:
  """Where the data are: the flag, else JAXINV_DATA, else the user's cache folder."""
  return Path(f.data_dir or os.environ.get("JAXINV_DATA") or cache_dir()).expanduser()


def cache_dir() -> Path:
  """The user's cache folder for jaxinv."""
  import pooch

  return Path(pooch.os_cache("jaxinv"))


def values(f: flags.FlagValues) -> dict[str, Any]:
  """Every flag's value by name, but for those that only ask for help."""
  return {name: f[name].value for name in sorted(f) if name not in ("help", "?")}


def run(
  main: Callable[[], int | None],
  f: flags.FlagValues,
  about: str,
  argv: Sequence[str],
  resumes: bool = True,
) -> int:
  """Runs a command: parses its flags, and turns what may go wrong into one line and a status.

  Args:
    main: the command; returns an exit status of its own, or nothing.
    f: its flags.
    about: its help text.
    argv: the arguments, without the program's name.
    resumes: whether the command goes on where it was stopped.

  Returns:
    The exit status: 0 done, 1 for what the user got wrong, 130 stopped by a signal, or the
    command's own.
  """
  try:
    if any(re.fullmatch(r"--?(help|helpfull|helpshort|h|\?)", argument) for argument in argv):
      print(f"{about.strip()}\n\nflags:\n{f.get_help()}", flush=True)
      return 0
    f.unparse_flags()
    for name in f:
      f[name].unparse()
    extra = f(["command", *argv])[1:]
    if extra:
      raise InputError(f"unknown argument '{extra[0]}': flags look like --name=value")
    _check_numbers(f)
    _configure_jax(f)
    with _term_interrupts():
      return main() or 0
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


def _check_numbers(f: flags.FlagValues) -> None:
  """Refuses what bounds let through: numbers that are none, and a folder without a name."""
  for name in f:
    if isinstance(f[name].value, float) and not math.isfinite(f[name].value):
      raise InputError(f"--{name}: {f[name].value} makes no sense: give a finite number")
  if not f.out_dir.strip():
    raise InputError("--out_dir is empty: name a folder")


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


def _configure_jax(f: flags.FlagValues) -> None:
  """Sets what JAX takes for the whole process only."""
  cores = f.cpu_devices or min(_LARGEST_CPU, len(os.sched_getaffinity(0)))
  with contextlib.suppress(RuntimeError):  # Of a process that has used JAX before.
    jax.config.update("jax_num_cpu_devices", cores)
  jax.config.update("jax_enable_x64", f.jax_enable_x64)
  jax.config.update("jax_default_matmul_precision", f.matmul_precision)
  folder = cache_dir() / "compiled" if f.compilation_cache is None else f.compilation_cache
  jax.config.update("jax_compilation_cache_dir", str(folder) or None)
  # Most of the many programs of a run are small, and together take longer than the large ones.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


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
