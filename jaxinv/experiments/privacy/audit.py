"""The empirical epsilon of DP-SGD: models with and without a canary, and what tests on them prove.

Two lower bounds, both with confidence. One is by the errors of a test alone, whatever trained the
models; n models of a kind prove at most log(n / 7.4). The other asks which noise DP-SGD can have
had at most, given the trade-off curves of DP-SGD itself (Nasr et al. 2023, arXiv 2302.07956): a few
hundred models then prove any epsilon.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxinv.ensemble import mapping
from jaxinv.ensemble.groups import Host
from jaxinv.ensemble.program import make_program
from jaxinv.experiments.privacy.canaries import CANARIES, SCORES, Stage, kept, scores, watched
from jaxinv.experiments.privacy.groups import Job, train
from jaxinv.experiments.privacy.worst_case import WorstCase, worst_case
from jaxinv.experiments.settings import Settings
from jaxinv.metrics.empirical import Bound, Errors, best_test, is_refuted, lower_bound, shift_of
from jaxinv.training import primal
from jaxinv.training.dpsgd import epsilon
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.types import Hyper

# Noises that are asked of: their ratio, and the powers of it between which the search goes on.
_RATIO, _LEAST, _MOST = 1.01, -340, 700


class Audit(NamedTuple):
  """What came of one kind of attacker on one canary.

  Attributes:
    epsilon: what was claimed.
    noise: that the models had, in units of the clipping norm.
    canary: one of `canaries.CANARIES`.
    attacker: one of `canaries.SCORES`.
    bound: on epsilon, by the errors alone.
    errors: of the test that tells Gaussians apart best.
    by_noise: lower bound on epsilon by the noise that DP-SGD can have had at most, given these.
    advantage: hits less false alarms of the test that has most, at least.
    limit: of no test more, by the worst case of the claim.
    refutes: whether the claim is refuted, with confidence in all audits together: the program is
      wrong. Each bound by itself may be above a true claim by chance.
  """

  epsilon: float
  noise: float
  canary: str
  attacker: str
  bound: Bound
  errors: Errors
  by_noise: float
  advantage: float
  limit: float
  refutes: bool

  @property
  def highest(self) -> float:
    """The larger of the two bounds."""
    return max(self.bound.epsilon, self.by_noise)


def train_canaries(
  stage: Stage,
  hypers: Mapping[float, Hyper],
  num_models: int,
  settings: Settings,
  store: Path | None,
  host: Host,
) -> dict[float, Float[np.ndarray, "3 m 2 2 2"]]:
  """Trains models without a canary and with each, for several noises, in one program.

  Args:
    stage: what they are trained on.
    hypers: by the epsilon that is claimed of them.
    num_models: of each kind and epsilon.
    settings: root seed, width and memory; steps are the stage's.
    store: folder for checkpoints and finished groups; None to keep nothing.
    host: progress, messages, when to stop.

  Returns:
    By epsilon, for models without a canary and with each of `CANARIES`, what `scores` gives.

  Raises:
    Stopped: the host asked for it; the state is in the store.
  """
  kinds = (None, *CANARIES)
  runs = [(h, kind) for h in hypers.values() for kind in kinds for _ in range(num_models)]
  optimizer = OPTIMIZERS["sgd"]
  trainer = primal.make_trainer(
    stage.model, stage.loss, optimizer, stage.batch, frozenset(("dp_clip", "dp_noise"))
  )
  axes = mapping.SHARED_DATA._replace(train=None, holdout=None)
  program = make_program(watched(trainer, stage), axes)
  look = jax.jit(jax.vmap(partial(scores, stage), in_axes=(mapping.STATE_AXES, axes)))

  def data_of(numbers: Sequence[int]):
    return stage.data._replace(keep=jnp.asarray(kept(stage, [runs[i][1] for i in numbers])))

  job = Job(
    f"audit-{stage.batch}",
    "models with and without a canary",
    program,
    [hyper for hyper, _ in runs],
    range(len(runs)),
    data_of,
    lambda progress, data: {"scores": np.asarray(look(progress.states, data))},
  )
  found = train(job, settings, store, host)["scores"]
  rows = found.reshape(len(hypers), len(kinds), num_models, *found.shape[1:])
  return dict(zip(hypers, rows, strict=True))


def judge(
  stage: Stage,
  found: Mapping[float, Float[np.ndarray, "3 m 2 2 2"]],
  noises: Mapping[float, float],
  delta: float,
  confidence: float = 0.95,
) -> list[Audit]:
  """What the scores prove of each epsilon, by each kind of attacker on each canary.

  Args:
    stage: what the models were trained on.
    found: what `train_canaries` returned.
    noises: by epsilon, that was claimed.
    delta: at which the epsilons are claimed.
    confidence: of each bound; and of all refutations together, by Bonferroni's correction.

  Returns:
    The audits, epsilon by epsilon.
  """
  least_noise, audits = noise_bound(stage.rate, stage.steps), []
  # Both ways of each audit could refute.
  strict = 1 - (1 - confidence) / (2 * len(found) * len(CANARIES) * len(SCORES))
  for claimed, rows in found.items():
    most = worst_case(noises[claimed], stage.rate, stage.steps)
    for i, canary in enumerate(CANARIES):
      for j, attacker in enumerate(SCORES):
        scores_of = [np.float64(rows[kind, :, i, j]).T for kind in (0, i + 1)]
        errors = best_test(*scores_of, shift_of, confidence)
        noise = least_noise(errors.false_alarms, errors.misses)
        audits.append(
          Audit(
            claimed,
            noises[claimed],
            canary,
            attacker,
            bound=lower_bound(*scores_of, delta, confidence),
            errors=errors,
            by_noise=epsilon(noise, stage.rate, stage.steps, delta) if noise < math.inf else 0.0,
            advantage=best_test(*scores_of, lambda a, b: -(a + b), confidence).advantage,
            limit=most.advantage,
            refutes=_refutes(claimed, most, scores_of, delta, strict),
          )
        )
  return audits


def _refutes(
  claimed: float,
  most: WorstCase,
  scores_of: Sequence[Float[np.ndarray, "2 m"]],
  delta: float,
  confidence: float,
) -> bool:
  """Whether a test's errors are fewer than the claim allows: its epsilon, or its whole curve."""
  errors = best_test(*scores_of, shift_of, confidence)
  beyond = 1 - errors.misses > float(most.hits(errors.false_alarms))
  return beyond or is_refuted(claimed, lower_bound(*scores_of, delta, confidence).epsilon)


def noise_bound(rate: float, steps: int) -> Callable[[float, float], float]:
  """The noise that DP-SGD had less than, given the errors of a test of its models.

  Args:
    rate: probability of each example to be in a batch.
    steps: number of steps.

  Returns:
    (false alarms, misses) -> the least noise of a grid with which no test has so few of both;
    infinite where any noise has.
  """

  @cache
  def curve(power: int):
    return worst_case(_RATIO**power, rate, steps)

  def find(false_alarms: float, misses: float) -> float:
    def refuted(power: int) -> bool:
      return float(curve(power).hits(false_alarms)) < 1 - misses

    low, high = _LEAST, _MOST
    if not refuted(high):
      return math.inf
    while high - low > 1:
      middle = (low + high) // 2
      low, high = (low, middle) if refuted(middle) else (middle, high)
    return _RATIO**high

  return find
