"""Trains on so many photographs, unmixes the weights, and counts how many come back."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinv.attacks.single.unmixing import (
  Change,
  Unmixed,
  change_of,
  count_sources,
  rank,
  side_by_side,
  spectrum,
  unmix,
)
from jaxinv.ensemble.groups import Host
from jaxinv.experiments import experiment, planning
from jaxinv.experiments.groups import run_groups
from jaxinv.experiments.outcome import ArmOutcome, assemble
from jaxinv.experiments.photographs import field
from jaxinv.experiments.photographs.score import Pictures, Score, prepare, score
from jaxinv.experiments.photographs.settings import (
  PhotographsSpec,
  Variant,
  part_of,
  trained_with,
  variants,
)
from jaxinv.models.params import unflatten
from jaxinv.types import Dataset

# The attackers: one knows W0, one holds the weights alone, and one the optimiser's state, as a
# checkpoint of training does.
UNMIXED, ALONE, MOMENT = "unmixed", "unmixed_alone", "unmixed_moment"
ATTACKERS = (UNMIXED, ALONE, MOMENT)
# The controls, which must fail.
UNTRAINED, SHUFFLED, OTHERS = "untrained", "shuffled_pixels", "other_photographs"


class Attacked(NamedTuple):
  """What one attacker found in one model, or in several side by side.

  Attributes:
    unmixed: the components.
    score: how many photographs they are.
    seconds: that the unmixing took.
  """

  unmixed: Unmixed
  score: Score
  seconds: float


class Cell(NamedTuple):
  """One arm, trained on one number of photographs.

  Attributes:
    attacked: by attacker or control, a value a seed; None where it diverged, or nothing was held.
    members: indices of the photographs of each seed in the whole data set.
    accuracy: of the models on these photographs, by seed; the mean over releases.
    holdout_accuracy: likewise on the other photographs of the same people.
    healthy: whether no model of a seed diverged.
    units: columns that the attacker holds.
    arrays: the weights of the first model of each seed that is saved.
    chance: share of members among all pictures: how often the closest picture is one by chance.
    chance_identified: share of the photographs that as many components identify which each have a
      closest picture at random.
    dataset: the photographs, in the size in which they were trained on.
    field: what each other attacker found, by name, a value a seed; see `field.attack`.
  """

  attacked: dict[str, list[Attacked | None]]
  members: Int[np.ndarray, "s m"]
  accuracy: Float[np.ndarray, " s"]
  holdout_accuracy: Float[np.ndarray, " s"]
  healthy: Bool[np.ndarray, " s"]
  units: int
  arrays: dict[str, np.ndarray]
  chance: float
  chance_identified: float
  dataset: Dataset
  field: dict[str, list[field.Guess | None]]


class Result(NamedTuple):
  """What came of a run.

  Attributes:
    cells: one for each arm and number of photographs; where something is varied, an arm for each
      of its values, named ARM-KEY-VALUE.
    baselines: the arm that each arm is compared with: the first one, at the same value.
  """

  cells: dict[str, dict[int, Cell]]
  baselines: dict[str, str]


def run_photographs(
  spec: PhotographsSpec,
  dataset: Dataset,
  store: Path | None,
  host: Host,
  working: Callable[[str], None] = lambda text: None,
) -> Result:
  """Trains every arm on every number of photographs, and attacks the models.

  Args:
    spec: of the run, checked.
    dataset: photographs with their people.
    store: folder for checkpoints and finished groups; None to keep nothing.
    host: progress, messages, when to stop.
    working: is told what is done beside training.

  Returns:
    The result.

  Raises:
    Stopped: the host asked for it; the state is in the store.
  """
  arms, cells = [arm.name for arm in spec.settings.arms], {}
  asked = variants(spec, dataset)
  for variant in asked:
    for name, by_number in _run_variant(variant, store, host, working).items():
      cells[name + variant.suffix] = by_number
  # Arm by arm, whatever the order in which they were trained.
  names = [name + variant.suffix for name in arms for variant in asked]
  firsts = [arms[0] + variant.suffix for _ in arms for variant in asked]
  return Result({name: cells[name] for name in names}, dict(zip(names, firsts, strict=True)))


def _run_variant(
  variant: Variant, store: Path | None, host: Host, working: Callable[[str], None]
) -> dict[str, dict[int, Cell]]:
  """Trains and attacks every arm on every number of photographs."""
  _, spec, dataset = variant
  cells: dict[str, dict[int, Cell]] = {arm.name: {} for arm in spec.settings.arms}
  pictures = prepare(dataset.inputs, dataset.image_shape)
  for number in spec.numbers:
    part = part_of(dataset, number, spec.settings.root_seed)
    lab = experiment.make_experiment(trained_with(spec, part), part.dataset)
    folder = store and store / f"photographs-{number}{variant.suffix}"
    outcome = assemble(lab, run_groups(lab, planning.plan(lab), folder, host))
    members = part.index[outcome.splits["train"]]
    for name, arm in outcome.arms.items():
      working(f"unmixing {name}{variant.suffix}, {number} photographs")
      cell = _cell(spec, arm, members, pictures, dataset)
      if spec.field:
        working(f"the field on {name}{variant.suffix}, {number} photographs")
        cell = cell._replace(field=_field(spec, arm, cell, pictures))
      cells[name][number] = cell
  return cells


def _cell(
  spec: PhotographsSpec,
  arm: ArmOutcome,
  members: Int[np.ndarray, "v m"],
  pictures: Pictures,
  dataset: Dataset,
) -> Cell:
  """Attacks the models of one arm, so many side by side, and the controls of the first seed."""
  num_seeds, releases = spec.settings.num_seeds, spec.releases
  healthy = arm.healthy.reshape(num_seeds, releases).all(1)
  accuracy, others = (
    arm.history[name][:, -1].reshape(num_seeds, releases).mean(1)
    for name in ("train_accuracy", "holdout_accuracy")
  )
  members = members.reshape(num_seeds, releases, -1)[:, 0]
  attacked: dict[str, list[Attacked | None]] = {UNMIXED: [None] * num_seeds}
  units = 0
  for seed in np.flatnonzero(healthy):
    models = range(seed * releases, (seed + 1) * releases)
    for name, changes in _changes(arm, models, pictures.pixels.shape[1]).items():
      found = attacked.setdefault(name, [None] * num_seeds)
      held = side_by_side(changes)
      units = max(units, held.kernel.shape[1])
      found[seed] = _attack(spec, held, pictures, members[seed])
      if name == UNMIXED and UNTRAINED not in attacked:
        attacked |= _controls(spec, held, found[seed], pictures, members[seed])
  first = [seed * releases for seed in range(min(num_seeds, spec.settings.save_seeds))]
  arrays = {name: values[first] for name, values in arm.arrays.items()}
  number, total = members.shape[1], len(pictures.pixels)
  lucky = 1 - (1 - 1 / total) ** number
  return Cell(
    *(attacked, members, accuracy, others, healthy, units, arrays),
    *(number / total, lucky, dataset, {}),
  )


def _field(
  spec: PhotographsSpec, arm: ArmOutcome, cell: Cell, pictures: Pictures
) -> dict[str, list[field.Guess | None]]:
  """Sets other attackers on the first model of each seed that did not diverge."""
  found: dict[str, list[field.Guess | None]] = {}
  for seed in np.flatnonzero(cell.healthy).tolist():
    now, first = (_params(arm.arrays, prefix, seed * spec.releases) for prefix in ("", "init_"))
    shape, members = pictures.image_shape, cell.members[seed]
    held = field.Held(now, first, shape, arm.arrays["bias"].shape[1], len(members))
    for name, guess in field.attack(held, pictures, members, spec.field, spec.effort).items():
      found.setdefault(name, [None] * len(cell.healthy))[seed] = guess
  return found


def _changes(arm: ArmOutcome, models: range, num_features: int) -> dict[str, list[Change]]:
  """What each attacker holds of some models: the changes of their first layers."""
  arrays, held = arm.arrays, {}
  for i in models:
    now, first = (_params(arrays, prefix, i) for prefix in ("", "init_"))
    held.setdefault(UNMIXED, []).append(change_of(now, first, num_features, factor=None))
    held.setdefault(ALONE, []).append(change_of(now, None, num_features))
    if moment := {k: v[i] for k, v in arrays.items() if k.startswith("moment/")}:
      held.setdefault(MOMENT, []).append(change_of(unflatten(moment)["moment"], None, num_features))
  return held


def _params(arrays: Mapping[str, np.ndarray], prefix: str, i: int) -> dict:
  """One model's parameters, from the arrays that are kept of it."""
  start = f"{prefix}params/"
  if found := {k.removeprefix(start): v[i] for k, v in arrays.items() if k.startswith(start)}:
    return unflatten(found)
  return {"kernel": arrays[f"{prefix}weights"][i].T, "bias": arrays[f"{prefix}bias"][i]}


