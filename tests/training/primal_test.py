"""The trainer of one model: steps in closed form, batches without replacement, any chunks."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv.data import splits
from jaxinv.ensemble.seeds import split_data
from jaxinv.errors import InputError
from jaxinv.models.dense import make_model
from jaxinv.training.batches import next_batch
from jaxinv.training.hyper import IN_SPAN
from jaxinv.training.losses import LOSSES, Loss
from jaxinv.training.optimizers import OPTIMIZERS, clipped
from jaxinv.training.primal import make_trainer
from jaxinv.training.projection import means_of
from jaxinv.training.trainer import run
from jaxinv.types import Hyper, Snapshot, TrainState

KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def data(planted):
  """The planted images, two of each class held out: 30 to train on."""
  return split(planted, 2)


def split(dataset, holdout):
  """A data set with so many of each class held out."""
  shared = split_data(splits.whole(dataset), dataset.num_classes, 0, [0], holdout)
  return shared._replace(train=shared.train[0], holdout=shared.holdout[0])


def trainer_of(optimizer="sgd", loss="softmax", batch_size=0, used=IN_SPAN, **model):
  return make_trainer(make_model(5, **model), LOSSES[loss], OPTIMIZERS[optimizer], batch_size, used)


@pytest.fixture(scope="module")
def params(data):
  """Initial parameters of a linear classifier, made once: a program that draws is slow to make."""
  return jax.jit(trainer_of().init)(KEY, Hyper(), data).params


def fresh(params, hyper, data, optimizer="sgd"):
  """A state before the first step."""
  opt_state = clipped(OPTIMIZERS[optimizer])(hyper).init(params)
  return TrainState(params, opt_state, jnp.zeros((), jnp.int32), KEY, data.train)


def steps_of(trainer):
  """Some steps in one compiled scan."""
  return jax.jit(
    lambda state, hyper, data, n: run(trainer, state, hyper, data, n), static_argnums=3
  )


def floats(**values):
  """Hyperparameters as the mapped leaves that they are in a group."""
  return jax.tree.map(jnp.float32, Hyper(**values))


@partial(jax.jit, static_argnums=(0, 3))
def draw(batch_size, state, data, num_steps):
  """The batch that each step trains on, its leaves with an axis of `num_steps`."""

  def step(state, _):
    order, batch = next_batch(state, data, batch_size)
    return state._replace(order=order, step=state.step + 1), batch

  return jax.lax.scan(step, state, length=num_steps)[1]


def batches(batch_size, data, num_steps):
  """The examples of each step, [num_steps, b], from a fresh start; no parameters are needed."""
  state = TrainState(None, None, jnp.zeros((), jnp.int32), KEY, data.train)
  return np.asarray(draw(batch_size, state, data, num_steps).index)


def shares(batch_size, data, num_steps):
  """What part each example of the data set has in each step's objective, [num_steps, n]."""
  state = TrainState(None, None, jnp.zeros((), jnp.int32), KEY, data.train)
  index, share = draw(batch_size, state, data, num_steps)
  if index is None:  # All examples, in their order.
    return np.asarray(share)
  whole = np.zeros((num_steps, len(data.labels)), np.float32)
  np.put_along_axis(whole, np.asarray(index), np.asarray(share), 1)
  return whole


def uneven(data):
  """The data with examples that count whole, in part, and not at all."""
  return data._replace(keep=jnp.asarray(np.resize([1, 0, 0.25, 1, 0.5], len(data.labels)), float))


def residual(loss, logits, targets):
  if loss == "softmax":
    scores = np.exp(logits - logits.max(1, keepdims=True))
    return scores / scores.sum(1, keepdims=True) - targets
  return (1 / (1 + np.exp(-logits)) if loss == "sigmoid" else logits) - targets


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
  ("loss", "batch_size", "holdout"),
  [*((loss, 0, 2) for loss in LOSSES), ("softmax", 7, 2), ("softmax", 0, 5), ("squared", 0, 0)],
)
def test_a_step_of_sgd_is_its_closed_form(planted, params, loss, batch_size, holdout, keep):
  """W - rate * (X^T residual / b, clipped, + decay * W), in float64 from the data."""
  data = split(planted, holdout)
  data = uneven(data) if keep else data
  hyper = floats(learning_rate=0.3, weight_decay=0.2, label_smoothing=0.1, clip_norm=0.5)
  trainer = trainer_of(loss=loss, batch_size=batch_size)
  state = fresh(params, hyper, data)
  (share,) = np.float64(shares(batch_size, data, 1))
  x, labels = np.float64(data.inputs), np.asarray(data.labels)
  w, bias = (np.float64(state.params["Dense_0"][name]) for name in ("kernel", "bias"))
  targets = 0.9 * np.eye(5)[labels] + 0.1 / 5
  rest = share[:, None] * residual(loss, x @ w + bias, targets)
  grads = x.T @ rest, rest.sum(0)
  norm = np.sqrt(sum((g**2).sum() for g in grads))
  assert norm > 0.5  # The bound is felt.
  after, _ = jax.jit(trainer.step)(state, hyper, data)
  for name, old, grad in zip(("kernel", "bias"), (w, bias), grads, strict=True):
    expected = old - 0.3 * (grad * 0.5 / norm + 0.2 * old)
    np.testing.assert_allclose(after.params["Dense_0"][name], expected, atol=1e-6)


