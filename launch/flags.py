"""The flags that commands share, and what they mean.

Each command has its own set of flags, not absl's global one, so that commands can be imported
and run side by side in one process.
"""

import re
from collections.abc import Sequence
from typing import Any

from absl import flags

from jaxinv.data.load import FORMS, Options, load
from jaxinv.ensemble import memory
from jaxinv.errors import InputError
from jaxinv.experiments.settings import ENGINES, Arm, Settings
from jaxinv.metrics.images import NORMALIZATIONS
from jaxinv.models.dense import INITIALIZERS
from jaxinv.runs import processes
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.types import Dataset, Hyper

from .define import group


def define_run(f: flags.FlagValues, out_dir: str, resumes: bool = True) -> None:
  """Adds the flags of every command: where to write, the root seed, which device settings."""
  goes_on = "goes on" if resumes else "starts anew"
  training, output, machine = (group(f, name) for name in ("training", "output", "machine"))
  output.string("out_dir", out_dir, "The run's folder, made if missing.")
  output.switch(
    "overwrite",
    False,
    "Replace the run in --out_dir: the files that it wrote, which its manifest.txt lists, are "
    "removed, and nothing else. Without it a complete run is refused and an unfinished one "
    f"{goes_on}.",
  )
  training.integer(
    "seed",
    0,
    "The root seed: all randomness follows from it and from each seed's number.",
    0,
    2**32 - 1,
  )
  machine.string(
    "compilation_cache",
    None,
    "Folder of compiled programs, which make the second start of a command quick; the user's "
    "cache folder where not given, none where empty.",
  )
  machine.choice(
    "matmul_precision",
    "highest",
    ["default", "high", "highest"],
    "Precision of matrix products: highest is full float32; default is TF32 on NVIDIA GPUs and "
    "bfloat16 on TPUs. No difference on CPUs.",
  )
  machine.integer(
    "cpu_devices",
    0,
    "Devices to make of a CPU, each of which trains its part of the models; 0 for one a core, at "
    "most 16. No meaning on GPUs and TPUs.",
    0,
    256,
  )
  machine.switch("jax_enable_x64", False, "Compute in float64, to check what float32 rounds.")


_FORM_WORDS = {
  "folder:PATH": "a folder with one sub-folder of images a class, grey or colour",
  "package.module:function": "your own, which returns a jaxinv.Dataset",
}


def define_data(f: flags.FlagValues, datasets: Sequence[str] = FORMS) -> None:
  """Adds the flags that choose and find the data; `datasets` are those the command can use."""
  data = group(f, "data")
  words = " or ".join(f"{it} ({_FORM_WORDS[it]})" if it in _FORM_WORDS else it for it in datasets)
  data.string("dataset", datasets[0], f"The data: {words}.")
  data.string(
    "data_dir",
    None,
    "Folder of the data, or a zip of it; else the environment variable JAXINV_DATA, else the "
    "user's cache folder.",
  )
  data.switch(
    "download",
    False,
    "Fetch the data set from its owners into the user's cache folder first (att only).",
  )
  if "folder:PATH" in datasets:
    data.names(
      "resolution",
      [],
      "Height and width, H,W, or one number for both, to resize the images of folder:PATH to; none "
      "where they have one size.",
    )
  data.integer("data_seed", 0, "Decides which faces synthetic_faces draws.", 0, 2**32 - 1)
  data.real(
    "pose",
    1.0,
    "Scale of the pose variation of synthetic_faces; 0 for all of a person's faces frontal.",
    0.0,
    3.0,
  )
  data.integer("num_people", 40, "People that synthetic_faces draws.", 2, 10_000)
  data.integer("images_per_person", 10, "Images of each of them.", 1, 10_000)


def load_dataset(f: flags.FlagValues) -> Dataset:
  """Loads the images that the flags of `define_data` name.

  Raises:
    InputError: no such data set, or it cannot be had or read.
  """
  return load(f.dataset, _data_options(f, f.pose))


def draw_faces(f: flags.FlagValues, pose: float) -> Dataset:
  """Draws the synthetic faces that the flags name, with another scale of pose."""
  return load("synthetic_faces", _data_options(f, pose))


def _data_options(f: flags.FlagValues, pose: float) -> Options:
  """What the flags of `define_data` say beside which data set it is."""
  sides = integers("resolution", f.resolution, 1, 10_000)
  if len(sides) > 2:
    raise InputError("--resolution: give height and width, H,W, or one number for both")
  return Options(
    data_dir=f.data_dir,
    download=f.download,
    seed=f.data_seed,
    num_people=f.num_people,
    images_per_person=f.images_per_person,
    pose=pose,
    max_bytes=memory.device_memory() / 4,
    resolution=(sides[0], sides[-1]) if sides else None,
  )


def define_distributed(f: flags.FlagValues) -> None:
  """Adds the flags that let several processes, on one host or many, share a run."""
  machine = group(f, "machine")
  machine.switch(
    "distributed",
    False,
    "Share the run with other processes started by the same command; --out_dir must be one folder "
    "for all. On SLURM, Open MPI, Kubernetes and TPU pods the processes find each other; elsewhere "
    "give the three flags below.",
  )
  machine.string("coordinator", None, "Address of the first process, HOST:PORT.")
  machine.integer("num_processes", None, "Number of processes.", 1)
  machine.integer("process_id", None, "This process's number, from 0.", 0)


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
    raise InputError(f"--coordinator: '{f.coordinator}' is not HOST:PORT")
  if given and f.process_id >= f.num_processes:
    raise InputError(
      f"--process_id: {f.process_id} is none of {f.num_processes} processes, counted from 0"
    )
  return processes.join(f.coordinator, f.num_processes, f.process_id)


