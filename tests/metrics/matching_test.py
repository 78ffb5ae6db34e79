"""Resemblance: planted people are named, and nobody is by chance, not even among faces of others.

The controls are models trained here, in numpy: their weights have faces in them, but of others.
"""

import os

import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxinv.data.att import load_att
from jaxinv.data.synthetic_faces import synthetic_faces
from jaxinv.metrics import matching
from jaxinv.metrics.matching import FEWEST_PEOPLE, person_means, prepare, resemble
from jaxinv.types import References

SHAPE = (14, 12)
ALPHA = 0.05


def rng(seed=0):
  return np.random.default_rng(seed)


def make_references(images, person=None):
  """References of images in 0..255; each a person of its own, where nobody says whose it is."""
  grouped = person is not None
  person = np.asarray(person) if grouped else np.arange(len(images))
  names = tuple(f"s{i + 1}" for i in range(person.max() + 1))
  files = tuple(f"{i}.png" for i in range(len(images)))
  return References(np.float32(images), person, names, files, grouped)


def plant(num_people=12, per_person=4, channels=1, seed=0):
  """People that have a mean in common and are independent besides."""
  shape = (num_people, *SHAPE, channels)
  means = 128 + 20 * rng(seed).standard_normal((1, *shape[1:])) + 20 * rng(1).standard_normal(shape)
  images = np.repeat(means, per_person, 0)
  images = images + 5 * rng(2).standard_normal(images.shape)
  return make_references(images, np.repeat(np.arange(num_people), per_person))


def centred_faces(references):
  means = person_means(references)
  return means - means.mean(0, keepdims=True)


def flagged(p_values, alpha=ALPHA):
  return scipy.stats.false_discovery_control(p_values) <= alpha


def most(share, count, sigmas=3.0):
  """The largest share that `count` draws of that probability give but for bad luck."""
  return share + sigmas * np.sqrt(share * (1 - share) / count)


def train(inputs, labels, steps=400, learning_rate=0.1, seed=0):
  """Softmax regression by gradient descent: one image of weights a class.

  The weights are the initial ones plus a sum of the examples, of which the shares are followed.
  """
  targets = np.eye(labels.max() + 1)[labels]
  start = rng(seed).uniform(-1, 1, (targets.shape[1], inputs.shape[1])) / inputs.shape[1] ** 0.5
  gram, logits, shares = inputs @ inputs.T, inputs @ start.T, np.zeros(targets.shape)
  for _ in range(steps):
    chances = scipy.special.softmax(logits + gram @ shares, axis=1)
    shares -= learning_rate * (chances - targets) / len(inputs)
  assert ((logits + gram @ shares).argmax(1) == labels).mean() > 0.95
  return start + shares.T @ inputs


# ---- What is computed ----------------------------------------------------------------------------


def test_the_means_are_those_of_the_people():
  references = plant()
  order = rng().permutation(len(references.images))
  mixed = references._replace(images=references.images[order], person=references.person[order])
  expected = [references.images[references.person == i].mean(0) for i in range(12)]
  np.testing.assert_allclose(person_means(mixed), expected, rtol=1e-6)


