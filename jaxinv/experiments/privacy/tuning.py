"""DP-SGD at its best: rate, clip and batch chosen for each epsilon on seeds that are not measured.

A linear model sees its weights through the examples alone, and DP-SGD's noise is the same in every
direction. So in coordinates of the examples' span, a few hundred instead of one a pixel, it trains
the very same models but for what nobody can see of them in training: their accuracies are those of
the models of all pixels, in distribution, at a fraction of the time.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxinv.data.splits import whole
from jaxinv.ensemble.groups import Host
from jaxinv.ensemble.program import make_program
from jaxinv.ensemble.seeds import split_data
from jaxinv.errors import choose
from jaxinv.experiments.privacy.groups import Job, train
from jaxinv.experiments.privacy.settings import Candidate, PrivacySpec
from jaxinv.models.dense import make_model
from jaxinv.training import primal
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.types import Dataset

_PRIVATE = frozenset(("dp_clip", "dp_noise"))


class Tuning(NamedTuple):
  """What came of all candidates.

  Attributes:
    candidates: all of them.
    accuracy: held out, of each candidate and tuning seed; 0 where the model diverged.
    best: of each epsilon, infinite without privacy, the candidate that is most accurate in the
      mean; of equally good ones the first.
  """

  candidates: tuple[Candidate, ...]
  accuracy: Float[np.ndarray, "i s"]
  best: dict[float, Candidate]


def in_span(dataset: Dataset) -> Dataset:
  """The examples in orthonormal coordinates of their span: the same products with each other.

  Args:
    dataset: of n examples with p features.

  Returns:
    The same with at most min(n, p) features, which are no image.

  Example:
    >>> inputs = np.array([[1.0, 0.0, 1.0], [0.0, 2.0, 0.0]], np.float32)
    >>> found = in_span(Dataset(inputs, np.array([0, 1]), 2, (1, 3), ("a", "b")))
    >>> found.inputs.shape, (found.inputs @ found.inputs.T).round(3).tolist()
    ((2, 2), [[2.0, 0.0], [0.0, 4.0]])
  """
  left, values, _ = np.linalg.svd(np.float64(dataset.inputs), full_matrices=False)
  return dataset._replace(inputs=np.float32(left * values), image_shape=None)


def tune(
  spec: PrivacySpec,
  dataset: Dataset,
  candidates: Sequence[Candidate],
  store: Path | None,
  host: Host,
) -> Tuning:
  """Trains every candidate with the tuning seeds, and chooses the best of each epsilon.

  Args:
    spec: of the run.
    dataset: images with their classes.
    candidates: what is tried.
    store: folder for checkpoints and finished groups; None to keep nothing.
    host: progress, messages, when to stop.

  Returns:
    The choice, and what it was made by.

  Raises:
    Stopped: the host asked for it; the state is in the store.
  """
  seeds = range(spec.settings.num_seeds, spec.settings.num_seeds + spec.tuning_seeds)
  accuracy = np.zeros((len(candidates), len(seeds)))
  programs = dict.fromkeys((c.batch, c.epsilon < math.inf) for c in candidates)
  seen = in_span(dataset) if spec.settings.is_linear else dataset
  scale = math.sqrt(seen.inputs.shape[1] / dataset.inputs.shape[1])
  for batch, private in programs:
    chosen = [
      i for i, c in enumerate(candidates) if (c.batch, c.epsilon < math.inf) == (batch, private)
    ]
    job = _job(spec, seen, scale, [candidates[i] for i in chosen], seeds)
    found = train(job, spec.settings, store, host)["accuracy"]
    accuracy[chosen] = found.reshape(len(chosen), -1)
  return Tuning(tuple(candidates), accuracy, _best(candidates, accuracy))


def _best(
  candidates: Sequence[Candidate], accuracy: Float[np.ndarray, "i s"]
) -> dict[float, Candidate]:
  best: dict[float, tuple[float, Candidate]] = {}
  for candidate, mean in zip(candidates, accuracy.mean(1), strict=True):
    if candidate.epsilon not in best or mean > best[candidate.epsilon][0] + 1e-9:
      best[candidate.epsilon] = mean, candidate
  return {epsilon: candidate for epsilon, (_, candidate) in best.items()}


def _job(
  spec: PrivacySpec,
  dataset: Dataset,
  scale: float,
  candidates: Sequence[Candidate],
  seeds: Sequence[int],
) -> Job:
  """All candidates of one program, each with all seeds; `scale` keeps initial weights as large."""
  settings, batch = spec.settings, candidates[0].batch
  private = candidates[0].epsilon < math.inf
  model = settings.model
  if model is None:
    shape = settings.hidden, settings.use_bias, settings.initializer
    model = make_model(dataset.num_classes, *shape)
  parts = model, choose("loss", settings.loss, LOSSES), OPTIMIZERS["sgd"], batch
  runs = [(candidate.hyper, seed) for candidate in candidates for seed in seeds]
  data = whole(dataset)

  def data_of(numbers: Sequence[int]):
    chosen = [runs[i][1] for i in numbers]
    how = settings.holdout, settings.fixed_split
    return split_data(data, dataset.num_classes, settings.root_seed, chosen, *how)

  def keep(progress, _):
    accuracy = progress.history.holdout_accuracy[-1]
    return {"accuracy": np.where(progress.history.finite.all(0), accuracy, 0.0)}

  return Job(
    f"tuning-{'private' if private else 'plain'}-{batch}",
    f"tuning, batches of {batch}",
    make_program(primal.make_trainer(*parts, used=_PRIVATE if private else ())),
    [hyper._replace(init_scale=scale) for hyper, _ in runs],
    [seed for _, seed in runs],
    data_of,
    keep,
  )