def _is_address(text: str) -> bool:
  found = re.fullmatch(r"[^\s:]+:(\d{1,5})", text)
  return bool(found) and int(found[1]) < 2**16


# Where a command says nothing else.
_TRAINING = {"width": 0, "record_every": 0, "loss": "softmax", "normalize": "min-max", "arm": []}


def define_training(f: flags.FlagValues, **defaults: Any) -> None:
  """Adds the flags of training many models; `defaults` gives the command's own defaults by name."""
  defaults = _TRAINING | defaults
  what, data, training, output, machine = (
    group(f, name) for name in ("what", "data", "training", "output", "machine")
  )

  def integer(where, name, low, high, text):
    where.integer(name, defaults[name], text, low, high)

  what.texts(
    "arm",
    defaults["arm"],
    "One way of training, 'NAME:key=value,key=value'; repeat for several. Keys: optimizer "
    f"({', '.join(OPTIMIZERS)}, or your own as package.module:name), {', '.join(Hyper._fields)}.",
  )
  integer(what, "num_seeds", 1, 10**6, "Number of seeds: models trained for each arm.")
  integer(data, "holdout", 0, 10**6, "Examples of each class kept out of training.")
  data.switch("fixed_split", False, "One split into training and held-out for all seeds.")
  integer(training, "steps", 0, 10**8, "Training steps of each model; 0 leaves them untrained.")
  integer(training, "batch_size", 0, 10**7, "Examples a step; 0 for the whole training split.")
  training.string(
    "loss",
    defaults["loss"],
    f"The loss: {', '.join(LOSSES)}, or your own as package.module:name.",
  )
  training.choice(
    "initializer",
    "torch_uniform",
    list(INITIALIZERS),
    "Distribution of the initial kernels: torch_uniform is uniform within +-1/sqrt(fan in).",
  )
  output.choice(
    "normalize",
    defaults["normalize"],
    list(NORMALIZATIONS),
    "How recovered weights are scaled: min-max to 0..255, or the largest magnitude to the data's "
    "largest value.",
  )
  integer(
    output, "save_seeds", 1, 10**6, "Number of seeds whose weights and recovered images are saved."
  )
  integer(
    *(output, "record_every", 0, 10**8),
    "Steps from one record of the curves to the next; 0 for 50 records.",
  )
  integer(
    *(machine, "width", 0, 10**6),
    "Runs trained together as one group; 0 for as many as are quick and fit.",
  )
  machine.real(
    "checkpoint_seconds", 10.0, "Seconds between checkpoints; 0 for one at every record.", 0.0
  )


def define_models(f: flags.FlagValues) -> None:
  """Adds the flags that say which models are trained, and by which engine."""
  what, machine = group(f, "what"), group(f, "machine")
  what.names("hidden", [], "Units of each hidden layer, e.g. 128,64; none for a linear model.")
  what.switch("use_bias", True, "Whether layers have a bias.")
  machine.choice(
    "engine",
    "auto",
    ["auto", *ENGINES],
    "How to train: primal keeps the weights; gram keeps a coefficient for each training image, for "
    "linear models and SGD: the same models many times faster; private_span draws DP-SGD's noise "
    "at every step only where the images see it, for linear models and sgd: models of the same "
    "distribution, several times faster, on trial; auto uses gram where it is exact and faster.",
  )
  machine.real(
    "memory_fraction",
    0.5,
    "Share of the device's memory to plan with, from 0.01 to 1; a wider group is divided.",
    0.01,
    1.0,
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
    **({name: f[name].value for name in same} | others),
  )


def integers(name: str, texts: Sequence[str], low: int, high: int) -> tuple[int, ...]:
  """Whole numbers of a list flag, each from `low` to `high`; raises InputError else."""
  for text in texts:
    if not re.fullmatch(r"-?\d{1,9}", text.strip()) or not low <= int(text) <= high:
      raise InputError(f"--{name}: '{text}' is not a whole number from {low} to {high}")
  return tuple(map(int, texts))


def floats(name: str, texts: Sequence[str], low: float, high: float) -> tuple[float, ...]:
  """Numbers of a list flag, each from `low` to `high`; raises InputError else."""
  for text in texts:
    try:
      fine = low <= float(text) <= high
    except ValueError:
      fine = False
    if not fine:
      raise InputError(f"--{name}: '{text}' is not a number from {low:g} to {high:g}")
  return tuple(map(float, texts))


def poses(f: flags.FlagValues) -> tuple[float, ...]:
  """The scales of --pose_sweep; raises InputError where faces are not drawn."""
  scales = floats("pose_sweep", f.pose_sweep, 0, 3)
  if scales and f.dataset != "synthetic_faces":
    raise InputError(
      "--pose_sweep needs --dataset=synthetic_faces: real photographs keep their pose"
    )
  return scales