def test_the_reported_loss_is_the_batchs_objective_before_the_step(data, params):
  hyper = floats(label_smoothing=0.2)
  trainer, state = trainer_of(), fresh(params, hyper, data)
  _, info = jax.jit(trainer.step)(state, hyper, data)
  logits = np.float64(data.inputs)[data.train] @ np.float64(state.params["Dense_0"]["kernel"])
  targets = 0.8 * np.eye(5)[np.asarray(data.labels)[data.train]] + 0.04
  values = np.log(np.exp(logits).sum(1)) - (targets * logits).sum(1)
  assert float(info.loss) == pytest.approx(values.mean(), rel=1e-5)


def test_an_epoch_shows_each_example_once_and_the_next_in_another_order(data):
  drawn = batches(6, data, 15)
  epochs = [np.concatenate(drawn[i : i + 5]) for i in (0, 5, 10)]
  for epoch in epochs:
    np.testing.assert_array_equal(np.sort(epoch), data.train)
  assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()


def test_what_does_not_fill_a_batch_waits_for_the_next_epoch(data):
  drawn = batches(7, data, 40)  # 30 = 4 * 7 + 2.
  epochs = [np.concatenate(drawn[i : i + 4]) for i in range(0, 40, 4)]
  assert all(len(set(epoch)) == 28 and set(epoch) <= set(map(int, data.train)) for epoch in epochs)
  assert len(set(np.concatenate(epochs))) == 30  # And none waits for ever.


@pytest.mark.parametrize(
  ("batch_size", "holdout"), [(0, 2), (30, 2), (7, 2), (0, 0), (0, 5), (6, 5)]
)
def test_the_examples_of_a_step_share_it_evenly_and_no_other_has_a_part(
  planted, batch_size, holdout
):
  """The full batch is all of the split, however little of the data that is."""
  data = split(planted, holdout)
  size = batch_size or 40 - 5 * holdout
  for share in shares(batch_size, data, 3):
    chosen = np.flatnonzero(share)
    assert len(chosen) == size and set(chosen) <= set(map(int, data.train))
    np.testing.assert_allclose(share[chosen], 1 / size, rtol=1e-6)


@pytest.mark.parametrize(("batch_size", "holdout"), [(0, 2), (7, 2), (0, 0), (0, 5)])
def test_an_example_has_a_part_as_large_as_it_counts(planted, batch_size, holdout):
  whole = split(planted, holdout)
  parts = uneven(whole)
  kept = np.asarray(parts.keep)
  for even, share in zip(shares(batch_size, whole, 3), shares(batch_size, parts, 3), strict=True):
    weights = np.where(even > 0, kept, 0)
    np.testing.assert_allclose(share, weights / weights.sum(), rtol=1e-6)


