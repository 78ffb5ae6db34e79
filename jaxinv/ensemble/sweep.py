"""What the engine is, in one call: many models of many hyperparameters and seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from jaxinv.data.splits import whole
from jaxinv.ensemble import mapping
from jaxinv.ensemble.mapping import SHARED_DATA, STATE_AXES
from jaxinv.ensemble.program import (
  chunk_lengths,
  make_program,
  prepare,
  start_group,
  train_group,
  widest,
)
from jaxinv.training.trainer import Trainer
from jaxinv.types import AnyHyper, Data, Dataset, Params, Record


class Ensemble(NamedTuple):
  """Many trained models, the runs of each hyperparameters' seeds in a row.

  Attributes:
    params: the models' parameters on the host, each leaf with a leading axis s.
    history: a record for each recorded step, each leaf [t, s].
    steps: the recorded steps.

  Example:
    >>> import jaxinv
    >>> from jaxinv.training import LOSSES, OPTIMIZERS, make_trainer
    >>> from jaxinv.models import make_model
    >>> people = jaxinv.synthetic_faces(num_people=2, images_per_person=4)
    >>> trainer = make_trainer(make_model(2), LOSSES["softmax"], OPTIMIZERS["sgd"])
    >>> found = train(trainer, jaxinv.Hyper(), people, seeds=3, steps=4, record_every=2)
    >>> found.steps.tolist(), found.history.train_loss.shape
    ([0, 2, 4], (3, 3))
  """

  params: Params
  history: Record
  steps: Int[np.ndarray, " t"]

  def __repr__(self) -> str:
    width, last = len(self.history.finite[0]), jax.tree.map(lambda x: x[-1], self.history)
    return (
      f"Ensemble({width} models, {self.steps[-1]} steps: train_accuracy "
      f"{last.train_accuracy.mean():.3f}, {(~self.history.finite.all(0)).sum()} diverged)"
    )


def train(
  trainer: Trainer,
  hypers: AnyHyper | Sequence[AnyHyper],
  data: Dataset | Data,
  seeds: int | Sequence[int] = 1,
  steps: int = 1000,
  *,
  root_seed: int = 0,
  record_every: int = 0,
  width: int = 0,
) -> Ensemble:
  """Trains one model for each of the hyperparameters and seeds, in one compiled program.

  Args:
    trainer: the engine for one model, as `training.primal.make_trainer` makes it.
    hypers: hyperparameters, or several of them.
    data: the examples; all are trained on, unless a `Data` says otherwise.
    seeds: how many seeds, from 0, or their numbers. A seed's model does not depend on the others.
    steps: steps of each model.
    root_seed: with a seed's number, decides all of its randomness.
    record_every: steps from one record to the next; 0 for records at both ends only.
    width: models a group; 0 for as many as are quick.

  Returns:
    The models: first those of the first hyperparameters, seed by seed.

  Example:
    >>> import jaxinv
    >>> from jaxinv.training import LOSSES, OPTIMIZERS, make_trainer
    >>> from jaxinv.models import make_model
    >>> people = jaxinv.synthetic_faces(num_people=3, images_per_person=4)
    >>> trainer = make_trainer(make_model(3), LOSSES["softmax"], OPTIMIZERS["sgd"])
    >>> rates = [jaxinv.Hyper(learning_rate=rate) for rate in (0.01, 0.1)]
    >>> found = jaxinv.ensemble.train(trainer, rates, people, seeds=4, steps=10)
    >>> found.params["Dense_0"]["kernel"].shape
    (8, 10304, 3)
  """
  several = [hypers] if hasattr(hypers, "_fields") else list(hypers)
  numbers = range(seeds) if isinstance(seeds, int) else seeds
  runs = [(hyper, seed) for hyper in several for seed in numbers]
  shared = data if isinstance(data, Data) else whole(data)
  program = make_program(trainer, SHARED_DATA._replace(train=None, holdout=None, keep=None))
  width = min(width or widest(program), len(runs))
  parts = []
  for members in mapping.divide(len(runs), width):
    chosen = mapping.pad([runs[i] for i in members], width)
    own, numbers = zip(*chosen, strict=True)
    group = prepare(root_seed, numbers, own, shared, program.data_axes)
    progress = train_group(
      program, start_group(program, *group), *group[1:], steps, record_every or max(1, steps)
    )
    params = jax.vmap(trainer.params, in_axes=(STATE_AXES, program.data_axes))
    kept = jax.device_get(params(progress.states, group[2])), progress.history
    parts.append((kept[0], jax.tree.map(lambda x: x.T, kept[1]), len(members)))
  trees = [jax.tree.map(lambda x, n=real: x[:n], part) for *part, real in parts]
  params, history = jax.tree.map(lambda *x: np.concatenate(x), *trees)
  recorded = np.cumsum([0, *chunk_lengths(steps, record_every or max(1, steps))])
  return Ensemble(params, jax.tree.map(lambda x: x.T, history), recorded)
