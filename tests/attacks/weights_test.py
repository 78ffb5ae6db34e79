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

from jaxinv.attacks.attack import ALL, recover
from jaxinv.attacks.confidence import invert_class, mi_face
from jaxinv.attacks.weights import (
  class_centred,
  reshape,
  seed_mean,
  units,
  update_ratio,
)
from jaxinv.errors import InputError
from jaxinv.metrics import images as image_metrics
from jaxinv.models.dense import make_model
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


@pytest.mark.parametrize(
  ("attack", "message"),
  [
    ("init_diff", "init_params"),
    ("seed_mean", "peers"),
    ("update_ratio", "previous_params"),
    ("guess", "unknown attack 'guess'"),
  ],
)
def test_an_attack_that_lacks_what_it_needs_says_so(attack, message):
  with pytest.raises(InputError, match=message):
    recover(attack, Release({"kernel": KERNEL}), SHAPE)


def test_attacks_do_what_their_names_say_on_the_same_release():
  kernels = normal(3, 12, CLASSES)
  one, other = ({"k": kernel, "b": jnp.full(CLASSES, i)} for i, kernel in enumerate(kernels[:2]))
  release = Release(one, other, {"k": kernels}, {**other, "b": jnp.full(CLASSES, 2.0)})
  raw = {attack.name: attack(release, SHAPE) for attack in ALL}
  np.testing.assert_array_equal(raw.pop("mi_face"), mi_face(Release(one), SHAPE))
  for name, expected in {
    "reshape": kernels[0],
    "init_diff": kernels[0] - kernels[1],
    "seed_mean": np.float64(kernels).mean(0),
    "class_centred": kernels[0] - np.float64(kernels[0]).mean(1, keepdims=True),
    "update_ratio": (kernels[0] - kernels[1]) / -2,
  }.items():
    np.testing.assert_allclose(raw.pop(name), expected.T.reshape(-1, *SHAPE), atol=1e-6)
  assert not raw


def test_of_every_attack_it_is_said_what_the_attacker_must_hold():
  """And so it is: the attack fails on all that others hold, and works on what it says."""
  params = {"kernel": KERNEL, "bias": jnp.ones(CLASSES)}
  needs = {
    "weights": {},
    "weights and initial weights": {"init_params": params},
    "several models": {"peers": {"kernel": KERNEL[None]}},
    "two releases": {"previous_params": params},
  }
  assert {attack.knowledge for attack in ALL} == set(needs)
  everything = {name: value for more in needs.values() for name, value in more.items()}
  for attack in ALL:
    assert attack(Release(params, **needs[attack.knowledge]), SHAPE).shape == IMAGES.shape
    for missing in needs[attack.knowledge]:
      with pytest.raises(InputError, match=missing):
        attack(Release(params, **{**everything, missing: None}), SHAPE)


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


# Faces of noise, which class rows of a linear model hold as they are.
FACE = (16, 16)
FACES = np.random.default_rng(1).uniform(0, 1, (CLASSES, *FACE)).astype(np.float32)
SEPARABLE = {"kernel": jnp.asarray(FACES.reshape(CLASSES, -1).T)}
PERCEPTRON = make_model(CLASSES, (32,))


def confidences(params, images):
  logits = dense_logits(params, jnp.asarray(images).reshape(CLASSES, -1))
  return np.diag(jax.nn.softmax(logits))


def correlations(images, others):
  pairs = zip(np.asarray(images), np.asarray(others), strict=True)
  return np.array([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs])


def centred_faces():
  return FACES - FACES.mean(0)


@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1.0, 1e3, 1e20])
def test_mi_face_finds_planted_faces_whatever_the_size_of_the_weights(scale):
  params = jax.tree.map(lambda leaf: scale * leaf, SEPARABLE)
  images = mi_face(Release(params), FACE)
  assert images.min() >= 0 and images.max() <= 1
  assert correlations(images, centred_faces()).min() > 0.5
  if scale >= 1:
    assert confidences(params, images).min() >= 0.99