def _attack(
  spec: PhotographsSpec,
  change: Change,
  pictures: Pictures,
  members: Int[np.ndarray, " m"],
  number: int | None = None,
) -> Attacked:
  started = time.perf_counter()
  if number is None:
    # How many there are is seldom a secret: where the spectrum leaves it open, it is given.
    values = spectrum(change)[0]
    count = count_sources(change, values)
    number = count.number if count.certain else min(len(members), rank(values))
  found = unmix(change, pictures.image_shape, number, spec.restarts, spec.settings.root_seed)
  seconds = time.perf_counter() - started
  return Attacked(found, score(found.images, pictures, members), seconds)


def _controls(
  spec: PhotographsSpec,
  change: Change,
  found: Attacked,
  pictures: Pictures,
  members: Int[np.ndarray, " m"],
) -> dict[str, list[Attacked | None]]:
  """The same attack where there is nothing to be found, on one model; each must be at chance.

  A change of noise, of the number of components that was found; the change with its pixels in
  another order, which has the same spectrum; and what was found, asked for photographs that the
  model has never seen.
  """
  rng = np.random.default_rng((spec.settings.root_seed, len(members)))
  noise = change._replace(kernel=rng.normal(size=change.kernel.shape))
  if change.bias is not None:
    noise = noise._replace(bias=rng.normal(size=change.bias.shape))
  number = len(found.unmixed.images)
  shuffled = change._replace(kernel=change.kernel[rng.permutation(len(change.kernel))])
  strangers = np.setdiff1d(np.arange(len(pictures.pixels)), members)
  strangers = np.sort(rng.permutation(strangers)[: len(members)])
  others = found._replace(score=score(found.unmixed.images, pictures, strangers))
  return {
    UNTRAINED: [_attack(spec, noise, pictures, members, number)],
    SHUFFLED: [_attack(spec, shuffled, pictures, members)],
    OTHERS: [others],
  }
