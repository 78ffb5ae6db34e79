"""DP-SGD in the examples' span: the primal engine's models without noise, its distribution with."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.data import splits
from jaxinv.ensemble.mapping import STATE_AXES
from jaxinv.ensemble.seeds import split_data
from jaxinv.models.dense import make_model
from jaxinv.training import primal, private_span
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.training.projection import means_of, pixel_gram
from jaxinv.training.trainer import run
from jaxinv.types import Hyper, Snapshot

KEY, BLOCK, CLASSES = jax.random.key(7), 5, 5
PRIVATE = ("dp_clip", "dp_noise")
KEYS = jax.random.split(KEY, 300)


@pytest.fixture(scope="module")
def data(planted):
  """Images of 13 x 11 pixels, two of each class held out: 30 to train on."""
  shared = split_data(splits.whole(planted), CLASSES, 0, [0], 2)
  products, means = pixel_gram(shared.inputs)
  return shared._replace(
    train=shared.train[0],
    holdout=shared.holdout[0],
    pixel_gram=products,
    pixel_means=means,
    rotation=private_span.rotation_of(planted.inputs),
  )


@cache
def trainer_of(engine, on=PRIVATE, use_bias=True, batch_size=8):
  parts = make_model(CLASSES, use_bias=use_bias), LOSSES["softmax"], OPTIMIZERS["sgd"], batch_size
  if engine == "primal":
    return primal.make_trainer(*parts, used=on)
  return private_span.make_trainer(*parts, used=on, block=BLOCK)


def floats(**values):
  """Hyperparameters as the mapped leaves that they are in a group."""
  return jax.tree.map(jnp.float32, Hyper(**values))


@cache
def life_of(engine, steps, *args):
  """A compiled life: all that is looked at after so many steps, and after three more."""
  trainer = trainer_of(engine, *args)

  @jax.jit
  def live(key, hyper, data):
    first = trainer.init(key, hyper, data)
    early, _ = run(trainer, first, hyper, data, steps)
    state, info = run(trainer, early, hyper, data, 3)
    release = trainer.release(first.params, state, data, Snapshot(early.params, early.step))
    means = means_of(data, CLASSES, True)
    now, before = (trainer.settle(x.params, data) for x in (state, first))
    seen = [trainer.project(now, minus, data, means) for minus in (None, before)]
    return release, trainer.params(state, data), trainer.evaluate(state, data), info, seen

  return live


@pytest.mark.parametrize("steps", [1, 2, 9])  # Looked at in the first block, at its end, later.
@pytest.mark.parametrize(
  ("hyper", "on", "use_bias"),
  [
    ({"init_scale": 3.0, "label_smoothing": 0.2}, (*PRIVATE, "label_smoothing"), True),
    ({"weight_decay": 0.3}, (*PRIVATE, "weight_decay"), False),
    ({"weight_decay": 0.3, "steps": 3.0}, (*PRIVATE, "weight_decay", "steps"), True),
  ],
)
def test_without_noise_the_models_are_the_primal_engines(data, hyper, on, use_bias, steps):
  hyper = floats(learning_rate=0.5, dp_clip=0.7, **hyper)
  mine, theirs = (
    life_of(engine, steps, on, use_bias)(KEY, hyper, data) for engine in ("span", "primal")
  )
  assert jax.tree.structure(mine) == jax.tree.structure(theirs)
  jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=5e-6), mine, theirs)
  moved = mine[0].params["Dense_0"]["kernel"] - mine[0].init_params["Dense_0"]["kernel"]
  assert np.abs(moved).max() > 0.01


def weights(params):
  """Kernel and bias together, in float64: [..., p + 1, k]."""
  kernel, bias = (np.float64(params["Dense_0"][name]) for name in ("kernel", "bias"))
  return np.concatenate([kernel, bias[..., None, :]], -2)


@pytest.fixture(scope="module")
def paths(data):
  """The weights of 300 seeds after the steps 0, 5, 7, 10 and 12, for hyperparameters and data."""
  looks = (0, 5, 7, 10, 12)

  @cache
  def of(engine, on):
    trainer = trainer_of(engine, on)

    @jax.jit
    def all_seeds(hyper, data):
      def one(key):
        state, seen = trainer.init(key, hyper, data), []
        for length in np.diff(looks, prepend=0):
          state, _ = run(trainer, state, hyper, data, int(length))
          seen.append(trainer.params(state, data))
        return seen

      return jax.vmap(one)(KEYS)

    return all_seeds

  def walk(engine="span", on=(*PRIVATE, "weight_decay"), nobody=False, **hyper):
    own = data._replace(keep=jnp.zeros(40)) if nobody else data
    found = of(engine, on)(floats(**hyper), own)
    return dict(zip(looks, map(weights, found), strict=True))

  return walk


def parts_of(noise, data):
  """Noise [s, p, k] in coordinates of the span, of the rest, and of the bias; each [s, any]."""
  full, _ = np.linalg.qr(np.float64(data.inputs).T, mode="complete")
  turned = np.einsum("pq,spk->sqk", full, noise[:, :-1])
  flat = [turned[:, :40], turned[:, 40:], noise[:, -1:]]
  return dict(zip(("span", "rest", "bias"), (x.reshape(len(x), -1) for x in flat), strict=True))


def is_isotropic(noise, data, variance):
  """Whether noise is normal to the eye: of one variance everywhere, no two coordinates alike."""
  for part in parts_of(noise, data).values():
    part = part / np.sqrt(variance)
    count, size = len(part), part.shape[1]
    if abs(part.var() - 1) > 5 * np.sqrt(2 / part.size) or abs(part.mean()) > 5 / part.size**0.5:
      return False
    if np.abs(part.var(0) - 1).max() > 5 * np.sqrt(2 / count):
      return False
    some = part[:, np.linspace(0, size - 1, min(size, 80)).astype(int)]
    if np.abs(np.corrcoef(some.T) - np.eye(some.shape[1])).max() > 5.5 / np.sqrt(count):
      return False
  return True


RATE, DECAY, CLIP, NOISE = 0.5, 0.3, 2.0, 3.0
FACTOR, STEP = 1 - RATE * DECAY, (RATE * CLIP * NOISE / 8) ** 2
WALK = {"learning_rate": RATE, "weight_decay": DECAY, "dp_clip": CLIP, "dp_noise": NOISE}


def variance_of(steps):
  return STEP * sum(FACTOR ** (2 * i) for i in range(steps))


def test_noise_is_the_same_in_and_outside_of_the_span_within_a_block_and_at_its_end(paths, data):
  path = paths(nobody=True, **WALK)
  for step in (5, 7, 10, 12):
    noise = path[step] - FACTOR**step * path[0]
    assert is_isotropic(noise, data, variance_of(step)), step


def test_between_two_looks_there_is_new_noise_of_all_steps_between(paths, data):
  """What whoever holds two releases is left with: at ends of blocks, and at one look within."""
  path = paths(nobody=True, **WALK)
  for start, end in ((5, 7), (5, 10), (10, 12)):
    noise = path[end] - FACTOR ** (end - start) * path[start]
    assert is_isotropic(noise, data, variance_of(end - start)), (start, end)
    before = path[start] - FACTOR**start * path[0]
    for one, two in zip(*(parts_of(x, data).values() for x in (noise, before)), strict=True):
      size = np.sqrt(np.square(one).sum() * np.square(two).sum() / one.size)
      assert abs((one * two).sum()) < 5 * size


@pytest.mark.parametrize("wrong", [{"dp_noise": NOISE / 2}, {"dp_noise": 0.97 * NOISE}])
def test_control_too_little_noise_is_noticed(paths, data, wrong):
  path = paths(nobody=True, **(WALK | wrong))
  assert not is_isotropic(path[7] - FACTOR**7 * path[0], data, variance_of(7))


def test_control_one_draw_for_two_looks_of_a_block_would_be_noticed(paths, data):
  """The looks after 10 and 12 steps, where both had the normals of one block."""
  path = paths(nobody=True, **WALK)
  noise = (path[5] - FACTOR**5 * path[0]) / np.sqrt(variance_of(5))
  shared = (np.sqrt(variance_of(12)) - FACTOR**2 * np.sqrt(variance_of(10))) * noise
  assert is_isotropic(np.sqrt(variance_of(2)) * noise, data, variance_of(2))
  assert not is_isotropic(shared, data, variance_of(2))


def test_with_gradients_mean_and_variance_are_the_primal_engines(paths, data):
  """Of all weights, and of what the examples see of them. The batches are the same."""
  hyper = {"learning_rate": 1.0, "dp_clip": 0.7, "dp_noise": 0.5}
  mine, theirs = (paths(engine, PRIVATE, **hyper) for engine in ("span", "primal"))
  seen = np.pad(np.float64(data.inputs), [(0, 0), (0, 1)], constant_values=1)
  np.testing.assert_allclose(mine[0], theirs[0], atol=1e-6)
  moved = 0.0
  for step in (5, 7, 12):
    for turn in (lambda x: x, lambda x: seen @ x):
      one, two = (turn(path[step] - path[0]) for path in (mine, theirs))
      moved = max(moved, np.abs(one.mean(0)).max() / one.std(0).mean())
      error = np.sqrt((one.var(0) + two.var(0)) / len(KEYS))
      assert (np.abs(one.mean(0) - two.mean(0)) < 5 * error).all()
      assert np.abs(np.log(one.var(0) / two.var(0))).max() < 5 * np.sqrt(4 / len(KEYS))
      assert abs(np.log(one.var(0).mean() / two.var(0).mean())) < 0.05
  assert moved > 1  # The gradients are no small part of it.


def test_what_is_outside_no_example_sees_and_the_record_is_of_the_release(data):
  hyper, on = floats(learning_rate=0.5, dp_clip=1.0, dp_noise=4.0), PRIVATE
  trainer, slow = trainer_of("span", on), trainer_of("primal", on)

  @jax.jit
  def look(key, data):
    state, _ = run(trainer, trainer.init(key, hyper, data), hyper, data, 8)
    params = trainer.params(state, data)
    logits = trainer.logits(params, data.inputs)
    outside = (
      params["Dense_0"]["kernel"] - data.rotation.basis.T @ state.params.seen["Dense_0"]["kernel"]
    )
    found = trainer.evaluate(state, data), slow.evaluate(state._replace(params=params), data)
    return logits, outside, state.params.seen, found

  logits, outside, seen, (mine, theirs) = look(KEY, data)
  assert np.abs(outside).max() > 0.1
  assert np.abs(np.float64(data.inputs) @ np.float64(outside)).max() < 1e-4
  layer = seen["Dense_0"]
  expected = np.float64(data.rotation.coordinates) @ np.float64(layer["kernel"])
  np.testing.assert_allclose(logits, expected + np.float64(layer["bias"]), atol=1e-4)
  jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), mine, theirs)


def raw(state):
  """A state's leaves as numbers, keys too."""
  return [
    np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
    for x in jax.tree.leaves(state)
  ]


