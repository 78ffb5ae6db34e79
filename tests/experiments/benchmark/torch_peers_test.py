"""PyTorch's ways to train many classifiers: the same training as ours, or no fair comparison."""

import functools
import runpy
import sys

import jax
import numpy as np
import pytest

from jaxinv.experiments.benchmark import torch_peers
from jaxinv.experiments.benchmark.torch_peers import PEERS, Job
from jaxinv.models.dense import make_model
from jaxinv.training import primal
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.training.trainer import run
from jaxinv.types import Data, Hyper

MODELS, EXAMPLES, FEATURES, CLASSES, TRAINED = 3, 20, 12, 3, 14
HYPER = Hyper(learning_rate=0.1, momentum=0.8, weight_decay=0.2)
# Weights of order 1 and sums of 14 products in float32, in another order: some 1e-7. But Adam's
# correction of the second moment, 1 - 0.999^t, is in float64 with torch and in float32 with optax,
# which is off by up to 2e-5 of its size: half of that, in 6 steps of 0.1, is 6e-6.
TOLERANCE = 6e-6


@pytest.fixture(scope="module")
def torch():
  """PyTorch, where it is installed."""
  return pytest.importorskip("torch", reason="PyTorch, an optional dependency, is not installed")


@pytest.fixture(params=PEERS)
def make_peer(request, torch):
  """From a job to a training ready to go, in each way there is."""
  return PEERS[request.param]


def make_job(shared=False, **changes) -> Job:
  """Noise to fit; each model with its own split, or all with the first one's."""
  rng = np.random.default_rng(3)
  splits = np.stack([rng.permutation(EXAMPLES)[:TRAINED] for _ in range(MODELS)])
  job = Job(
    inputs=rng.standard_normal((EXAMPLES, FEATURES)).astype(np.float32),
    labels=rng.integers(CLASSES, size=EXAMPLES),
    num_classes=CLASSES,
    train=np.repeat(splits[:1], MODELS, 0) if shared else splits,
    weights=rng.uniform(-0.5, 0.5, (MODELS, FEATURES, CLASSES)).astype(np.float32),
    optimizer="sgd",
    hyper=HYPER,
    batch_size=0,
    num_steps=3,
    seed=5,
  )
  return job._replace(**changes)


def make_marked_job(**changes) -> Job:
  """Examples of one feature each, their own, so that weights tell which of them were seen."""
  inputs = np.eye(EXAMPLES, dtype=np.float32)
  weights = np.zeros((MODELS, EXAMPLES, CLASSES), np.float32)
  plain = {"hyper": Hyper(learning_rate=0.5), "num_steps": 1}
  return make_job()._replace(inputs=inputs, weights=weights, **plain | changes)


@functools.cache
def trainer_of(optimizer):
  """jaxinv's own trainer, and some of its steps compiled."""
  trainer = primal.make_trainer(make_model(CLASSES), LOSSES["softmax"], OPTIMIZERS[optimizer])
  return trainer, jax.jit(functools.partial(run, trainer), static_argnums=3)


def expected(job, calls):
  """Kernels [s, p, k] and biases [s, k] after some calls, by jaxinv's trainer, in turn."""
  trainer, steps = trainer_of(job.optimizer)
  hyper = jax.tree.map(np.float32, job.hyper)
  layers = []
  for split, kernel in zip(job.train, job.weights, strict=True):
    data = jax.tree.map(jax.numpy.asarray, Data(job.inputs, job.labels, split, split[:0]))
    params = {"Dense_0": {"kernel": jax.numpy.asarray(kernel), "bias": np.zeros(CLASSES)}}
    state = trainer.init(jax.random.key(0), hyper, data)
    state = state._replace(params=jax.tree.map(jax.numpy.float32, params))
    for _ in range(calls):
      state, _ = steps(state, hyper, data, job.num_steps)
    layers.append(state.params["Dense_0"])
  return tuple(np.stack([layer[name] for layer in layers]) for name in ("kernel", "bias"))


def assert_close(one, other):
  for a, b in zip(one, other, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)


def batches(peer, steps):
  """The examples that each model sees in each of some steps, [steps, s, b]."""
  kernels, seen = [peer.weights()[0]], []
  for _ in range(steps):
    peer.call()
    kernels.append(peer.weights()[0])
    moved = (kernels[-1] != kernels[-2]).any(2)
    seen.append([np.flatnonzero(model) for model in moved])
  return np.array(seen)  # Ragged, and hence an error, if not every batch has its size.


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("optimizer", torch_peers.OPTIMIZERS)
def test_full_batches_give_the_weights_of_jaxinv_and_calls_go_on(make_peer, optimizer, shared):
  job = make_job(shared, optimizer=optimizer)
  peer = make_peer(job)
  for calls in (1, 2):
    peer.call()
    assert_close(peer.weights(), expected(job, calls))


SPECIAL = {
  "plain": {"weight_decay": 0.0},
  "smoothed": {"label_smoothing": 0.3},
  "clipped": {"clip_norm": 0.3},
  "all": {"label_smoothing": 0.3, "clip_norm": 0.3},
}


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("special", SPECIAL)
def test_each_hyperparameter_means_what_it_means_in_jaxinv(make_peer, special, shared):
  job = make_job(shared, optimizer="momentum", hyper=HYPER._replace(**SPECIAL[special]))
  peer = make_peer(job)
  peer.call()
  assert_close(peer.weights(), expected(job, 1))


