"""Recovery: a planted image comes back exactly, from parameters of any layout."""

import hypothesis
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import jaxinv.recover
from jaxinv.errors import InputError
from jaxinv.recover import (
  ATTACKS,
  class_weights,
  find_kernels,
  recover,
  reshape,
  seed_mean,
  take_path,
  units,
)
from jaxinv.types import Release

SHAPE, CLASSES = (4, 3), 5
RNG = np.random.default_rng(0)
# Whole numbers from 0 to 255, and both of these in every image.
IMAGES = RNG.integers(1, 255, (CLASSES, *SHAPE)).astype(np.float32)
IMAGES[:, 0, 0], IMAGES[:, 1, 1] = 0, 255
KERNEL = jnp.asarray(IMAGES.reshape(CLASSES, -1).T)
normalize = jax.jit(jaxinv.recover.normalize, static_argnames=("mode", "largest"))
quick = hypothesis.settings(max_examples=60, deadline=None)
pictures = hnp.arrays(np.float32, (12,), elements=st.floats(width=32))


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


def test_layers_are_taken_in_the_order_of_their_numbers():
  """`Dense_10` comes after `Dense_2`, though not in the alphabet; all are square but the ends."""
  kernels = [normal(12, 6), *(normal(6, 6) for _ in range(10)), normal(6, CLASSES)]
  params = {f"Dense_{i}": {"kernel": k} for i, k in enumerate(kernels)}
  for found, kernel in zip(find_kernels(params, 12, CLASSES), kernels, strict=True):
    np.testing.assert_array_equal(found, kernel)


def test_square_layers_between_transposed_ones_are_transposed_too():
  kernels = [normal(12, 6), normal(6, 6), normal(6, CLASSES)]
  found = find_kernels({f"{i}.weight": k.T for i, k in enumerate(kernels)}, 12, CLASSES)
  for one, kernel in zip(found, kernels, strict=True):
    np.testing.assert_array_equal(one, kernel)


def test_a_path_chooses_between_heads():
  params = {"heads": {"old": {"kernel": normal(12, CLASSES)}, "new": {"kernel": KERNEL}}}
  np.testing.assert_array_equal(class_weights(params, 12, CLASSES, "heads/new"), KERNEL.T)


@pytest.mark.parametrize(
  ("path", "message"),
  [
    ("heads/newer", "no parameter at 'heads/newer'.*'newer'.*there is old, new"),
    ("tail", "no parameter at 'tail'.*there is heads"),
    ("heads/new/deeper", "no parameter at 'heads/new/deeper'.*'deeper'.*an array"),
  ],
)
def test_a_path_that_leads_nowhere_is_told_with_what_there_is(path, message):
  with pytest.raises(InputError, match=message) as caught:
    take_path({"heads": {"old": KERNEL, "new": KERNEL}}, path)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("params", "num_features", "num_classes"),
  [
    ({"kernel": KERNEL}, 13, CLASSES),
    ({"kernel": KERNEL}, 12, CLASSES + 1),
    ({"kernel": KERNEL}, 13, None),
    ({"bias": jnp.zeros(CLASSES)}, 12, CLASSES),
    ({"conv": jnp.zeros((3, 3, 1, 12))}, 12, None),
    ({}, 12, None),
    ({"a": jnp.zeros((12, 8)), "b": jnp.zeros((7, CLASSES))}, 12, CLASSES),
  ],
)
def test_parameters_that_do_not_fit_are_refused_in_one_line(params, num_features, num_classes):
  with pytest.raises(InputError, match=f"no kernel leads from {num_features} features") as caught:
    find_kernels(params, num_features, num_classes)
  assert "\n" not in str(caught.value)


def test_an_image_shape_that_does_not_fit_is_refused_naming_the_kernels_shape():
  with pytest.raises(InputError, match=r"from 20 features.*kernel.*\(12, 5\)"):
    recover("reshape", Release({"kernel": KERNEL}), (4, 5))


@pytest.mark.parametrize(
  ("attack", "message"),
  [("init_diff", "init_params"), ("seed_mean", "peers"), ("guess", "unknown attack 'guess'")],
)
def test_an_attack_that_lacks_what_it_needs_says_so(attack, message):
  with pytest.raises(InputError, match=message):
    recover(attack, Release({"kernel": KERNEL}), SHAPE)


def test_attacks_do_what_their_names_say_on_the_same_release():
  kernels = normal(3, 12, CLASSES)
  release = Release({"k": kernels[0]}, {"k": kernels[1]}, {"k": kernels})
  raw = {name: attack(release, SHAPE) for name, attack in ATTACKS.items()}
  for name, expected in {
    "reshape": kernels[0],
    "init_diff": kernels[0] - kernels[1],
    "seed_mean": np.float64(kernels).mean(0),
  }.items():
    np.testing.assert_allclose(raw[name], expected.T.reshape(-1, *SHAPE), atol=1e-6)


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


def test_a_square_first_kernel_has_the_orientation_of_the_others():
  rng = np.random.default_rng(0)
  first, second = rng.normal(size=(12, 12)), rng.normal(size=(12, 5))
  as_flax = find_kernels({"a": first, "b": second}, 12, 5)
  as_torch = find_kernels({"0.weight": first.T, "2.weight": second.T}, 12, 5)
  for kernels in (as_flax, as_torch):
    np.testing.assert_array_equal(kernels[0], first)
    np.testing.assert_array_equal(kernels[1], second)