@pytest.mark.parametrize("cuts", [(10, 10), (7, 13), (3, 1, 16)])
def test_a_training_in_parts_is_the_same_bit_for_bit(data, cuts):
  trainer, hyper = trainer_of("span"), floats(learning_rate=0.5, dp_clip=1.0, dp_noise=1.0)
  steps = jax.jit(lambda state, n: run(trainer, state, hyper, data, n)[0], static_argnums=1)
  whole = state = jax.jit(trainer.init)(KEY, hyper, data)
  whole = steps(whole, sum(cuts))
  for length in cuts:
    state = steps(state, length)
  for one, other in zip(raw(state), raw(whole), strict=True):
    np.testing.assert_array_equal(one, other)


def test_mapped_it_is_the_loop_and_draws_the_outside_at_the_end_of_a_block_only(data):
  trainer, width = trainer_of("span"), 3
  hyper = floats(learning_rate=0.5, dp_clip=1.0, dp_noise=1.0)
  one = lambda state: run(trainer, state, hyper, data, 7)[0]  # noqa: E731
  starts = [trainer.init(key, hyper, data) for key in KEYS[:width]]
  group = jax.tree.map(lambda *x: jnp.stack(x), *starts)._replace(step=starts[0].step)
  many = jax.vmap(one, in_axes=(STATE_AXES,), out_axes=STATE_AXES)
  mapped = jax.jit(many)(group)
  for i, start in enumerate(starts):
    mine = mapped._replace(step=jnp.stack([mapped.step] * width))
    for x, y in zip(raw(jax.tree.map(lambda x, i=i: x[i], mine)), raw(one(start)), strict=True):
      np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
  # Under a map of steps it would be a choice between both.
  assert jax.jit(many).lower(group).as_text().count("stablehlo.case") == 1


