"""MI-Face: planted faces come back, by the paper's algorithm, and nothing where there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.confidence import invert_class, mi_face
from jaxinv.errors import InputError
from jaxinv.models.dense import make_model
from jaxinv.models.params import dense_logits
from jaxinv.types import Release

SHAPE, CLASSES = (4, 3), 5
RNG = np.random.default_rng(0)
# Faces of noise, which class rows of a linear model hold as they are.
FACE = (16, 16)
FACES = np.random.default_rng(1).uniform(0, 1, (CLASSES, *FACE)).astype(np.float32)
SEPARABLE = {"kernel": jnp.asarray(FACES.reshape(CLASSES, -1).T)}
PERCEPTRON = make_model(CLASSES, (32,))


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order():
  """Each test draws from the beginning, whichever tests ran before it in this process."""
  RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state


def normal(*shape):
  return jnp.asarray(RNG.standard_normal(shape).astype(np.float32))


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
