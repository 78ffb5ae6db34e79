"""What a study's page is of: cells are called by their values, grids are read off summaries."""

import numpy as np
import pytest
from planted_arms import SHARED, SWAY, make_arm
from planted_studies import PLAIN, WILD, make_spec

from jaxinv.experiments.settings import Settings
from jaxinv.experiments.study import figures, page_data, study
from jaxinv.experiments.study.study import StudySpec
from jaxinv.training.dpsgd import Guarantee


def test_cells_are_called_by_their_values_and_keep_what_is_theirs(data):
  short = page_data.with_short_names(data)
  names = [cell.arm.name for cell in short.spec.cells]
  assert names[:4] == ["plain 1/0", "plain 1/0.5", "plain 8/0", "plain 8/0.5"]
  for old, new in zip(data.spec.cells, names, strict=True):
    assert short.summary[new] is data.summary[old.arm.name]
    assert short.result.outcome.arms[new] is data.result.outcome.arms[old.arm.name]
  assert short.spec.baseline == "plain 1/0"
  assert f"plain 1/0{study.UNTRAINED}" in short.result.leaks
  assert (
    page_data.with_short_names(short._replace(spec=make_spec(grid={}))).summary is short.summary
  )


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


def test_cells_without_a_model_are_not_shown_and_of_many_those_at_the_baselines_point(data):
  plain = data.spec.cells[:4]
  assert page_data.shown_cells(data) == [cell.arm.name for cell in plain]
  cells = tuple(
    cell._replace(arm=cell.arm._replace(name=f"{cell.arm.name}-{i}"), base=f"b{i}")
    for i in range(4)
    for cell in plain
  )
  arms = {cell.arm.name: data.result.outcome.arms[plain[0].arm.name] for cell in cells}
  outcome = data.result.outcome._replace(arms=arms)
  many = data._replace(
    spec=data.spec._replace(cells=cells, baseline=cells[5].arm.name),
    result=data.result._replace(outcome=outcome),
  )
  expected = [cell.arm.name for cell in cells if cell.values == cells[5].values]
  assert page_data.shown_cells(many) == expected and len(expected) == 4


def test_the_watched_control_arm_is_the_baselines_or_else_the_first_with_a_model(data):
  assert page_data.watched_leaks(data)[0] == "plain"
  leaks = data.result.leaks
  untrained = next(name for name in leaks if name.endswith(study.UNTRAINED))
  found = {"wild": None, untrained: leaks[untrained], "other": leaks["plain"]}

  def watched(leaks):
    return page_data.watched_leaks(data._replace(result=data.result._replace(leaks=leaks)))

  assert watched(found)[0] == "other"
  assert watched({"wild": None, untrained: leaks[untrained]}) is None and watched(None) is None


def test_epsilon_is_written_with_three_digits_infinite_or_not_at_all(data):
  result = data.result._replace(
    epsilons={"a": Guarantee(3.14159, 41.234, 9, 8, 3), "b": Guarantee(*[np.inf] * 3, 8, 3)}
  )
  some = data._replace(result=result)
  assert [page_data.epsilon(some, name) for name in "abc"] == ["3.14", "infinite", ""]
  assert page_data.epsilon(some, "a", "person") == "41.2"


def test_the_law_is_its_closed_form_and_what_averages_of_noisy_copies_show():
  counts = np.array([1, 2, 8, 64])
  law = page_data.averaging_law(counts, 0.3, 0.9)
  np.testing.assert_allclose(law, 0.9 / np.sqrt(1 + (9 - 1) / counts))
  assert law[0] == pytest.approx(0.3) and np.all(np.diff(law) > 0)
  assert page_data.averaging_law(np.array([10**9]), 0.3, 0.9)[0] == pytest.approx(0.9)
  rng = np.random.default_rng(0)
  target = rng.standard_normal(20000)
  learned = target + 0.5 * rng.standard_normal(20000)
  models = learned + 3 * rng.standard_normal((64, 20000))
  seen = [np.corrcoef(target, models[:n].mean(0))[0, 1] for n in counts]
  ceiling, one = (np.corrcoef(target, x)[0, 1] for x in (learned, models[0]))
  np.testing.assert_allclose(seen, page_data.averaging_law(counts, one, ceiling), atol=0.02)


def test_averages_are_the_arms_and_have_no_law_where_nothing_is_covered():
  """The law starts at one model's mean leakage; W - W0 that leaks less than W is no ceiling."""
  shown = {4: 0.7, 1: 0.5, 2: 0.6}
  prefixes = {n: {"ncc_centred": np.float32(value)} for n, value in shown.items()}
  arm = make_arm({"reshape": 0.2 + SHARED, "init_diff": 0.6 + SHARED})._replace(prefixes=prefixes)
  averages = page_data.averages_of(arm)
  assert averages.counts.tolist() == [1, 2, 4]
  np.testing.assert_allclose(averages.measured, [0.5, 0.6, 0.7], rtol=1e-6)
  # At the end all leakages are by so much larger.
  law = page_data.averaging_law(averages.counts, 0.2 + SWAY[-1], 0.6 + SWAY[-1])
  np.testing.assert_allclose(averages.law, law)
  swapped = make_arm({"reshape": 0.6 + SHARED, "init_diff": 0.2 + SHARED})
  assert page_data.averages_of(swapped._replace(prefixes=prefixes)).law is None
  assert page_data.averages_of(swapped) is None
