"""What the benchmark times: arms x engines x numbers of seeds, and the rows that come of it."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxinv.ensemble import memory, timing
from jaxinv.ensemble.seeds import train_keys
from jaxinv.errors import InputError
from jaxinv.experiments import experiment, planning
from jaxinv.experiments.benchmark import engines, torch_peers
from jaxinv.experiments.benchmark.engines import (
  GRAM,
  ONE_BY_ONE,
  PRIMAL,
  Curves,
  Models,
  Sizes,
  Training,
)
from jaxinv.experiments.experiment import Experiment
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.training import gram
from jaxinv.types import Dataset

# More than the caches of most machines hold.
_BANDWIDTH_BYTES = 2**30
# Told what is worked on, and how many more of `count_tasks` are done.
Advanced = Callable[[str, int], None]


class Spec(NamedTuple):
  """What to time, and how.

  Attributes:
    arms: the ways of training.
    engines: names of engines and of PyTorch's ways.
    num_seeds: numbers of models to train.
    batch_sizes: examples a step; 0 for the whole training split.
    widths: models of a group; 0 for what an experiment would choose.
    root_seed: with a seed's number, decides all of its randomness.
    holdout: examples of each class kept out of training.
    memory_fraction: share of the device's memory for all groups that are timed in turns.
    steps: steps timed in one repeat.
    repeats: how often each is timed.
    loop_seeds: at most so many models are timed one at a time.
    peer_seeds: at most so many models are timed in PyTorch's batched ways.
    accuracy_seeds: at most so many models of an arm are trained to accuracies.
    max_steps: steps of that training.
    record_every: its steps between two records of the accuracy.
    target_accuracy: training accuracy to time, from 0 to 1.
  """

  arms: tuple[Arm, ...]
  engines: tuple[str, ...]
  num_seeds: tuple[int, ...]
  batch_sizes: tuple[int, ...]
  widths: tuple[int, ...]
  root_seed: int
  holdout: int
  memory_fraction: float
  steps: int
  repeats: int
  loop_seeds: int
  peer_seeds: int
  accuracy_seeds: int
  max_steps: int
  record_every: int
  target_accuracy: float


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


Experiments = dict[tuple[str, int], Experiment]  # By engine and batch size.


def check(spec: Spec) -> None:
  """Raises InputError where no engine can train any arm."""
  if not any(can_train(engine, arm) for engine in spec.engines for arm in spec.arms):
    raise InputError("--engine: none of these can train any arm: give primal too")


def can_train(engine: str, arm: Arm) -> bool:
  """Whether an engine can train an arm."""
  if engine == GRAM:
    return gram.is_exact(arm.optimizer, ())
  return engine not in torch_peers.PEERS or arm.optimizer in torch_peers.OPTIMIZERS


def make_cells(spec: Spec) -> list[Cell]:
  """All combinations to time, those that are timed in turns one after another."""
  order = itertools.product(spec.batch_sizes, sorted(spec.num_seeds), spec.arms, spec.engines)
  return [
    Cell(arm, engine, seeds, batch, width)
    for batch, seeds, arm, engine in order
    if can_train(engine, arm)
    for width in (spec.widths if engine in (GRAM, PRIMAL) else [0])
  ]


def make_experiments(spec: Spec, dataset: Dataset) -> Experiments:
  """The experiments; raises InputError where one cannot be."""
  groups = sum(can_train(engine, arm) for engine in (GRAM, PRIMAL) for arm in spec.arms)
  same = {
    "num_seeds": max(spec.num_seeds),
    "root_seed": spec.root_seed,
    "holdout": spec.holdout,
    "memory_fraction": spec.memory_fraction / (groups * len(spec.widths)),
  }
  experiments = {}
  for batch in spec.batch_sizes:
    for engine in (PRIMAL, *({GRAM} & set(spec.engines))):
      served = tuple(arm for arm in spec.arms if can_train(engine, arm))
      settings = Settings(served, batch_size=batch, engine=engine, **same)
      experiments[engine, batch] = experiment.make_experiment(settings, dataset)
  return experiments


def count_kinds(cells: Sequence[Cell]) -> int:
  """For how many kinds of cells `choose_widths` asks the compiler."""
  return len(_kinds(cells))


def _kinds(cells: Sequence[Cell]) -> dict[tuple, Cell]:
  # What fits for the most seeds fits for fewer; to ask takes seconds.
  return {(c.engine, c.arm.optimizer, c.batch_size, c.width): c for c in cells if _grouped(c)}


def choose_widths(
  spec: Spec, cells: Sequence[Cell], experiments: Experiments, advanced: Advanced
) -> list[Cell]:
  """Gives every cell its width; raises InputError where not even one model fits the memory."""
  most = {}
  for kind, cell in _kinds(cells).items():
    advanced("choosing the widths of groups", 0)
    lab = experiments[cell.engine, cell.batch_size]
    lab = lab._replace(settings=replace(lab.settings, width=cell.width))
    most[kind] = planning.choose_width(lab, cell.arm.optimizer, lab.settings.num_seeds)
    advanced("choosing the widths of groups", 1)

  def width(cell: Cell) -> int:
    if not _grouped(cell):
      return 1 if cell.engine in ONE_BY_ONE else min(cell.num_seeds, spec.peer_seeds)
    widest = most[cell.engine, cell.arm.optimizer, cell.batch_size, cell.width]
    if cell.width:
      return min(widest, cell.num_seeds)
    # As few groups as can be, all alike, and a part of each for every device.
    each = -(-cell.num_seeds // -(-cell.num_seeds // widest))
    return -(-each // jax.local_device_count()) * jax.local_device_count()

  return list(dict.fromkeys(cell._replace(width=width(cell)) for cell in cells))


def _grouped(cell: Cell) -> bool:
  return cell.engine in (GRAM, PRIMAL)


def _timed_seeds(spec: Spec, cell: Cell) -> int:
  """How many of a cell's seeds one call trains that is timed."""
  return min(cell.num_seeds, spec.loop_seeds if cell.engine in ONE_BY_ONE else cell.width)


