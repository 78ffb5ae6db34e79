"""Inversion: its steps are their closed form, its images stay where they must, its priors pull."""

import math
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv.attacks import inversion
from jaxinv.attacks.inversion import Victim
from jaxinv.attacks.recipes import INVERSIONS, Inversion
from jaxinv.errors import InputError

SHAPE, CLASSES = (8, 4, 3), 5
PIXELS = math.prod(SHAPE)
RNG = np.random.default_rng(0)
KERNEL = 0.1 * RNG.standard_normal((PIXELS, CLASSES)).astype(np.float32)
LABELS = np.array([0, 1, 1, 4])
MEAN = jnp.asarray(RNG.uniform(0.3, 0.7, PIXELS).astype(np.float32))
KEY = jax.random.key(0)
# Every recipe is a program, and most of a test's time is the compiler's.
QUICKLY = {"xla_backend_optimization_level": 0}
invert = jax.jit(inversion.invert, static_argnums=(0, 1, 4), compiler_options=QUICKLY)
make_starts = jax.jit(inversion.make_starts, static_argnums=(1, 3, 4), compiler_options=QUICKLY)
total_variation = jax.jit(inversion.total_variation, static_argnums=1)


def softmax_loss(kernel, images, labels):
  return optax.softmax_cross_entropy_with_integer_labels(images @ kernel, labels)


def distance(images):
  """Of the batch's mean and variance, of a few linear features, from given ones."""
  features = 3 * images @ KERNEL
  return jnp.abs(features.mean(0) - 1.0).sum() + jnp.abs(features.var(0) - 2.0).sum()


LINEAR = Victim(partial(softmax_loss, KERNEL), distance)
STARTS = np.array(make_starts(KEY, Inversion(spread=0.1), MEAN, len(LABELS), SHAPE))
loss_of = jax.jit(LINEAR.loss)
distance_of = jax.jit(distance)


def run(recipe, victim=LINEAR, starts=STARTS, labels=LABELS, key=KEY):
  """Images and trace, in numpy: JAX would compile each later operation by itself."""
  return jax.device_get(
    invert(victim, recipe, jnp.asarray(starts), jnp.asarray(labels), SHAPE, key)
  )


def by_hand(recipe, starts, labels):
  """The same in numpy, one image after the other: loss, ball, box and total variation."""
  results = []
  for start, label in zip(np.float64(starts), labels, strict=True):
    image = start
    for number in range(recipe.steps):
      logits = image @ KERNEL
      chances = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
      gradient = KERNEL @ (chances - np.eye(CLASSES)[label])
      down, right = (np.sign(np.diff(image.reshape(SHAPE), axis=axis)) for axis in (0, 1))
      pulls = -np.diff(down, axis=0, prepend=0, append=0)
      pulls = pulls - np.diff(right, axis=1, prepend=0, append=0)
      gradient = gradient + recipe.total_variation * pulls.reshape(-1)
      length = recipe.step_size * (1 - number / recipe.steps)
      away = image - length * gradient / np.linalg.norm(gradient) - start
      away *= min(1, recipe.radius / np.linalg.norm(away))
      image = np.clip(start + away, 0, 1)
    results.append(image)
  return np.stack(results)


@pytest.mark.parametrize(
  "recipe",
  [
    Inversion(steps=1, step_size=0.1),
    Inversion(steps=5, step_size=0.1),
    Inversion(steps=5, step_size=0.1, radius=0.15),
    Inversion(steps=3, step_size=3.0),
    Inversion(steps=3, step_size=3.0, radius=2.0),
    Inversion(steps=3, step_size=0.1, total_variation=0.2),
  ],
  ids=["one", "five", "ball", "box", "both", "smooth"],
)
def test_the_first_steps_are_their_closed_form_on_a_linear_model(recipe):
  images, _ = run(recipe)
  np.testing.assert_allclose(images, by_hand(recipe, STARTS, LABELS), atol=2e-6)


def test_the_closed_forms_reach_the_ball_and_the_box():
  """Or the test above would show nothing of them."""
  ball = by_hand(Inversion(steps=5, step_size=0.1), STARTS, LABELS) - STARTS
  assert (np.linalg.norm(ball, axis=1) > 0.15).all()
  box = by_hand(Inversion(steps=3, step_size=3.0), STARTS, LABELS)
  assert (box == 0).any() and (box == 1).any()


