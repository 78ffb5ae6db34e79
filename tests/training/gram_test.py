"""Training in the span of the data: the same models as gradient descent on the weights, exactly."""

from functools import cache, partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv.data import splits
from jaxinv.ensemble.seeds import split_data
from jaxinv.errors import InputError
from jaxinv.experiments.experiment import make_experiment
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.models.dense import make_model
from jaxinv.training import gram, primal
from jaxinv.training.batches import next_batch
from jaxinv.training.hyper import IN_SPAN
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import LINEAR, OPTIMIZERS
from jaxinv.training.trainer import run
from jaxinv.types import Data, Hyper, TrainState

KEY, STEPS = jax.random.key(7), 30
ENGINES = {"primal": primal.make_trainer, "gram": gram.make_trainer}
BOTH_OFF = IN_SPAN - {"clip_norm", "weight_decay"}


def scheduled(memory):
  """SGD whose rate falls along a static schedule times a traced one, and whose decay does not."""

  def optimizer(hyper):
    rate = optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, STEPS, alpha=0.1))
    decay = optax.add_decayed_weights(hyper.weight_decay)
    velocity = [optax.trace(hyper.momentum)] if memory else []
    return optax.chain(*velocity, decay, rate, optax.scale_by_learning_rate(hyper.learning_rate))

  return optimizer


ALL = OPTIMIZERS | {"scheduled": scheduled(memory=False), "slowing": scheduled(memory=True)}


class Case(NamedTuple):
  """A way of training; what is static, then what is traced, then which examples count."""

  optimizer: str = "sgd"
  loss: str = "softmax"
  batch_size: int = 0
  use_bias: bool = True
  used: frozenset[str] = IN_SPAN
  hyper: Hyper = Hyper(0.03)
  keep: str = ""
  holdout: int = 2


# Few static differences, so that few programs are compiled.
CASES = {
  "sgd": Case(),
  "coupled decay": Case(hyper=Hyper(0.03, weight_decay=0.5)),
  "smoothing": Case(hyper=Hyper(0.03, label_smoothing=0.3)),
  "wide start": Case(hyper=Hyper(0.03, init_scale=3.0, weight_decay=0.2)),
  "all of the data": Case(holdout=0),
  "momentum": Case("momentum"),
  "clipped": Case("momentum", hyper=Hyper(0.03, clip_norm=0.2)),
  "nesterov, sigmoid, no bias": Case("nesterov", "sigmoid", use_bias=False, hyper=Hyper(0.01)),
  "clipped, no bias": Case("nesterov", "sigmoid", 0, False, hyper=Hyper(0.03, clip_norm=0.2)),
  "sgdw": Case("sgdw"),
  "decoupled decay": Case("sgdw", hyper=Hyper(0.01, weight_decay=0.5, init_scale=2.0)),
  "squared, schedule": Case("slowing", "squared", hyper=Hyper(0.003, weight_decay=0.1)),
  "batches": Case("momentum", batch_size=8),
  "batches, decay": Case("momentum", batch_size=8, hyper=Hyper(0.01, weight_decay=0.5)),
  "batches, clipped": Case("momentum", batch_size=8, hyper=Hyper(0.03, clip_norm=0.5)),
  "batches, far from clipped": Case("momentum", batch_size=8, hyper=Hyper(0.03, clip_norm=1e3)),
  "batches, schedule": Case("scheduled", "sigmoid", 8, hyper=Hyper(0.03, weight_decay=0.1)),
  "batches, schedule, off": Case("scheduled", batch_size=8, used=BOTH_OFF),
  "batches, off": Case(batch_size=8, used=BOTH_OFF),
  "batches, off, velocity": Case("momentum", batch_size=8, used=BOTH_OFF),
  "batches, off, no bias": Case("sgd", "squared", 8, False, BOTH_OFF, Hyper(0.01)),
  "full, off": Case(used=BOTH_OFF),
  "some kept": Case("momentum", keep="some"),
  "parts kept": Case("momentum", keep="parts", hyper=Hyper(0.03, 0.5, 0.1, clip_norm=0.5)),
  "little of the data": Case("momentum", keep="parts", holdout=5),
  "batches, parts kept": Case("momentum", batch_size=8, keep="parts"),
  "batches, one lost": Case("momentum", batch_size=8, keep="no first batch"),
  "batches, one lost, clipped": Case(
    "momentum", batch_size=8, keep="no first batch", hyper=Hyper(0.03, clip_norm=0.1)
  ),
  "batches, one lost, off": Case(batch_size=8, keep="no first batch", used=BOTH_OFF),
}


