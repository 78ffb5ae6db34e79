"""What no attacker on DP-SGD exceeds: hits at given false alarms, from the privacy loss itself.

An epsilon with its delta is one point of a curve, and bounds attacks badly. The whole curve, from
the same privacy loss distribution as the epsilon, is made by `riskcal` (Kulynych, Gomez et al.
2024, arXiv 2407.02191; 2025, arXiv 2507.06969).
"""

import logging
import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxinv.errors import InputError

# dp_accounting and riskcal are imported where they are used: a second, and few runs need them.

# Width of the cells of the privacy loss: for an epsilon of 1, and of groups for one of 1.
_CELL, _GROUP_CELL = 1e-4, 3e-3
# Beyond this advantage all is known. riskcal 1.5.1 also reads losses that are all positive wrongly.
_ALL_KNOWN = 1 - 1e-6
# Of the Renyi accountant, which says how wide the cells may be; and where its epsilon is taken.
_ORDERS, _DELTA = (*range(2, 65), 128, 256, 512, 1024), 1e-5


class WorstCase(NamedTuple):
  """The most that an attacker can reach who knows all but the examples in question.

  Attributes:
    losses: the privacy loss distribution of `dp_accounting`; None where nothing is hidden.

  Example: see `worst_case`.
  """

  losses: Any

  def hits(self, false_alarms: Float[np.ndarray, "*n"] | float) -> Float[np.ndarray, "*n"]:
    """The share of members found, at most, at a share of false alarms."""
    alarms = np.asarray(false_alarms, np.float64)
    if self.advantage > _ALL_KNOWN:
      return np.ones_like(alarms)
    from riskcal.analysis import get_beta_from_pld

    order = np.argsort(alarms, axis=None)
    found = np.empty(alarms.size)
    with np.errstate(all="ignore"):
      found[order] = 1 - get_beta_from_pld(self.losses, alpha=alarms.ravel()[order])
    return np.clip(found, 0.0, 1.0).reshape(alarms.shape)

  @property
  def advantage(self) -> float:
    """Hits less false alarms, at most."""
    if self.losses is None:
      return 1.0
    from riskcal.analysis import get_advantage_from_pld

    return float(min(1.0, get_advantage_from_pld(self.losses)))

  def recovered(self, candidates: int) -> float:
    """The probability, at most, to tell which of so many equally likely candidates it was.

    Without the model it is one in so many; with it, the share of hits at as many false alarms.
    """
    return float(self.hits(1 / candidates))


def worst_case(noise: float, rate: float, steps: int, group: int = 1) -> WorstCase:
  """The worst case of DP-SGD, of an example or of several that are in the data or not together.

  Args:
    noise: standard deviation of the noise, in units of the clipping norm.
    rate: probability of each example to be in a batch, in (0, 1].
    steps: number of steps, at least 1.
    group: examples that are in the data or not together, such as all photographs of a person.

  Returns:
    The worst case: an upper bound, as tight as the epsilons of `dpsgd.epsilon`.

  Raises:
    InputError: a number is out of range.

  Example:
    >>> one, eight = (worst_case(1.55, 0.1, 500, group=g) for g in (1, 8))
    >>> round(one.advantage, 2), round(float(one.hits(0.01)), 2)
    (0.56, 0.23)
    >>> round(one.recovered(40), 2), round(eight.recovered(40), 2)
    (0.35, 1.0)
  """
  if not 0 <= noise < math.inf or not 0 < rate <= 1 or steps < 1 or group < 1:
    raise InputError(
      f"no DP-SGD has noise {noise}, rate {rate}, {steps} steps and groups of {group}: give noise "
      "of at least 0, a rate above 0 and at most 1, a step and an example at least"
    )
  if noise / group < 0.02:  # Whose losses overflow, and beyond all promises.
    return WorstCase(None)
  import dp_accounting as dp
  from scipy.stats import binom

  logging.getLogger("absl").setLevel(logging.ERROR)
  distribution = dp.pld.privacy_loss_distribution
  # As if whoever is in the batch of a group brought the whole group along: see `dpsgd.epsilon`.
  of_any = -math.expm1(group * math.log1p(-rate)) if rate < 1 else 1.0
  width = max(1.0, _renyi(noise / group, of_any, steps))
  if group == 1:
    one = distribution.from_gaussian_mechanism(
      noise, sampling_prob=rate, value_discretization_interval=_CELL * width
    )
  else:
    counts = range(group + 1)
    one = distribution.from_mixture_gaussian_mechanism(
      noise,
      [*counts],
      [*binom.pmf(counts, group, rate)],
      value_discretization_interval=min(_GROUP_CELL * width, 0.3),
    )
  return WorstCase(one.self_compose(steps))


def _renyi(noise: float, rate: float, steps: int) -> float:
  """Epsilon by the Renyi accountant: quick, and too large."""
  import dp_accounting as dp

  step = dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise))
  accountant = dp.rdp.RdpAccountant(_ORDERS)
  return float(accountant.compose(dp.SelfComposedDpEvent(step, steps)).get_epsilon(_DELTA))