def test_where_nothing_is_in_the_way_an_image_moves_along_its_class_s_weights():
  victim = Victim(lambda images, labels: -(images @ KERNEL)[jnp.arange(len(labels)), labels])
  recipe = Inversion(steps=10, step_size=0.02)
  images, _ = run(recipe, victim, np.full((4, PIXELS), 0.5, np.float32))
  weights = KERNEL.T[LABELS]
  # 1 + 0.9 + ... + 0.1 = 5.5 first steps.
  expected = 0.5 + 5.5 * 0.02 * weights / np.linalg.norm(weights, axis=1, keepdims=True)
  np.testing.assert_allclose(images, expected, atol=2e-6)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_a_step_has_its_length_whatever_the_gradient_s(factor):
  scaled = Victim(lambda images, labels: factor * (images @ KERNEL)[:, 0])
  plain = Victim(lambda images, labels: (images @ KERNEL)[:, 0])
  recipe = Inversion(steps=3)
  np.testing.assert_allclose(run(recipe, scaled)[0], run(recipe, plain)[0], atol=2e-6)


@pytest.mark.parametrize("slope", [0.0, math.nan])
def test_an_image_without_a_usable_gradient_stays_and_disturbs_no_other(slope):
  def loss(images, labels):
    return LINEAR.loss(images, labels) * jnp.where(jnp.arange(len(labels)) == 1, slope, 1.0)

  images, _ = run(Inversion(steps=3), Victim(loss))
  np.testing.assert_array_equal(images[1], STARTS[1])
  np.testing.assert_array_equal(images[2:], run(Inversion(steps=3))[0][2:])


@pytest.mark.parametrize(
  ("name", "radius"), [*((name, 0.3) for name in INVERSIONS), ("priors", math.inf)]
)
def test_no_image_leaves_its_ball_or_the_box(name, radius):
  recipe = INVERSIONS[name]._replace(radius=radius, steps=12, step_size=1.0)
  starts = np.array(make_starts(KEY, recipe, MEAN, len(LABELS), SHAPE))
  images, _ = run(recipe, starts=starts)
  assert images.min() >= 0 and images.max() <= 1
  assert np.linalg.norm(images - starts, axis=1).max() <= radius * (1 + 1e-5)
  assert np.abs(images - starts).max() > 0.01


def test_the_trace_is_the_loss_before_each_step():
  images, trace = run(Inversion(steps=7, scales=(2, 1)))
  assert trace.shape == (14, len(LABELS))
  blocks = STARTS.reshape(4, 4, 2, 2, 2, 3).mean((2, 4), keepdims=True)
  blocks = np.broadcast_to(blocks, (4, 4, 2, 2, 2, 3)).reshape(4, PIXELS)
  np.testing.assert_allclose(trace[0], loss_of(blocks, LABELS), rtol=1e-5)
  _, shorter = run(Inversion(steps=3))
  before, _ = run(Inversion(steps=1))
  np.testing.assert_allclose(shorter[1], loss_of(before, LABELS), rtol=1e-4)
  assert (loss_of(images, LABELS) < trace[-1]).all()


