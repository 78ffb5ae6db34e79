"""A whole outcome of an experiment on faces, grey or in colour, without any training."""

import numpy as np

from jaxinv.attacks import attack
from jaxinv.experiments.outcome import ArmOutcome, Outcome, summarize
from jaxinv.experiments.settings import Arm
from jaxinv.metrics.metric import DEFAULT
from jaxinv.types import Dataset, Hyper

NEGATIVE = attack.Attack(
  "negative", lambda release, shape: -attack.reshape(release, shape), words="-$W", how="negative"
)
ATTACKS = (attack.reshape, attack.init_diff, NEGATIVE, attack.seed_mean)
SEEDS, PEOPLE, EACH, STEPS = 4, 3, 4, 3
ARMS = (Arm("sgd", "sgd", Hyper(0.1)), Arm("adam", "adam", Hyper(0.01, weight_decay=0.5)))


def dataset(shape) -> Dataset:
  rng = np.random.default_rng(0)
  inputs = rng.uniform(size=(PEOPLE * EACH, int(np.prod(shape)))).astype(np.float32)
  labels = np.repeat(np.arange(PEOPLE), EACH).astype(np.int32)
  return Dataset(inputs, labels, PEOPLE, shape, ("Zoë", "$b", "c"))


def arm_outcome(shape, shown: float) -> ArmOutcome:
  rng = np.random.default_rng(int(100 * shown))
  metrics = [metric.name for metric in DEFAULT]

  def values(level):
    return {name: level + 0.01 * rng.normal(size=SEEDS) for name in metrics}

  measures = {"reshape": values(shown), "init_diff": values(0.9), "negative": values(-shown)}
  measures["seed_mean"] = {name: np.array([0.8]) for name in metrics}
  measures["model"] = {"train_accuracy": np.ones(SEEDS), "holdout_accuracy": np.full(SEEDS, 0.9)}
  num_pixels = int(np.prod(shape))
  return ArmOutcome(
    measures=measures,
    healthy=np.ones(SEEDS, bool),
    history={name: np.ones((SEEDS, STEPS)) for name in ("train_loss", "train_accuracy")}
    | {"holdout_accuracy": np.full((SEEDS, STEPS), 0.5)},
    images={
      one.name: rng.uniform(0, 255, (1 if "peers" in one.needs else 2, PEOPLE, *shape))
      for one in ATTACKS
    },
    arrays={
      "coefficients": rng.normal(size=(2, PEOPLE * EACH, PEOPLE)),
      "init_share": np.array([0.5, 0.5]),
    },
    frames=rng.normal(size=(STEPS, num_pixels)).astype(np.float32),
    trail={},
    identified={},
    by_person={},
    details={},
    prefixes={},
  )


def outcome(shape) -> Outcome:
  means = np.random.default_rng(2).uniform(0, 255, (2, PEOPLE, *shape))
  return Outcome(
    steps=np.arange(STEPS),
    arms={"sgd": arm_outcome(shape, 0.8), "adam": arm_outcome(shape, 0.2)},
    train_means=means,
    holdout_means=means,
    splits={"train": np.array([[0, 1, 4, 5, 8, 9]] * 2), "holdout": np.array([[2, 6, 10]] * 2)},
    attacks=ATTACKS,
    metrics=DEFAULT,
  )


def summary(found: Outcome) -> dict:
  return summarize(found)
