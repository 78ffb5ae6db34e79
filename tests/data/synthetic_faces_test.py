import sys

import numpy as np
import pytest

from jaxinv.data.synthetic_faces import synthetic_faces
from jaxinv.errors import InputError

# The room offers the function by the name of its module.
synthetic = sys.modules["jaxinv.data.synthetic_faces"]

PEOPLE, IMAGES = 40, 10


@pytest.fixture(scope="module")
def faces():
  return synthetic_faces(0)


@pytest.fixture(scope="module")
def frontal():
  return synthetic_faces(0, pose=0.0)


def by_person(dataset):
  """

  import sysThe images as [people, images, pixels]."""
  return dataset.inputs.reshape(dataset.num_classes, -1, dataset.inputs.shape[1])


def spread(dataset):
  """Root mean square distance of a pixel from the person's mean, for each person."""
  images = by_person(dataset)
  return np.sqrt(((images - images.mean(1, keepdims=True)) ** 2).mean((1, 2)))


def nearest_mean_accuracy(images, labels):
  """Share of two held-out images a person that lie nearest to the mean of their label's others."""
  means = np.stack([images[labels == k, :8].mean((0, 1)) for k in range(PEOPLE)])
  held_out = images[:, 8:].reshape(2 * PEOPLE, -1)
  distances = ((held_out[:, None] - means) ** 2).sum(2)
  return (distances.argmin(1) == np.repeat(np.arange(PEOPLE), 2)).mean()


def test_the_defaults_have_the_form_of_the_att_faces(faces):
  assert faces.inputs.shape == (PEOPLE * IMAGES, 112 * 92) and faces.inputs.dtype == np.float32
  assert faces.labels.dtype == np.int32
  np.testing.assert_array_equal(faces.labels, np.repeat(np.arange(PEOPLE), IMAGES))
  assert faces.num_classes == PEOPLE and faces.image_shape == (112, 92)
  assert faces.names == tuple(f"person {i}" for i in range(1, PEOPLE + 1))


def test_shades_span_the_unit_interval_without_leaving_it(faces):
  assert faces.inputs.min() >= 0 and faces.inputs.max() <= 1
  assert 0.3 < faces.inputs.mean() < 0.6 and faces.inputs.std() > 0.1
  assert (faces.inputs.std(1) > 0.05).all()  # No image is blank.


def test_rows_are_images_row_by_row(frontal):
  mean = frontal.inputs.mean(0).reshape(frontal.image_shape)
  # The mean frontal face is near to its mirror image, but not upside down.
  assert np.abs(mean - mean[:, ::-1]).mean() < 0.2 * np.abs(mean - mean[::-1]).mean()


def test_the_same_seed_gives_the_same_bits(faces):
  np.testing.assert_array_equal(synthetic_faces(0).inputs, faces.inputs)


def test_another_seed_gives_other_people(faces):
  assert np.abs(synthetic_faces(1).inputs - faces.inputs).mean() > 0.02


@pytest.mark.parametrize(("num_people", "images_per_person"), [(3, 10), (40, 2), (5, 13)])
def test_an_image_does_not_depend_on_how_many_others_there_are(
  num_people, images_per_person, faces
):
  other = synthetic_faces(0, num_people=num_people, images_per_person=images_per_person)
  people, images = min(num_people, PEOPLE), min(images_per_person, IMAGES)
  same = by_person(other)[:people, :images], by_person(faces)[:people, :images]
  # Not to the bit: programs for other shapes may round differently.
  np.testing.assert_allclose(*same, atol=1e-3)


def test_pose_is_what_blurs_a_person_s_mean(faces, frontal):
  wide = synthetic_faces(0, pose=2.0)
  assert (spread(frontal) < spread(faces)).mean() > 0.95
  assert spread(frontal).mean() < 0.7 * spread(faces).mean()
  assert spread(faces).mean() < spread(wide).mean()


def test_without_pose_outlines_stand_still_and_light_still_varies(frontal):
  assert (spread(frontal) > 0.01).all()
  images = by_person(frontal).reshape(PEOPLE, IMAGES, 112, 92)
  # Edges of the mean are as strong as those of the images it is made of.
  edges = [np.abs(np.diff(x, axis=-1)).mean() for x in (images.mean(1), images)]
  assert edges[0] > 0.6 * edges[1]


def test_pose_and_seed_compile_nothing_anew(faces):
  count = synthetic._draw_people._cache_size()
  for seed, pose in ((0, 0.5), (2, 0.0), (2**31, 3.0), (-1, 1.0)):
    synthetic_faces(seed, pose=pose)
  assert synthetic._draw_people._cache_size() == count


def test_people_can_be_told_apart(faces):
  labels = np.arange(PEOPLE)
  assert nearest_mean_accuracy(by_person(faces), labels) >= 0.95
  # The control: under labels that name somebody else, nobody is recognised.
  assert nearest_mean_accuracy(by_person(faces), np.roll(labels, 1)) <= 0.1


def test_people_differ_more_than_images_of_a_person(faces):
  means = by_person(faces).mean(1)
  assert np.sqrt(((means - means.mean(0)) ** 2).mean()) > 1.2 * spread(faces).mean()
  assert spread(faces).min() > 0.03  # Nor is a person's face one picture ten times over.


@pytest.mark.parametrize("shape", [(16, 16), (17, 92), (112, 16)])
def test_other_sizes(shape):
  dataset = synthetic_faces(3, num_people=2, images_per_person=1, image_shape=shape)
  assert dataset.inputs.shape == (2, shape[0] * shape[1]) and dataset.image_shape == shape
  assert np.isfinite(dataset.inputs).all() and dataset.inputs.std(1).min() > 0.05


def test_a_small_image_is_the_large_one_reduced(frontal):
  small = synthetic_faces(0, num_people=2, images_per_person=3, image_shape=(56, 46), pose=0.0)
  large = by_person(frontal)[:2, :3].reshape(6, 56, 2, 46, 2).mean((2, 4)).reshape(6, -1)
  for a, b in zip(small.inputs, large, strict=True):
    assert np.corrcoef(a, b)[0, 1] > 0.95


@pytest.mark.parametrize(
  ("arguments", "part"),
  [
    ({"num_people": 1}, "num_people is 1"),
    ({"num_people": 0}, "num_people is 0"),
    ({"images_per_person": 0}, "images_per_person is 0"),
    ({"image_shape": (15, 92)}, "16 pixels"),
    ({"image_shape": (112, 8)}, "16 pixels"),
    ({"pose": -0.1}, "pose is -0.1"),
    ({"pose": 3.01}, "from 0 to 3"),
    ({"pose": float("nan")}, "pose is nan"),
    ({"pose": float("inf")}, "pose is inf"),
  ],
)
def test_arguments_out_of_range(arguments, part):
  with pytest.raises(InputError) as raised:
    synthetic_faces(0, **arguments)
  assert part in str(raised.value) and "\n" not in str(raised.value)
