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

import csv
import dataclasses
import io
import itertools
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from jaxinv.ensemble import memory, timing
from jaxinv.ensemble.seeds import train_keys
from jaxinv.errors import InputError
from jaxinv.experiments import experiment, planning
from jaxinv.experiments.benchmark import engines as benchmark
from jaxinv.experiments.benchmark import figures, torch_peers
from jaxinv.experiments.benchmark.engines import (
  GRAM,
  LOOP,
  ONE_BY_ONE,
  PRIMAL,
  Curves,
  Models,
  Sizes,
  Training,
)
from jaxinv.experiments.experiment import Experiment
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.runs import files, folder
from jaxinv.runs import page as report
from jaxinv.runs.figures import save
from jaxinv.training import gram
from jaxinv.training.hyper import used
from jaxinv.types import Dataset

from . import flags as shared
from .arms import parse_arms
from .progress import ProgressBar

# More than the caches of most machines hold.
_BANDWIDTH_BYTES = 2**30

FLAGS = flags.FlagValues()
shared.define_run(FLAGS, out_dir="runs/benchmark")
shared.define_data(FLAGS, ("synthetic_faces", "att"))
_LISTS = {
  "num_seeds": (1, 10**6, "1,8,64", "Numbers of seeds: models to train."),
  "batch_size": (0, 10**7, "32,0", "Examples a step; 0 for the whole training split."),
  "width": (0, 10**6, "0", "Models of a group; 0 for what launch.faces would choose."),
}
for _name, (_, _, _value, _text) in _LISTS.items():
  flags.DEFINE_list(_name, _value, f"{_text} A list with commas.", flag_values=FLAGS)
for _name, _value, _low, _high, _text in (
  ("holdout", 2, 0, 10**6, "Examples of each class kept out of training."),
  ("steps", 20, 1, 10**6, "Steps timed in one repeat."),
  ("repeats", 5, 1, 10**6, "How often each is timed, in turns; the median counts."),
  ("loop_seeds", 4, 1, 1000, "At most so many models are timed one at a time."),
  ("peer_seeds", 16, 1, 1000, "At most so many models are timed in PyTorch's batched ways."),
  ("accuracy_seeds", 16, 1, 1000, "At most so many models of an arm are trained to accuracies."),
  ("max_steps", 500, 1, 10**6, "Steps of the training that tells the steps to an accuracy."),
  ("record_every", 10, 1, 10**6, "Steps between two looks at the accuracy."),
):
  flags.DEFINE_integer(_name, _value, _text, _low, _high, flag_values=FLAGS)
flags.DEFINE_list(
  "engine",
  [GRAM, PRIMAL, LOOP],
  f"JAX's engines to time, of {GRAM}, {PRIMAL} and {LOOP}; {GRAM} only where it is exact.",
  flag_values=FLAGS,
)
flags.DEFINE_bool(
  "peers", True, "Time PyTorch too, where it is installed and JAX is on the CPU.", flag_values=FLAGS
)
flags.DEFINE_float(
  "target_accuracy",
  1.0,
  "Training accuracy, from 0 to 1, whose time is told: the steps to it times a step's time.",
  flag_values=FLAGS,
)
flags.DEFINE_float(
  "memory_fraction",
  0.5,
  "Share of the device's memory for all groups that are timed in turns.",
  0.01,
  1.0,
  flag_values=FLAGS,
)
flags.DEFINE_multi_string(
  "arm",
  [
    "sgd:optimizer=sgd,learning_rate=0.03",
    "momentum:optimizer=momentum,learning_rate=0.01",
    "adam:optimizer=adam,learning_rate=0.001",
    "adamw:optimizer=adamw,learning_rate=0.001,weight_decay=0.01",
  ],
  "One way of training, as in launch.faces; repeat for several, all compared with the first.",
  flag_values=FLAGS,
)


class Cell(NamedTuple):
  """What one row is of; `width` is how many models step together, 0 where still to be chosen."""

  arm: Arm
  engine: str
  num_seeds: int
  batch_size: int
  width: int

  @property
  def block(self) -> tuple[int, int]:
    """What the cells have in common that are timed in turns."""
    return self.batch_size, self.num_seeds


Labs = dict[tuple[str, int], Experiment]  # By engine and batch size.


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  argv = sys.argv[1:] if argv is None else argv
  return shared.run(lambda: _main(argv), FLAGS, __doc__, argv)