def test_the_rotation_keeps_products_and_every_norm_however_small_or_alike():
  rng = np.random.default_rng(3)
  inputs = np.float32(rng.uniform(size=(12, 50)))
  inputs[3], inputs[4], inputs[5] = inputs[2], 1e-7 * inputs[4], 0
  coordinates, basis = map(np.float64, private_span.rotation_of(inputs))
  np.testing.assert_allclose(basis @ basis.T, np.eye(12), atol=1e-6)
  np.testing.assert_allclose(coordinates @ basis, inputs, atol=2e-6)
  norms = np.linalg.norm(np.float64(inputs), axis=1)
  np.testing.assert_allclose(np.linalg.norm(coordinates, axis=1), norms, rtol=1e-6)


def test_a_diverged_model_is_told(data):
  trainer = trainer_of("span", (*PRIVATE, "weight_decay"))
  hyper = floats(learning_rate=1e20, weight_decay=1e10, dp_clip=1.0, dp_noise=1.0)

  @jax.jit
  def end(state, data):
    state, _ = run(trainer, state, hyper, data, 6)
    return trainer.evaluate(state, data)

  assert not end(trainer.init(KEY, hyper, data), data).finite


@pytest.mark.parametrize(
  ("optimizer", "hidden", "used", "exact"),
  [
    ("sgd", (), PRIVATE, True),
    (OPTIMIZERS["sgd"], (), (*PRIVATE, "weight_decay", "steps", "label_smoothing"), True),
    ("sgd", (), (*PRIVATE, "release_noise", "release_bits"), True),
    ("sgd", (), (), False),
    ("sgd", (4,), PRIVATE, False),
    ("momentum", (), PRIVATE, False),
    (OPTIMIZERS["sgdw"], (), PRIVATE, False),
    *[("sgd", (), (*PRIVATE, name), False) for name in ("clip_norm", "dropout", "input_noise")],
  ],
)
def test_it_serves_plain_sgd_of_linear_models_with_privacy(optimizer, hidden, used, exact):
  assert private_span.is_exact(optimizer, hidden, used) == exact
  assert private_span.is_faster(400, 800) and not private_span.is_faster(400, 799)
