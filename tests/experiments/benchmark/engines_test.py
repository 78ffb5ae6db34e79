"""The ways of training that are timed train as the trainer does, and their costs are counted."""

import jax
import numpy as np
import pytest

from jaxinv.ensemble import mapping
from jaxinv.ensemble.seeds import train_keys
from jaxinv.experiments.benchmark import torch_peers
from jaxinv.experiments.benchmark.engines import (
  Curves,
  Models,
  Sizes,
  prepare,
  shared_holdout,
  step_bytes,
  step_flops,
  steps_to_accuracy,
  steps_to_holdout,
  train_curves,
)
from jaxinv.experiments.experiment import make_experiment, split_of
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.training.trainer import run
from jaxinv.types import Hyper


def make_models(planted, optimizer="adam", engine="primal", batch_size=4, count=3):
  """Some seeds of one arm."""
  arm = Arm("arm", optimizer, Hyper(learning_rate=0.01))
  settings = Settings((arm,), batch_size=batch_size, holdout=2, engine=engine)
  lab, seeds = make_experiment(settings, planted), range(count)
  program, keys = lab.engines[optimizer].program, train_keys(0, seeds)
  return Models(optimizer, arm.hyper, batch_size, program, keys, split_of(lab, seeds))


@pytest.fixture(scope="module")
def models(planted):
  """Three seeds of Adam in small batches."""
  return make_models(planted)


@pytest.mark.parametrize("engine", ["primal", "primal_loop"])
def test_timed_calls_train_on_as_the_trainer_does(engine, models):
  trainer, axes = models.program.trainer, (0, 0, mapping.SHARED_DATA)
  hypers = mapping.stack_hypers([models.hyper] * 3)
  training = prepare(engine, models, 3)
  training.call()
  states, _ = training.call()
  alone = jax.jit(lambda *model: run(trainer, trainer.init(*model), *model[1:], 6)[0])
  for i in range(3):
    wanted = alone(*mapping.run_at(axes, (models.keys, hypers, models.data), i))
    listed = isinstance(states, list)
    state = states[i] if listed else mapping.run_at(mapping.STATE_AXES, states, i)
    assert int(state.step) == 6
    kernel = state.params["Dense_0"]["kernel"]
    np.testing.assert_allclose(kernel, wanted.params["Dense_0"]["kernel"], atol=1e-5)


def test_a_peer_starts_from_the_same_weights_and_takes_the_same_steps(planted, monkeypatch):
  pytest.importorskip("torch", reason="PyTorch, an optional dependency, is not installed")
  made, make = [], torch_peers.PEERS["torch_batched"]
  keep = lambda job: made.append(make(job)) or made[-1]  # noqa: E731
  monkeypatch.setitem(torch_peers.PEERS, "torch_batched", keep)
  models = make_models(planted, batch_size=0)
  prepare("torch_batched", models, 4).call()
  states, _ = prepare("primal", models, 4).call()
  axes = (mapping.STATE_AXES, mapping.SHARED_DATA)
  ours = jax.vmap(models.program.trainer.params, in_axes=axes)(states, models.data)["Dense_0"]
  for theirs, name in zip(made[0].weights(), ("kernel", "bias"), strict=True):
    np.testing.assert_allclose(theirs, ours[name], atol=1e-5)


def test_the_span_reaches_the_same_accuracies(planted):
  curves = [
    train_curves(make_models(planted, "sgd", engine), 20, 4) for engine in ("primal", "gram")
  ]
  for one, other in zip(*curves, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6)
  np.testing.assert_array_equal(curves[0].steps, [0, 4, 8, 12, 16, 20])


def make_curves(train, holdout):
  return Curves(np.arange(len(train)) * 10, np.array(train), np.array(holdout))


def test_steps_to_accuracies():
  one = make_curves([[0, 0], [0.9, 0.5], [1, 0.9]], [[0.1, 0.1], [0.8, 0.6], [0.7, 0.5]])
  other = make_curves([[0, 0], [0, 0], [0, 0]], [[0, 0], [0.2, 0.4], [0.5, 0.9]])
  np.testing.assert_array_equal(steps_to_accuracy(one, 0.9), [10, 20])
  np.testing.assert_array_equal(steps_to_accuracy(one, 1.0), [20, np.inf])
  np.testing.assert_array_equal(steps_to_accuracy(other, 0.0), [0, 0])
  best = shared_holdout([one, other])
  np.testing.assert_allclose(best, 0.7)
  assert (steps_to_holdout(one, best), steps_to_holdout(other, best)) == (10, 20)
  nothing = make_curves([[0]], [[np.nan]])
  assert shared_holdout([nothing, nothing]) is None


def test_a_model_that_has_diverged_has_no_accuracy(models):
  wild = models._replace(hyper=models.hyper._replace(learning_rate=1e38))
  curves = train_curves(wild, 4, 2)
  assert (curves.train_accuracy[-1] == 0).all() and (curves.holdout_accuracy[-1] == 0).all()


SIZES = Sizes(batch=4, examples=30, features=100, classes=5)


@pytest.mark.parametrize(
  ("engine", "optimizer", "numbers"),
  [
    # Weights read and written, the gradient written and read; and each of the optimiser's states
    # read and written.
    ("primal", "sgd", 4 * 500),
    ("primal", "momentum", 6 * 500),
    ("torch_vmap", "adam", 8 * 500),
    # Coefficients of 30 examples read; the gradient of 4 written and read, and added to theirs.
    ("gram", "sgd", 150 + 3 * 20),
    ("gram", "nesterov", 2 * 150 + 2 * 20 + 2 * 150),
  ],
)
def test_a_step_moves_weights_states_and_gradient(engine, optimizer, numbers):
  assert step_bytes(engine, optimizer, SIZES, 4) == 4 * numbers


def test_a_step_multiplies_twice_by_the_batch_or_once_by_the_products_of_examples():
  assert step_flops("primal", SIZES) == step_flops("torch_loop", SIZES) == 2 * 2 * 4 * 100 * 5
  assert step_flops("gram", SIZES) == 2 * 4 * 30 * 5
