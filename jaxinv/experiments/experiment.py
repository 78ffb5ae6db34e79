"""An experiment made ready to run: its engines, its data, and the plan of groups of runs."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import jax
import numpy as np

from jaxinv.attacks.release import RELEASE
from jaxinv.data import splits
from jaxinv.ensemble import mapping, memory
from jaxinv.ensemble.program import (
  TOGETHER,
  Program,
  chunk_lengths,
  make_program,
  state_shapes,
  widest,
)
from jaxinv.ensemble.seeds import shuffle_labels, split_data, train_keys
from jaxinv.errors import InputError
from jaxinv.experiments import leakage
from jaxinv.experiments.in_training import glance_group
from jaxinv.experiments.settings import ENGINES, NEUTRAL, Settings, check, program_name, used
from jaxinv.models.dense import make_model
from jaxinv.training import gram
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import LINEAR, OPTIMIZERS
from jaxinv.training.projection import pixel_gram
from jaxinv.types import Data, Dataset, Hyper, Snapshot


class Group(NamedTuple):
  """Runs that are trained together, each an (arm, seed); `width` counts the padding in.

  Attributes:
    index: its number in the plan.
    engine: name of the engine that trains it, in `Lab.engines`.
    runs: whom it trains.
    width: how many models it holds.
  """

  index: int
  engine: str
  runs: tuple[tuple[int, int], ...]
  width: int


class Engine(NamedTuple):
  """The compiled functions for the arms that one program trains.

  Attributes:
    kind: `primal` or `gram`.
    program: trains a group.
    measure: places -> (first params, states, data, place, healthy, hypers, earlier) -> what is
      measured of a group.
    glance: (first params, states, data, hypers, earlier) -> leakage at a record, see
      `glance.glance`.
    examine: (first params, states, data, i, hypers, earlier) -> what the i-th run gives away.
    watch: (states, data, i, class) -> the i-th run's weights of one class, [p].
  """

  kind: str
  program: Program
  measure: Callable[[int], Callable[..., leakage.Measured]]
  glance: Callable[..., tuple[dict, dict]]
  examine: Callable[..., leakage.Findings]
  watch: Callable[..., jax.Array]


class Lab(NamedTuple):
  """Settings, data on the device and engines; another data set of the same shape can be put in.

  Attributes:
    settings: what to do.
    dataset: the data, on the host.
    data: the same on the device, once, nothing held out.
    look: how images are made and compared.
    engines: by name, see `settings.program_name`; nothing is compiled before it is used.
  """

  settings: Settings
  dataset: Dataset
  data: Data
  look: leakage.Look
  engines: dict[str, Engine]


def make_lab(settings: Settings, dataset: Dataset) -> Lab:
  """Prepares an experiment.

  Args:
    settings: what to do.
    dataset: images with their classes.

  Returns:
    The lab.

  Raises:
    InputError: a name is unknown, a number makes no sense, or settings and data do not fit.
  """
  check(settings, dataset)
  look = leakage.Look(
    image_shape=dataset.image_shape,
    num_classes=dataset.num_classes,
    holdout=settings.holdout > 0,
    normalize=settings.normalize,
    largest=255.0 * (float(dataset.inputs.max()) if settings.normalize == "max" else 1.0),
    attacks=settings.attacks,
    photographs=settings.photographs,
  )
  engines = {
    name: _make_engine(settings, dataset, look, name)
    for name in dict.fromkeys(map(program_name, settings.arms))
  }
  return with_data(Lab(settings, dataset, splits.whole(dataset), look, engines), dataset)


def _make_engine(settings: Settings, dataset: Dataset, look: leakage.Look, name: str) -> Engine:
  arms = [arm for arm in settings.arms if program_name(arm) == name]
  optimizer, on = arms[0].optimizer, set().union(*(used(arm.hyper) for arm in arms))
  serves = gram.serves(optimizer, settings.hidden, on)
  if settings.engine == "gram" and not serves:
    raise InputError(
      f"the gram engine cannot train {name} with {len(settings.hidden)} hidden layers: it is for "
      f"linear models and {', '.join(LINEAR)}, without {', '.join(gram.OUTSIDE)}; give "
      "--engine=auto"
    )
  kind = settings.engine
  if kind == "auto":
    kind = "gram" if serves and gram.pays(*dataset.inputs.shape) else "primal"
  model = make_model(dataset.num_classes, settings.hidden, settings.use_bias, settings.initializer)
  parts = (model, LOSSES[settings.loss], OPTIMIZERS[optimizer], settings.batch_size)
  features = on & set(gram.OUTSIDE)
  # Where all models multiply the same examples by their weights, together they make one large
  # product, which is worth more than a core's cache.
  together = kind == "primal" and not settings.batch_size and not features
  # The engine in the span of the data has none of these features, and is not taken for them.
  named = {"features": features} if features else {}
  if together and not settings.hidden:
    named["turned"] = True
  trainer = ENGINES[kind](*parts, off=set(NEUTRAL) - on, **named)
  program = make_program(
    trainer,
    mapping.SHARED_DATA._replace(labels=0 if settings.shuffled_labels else None),
    block=TOGETHER if together else 0,
  )
  look = look._replace(altered=bool(set(RELEASE) & on))
  # What is recovered is compared with the truth, whatever was taught.
  seen = program._replace(data_axes=mapping.SHARED_DATA)
  return Engine(
    kind,
    program,
    measure=cache(lambda places: leakage.measure_group(seen, look, places)),
    glance=glance_group(seen, look._replace(attacks=settings.glances)),
    examine=leakage.examine_one(seen, look),
    watch=leakage.watch_one(seen, look),
  )


def with_data(lab: Lab, dataset: Dataset) -> Lab:
  """Puts a data set in, of the same shape as the one before."""
  data = splits.whole(dataset)
  if any(engine.kind == "gram" for engine in lab.engines.values()):
    data = data._replace(gram=gram.gram_matrix(data.inputs, lab.settings.use_bias))
  if lab.settings.glances:
    products, means = pixel_gram(data.inputs)
    data = data._replace(pixel_gram=products, pixel_means=means)
  return lab._replace(dataset=dataset, data=data)


def plan(lab: Lab, num_processes: int = 1) -> list[Group]:
  """Divides the runs of each engine into groups of one width, all arms' seeds in a row.

  The width is what the settings say, else the one that is quick; either way no wider than fits the
  memory, and the groups are made alike so that little of the last one is padding.

  Args:
    lab: settings, data and engines.
    num_processes: how many share the groups; there is one for each, where there are runs enough.

  Returns:
    The groups.

  Raises:
    InputError: not even one run a device fits.
  """
  groups = []
  for name in lab.engines:
    arms = [i for i, arm in enumerate(lab.settings.arms) if program_name(arm) == name]
    runs = [(arm, seed) for arm in arms for seed in range(lab.settings.num_seeds)]
    width = choose_width(lab, name, -(-len(runs) // num_processes))
    for members in mapping.divide(len(runs), width):
      chosen = tuple(runs[i] for i in members)
      groups.append(Group(len(groups), name, chosen, width))
  return groups


def choose_width(lab: Lab, name: str, num_runs: int) -> int:
  """How many runs a group of an engine holds; see `plan`."""
  program, devices = lab.engines[name].program, len(lab.engines[name].program.devices)
  width = lab.settings.width
  if not width:
    width = _even(num_runs, widest(program), devices)
  budget = lab.settings.memory_fraction * memory.device_memory()
  if peak_bytes(lab, name, width) <= budget:
    return width
  # Between a width that may fit and one that does not: the peak is now training's, now measuring's,
  # each a line, so that the line between the two is above it, and beyond them it would be below.
  wide = max(width, 2 * devices)
  need = memory.predict_memory(lambda w: peak_bytes(lab, name, w), devices, wide)
  # Rounding should not lose the run that just fits.
  fitting = int((budget - need.fixed) / need.per_run + 1e-6) // devices * devices
  if fitting < devices:
    raise InputError(
      f"training one model on each device takes about {need.of(devices) / 1e9:.1f} GB, of the "
      f"{budget / 1e9:.1f} GB that may be planned with: give smaller layers, fewer examples, or "
      "more by --memory_fraction"
    )
  return _even(num_runs, fitting, devices)


def describe(lab: Lab, groups: Sequence[Group]) -> dict[str, dict]:
  """By engine's name, of which kind it is and in what groups, for config.json and for people."""
  return {
    name: {
      "engine": engine.kind,
      "width": next(group.width for group in groups if group.engine == name),
      "groups": sum(group.engine == name for group in groups),
      "devices": len(engine.program.devices),
    }
    for name, engine in lab.engines.items()
  }


