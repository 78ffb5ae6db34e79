"""Every program of examples/ runs as it stands, and says what it found."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxinv
from examples import own_attack

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs_and_is_short(path):
  assert len(path.read_text().splitlines()) < 60
  environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    [sys.executable, str(path)], cwd=ROOT, env=environment, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() and "Traceback" not in done.stderr


def test_the_attack_of_ones_own_smooths_every_colour_by_itself():
  grey = np.random.default_rng(0).random((5 * 4, 2), np.float32)
  colours = grey[:, None] * np.array([1, 2, 3], np.float32)[:, None]  # [pixels, colours, classes]

  def smooth(kernel, shape):
    release = jaxinv.Release({"kernel": kernel}, {"kernel": 0 * kernel})
    return own_attack.smooth_difference(release, shape)

  one = np.asarray(smooth(grey, (5, 4)))
  three = smooth(colours.reshape(60, 2), (5, 4, 3))
  np.testing.assert_allclose(three, one[..., None] * np.array([1, 2, 3]), rtol=1e-4)
  middle = grey.T.reshape(2, 5, 4)[:, 1:4, :3].mean((1, 2))
  np.testing.assert_allclose(one[:, 2, 1], middle, rtol=1e-4)
