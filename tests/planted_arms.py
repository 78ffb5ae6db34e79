"""Planted arms of a study: what leaks is known, so that verdicts and differences are too."""

import numpy as np

from jaxinv.experiments.outcome import ArmOutcome
from jaxinv.metrics.claims import Label

SEEDS, TARGET, MARGIN = 12, 0.7, 0.05
# Held-out accuracy at each record: the target is reached at the third, exactly.
CLIMB = np.array([0.2, 0.5, 0.7, 0.9])
# What a leak is more, or less, at the other records: a look at a wrong one is noticed.
SWAY = np.array([0.3, -0.3, 0.0, 0.25])
# What is seen more, or less, of each person.
PEOPLE = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])


def noise(seed, size=1.0):
  """A number a seed; their mean is 0 exactly, so that what is planted is what is there."""
  values = np.random.default_rng(seed).standard_normal(SEEDS)
  return size * (values - values.mean())


SHARED = noise(0, 0.1)


def make_arm(leaks, climb=CLIMB, healthy=None):
  """An arm with these leaks at the record where the target is reached, by attack, a value a seed.

  All that belongs to a seed that diverged is NaN.
  """
  healthy = np.ones(SEEDS, bool) if healthy is None else healthy
  whole = np.where(healthy, 1.0, np.nan)
  accuracy = np.broadcast_to(climb, (SEEDS, 4)) + np.zeros((SEEDS, 4))
  trail = {
    attack: {"ncc_centred": values[:, None] + SWAY + np.zeros((SEEDS, 4))}
    for attack, values in leaks.items()
  }
  measures = {"model": {"holdout_accuracy": whole * accuracy[:, -1]}}
  for attack, values in leaks.items():
    measures[attack] = {"ncc_centred": whole * (values + SWAY[-1]), "ssim": whole * values / 2}
  measures["seed_mean"] = {"ncc_centred": np.array([0.97])}
  people = {attack: one["ncc_centred"][..., None] + PEOPLE for attack, one in trail.items()}
  return ArmOutcome(
    measures=measures,
    healthy=healthy,
    history={"holdout_accuracy": accuracy},
    images={},
    arrays={},
    frames=np.zeros((4, 3)),
    trail=trail,
    identified={},
    by_person=people,
    details={"by_person": {attack: x[:, -1] for attack, x in people.items()}},
    prefixes={},
  )


def make_pair(reshape=0.0, init_diff=0.0, size=0.01, **arm):
  """An arm that leaks so much more than its baseline, whose seeds it shares, and the baseline."""
  base = {"reshape": 0.4 + SHARED + noise(1, 0.01), "init_diff": 0.6 + SHARED + noise(2, 0.01)}
  mine = {
    "reshape": base["reshape"] + reshape + noise(3, size),
    "init_diff": base["init_diff"] + init_diff + noise(4, size),
  }
  return make_arm(mine, **arm), make_arm(base)


def slow_baseline():
  """An arm that reaches the target, and a baseline that never does."""
  arm, baseline = make_pair(-0.2, -0.2)
  slow = {"holdout_accuracy": np.minimum(baseline.history["holdout_accuracy"], 0.55)}
  return arm, baseline._replace(history=slow)


CASES = {
  Label.NOT_COMPARABLE: slow_baseline(),
  Label.LOWERS: make_pair(-0.2, -0.2),
  Label.HIDES: make_pair(-0.3, 0.0),
  Label.NO_EFFECT: make_pair(),
  Label.TOO_LITTLE: make_pair(-0.02, -0.02, size=0.002),
  Label.UNDECIDED: make_pair(-0.05, -0.05),
  Label.TOO_FEW: make_pair(-0.2, -0.2, healthy=np.arange(SEEDS) < 4),
  Label.RAISES: make_pair(0.2, 0.2),
  Label.NOT_USEFUL: make_pair(-0.2, -0.2, climb=np.minimum(CLIMB, 0.55)),
  Label.NOT_TRAINED: make_pair(-0.2, -0.2, healthy=np.zeros(SEEDS, bool)),
}
