"""The animation: a frame a record, in the colours of the data."""

import numpy as np
import planted_faces as planted
import pytest
from PIL import Image

from jaxinv.experiments.faces import animation


@pytest.mark.parametrize(
  "shape", [(6, 5), (6, 5, 1), (6, 5, 3)], ids=["grey", "one_channel", "colour"]
)
def test_every_record_is_a_frame_and_colour_is_colour(shape, tmp_path):
  found = planted.outcome(shape)
  animation.write_animation(tmp_path / "x.gif", found, found.train_means[0, 0])
  with Image.open(tmp_path / "x.gif") as image:
    assert image.n_frames == planted.STEPS
    pixels = np.asarray(image.convert("RGB")).astype(int)
  assert (np.ptp(pixels, 2).max() > 30) == (shape[2:] == (3,))


def test_an_image_is_stretched_to_its_range_and_a_constant_one_is_grey():
  np.testing.assert_array_equal(animation.min_max(np.array([1.0, 3.0, 2.0])), [0, 255, 127.5])
  np.testing.assert_array_equal(animation.min_max(np.full(2, 7.0)), [127, 127])
  assert np.isfinite(animation.min_max(np.array([np.nan, 1.0, np.inf]))).all()