def test_the_tolerance_tells_optimisers_and_hyperparameters_apart():
  jobs = [make_job(optimizer=name) for name in torch_peers.OPTIMIZERS]
  jobs += [make_job(optimizer="momentum", hyper=HYPER._replace(**s)) for s in SPECIAL.values()]
  ends = [expected(job, 1)[0] for job in jobs]
  for i, end in enumerate(ends):
    for other in ends[:i]:
      assert np.abs(end - other).max() > 1000 * TOLERANCE


def test_each_model_is_clipped_by_its_own_norm(make_peer):
  free = make_job(hyper=Hyper(learning_rate=1.0), num_steps=1)
  start = free.weights, np.zeros((MODELS, CLASSES))

  def moves(job):
    peer = make_peer(job)
    peer.call()
    layers = [now - then for now, then in zip(peer.weights(), start, strict=True)]
    return np.concatenate([layer.reshape(MODELS, -1) for layer in layers], 1)

  gradients = moves(free)
  norms = np.linalg.norm(gradients, axis=1)
  bound = float(np.sort(norms)[:2].mean())  # One model keeps its gradient, two do not.
  clipped = moves(free._replace(hyper=free.hyper._replace(clip_norm=bound)))
  factors = np.minimum(1, bound / norms)
  np.testing.assert_allclose(clipped, gradients * factors[:, None], rtol=0, atol=TOLERANCE)


def test_a_batch_of_the_splits_size_is_the_full_batch(make_peer):
  ends = []
  for batch_size in (0, TRAINED):
    peer = make_peer(make_job(batch_size=batch_size))
    peer.call()
    ends.append(peer.weights())
  for full, sized in zip(*ends, strict=True):
    np.testing.assert_array_equal(full, sized)


def test_an_epoch_shows_each_example_once_and_none_held_out(make_peer):
  job = make_marked_job(batch_size=7)  # 14 = 2 * 7.
  seen = batches(make_peer(job), 6)
  for i, split in enumerate(job.train):
    for epoch in (0, 2, 4):
      np.testing.assert_array_equal(np.sort(seen[epoch : epoch + 2, i], axis=None), np.sort(split))
    assert len({tuple(batch) for batch in seen[::2, i]}) > 1  # Not every epoch begins the same.


def test_what_does_not_fill_a_batch_waits_for_the_next_epoch(make_peer):
  job = make_marked_job(batch_size=4)  # 14 = 3 * 4 + 2.
  seen = batches(make_peer(job), 24)
  for i, split in enumerate(job.train):
    epochs = seen[:, i].reshape(8, 12)
    assert all(len(set(epoch)) == 12 and set(epoch) <= set(split) for epoch in epochs)
    assert set(epochs.flat) == set(split)  # And none waits for ever.


def test_models_of_one_split_see_it_in_orders_of_their_own_which_the_seed_fixes(make_peer):
  job = make_marked_job(batch_size=4, train=make_job(shared=True).train)
  seen = batches(make_peer(job), 3)
  assert (seen[:, 0] != seen[:, 1]).any() and (seen[:, 1] != seen[:, 2]).any()
  np.testing.assert_array_equal(seen, batches(make_peer(job), 3))
  assert (seen != batches(make_peer(job._replace(seed=99)), 3)).any()


def test_a_first_step_on_a_batch_is_its_closed_form(make_peer):
  """From nothing: rate / b * (target - 1 / k), at the batch's examples and nowhere else."""
  job = make_marked_job(batch_size=7)
  peer = make_peer(job)
  (seen,) = batches(peer, 1)
  steps = np.zeros(job.weights.shape)
  for i, batch in enumerate(seen):
    steps[i, batch] = 0.5 / 7 * (np.eye(CLASSES)[job.labels[batch]] - 1 / CLASSES)
  assert_close(peer.weights(), (steps, steps.sum(1)))


def test_all_ways_take_the_same_steps_on_batches_too(torch):
  job = make_job(optimizer="adam", batch_size=4, num_steps=5)
  ends = []
  for make in PEERS.values():
    peer = make(job)
    peer.call()
    peer.call()
    ends.append(peer.weights())
  for end in ends[1:]:
    assert_close(end, ends[0])


def test_weights_once_given_out_stay_as_they_are_and_so_does_the_job(make_peer):
  job = make_job()
  peer = make_peer(job)
  before = peer.weights()
  copies = [layer.copy() for layer in before]
  peer.call()
  for layer, copy, now in zip(before, copies, peer.weights(), strict=True):
    np.testing.assert_array_equal(layer, copy)
    assert (now != layer).any()
  np.testing.assert_array_equal(copies[0], job.weights)
  np.testing.assert_array_equal(copies[1], 0)


@pytest.mark.parametrize("wrong", [{"batch_size": 15}, {"batch_size": -1}, {"optimizer": "sdg"}])
def test_what_cannot_be_trained_is_an_error_and_no_endless_search(make_peer, wrong):
  with pytest.raises(ValueError, match=r"15|-1|sdg"):
    make_peer(make_job(**wrong))


def test_without_pytorch_the_module_can_be_imported_and_says_so(monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  module = runpy.run_path(torch_peers.__file__)
  assert not module["installed"]() and set(module["PEERS"]) == set(PEERS)
