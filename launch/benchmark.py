"""Times SGD against Adam, and many models as one program against one model at a time.

  python -m launch.benchmark --out_dir=runs/benchmark --num_seeds=1,8 --batch_size=32

For every arm, number of seeds and batch size it trains a linear classifier with two engines:
primal, one compiled program for all seeds, and primal_loop, a program for one model called for one
seed after another (at most --loop_seeds of them; the time is scaled up to all seeds). The steps
are those of launch.faces, without its records, on one device. Writes benchmark.json, .csv, figures/
and report.html. A benchmark that was interrupted keeps nothing: the same command starts anew.

Exit status: 0 the run is complete; 1 something given cannot be used, said in one line; 130 stopped.
"""

import csv
import io
import itertools
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

from jaxinv import ensemble, experiment, files, report, results, timing
from jaxinv.errors import InputError
from jaxinv.experiment import Arm, Lab, Settings
from jaxinv.figures import benchmark as figures
from jaxinv.figures.common import save
from jaxinv.types import Dataset
from launch import flags as shared
from launch.arms import parse_arms
from launch.progress import ProgressBar

# How each engine, by the name in its rows, prepares what is timed.
ENGINES = {figures.TOGETHER: timing.train_together, figures.IN_TURN: timing.train_in_turn}

FLAGS = flags.FlagValues()
shared.define_run(FLAGS, out_dir="runs/benchmark")
shared.define_data(FLAGS, ("synthetic_faces", "att"))
_LISTS = {
  "num_seeds": (1, 10**6, "1,8,32", "Numbers of seeds, models trained together."),
  "batch_size": (0, 10**7, "32,0", "Examples a step; 0 for the whole training split."),
}
for _name, (_, _, _value, _text) in _LISTS.items():
  flags.DEFINE_list(_name, _value, f"{_text} A list with commas.", flag_values=FLAGS)
for _name, _value, _low, _text in (
  ("holdout", 2, 0, "Examples of each class kept out of training."),
  ("steps", 20, 1, "Steps timed in one repeat."),
  ("repeats", 5, 1, "How often each is timed, all in turns; the median counts."),
  ("loop_seeds", 4, 1, "At most so many seeds of the one-model-at-a-time loop are timed."),
  ("max_steps", 1000, 1, "Steps after which training to --target_accuracy is given up."),
  ("record_every", 10, 1, "Steps between two looks at the accuracy."),
):
  flags.DEFINE_integer(_name, _value, _text, _low, 10**6, flag_values=FLAGS)
flags.DEFINE_float(
  "target_accuracy",
  1.0,
  "Training accuracy, from 0 to 1, whose time is told: the steps to it times a step's time.",
  flag_values=FLAGS,
)
flags.DEFINE_multi_string(
  "arm",
  ["sgd:optimizer=sgd,learning_rate=0.1", "adam:optimizer=adam,learning_rate=0.001"],
  "One way of training, as in launch.faces; repeat for several, all compared with the first.",
  flag_values=FLAGS,
)


class Cell(NamedTuple):
  """What one row is of."""

  arm: Arm
  engine: str
  num_seeds: int
  batch_size: int


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  argv = sys.argv[1:] if argv is None else argv
  return shared.run(lambda: _main(argv), FLAGS, __doc__, argv)


def _main(argv: Sequence[str]) -> None:
  dataset = shared.load_dataset(FLAGS)
  cells = _cells()
  labs = _labs(cells, dataset)
  config = results.configuration("launch.benchmark", shared.values(FLAGS), dataset)
  out_dir = Path(FLAGS.out_dir)
  results.open_folder(out_dir, config, FLAGS.overwrite, shared.FREE)
  try:
    rows = _measure(cells, labs)
  except KeyboardInterrupt:
    print("stopped; nothing is kept, the same command starts anew", file=sys.stderr)
    raise SystemExit(shared.STOPPED) from None
  files.write_json(out_dir / "benchmark.json", rows)
  files.write_text(out_dir / "benchmark.csv", _csv(rows))
  page = _write_page(out_dir, rows, shlex.join(["python", "-m", "launch.benchmark", *argv]))
  results.finish(out_dir, config)
  _print_table(rows)
  print(f"report: {page}")


def _cells() -> list[Cell]:
  """All combinations that the flags ask for, in the order of the rows."""
  lists = []
  for name, (low, high, _, _) in _LISTS.items():
    lists.append(dict.fromkeys(shared.integers(name, FLAGS[name].value, low, high)))
    if not lists[-1]:
      raise InputError(f"--{name}: the list is empty: give at least one number")
  shared.floats("target_accuracy", [str(FLAGS.target_accuracy)], 0, 1)  # Refuses NaN too.
  order = itertools.product(lists[1], parse_arms(FLAGS.arm), ENGINES, sorted(lists[0]))
  return [Cell(arm, engine, seeds, batch) for batch, arm, engine, seeds in order]


