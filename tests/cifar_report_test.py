"""The page of inverted networks: its figures, its numbers, and no claim beyond its intervals."""

import base64
import html

import numpy as np
import pytest
from matplotlib.image import imread

from jaxinv import cifar_report, deep_outcome
from jaxinv.deep_findings import DeepArmFound, DeepFound, Inverted, Neighbours
from jaxinv.nearest import Memorised

SHAPE, NAMES = (8, 8, 3), ("car", "bird", "a $_ <b>")
CONFIG = {
  "versions": {"python": "3.11"},
  "device": {"kind": "cpu", "count": 1},
  "precision": "default",
  "git_revision": None,
  "flags": {"dataset": "cifar10"},
}
FIGURES = {"grid", "restarts", "recognition", "memorisation", "neighbours", "curves", "kernels"}
METRICS = ("verifier_confidence", "own_accuracy", "diversity", "nearer_features", "nearer_pixels")
CLAIM = "It is, beyond chance"


def make_arm(rng, accuracy, p_value) -> DeepArmFound:
  """An arm whose seeds are recognised as often as given; all else is noise."""
  seeds = len(accuracy)

  def draw(*shape):
    return rng.uniform(0, 1, shape)

  near = (rng.integers(0, 12, (3, 2)), draw(3, 2), rng.integers(0, 6, (3, 2)), draw(3, 2))
  measures = {"verifier_accuracy": np.array(accuracy)} | {name: draw(seeds) for name in METRICS}
  inverted = {
    name: Inverted(
      images=draw(seeds, 3, 2, 192),
      measures=measures,
      by_class=draw(seeds, 3),
      memorised={
        "features": Memorised(0.625, 0.0125, p_value, p_value),
        "pixels": Memorised(0.5, 0.0, 0.5, 0.5),
      },
      neighbours=Neighbours(*near),
    )
    for name in ("pgd", "priors")
  }
  curves = ("train_loss", "train_accuracy", "holdout_accuracy")
  own = {name: draw(seeds) for name in (*curves, "robust_accuracy")}
  history = {name: draw(seeds, 4) for name in curves}
  return DeepArmFound(np.arange(4), history, own, inverted, draw(3, 3, 3, 8), {})


def make_found(accuracies, p_value=0.5) -> DeepFound:
  rng = np.random.default_rng(0)
  return DeepFound(
    arms={name: make_arm(rng, values, p_value) for name, values in accuracies.items()},
    verifier={"train_accuracy": 0.95, "holdout_accuracy": 0.875},
    controls={
      "start: mean": {"verifier_accuracy": 0.333, "verifier_confidence": 0.321},
      "test images": {"verifier_accuracy": 0.871, "verifier_confidence": 0.812},
    },
    names=NAMES,
    image_shape=SHAPE,
    train_inputs=rng.uniform(0, 1, (12, 192)),
    train_labels=np.arange(12) % 3,
    test_inputs=rng.uniform(0, 1, (6, 192)),
    test_labels=np.arange(6) % 3,
  )


def write(tmp_path, found) -> tuple[str, dict]:
  """The page's text, and the summary that it is made of."""
  summary = deep_outcome.summarize(found)
  paired = deep_outcome.compare(found)
  story = cifar_report.Story(found, summary, paired, "20 steps of pgd_l2", CONFIG, "python -m x")
  page = cifar_report.write_page(tmp_path, story)
  return html.unescape(page.read_text()), summary


TWO = {"standard": [0.25, 0.5], "robust": [0.75, 0.875]}


def test_all_figures_are_drawn_and_shown(tmp_path):
  text, _ = write(tmp_path, make_found(TWO))
  paths = list((tmp_path / "figures").glob("*.png"))
  assert {path.stem for path in paths} == FIGURES
  for path in paths:
    assert imread(path)[..., :3].std() > 0.01, path.stem
    assert base64.b64encode(path.read_bytes()).decode() in text


def test_numbers_are_those_of_the_summary(tmp_path):
  text, summary = write(tmp_path, make_found(TWO))
  for arm in TWO:
    for metric in ("verifier_accuracy", *METRICS[:3]):
      mean, low, high, _ = summary[arm]["pgd"][metric].values()
      assert f"{mean:.3f} ({low:.3f} to {high:.3f})" in text
    mean, low, high, _ = summary[arm]["model"]["robust_accuracy"].values()
    assert f"{mean:.3f} ({low:.3f} to {high:.3f})" in text
  for number in ("0.321", "0.812", "0.871", "0.875", "0.625", "0.0125"):
    assert number in text
  assert "20 steps of pgd_l2" in text and "Krizhevsky" in text


@pytest.mark.parametrize(("p_value", "claimed"), [(0.5, False), (0.06, False), (0.001, True)])
def test_memory_is_claimed_only_where_the_test_shows_it(tmp_path, p_value, claimed):
  text, _ = write(tmp_path, make_found(TWO, p_value))
  assert (CLAIM in text) == claimed
  assert ("<td>memorised</td>" in text) == claimed


def test_above_chance_is_said_only_where_the_interval_is(tmp_path):
  text, _ = write(tmp_path, make_found(TWO))
  standard, robust = (text.split(f"<b>{arm}</b>: ")[1].split("</p>")[0] for arm in TWO)
  assert "(not told from chance)" in standard and "(above chance)" in robust


@pytest.mark.parametrize("accuracies", [{"standard": [0.5]}, {"a": [0.5], "b": [0.75]}])
def test_one_seed_and_one_arm_have_plain_numbers(tmp_path, accuracies):
  text, _ = write(tmp_path, make_found(accuracies))
  assert "0.500 of the images" in text and "gives no interval" in text
  assert "None" not in text.split("This run")[0] and "nan" not in text.split("data:image")[0]
