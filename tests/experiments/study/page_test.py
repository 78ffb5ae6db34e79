"""The page of a study: sections, and that figures and sentences are made of the right numbers."""

import html
import math
import re

import jax
import numpy as np
import pytest

from jaxinv.ensemble.groups import Host
from jaxinv.experiments.outcome import summarize
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.experiments.study import comparison, figures, files, page_data, photographs, study
from jaxinv.experiments.study import page as study_page
from jaxinv.experiments.study.controls import PoseStudy
from jaxinv.experiments.study.study import Cell, StudySpec
from jaxinv.experiments.study.verdict import Label, Verdict, judge
from jaxinv.metrics.stats import Interval
from jaxinv.runs import folder
from jaxinv.types import Hyper

PLAIN = Arm("plain", "sgd", Hyper(learning_rate=0.5))
WILD = Arm("wild", "sgd", Hyper(learning_rate=1e9, weight_decay=1e9))
GRID = {"init_scale": (1.0, 8.0), "label_smoothing": (0.0, 0.5)}
SECTIONS = [
  *("Verdicts", "Each defence", "Who sees how much", "The faces", "Through training"),
  *("Several models", "Hidden or not learned?", "Single photographs", "Controls that must fail"),
  *("Pose", "Differential privacy", "All numbers", "How to read this", "This run"),
]
DRAWN = [
  *("verdicts", "attackers", "people", "through_training", "seed_mean", "phase"),
  *("photographs", "most_exposed", "pose"),
]


def ask(arms=(PLAIN, WILD), grid=GRID) -> StudySpec:
  """A spec with a grid; the arm whose name is `wild` diverges."""
  cells = study.cross(arms, grid)
  settings = Settings(
    arms=tuple(cell.arm for cell in cells),
    num_seeds=3,
    steps=16,
    batch_size=8,
    engine="primal",
    save_seeds=1,
    record_every=4,
  )
  return StudySpec(settings, cells, cells[0].arm.name, control_arms=arms, control_seeds=8)


def result_of(spec, dataset) -> study.StudyResult:
  """The result; untrained models stand for those on shuffled labels, to compile no third time."""
  experiments = study.make_experiments(spec, dataset)
  result = study.run_study(spec, experiments._replace(shuffled=experiments.halves), None, Host())
  untrained = result.shuffled.arms[spec.baseline + study.UNTRAINED]
  arms = {spec.baseline + study.SHUFFLED: untrained}
  return result._replace(shuffled=result.shuffled._replace(arms=arms))


@pytest.fixture(scope="module")
def data(make_planted, tmp_path_factory):
  """Two arms, one of which diverges, on a grid of two keys, with controls."""
  pose = PoseStudy(
    (0.0, 1.0),
    {"plain": {"reshape": np.full((2, 4), 0.5), "init_diff": np.array([[0.6] * 4, [0.8] * 4])}},
    {"plain": {"calibrated/reshape": np.array([0.6, 0.7]), "lira": np.array([0.5, 0.4])}},
  )
  spec, dataset = ask(), make_planted()
  result = result_of(spec, dataset)
  summary = files.write_study(tmp_path_factory.mktemp("run"), spec, result, dataset)
  config = folder.configuration("launch.study", {"dataset": "synthetic_faces"}, dataset)
  return page_data.PageData(dataset, spec, result, summary, config, "python -m x", pose)


@pytest.fixture(scope="module")
def page(data, tmp_path_factory):
  """The data's page, where one cell has an epsilon, and its folder."""
  out_dir = tmp_path_factory.mktemp("page")
  private = data.result._replace(epsilons={data.spec.cells[1].arm.name: 3.25})
  path = study_page.write_page(out_dir, data._replace(result=private))
  return html.unescape(path.read_text()), out_dir


def renamed(data, names):
  """The same data without a grid, its cells called otherwise."""
  cells = tuple(
    Cell(cell.arm._replace(name=name), name, {})
    for cell, name in zip(data.spec.cells, names, strict=True)
  )
  old = {cell.arm.name: name for cell, name in zip(data.spec.cells, names, strict=True)}

  def called(found):
    return {old[name]: value for name, value in found.items() if name in old}

  result = data.result
  return data._replace(
    spec=data.spec._replace(cells=cells, baseline=old[data.spec.baseline]),
    result=result._replace(
      outcome=result.outcome._replace(arms=called(result.outcome.arms)),
      verdicts=called(result.verdicts),
      identified=called(result.identified),
    ),
    summary=called(data.summary),
  )


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
  assert "**" not in text


def test_only_a_data_set_that_a_program_drew_is_said_to_be(page, data, tmp_path):
  """And its credit is given; the flag `--dataset` plays no part."""
  assert "drawn by the program" not in page[0]
  drawn = data.dataset._replace(drawn=True, credit="Credit: Ann.")
  text = study_page.write_page(tmp_path, one_seed(data)._replace(dataset=drawn)).read_text()
  assert "40 photographs drawn by the program" in text and "Credit: Ann." in text