@pytest.mark.parametrize(("scale", "radius"), [(2, 0.2), (4, math.inf)])
def test_at_a_coarse_scale_an_image_is_blocks_and_gains_all_the_same(scale, radius):
  recipe = Inversion(steps=20, scales=(scale,), radius=radius)
  images, trace = run(recipe)
  blocks = np.array(images).reshape(4, 8 // scale, scale, 4 // scale, scale, 3)
  assert (blocks == blocks[:, :, :1, :, :1]).all()
  assert (loss_of(images, LABELS) < trace[0]).all()


def test_a_coarse_step_is_the_gradient_by_the_blocks_values():
  """By autodiff through repeating each value: its direction, as long as the step is to be."""

  def loss_of_blocks(values):
    image = jnp.repeat(jnp.repeat(values, 4, 0), 4, 1).reshape(1, -1)
    return LINEAR.loss(image, LABELS[:1])[0]

  values = STARTS[0].reshape(2, 4, 1, 4, 3).mean((1, 3))
  gradient = np.array(jax.jit(jax.grad(loss_of_blocks))(values))
  step = 0.1 * gradient / np.linalg.norm(gradient) / 4  # A value is 16 pixels: 4 times as long.
  images, _ = run(Inversion(steps=1, scales=(4,)))
  moved = images[0].reshape(2, 4, 1, 4, 3)[:, 0, :, 0]
  np.testing.assert_allclose(moved, values - step, atol=1e-6)


def test_coarse_to_fine_ends_lower_than_each_scale_did():
  recipe = INVERSIONS["coarse_to_fine"]._replace(steps=20)
  images, trace = run(recipe)
  ends = [trace[0], trace[20], trace[40], np.array(loss_of(images, LABELS))]
  assert all((after < before).all() for before, after in pairwise(ends))


def test_scales_compile_the_model_once():
  """A large model's gradient takes long to compile."""

  def traces(scales):
    calls = []

    def loss(images, labels):
      calls.append(1)
      return LINEAR.loss(images, labels)

    run(Inversion(steps=2, scales=scales), Victim(loss))
    return len(calls)

  assert traces((4, 2, 1)) == traces((1,))


def test_the_prior_of_total_variation_lowers_it():
  plain, smooth = (run(Inversion(steps=50, total_variation=w))[0] for w in (0.0, 0.05))
  plain, smooth = (np.array(total_variation(jnp.asarray(x), SHAPE)) for x in (plain, smooth))
  assert (smooth < 0.7 * plain).all()


def test_the_prior_of_statistics_lowers_the_distance_however_large_the_batch():
  for starts, labels in [(STARTS, LABELS), (np.tile(STARTS, (8, 1)), np.tile(LABELS, 8))]:
    plain, near = (
      float(distance_of(run(Inversion(steps=50, statistics=w), LINEAR, starts, labels)[0]))
      for w in (0.0, 0.5)
    )
    assert near < 0.5 * plain


def test_the_prior_of_statistics_pulls_at_an_image_the_same_in_a_batch_of_its_copies():
  """Whose statistics are its own: a batch twice as large changes nothing."""
  recipe = Inversion(steps=5, statistics=0.5)
  one, _ = run(recipe, LINEAR, STARTS[:1], LABELS[:1])
  four, _ = run(recipe, LINEAR, np.tile(STARTS[:1], (4, 1)), np.tile(LABELS[:1], 4))
  np.testing.assert_allclose(four, np.tile(one, (4, 1)), atol=1e-5)


def test_a_model_without_batch_normalisation_ignores_the_weight_of_its_prior():
  victim = Victim(LINEAR.loss)
  with_weight, without = (run(Inversion(steps=3, statistics=w), victim)[0] for w in (1.0, 0.0))
  np.testing.assert_array_equal(with_weight, without)


def test_an_image_s_result_is_the_same_alone_or_among_others():
  recipe = Inversion(steps=5, scales=(2, 1), radius=0.3, jitter=1, flip=True)
  among, trace = run(recipe)
  alone, trace_alone = run(recipe, starts=STARTS[:1], labels=LABELS[:1])
  np.testing.assert_allclose(alone, among[:1], atol=1e-5)
  np.testing.assert_allclose(trace_alone, trace[:, :1], rtol=1e-3)
  starts, labels = STARTS.copy(), LABELS.copy()
  starts[1:3], labels[1:3] = 0.5, 3
  np.testing.assert_allclose(run(recipe, LINEAR, starts, labels)[0][3], among[3], atol=1e-5)


def test_the_same_key_gives_the_same_bits_and_another_does_not():
  recipe = INVERSIONS["priors"]._replace(steps=5)
  first, again, other = (run(recipe, key=jax.random.key(seed))[0] for seed in (1, 1, 2))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 1e-3


def test_restarts_draw_their_own_jitter():
  same = np.tile(STARTS[:1], (4, 1))
  images, _ = run(Inversion(steps=3, jitter=2), starts=same, labels=np.zeros(4, int))
  assert (np.abs(images[1:] - images[:1]).max(1) > 1e-3).all()


@pytest.mark.parametrize("shape", [(8, 4, 3), (8, 12)])
def test_jitter_and_flips_move_whole_pixels_each_way_as_often(shape):
  """What the model sees is one of the start's rolls, mirrored or not, and all of them come."""
  image = jnp.arange(96.0)
  view = partial(inversion._augment, Inversion(jitter=1, flip=True), shape, image)
  seen = jax.jit(lambda key: jax.vmap(view)(jax.random.split(key, 600)))(KEY)
  views = np.stack(
    [
      np.roll(np.array(image).reshape(shape), (down, right), (0, 1))[:, ::mirror].reshape(-1)
      for mirror in (1, -1)
      for down in (-1, 0, 1)
      for right in (-1, 0, 1)
    ]
  )
  counts = (np.array(seen)[:, None] == views[None]).all(2).sum(0)
  assert counts.sum() == 600 and counts.min() > 600 / 18 - 25 and counts.max() < 600 / 18 + 25


def test_without_jitter_and_flips_the_model_sees_the_image():
  np.testing.assert_array_equal(inversion._augment(Inversion(), SHAPE, MEAN, KEY), MEAN)


def test_mapped_over_models_it_is_the_loop_over_models():
  kernels = jnp.asarray(RNG.standard_normal((3, PIXELS, CLASSES)).astype(np.float32))
  keys = jax.random.split(KEY, 3)
  recipe = Inversion(steps=5, scales=(2, 1), jitter=1, total_variation=0.01, radius=0.3)

  def attack(kernel, key):
    victim = Victim(partial(softmax_loss, kernel))
    return inversion.invert(victim, recipe, jnp.asarray(STARTS), jnp.asarray(LABELS), SHAPE, key)

  images, trace = jax.device_get(jax.jit(jax.vmap(attack))(kernels, keys))
  attack = jax.jit(attack)
  for i in range(3):
    alone, trace_alone = jax.device_get(attack(kernels[i], keys[i]))
    np.testing.assert_allclose(images[i], alone, atol=1e-5)
    np.testing.assert_allclose(trace[i], trace_alone, rtol=1e-3, atol=1e-6)


def starts_of(recipe, num=50, mean=MEAN):
  return np.array(make_starts(KEY, recipe, mean, num, SHAPE))


def test_starts_are_what_they_are_called():
  np.testing.assert_array_equal(starts_of(Inversion(start="grey", spread=0.0), 2, None), 0.5)
  mean = starts_of(Inversion(start="mean", spread=0.0), 2)
  np.testing.assert_array_equal(mean, np.stack([MEAN, MEAN]))
  noise = starts_of(Inversion(start="noise", spread=0.0), mean=None)
  # 4,800 draws: the standard error of their mean is 0.004.
  assert abs(noise.mean() - 0.5) < 0.02 and abs(noise.std() - math.sqrt(1 / 12)) < 0.01


@pytest.mark.parametrize("spread", [0.05, 0.1])
def test_starts_differ_by_their_spread(spread):
  starts = starts_of(Inversion(start="grey", spread=spread))
  assert abs(starts.std() / spread - 1) < 0.05
  assert len(np.unique(starts, axis=0)) == 50


def test_starts_stay_images_and_do_not_depend_on_how_many_there_are():
  starts = starts_of(Inversion(spread=1.0))
  assert starts.min() == 0 and starts.max() == 1
  np.testing.assert_array_equal(starts_of(Inversion(spread=1.0), 7), starts[:7])


def test_a_mean_start_needs_a_mean_image():
  with pytest.raises(InputError, match="give mean_image"):
    starts_of(Inversion(), mean=None)


def test_total_variation_is_its_closed_form():
  flat, step = np.full((6, 5, 3), 0.3, np.float32), np.zeros((6, 5, 3), np.float32)
  step[2:] = 0.5  # Five columns of three colours, each with one edge.
  checks = np.indices((6, 5, 3)).sum(0) % 2  # 5 x 5 edges down and 6 x 4 across, of each colour.
  images = np.stack([flat, step, checks]).reshape(3, -1)
  values = total_variation(jnp.asarray(images, float), (6, 5, 3))
  np.testing.assert_allclose(values, [0, 7.5, 3 * 49], rtol=1e-6, atol=1e-6)
  grey = total_variation(jnp.asarray(checks[..., 0].reshape(1, -1), float), (6, 5))
  np.testing.assert_allclose(grey, [49])


def test_the_total_variation_of_a_constant_image_pulls_nowhere():
  gradient = jax.jit(jax.grad(lambda x: total_variation(x, SHAPE).sum()))(jnp.full((2, 96), 0.3))
  np.testing.assert_array_equal(gradient, 0)
