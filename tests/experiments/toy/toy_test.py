"""The toy's data lie where they should; its steps have their closed form."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxinv.ensemble import mapping, memory
from jaxinv.ensemble.seeds import train_keys
from jaxinv.errors import InputError
from jaxinv.experiments.settings import Arm
from jaxinv.experiments.toy import groups, toy
from jaxinv.models.dense import make_model
from jaxinv.training import primal
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.training.trainer import run
from jaxinv.types import Hyper


def residual(loss, logits, targets):
  if loss == "sigmoid":
    return 1 / (1 + np.exp(-logits)) - targets
  if loss == "softmax":
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - targets
  return logits - targets


@pytest.mark.parametrize("loss", list(LOSSES))
def test_the_first_step_has_its_closed_form(settings, loss):
  changed = replace(settings, loss=loss, steps=1)
  path = groups.run(changed).weights
  data = toy.draw(changed, range(4))
  targets = np.eye(2)[np.asarray(data.labels)]
  for seed, x in enumerate(np.asarray(data.inputs, np.float64)):
    gradient = x.T @ residual(loss, x @ path[seed, 0], targets) / len(x)
    expected = path[seed, 0] - 0.85 * gradient
    np.testing.assert_allclose(path[seed, 1], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  ("loss", "name"), [("sigmoid", "sgd"), ("softmax", "adam"), ("squared", "nesterov")]
)
def test_the_lean_loss_trains_as_the_loss_itself(settings, loss, name):
  hyper = Hyper(learning_rate=0.05, weight_decay=0.01, label_smoothing=0.1)
  changed = replace(settings, arm=Arm("a", name, hyper), loss=loss, batch_size=6, num_seeds=1)
  path = groups.run(changed).weights[0]
  model = make_model(2, use_bias=False)
  trainer = primal.make_trainer(model, LOSSES[loss], OPTIMIZERS[name], 6)
  data = mapping.run_at(mapping.OWN_DATA, toy.draw(changed, [0]), 0)
  state = trainer.init(train_keys(0, [0])[0], hyper, data)
  state, _ = run(trainer, state, hyper, data, changed.steps)
  np.testing.assert_allclose(path[-1], jax.tree.leaves(state.params)[0], rtol=2e-4, atol=2e-5)


def test_batches_come_from_the_states_key(settings):
  path = groups.run(replace(settings, batch_size=1, num_seeds=2, steps=3)).weights
  keys = train_keys(0, [0, 1])
  data = toy.draw(settings, [0, 1])
  for seed in range(2):
    key = jax.random.split(keys[seed])[1]
    order = jax.random.permutation(jax.random.fold_in(key, 0), data.train)
    for t in range(3):
      x = np.asarray(data.inputs[seed, order[t]], np.float64)
      target = np.eye(2)[int(data.labels[order[t]])]
      gradient = x[:, None] * (1 / (1 + np.exp(-x @ path[seed, t])) - target)
      np.testing.assert_allclose(path[seed, t + 1] - path[seed, t], -0.85 * gradient, atol=1e-5)


def test_points_and_weights_are_drawn_apart(settings):
  data = toy.draw(settings, range(4))
  assert len(np.unique(np.asarray(data.inputs[:, 0]), axis=0)) == 4
  other = toy.draw(replace(settings, spread=3.0, points_per_class=7), range(4))
  assert other.inputs.shape == (4, 14, 2)
  paths = [
    groups.run(replace(settings, steps=0, spread=s, points_per_class=n)).weights
    for s, n in ((0.1, 10), (3.0, 7))
  ]
  np.testing.assert_array_equal(*paths)


def test_the_points_lie_where_they_should(settings):
  changed = replace(
    settings, means=((2.0, 1.0), (-3.0, 0.0), (0.0, 5.0)), spread=0.5, points_per_class=5000
  )
  data = toy.draw(changed, [0])
  for k, mean in enumerate(changed.means):
    mine = np.asarray(data.inputs[0])[np.asarray(data.labels) == k]
    np.testing.assert_allclose(mine.mean(0), mean, atol=0.04)
    np.testing.assert_allclose(mine.std(0), 0.5, atol=0.03)


def test_memory_is_asked_before_it_is_taken(settings, monkeypatch):
  monkeypatch.setattr(memory, "device_memory", lambda: 10**6)
  with pytest.raises(InputError, match=r"8 seeds over 10000 steps take 0\.0 GB"):
    toy.check(toy.Settings(settings.arm))
  toy.check(toy.Settings(settings.arm, steps=100))
  toy.check(toy.Settings(settings.arm, num_seeds=10**6, steps=1000, save_seeds=8))