def prepare(dataset, case):
  """The data as a case sees them."""
  shared = split_data(splits.whole(dataset), dataset.num_classes, 0, [0], case.holdout)
  data = shared._replace(train=shared.train[0], holdout=shared.holdout[0])
  data = data._replace(gram=gram.gram_matrix(data.inputs, case.use_bias))
  keep = np.ones(len(data.labels))
  if case.keep == "some":
    keep[::3] = 0
  if case.keep == "parts":
    keep = np.resize([1, 0, 0.25, 1, 0.5, 2], len(keep))
  if case.keep == "no first batch":
    state = TrainState(None, None, jnp.zeros((), jnp.int32), KEY, data.train)
    _, batch = next_batch(state, data, case.batch_size)
    keep[np.asarray(batch.index)] = 0
  return data._replace(keep=jnp.asarray(keep, data.inputs.dtype)) if case.keep else data


@cache
def compiled(engine, optimizer, loss, batch_size, use_bias, used):
  """A trainer, and its life from the start to what is looked at, as one program."""
  model = make_model(5, use_bias=use_bias)
  trainer = ENGINES[engine](model, LOSSES[loss], ALL[optimizer], batch_size, used)

  @partial(jax.jit, static_argnums=2)
  def live(hyper, data, steps):
    first = trainer.init(KEY, hyper, data)
    state, info = run(trainer, first, hyper, data, steps)
    release = trainer.release(first.params, state, data)
    seen = release, trainer.evaluate(state, data), info.loss, trainer.extras(state)
    return *seen, trainer.params(state, data)

  return live


def live(engine, case, data, steps=STEPS):
  leaves = jax.tree.map(lambda x: jnp.asarray(x, data.inputs.dtype), case.hyper)
  return compiled(engine, *case[:5])(leaves, data, steps)


def layers(params):
  """Kernel, and bias where there is one."""
  return {name: np.float64(leaf) for name, leaf in params["Dense_0"].items()}


def moved(release):
  """What training added to the weights."""
  now, before = layers(release.params), layers(release.init_params)
  return {name: now[name] - before[name] for name in now}


def distance(one, other):
  """The largest by layer of how far two changes are apart, in parts of how large they are."""
  assert one.keys() == other.keys()
  return max(np.linalg.norm(one[x] - other[x]) / np.linalg.norm(other[x]) for x in one)


def assert_same_life(case, data, tolerance, steps=STEPS):
  lives = (live(engine, case, data, steps) for engine in ("gram", "primal"))
  (mine, record, loss, _, params), (theirs, expected, losses, _, _) = lives
  assert len(layers(mine.params)) == 1 + case.use_bias
  assert distance(moved(mine), moved(theirs)) < tolerance
  for name, leaf in layers(theirs.init_params).items():
    np.testing.assert_allclose(layers(mine.init_params)[name], leaf, rtol=tolerance)
    np.testing.assert_array_equal(layers(params)[name], layers(mine.params)[name])
  np.testing.assert_allclose(loss, losses, rtol=10 * tolerance, atol=tolerance)
  assert float(record.train_loss) == pytest.approx(float(expected.train_loss), rel=10 * tolerance)
  for name in ("train_accuracy", "holdout_accuracy", "finite"):
    np.testing.assert_array_equal(getattr(record, name), getattr(expected, name))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_training_adds_is_that_of_gradient_descent_on_the_weights(planted, case):
  assert_same_life(case, prepare(planted, case), 1e-4)


