"""What a run on single photographs is asked: how many are trained on, and who attacks."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from jaxinv.errors import InputError, choose
from jaxinv.experiments import settings as experiments
from jaxinv.experiments.engines import choose_engine
from jaxinv.experiments.photographs.field import FIELD, Effort
from jaxinv.experiments.settings import Settings
from jaxinv.types import Dataset, Hyper

# Pictures that components are compared with, at most: more decoys say little more.
MOST_PICTURES = 4000
# What a map may vary beside the number of photographs: a way of training has these ...
STRUCTURE = ("hidden", "pixels", "batch_size", "steps", "releases")
# ... or any hyperparameter.
AXES = (*STRUCTURE, *(name for name in Hyper._fields if name not in STRUCTURE))


class Axis(NamedTuple):
  """What is varied in every arm, beside the number of photographs.

  Attributes:
    key: one of `AXES`: `hidden` is the number of units of the first layer, `pixels` the height of
      the photographs.
    values: of the key.
  """

  key: str
  values: tuple[float, ...]


@dataclass(frozen=True)
class PhotographsSpec:
  """A run on single photographs.

  Attributes:
    settings: what all trainings have in common. Their `holdout` follows from `numbers`, and their
      batches are no larger than what there is to train on.
    numbers: photographs trained on; each number is trained and attacked by itself.
    releases: models of the same photographs that the attacker holds side by side.
    restarts: of the separation, see `unmixing.unmix`.
    axis: what is varied beside `numbers`; None for nothing.
    margin: differences of the share of photographs that is identified which do not matter.
    field: other attackers that are set on the same models, see `field.FIELD`.
    effort: what those of them that search may spend.
  """

  settings: Settings
  numbers: tuple[int, ...]
  releases: int = 1
  restarts: int = 3
  axis: Axis | None = None
  margin: float = 0.05
  field: tuple[str, ...] = ()
  effort: Effort = Effort()  # noqa: RUF009, as nobody changes it.


class Variant(NamedTuple):
  """One value of an axis: what is asked there.

  Attributes:
    suffix: of the names of arms; empty where nothing is varied.
    spec: without an axis; arms have the names given.
    dataset: of photographs.
  """

  suffix: str
  spec: PhotographsSpec
  dataset: Dataset


class Part(NamedTuple):
  """The pictures of a data set that one number of photographs is drawn from.

  Attributes:
    dataset: so many people, all with all of their pictures.
    index: of its examples in the whole data set.
    each: photographs of a person that are trained on.
  """

  dataset: Dataset
  index: Int[np.ndarray, " n"]
  each: int


def part_of(dataset: Dataset, number: int, seed: int) -> Part:
  """Chooses the people of a number of photographs, evenly spread: as many people as can be.

  Args:
    dataset: photographs with their people.
    number: of photographs to be trained on.
    seed: by which people are drawn where not all can have the same share.

  Returns:
    The part.

  Raises:
    InputError: no number of people has an even share.

  Example:
    >>> import jaxinv
    >>> faces = jaxinv.synthetic_faces(num_people=4, images_per_person=3)
    >>> part = part_of(faces, 6, seed=0)
    >>> part.dataset.num_classes, part.each
    (3, 2)
  """
  counts = np.bincount(dataset.labels, minlength=dataset.num_classes)
  people, each = next(
    (
      (people, number // people)
      for people in range(dataset.num_classes, 1, -1)
      # Of each person one photograph or more is left, so that there are decoys.
      if number % people == 0 and (counts > number // people).sum() >= people
    ),
    (0, 0),
  )
  if not people:
    raise InputError(
      f"--photographs: {number} cannot be spread evenly over 2 to {dataset.num_classes} people "
      f"of whom each keeps a picture or more as a decoy; people have {counts.min()} pictures or "
      "more: give another number"
    )
  rng = np.random.default_rng(seed)
  able = np.flatnonzero(counts > each)
  chosen = np.sort(rng.permutation(able)[:people]) if people < len(able) else able
  index = np.flatnonzero(np.isin(dataset.labels, chosen))
  # The same number of pictures of each, so that what is held out leaves the same share of each.
  order = index[np.lexsort((index, dataset.labels[index]))]
  rank = np.arange(len(order)) - np.searchsorted(dataset.labels[order], dataset.labels[order])
  most = min(int(counts[chosen].min()), max(each + 1, MOST_PICTURES // people))
  index = np.sort(order[rank < most])
  names = tuple(dataset.names[k] for k in chosen)
  labels = np.searchsorted(chosen, dataset.labels[index]).astype(np.int32)
  kept = dataset._replace(
    inputs=dataset.inputs[index], labels=labels, num_classes=people, names=names
  )
  return Part(kept, index, each)


def variants(spec: PhotographsSpec, dataset: Dataset) -> list[Variant]:
  """What is asked at each value of the axis, in order; the whole where there is none.

  Raises:
    InputError: a value makes no sense for these photographs.
  """
  if spec.axis is None:
    return [Variant("", spec, dataset)]
  key, values = spec.axis
  alone = replace(spec, axis=None)
  return [Variant(f"-{key}-{value:g}", *_at(alone, dataset, key, value)) for value in values]


def _at(
  spec: PhotographsSpec, dataset: Dataset, key: str, value: float
) -> tuple[PhotographsSpec, Dataset]:
  settings = spec.settings
  if key == "pixels":
    return spec, _resized(dataset, int(value))
  if key == "releases":
    return replace(spec, releases=int(value)), dataset
  if key == "hidden":
    settings = replace(settings, hidden=(int(value), *settings.hidden[1:]))
  elif key in STRUCTURE:
    settings = replace(settings, **{key: int(value)})
  else:
    arms = [arm._replace(hyper=arm.hyper._replace(**{key: value})) for arm in settings.arms]
    settings = replace(settings, arms=tuple(arms))
  return replace(spec, settings=settings), dataset


def _resized(dataset: Dataset, height: int) -> Dataset:
  """The photographs at another height, and as wide in proportion, without aliasing."""
  old = dataset.image_shape
  if old is None or not 3 <= height <= old[0]:
    raise InputError(f"--map=pixels={height}: heights are from 3 to that of the data, {old}")
  shape = (height, max(3, round(height * old[1] / old[0])), *old[2:])
  images = dataset.inputs.reshape(-1, *old)
  small = jax.image.resize(images, (len(images), *shape), "linear", antialias=True)
  inputs = np.asarray(small, np.float32).reshape(len(images), -1)
  return dataset._replace(inputs=inputs, image_shape=shape)


def trained_with(spec: PhotographsSpec, part: Part) -> Settings:
  """The settings of the experiment on one number of photographs."""
  size = len(part.dataset.labels) // part.dataset.num_classes
  number, seeds = part.each * part.dataset.num_classes, spec.settings.num_seeds * spec.releases
  return replace(
    spec.settings,
    num_seeds=seeds,
    save_seeds=seeds,
    holdout=size - part.each,
    # Models that are held side by side were trained on the same photographs.
    fixed_split=spec.settings.fixed_split or spec.releases > 1,
    batch_size=min(spec.settings.batch_size, number),
    attacks=("init_diff",),
    metrics=("ncc_centred",),
    keep_moment=True,
  )


def check(spec: PhotographsSpec, dataset: Dataset) -> None:
  """Raises InputError, with what to do, unless the run can be made on the data set."""
  if not spec.numbers or min(spec.numbers) < 2:
    raise InputError("--photographs: give one number or more, each 2 or more")
  if len(set(spec.numbers)) < len(spec.numbers):
    raise InputError("--photographs: a number is given twice")
  if spec.releases < 1 or spec.restarts < 1:
    raise InputError("--releases and --restarts are 1 or more")
  if dataset.image_shape is None or min(dataset.image_shape[:2]) < 3:
    raise InputError("the data's features are no images of 3 pixels or more: give images")
  if not spec.margin >= 0:
    raise InputError("--margin is 0 or more")
  for name in spec.field:
    choose("--field", name, FIELD)
  for variant in variants(spec, dataset):
    for number in spec.numbers:
      part = part_of(variant.dataset, number, spec.settings.root_seed)
      settings = trained_with(variant.spec, part)
      experiments.check(settings, part.dataset)
      for arm in settings.arms:
        choose_engine(settings, [arm], *part.dataset.inputs.shape)


def num_steps(spec: PhotographsSpec) -> int:
  """Steps of training in all: of every seed, arm, number and value."""
  asked, values = spec.settings, len(spec.axis.values) if spec.axis else 1
  lengths, releases = [asked.steps] * values, [spec.releases] * values
  if spec.axis and spec.axis.key == "steps":
    lengths = [int(value) for value in spec.axis.values]
  if spec.axis and spec.axis.key == "releases":
    releases = [int(value) for value in spec.axis.values]
  each = asked.num_seeds * len(asked.arms) * len(spec.numbers)
  return each * sum(map(int.__mul__, lengths, releases))