def _main(argv: Sequence[str]) -> None:
  arms, lists = _read_arms(), _read_lists()
  engines = _read_engines(arms)
  dataset = shared.load_dataset(FLAGS)
  labs = _labs(arms, engines, lists, dataset)
  cells = _choose_widths(_cells(arms, engines, lists), labs)
  config = folder.configuration("launch.benchmark", shared.values(FLAGS), dataset)
  out_dir = Path(FLAGS.out_dir)
  folder.open_folder(out_dir, config, FLAGS.overwrite, shared.FREE)
  try:
    rows = _measure(cells, labs)
  except KeyboardInterrupt:
    print("stopped; nothing is kept, the same command starts anew", file=sys.stderr)
    raise SystemExit(shared.STOPPED) from None
  files.write_json(out_dir / "benchmark.json", rows)
  files.write_text(out_dir / "benchmark.csv", _csv(rows))
  verdict = [text.replace("**", "") for text in figures.verdict(rows)]
  files.write_text(out_dir / "verdict.txt", "\n\n".join(verdict) + "\n")
  page = _write_page(out_dir, rows, shlex.join(["python", "-m", "launch.benchmark", *argv]))
  folder.finish(out_dir, config)
  _print_table(rows)
  print("\n\n".join(verdict))
  print(f"report: {page}")


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


def _read_lists() -> dict[str, list[int]]:
  """The flags that are lists of numbers, each number once."""
  lists = {}
  for name, (low, high, _, _) in _LISTS.items():
    lists[name] = list(dict.fromkeys(shared.integers(name, FLAGS[name].value, low, high)))
    if not lists[name]:
      raise InputError(f"--{name}: the list is empty: give at least one number")
  shared.floats("target_accuracy", [str(FLAGS.target_accuracy)], 0, 1)  # Refuses NaN too.
  return lists


def _read_engines(arms: Sequence[Arm]) -> list[str]:
  """The engines to time; says so where PyTorch's are left out."""
  engines = list(dict.fromkeys(FLAGS.engine))
  for name in engines:
    if name not in (GRAM, PRIMAL, LOOP):
      raise InputError(f"--engine: unknown '{name}': choose from {GRAM}, {PRIMAL}, {LOOP}")
  if FLAGS.peers and jax.default_backend() != "cpu":
    print("PyTorch is not timed: its rows are of CPUs")
  elif FLAGS.peers and not torch_peers.installed():
    print("PyTorch is not timed: it is not installed (pip install .[peers])")
  elif FLAGS.peers:
    engines += torch_peers.PEERS
  if not any(_serves(engine, arm) for engine in engines for arm in arms):
    raise InputError("--engine: none of these can train any arm: give primal too")
  return engines


def _serves(engine: str, arm: Arm) -> bool:
  """Whether an engine can train an arm."""
  if engine == GRAM:
    return gram.is_exact(arm.optimizer, ())
  return engine not in torch_peers.PEERS or arm.optimizer in torch_peers.OPTIMIZERS


def _cells(
  arms: Sequence[Arm], engines: Sequence[str], lists: Mapping[str, Sequence[int]]
) -> list[Cell]:
  """All combinations that the flags ask for, those that are timed in turns one after another."""
  order = itertools.product(lists["batch_size"], sorted(lists["num_seeds"]), arms, engines)
  return [
    Cell(arm, engine, seeds, batch, width)
    for batch, seeds, arm, engine in order
    if _serves(engine, arm)
    for width in (lists["width"] if engine in (GRAM, PRIMAL) else [0])
  ]


def _labs(
  arms: Sequence[Arm],
  engines: Sequence[str],
  lists: Mapping[str, Sequence[int]],
  dataset: Dataset,
) -> Labs:
  """The experiments; raises InputError where one cannot be."""
  groups = sum(_serves(engine, arm) for engine in (GRAM, PRIMAL) for arm in arms)
  asked = {
    "num_seeds": max(lists["num_seeds"]),
    "root_seed": FLAGS.seed,
    "holdout": FLAGS.holdout,
    "memory_fraction": FLAGS.memory_fraction / (groups * len(lists["width"])),
  }
  labs = {}
  for batch in lists["batch_size"]:
    for engine in (PRIMAL, *({GRAM} & set(engines))):
      served = tuple(arm for arm in arms if _serves(engine, arm))
      settings = Settings(served, batch_size=batch, engine=engine, **asked)
      labs[engine, batch] = experiment.make_experiment(settings, dataset)
  return labs