@pytest.mark.parametrize(
  "case",
  [
    Case("slowing", "squared", hyper=Hyper(0.003, 0.9, 0.1, 2.0, 0.2, 1.0), keep="parts"),
    Case("nesterov", batch_size=8, hyper=Hyper(0.01, 0.9, 0.2, 2.0, 0.2, 0.5)),
  ],
  ids=["full", "batches"],
)
def test_in_double_precision_to_nine_digits(planted, case):
  """Over ten times as many steps: nothing but rounding was between the two."""
  with jax.enable_x64(True):
    data = prepare(planted, case)
    assert data.gram.dtype == np.float64
    assert_same_life(case, data, 1e-9, 10 * STEPS)


def test_control_adam_is_not_of_the_span(planted):
  """On coefficients it trains other models, and this engine does not claim to serve it."""
  case = Case("adam", hyper=Hyper(0.003))
  data = prepare(planted, case)
  mine, theirs = (live(engine, case, data)[0] for engine in ("gram", "primal"))
  assert distance(moved(mine), moved(theirs)) > 0.3


def test_it_serves_linear_models_under_linear_optimizers_and_pays_with_few_examples():
  assert {name for name in OPTIMIZERS if gram.is_exact(name, ())} == set(LINEAR)
  assert not any(gram.is_exact(name, (8,)) for name in OPTIMIZERS)
  assert gram.is_faster(400, 10304) and not gram.is_faster(10304, 400)