def _labs(cells: Sequence[Cell], dataset: Dataset) -> dict[int, Lab]:
  """The experiment of each batch size; raises InputError where one, or its memory, cannot be."""
  arms, labs = tuple(dict.fromkeys(cell.arm for cell in cells)), {}
  for cell in cells:
    if cell.batch_size not in labs:
      asked = {"root_seed": FLAGS.seed, "batch_size": cell.batch_size, "holdout": FLAGS.holdout}
      labs[cell.batch_size] = experiment.make_lab(Settings(arms, **asked), dataset)
    program, _, hyper, data = _group(labs[cell.batch_size], cell, 1)
    need = _timed_seeds(cell) * ensemble.run_bytes(program, ensemble.member(0, hyper, 0), data)
    if need > ensemble.device_memory():
      raise InputError(
        f"--num_seeds: {cell.num_seeds} models at once need about {need / 1e9:.0f} GB, more than "
        f"this device's {ensemble.device_memory() / 1e9:.0f} GB: give fewer"
      )
  return labs


def _group(lab: Lab, cell: Cell, num_seeds: int) -> tuple:
  """The program of an arm, and keys, hyperparameters and data of its first seeds."""
  program, seeds = lab.engines[cell.arm.optimizer].program, range(num_seeds)
  hypers = ensemble.stack_hypers([cell.arm.hyper] * num_seeds)
  return program, ensemble.train_keys(FLAGS.seed, seeds), hypers, experiment.split_of(lab, seeds)


def _timed_seeds(cell: Cell) -> int:
  return min(cell.num_seeds, FLAGS.loop_seeds) if cell.engine == figures.IN_TURN else cell.num_seeds


def _measure(cells: Sequence[Cell], labs: Mapping[int, Lab]) -> list[dict[str, Any]]:
  """Compiles every cell, times all in turns, trains to the accuracy, and makes the rows."""
  # The same seeds take the same steps whatever trains them, so the largest group knows for all.
  largest = {(cell.arm, cell.batch_size): cell for cell in cells}
  trainings, arrivals = {}, {}
  with ProgressBar(len(cells) * (2 + FLAGS.repeats) + len(largest), "tasks") as bar:
    for cell in cells:
      program, *group = _group(labs[cell.batch_size], cell, _timed_seeds(cell))
      trainings[cell] = ENGINES[cell.engine](program.trainer, *group, FLAGS.steps)
      bar.advance("compiling", 1)
    bar.working("measuring matrix products")
    rate = max(timing.gemm_rate(*_sizes(lab)) for lab in labs.values())
    calls = {cell: training.call for cell, training in trainings.items()}
    seconds = timing.time_calls(calls, FLAGS.repeats, lambda cell: bar.advance("timing", 1))
    bar.working("training to the accuracy")
    for kind, cell in largest.items():
      group = _group(labs[cell.batch_size], cell, cell.num_seeds)
      goal = (FLAGS.target_accuracy, FLAGS.max_steps, FLAGS.record_every)
      arrivals[kind] = timing.steps_to_accuracy(*group, *goal)
      bar.advance("training to the accuracy", 1)
  rows = []
  for cell in cells:
    steps = arrivals[cell.arm, cell.batch_size][: cell.num_seeds]
    row = _row(cell, trainings[cell].compiled, seconds[cell], steps)
    # Forward X W, back X^T residual: a multiplication and an addition for each term of both.
    flops = 4 * math.prod(_sizes(labs[cell.batch_size]))
    share = flops * row["seed_steps_per_s"] / rate
    rows.append({**row, "gemm_fraction": share, "gemm_rate": rate})
  return rows


def _sizes(lab: Lab) -> tuple[int, int, int]:
  """Examples of a step, features, classes."""
  (examples, features), classes = lab.dataset.inputs.shape, lab.dataset.num_classes
  return lab.settings.batch_size or examples - FLAGS.holdout * classes, features, classes


def _row(cell: Cell, compiled: timing.Compiled, seconds, first_steps) -> dict[str, Any]:
  """One row; the times of a loop over the first few seeds are scaled to all of them."""
  scale = cell.num_seeds / _timed_seeds(cell)
  run_s, iqr = (scale * x for x in timing.spread(seconds))
  steps = float(np.median(first_steps))
  reached, device = math.isfinite(steps), jax.devices()[0]
  return {
    "arm": cell.arm.name,
    "optimizer": cell.arm.optimizer,
    "engine": cell.engine,
    "num_seeds": cell.num_seeds,
    "batch_size": cell.batch_size,
    "lower_s": compiled.lower_s,
    "compile_s": compiled.compile_s,
    "run_s": run_s,
    "run_s_iqr": iqr,
    "seed_steps_per_s": cell.num_seeds * FLAGS.steps / run_s,
    "peak_bytes": compiled.peak_bytes,
    "seconds_to_accuracy": steps * run_s / FLAGS.steps if reached else None,
    "steps_to_accuracy": steps if reached else None,
    "seeds_reached": int(np.isfinite(first_steps).sum()),
    "timed_seeds": _timed_seeds(cell),
    "device": f"{device.platform} {device.device_kind}",
    **{name: FLAGS[name].value for name in ("steps", "repeats", "target_accuracy", "max_steps")},
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
  return report.write_report(out_dir / "report.html", title, figures.findings(rows), sections)


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
  head, texts = figures.table(rows)
  table = Table(*head)
  for line in texts:
    table.add_row(*line)
  # A file or a pipe has no width of its own, and 80 columns would break the lines.
  Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
  sys.exit(main())