@pytest.mark.parametrize(("batch_size", "holdout"), [(0, 2), (7, 2), (0, 5)])
def test_where_no_example_counts_a_step_leaves_the_weights_as_they_are(
  planted, params, batch_size, holdout
):
  data = split(planted, holdout)
  data = data._replace(keep=jnp.zeros(40))
  hyper = floats(learning_rate=0.5, clip_norm=1.0)
  trainer = trainer_of(batch_size=batch_size)
  after, info = jax.jit(trainer.step)(fresh(params, hyper, data), hyper, data)
  assert info.loss == 0
  for one, other in zip(jax.tree.leaves(after.params), jax.tree.leaves(params), strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_no_run_uses_can_be_left_out(data, params, optimizer):
  hyper, ends = floats(learning_rate=0.05), []
  for used in (IN_SPAN, IN_SPAN - {"clip_norm", "weight_decay"}):
    trainer = trainer_of(optimizer, used=used)
    start = fresh(params, hyper, data, optimizer)
    start = start._replace(opt_state=trainer.init(KEY, hyper, data).opt_state)
    ends.append(steps_of(trainer)(start, hyper, data, 5)[0])
  kernels = [np.asarray(end.params["Dense_0"]["kernel"]) for end in ends]
  np.testing.assert_allclose(*kernels, rtol=1e-5, atol=1e-6)
  assert np.abs(kernels[0] - params["Dense_0"]["kernel"]).max() > 0.01


@pytest.mark.parametrize("optimizer", ["nesterov", "adam"])
def test_a_transposed_kernel_is_the_same_model_at_every_door(data, optimizer):
  hyper, seen = floats(learning_rate=0.05, init_scale=2.0), []
  for turned in (False, True):
    parts = (make_model(5), LOSSES["softmax"], OPTIMIZERS[optimizer])
    trainer = make_trainer(*parts, transposed_kernel=turned)
    first = trainer.init(KEY, hyper, data)
    middle = steps_of(trainer)(first, hyper, data, 3)[0]
    last = steps_of(trainer)(middle, hyper, data, 3)[0]
    means = means_of(data, 5, holdout=False)
    held = first.params["Dense_0"]["kernel"].shape
    assert held == ((5, data.inputs.shape[1]) if turned else (data.inputs.shape[1], 5))
    release = trainer.release(first.params, last, data, Snapshot(middle.params, middle.step))
    shown = (
      trainer.params(last, data),
      trainer.logits(trainer.params(last, data), data.inputs),
      release,
      trainer.evaluate(last, data),
      trainer.project(last.params, first.params, data, means),
      trainer.project(last.params, None, data, means),
    )
    seen.append(shown)
  assert jax.tree.structure(seen[0]) == jax.tree.structure(seen[1])
  for one, other in zip(*map(jax.tree.leaves, seen), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
  moved = jax.tree.map(lambda x, x0: np.abs(x - x0).max(), release.params, release.init_params)
  assert moved["Dense_0"]["kernel"] > 0.01


def test_what_the_engine_hands_out_is_what_its_state_holds(data, params):
  trainer, hyper = trainer_of(), floats(learning_rate=0.5)
  state, _ = steps_of(trainer)(fresh(params, hyper, data), hyper, data, 3)
  release = trainer.release(params, state, data)
  for held, given in ((state.params, trainer.params(state, data)), (state.params, release.params)):
    assert jax.tree.all(jax.tree.map(np.array_equal, held, given))
  assert jax.tree.all(jax.tree.map(np.array_equal, params, release.init_params))
  assert release.peers is None and trainer.extras(state) == {}


def test_a_batch_holds_no_held_out_example(data):
  drawn = np.concatenate(batches(4, data, 21))
  assert not set(drawn) & set(map(int, data.holdout))


@pytest.fixture(scope="module")
def adam_steps():
  """A trainer that carries moments and an order, and its compiled steps."""
  trainer = trainer_of("adam", batch_size=7)
  return trainer, steps_of(trainer)


@pytest.mark.parametrize("cuts", [(25, 25), (10,) * 5])
def test_fifty_steps_are_the_same_bits_in_whatever_chunks(data, params, adam_steps, cuts):
  _, steps = adam_steps
  hyper = floats(learning_rate=0.01, weight_decay=0.01)
  start = fresh(params, hyper, data, "adam")
  whole, info = steps(start, hyper, data, 50)
  state, losses = start, []
  for length in cuts:
    state, part = steps(state, hyper, data, length)
    losses.append(part.loss)
  assert int(state.step) == 50
  np.testing.assert_array_equal(np.concatenate(losses), info.loss)
  plain = lambda s: jax.tree.leaves(s._replace(key=jax.random.key_data(s.key)))  # noqa: E731
  for one, other in zip(plain(whole), plain(state), strict=True):
    np.testing.assert_array_equal(one, other)


def test_training_learns_the_planted_classes_and_generalises(data, params, adam_steps):
  trainer, steps = adam_steps
  hyper = floats(learning_rate=0.01)
  state, _ = steps(fresh(params, hyper, data, "adam"), hyper, data, 50)
  record = trainer.evaluate(state, data)
  assert record.train_accuracy == 1 and record.holdout_accuracy == 1 and record.finite


def test_the_initial_weights_scale_with_init_scale_and_depend_on_nothing_else(data, params):
  one = params["Dense_0"]["kernel"]
  other = Hyper(learning_rate=9.0, weight_decay=1.0, init_scale=3.0)
  trainer = trainer_of("adam", "squared", 5)
  three = jax.jit(trainer.init)(KEY, other, data._replace(inputs=data.inputs * 0))
  np.testing.assert_allclose(three.params["Dense_0"]["kernel"], 3 * one, rtol=1e-6)
  assert jnp.abs(one).max() > 0


def test_a_record_is_of_the_split_without_smoothing_or_decay(data, params):
  hyper = floats(label_smoothing=0.3, weight_decay=5.0)
  state = fresh(params, hyper, data)
  record = trainer_of().evaluate(state, data)
  logits = np.float64(data.inputs) @ np.float64(state.params["Dense_0"]["kernel"])
  labels = np.asarray(data.labels)
  values = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
  right = logits.argmax(1) == labels
  assert float(record.train_loss) == pytest.approx(values[np.asarray(data.train)].mean(), rel=1e-5)
  assert float(record.train_accuracy) == pytest.approx(right[np.asarray(data.train)].mean())
  assert float(record.holdout_accuracy) == pytest.approx(right[np.asarray(data.holdout)].mean())


def test_a_record_counts_examples_as_training_does(data, params):
  """The examples held out all count whole."""
  parts = uneven(data)
  state = fresh(params, Hyper(), data)
  record, whole = trainer_of().evaluate(state, parts), trainer_of().evaluate(state, data)
  logits = np.float64(data.inputs) @ np.float64(params["Dense_0"]["kernel"])
  index, labels = np.asarray(data.train), np.asarray(data.labels)
  values = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
  weights = np.float64(parts.keep)[index]
  expected = (weights @ values[index], weights @ (logits.argmax(1) == labels)[index])
  assert float(record.train_loss) == pytest.approx(expected[0] / weights.sum(), rel=1e-5)
  assert float(record.train_accuracy) == pytest.approx(expected[1] / weights.sum(), rel=1e-5)
  assert record.holdout_accuracy == whole.holdout_accuracy
  assert abs(record.train_loss - whole.train_loss) > 1e-3


def test_with_nothing_held_out_the_held_out_accuracy_is_nan_and_the_rest_is_fine(planted, params):
  data = splits.whole(planted)
  record = trainer_of().evaluate(fresh(params, Hyper(), data), data)
  assert np.isnan(record.holdout_accuracy)
  assert np.isfinite(record.train_loss) and record.finite


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_told(data, params, bad):
  kernel = params["Dense_0"]["kernel"].at[3, 2].set(bad)
  broken = {"Dense_0": {**params["Dense_0"], "kernel": kernel}}
  assert not trainer_of().evaluate(fresh(broken, Hyper(), data), data).finite


def test_a_hidden_layer_trains_with_the_same_trainer(data):
  trainer = trainer_of("adam", hidden=(16,))
  hyper = floats(learning_rate=0.02)
  state, info = steps_of(trainer)(jax.jit(trainer.init)(KEY, hyper, data), hyper, data, 60)
  assert info.loss[-1] < 0.2 * info.loss[0]
  assert trainer.evaluate(state, data).train_accuracy == 1


class OwnModel(nn.Module):
  """A module of a caller's own: no `num_classes`, and no dense layer of ours."""

  @nn.compact
  def __call__(self, x):
    scale = self.param("scale", nn.initializers.ones_init(), (3, x.shape[-1]))
    return jnp.tanh(jnp.sqrt(x) @ scale.T @ self.param("mix", nn.initializers.ones_init(), (3, 5)))


def test_a_model_a_loss_and_an_optimizer_of_the_callers_own_are_trained(data):
  """One step of full-batch sign descent is its closed form; the logits are the model's own."""
  model, hyper = OwnModel(), floats(learning_rate=0.01)
  loss = Loss(lambda logits, targets: jnp.abs(logits - targets).sum(-1), residual=None)
  trainer = make_trainer(model, loss, lambda hyper: optax.sign_sgd(hyper.learning_rate), used=())
  first = trainer.init(KEY, hyper, data)

  def mean_loss(params):
    logits = model.apply({"params": params}, data.inputs[data.train])
    return jnp.abs(logits - jax.nn.one_hot(data.labels[data.train], 5)).sum(-1).mean()

  value, grads = jax.value_and_grad(mean_loss)(first.params)
  after, info = trainer.step(first, hyper, data)
  assert float(info.loss) == pytest.approx(float(value), rel=1e-5)
  for name, gradient in grads.items():
    expected = first.params[name] - 0.01 * np.sign(gradient)
    np.testing.assert_allclose(after.params[name], expected, rtol=1e-5)
  logits = trainer.logits(trainer.params(after, data), data.inputs)
  np.testing.assert_array_equal(logits, model.apply({"params": after.params}, data.inputs))
  assert trainer.evaluate(after, data).finite


class WithStatistics(nn.Module):
  """A model that carries more than parameters."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(5)(nn.BatchNorm(use_running_average=True)(x))


def test_what_cannot_be_trained_is_refused_in_one_line(data):
  parts = LOSSES["softmax"], OPTIMIZERS["sgd"]
  with pytest.raises(InputError, match=r"the model holds batch_stats.*parameters alone"):
    make_trainer(WithStatistics(), *parts).init(KEY, Hyper(), data)
  with pytest.raises(InputError, match="dropout is for dense models"):
    make_trainer(OwnModel(), *parts, used=("dropout",))