@pytest.mark.parametrize("hidden", [(), (4,)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_experiment_takes_it_where_it_is_exact_and_refuses_it_elsewhere(
  planted, optimizer, hidden
):
  arms = (Arm("a", optimizer, Hyper()),)
  settings = {"arms": arms, "hidden": hidden, "batch_size": 8}
  exact = optimizer in LINEAR and not hidden
  assert make_experiment(Settings(**settings), planted).engines[optimizer].kind == (
    "gram" if exact else "primal"
  )
  assert make_experiment(Settings(**settings, engine="primal"), planted).data.gram is None
  if exact:
    assert make_experiment(Settings(**settings, engine="gram"), planted).data.gram.shape == (40, 40)
  else:
    with pytest.raises(InputError, match=f"{optimizer} with {len(hidden)} hidden") as caught:
      make_experiment(Settings(**settings, engine="gram"), planted)
    assert "\n" not in str(caught.value)


def test_an_experiment_with_more_examples_than_features_trains_on_the_weights(make_planted):
  arms = (Arm("a", "sgd", Hyper()),)
  for shape, kind in (((5, 8), "gram"), ((3, 13), "primal")):  # 40 examples of 40, 39 features.
    assert (
      make_experiment(Settings(arms, batch_size=8), make_planted(shape=shape)).engines["sgd"].kind
      == kind
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_to_keep_no_part_of_an_example_is_to_train_without_it(planted, engine):
  """In float32 to the last digits, from the same initial weights."""
  case = CASES["some kept"]._replace(holdout=0, hyper=Hyper(0.03, 0.9, 0.1, clip_norm=0.5))
  data = prepare(planted, case)
  kept = np.flatnonzero(data.keep)
  inputs = data.inputs[kept]
  rest = Data(inputs, data.labels[kept], jnp.arange(len(kept)), jnp.arange(0))
  rest = rest._replace(gram=gram.gram_matrix(inputs, True))
  assert 0 < len(kept) < 40
  (masked, record, *_), (without, expected, *_) = (live(engine, case, x) for x in (data, rest))
  assert distance(moved(masked), moved(without)) < 1e-5
  assert float(record.train_loss) == pytest.approx(float(expected.train_loss), rel=1e-5)
  everyone = live(engine, case, data._replace(keep=None))[0]
  assert distance(moved(everyone), moved(without)) > 0.1


@pytest.mark.parametrize("name", ["wide start", "parts kept", "batches, one lost, off"])
def test_coefficients_say_how_much_of_each_example_is_in_the_weights(planted, name):
  data = prepare(planted, CASES[name])
  release, _, _, extras, _ = live("gram", CASES[name], data)
  start, share = layers(release.init_params), np.float64(extras["init_share"])
  coefficients = np.float64(extras["coefficients"])
  assert coefficients.shape == (40, 5) and extras["init_share"].shape == ()
  kernel = share * start["kernel"] + np.float64(data.inputs).T @ coefficients
  np.testing.assert_allclose(layers(release.params)["kernel"], kernel, atol=1e-5)
  bias = share * start["bias"] + coefficients.sum(0)
  np.testing.assert_allclose(layers(release.params)["bias"], bias, atol=1e-5)
  unseen = np.setdiff1d(np.arange(40), data.train)
  if data.keep is not None:
    unseen = np.union1d(unseen, np.flatnonzero(np.asarray(data.keep) == 0))
  assert len(unseen) >= 10
  np.testing.assert_array_equal(coefficients[unseen], 0)
  assert (np.abs(np.delete(coefficients, unseen, 0)).max(1) > 0).all()


def test_coefficients_are_the_sum_of_the_residuals(planted):
  """Of one step of softmax: rate times (target - prediction) / m, positive for the own class."""
  data = prepare(planted, Case())
  release, _, _, extras, _ = live("gram", Case(), data, 1)
  index, labels = np.asarray(data.train), np.asarray(data.labels)
  scores = np.exp(np.float64(data.inputs) @ layers(release.init_params)["kernel"])[index]
  residual = scores / scores.sum(1, keepdims=True) - np.eye(5)[labels[index]]
  np.testing.assert_allclose(extras["coefficients"][index], -0.03 * residual / 30, atol=1e-7)
  assert extras["init_share"] == 1


def test_where_the_first_bias_is_not_zero_it_decays_with_the_weights(planted):
  class Biased(nn.Module):
    num_classes: int = 5

    @nn.compact
    def __call__(self, x):
      return nn.Dense(self.num_classes, bias_init=nn.initializers.normal())(x)

  hyper = jax.tree.map(jnp.float32, Hyper(0.03, 0.9, 0.3, 5.0))
  data, ends = prepare(planted, Case()), []
  for make_trainer in ENGINES.values():
    trainer = make_trainer(Biased(), LOSSES["softmax"], OPTIMIZERS["momentum"])

    @jax.jit
    def train_one(data, trainer=trainer):
      first = trainer.init(KEY, hyper, data)
      state, _ = run(trainer, first, hyper, data, STEPS)
      return trainer.release(first.params, state, data)

    ends.append(train_one(data))
  assert np.abs(ends[0].init_params["Dense_0"]["bias"]).max() > 0.01
  assert distance(moved(ends[1]), moved(ends[0])) < 1e-4


@pytest.mark.parametrize("engine", ENGINES)
def test_a_gradient_that_vanishes_is_clipped_to_no_nan(make_planted, engine):
  """With more examples than features the residuals stay as the gradient goes to zero, and rounding
  may then give it a square that is below zero."""
  case = Case("momentum", "squared", hyper=Hyper(0.1, clip_norm=1.0), holdout=0)
  data = prepare(make_planted(shape=(1, 3), noise=0.2), case)
  release, record, losses, *_ = live(engine, case, data, 3000)
  assert record.finite and np.isfinite(layers(release.params)["kernel"]).all()
  assert losses[-1] > 0.1 and abs(losses[-1] - losses[-1000]) < 1e-3


def test_a_diverged_model_is_told_by_both_engines(planted):
  case = Case("momentum", hyper=Hyper(1e38, 0.9, 1.0))
  data = prepare(planted, case)
  assert not any(live(engine, case, data)[1].finite for engine in ENGINES)