def test_cells_are_called_by_their_values_and_keep_what_is_theirs(data):
  short = page_data.with_short_names(data)
  names = [cell.arm.name for cell in short.spec.cells]
  assert names[:4] == ["plain 1/0", "plain 1/0.5", "plain 8/0", "plain 8/0.5"]
  for old, new in zip(data.spec.cells, names, strict=True):
    assert short.summary[new] is data.summary[old.arm.name]
    assert short.result.outcome.arms[new] is data.result.outcome.arms[old.arm.name]
  assert short.spec.baseline == "plain 1/0"
  assert f"plain 1/0{study.UNTRAINED}" in short.result.leaks
  assert page_data.with_short_names(short._replace(spec=ask(grid={}))).summary is short.summary


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


def test_the_law_is_its_closed_form_and_what_averages_of_noisy_copies_show():
  counts = np.array([1, 2, 8, 64])
  law = comparison.averaging_law(counts, 0.3, 0.9)
  np.testing.assert_allclose(law, 0.9 / np.sqrt(1 + (9 - 1) / counts))
  assert law[0] == pytest.approx(0.3) and np.all(np.diff(law) > 0)
  assert comparison.averaging_law(np.array([10**9]), 0.3, 0.9)[0] == pytest.approx(0.9)
  rng = np.random.default_rng(0)
  target = rng.standard_normal(20000)
  learned = target + 0.5 * rng.standard_normal(20000)
  models = learned + 3 * rng.standard_normal((64, 20000))
  seen = [np.corrcoef(target, models[:n].mean(0))[0, 1] for n in counts]
  ceiling, one = (np.corrcoef(target, x)[0, 1] for x in (learned, models[0]))
  np.testing.assert_allclose(seen, comparison.averaging_law(counts, one, ceiling), atol=0.02)


def test_averages_are_the_arms_and_have_no_law_where_nothing_is_covered(data):
  arm = data.result.outcome.arms[data.spec.cells[2].arm.name]
  found = comparison.averages(arm)
  assert found.counts.tolist() == [1, 2, 3]
  np.testing.assert_allclose(found.measured, [arm.prefixes[n]["ncc_centred"] for n in (1, 2, 3)])
  means = [np.nanmean(comparison.final(arm, a)) for a in ("reshape", "init_diff")]
  np.testing.assert_allclose(found.law, comparison.averaging_law(found.counts, *means))
  swapped = arm._replace(measures=arm.measures | {"init_diff": {"ncc_centred": -np.ones(3)}})
  assert comparison.averages(swapped).law is None
  figure = figures.seed_mean_figure(
    {"a": found, "b": comparison.averages(swapped)}, {"a": 0, "b": 9}
  )
  lines = figure.axes[0].lines
  np.testing.assert_allclose(lines[0].get_ydata(), found.measured)
  np.testing.assert_allclose(lines[1].get_ydata(), found.law)
  assert len(lines) == 3


def test_the_phase_grid_puts_values_where_they_belong():
  grid = {"init_scale": (3.0, 1.0), "learning_rate": (0.1, 0.2, 0.3), "weight_decay": (0.0, 7.0)}
  cells = study.cross([PLAIN, WILD], grid)
  summary = {
    c.arm.name: {
      attack: {"ncc_centred": {"mean": sign * code(c), "low": None, "high": None, "n": 1}}
      for attack, sign in (("reshape", 1), ("init_diff", -1))
    }
    for c in cells
  }
  del summary[cells[2].arm.name]["reshape"]
  spec = StudySpec(Settings(()), cells[::-1], cells[0].arm.name)
  plain, wild = sorted(page_data.phases(spec, summary), key=lambda phase: phase.arm)
  assert plain.keys == ("init_scale", "learning_rate")
  assert plain.ticks == ([1.0, 3.0], [0.1, 0.2, 0.3])
  expected = np.array([[1.1, 1.2, 1.3], [3.1, 3.2, 3.3]])
  np.testing.assert_allclose(wild.values["reshape"][0], expected + 100)
  np.testing.assert_allclose(plain.values["init_diff"][0], -expected)
  assert np.isnan(plain.values["reshape"][0][1, 1])
  assert np.isnan(plain.values["reshape"][0]).sum() == 1
  assert np.isnan(plain.values["held-out accuracy"]).all()
  texts = [t.get_text() for t in figures.phase_figure([plain]).axes[0].texts]
  assert texts == ["1.10", "1.20", "1.30", "3.10", "-", "3.30"]


def code(cell):
  """A number that tells a cell's place; of another weight decay than 0 it is far off."""
  far = 100 * (cell.base == "wild") + 1000 * cell.values["weight_decay"]
  return cell.values["init_scale"] + cell.values["learning_rate"] + far


def test_without_a_grid_there_is_no_phase_and_with_one_key_there_are_curves():
  cells = study.cross([PLAIN], {})
  assert page_data.phases(StudySpec(Settings(()), cells, "plain"), {"plain": {}}) == []
  cells = study.cross([PLAIN], {"init_scale": (1.0, 2.0)})
  measure = {"mean": 0.5, "low": 0.4, "high": 0.7, "n": 3}
  summary = {c.arm.name: {"reshape": {"ncc_centred": measure}} for c in cells}
  (found,) = page_data.phases(StudySpec(Settings(()), cells, cells[0].arm.name), summary)
  np.testing.assert_allclose(found.values["reshape"], [[0.5, 0.5], [0.4, 0.4], [0.7, 0.7]])
  axis = figures.phase_figure([found]).axes[0]
  np.testing.assert_allclose(axis.containers[0].lines[0].get_ydata(), [0.5, 0.5])