def _scale(spec: Spec, cell: Cell) -> int | float:
  """How many times the work of one call all seeds are; what only fills a group up is work too."""
  if _grouped(cell):
    return -(-cell.num_seeds // cell.width)
  return cell.num_seeds / _timed_seeds(spec, cell)


def _models(spec: Spec, cell: Cell, experiments: Experiments, count: int) -> Models:
  """The first models of an arm, for an engine."""
  lab = experiments[GRAM if cell.engine == GRAM else PRIMAL, cell.batch_size]
  optimizer, seeds = cell.arm.optimizer, range(count)
  keys, data = train_keys(spec.root_seed, seeds), experiment.split_of(lab, seeds)
  program = lab.engines[optimizer].program
  return Models(optimizer, cell.arm.hyper, cell.batch_size, program, keys, data)


def count_tasks(spec: Spec, cells: Sequence[Cell]) -> int:
  """How much there is to do for `measure`."""
  return len(cells) * (2 + spec.repeats) + len(_trained(cells))


def _trained(cells: Sequence[Cell]) -> dict[tuple[Arm, int], Cell]:
  """A cell for each arm and batch size."""
  return {(cell.arm, cell.batch_size): cell for cell in reversed(cells)}


def measure(
  spec: Spec, cells: Sequence[Cell], experiments: Experiments, advanced: Advanced
) -> list[dict[str, Any]]:
  """Times every cell, trains every arm to the accuracies, and makes the rows.

  Args:
    spec: what to time, and how.
    cells: with their widths.
    experiments: the experiments.
    advanced: called at each task that is done, of `count_tasks`.

  Returns:
    A row a cell, as benchmark.json has it.
  """
  trainings, seconds, machines = _time(spec, cells, experiments, advanced)
  curves = {}
  for (arm, batch), cell in _trained(cells).items():
    advanced("training to the accuracy", 0)
    count = min(spec.accuracy_seeds, max(cell.num_seeds for cell in cells))
    models = _models(spec, cell, experiments, count)
    curves[arm, batch] = engines.train_curves(models, spec.max_steps, spec.record_every)
    advanced("training to the accuracy", 1)
  rows = []
  for cell in cells:
    row = _timed(spec, cell, trainings[cell], seconds[cell])
    sizes = _sizes(experiments[PRIMAL, cell.batch_size])
    row |= _costs(row, sizes, machines[cell.block])
    best = engines.shared_holdout([c for (_, b), c in curves.items() if b == cell.batch_size])
    row |= _arrival(spec, row, curves[cell.arm, cell.batch_size], best)
    rows.append(row)
  return rows


def _time(
  spec: Spec, cells: Sequence[Cell], experiments: Experiments, advanced: Advanced
) -> tuple[dict[Cell, Training], dict[Cell | str, list[float]], dict]:
  """What was prepared and how long it took, by cell, and the machine's rates by `Cell.block`."""
  trainings, seconds, machines = {}, {}, {}
  for block, members in itertools.groupby(cells, lambda cell: cell.block):
    advanced("compiling", 0)
    limits = _limits(experiments[PRIMAL, block[0]])
    calls = {limit: work.call for limit, work in limits.items()}
    for cell in members:
      count = cell.width if _grouped(cell) else _timed_seeds(spec, cell)
      training = engines.prepare(cell.engine, _models(spec, cell, experiments, count), spec.steps)
      calls[cell] = training.call
      # Without the call, which holds on to all of a group's memory.
      trainings[cell] = training._replace(call=None)
      advanced("compiling", 1)
    timed = timing.time_calls(
      calls, spec.repeats, lambda key: advanced("timing", int(isinstance(key, Cell)))
    )
    machines[block] = machine_rates({k: work.amount for k, work in limits.items()}, timed)
    seconds |= timed
    del training, calls, limits
  return trainings, seconds, machines


def _limits(lab: Experiment) -> dict[str, timing.Work]:
  """What shows the machine's limits, to be timed in turns with the cells."""
  size, sizes = min(_BANDWIDTH_BYTES, memory.device_memory() // 8), _sizes(lab)
  products = timing.model_products(sizes.batch, sizes.features, sizes.classes)
  return {**products, "bandwidth": timing.sweep(size)}


def machine_rates(
  amounts: Mapping[str, float], seconds: Mapping[Cell | str, Sequence[float]]
) -> dict[str, float]:
  """What this machine can do: operations of matrix products, and bytes of memory, a second."""
  rates = {name: amount / timing.spread(seconds[name]).median for name, amount in amounts.items()}
  return {"bandwidth": rates.pop("bandwidth"), "gemm_rate": max(rates.values())}


def _sizes(lab: Experiment) -> Sizes:
  (examples, features), classes = lab.dataset.inputs.shape, lab.dataset.num_classes
  batch = lab.settings.batch_size or examples - lab.settings.holdout * classes
  return Sizes(batch, examples, features, classes)


def _timed(spec: Spec, cell: Cell, training: Training, seconds: Sequence[float]) -> dict[str, Any]:
  """What was timed of a cell, scaled to all of its seeds."""
  run_s, iqr = (_scale(spec, cell) * x for x in timing.spread(seconds))
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
    "seed_steps_per_s": cell.num_seeds * spec.steps / run_s,
    "peak_bytes": peak,
    "timed_seeds": _timed_seeds(spec, cell),
    "device": f"{device.platform} {device.device_kind}",
    **{name: getattr(spec, name) for name in ("steps", "repeats", "max_steps")},
  }


def _costs(row: Mapping[str, Any], sizes: Sizes, machine: Mapping[str, float]) -> dict[str, Any]:
  """What a step must compute and move, and the shares of the machine's rates that this is."""
  flops = engines.step_flops(row["engine"], sizes)
  # PyTorch's are always float32.
  kind = np.float32 if row["engine"] in torch_peers.PEERS else float
  itemsize = jax.dtypes.canonicalize_dtype(kind).itemsize
  moved = engines.step_bytes(row["engine"], row["optimizer"], sizes, itemsize)
  return {
    "step_flops": flops,
    "step_bytes": moved,
    "gemm_fraction": flops * row["seed_steps_per_s"] / machine["gemm_rate"],
    "bandwidth_fraction": moved * row["seed_steps_per_s"] / machine["bandwidth"],
    **machine,
  }


def _arrival(
  spec: Spec, row: Mapping[str, Any], curves: Curves, holdout: float | None
) -> dict[str, Any]:
  """Steps to the accuracies, and the time they take; null where too few models get there."""
  first = engines.steps_to_accuracy(curves, spec.target_accuracy)
  median = float(np.median(first))
  steps = {
    "accuracy": median if np.isfinite(median) else None,
    "holdout": None if holdout is None else engines.steps_to_holdout(curves, holdout),
  }
  each = row["run_s"] / spec.steps
  return {
    "target_accuracy": spec.target_accuracy,
    "holdout_target": holdout,
    **{f"steps_to_{goal}": count for goal, count in steps.items()},
    **{f"seconds_to_{g}": None if n is None else n * each for g, n in steps.items()},
    "seeds_reached": int(np.isfinite(first).sum()),
    "accuracy_seeds": len(first),
  }
