"""Many models in one call are each what it is when trained alone."""

import jax
import numpy as np
import pytest

from jaxinv.ensemble import train
from jaxinv.models.dense import make_model
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.training.primal import make_trainer
from jaxinv.types import Hyper


@pytest.fixture(scope="module")
def trainer():
  return make_trainer(make_model(5), LOSSES["softmax"], OPTIMIZERS["adam"], 8)


def test_runs_are_hyperparameters_by_seeds_and_none_depends_on_its_neighbours(trainer, planted):
  hypers = [Hyper(0.01), Hyper(0.001), Hyper(1e9)]
  together = train(trainer, hypers, planted, seeds=3, steps=7, record_every=3, width=4)
  assert together.steps.tolist() == [0, 3, 6, 7]
  assert together.history.train_loss.shape == (4, 9)
  assert {leaf.shape[0] for leaf in jax.tree.leaves(together.params)} == {9}
  alone = train(trainer, hypers[1], planted, seeds=[2], steps=7)
  for one, other in zip(
    jax.tree.leaves(together.params), jax.tree.leaves(alone.params), strict=True
  ):
    np.testing.assert_allclose(one[5], other[0], atol=1e-6)
  np.testing.assert_allclose(together.history.train_loss[-1, 5], alone.history.train_loss[-1, 0])
  assert together.history.train_accuracy[-1, :3].min() > 0.5  # Chance is 0.2.


def test_it_prints_in_a_line(trainer, planted):
  assert repr(train(trainer, Hyper(0.01), planted, steps=0)).startswith(
    "Ensemble(1 models, 0 steps"
  )