def test_mi_face_finds_nothing_in_weights_that_never_saw_the_faces():
  weights = [{"kernel": normal(256, CLASSES)}, PERCEPTRON.init(jax.random.key(0), normal(1, 256))]
  for params in weights:
    found = correlations(mi_face(Release(params), FACE), centred_faces())
    assert np.abs(found).mean() < 0.15  # Of 256 pixels by chance: 0.05, give or take 0.02.


def test_mi_face_never_ends_below_the_confidence_in_a_blank_image():
  for scale in (0.01, 1.0, 100.0):
    params = {"kernel": scale * normal(12, CLASSES), "bias": scale * normal(CLASSES)}
    found = confidences(params, mi_face(Release(params), SHAPE, step_size=1.0))
    assert (found >= confidences(params, np.zeros((CLASSES, 12)))).all()


def test_a_class_gives_the_same_face_alone_as_with_the_others_and_with_other_models():
  """They stop at different steps, so one that ran on would show."""
  kernel = SEPARABLE["kernel"] * jnp.array([[1.0, 0.3, 0.1, 0.02, 0.0]])
  models = {"kernel": jnp.stack([kernel, 3 * kernel, SEPARABLE["kernel"]])}
  together = jax.jit(jax.vmap(lambda params: mi_face(Release(params), FACE)))(models)
  images = mi_face(Release({"kernel": kernel}), FACE)
  alone = jax.jit(lambda label: invert_class({"kernel": kernel}, label, 256))
  for label in range(CLASSES):
    expected = alone(label).reshape(FACE)
    np.testing.assert_allclose(images[label], expected, atol=1e-5)
    np.testing.assert_allclose(together[0, label], expected, atol=1e-5)


def reference(weights, bias, label, alpha, beta, gamma, step_size):
  """The rule in NumPy, with the cost as the paper has it: the image, and why it stopped."""

  def confidence(image):
    logits = image @ weights + bias
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()

  images, costs = [np.zeros(len(weights))], [1 - confidence(np.zeros(len(weights)))[label]]
  reason = "alpha"
  for i in range(1, alpha + 1):
    uphill = weights[:, label] - weights @ confidence(images[-1])
    images.append((images[-1] + step_size * uphill / np.sqrt((uphill**2).mean())).clip(0, 1))
    costs.append(1 - confidence(images[-1])[label])
    if i >= beta and costs[i] >= max(costs[i - beta : i]):
      reason = "beta"
      break
    if costs[i] <= gamma:
      reason = "gamma"
      break
  return images[np.argmin(costs)], reason


def test_mi_face_is_the_papers_algorithm_whichever_rule_stops_it():
  reasons = set()
  with jax.enable_x64(True):
    for scale, *rule in [(1, 100, 10, 0.05, 0.02), (1, 7, 2, 0.05, 0.02), (5, 60, 2, 0.05, 0.3)]:
      *weights, bias = scale * np.random.default_rng(5).standard_normal((13, CLASSES))
      weights = np.stack(weights)
      params = {"kernel": jnp.asarray(weights), "bias": jnp.asarray(bias)}
      for label, image in enumerate(mi_face(Release(params), SHAPE, *rule)):
        expected, reason = reference(weights, bias, label, *rule)
        np.testing.assert_allclose(image.ravel(), expected, atol=1e-9)
        reasons.add(reason)
  assert reasons == {"alpha", "beta", "gamma"}


def test_mi_face_climbs_out_of_confidences_that_round_to_nothing():
  kernel, bias = 30 * SEPARABLE["kernel"], jnp.zeros(CLASSES).at[2].set(-200)
  params = {"kernel": kernel, "bias": bias}
  assert confidences(params, np.zeros((CLASSES, 256)))[2] == 0
  assert confidences(params, mi_face(Release(params), FACE))[2] >= 0.99


def test_mi_face_takes_no_more_steps_than_it_may():
  blank = mi_face(Release(SEPARABLE), FACE, alpha=0)
  np.testing.assert_array_equal(blank, np.zeros((CLASSES, *FACE)))
  uphill = centred_faces().reshape(CLASSES, -1)  # Without a bias all classes are alike at blank.
  step = 0.001 * uphill / np.sqrt((uphill**2).mean(1, keepdims=True))
  one = mi_face(Release(SEPARABLE), FACE, alpha=1, step_size=0.001)
  np.testing.assert_allclose(one.reshape(CLASSES, -1), step.clip(0, 1), atol=1e-6)
  with pytest.raises(InputError, match="at least 1, not 0"):
    mi_face(Release(SEPARABLE), FACE, beta=0)


