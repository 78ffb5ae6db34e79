"""Times SGD against Adam, and many models at once against whatever else one would write.

  python -m launch.benchmark --out_dir=runs/benchmark --num_seeds=1,8,64 --batch_size=32,0

For every arm, number of seeds and batch size it trains linear classifiers with these engines:

  primal         groups of models as one program, as in launch.faces
  gram           the same in the span of the data, for the optimisers that allow it
  primal_loop    a JAX program for one model, called for one seed after another
  torch_loop     PyTorch, one model after another (these three where it is installed, on CPUs)
  torch_batched  PyTorch, all models in one batched product
  torch_vmap     PyTorch, torch.func.vmap

The steps are those of launch.faces without its records. Of many groups one is timed, of the other
engines a few models (--loop_seeds, --peer_seeds), and the time is scaled to all seeds. Writes
benchmark.json, .csv, verdict.txt, figures/ and report.html. A benchmark that was interrupted keeps
nothing: the same command starts anew.

Exit status: 0 the run is complete; 1 something given cannot be used, said in one line; 130 stopped.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import flags
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from jaxinv.ensemble.progress import ProgressBar
from jaxinv.errors import InputError, choose
from jaxinv.experiments.benchmark import measure, page, rows, torch_peers
from jaxinv.experiments.benchmark.engines import GRAM, LOOP, PRIMAL
from jaxinv.experiments.benchmark.measure import Spec
from jaxinv.experiments.settings import Arm
from jaxinv.runs import files, tables
from jaxinv.training.hyper import used

from . import flags as shared
from .arms import parse_arms
from .define import group
from .run import opened, run

FLAGS = flags.FlagValues()
shared.define_run(FLAGS, out_dir="runs/benchmark", resumes=False)
shared.define_data(FLAGS)
_what, _data, _output = (group(FLAGS, name) for name in ("what", "data", "output"))
_training, _machine = group(FLAGS, "training"), group(FLAGS, "machine")
_what.texts(
  "arm",
  [
    "sgd:optimizer=sgd,learning_rate=0.03",
    "momentum:optimizer=momentum,learning_rate=0.01",
    "adam:optimizer=adam,learning_rate=0.001",
    "adamw:optimizer=adamw,learning_rate=0.001,weight_decay=0.01",
  ],
  "One way of training, as in launch.faces; repeat for several, all compared with the first.",
)
_what.names(
  "engine",
  [GRAM, PRIMAL, LOOP],
  f"JAX's engines to time, of {GRAM}, {PRIMAL} and {LOOP}; {GRAM} only where it is exact.",
)
_what.switch("peers", True, "Time PyTorch too, where it is installed and JAX is on the CPU.")
_what.names("num_seeds", "1,8,64", "Numbers of models to train, a list with commas.")
_training.names("batch_size", "32,0", "Examples a step, a list; 0 for the whole training split.")
_machine.names("width", "0", "Models of a group, a list; 0 for what launch.faces would choose.")
_machine.real(
  "memory_fraction",
  0.5,
  "Share of the device's memory, from 0.01 to 1, for all groups that are timed in turns.",
  0.01,
  1.0,
)
_training.real(
  "target_accuracy",
  1.0,
  "Training accuracy, from 0 to 1, to which the time is measured: the steps to it times a step's "
  "time.",
  0.0,
  1.0,
)
for _group, _name, _value, _low, _high, _text in (
  (_data, "holdout", 2, 0, 10**6, "Examples of each class kept out of training."),
  (_output, "steps", 20, 1, 10**6, "Steps timed in one repeat."),
  (_output, "repeats", 5, 1, 10**6, "Times that each is timed, in turns; the median counts."),
  (_output, "loop_seeds", 4, 1, 1000, "Most models that are timed one at a time."),
  (_output, "peer_seeds", 16, 1, 1000, "Most models that are timed in PyTorch's batched ways."),
  (_output, "accuracy_seeds", 16, 1, 1000, "Most models of an arm trained to the accuracies."),
  (_training, "max_steps", 500, 1, 10**6, "Steps of the training to the accuracies."),
  (_output, "record_every", 10, 1, 10**6, "Steps between two measurements of the accuracy."),
):
  _group.integer(_name, _value, _text, _low, _high)
# Of each flag that is a list of numbers, the smallest and the largest.
_LISTS = {"num_seeds": (1, 10**6), "batch_size": (0, 10**7), "width": (0, 10**6)}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return run("benchmark", _main, FLAGS, __doc__, argv, resumes=False)


def _main(argv: Sequence[str]) -> None:
  spec = _spec()
  dataset = shared.load_dataset(FLAGS)
  experiments, cells = measure.make_experiments(spec, dataset), measure.make_cells(spec)
  with ProgressBar(measure.count_kinds(cells), "programs") as bar:
    cells = measure.choose_widths(spec, cells, experiments, bar.advance)
  work = measure.count_tasks(spec, cells)
  with opened(FLAGS, "benchmark", argv, dataset, work, "tasks", polled=False) as here:
    found = measure.measure(spec, cells, experiments, here.bar.advance)
    files.write_json(here.out_dir / "benchmark.json", found)
    head = list(found[0])
    tables.write_csv(here.out_dir / "benchmark.csv", head, [row.values() for row in found])
    verdict = "\n\n".join(page.verdict(found))
    files.write_text(here.out_dir / "verdict.txt", f"{verdict}\n")
    path = page.write_page(here.out_dir, found, here.command, here.config)
  _print_table(found)
  print(verdict)
  print(f"report: {path}")


def _spec() -> Spec:
  """What the flags ask for; raises InputError where that cannot be timed."""
  arms, lists = _read_arms(), _read_lists()
  same = ("holdout", "memory_fraction", "steps", "repeats", "loop_seeds", "peer_seeds")
  same += ("accuracy_seeds", "max_steps", "record_every", "target_accuracy")
  spec = Spec(
    arms=arms,
    engines=_read_engines(),
    num_seeds=lists["num_seeds"],
    batch_sizes=lists["batch_size"],
    widths=lists["width"],
    root_seed=FLAGS.seed,
    **{name: FLAGS[name].value for name in same},
  )
  measure.check(spec)
  return spec


def _read_arms() -> tuple[Arm, ...]:
  """The arms; refuses what is done for privacy, which no peer would be timed with."""
  arms = parse_arms(FLAGS.arm)
  for arm in arms:
    others = used(arm.hyper) - {"weight_decay", "label_smoothing", "clip_norm"}
    if others:
      raise InputError(
        f"--arm {arm.name}: {min(others)} is not timed here: leave it out, launch.study takes it"
      )
  return arms


def _read_lists() -> dict[str, tuple[int, ...]]:
  """The flags that are lists of numbers, each number once."""
  lists = {}
  for name, (low, high) in _LISTS.items():
    lists[name] = tuple(dict.fromkeys(shared.integers(name, FLAGS[name].value, low, high)))
    if not lists[name]:
      raise InputError(f"--{name}: the list is empty: give at least one number")
  return lists


def _read_engines() -> tuple[str, ...]:
  """The engines to time; says so where PyTorch's are left out."""
  engines = tuple(dict.fromkeys(FLAGS.engine))
  for name in engines:
    choose("--engine", name, dict.fromkeys((GRAM, PRIMAL, LOOP)))
  if FLAGS.peers and jax.default_backend() != "cpu":
    print("PyTorch is not timed: its rows are of CPUs")
  elif FLAGS.peers and not torch_peers.installed():
    print("PyTorch is not timed: it is not installed (pip install .[peers])")
  elif FLAGS.peers:
    engines += tuple(torch_peers.PEERS)
  return engines


def _print_table(found: Sequence[Mapping[str, Any]]) -> None:
  head, texts = rows.table(found)
  table = Table(*(Column(name, no_wrap=True) for name in head), box=SIMPLE_HEAD, pad_edge=False)
  for line in texts:
    table.add_row(*line)
  # A file or a pipe has no width of its own, and 80 columns would break the lines.
  Console(width=None if sys.stdout.isatty() else 170).print(table)


if __name__ == "__main__":
  sys.exit(main())