def test_verdicts_are_drawn_at_their_differences():
  naive, strong = Interval(-0.4, -0.5, -0.3, 8), Interval(-0.02, None, None, 1)
  verdicts = {
    "one": Verdict(Label.HIDES, "", naive=naive, strongest=strong),
    "none": Verdict(Label.NOT_COMPARABLE, ""),
    "two": Verdict(Label.RAISES, "", strongest=strong),
  }
  left, right = figures.verdicts_figure(verdicts, 0.05).axes
  assert [c.lines[0].get_xdata()[0] for c in left.containers] == [-0.4]
  assert [c.lines[0].get_ydata()[0] for c in right.containers] == [0, 1]
  (bar,) = left.containers[0].lines[2]
  np.testing.assert_allclose(bar.get_segments()[0][:, 0], [-0.5, -0.3])


def test_the_curves_through_training_are_the_means_over_seeds(data):
  names = page_data.shown_cells(data)
  arms = {name: data.result.outcome.arms[name] for name in names}
  left, right = figures.training_figure(arms, 0.5).axes
  for axis, attack in ((left, "reshape"), (right, "init_diff")):
    dot, curve = axis.lines[:2]
    arm = arms[names[0]]
    np.testing.assert_allclose(curve.get_xdata(), arm.history["holdout_accuracy"].mean(0))
    np.testing.assert_allclose(curve.get_ydata(), arm.trail[attack]["ncc_centred"].mean(0))
    assert dot.get_ydata()[0] == pytest.approx(curve.get_ydata()[-1])


def test_levels_are_those_of_the_record_or_of_the_end(data):
  arm = data.result.outcome.arms[data.spec.baseline]
  levels = study_page.levels_of(arm, 1)
  assert levels["reshape"] == pytest.approx(arm.trail["reshape"]["ncc_centred"][:, 1].mean())
  assert "mi_face" not in levels
  ends = study_page.levels_of(arm, None)
  assert ends["mi_face"] == pytest.approx(arm.measures["mi_face"]["ncc_centred"].mean())


@pytest.mark.parametrize(
  ("interval", "expected"),
  [((0.51, 0.505, 0.515), True), ((0.55, 0.49, 0.6), True), ((0.45, 0.4, 0.49), False)],
)
def test_a_control_is_at_chance_in_its_interval_or_near(interval, expected):
  assert photographs.at_chance(Interval(*interval, 8), 0.5) is expected


def test_pose_shows_the_strongest_attack_and_leaves_out_what_has_gaps():
  person = {"reshape": np.array([[0.9, np.nan], [0.1, 0.1]]), "init_diff": np.full((2, 2), 0.7)}
  aucs = {"calibrated/a": np.array([0.6, 0.9]), "calibrated/b": np.array([0.7, 0.7])}
  gone = {"reshape": np.full((2, 2), np.nan)}
  pose = PoseStudy((0.0, 2.0), {"x": person, "y": gone}, {"x": aucs, "y": {"lira": np.ones(1)}})
  people, shown, answered = photographs.pose_panels(pose).values()
  assert [i.mean for i in people["x"]] == [0.7, 0.7] and "y" not in people
  assert [i.mean for i in shown["x"]] == [0.6, 0.9] and not answered


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


def one_seed(data):
  """The first two cells as if trained from one seed, without controls."""
  cells = data.spec.cells[:2]
  arms = {c.arm.name: first_seed(data.result.outcome.arms[c.arm.name]) for c in cells}
  first, second = arms.values()
  outcome = data.result.outcome._replace(arms=arms)
  verdicts = {cells[1].arm.name: judge(second, first, 0.1, 0.05)}
  return data._replace(
    spec=data.spec._replace(cells=cells, control_seeds=0),
    result=study.StudyResult(outcome, 0.1, [], verdicts, {name: {} for name in arms}, {}),
    summary=summarize(outcome),
    pose=None,
  )


def test_one_seed_has_no_intervals_and_there_is_no_section_without_controls(data, tmp_path):
  text = html.unescape(study_page.write_page(tmp_path, one_seed(data)).read_text())
  heads = re.findall(r"<h2>(.*?)</", text)
  assert "Single photographs" not in heads and "Several models" not in heads
  assert "Hidden or not learned?" in heads and "one seed, no interval" in text


def first_seed(arm):
  """An arm as if it had been trained from one seed."""
  return arm._replace(
    measures={a: {k: v[:1] for k, v in values.items()} for a, values in arm.measures.items()},
    healthy=arm.healthy[:1],
    history={name: values[:1] for name, values in arm.history.items()},
    trail=jax.tree.map(lambda x: x[:1], arm.trail),
    prefixes={1: arm.prefixes[1]},
  )