@pytest.mark.parametrize("use_bias", [True, False])
def test_mi_face_finds_planted_faces_through_an_mlp(use_bias):
  """Two units a face, one for each sign; where no bias is, blank is on the fold of all of them."""
  rows = centred_faces().reshape(CLASSES, -1)
  second = jnp.asarray(np.concatenate([np.eye(CLASSES), -np.eye(CLASSES)]).astype(np.float32))
  params = {"a": {"kernel": jnp.asarray(np.concatenate([rows, -rows]).T)}, "b": {"kernel": second}}
  if use_bias:
    params["a"]["bias"], params["b"]["bias"] = 0.1 * normal(2 * CLASSES), 0.1 * normal(CLASSES)
  images = mi_face(Release(params), FACE)
  assert correlations(images, centred_faces()).min() > 0.5
  assert confidences(params, images).min() >= 0.99


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_weights_of_a_model_that_diverged_give_a_finite_image(value):
  images = mi_face(Release({"kernel": SEPARABLE["kernel"].at[3, 2].set(value)}), FACE)
  assert np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1


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


def test_min_max_maps_the_ends_to_0_and_the_largest():
  image = jnp.float32([-3, 1, 5])
  np.testing.assert_array_equal(normalize(image), [0, 127.5, 255])
  np.testing.assert_array_equal(normalize(image, largest=1.0), [0, 0.5, 1])


def test_max_keeps_signs_and_gives_the_largest_magnitude_the_largest_value():
  image = jnp.float32([5.27, -5.25, 0.1, 0])
  np.testing.assert_allclose(
    normalize(image, "max", 2.0), np.float32([5.27, -5.25, 0.1, 0]) / 5.27 * 2, rtol=1e-6
  )


@pytest.mark.parametrize("mode", ["min-max", "max"])
def test_an_image_of_zeros_stays_one(mode):
  np.testing.assert_array_equal(normalize(jnp.zeros(6), mode), np.zeros(6))


@pytest.mark.parametrize("value", [0.1, -7.3, 1e30, 1e-30])
def test_a_constant_image_gives_zeros(value):
  np.testing.assert_array_equal(normalize(jnp.full(6, value)), np.zeros(6))


def test_what_is_not_finite_counts_as_zero():
  image = jnp.float32([np.nan, np.inf, -np.inf, 1, -1])
  np.testing.assert_array_equal(normalize(image), normalize(jnp.float32([0, 0, 0, 1, -1])))


def test_an_unknown_mode_is_named_with_the_known_ones():
  with pytest.raises(InputError, match=r"'range'.*min-max, max"):
    normalize(jnp.zeros(3), "range")


@quick
@hypothesis.given(image=pictures, mode=st.sampled_from(["min-max", "max"]))
@hypothesis.example(image=np.float32([-3e38, 3e38] * 6), mode="min-max")
@hypothesis.example(image=np.float32([1e-45, -1e-45] * 6), mode="max")
def test_any_image_normalises_to_finite_values_within_the_range(image, mode):
  scaled = np.asarray(normalize(jnp.asarray(image), mode))
  low = 0 if mode == "min-max" else -255 * (1 + 1e-6)
  assert np.isfinite(scaled).all() and scaled.min() >= low and scaled.max() <= 255 * (1 + 1e-6)


@quick
@hypothesis.given(
  image=hnp.arrays(np.int16, (12,), elements=st.integers(-500, 500)),
  slope=st.floats(2**-10, 2**10, width=32),
  offset=st.integers(-500, 500),
)
def test_min_max_forgets_unit_and_offset(image, slope, offset):
  image = image.astype(np.float32)
  one, other = (normalize(jnp.asarray(x)) for x in (image, np.float32(slope) * (image + offset)))
  np.testing.assert_allclose(one, other, atol=0.1)
