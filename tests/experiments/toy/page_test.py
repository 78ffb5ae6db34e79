"""The page of the toy says that averages come out only where they do, and who diverged."""

from dataclasses import replace

import numpy as np
import pytest

from jaxinv.experiments.outcome import summarize_arm
from jaxinv.experiments.settings import Arm
from jaxinv.experiments.toy import groups, page, toy
from jaxinv.types import Hyper

pytestmark = pytest.mark.usefixtures("undrawn")

CONFIG = {
  "versions": {"python": "3.11"},
  "device": {"kind": "cpu", "count": 1},
  "precision": "default",
  "git_revision": None,
  "flags": {},
}


@pytest.fixture
def write(tmp_path):
  """Runs an experiment, its outcome changed, and returns the page's text."""

  def write(settings, change=lambda outcome: outcome):
    outcome = change(groups.run(settings))
    summary = {settings.arm.name: summarize_arm(outcome.measures, outcome.healthy)}
    first = toy.draw(settings, [0])
    drawn = np.asarray(first.inputs[0]), np.asarray(first.labels)
    data = page.PageData(settings, outcome, summary, CONFIG, "python -m x", *drawn)
    return page.write_page(tmp_path, data).read_text()

  return write


def test_averages_come_out_of_models_that_learned(write, settings):
  text = write(replace(settings, steps=3000, chunk=3000, num_seeds=2))
  assert "Out come the average points" in text and "do not come out" not in text
  assert text.count("data:image/png;base64,") == 2 and "w11: x to class 1" in text
  assert "the direction of the class's own average" in text  # As the clouds mirror each other.


@pytest.mark.parametrize("change", [{"spread": 1000.0}, {"steps": 0}])
def test_what_was_not_learned_is_said_not_to_come_out(write, settings, change):
  text = write(replace(settings, **change))
  assert "do not come out" in text and "Out come the average points" not in text


def test_seeds_that_diverged_are_named_and_all_may(write, settings):
  def without_one(outcome):
    return outcome._replace(healthy=np.array([True, True, False, True]))

  text = write(settings, without_one)
  assert "Seeds 2 diverged" in text and "3 of 4 seeds" in text
  wild = replace(settings, arm=Arm("wild", "sgd", Hyper(learning_rate=1e9)), loss="squared")
  text = write(wild)
  assert "Seeds 0, 1, 2, 3 diverged" in text and "data:image" not in text


def test_means_that_do_not_balance_are_said_not_to_and_adam_to_divide(write, settings):
  arm = Arm("adam", "adam", Hyper(learning_rate=0.01))
  means = ((3.0, 0.0), (-1.0, 0.0), (0.0, 2.0))
  text = write(replace(settings, arm=arm, means=means, loss="softmax"))
  assert "3 Gaussians" in text and "do not balance around the origin" in text
  assert "adam divides each weight" in text