def _even(num_runs: int, most: int, devices: int) -> int:
  """The width of as few groups as `most` allows, all alike; fills the devices evenly."""
  if num_runs <= devices:
    return num_runs
  num_groups = -(-num_runs // most)
  each = -(-num_runs // num_groups)
  return -(-each // devices) * devices


def places(settings: Settings, width: int) -> int:
  """The most sums of weights that a group can need: one for each arm that it can span, or more."""
  arms = min(len(settings.arms), 2 + (width - 1) // settings.num_seeds)
  # An arm's seeds, up to the last, are in so many sums: see `groups._prefix`.
  each = 1 + (settings.num_seeds - 1).bit_length()
  return min(width, arms * each) if settings.prefixes else arms


def peak_bytes(lab: Lab, name: str, width: int) -> int:
  """Memory that a group takes at its worst, in bytes, told by the compiler before anything runs.

  Args:
    lab: settings, data and engines.
    name: which engine.
    width: runs of the group.

  Returns:
    Bytes on one device, or of all where the devices share the host's memory.
  """
  settings, engine = lab.settings, lab.engines[name]
  program = engine.program
  # Splits and keys of all runs are small: made, for their places on the devices.
  data = mapping.shard(split_of(lab, [0] * width), program.data_axes, width)
  keys = mapping.shard(train_keys(0, [0] * width), 0, width)
  hypers = mapping.shard(mapping.stack_hypers([Hyper()] * width), 0, width)
  states = state_shapes(program, keys, hypers, data)
  length = next(chunk_lengths(settings.steps, settings.record_every), 1)
  taught = lesson(lab, data, [0] * width)
  train = memory.compiled_bytes(program.advance, states, hypers, taught, num_steps=length)
  whom = np.zeros(width, np.int32), np.ones(width, bool)
  earlier = Snapshot(states.params, states.step) if remembers(settings) else None
  measured = engine.measure(places(settings, width))
  measure = memory.compiled_bytes(measured, states.params, states, data, *whom, hypers, earlier)
  shared = len(program.devices) if program.devices[0].platform == "cpu" else 1
  # Beside what is trained, the first parameters are kept all along, perhaps those before the last
  # record too.
  params = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(states.params))
  return max(shared * train + (2 if earlier else 1) * params, shared * measure)


def remembers(settings: Settings) -> bool:
  """Whether an attack needs the models as they were one record earlier."""
  return "update_ratio" in (*settings.attacks, *settings.glances)


def split_of(lab: Lab, seeds: Sequence[int]) -> Data:
  """The data as some seeds see it: all examples, and each seed's split."""
  settings = lab.settings
  return split_data(
    lab.data,
    lab.dataset.num_classes,
    settings.root_seed,
    seeds,
    settings.holdout,
    settings.fixed_split or settings.halves,
    settings.halves,
  )


def lesson(lab: Lab, data: Data, seeds: Sequence[int]) -> Data:
  """What some seeds are taught: their data, or for a control with labels dealt out anew."""
  if not lab.settings.shuffled_labels:
    return data
  width, axes = len(seeds), lab.engines[next(iter(lab.engines))].program.data_axes
  taught = shuffle_labels(data, lab.settings.root_seed, seeds)
  return mapping.shard(taught, axes, width)
