"""The trainer of networks: steps in closed form, doors as all trainers', and what must not move."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv.ensemble import mapping
from jaxinv.ensemble.program import make_program, start_group, train_group
from jaxinv.ensemble.seeds import train_keys
from jaxinv.models.convnets import ResNet
from jaxinv.training import network
from jaxinv.training.hyper import IN_SPAN
from jaxinv.training.losses import LOSSES
from jaxinv.training.network import (
  TrainConfig,
  all_outputs,
  make_trainer,
  variables_of,
)
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.training.trainer import run
from jaxinv.types import Data, Hyper, RobustHyper, TrainState

_SHAPE = (8, 8, 3)
_AXES = Data(inputs=None, labels=None, train=0, holdout=0)


def _data(num=24, train=16, seed=0):
  """Images of two classes, dark and bright, with noise."""
  rng = np.random.default_rng(seed)
  labels = np.arange(num) % 2
  inputs = 0.3 + 0.4 * labels[:, None] + 0.1 * rng.standard_normal((num, 192))
  index = jnp.arange(num)
  return Data(
    jnp.asarray(inputs.clip(0, 1), jnp.float32), jnp.asarray(labels), index[:train], index[train:]
  )


@cache
def _trainer(norm="batch", optimizer="sgd", used=(), **config):
  # Two stages of one block, of few channels: quick to compile, and all there is to a network.
  model = ResNet(_SHAPE, 2, (1, 1), (4, 8), norm)
  config = TrainConfig(**{"num_steps": 10, "batch_size": 8, **config})
  trainer = make_trainer(model, LOSSES["softmax"], OPTIMIZERS[optimizer], config, used)
  # Compiled once for all tests that have it.
  parts = {name: jax.jit(getattr(trainer, name)) for name in ("init", "step", "evaluate")}
  return model, trainer._replace(**parts)


def _hyper(rate=0.05, radius=0.0):
  return RobustHyper(Hyper(learning_rate=rate), radius)


def _leaves_equal(a, b, **tolerance):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      x, y = jax.random.key_data(x), jax.random.key_data(y)
    np.testing.assert_allclose(x, y, **(tolerance or {"rtol": 0, "atol": 0}))


def test_a_step_is_sgd_by_hand_and_carries_the_running_statistics():
  model, trainer = _trainer(schedule="cosine")
  data = _data()
  state = trainer.init(jax.random.key(0), _hyper(), data)._replace(step=jnp.int32(3))
  after, info = trainer.step(state, _hyper(), data)
  # The batch that is due: of the order in force, the second of the two of an epoch.
  index = state.order[8:]

  def objective(params):
    variables = {"params": params, **state.collections}
    said, moved = model.apply(variables, data.inputs[index], train=True, mutable=["batch_stats"])
    losses = optax.softmax_cross_entropy_with_integer_labels(said.logits, data.labels[index])
    return losses.mean(), moved

  (value, moved), grads = jax.jit(jax.value_and_grad(objective, has_aux=True))(state.params)
  rate = 0.05 * (1 + np.cos(np.pi * 3 / 10)) / 2
  expected = jax.tree.map(lambda w, g: w - rate * g, state.params, grads)
  assert float(info.loss) == pytest.approx(float(value), rel=1e-5)
  _leaves_equal(after.params, expected, rtol=1e-4, atol=1e-6)
  _leaves_equal(after.collections, moved, rtol=1e-4, atol=1e-6)
  assert int(after.step) == 4


def test_it_learns_and_shuffled_labels_do_not_help_it():
  _, trainer = _trainer(num_steps=30, optimizer="momentum")
  data = _data()
  train = jax.jit(lambda state, data: run(trainer, state, _hyper(), data, 30)[0])
  state = train(trainer.init(jax.random.key(0), _hyper(), data), data)
  assert float(trainer.evaluate(state, data).holdout_accuracy) == 1.0
  # The control: labels that say nothing of the images cannot be told of images held out.
  other = data._replace(labels=jnp.asarray(np.random.default_rng(1).integers(0, 2, 24)))
  state = train(trainer.init(jax.random.key(0), _hyper(), other), other)
  assert float(trainer.evaluate(state, other).holdout_accuracy) < 1.0


def test_evaluation_moves_nothing_and_says_what_the_network_says():
  model, trainer = _trainer()
  data = _data()
  state = trainer.init(jax.random.key(0), _hyper(), data)
  state, _ = trainer.step(state, _hyper(), data)
  before = jax.tree.map(jnp.copy, state.collections)
  record = trainer.evaluate(state, data)
  _leaves_equal(state.collections, before)
  logits = model.apply(variables_of(state), data.inputs).logits
  right = np.asarray(logits).argmax(1) == np.asarray(data.labels)
  assert float(record.train_accuracy) == pytest.approx(right[:16].mean())
  assert float(record.holdout_accuracy) == pytest.approx(right[16:].mean())
  # In training its answers are others: the batch's own statistics take part.
  said, _ = model.apply(variables_of(state), data.inputs, train=True, mutable=["batch_stats"])
  assert float(jnp.abs(said.logits - logits).max()) > 1e-3


def test_an_adversary_of_radius_zero_is_none_and_a_real_one_is_not():
  data = _data()
  plain, attacked = (_trainer(adversary=name)[1] for name in ("none", "pgd_l2"))
  state = plain.init(jax.random.key(0), _hyper(), data)
  expected = plain.step(state, _hyper(), data)
  _leaves_equal(attacked.step(state, _hyper(), data), expected, rtol=1e-5, atol=1e-6)
  moved, info = attacked.step(state, _hyper(radius=0.5), data)
  assert float(info.loss) > float(expected[1].loss) + 1e-3
  heads = [state.params["head"]["kernel"] for state in (moved, expected[0])]
  assert float(jnp.abs(heads[0] - heads[1]).max()) > 1e-5


@pytest.mark.parametrize("name, norm", [("pgd_l2", None), ("pgd_linf", jnp.inf)])
def test_what_is_shown_is_within_the_ball_about_the_images(name, norm):
  model, trainer = _trainer()
  data = _data()
  state = trainer.init(jax.random.key(0), _hyper(), data)
  config = TrainConfig(10, 8, adversary=name)
  images, labels = data.inputs[:8], data.labels[:8]
  show = jax.jit(partial(network._shown, model, config))
  shown = show(state, images, labels, jnp.float32(0.2), jax.random.key(1))
  distance = jnp.linalg.norm(shown - images, norm, axis=1)
  assert float(distance.max()) <= 0.2 + 1e-5
  assert float(distance.min()) > 0.05
  assert float(shown.min()) >= 0 and float(shown.max()) <= 1


def test_images_are_shifted_where_they_are_not_mirrored():
  """A bright column in the middle stays within a pixel of it, and moves in some of the images."""
  model, _ = _trainer()
  images = jnp.zeros((8, *_SHAPE)).at[:, :, 3].set(1.0).reshape(8, -1)
  key = jax.random.key(1)
  nothing = TrainState({}, (), jnp.zeros((), jnp.int32), key, jnp.arange(8))
  config = TrainConfig(10, shift=1)
  shown = network._shown(model, config, nothing, images, jnp.arange(8), 0.0, key)
  middle = np.asarray(shown).reshape(8, *_SHAPE)[:, 4, :, 0].argmax(1)
  assert set(middle) <= {2, 3, 4} and len(set(middle)) > 1


def test_25_and_25_steps_are_50_bit_for_bit():
  _, trainer = _trainer(
    num_steps=6, adversary="fgsm_rs", flip=True, shift=1, optimizer="adamw", used=IN_SPAN
  )
  data, hyper = _data(), _hyper(1e-3, 0.02)
  take = jax.jit(lambda state, num: run(trainer, state, hyper, data, num)[0], static_argnums=1)
  state = trainer.init(jax.random.key(0), hyper, data)
  _leaves_equal(take(take(state, 3), 3), take(state, 6))


def test_a_group_is_its_models_one_by_one():
  _, trainer = _trainer(adversary="fgsm_rs")
  program = make_program(trainer, _AXES, block=1)
  keys, hypers = train_keys(0, [0, 1]), [_hyper(0.05, 0.02), _hyper(0.1, 0.05)]
  whole = _data()
  data = whole._replace(
    train=jnp.stack([whole.train, whole.train]), holdout=jnp.stack([whole.holdout] * 2)
  )
  stacked = mapping.stack_hypers(hypers)
  progress = start_group(program, keys, stacked, data)
  progress = train_group(program, progress, stacked, data, 4, 2)
  assert progress.history.train_loss.shape == (3, 2)
  train = jax.jit(lambda state, hyper: run(trainer, state, hyper, whole, 4)[0])
  for i in range(2):
    state = train(trainer.init(keys[i], hypers[i], whole), hypers[i])
    mine = mapping.run_at(mapping.STATE_AXES, progress.states, i)
    _leaves_equal(mine.params, state.params, rtol=1e-3, atol=1e-4)
    _leaves_equal(mine.collections, state.collections, rtol=1e-3, atol=1e-4)


def test_a_whole_data_set_is_answered_as_its_parts_are(monkeypatch):
  model, trainer = _trainer()
  data = _data()
  state = trainer.init(jax.random.key(0), _hyper(), data)
  monkeypatch.setattr(network, "_TOGETHER", 7)
  said = all_outputs(model, variables_of(state), data.inputs)
  for found, expected in zip(said, model.apply(variables_of(state), data.inputs), strict=True):
    np.testing.assert_allclose(found, expected, atol=1e-5)
