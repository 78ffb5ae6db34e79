"""What a run on privacy is asked: the epsilons, and what is tried to do best under each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from jaxinv.attacks.attack import ALL, Attack, reshape
from jaxinv.attacks.attack import resolve as resolve_attacks
from jaxinv.errors import InputError
from jaxinv.experiments import settings as experiments
from jaxinv.experiments.settings import Arm, Settings, num_train
from jaxinv.training.dpsgd import noise_for
from jaxinv.types import Dataset, Hyper

# The arm without privacy.
PLAIN = "no_privacy"
# Fewer models of a kind prove nothing.
_FEWEST_MODELS = 20


@dataclass(frozen=True)
class PrivacySpec:
  """A run on privacy.

  Attributes:
    settings: what all trainings have in common; their arms and their batch sizes are chosen here.
    epsilons: of a photograph, from one model; each is an arm.
    delta: at which they hold.
    rates: learning rates that are tried for each arm.
    clips: clipping norms that are tried for each arm.
    batches: mean batch sizes that are tried for each arm.
    tuning_seeds: seeds that decide; none of them is measured.
    audit_models: models with each canary, and without any, for the empirical epsilon; 0 for none.
    confidence: of the lower bounds on epsilon.
    attacks: on single models, names and values mixed; if empty, all that make sense.
  """

  settings: Settings
  epsilons: tuple[float, ...]
  delta: float = 1e-5
  rates: tuple[float, ...] = (0.03, 0.1, 0.3)
  clips: tuple[float, ...] = (1.0,)
  batches: tuple[int, ...] = (32,)
  tuning_seeds: int = 4
  audit_models: int = 1000
  confidence: float = 0.95
  attacks: tuple[str | Attack, ...] = ()


class Candidate(NamedTuple):
  """One way of training that keeps to an epsilon.

  Attributes:
    epsilon: infinite without privacy.
    batch: mean size of a batch.
    learning_rate: of SGD.
    clip: largest norm of an example's gradient; infinite without privacy.
    noise: in units of it.
  """

  epsilon: float
  batch: int
  learning_rate: float
  clip: float = math.inf
  noise: float = 0.0

  @property
  def name(self) -> str:
    """The arm's."""
    return arm_name(self.epsilon)

  @property
  def hyper(self) -> Hyper:
    """What it is trained with."""
    if self.epsilon == math.inf:
      return Hyper(self.learning_rate)
    return Hyper(self.learning_rate, dp_clip=self.clip, dp_noise=self.noise)


def arm_name(epsilon: float) -> str:
  """What the arm of an epsilon is called.

  Example:
    >>> arm_name(7.97), arm_name(math.inf)
    ('epsilon-7.97', 'no_privacy')
  """
  return PLAIN if epsilon == math.inf else f"epsilon-{epsilon:g}"


def candidates(spec: PrivacySpec, dataset: Dataset) -> tuple[Candidate, ...]:
  """All that is tried, the noise of each such that it keeps to its epsilon.

  Args:
    spec: of the run.
    dataset: says how many examples there are.

  Returns:
    The candidates: epsilon by epsilon, then batch by batch; last those without privacy.

  Raises:
    InputError: an epsilon cannot be kept to.
  """
  count, steps = num_train(spec.settings, dataset), spec.settings.steps
  found = []
  for epsilon in sorted(spec.epsilons):
    for batch in spec.batches:
      noise = noise_for(epsilon, batch / count, steps, spec.delta)
      found += [
        Candidate(epsilon, batch, rate, clip, noise) for clip in spec.clips for rate in spec.rates
      ]
  found += [Candidate(math.inf, batch, rate) for batch in spec.batches for rate in spec.rates]
  return tuple(found)


def attacks_on_one(spec: PrivacySpec) -> tuple[Attack, ...]:
  """The attacks on single models that are made; the naive one is always among them."""
  if spec.attacks:
    given = resolve_attacks(spec.attacks)
    return given if reshape in given else (reshape, *given)
  linear = spec.settings.is_linear and spec.settings.use_bias
  return tuple(a for a in ALL if a.needs_one_model and (linear or not a.linear_only))


def check(spec: PrivacySpec, dataset: Dataset) -> None:
  """Raises InputError, with what to do, unless the run can be made on the data set."""
  settings = spec.settings
  if settings.steps < 1:
    raise InputError("--steps is 0: what is not trained needs no privacy; give a step or more")
  if settings.holdout < 1:
    raise InputError("--holdout is 0: rates are chosen by held-out accuracy; hold out one or more")
  for name in ("epsilons", "rates", "clips", "batches"):
    _check_numbers(name, getattr(spec, name))
  if not 0 < spec.delta < 1:
    raise InputError(f"--delta is a probability between 0 and 1, not {spec.delta}")
  if 0 < spec.audit_models < _FEWEST_MODELS:
    raise InputError(
      f"--audit_models={spec.audit_models} prove nothing: give {_FEWEST_MODELS} or more, or 0"
    )
  for batch in spec.batches:
    arms = (Arm(PLAIN, "sgd", Hyper(0.1)),)
    trial = replace(settings, arms=arms, batch_size=batch, attacks=attacks_on_one(spec))
    experiments.check(trial, dataset)


def _check_numbers(name: str, values: Sequence[float | int]) -> None:
  if not values:
    raise InputError(f"--{name} is empty: give a number or more")
  for value in values:
    if not 0 < value < math.inf:
      raise InputError(f"--{name}: {value} is not a finite number above 0")
  if len({f"{value:g}" for value in values}) < len(values):
    raise InputError(f"--{name}: a value is given twice")
