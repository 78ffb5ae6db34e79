"""The page of inverted networks: its figures, its numbers, and no claim beyond its intervals."""

import base64
import html

import pytest
from matplotlib.image import imread

from jaxinv.data.cifar10 import CREDIT
from jaxinv.experiments.networks import outcome, page
from jaxinv.experiments.networks.settings import RobustnessTest
from planted_networks import METRICS, diverge, make_result

pytestmark = pytest.mark.usefixtures("undrawn")

CONFIG = {
  "versions": {"python": "3.11"},
  "device": {"kind": "cpu", "count": 1},
  "precision": "default",
  "git_revision": None,
  "flags": {"dataset": "cifar10"},
}
FIGURES = {"grid", "restarts", "recognition", "memorisation", "neighbours", "curves", "kernels"}
FIGURES |= {"grid-priors", "neighbours-standard"}
CLAIM = "Training images are remembered"


def write(tmp_path, result, **more) -> tuple[str, dict]:
  """The page's text, and the summary that it is made of."""
  summary = outcome.summarize(result)
  paired = outcome.compare(result)
  data = page.PageData(
    result, summary, paired, RobustnessTest(), CONFIG, "python -m x", CREDIT, **more
  )
  return html.unescape(page.write_page(tmp_path, data).read_text()), summary


TWO = {"standard": [0.25, 0.5], "robust": [0.8125, 0.875]}
FIRST = [0.25, 0.5, 0.375, 0.25]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
  """The page of two arms, its summary, and its folder, with all figures drawn."""
  out_dir = tmp_path_factory.mktemp("page")
  return *write(out_dir, make_result(TWO)), out_dir


def test_all_figures_are_drawn_and_shown(drawn):
  text, _, out_dir = drawn
  paths = list((out_dir / "figures").glob("*.png"))
  assert {path.stem for path in paths} == FIGURES
  for path in paths:
    assert imread(path)[..., :3].std() > 0.01, path.stem
    assert base64.b64encode(path.read_bytes()).decode() in text


def test_numbers_are_those_of_the_summary(drawn):
  text, summary, _ = drawn
  for arm in TWO:
    for metric in ("verifier_accuracy", *METRICS[:3]):
      mean, low, high, _ = summary[arm]["pgd"][metric].values()
      assert f"{mean:.3f} ({low:.3f} to {high:.3f})" in text
    mean, low, high, _ = summary[arm]["model"]["robust_accuracy"].values()
    assert f"{mean:.3f} ({low:.3f} to {high:.3f})" in text
  for number in ("0.321", "0.812", "0.871", "0.875", "0.625", "0.0125"):
    assert number in text
  assert "2 restarts of 20 steps of pgd_l2 within a radius of 0.5; 6 of 6 were attacked" in text
  assert "12 training images and 6 test images; no network" in text and "Krizhevsky" in text


@pytest.mark.parametrize(("p_value", "claimed"), [(0.5, False), (0.06, False), (0.001, True)])
def test_memory_is_claimed_only_where_the_test_shows_it(tmp_path, p_value, claimed):
  text, _ = write(tmp_path, make_result(TWO, p_value))
  assert (CLAIM in text) == claimed
  assert ("<td>memorised</td>" in text) == claimed


def sentence(text: str, start: str) -> str:
  return text.split(start)[1].split("<")[0]


def test_above_chance_is_said_only_where_a_test_of_few_seeds_shows_it(tmp_path):
  """Of five tests: two arms under two inversions, and their difference."""
  shares = {"standard": [0.25, 0.5, 0.375, 0.25], "robust": [0.8125, 0.875, 0.875, 0.8125]}
  text, _ = write(tmp_path, make_result(shares))
  standard, robust = (
    sentence(text, f"<b>{arm}</b>, share that the verifier recognises") for arm in shares
  )
  assert "not distinguishable from chance" in standard and "above chance" not in standard
  assert "above chance" in robust and "not distinguishable from chance" not in robust


MORE = "Images recovered from {} are recognised more often than those from {}"
ROWS = (
  # Of the second arm, by seed, and how the page begins where the first has `FIRST`.
  ([0.625, 0.9375, 0.75, 0.6875], f"<b>{MORE.format('robust', 'standard')}</b>"),
  ([0.0, 0.1875, 0.0625, 0.0], f"<b>{MORE.format('standard', 'robust')}</b>"),
  ([0.125, 0.75, 0.5, 0.0], "No difference between <b>standard</b> and <b>robust</b> is shown"),
)


@pytest.mark.parametrize(("second", "words"), ROWS)
def test_the_page_begins_with_what_the_paired_differences_support(tmp_path, second, words):
  text, _ = write(tmp_path, make_result({"standard": FIRST, "robust": second}))
  assert words in text
  assert sum(other in text for _, other in ROWS) == 1


def test_two_seeds_that_agree_are_no_proof(tmp_path):
  """Their bootstrap interval excludes 0, as it does of noise in half of all cases."""
  text, _ = write(tmp_path, make_result({"standard": [0.25, 0.5], "robust": [0.5, 0.875]}))
  assert "No difference between" in text


def test_seeds_that_diverged_are_named(tmp_path):
  text, _ = write(tmp_path, diverge(make_result(TWO), "robust", [1]))
  assert "<b>robust</b>: training diverged for seeds 1; they are in no mean." in text


@pytest.mark.parametrize(("gone", "left"), [("robust", "standard"), ("standard", "robust")])
def test_an_arm_of_which_nothing_is_left_does_not_take_the_page_with_it(tmp_path, gone, left):
  text, _ = write(tmp_path, diverge(make_result(TWO), gone, [0, 1]))
  assert f"<b>{gone}</b>: training diverged for seeds 0, 1; nothing could be recovered" in text
  assert f"<b>{left}</b>, share that the verifier recognises" in text
  assert "paired by seed" not in text and (tmp_path / "figures" / "grid.png").exists()


def test_where_nothing_is_left_at_all_the_page_says_so(tmp_path):
  result = diverge(diverge(make_result(TWO), "robust", [0, 1]), "standard", [0, 1])
  text, _ = write(tmp_path, result)
  assert text.count("nothing could be recovered") == 2 and "data:image" not in text


@pytest.mark.parametrize("accuracies", [{"standard": [0.5]}, {"a": [0.5], "b": [0.75]}])
def test_one_seed_and_one_arm_have_plain_numbers(tmp_path, accuracies):
  text, _ = write(tmp_path, make_result(accuracies))
  assert "0.500" in text and "gives no interval" in text
  assert "None" not in text.split("This run")[0] and "nan" not in text.split("data:image")[0]


def test_networks_that_begin_with_no_convolution_have_no_kernels_to_show(drawn, tmp_path):
  result = make_result(TWO)
  arms = result.arms | {"robust": result.arms["robust"]._replace(kernels=None)}
  text, _ = write(tmp_path, result._replace(arms=arms))
  assert "Reshaped weights" not in text and not (tmp_path / "figures" / "kernels.png").exists()
  assert "Reshaped weights" in drawn[0]


def test_test_images_that_were_divided_off_are_said_to_be(drawn, tmp_path):
  words = "are 20% of each class, chosen at random by the root seed"
  assert words in write(tmp_path, make_result(TWO), held_out=0.2)[0]
  assert words not in drawn[0]
