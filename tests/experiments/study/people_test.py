"""What the page says of people is read off the numbers of the study."""

import numpy as np
import pytest
from planted_arms import SHARED, make_arm

from jaxinv.attacks.attack import ALL
from jaxinv.experiments.study import people
from jaxinv.experiments.study.comparison import Identified
from jaxinv.metrics.stats import Interval


@pytest.fixture(scope="module")
def said(data, tmp_path_factory):
  """The numbers of the page's sections on people, and the folder of their figures."""
  folder = tmp_path_factory.mktemp("figures")
  return people.sections(data, folder), folder


def test_the_strongest_attack_is_told_by_what_is_held_with_how_often_it_is():
  leaks = {"one": (0.2, 0.3, 0.6), "two": (0.5, 0.4, 0.1), "three": (0.1, 0.2, 0.8)}
  names = ("reshape", "class_centred", "init_diff")
  arms, leakage = {}, {}
  for arm, values in leaks.items():
    by_attack = dict(zip(names, values, strict=True))
    arms[arm] = make_arm({attack: value + SHARED for attack, value in by_attack.items()})
    leakage[arm] = {attack: Interval(value, None, None, 1) for attack, value in by_attack.items()}
    leakage[arm]["seed_mean"] = Interval(0.97, None, None, 1)
  weights, initial, several = people.strongest_by_holding(ALL, arms, leakage)
  assert weights == {
    "held": "weights",
    "attack": "class_centred",
    "times": 2,
    "num": 3,
    "leakages": [0.3, 0.5, 0.2],
  }
  assert initial["attack"] == "init_diff" and initial["times"] == 3
  assert several["held"] == "several models" and several["leakages"] == [0.97] * 3


def test_every_section_has_its_figure(said):
  sections, folder = said
  parts = [sections[name] for name in ("attackers", "faces", "training", "several", "grid")]
  assert {part["figure"] for part in parts} == set(folder.iterdir()) and len(parts) == 5


def test_averaging_is_told_of_the_cell_where_it_gains_most(said, data):
  arms = {c.arm.name: data.result.outcome.arms[c.arm.name] for c in data.spec.cells[:4]}
  one = {name: np.mean(arm.measures["reshape"]["ncc_centred"]) for name, arm in arms.items()}
  gain = {name: arm.prefixes[3]["ncc_centred"] - one[name] for name, arm in arms.items()}
  found, most = said[0]["several"], max(gain, key=gain.__getitem__)
  assert found["most"] == most and found["num_models"] == 3
  assert found["one"] == pytest.approx(one[most], abs=1e-6)
  assert found["together"] == pytest.approx(one[most] + gain[most], abs=1e-6)
  assert found["num_laws"] == found["num_held"] + len(found["above"]) + len(found["below"]) == 4


def test_points_of_use_have_the_target_and_hide_where_the_initial_weights_tell(said, data):
  found, target = said[0]["grid"], data.result.target
  points = []
  for cell in data.spec.cells:
    summary = data.summary[cell.arm.name]
    if "model" in summary:  # Of one that diverged there is nothing.
      attacks = [summary[name]["ncc_centred"]["mean"] for name in ("reshape", "init_diff")]
      points.append((summary["model"]["holdout_accuracy"]["mean"], *attacks))
  useful = [point for point in points if point[0] >= target]
  assert (found["num_points"], found["num_useful"]) == (8, len(useful)) and useful
  assert sorted(found["naive"]) == pytest.approx(sorted(naive for _, naive, _ in useful))
  assert found["num_hidden"] == sum(known - naive > data.spec.margin for _, naive, known in useful)


def test_who_is_identified_first_is_told_of_the_baseline(data, tmp_path):
  """Planted: early by one attack but in the second cell, where only the later attack is able to."""
  later, early = (Identified(*x, np.zeros(5)) for x in (("reshape", 8, 0.9), ("init_diff", 4, 0.1)))
  never = early._replace(step=None, accuracy=None)
  names = [cell.arm.name for cell in data.spec.cells]
  times = {name: {"reshape": later, "init_diff": early} for name in names}
  times[names[1]] = {"reshape": later, "init_diff": never}
  result = data.result._replace(identified=times)
  found = people.sections(data._replace(result=result), tmp_path)["training"]
  assert found["first"] == {"name": names[0], **early._asdict()}
  assert found["num_early"] == 3 and found["number"] == 4
  assert found["rows"][1] == (names[1], "8 (0.900)", "never")


def test_where_every_model_diverged_and_without_a_grid_there_is_nothing_to_say(data, tmp_path):
  cells = tuple(cell._replace(values={}) for cell in data.spec.cells[4:])
  lost = data._replace(spec=data.spec._replace(cells=cells, baseline=cells[0].arm.name))
  sections = people.sections(lost, tmp_path)
  for name in ("attackers", "faces", "training", "several", "grid"):
    assert sections[name] is None, name
  assert not list(tmp_path.iterdir())