def test_planted_people_are_named_with_their_own_photographs():
  references = plant()
  images = centred_faces(references) + 20 * rng().standard_normal((12, *SHAPE, 1))
  match = resemble(images, references, two_sided=False)
  np.testing.assert_array_equal(match.person, np.arange(12))
  assert match.p_values.max() < 1e-3
  assert (references.person[match.nearest] == np.arange(12)[:, None]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_correlations_are_pearsons_with_what_people_do_not_share(channels):
  references = plant(channels=channels)
  images = np.float32(rng().standard_normal((5, *SHAPE, channels)))
  match = resemble(images, references, two_sided=False, num_nearest=4)
  flat = images.reshape(5, -1)
  photographs = references.images - person_means(references).mean(0, keepdims=True)
  table = np.corrcoef(flat, photographs.reshape(48, -1))[:5, 5:]
  np.testing.assert_array_equal(match.nearest, np.argsort(-table, axis=1)[:, :4])
  np.testing.assert_allclose(match.nearest_ncc, -np.sort(-table, axis=1)[:, :4], atol=1e-5)
  faces = centred_faces(references).reshape(12, -1)
  expected = [np.corrcoef(x, faces[i])[0, 1] for x, i in zip(flat, match.person, strict=True)]
  np.testing.assert_allclose(match.person_ncc, expected, atol=1e-5)


def test_a_persons_own_part_is_the_residual_of_a_ridge_regression_on_the_others():
  references = plant()
  people = prepare(references)
  faces = centred_faces(references).reshape(12, -1)
  shared = person_means(references).mean(0).ravel()
  faces, shared = (x - x.mean(-1, keepdims=True) for x in (faces, shared))
  faces = faces - np.outer(faces @ shared, shared) / (shared @ shared)
  ridge = matching.RIDGE * np.square(faces).sum() / 11**0.5
  for i in range(12):
    others = np.delete(faces, i, 0)
    weights = np.linalg.solve(others @ others.T + ridge * np.eye(11), others @ faces[i])
    residual = faces[i] - weights @ others
    np.testing.assert_allclose(people.own[i], residual / np.linalg.norm(residual), atol=1e-6)


@pytest.mark.parametrize("two_sided", [False, True])
def test_the_test_is_of_a_score_foretold_from_all_others(two_sided):
  """Student's t of one value against a sample, as textbooks have it, for the best of all people."""
  references = plant()
  images = rng().standard_normal((50, *SHAPE, 1))
  match = resemble(images, references, two_sided)
  flat = images.reshape(50, -1) - images.reshape(50, -1).mean(1, keepdims=True)
  scores = flat @ prepare(references).own.T.astype(np.float64)
  for row, person, p_value in zip(scores, match.person, match.p_values, strict=True):
    t = []
    for i in range(12):
      others = np.delete(row, i)
      t.append((row[i] - others.mean()) / (others.std(ddof=1) * np.sqrt(1 + 1 / 11)))
    t = np.abs(t) if two_sided else np.array(t)
    assert person == t.argmax()
    chance = 12 * (1 + two_sided) * scipy.stats.t.sf(t.max(), 10)
    assert p_value == pytest.approx(min(1, chance), rel=1e-3)


def test_chunks_change_nothing(monkeypatch):
  references = plant()
  images = rng().standard_normal((33, *SHAPE, 1))
  whole = resemble(images, references, two_sided=True)
  monkeypatch.setattr(matching, "_CHUNK", 5 * 14 * 12)
  for one, other in zip(whole, resemble(images, references, two_sided=True), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


def test_people_may_be_prepared_once():
  references = plant()
  images = rng().standard_normal((3, *SHAPE, 1))
  again = resemble(images, references, False, people=prepare(references))
  for one, other in zip(resemble(images, references, False), again, strict=True):
    np.testing.assert_array_equal(one, other)


# ---- Signs, units, constants ---------------------------------------------------------------------


def test_a_negative_of_a_face_counts_only_where_both_signs_do():
  references = plant()
  images = -centred_faces(references)
  match = resemble(images, references, two_sided=True)
  np.testing.assert_array_equal(match.person, np.arange(12))
  assert match.p_values.max() < 1e-3 and match.person_ncc.max() < -0.9
  assert (references.person[match.nearest] == np.arange(12)[:, None]).all()
  assert (np.diff(match.nearest_ncc, axis=1) >= 0).all() and match.nearest_ncc.max() < 0
  one_sided = resemble(images, references, two_sided=False)
  assert not flagged(one_sided.p_values).any() and (one_sided.nearest_ncc[:, 0] > 0).all()


def test_of_a_positive_both_signs_cost_a_factor_of_two():
  references = plant()
  images = centred_faces(references) + 60 * rng().standard_normal((12, *SHAPE, 1))
  one, two = (resemble(images, references, two_sided=both).p_values for both in (False, True))
  np.testing.assert_allclose(two, 2 * one, rtol=1e-9)


@pytest.mark.parametrize("scale, offset", [(1e-6, 0), (1e6, 3e6), (1e30, 0), (1e-30, 0)])
def test_unit_and_offset_of_an_image_do_not_matter(scale, offset):
  references = plant()
  images = centred_faces(references)
  match = resemble(images, references, two_sided=False)
  other = resemble(np.float32(scale * images + offset), references, two_sided=False)
  np.testing.assert_array_equal(match.nearest, other.nearest)
  np.testing.assert_allclose(match.person_ncc, other.person_ncc, atol=1e-4)


@pytest.mark.parametrize("two_sided", [False, True])
def test_constant_images_resemble_nobody(two_sided):
  images = np.stack([np.full((*SHAPE, 1), value) for value in (0.0, 0.1, -1e30, np.nan, np.inf)])
  match = resemble(np.float32(images), plant(), two_sided)
  assert (match.p_values == 1).all()
  assert (match.person_ncc == 0).all() and (match.nearest_ncc == 0).all()


def test_a_value_that_is_not_finite_counts_as_0():
  references = plant()
  images = np.float32(centred_faces(references))
  images[:, 0, 0] = 0
  harmed = images.copy()
  harmed[:, 0, 0] = np.array([np.nan, np.inf, -np.inf] * 4)[:, None]
  for one, other in zip(
    resemble(images, references, False), resemble(harmed, references, False), strict=True
  ):
    np.testing.assert_array_equal(one, other)


def test_no_image_gives_no_match():
  match = resemble(np.zeros((0, *SHAPE, 1)), plant(), two_sided=True)
  assert match.nearest.shape == (0, 3) and match.p_values.shape == (0,)


@pytest.mark.parametrize("count", range(1, 6))
def test_among_fewer_than_5_people_nobody_can_stand_out(count):
  references = plant(num_people=count, per_person=1)
  images = references.images - 128
  match = resemble(images, references, two_sided=False)
  assert match.nearest.shape == (count, min(3, count))
  assert (match.p_values < 1e-2).all() if count == FEWEST_PEOPLE else (match.p_values == 1).all()


def test_people_who_are_all_alike_cannot_be_told_apart():
  references = make_references(np.tile(plant(1, 1).images, (8, 1, 1, 1)), np.arange(8))
  match = resemble(references.images, references, two_sided=True)
  assert (match.p_values == 1).all() and (match.nearest_ncc == 0).all()


# ---- What is no match ----------------------------------------------------------------------------


def smooth(count, shape, scale, seed=0):
  """Noise with a Fourier spectrum that falls beyond a wave length of so many pixels."""
  waves = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij"))
  noise = np.fft.fft2(rng(seed).standard_normal((count, *shape)))
  return np.fft.ifft2(noise * np.exp(-((scale * waves) ** 2))[None]).real[..., None]


@pytest.fixture(scope="module")
def faces():
  """60 people, drawn, 8 images each, of 28 x 23 pixels; as `by` takes them."""
  return synthetic_faces(0, num_people=60, images_per_person=8, image_shape=(28, 23))


def by(dataset, people, each=slice(None), pool=False):
  """References of some people's images, in the order of the people's numbers."""
  index = np.concatenate([np.flatnonzero(dataset.labels == i)[each] for i in np.sort(people)])
  images = 255 * dataset.inputs[index].reshape(-1, *dataset.image_shape, 1)
  return make_references(images, None if pool else np.searchsorted(people, dataset.labels[index]))


@pytest.mark.parametrize("num_people", [10, 40])
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("scale", [0, 3, 12])
def test_noise_is_called_a_match_no_more_often_than_alpha(faces, num_people, two_sided, scale):
  images = smooth(1000, faces.image_shape, scale)
  p_values = resemble(images, by(faces, np.arange(num_people)), two_sided).p_values
  assert (p_values <= ALPHA).mean() <= most(ALPHA, 1000)
  assert (p_values <= 0.01).mean() <= most(0.01, 1000)
  assert flagged(p_values).mean() <= 0.002
  assert (p_values <= 0.2).mean() > 0.05  # Nor is it a test that never finds anything.


def test_the_mean_of_everybody_is_nobody(faces):
  """Clear, inverted, of a few people only, and in noise."""
  references = by(faces, np.arange(40))
  means = person_means(references)
  few = np.stack([means[rng(i).choice(40, 8, replace=False)].mean(0) for i in range(100)])
  noise = means.std() * rng().standard_normal((100, *means.shape[1:]))
  everybody = means.mean(0, keepdims=True)
  for images in (everybody, everybody + 0.1 * noise, everybody + noise, few):
    for signed in (images, -images):
      assert not flagged(resemble(signed, references, two_sided=True).p_values).any()
  assert resemble(everybody, references, two_sided=False).p_values[0] == 1


def test_of_several_people_in_equal_parts_none_stands_out():
  """Of two each still does a little, and of five no longer."""
  references = plant(num_people=20)
  one = centred_faces(references)
  two, five = (sum(np.roll(one, i, 0) for i in range(n)) for n in (2, 5))
  alone, both, all_five = (resemble(x, references, False).p_values for x in (one, two, five))
  assert alone.max() < 1e-8 and both.min() > 1e-3 and all_five.min() > 0.2


def controls(dataset, splits, num_references=20, pool=False):
  """Shares of classes flagged: of people that the model never saw, and of its own, named right."""
  count, false, hits, own = dataset.num_classes, [], [], []
  for seed in range(splits):
    order = rng(seed).permutation(count)
    seen, others = np.sort(order[:20]), np.sort(order[20 : 20 + num_references])
    index = np.flatnonzero(np.isin(dataset.labels, seen))
    inputs = np.float64(dataset.inputs[index])
    weights = train(inputs, np.searchsorted(seen, dataset.labels[index]), seed=seed)
    images = weights.reshape(20, *dataset.image_shape, 1)
    false.append(flagged(resemble(images, by(dataset, others, pool=pool), False).p_values))
    for shares, people in ((hits, np.union1d(seen, others)), (own, seen)):
      match = resemble(images, by(dataset, people, pool=pool), False)
      named = match.person if not pool else match.person // (len(index) // 20)
      shares.append(flagged(match.p_values) & (people[named] == seen))
  return tuple(map(np.mean, (false, hits, own)))


def test_models_of_others_match_nobody_and_models_of_these_people_do(faces):
  """Weights that are faces, and have minus the other people's in them; 100 classes."""
  false, hits, own = controls(faces, splits=5)
  assert false <= ALPHA and hits > 0.95 and own > 0.9


def test_control_correlations_alone_would_call_others_a_match(faces):
  """Each model's classes resemble somebody among 40 strangers more than noise resembles anybody."""
  index = np.flatnonzero(faces.labels < 20)
  weights = train(np.float64(faces.inputs[index]), faces.labels[index])
  images = weights.reshape(20, *faces.image_shape, 1)
  references = by(faces, np.arange(20, 60))
  noise = smooth(200, faces.image_shape, 0)
  ncc, chance = (resemble(x, references, False).nearest_ncc[:, 0] for x in (images, noise))
  assert (ncc > np.quantile(chance, 0.99)).mean() > 0.5
  assert not flagged(resemble(images, references, False).p_values).any()


def test_control_shuffled_names_are_not_confirmed(faces):
  """The test finds whose face it is: with references dealt out anew, nobody's face is whole."""
  index = np.flatnonzero(faces.labels < 20)
  weights = train(np.float64(faces.inputs[index]), faces.labels[index])
  references = by(faces, np.arange(20))
  shuffled = references._replace(person=rng().permutation(references.person))
  images = weights.reshape(20, *faces.image_shape, 1)
  whole, mixed = (flagged(resemble(images, x, False).p_values) for x in (references, shuffled))
  assert whole.mean() > 0.9 and mixed.mean() < 0.3


def test_with_very_many_people_some_serve_to_tell_what_all_share(faces, monkeypatch):
  """Fewer are found then, but the right ones, and nobody by chance."""
  monkeypatch.setattr(matching, "_MOST_REGRESSORS", 20)
  references = by(faces, np.arange(40))
  index = np.flatnonzero(faces.labels < 20)
  weights = train(np.float64(faces.inputs[index]), faces.labels[index])
  match = resemble(weights.reshape(20, *faces.image_shape, 1), references, two_sided=False)
  np.testing.assert_array_equal(match.person, np.arange(20))
  assert flagged(match.p_values).mean() > 0.2
  noise = resemble(smooth(1000, faces.image_shape, 3), references, two_sided=False)
  assert (noise.p_values <= ALPHA).mean() <= most(ALPHA, 1000)


def test_one_pool_finds_people_too_and_still_no_others(faces):
  """Fewer than with folders: 7 more photographs of the same person are among the others."""
  false, hits, own = controls(faces, splits=2, pool=True)
  assert false <= ALPHA and hits > 0.6 and own > 0.3


# ---- The real faces ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def att():
  root = os.environ.get("JAXINV_DATA")
  if not root or not os.path.isdir(os.path.join(root, "att_faces")):
    pytest.skip("JAXINV_DATA names no folder with att_faces/")
  return load_att(root)


@pytest.mark.parametrize("two_sided", [False, True])
def test_noise_matches_no_real_face(att, two_sided):
  images = rng().standard_normal((1000, *att.image_shape, 1))
  p_values = resemble(images, by(att, np.arange(40)), two_sided).p_values
  assert (p_values <= ALPHA).mean() <= most(ALPHA, 1000) and not flagged(p_values).any()


def test_real_faces_of_others_are_no_match_and_those_trained_on_are(att):
  """Measured over 60 splits: 0.001 of others, and 1.000 of the model's own."""
  false, hits, own = controls(att, splits=2)
  assert false <= ALPHA and hits > 0.97 and own > 0.97
