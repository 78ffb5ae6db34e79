"""Results of an experiment with networks, planted: so many seeds recognised, all else noise."""

import numpy as np

from jaxinv.experiments.networks.findings import ArmResult, Inverted, Neighbours, NetworksResult
from jaxinv.metrics.memorisation import Memorised

SHAPE, NAMES = (8, 8, 3), ("car", "bird", "a $_ <b>")
METRICS = ("verifier_confidence", "own_accuracy", "diversity", "nearer_features", "nearer_pixels")


def make_arm(rng, adversary, accuracy, p_value) -> ArmResult:
  """An arm whose seeds are recognised as often as given; all else is noise."""
  seeds = len(accuracy)

  def draw(*shape):
    return rng.uniform(0, 1, shape)

  near = (rng.integers(0, 12, (3, 2)), draw(3, 2), rng.integers(0, 6, (3, 2)), draw(3, 2))
  measures = {"verifier_accuracy": np.array(accuracy)} | {name: draw(seeds) for name in METRICS}
  inverted = {
    name: Inverted(
      images=draw(seeds, 3, 2, 192),
      seeds=np.arange(seeds),
      measures=measures,
      by_class=draw(seeds, 3),
      memorised={
        "features": Memorised(0.625, 0.0125, p_value, p_value),
        "pixels": Memorised(0.5, 0.0, 0.5, 0.5),
      },
      neighbours=Neighbours(*near),
    )
    for name in ("pgd", "priors")
  }
  curves = ("train_loss", "train_accuracy", "holdout_accuracy")
  own = {name: draw(seeds) for name in (*curves, "robust_accuracy")}
  history = {name: draw(seeds, 4) for name in curves}
  healthy = np.ones(seeds, bool)
  kernels = draw(3, 3, 3, 8)
  return ArmResult(adversary, np.arange(4), healthy, history, own, inverted, kernels, {})


def make_result(accuracies, p_value=0.5) -> NetworksResult:
  rng = np.random.default_rng(0)
  return NetworksResult(
    arms={
      name: make_arm(rng, "pgd_l2" if name == "robust" else "none", values, p_value)
      for name, values in accuracies.items()
    },
    verifier={"train_accuracy": 0.95, "holdout_accuracy": 0.875},
    verifier_adversary="none",
    verifier_variables={},
    controls={
      "start: mean": {"verifier_accuracy": 0.333, "verifier_confidence": 0.321},
      "test images": {"verifier_accuracy": 0.871, "verifier_confidence": 0.812},
    },
    starts=dict.fromkeys(("pgd", "priors"), np.full((3, 192), 0.5)),
    names=NAMES,
    image_shape=SHAPE,
    train_inputs=rng.uniform(0, 1, (12, 192)),
    train_labels=np.arange(12) % 3,
    test_inputs=rng.uniform(0, 1, (6, 192)),
    test_labels=np.arange(6) % 3,
  )


def diverge(result: NetworksResult, arm: str, seeds: list[int]) -> NetworksResult:
  """The same, but that seeds of an arm diverged."""
  one = result.arms[arm]
  gone = np.isin(np.arange(2), seeds)

  def without(measures):
    return {name: np.where(gone, np.nan, values) for name, values in measures.items()}

  inverted = {
    name: of._replace(images=of.images[~gone], seeds=of.seeds[~gone], measures=without(of.measures))
    for name, of in one.inverted.items()
  }
  one = one._replace(healthy=~gone, measures=without(one.measures), inverted=inverted)
  return result._replace(arms={**result.arms, arm: one})
