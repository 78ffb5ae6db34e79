"""Measures: numpy's and scikit-image's values, and defined ones where those have none."""

import hypothesis
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics
from hypothesis import strategies as st

from jaxinv.errors import InputError
from jaxinv.metrics import images as metrics

correlations, identification, ncc, psnr, ssim = (
  jax.jit(getattr(metrics, name))
  for name in ("correlations", "identification", "ncc", "psnr", "ssim")
)
RNG = np.random.default_rng(0)
normalize = jax.jit(metrics.normalize, static_argnames=("mode", "largest"))
quick = hypothesis.settings(max_examples=60, deadline=None)
pictures = hnp.arrays(np.float32, (12,), elements=st.floats(width=32))
pixels = hnp.arrays(np.int16, (12,), elements=st.integers(-300, 300))


def pair(shape, noise=0.5):
  a = RNG.uniform(size=shape)
  return tuple(x.astype(np.float32) for x in (a, a + noise * RNG.standard_normal(shape)))


def unit(x):
  x = np.float64(x)
  return (x - x.min()) / (x.max() - x.min())


def ssim_of(a, b):
  """Of one pair."""
  (value,) = ssim(jnp.asarray(a)[None], jnp.asarray(b)[None])
  return float(value)


def window_ssim(a, b):
  """By its definition: a Gaussian window, odd and at most 11, at every place where it fits in."""
  sizes = [min(11, n if n % 2 else n - 1) for n in a.shape]
  window = np.outer(*(np.exp(-0.5 * ((np.arange(n) - n // 2) / 1.5) ** 2) for n in sizes))
  window /= window.sum()

  def blur(x):
    views = np.lib.stride_tricks.sliding_window_view(x, sizes)
    return (views * window).sum((-2, -1))

  mean_a, mean_b = blur(a), blur(b)
  var_a, var_b, both = (
    blur(x * y) - p * q
    for x, y, p, q in [(a, a, mean_a, mean_a), (b, b, mean_b, mean_b), (a, b, mean_a, mean_b)]
  )
  top = (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
  return (top / (mean_a**2 + mean_b**2 + 1e-4) / (var_a + var_b + 9e-4)).mean()


@pytest.mark.parametrize("shape", [(11, 11), (13, 17)])
@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_ssim_is_that_of_scikit_image(shape, noise):
  a, b = pair(shape, noise)
  expected = skimage.metrics.structural_similarity(
    unit(a), unit(b), gaussian_weights=True, use_sample_covariance=False, data_range=1
  )
  assert ssim_of(a, b) == pytest.approx(expected, abs=1e-4)
  assert window_ssim(unit(a), unit(b)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [(12, 10), (4, 7), (1, 2)])
def test_ssim_of_small_images_has_a_window_that_fits(shape):
  a, b = pair(shape)
  assert ssim_of(a, b) == pytest.approx(window_ssim(unit(a), unit(b)), abs=1e-4)


def test_ssim_of_a_stack_is_that_of_each_pair_by_itself():
  """Each image scaled by its own extremes, and not by its neighbours'."""
  a, b = pair((3, 12, 10))
  a *= np.float32([1, 50, 1e-3])[:, None, None]
  values = ssim(jnp.asarray(a), jnp.asarray(b))
  expected = [window_ssim(unit(x), unit(y)) for x, y in zip(a, b, strict=True)]
  assert values.shape == (3,) and np.std(expected) > 1e-3
  np.testing.assert_allclose(values, expected, atol=1e-4)


def test_ssim_and_psnr_of_colours_are_those_of_scikit_image():
  """Scaled as a whole; similarity is the mean over channels."""
  a, b = pair((13, 17, 3), 0.3)
  expected = skimage.metrics.structural_similarity(
    *(unit(a), unit(b)),
    gaussian_weights=True,
    use_sample_covariance=False,
    data_range=1,
    channel_axis=-1,
  )
  assert ssim_of(a, b) == pytest.approx(expected, abs=1e-4)
  expected = skimage.metrics.peak_signal_noise_ratio(unit(a), unit(b), data_range=1)
  assert float(psnr(jnp.asarray(a), jnp.asarray(b))) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("shape", [(13, 17), (4, 3)])
def test_psnr_is_that_of_scikit_image(shape):
  a, b = pair(shape)
  expected = skimage.metrics.peak_signal_noise_ratio(unit(a), unit(b), data_range=1)
  assert float(psnr(jnp.asarray(a), jnp.asarray(b))) == pytest.approx(expected, abs=1e-3)


def test_an_image_equals_itself_in_every_measure():
  a = jnp.asarray(pair((13, 11))[0])
  assert float(ncc(a, 3 * a + 5)) == pytest.approx(1, abs=1e-5)
  assert ssim_of(a, a) == pytest.approx(1, abs=1e-6)
  assert float(psnr(a, a)) == pytest.approx(100)


@pytest.mark.parametrize("shape", [(13, 11), (4, 3), (7,), (5, 4, 3)])
def test_ncc_is_numpys_correlation(shape):
  a, b = pair(shape)
  expected = np.corrcoef(a.ravel(), b.ravel())[0, 1]
  assert float(ncc(jnp.asarray(a), jnp.asarray(b))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 1.7, 117.3, -3e-5])
@pytest.mark.parametrize("size", [7, 143])
def test_a_constant_image_correlates_with_nothing(value, size):
  """Also where rounding gives its mean another value than its pixels have."""
  flat, other = jnp.full(size, value), jnp.asarray(pair((size,))[0])
  assert abs(float(ncc(flat, other))) < 1e-6
  assert abs(float(ncc(other, flat))) < 1e-6
  assert abs(float(ncc(flat, jnp.full(size, 0.7)))) < 1e-6
  both = correlations(flat.reshape(1, 1, -1), jnp.stack([flat, other])[:, None])
  np.testing.assert_allclose(both, 0, atol=1e-6)


def test_constant_images_have_defined_similarity():
  flat, other = jnp.full((5, 4), 0.3), jnp.asarray(pair((5, 4))[0])
  for measure_of_two in (ssim_of, psnr):
    assert np.isfinite(measure_of_two(flat, other))
    assert np.isfinite(measure_of_two(flat, flat))


@quick
@hypothesis.given(pixels, pixels, st.floats(2**-10, 2**10, width=32), st.integers(-300, 300))
def test_ncc_forgets_unit_and_offset_and_turns_with_the_sign(a, b, slope, offset):
  a, b = a.astype(np.float32), b.astype(np.float32)
  value = float(ncc(jnp.asarray(a), jnp.asarray(b)))
  moved = jnp.asarray(np.float32(slope) * (a + offset))
  assert float(ncc(moved, jnp.asarray(b))) == pytest.approx(value, abs=1e-3)
  assert float(ncc(-moved, jnp.asarray(b))) == pytest.approx(-value, abs=1e-3)
  assert -1 - 1e-5 <= value <= 1 + 1e-5


@quick
@hypothesis.given(pixels, pixels)
def test_ncc_is_the_same_either_way(a, b):
  a, b = (jnp.asarray(x.astype(np.float32)) for x in (a, b))
  assert float(ncc(a, b)) == pytest.approx(float(ncc(b, a)), abs=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_ncc_stands_tiny_and_huge_images(scale):
  a, b = pair((12,))
  value = float(ncc(jnp.asarray(a * np.float32(scale)), jnp.asarray(b)))
  assert value == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-4)


def test_correlations_are_those_of_each_pair():
  a, b = RNG.standard_normal((2, 4, 5, 3)).astype(np.float32)
  expected = np.corrcoef(a.reshape(4, -1), b[:3].reshape(3, -1))[:4, 4:]
  np.testing.assert_allclose(correlations(jnp.asarray(a), jnp.asarray(b[:3])), expected, atol=1e-5)


def test_identification_counts_whose_image_is_closest_to_their_own():
  references = RNG.uniform(size=(6, 5, 4)).astype(np.float32)
  order = np.array([0, 1, 2, 4, 5, 3])  # Three as themselves, three as another.
  assert float(identification(jnp.asarray(references[order]), jnp.asarray(references))) == 0.5


def test_identification_of_noise_is_chance():
  """600 people among 6 at a time: within four standard errors of 1 / 6."""
  shares = []
  for _ in range(100):
    images, references = RNG.standard_normal((2, 6, 5, 4)).astype(np.float32)
    shares.append(float(identification(jnp.asarray(images), jnp.asarray(references))))
  assert abs(np.mean(shares) - 1 / 6) < 4 * np.sqrt(5 / 36 / 600)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 200.1])
def test_a_constant_image_identifies_nobody(value):
  references = jnp.asarray(RNG.uniform(size=(6, 13, 11)).astype(np.float32))
  assert float(identification(jnp.full((6, 13, 11), value), references)) == 0


def test_identical_references_identify_nobody():
  references = jnp.asarray(np.stack([pair((5, 4))[0]] * 6))
  assert float(identification(references, references)) == 0


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
