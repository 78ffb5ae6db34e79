"""A study of defences: cells of arms and grids, their controls, and what came of all of them."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxinv.attacks.attack import ALL, Attack, resolve
from jaxinv.ensemble.groups import Host
from jaxinv.errors import InputError
from jaxinv.experiments import experiment, planning
from jaxinv.experiments.experiment import Experiment
from jaxinv.experiments.groups import run_groups
from jaxinv.experiments.outcome import ArmOutcome, Outcome, assemble
from jaxinv.experiments.settings import Arm, Settings, num_train, photographs_each
from jaxinv.experiments.study import comparison, verdict
from jaxinv.experiments.study.comparison import Identified, Row
from jaxinv.experiments.study.photographs import controls
from jaxinv.experiments.study.photographs.controls import Halves, PhotoLeaks
from jaxinv.experiments.study.verdict import Verdict
from jaxinv.metrics.metric import identification, ncc_centred
from jaxinv.training import dpsgd
from jaxinv.training.dpsgd import Guarantee
from jaxinv.types import Dataset

# Sums of weights over the first 1, 2, 4, ... seeds are kept for at most so many cells.
_MOST_CELLS_WITH_PREFIXES = 40
# Names of the controls: what stands behind the baseline's, and where summary.json has them.
UNTRAINED, SHUFFLED, CONTROLS = ".untrained", ".shuffled_labels", "controls"
# Files are called by cells, with some letters more.
_LONGEST_NAME = 200


class Cell(NamedTuple):
  """One point of a study: an arm at one point of the grid.

  Attributes:
    arm: the way of training.
    base: the name of the arm before the grid.
    values: what the grid sets, by key, in the grid's order.
  """

  arm: Arm
  base: str
  values: dict[str, float]


class StudySpec(NamedTuple):
  """A study to be made.

  Attributes:
    settings: what all its trainings have in common; their arms are the cells'.
    cells: what is compared, the baseline among them.
    baseline: the name of the cell that all others are compared with.
    target: held-out accuracy at which they are compared; None for 0.95 of the baseline's last.
    margin: differences of leakage that do not matter.
    control_arms: ways of training whose models are tested for single photographs.
    control_seeds: models of each of them, an even number; 0 for no controls.
    delta: at which epsilons are reported.
    attacks: further attacks on single models, names and values mixed, beside those of the package.
  """

  settings: Settings
  cells: tuple[Cell, ...]
  baseline: str
  target: float | None = None
  margin: float = 0.05
  control_arms: tuple[Arm, ...] = ()
  control_seeds: int = 0
  delta: float = 1e-5
  attacks: tuple[str | Attack, ...] = ()


class Experiments(NamedTuple):
  """The trainings of a study: all cells; the control arms on halves; on shuffled labels."""

  cells: Experiment
  halves: Experiment | None
  shuffled: Experiment | None


class StudyResult(NamedTuple):
  """What came of a study.

  Attributes:
    outcome: of all cells.
    target: the held-out accuracy at which cells were compared.
    rows: differences from the baseline.
    verdicts: by cell, all but the baseline.
    identified: by cell, by attack, when people can be identified.
    epsilons: of the cells that were trained by DP-SGD.
    halves: who was in whose training set, of the controls.
    control: what came of the models trained on halves, an untrained arm among them.
    leaks: by control arm, the tests for single photographs; None where no model trained.
    chance: the first control arm's tests with the wrong memberships.
    shuffled: what came of training on shuffled labels.
  """

  outcome: Outcome
  target: float
  rows: list[Row]
  verdicts: dict[str, Verdict]
  identified: dict[str, dict[str, Identified]]
  epsilons: dict[str, Guarantee]
  halves: Halves | None = None
  control: Outcome | None = None
  leaks: dict[str, PhotoLeaks | None] | None = None
  chance: PhotoLeaks | None = None
  shuffled: Outcome | None = None


def cross(arms: Sequence[Arm], grid: Mapping[str, Sequence[float]]) -> tuple[Cell, ...]:
  """Crosses every arm with every point of a grid.

  Args:
    arms: the ways of training.
    grid: values by hyperparameter; empty for the arms as they are.

  Returns:
    The cells, named ARM-KEY-VALUE where there is a grid.
  """
  cells = []
  for arm in arms:
    for point in itertools.product(*grid.values()):
      values = dict(zip(grid, point, strict=True))
      name = "-".join([arm.name, *(f"{key}-{value:g}" for key, value in values.items())])
      cells.append(
        Cell(arm._replace(name=name, hyper=arm.hyper._replace(**values)), arm.name, values)
      )
  return tuple(cells)


def make_experiments(spec: StudySpec, dataset: Dataset) -> Experiments:
  """Prepares all trainings of a study.

  Args:
    spec: of the study.
    dataset: images with their classes.

  Returns:
    The experiments; nothing is compiled yet.

  Raises:
    InputError: the specification is not valid, or does not fit the data.
  """
  check(spec, dataset)
  settings, attacks = spec.settings, attacks_on_one(spec)
  cells = replace(
    settings,
    arms=tuple(cell.arm for cell in spec.cells),
    attacks=attacks,
    at_records=True,
    prefixes=len(spec.cells) <= _MOST_CELLS_WITH_PREFIXES,
  )
  experiments = Experiments(experiment.make_experiment(cells, dataset), None, None)
  if not spec.control_seeds:
    return experiments
  base = _arm(spec, spec.baseline)
  untrained = base._replace(name=base.name + UNTRAINED, hyper=base.hyper._replace(steps=0.0))
  halves = replace(
    settings,
    arms=(*spec.control_arms, untrained),
    num_seeds=spec.control_seeds,
    save_seeds=1,
    record_every=settings.steps or 1,
    # What the page says of their people.
    metrics=(ncc_centred, identification),
    # Single photographs are looked for in one release, by attacks that cost no steps of their own.
    attacks=tuple(a for a in attacks if a.at_records and "previous_params" not in a.needs),
    halves=True,
    photographs=True,
  )
  shuffled = replace(
    halves,
    arms=(base._replace(name=base.name + SHUFFLED),),
    shuffled_labels=True,
    photographs=False,
  )
  return experiments._replace(
    halves=experiment.make_experiment(halves, dataset),
    shuffled=experiment.make_experiment(shuffled, dataset),
  )


def attacks_on_one(spec: StudySpec) -> tuple[Attack, ...]:
  """The attacks that a study makes on every model: the package's, then the caller's own.

  Args:
    spec: its settings say whether models are linear.

  Returns:
    Those with the least knowledge first, and last what is made at the end only.

  Raises:
    InputError: an attack is unknown, or two have one name.
  """
  linear = spec.settings.is_linear and spec.settings.use_bias
  own = [attack for attack in ALL if attack.needs_one_model]
  known = (*own, *(attack.name for attack in own))
  attacks = resolve((*own, *(attack for attack in spec.attacks if attack not in known)))
  chosen = (attack for attack in attacks if linear or not attack.linear_only)
  return tuple(sorted(chosen, key=lambda attack: (not attack.at_records, len(attack.needs))))


def attackers(spec: StudySpec) -> dict[str, Attack]:
  """All attacks of a study by name, those on several models together last."""
  together = (attack for attack in ALL if not attack.needs_one_model)
  return {attack.name: attack for attack in (*attacks_on_one(spec), *together)}


def _arm(spec: StudySpec, name: str) -> Arm:
  return next(cell.arm for cell in spec.cells if cell.arm.name == name)


def check(spec: StudySpec, dataset: Dataset) -> None:
  """Raises InputError, with what to do, unless a study can be made."""
  names = [cell.arm.name for cell in spec.cells]
  if spec.baseline not in names:
    some = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise InputError(f"the baseline '{spec.baseline}' is none of the cells: {some}")
  for name in names:
    if name.lower() == CONTROLS or name.endswith((UNTRAINED, SHUFFLED)):
      raise InputError(
        f"arm '{name}': '{CONTROLS}' and what ends in '{UNTRAINED}' or '{SHUFFLED}' are names of "
        "the study's own controls: give another name"
      )
    if len(name) > _LONGEST_NAME:
      raise InputError(
        f"a cell's name is {len(name)} letters long, too long for a file: give the arm a shorter "
        "name, or the grid fewer keys"
      )
  if not 0 < spec.delta < 1:
    raise InputError(f"delta is {spec.delta}: give a probability above 0 and below 1")
  if spec.settings.holdout < 1:
    raise InputError("a study compares at equal held-out accuracy: give --holdout=1 or more")
  if spec.settings.steps < 1:
    raise InputError("a study needs training: give --steps=1 or more")
  check_controls(spec)


def check_controls(spec: StudySpec) -> None:
  """Raises InputError unless the control models can be balanced and compared."""
  seeds = spec.control_seeds
  if seeds and (seeds % 2 or seeds < 8):
    raise InputError(
      f"{seeds} control models cannot be balanced and compared: give an even "
      "number of 8 or more, or 0 for no controls"
    )


def run_steps(spec: StudySpec) -> int:
  """The run-steps of a whole study, for its progress bar."""
  settings = spec.settings
  cells = settings.steps * settings.num_seeds * len(spec.cells)
  # The models on shuffled labels are as many as those of one control arm.
  return cells + control_steps(spec) + settings.steps * spec.control_seeds


def control_steps(spec: StudySpec) -> int:
  """The run-steps of the models on halves: those of the control arms and the untrained ones."""
  return spec.settings.steps * spec.control_seeds * (len(spec.control_arms) + 1)


def run_study(
  spec: StudySpec, experiments: Experiments, store: Path | None, host: Host
) -> StudyResult:
  """Trains everything and compares it.

  Args:
    spec: of the study.
    experiments: of `make_experiments`.
    store: folder for checkpoints and finished groups; None to keep nothing.
    host: progress, messages, when to stop.

  Returns:
    What came of it.

  Raises:
    Stopped: the host asked for it; the state is in the store.
  """
  # Before anything is trained: an epsilon that cannot be computed loses no models.
  promised = epsilons(spec, experiments.cells.dataset)
  outcome = _run(experiments.cells, store and store / "cells", host)
  baseline = outcome.arms[spec.baseline]
  target = spec.target or comparison.default_target(baseline)
  others = {name: arm for name, arm in outcome.arms.items() if name != spec.baseline}
  result = StudyResult(
    outcome=outcome,
    target=target,
    rows=[
      r for name, arm in others.items() for r in comparison.compare(name, arm, baseline, target)
    ],
    verdicts=verdict.judge_all(others, baseline, target, spec.margin),
    identified={name: _identified(arm, outcome.steps) for name, arm in outcome.arms.items()},
    epsilons=promised,
  )
  if experiments.halves is None:
    return result
  control = _run(experiments.halves, store and store / "halves", host)
  halves = controls.halves_in(experiments.halves)
  labels = experiments.halves.dataset.labels
  leaks = {name: controls.photo_leaks(arm, halves, labels) for name, arm in control.arms.items()}
  first = control.arms[spec.control_arms[0].name]
  return result._replace(
    halves=halves,
    control=control,
    leaks=leaks,
    chance=controls.photo_leaks(first, controls.wrong_halves(halves), labels),
    shuffled=_run(experiments.shuffled, store and store / "shuffled", host),
  )


def _run(one: Experiment, store: Path | None, host: Host) -> Outcome:
  return assemble(one, run_groups(one, planning.plan(one), store, host))


def _identified(arm: ArmOutcome, steps: Int[np.ndarray, " t"]) -> dict[str, Identified]:
  by_attack = {a: comparison.identified_from(arm, a, steps) for a in comparison.attacks_of(arm)}
  return {attack: times for attack, times in by_attack.items() if times}


def epsilons(spec: StudySpec, dataset: Dataset) -> dict[str, Guarantee]:
  """What DP-SGD promises, by cell; only of those trained by it.

  Args:
    spec: settings, cells and delta.
    dataset: tells how many examples there are to train on, and of each person.

  Returns:
    Epsilons at the study's delta, of adding or removing photographs.
  """
  settings, by_cell = spec.settings, {}
  count, most = num_train(settings, dataset), photographs_each(settings, dataset)
  rate = (settings.batch_size or count) / count
  known: dict[tuple[float, int], Guarantee] = {}
  for arm in (cell.arm for cell in spec.cells):
    if np.isfinite(arm.hyper.dp_clip):
      noise, steps = float(arm.hyper.dp_noise), int(min(arm.hyper.steps, settings.steps))
      if (noise, steps) not in known:
        known[noise, steps] = dpsgd.guarantee(
          noise, rate, steps, spec.delta, most, settings.num_seeds
        )
      by_cell[arm.name] = known[noise, steps]
  return by_cell
