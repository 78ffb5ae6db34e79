"""The page of a study: sections, and that its sentences are made of the right numbers."""

import html
import math
import re

import pytest
from planted_studies import one_seed, renamed

from jaxinv.experiments.outcome import summarize
from jaxinv.experiments.study import page as study_page
from jaxinv.experiments.study import page_data, study
from jaxinv.experiments.study.study import Cell
from jaxinv.experiments.study.verdict import Verdict, judge
from jaxinv.metrics.claims import Label
from jaxinv.training.dpsgd import Guarantee

SECTIONS = [
  *("Verdicts", "Each defence", "Who sees how much", "The faces", "Through training"),
  *("Several models", "Hidden or not learned?", "Single photographs", "Controls that must fail"),
  *("Pose", "Differential privacy", "All numbers", "How to read this", "This run"),
]
DRAWN = [
  *("verdicts", "attackers", "people", "through_training", "seed_mean", "phase"),
  *("photographs", "most_exposed", "pose"),
]


@pytest.fixture(scope="module")
def page(data, tmp_path_factory):
  """The data's page, where one cell has an epsilon, and its folder."""
  out_dir = tmp_path_factory.mktemp("page")
  private = data.result._replace(
    epsilons={data.spec.cells[1].arm.name: Guarantee(3.25, 70.5, 21.75, 6, 3)}
  )
  path = study_page.write_page(out_dir, data._replace(result=private))
  return html.unescape(path.read_text()), out_dir


def test_the_page_has_all_sections_in_order_and_needs_no_other_file(page):
  text, out_dir = page
  heads = re.findall(r"<(?:h2|summary)>(.*?)</", text)
  assert heads == SECTIONS
  assert sorted(p.stem for p in (out_dir / "figures").iterdir()) == sorted(DRAWN)
  assert text.count('<img src="data:image/png;base64,') == len(DRAWN)
  assert not re.search(r"(src|href)=\"(?!data:)", text)
  assert "nan" not in re.sub(r"base64,[^\"]*", "", text)


def test_the_page_tells_numbers_as_they_are(page, data):
  text, _ = page
  name = data.spec.baseline
  for attack in ("reshape", "init_diff"):
    assert f"{data.summary[name][attack]['ncc_centred']['mean']:.3f}" in text
  assert "named by its arm and its values of init_scale and label_smoothing" in text
  assert "<td>plain 1/0.5</td><td>3.25</td>" in text.replace("\n", "")
  assert "<td>3.25</td><td>70.5</td><td>21.8</td>" in text.replace("\n", "")
  assert "up to 6 photographs are trained on" in text and "all 3 models" in text
  assert "**" not in text


def test_only_a_data_set_that_a_program_drew_is_said_to_be(page, data, tmp_path):
  """And its credit is given; the flag `--dataset` plays no part."""
  assert "drawn by the program" not in page[0]
  drawn = data.dataset._replace(drawn=True, credit="Credit: Ann.")
  text = study_page.write_page(tmp_path, one_seed(data)._replace(dataset=drawn)).read_text()
  assert "40 photographs drawn by the program" in text and "Credit: Ann." in text


def test_an_arm_that_diverged_is_told_of_and_not_drawn(page, data):
  text, _ = page
  assert "wild 1/0 (3 of 3)" in text
  assert page_data.shown_cells(data) == [c.arm.name for c in data.spec.cells[:4]]
  assert data.result.leaks["wild"] is None


def test_counts_by_label_are_in_the_order_of_the_labels():
  labels = [Label.RAISES, Label.LOWERS, Label.RAISES, Label.TOO_LITTLE]
  counted = study_page.tally({f"a{i}": Verdict(x, "") for i, x in enumerate(labels)})
  assert list(counted.items()) == [
    (Label.LOWERS, ["a1"]),
    (Label.TOO_LITTLE, ["a3"]),
    (Label.RAISES, ["a0", "a2"]),
  ]


def test_of_many_cells_the_page_counts_the_verdicts_and_folds_the_rest(data, tmp_path):
  plain, wild = data.spec.cells[0], data.spec.cells[4]
  arms = {
    f"c{i}": data.result.outcome.arms[(wild if i % 6 == 5 else plain).arm.name] for i in range(45)
  }
  first = arms["c0"]
  verdicts = {n: judge(a, first, 0.5, 0.05) for n, a in arms.items() if n != "c0"}
  cells = tuple(
    Cell(plain.arm._replace(name=n), "b", {"steps": float(i)}) for i, n in enumerate(arms)
  )
  outcome = data.result.outcome._replace(arms=arms)
  many = data._replace(
    spec=data.spec._replace(cells=cells, baseline="c0", control_seeds=0),
    result=study.StudyResult(outcome, 0.5, [], verdicts, {n: {} for n in arms}, {}),
    summary=summarize(outcome),
    pose=None,
  )
  text = html.unescape(study_page.write_page(tmp_path, many).read_text())
  assert "<td>does not train</td><td>7</td>" in text
  assert text.index("<summary>The verdict on each cell") < text.index("<td>b 44</td>")
  assert "Drawn: 1 of 45 cells, those at the baseline's point of the grid (steps 0)." in text


def test_names_are_no_formulas_and_a_lost_baseline_is_told(data, tmp_path):
  names = [f"a${i}_{{$" + "long" * 12 * (i % 2) for i in range(8)]
  odd = renamed(data, names)
  arms = odd.result.outcome.arms
  lost = odd._replace(
    spec=odd.spec._replace(baseline=names[4]),
    result=odd.result._replace(
      target=math.nan,
      verdicts={n: judge(a, arms[names[4]], math.nan, 0.05) for n, a in arms.items()},
    ),
  )
  text = html.unescape(study_page.write_page(tmp_path, lost).read_text())
  assert "nothing is compared" in text and names[1] in text
  assert "Hidden or not learned?" not in text


def test_one_seed_has_no_intervals_and_there_is_no_section_without_controls(data, tmp_path):
  text = html.unescape(study_page.write_page(tmp_path, one_seed(data)).read_text())
  heads = re.findall(r"<h2>(.*?)</", text)
  assert "Single photographs" not in heads and "Several models" not in heads
  assert "Hidden or not learned?" in heads and "one seed, no interval" in text
