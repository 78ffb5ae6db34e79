"""Which photographs make up a face: the coefficients of models trained in the span of the data."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxinv.experiments.outcome import ArmOutcome
from jaxinv.types import Dataset


class Shares(NamedTuple):
  """Which photographs make up one person's weights, of one model.

  Attributes:
    name: the person's.
    image: the sum of all training photographs, each times its coefficient, scaled to [0, 1]: the
      person's weights less what is left in them of the initial ones.
    own: the person's training photographs, the one with most weight first; in [0, 1].
    own_weight: the coefficient of each in the weights.
    others: photographs of other people with the largest negative coefficients, likewise.
    other_weight: the coefficient of each.
    own_part: the own photographs' part of all coefficients' magnitudes, in [0, 1].
  """

  name: str
  image: Float[np.ndarray, "h w *c"]
  own: Float[np.ndarray, "_ h w *c"]
  own_weight: Float[np.ndarray, " _"]
  others: Float[np.ndarray, "_ h w *c"]
  other_weight: Float[np.ndarray, " _"]
  own_part: float


def find_shares(
  dataset: Dataset, arm: ArmOutcome, train: Int[np.ndarray, " m"], person: int, most: int = 8
) -> Shares:
  """Finds which photographs make up a person's weights in an arm's first seed.

  Args:
    dataset: the photographs.
    arm: trained in the span of the data, so that it has `coefficients`.
    train: the photographs trained on.
    person: the class.
    most: how many of the person's photographs to show; fewer than half as many of other people.

  Returns:
    The shares.
  """
  weight = arm.arrays["coefficients"][0][train, person]
  mine = dataset.labels[train] == person
  own = np.flatnonzero(mine)[np.argsort(-weight[mine], kind="stable")][:most]
  others = np.flatnonzero(~mine)[np.argsort(weight[~mine], kind="stable")][: most * 3 // 8]
  photographs = dataset.inputs[train].reshape(-1, *dataset.image_shape)
  image = np.tensordot(weight, photographs, 1)
  total = np.abs(weight).sum()
  return Shares(
    name=dataset.names[person],
    image=(image - image.min()) / max(np.ptp(image), np.finfo(image.dtype).tiny),
    own=photographs[own],
    own_weight=weight[own],
    others=photographs[others],
    other_weight=weight[others],
    own_part=float(np.abs(weight[mine]).sum() / total) if total > 0 else 0.0,
  )
