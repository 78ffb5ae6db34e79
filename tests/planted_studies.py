"""A whole study of planted faces, small and trained, and the same study made smaller by hand."""

import jax
import numpy as np

from helpers import plant
from jaxinv.ensemble.groups import Host
from jaxinv.experiments.outcome import summarize
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.experiments.study import files, page_data, study
from jaxinv.experiments.study.photographs.controls import PoseStudy
from jaxinv.experiments.study.study import Cell, StudySpec
from jaxinv.experiments.study.verdict import judge
from jaxinv.runs import folder
from jaxinv.types import Hyper

PLAIN = Arm("plain", "sgd", Hyper(learning_rate=0.5))
WILD = Arm("wild", "sgd", Hyper(learning_rate=1e9, weight_decay=1e9))
GRID = {"init_scale": (1.0, 8.0), "label_smoothing": (0.0, 0.5)}


def make_spec(arms=(PLAIN, WILD), grid=GRID) -> StudySpec:
  """The specification of a study with a grid; the arm whose name is `wild` diverges."""
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


def run(spec, dataset) -> study.StudyResult:
  """The result; untrained models stand for those on shuffled labels, to compile no third time."""
  experiments = study.make_experiments(spec, dataset)
  result = study.run_study(spec, experiments._replace(shuffled=experiments.halves), None, Host())
  untrained = result.shuffled.arms[spec.baseline + study.UNTRAINED]
  arms = {spec.baseline + study.SHUFFLED: untrained}
  return result._replace(shuffled=result.shuffled._replace(arms=arms))


def make_data(out_dir) -> page_data.PageData:
  """Two arms, one of which diverges, on a grid of two keys, with controls; writes its files."""
  pose = PoseStudy(
    (0.0, 1.0),
    {"plain": {"reshape": np.full((2, 4), 0.5), "init_diff": np.array([[0.6] * 4, [0.8] * 4])}},
    {"plain": {"calibrated/reshape": np.array([0.6, 0.7]), "lira": np.array([0.5, 0.4])}},
  )
  spec, dataset = make_spec(), plant()
  result = run(spec, dataset)
  summary = files.write_study(out_dir, spec, result, dataset)
  config = folder.configuration("launch.study", {"dataset": "synthetic_faces"}, dataset)
  return page_data.PageData(dataset, spec, result, summary, config, "python -m x", pose)


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


def first_seed(arm):
  """An arm as if it had been trained from one seed."""
  return arm._replace(
    measures={a: {k: v[:1] for k, v in values.items()} for a, values in arm.measures.items()},
    healthy=arm.healthy[:1],
    history={name: values[:1] for name, values in arm.history.items()},
    trail=jax.tree.map(lambda x: x[:1], arm.trail),
    prefixes={1: arm.prefixes[1]},
  )
