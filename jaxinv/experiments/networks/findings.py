"""What inverting many networks finds, as it travels. No logic.

Axes beside those of `types`: s seeds, k classes, r restarts, p values of an image.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinv.metrics.memorisation import Memorised

# Values by metric, one a seed.
Measures = dict[str, Float[np.ndarray, " s"]]


class Neighbours(NamedTuple):
  """For one model's recovered images, the nearest real ones, by the model's own features.

  Attributes:
    trained: index of the nearest image that was trained on, of any class.
    trained_similarity: cosine of the features with it.
    held_out: index of the nearest test image of any class, among the test images.
    held_out_similarity: likewise.
  """

  trained: Int[np.ndarray, "k r"]
  trained_similarity: Float[np.ndarray, "k r"]
  held_out: Int[np.ndarray, "k r"]
  held_out_similarity: Float[np.ndarray, "k r"]


class Inverted(NamedTuple):
  """What one inversion recovers from the models of one arm.

  Attributes:
    images: in [0, 1], of the first seeds that did not diverge only.
    seeds: of each of these models.
    measures: of all seeds: `verifier_accuracy` (share of images that the verifier takes for their
      class), `verifier_confidence` (its mean probability of it), `own_accuracy` (the inverted
      model's), `diversity` (mean 1 - cosine between restarts, verifier's features),
      `nearer_features` and `nearer_pixels` (share nearer to a candidate that was trained on than
      to all that were not; 0.5 by chance).
    by_class: `verifier_accuracy` by seed and class, [s, k].
    memorised: by `features` and `pixels`, all seeds pooled; a permutation test.
    neighbours: of the first seed that did not diverge.
  """

  images: Float[np.ndarray, "s k r p"]
  seeds: Int[np.ndarray, " s"]
  measures: Measures
  by_class: Float[np.ndarray, "s k"]
  memorised: dict[str, Memorised]
  neighbours: Neighbours


class ArmResult(NamedTuple):
  """What came of one way of training.

  Attributes:
    adversary: the attack that it was trained against, or `none`.
    steps: when it was recorded.
    healthy: which seeds did not diverge.
    history: `train_loss`, `train_accuracy`, `holdout_accuracy`, each [s, t].
    measures: of the models themselves: `train_loss`, `train_accuracy`, `holdout_accuracy`,
      `weight_movement`, `robust_accuracy`.
    inverted: by inversion's name.
    kernels: the first convolution's of the first seed that did not diverge; None where no
      convolution takes the image.
    variables: parameters and running statistics of the first seeds, flat by name, each [s, ...].
  """

  adversary: str
  steps: Int[np.ndarray, " t"]
  healthy: Bool[np.ndarray, " s"]
  history: dict[str, Float[np.ndarray, "s t"]]
  measures: Measures
  inverted: dict[str, Inverted]
  kernels: Float[np.ndarray, "kh kw c u"] | None
  variables: dict[str, np.ndarray]


class NetworksResult(NamedTuple):
  """What came of an experiment.

  Attributes:
    arms: by name, in order.
    verifier: of the verifier itself: `train_accuracy`, `holdout_accuracy`.
    verifier_adversary: the attack that it was trained against, or `none`.
    verifier_variables: its parameters and running statistics, flat by name.
    controls: verifier accuracy (share named as the class asked for) and confidence on images that
      nothing was recovered into, by name: `start: NAME` (where an inversion starts), `test images`.
    starts: by inversion, where the first image of each class began, for the first seed.
    names: of the classes.
    image_shape: (h, w, c).
    train_inputs: all images that may be trained on, in [0, 1]; and their labels.
    test_inputs: images that no network trains on; and their labels.
  """

  arms: dict[str, ArmResult]
  verifier: dict[str, float]
  verifier_adversary: str
  verifier_variables: dict[str, np.ndarray]
  controls: dict[str, dict[str, float]]
  starts: dict[str, Float[np.ndarray, "k p"]]
  names: tuple[str, ...]
  image_shape: tuple[int, int, int]
  train_inputs: Float[np.ndarray, "n p"]
  train_labels: Int[np.ndarray, " n"]
  test_inputs: Float[np.ndarray, "o p"]
  test_labels: Int[np.ndarray, " o"]


# {arm: {attack: {metric: {"mean", "low", "high", "n"}}}}, and {arm: {"diverged": [seeds]}}, as in
# summary.json; `model` is the attack for what belongs to the model itself.
Summary = dict[str, dict[str, Any]]