def _choose_widths(cells: Sequence[Cell], labs: Labs) -> list[Cell]:
  """Gives every cell its width; raises InputError where not even one model fits the memory."""
  # What fits for the most seeds fits for fewer; to ask takes seconds.
  kinds = {(c.engine, c.arm.optimizer, c.batch_size, c.width): c for c in cells if _grouped(c)}
  most = {}
  with ProgressBar(len(kinds), "programs") as bar:
    for kind, cell in kinds.items():
      lab = labs[cell.engine, cell.batch_size]
      lab = lab._replace(settings=dataclasses.replace(lab.settings, width=cell.width))
      bar.working("choosing the widths of groups")
      most[kind] = planning.choose_width(lab, cell.arm.optimizer, lab.settings.num_seeds)
      bar.advance("choosing the widths of groups", 1)

  def width(cell: Cell) -> int:
    if not _grouped(cell):
      return 1 if cell.engine in ONE_BY_ONE else min(cell.num_seeds, FLAGS.peer_seeds)
    widest = most[cell.engine, cell.arm.optimizer, cell.batch_size, cell.width]
    if cell.width:
      return min(widest, cell.num_seeds)
    # As few groups as can be, all alike, and a part of each for every device.
    each = -(-cell.num_seeds // -(-cell.num_seeds // widest))
    return -(-each // jax.local_device_count()) * jax.local_device_count()

  return list(dict.fromkeys(cell._replace(width=width(cell)) for cell in cells))


def _grouped(cell: Cell) -> bool:
  return cell.engine in (GRAM, PRIMAL)


def _timed_seeds(cell: Cell) -> int:
  """How many of a cell's seeds one call trains that is timed."""
  return min(cell.num_seeds, FLAGS.loop_seeds if cell.engine in ONE_BY_ONE else cell.width)


def _scale(cell: Cell) -> float:
  """How many times the work of one call all seeds are; what only fills a group up is work too."""
  if _grouped(cell):
    return -(-cell.num_seeds // cell.width)
  return cell.num_seeds / _timed_seeds(cell)


def _models(cell: Cell, labs: Labs, count: int) -> Models:
  """The first models of an arm, for an engine."""
  lab = labs[GRAM if cell.engine == GRAM else PRIMAL, cell.batch_size]
  optimizer, seeds = cell.arm.optimizer, range(count)
  keys, data = train_keys(FLAGS.seed, seeds), experiment.split_of(lab, seeds)
  program = lab.engines[optimizer].program
  return Models(optimizer, cell.arm.hyper, cell.batch_size, program, keys, data)


def _measure(cells: Sequence[Cell], labs: Labs) -> list[dict[str, Any]]:
  """Times every cell, trains every arm to the accuracies, and makes the rows."""
  trained = {(cell.arm, cell.batch_size): cell for cell in reversed(cells)}
  trainings, seconds, machines, curves = {}, {}, {}, {}
  with ProgressBar(len(cells) * (2 + FLAGS.repeats) + len(trained), "tasks") as bar:
    for name, block in itertools.groupby(cells, lambda cell: cell.block):
      bar.working("compiling")
      limits = _limits(labs[PRIMAL, name[0]])
      calls = {limit: work.call for limit, work in limits.items()}
      for cell in block:
        count = cell.width if _grouped(cell) else _timed_seeds(cell)
        training = benchmark.prepare(cell.engine, _models(cell, labs, count), FLAGS.steps)
        calls[cell] = training.call
        # Without the call, which holds on to all of a group's memory.
        trainings[cell] = training._replace(call=None)
        bar.advance("compiling", 1)
      timed = timing.time_calls(calls, FLAGS.repeats, lambda key: _tell(bar, key))
      machines[name] = _machine({k: work.amount for k, work in limits.items()}, timed)
      seconds |= timed
      del training, calls, limits
    for (arm, batch), cell in trained.items():
      bar.working("training to the accuracy")
      count = min(FLAGS.accuracy_seeds, max(cell.num_seeds for cell in cells))
      models = _models(cell, labs, count)
      curves[arm, batch] = benchmark.train_curves(models, FLAGS.max_steps, FLAGS.record_every)
      bar.advance("training to the accuracy", 1)
  rows = []
  for cell in cells:
    lab = labs[PRIMAL, cell.batch_size]
    rows.append(_timed(cell, trainings[cell], seconds[cell]))
    rows[-1] |= _costs(rows[-1], _sizes(lab), machines[cell.block])
    best = benchmark.shared_holdout([c for (_, b), c in curves.items() if b == cell.batch_size])
    rows[-1] |= _arrival(rows[-1], curves[cell.arm, cell.batch_size], best)
  return rows


def _tell(bar: ProgressBar, key: Cell | str) -> None:
  if isinstance(key, Cell):
    bar.advance("timing", 1)


def _limits(lab: Experiment) -> dict[str, timing.Work]:
  """What shows the machine's limits, to be timed in turns with the cells."""
  size, sizes = min(_BANDWIDTH_BYTES, memory.device_memory() // 8), _sizes(lab)
  products = timing.model_products(sizes.batch, sizes.features, sizes.classes)
  return {**products, "bandwidth": timing.sweep(size)}


def _machine(
  amounts: Mapping[str, float], seconds: Mapping[Cell | str, Sequence[float]]
) -> dict[str, float]:
  """What this machine can do: operations of matrix products, and bytes of memory, a second."""
  rates = {name: amount / timing.spread(seconds[name]).median for name, amount in amounts.items()}
  return {"bandwidth": rates.pop("bandwidth"), "gemm_rate": max(rates.values())}


def _sizes(lab: Experiment) -> Sizes:
  (examples, features), classes = lab.dataset.inputs.shape, lab.dataset.num_classes
  batch = lab.settings.batch_size or examples - FLAGS.holdout * classes
  return Sizes(batch, examples, features, classes)


def _timed(cell: Cell, training: Training, seconds: Sequence[float]) -> dict[str, Any]:
  """What was timed of a cell, scaled to all of its seeds."""
  run_s, iqr = (_scale(cell) * x for x in timing.spread(seconds))
  compiled, device = training.compiled, jax.devices()[0]
  peak = compiled and compiled.peak_bytes
  if peak is not None and device.platform == "cpu":
    peak *= training.devices  # They share the host's memory.
  return {
    "arm": cell.arm.name,
    "optimizer": cell.arm.optimizer,
    "engine": cell.engine,
    "num_seeds": cell.num_seeds,
    "batch_size": cell.batch_size,
    "width": cell.width,
    "devices": training.devices,
    "lower_s": compiled and compiled.lower_s,
    "compile_s": compiled and compiled.compile_s,
    "run_s": run_s,
    "run_s_iqr": iqr,
    "seed_steps_per_s": cell.num_seeds * FLAGS.steps / run_s,
    "peak_bytes": peak,
    "timed_seeds": _timed_seeds(cell),
    "device": f"{device.platform} {device.device_kind}",
    **{name: FLAGS[name].value for name in ("steps", "repeats", "max_steps")},
  }


def _costs(row: Mapping[str, Any], sizes: Sizes, machine: Mapping[str, float]) -> dict[str, Any]:
  """What a step must compute and move, and the shares of the machine's rates that this is."""
  flops = benchmark.step_flops(row["engine"], sizes)
  # PyTorch's are always float32.
  kind = np.float32 if row["engine"] in torch_peers.PEERS else float
  itemsize = jax.dtypes.canonicalize_dtype(kind).itemsize
  moved = benchmark.step_bytes(row["engine"], row["optimizer"], sizes, itemsize)
  return {
    "step_flops": flops,
    "step_bytes": moved,
    "gemm_fraction": flops * row["seed_steps_per_s"] / machine["gemm_rate"],
    "bandwidth_fraction": moved * row["seed_steps_per_s"] / machine["bandwidth"],
    **machine,
  }


def _arrival(row: Mapping[str, Any], curves: Curves, holdout: float | None) -> dict[str, Any]:
  """Steps to the accuracies, and the time they take; null where too few models get there."""
  first = benchmark.steps_to_accuracy(curves, FLAGS.target_accuracy)
  median = float(np.median(first))
  steps = {
    "accuracy": median if np.isfinite(median) else None,
    "holdout": None if holdout is None else benchmark.steps_to_holdout(curves, holdout),
  }
  each = row["run_s"] / FLAGS.steps
  return {
    "target_accuracy": FLAGS.target_accuracy,
    "holdout_target": holdout,
    **{f"steps_to_{goal}": count for goal, count in steps.items()},
    **{f"seconds_to_{g}": None if n is None else n * each for g, n in steps.items()},
    "seeds_reached": int(np.isfinite(first).sum()),
    "accuracy_seeds": len(first),
  }


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
  """The rows with a head; what JSON calls null is empty."""
  text = io.StringIO()
  writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  return text.getvalue()


def _write_page(out_dir: Path, rows: Sequence[Mapping[str, Any]], command: str) -> Path:
  """Draws the figures and writes report.html; returns its path."""
  pictures = [
    report.Picture(save(figure, out_dir / "figures" / f"{name}.png"), caption)
    for name, (figure, caption) in figures.draw(rows).items()
  ]
  table = report.Table("Of each row in benchmark.json, the most.", *figures.table(rows))
  sections = [
    report.Section("Speed", pictures=pictures),
    report.Section("All rows", tables=[table]),
    report.Section("How it was measured", [*figures.method(rows), f"Command: {command}"]),
  ]
  title = f"{' against '.join(dict.fromkeys(row['arm'] for row in rows))}: what training costs"
  return report.write_report(out_dir / "report.html", title, figures.verdict(rows), sections)


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
  head, texts = figures.table(rows)
  table = Table(*(Column(name, no_wrap=True) for name in head), box=SIMPLE_HEAD, pad_edge=False)
  for line in texts:
    table.add_row(*line)
  # A file or a pipe has no width of its own, and 80 columns would break the lines.
  Console(width=None if sys.stdout.isatty() else 170).print(table)


if __name__ == "__main__":
  sys.exit(main())
