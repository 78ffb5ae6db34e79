"""Recovery: a planted image comes back exactly, from parameters of any layout."""

from functools import partial

import hypothesis
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st

from jaxinv.attacks.attack import recover
from jaxinv.attacks.weights import (
  class_centred,
  reshape,
  seed_mean,
  units,
  update_ratio,
)
from jaxinv.errors import InputError
from jaxinv.metrics import images as image_metrics
from jaxinv.models.params import class_weights, dense_logits
from jaxinv.types import Release

SHAPE, CLASSES = (4, 3), 5
RNG = np.random.default_rng(0)
# Whole numbers from 0 to 255, and both of these in every image.
IMAGES = RNG.integers(1, 255, (CLASSES, *SHAPE)).astype(np.float32)
IMAGES[:, 0, 0], IMAGES[:, 1, 1] = 0, 255
KERNEL = jnp.asarray(IMAGES.reshape(CLASSES, -1).T)
normalize = jax.jit(image_metrics.normalize, static_argnames=("mode", "largest"))
quick = hypothesis.settings(max_examples=60, deadline=None)
pictures = hnp.arrays(np.float32, (12,), elements=st.floats(width=32))


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order():
  """Each test draws from the beginning, whichever tests ran before it in this process."""
  RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state


def normal(*shape):
  return jnp.asarray(RNG.standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("slope", [1.0, 2.0**-9, 2.0**20])
def test_planted_images_come_back_from_weights_that_are_their_affine_image(slope):
  offset = np.arange(CLASSES, dtype=np.float32)[None] * slope
  release = Release({"Dense_0": {"kernel": slope * KERNEL - offset, "bias": normal(CLASSES)}})
  np.testing.assert_allclose(recover("reshape", release, SHAPE), IMAGES, atol=1e-3)


def test_what_training_added_comes_back_exactly_whatever_it_was_added_to():
  start = jnp.round(100 * normal(12, CLASSES))  # Whole numbers: sums and differences are exact.
  release = Release({"kernel": start + KERNEL}, {"kernel": start})
  np.testing.assert_allclose(recover("init_diff", release, SHAPE), IMAGES, atol=1e-4)
  assert np.abs(recover("reshape", release, SHAPE) - IMAGES).max() > 10  # The start hides them.


@pytest.mark.parametrize(
  "params",
  [
    {"Dense_0": {"kernel": KERNEL, "bias": jnp.zeros(CLASSES)}},
    {"weight": KERNEL.T, "bias": jnp.zeros(CLASSES)},  # As PyTorch keeps it.
    [jnp.zeros(CLASSES), (KERNEL,)],
    {"model": {"head": {"scale": jnp.ones(12), "w": KERNEL}}},
    {"a_table": jnp.ones((2, 9)), "kernel": KERNEL},
    KERNEL,
  ],
  ids=["flax", "torch", "list", "nested", "stray", "bare"],
)
def test_the_kernel_is_found_in_any_pytree(params):
  np.testing.assert_array_equal(class_weights(params, 12, CLASSES), KERNEL.T)
  np.testing.assert_array_equal(reshape(Release(params), SHAPE), IMAGES)


def test_an_mlps_class_weighs_its_units_by_the_layers_after_them():
  first, second, third = normal(12, 8), normal(8, 6), normal(6, CLASSES)
  params = {f"Dense_{i}": {"kernel": k} for i, k in enumerate((first, second, third))}
  expected = np.float64(first) @ np.float64(second) @ np.float64(third)
  np.testing.assert_allclose(class_weights(params, 12, CLASSES), expected.T, rtol=1e-4, atol=1e-5)
  torch = {f"{i}.weight": k.T for i, k in enumerate((first, second, third))}
  np.testing.assert_allclose(class_weights(torch, 12, CLASSES), expected.T, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(units(params, SHAPE), first.T.reshape(8, *SHAPE))
  np.testing.assert_array_equal(units(torch, SHAPE), first.T.reshape(8, *SHAPE))


def test_an_image_shape_that_does_not_fit_is_refused_naming_the_kernels_shape():
  with pytest.raises(InputError, match=r"from 20 features.*kernel.*\(12, 5\)"):
    recover("reshape", Release({"kernel": KERNEL}), (4, 5))


def test_what_all_classes_share_does_not_change_the_centred_weights():
  for common in (0, 100 * normal(12, 1)):
    images = class_centred(Release({"kernel": KERNEL + common}), SHAPE)
    np.testing.assert_allclose(images, IMAGES - IMAGES.mean(0, keepdims=True), atol=1e-3)


def test_a_face_comes_back_from_centred_weights_where_the_others_have_none():
  """The others get -1 / k of it: -1 / (k - 1) of what its own class has."""
  planted = np.zeros_like(IMAGES)
  planted[2] = IMAGES[2]
  kernel = jnp.asarray(planted.reshape(CLASSES, -1).T) + 1000 * normal(12, 1)
  images = class_centred(Release({"kernel": kernel}), SHAPE)
  np.testing.assert_allclose(images[2] * CLASSES / (CLASSES - 1), IMAGES[2], atol=1e-2)
  np.testing.assert_allclose(images[0], -images[2] / (CLASSES - 1), atol=1e-2)


@partial(jax.jit, static_argnames="steps")
def descend(params, inputs, labels, momentum=0.0, steps=1):
  """SGD on a linear softmax classifier, over the whole batch."""

  def loss(params):
    logits = dense_logits(params, inputs)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

  optimizer = optax.sgd(0.5, momentum)
  state = optimizer.init(params)
  for _ in range(steps):
    updates, state = optimizer.update(jax.grad(loss)(params), state)
    params = optax.apply_updates(params, updates)
  return params


def start(scale=1.0):
  return {"kernel": scale * normal(12, CLASSES), "bias": scale * normal(CLASSES)}


def test_softmax_moves_no_mean_over_classes_so_centring_undoes_the_start_but_for_its_own_part():
  params = start()
  after = descend(params, normal(7, 12), jnp.arange(7) % CLASSES, steps=5)
  moved = reshape(Release(after), SHAPE) - reshape(Release(params), SHAPE)
  centred = class_centred(Release(after), SHAPE) - class_centred(Release(params), SHAPE)
  np.testing.assert_allclose(centred, moved, atol=1e-5)


def test_the_ratio_of_one_step_is_the_mean_of_the_inputs_weighted_by_their_residuals():
  params, inputs, labels = start(), normal(7, 12), jnp.array([0, 0, 1, 1, 2, 3, 3])
  after = descend(params, inputs, labels)
  images = update_ratio(Release(after, previous_params=params), SHAPE)
  logits = np.float64(inputs) @ np.float64(params["kernel"]) + np.float64(params["bias"])
  residuals = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(CLASSES)[labels]
  expected = residuals.T @ np.float64(inputs) / residuals.sum(0)[:, None]
  np.testing.assert_allclose(images.reshape(CLASSES, -1), expected, rtol=1e-4, atol=1e-4)


def test_from_zero_weights_a_class_without_examples_gives_the_mean_of_the_batch():
  """And a class with one example of six, among five classes, six times that less five of its own.

  All residuals are 1 / 5, less 1 for the own class: (6 / 5 mean - own) / (6 / 5 - 1).
  """
  params, inputs, labels = start(0.0), normal(6, 12), jnp.array([0, 1, 1, 1, 2, 2])
  images = update_ratio(Release(descend(params, inputs, labels), previous_params=params), SHAPE)
  mean = inputs.mean(0)
  np.testing.assert_allclose(images[4].ravel(), mean, atol=1e-5)
  np.testing.assert_allclose(images[0].ravel(), 6 * mean - 5 * inputs[0], atol=1e-4)


@pytest.mark.parametrize(("momentum", "steps"), [(0.0, 1), (0.0, 9), (0.9, 9)])
def test_a_lone_example_comes_back_exactly_from_every_class_after_any_steps(momentum, steps):
  with jax.enable_x64(True):  # A bias may end where it began, all but for rounding.
    params, example = jax.tree.map(jnp.float64, (start(), normal(1, 12)))
    after = descend(params, example, jnp.array([3]), momentum=momentum, steps=steps)
    images = update_ratio(Release(after, previous_params=params), SHAPE)
  expected = np.tile(np.reshape(example, (1, *SHAPE)), (CLASSES, 1, 1))
  np.testing.assert_allclose(images, expected, rtol=1e-8, atol=1e-8)


def test_the_ratio_is_zeros_where_the_bias_did_not_change_and_finite_everywhere():
  params = start()
  after = {"kernel": params["kernel"] + KERNEL, "bias": params["bias"].at[1:3].add(0.5)}
  after["kernel"] = after["kernel"].at[0, 1].set(jnp.inf).at[0, 2].set(jnp.nan)
  images = update_ratio(Release(after, previous_params=params), SHAPE)
  np.testing.assert_array_equal(images[jnp.array([0, 3, 4])], np.zeros((3, *SHAPE)))
  assert np.isfinite(images).all() and np.abs(images[1:3]).max() > 0


@pytest.mark.parametrize(
  ("params", "previous", "message"),
  [
    ({"kernel": KERNEL}, {"kernel": KERNEL}, "needs a bias beside the kernel"),
    ({"kernel": KERNEL, "bias": jnp.ones(5)}, {"kernel": KERNEL}, "needs a bias"),
    ({"kernel": KERNEL, "bias": jnp.ones(5)}, None, "give previous_params"),
    ({"kernel": KERNEL, "bias": jnp.ones(5)}, {"kernel": KERNEL[:, 1:]}, "to 5 classes"),
    ({"0": KERNEL, "1": jnp.ones((5, 4)), "b": jnp.ones(4)}, {}, "for linear models: .* 2 layers"),
  ],
)
def test_releases_that_have_no_ratio_are_refused_in_one_line(params, previous, message):
  with pytest.raises(InputError, match=message) as caught:
    update_ratio(Release(params, previous_params=previous), SHAPE)
  assert "\n" not in str(caught.value)


def test_seed_mean_is_linear_in_its_peers():
  a, b = normal(6, 12, CLASSES), normal(6, 12, CLASSES)
  images = [seed_mean(Release(None, peers={"k": x}), SHAPE) for x in (a, b, 2 * a - 3 * b)]
  np.testing.assert_allclose(images[2], 2 * images[0] - 3 * images[1], atol=1e-5)


def test_seed_mean_of_pure_noise_shrinks_as_one_over_the_root_of_the_seeds():
  deviation = {}
  for n in (1, 16, 256):
    deviation[n] = float(seed_mean(Release(None, peers={"k": normal(n, 12, 100)}), SHAPE).std())
  # 1,200 values each: their deviation is known to 2 %, so a ratio to 3 %; four of these.
  assert deviation[1] / deviation[16] == pytest.approx(4, rel=0.12)
  assert deviation[1] / deviation[256] == pytest.approx(16, rel=0.12)
