"""Metrics as values: the means over classes of the single measures, and the caller's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import assert_fails
from jaxinv.metrics import images as of_images
from jaxinv.metrics import metric
from jaxinv.metrics.metric import DEFAULT, Metric, Targets, resolve

measure = jax.jit(metric.measure, static_argnames="metrics")
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(13, 11), (5, 4), (5, 4, 3)])
def test_all_measures_are_the_means_over_classes_of_the_single_ones(shape):
  images, means, held = (255 * RNG.uniform(size=(3, 4, *shape))).astype(np.float32)
  images_, means_, held_ = map(jnp.asarray, (images, means, held))
  values = measure(images_, Targets(means_, held_))

  def correlation(references):
    return np.mean(
      [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(images, references, strict=True)]
    )

  pairs = list(zip(images_, means_, strict=True))
  expected = {
    "ncc": correlation(means),
    "ncc_centred": correlation(means - means.mean(0)),
    "ssim": np.mean([of_images.ssim(x[None], y[None]) for x, y in pairs]),
    "psnr": np.mean([of_images.psnr(x, y) for x, y in pairs]),
    "identification": float(of_images.identification(images_, held_)),
    "excess": correlation(means) - correlation(held),
  }
  assert set(values) == set(expected)
  for name, value in expected.items():
    assert float(values[name]) == pytest.approx(value, abs=1e-4), name


def test_what_used_neither_set_has_no_excess_whatever_their_sizes():
  """Planted: another image of each class. Against the mean of all it would be above 0."""
  rng, found, unequal = np.random.default_rng(3), [], []
  for _ in range(200):
    face = rng.standard_normal((1, 3, 6, 6))
    seen, held, other = (face + rng.standard_normal((m, 3, 6, 6)) for m in (6, 2, 1))
    parts = seen.reshape(3, 2, 3, 6, 6).mean(1)
    truth = [jnp.asarray(x, jnp.float32) for x in (seen.mean(0), held.mean(0), parts)]
    image = jnp.asarray(other[0], jnp.float32)
    found.append(float(measure(image, Targets(*truth), ("excess",))["excess"]))
    unequal.append(float(measure(image, Targets(*truth[:2]), ("excess",))["excess"]))
  error = np.std(found) / np.sqrt(len(found))
  assert error < 0.01 and abs(np.mean(found)) < 3 * error
  assert np.mean(unequal) > 0.04


def test_with_nothing_held_out_there_is_nothing_to_identify_by():
  images = jnp.asarray(RNG.uniform(size=(4, 5, 4)).astype(np.float32))
  assert set(measure(images, Targets(images))) == {"ncc", "ncc_centred", "ssim", "psnr"}


def test_a_metric_of_the_callers_own_is_measured_among_names():
  brightness = Metric("brightness", lambda images, targets: images.mean(), words="mean", unit="%")
  images = jnp.asarray(RNG.uniform(size=(4, 5, 4)).astype(np.float32))
  values = measure(images, Targets(images), metrics=("psnr", brightness))
  assert set(values) == {"psnr", "brightness"}
  assert float(values["brightness"]) == pytest.approx(float(images.mean()))
  assert brightness.label == "mean (%)"
  assert brightness(images, Targets(images)) == images.mean()


def test_a_metric_alone_is_a_list_of_one():
  assert resolve("psnr") == resolve(metric.psnr) == (metric.psnr,)


@pytest.mark.parametrize(
  ("given", "parts"),
  [
    (["psnr", "pnsr"], ["unknown metric 'pnsr'", "ncc, ncc_centred, ssim, psnr"]),
    (["psnr", metric.psnr], ["metric 'psnr' is named twice"]),
  ],
)
def test_what_is_no_metric_is_refused(given, parts):
  assert_fails(lambda: resolve(given), *parts)


def test_the_default_metrics_are_resolved_from_their_names():
  assert resolve([it.name for it in DEFAULT]) == DEFAULT
  assert all(it.label for it in DEFAULT)
