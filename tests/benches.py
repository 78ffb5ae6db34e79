"""Groups of models, compiled: what tests of `ensemble` train."""

import jax
import numpy as np

from jaxinv.data import splits
from jaxinv.ensemble import mapping
from jaxinv.ensemble.program import make_program, start_group, train_group
from jaxinv.ensemble.seeds import split_data, train_keys
from jaxinv.models.dense import make_model
from jaxinv.training import gram, primal
from jaxinv.training.losses import LOSSES, Loss
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.types import Hyper

ENGINES = {"primal": primal.make_trainer, "gram": gram.make_trainer}
HYPERS = {
  0: Hyper(0.5),
  1: Hyper(0.1, weight_decay=0.1),
  2: Hyper(0.3, clip_norm=0.1),
  3: Hyper(0.2, init_scale=3.0, label_smoothing=0.2),
  5: Hyper(0.9, weight_decay=0.01, clip_norm=1.0),
  8: Hyper(),
}


class Bench:
  """A compiled program for groups of four seeds, each seed with hyperparameters of its own."""

  def __init__(self, dataset, optimizer="momentum", loss="softmax", engine="primal"):
    self.traces = 0
    value = LOSSES[loss].value
    data = splits.whole(dataset)
    self.data = data._replace(gram=gram.gram_matrix(data.inputs, True))

    def counted(logits, targets):
      self.traces += 1
      return value(logits, targets)

    loss = Loss(counted, LOSSES[loss].residual)
    self.trainer = ENGINES[engine](make_model(5), loss, OPTIMIZERS[optimizer], 7)
    self.program = make_program(self.trainer)

  def prepare(self, seeds, hypers=HYPERS):
    """Keys, hyperparameters and data of a group."""
    data = split_data(self.data, 5, 3, seeds, 2)
    stacked = mapping.stack_hypers([hypers[seed] for seed in seeds])
    return train_keys(3, seeds), stacked, data

  def train(self, seeds, hypers=HYPERS, steps=6):
    keys, stacked, data = self.prepare(seeds, hypers)
    progress = start_group(self.program, keys, stacked, data)
    return train_group(self.program, progress, stacked, data, steps, 3)

  def kernels(self, states, seeds):
    """The weights of a group, [s, p, k]."""
    axes = (mapping.STATE_AXES, self.program.data_axes)
    params = jax.jit(jax.vmap(self.trainer.params, in_axes=axes))
    return np.asarray(params(states, self.prepare(seeds)[2])["Dense_0"]["kernel"])
