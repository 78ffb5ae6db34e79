"""Recovery against a nuisance: the sweep trains at every scale, and sees the blur."""

import numpy as np
import pytest

from jaxinv.ensemble.groups import Host, Stopped
from jaxinv.experiments.faces import pose
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.types import Dataset, Hyper

SCALES = (0.0, 1.0, 3.0)


def shifted(planted: Dataset, scale: float) -> Dataset:
  """Each image of a class moved by its own number of pixels, up to `scale` either way."""
  shifts = np.random.default_rng(1).uniform(-scale, scale, len(planted.labels)).round().astype(int)
  images = planted.inputs.reshape(-1, *planted.image_shape)
  moved = [np.roll(image, shift, axis=1) for image, shift in zip(images, shifts, strict=True)]
  return planted._replace(inputs=np.stack(moved).reshape(planted.inputs.shape))


@pytest.fixture(scope="module")
def swept(planted):
  """A sweep, and what the host was told."""
  arms = (Arm("first", "sgd", Hyper(0.5, init_scale=0.01)), Arm("second", "adam", Hyper()))
  settings = Settings(arms, 3, steps=40, batch_size=0, record_every=40, save_seeds=1, watch=2)
  told = []
  host = Host(advanced=lambda text, n: told.append((text, n)))
  return pose.sweep(settings, SCALES, lambda scale: shifted(planted, scale), host), told


def test_a_sweep_has_a_value_for_each_scale_and_seed(swept):
  found, _ = swept
  assert found.poses == SCALES
  assert found.to_average.shape == found.to_photograph.shape == (3, 3)
  assert found.averages.shape == found.recovered.shape == (3, 13, 11)


def test_the_average_is_recovered_at_any_scale_and_single_photographs_less_and_less(swept):
  found, _ = swept
  assert found.to_average.min() > 0.8
  means = found.to_photograph.mean(1)
  assert means[0] > 0.9 and means[0] > means[1] > means[2]


def test_the_pictures_are_of_the_watched_person(planted, swept):
  found, _ = swept
  own = planted.inputs[planted.labels == 2].mean(0)
  assert np.corrcoef(found.averages[0].ravel(), own)[0, 1] > 0.99
  assert np.corrcoef(found.recovered[0].ravel(), own)[0, 1] > 0.6
  assert found.averages.min() >= 0 and 100 < found.averages.max() <= 255


def test_all_steps_of_the_first_arm_alone_are_told_with_their_scale(swept):
  _, told = swept
  assert sum(n for _, n in told) == 3 * 3 * 40
  assert {text for text, _ in told} == {f"pose {scale}" for scale in SCALES}


def test_a_sweep_can_be_stopped(planted):
  settings = Settings((Arm("a", "sgd", Hyper()),), 1, steps=2, batch_size=0, record_every=1)
  with pytest.raises(Stopped):
    pose.sweep(settings, (0.0,), lambda scale: planted, Host(stop=lambda: True))
