"""What the page says of single photographs, their controls, and pose."""

import numpy as np
import pytest

from jaxinv.experiments.study.photographs import page as photographs
from jaxinv.experiments.study.photographs.controls import PoseStudy, best_inversion
from jaxinv.metrics.stats import Interval


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
  pose = PoseStudy(
    (0.0, 2.0), {"x": person, "y": gone}, {"x": aucs, "y": {"lira": np.array([0.5, np.nan])}}
  )
  people, shown, answered = photographs.pose_panels(pose).values()
  assert [i.mean for i in people["x"]] == [0.7, 0.7] and "y" not in people
  assert [i.mean for i in shown["x"]] == [0.6, 0.9] and not answered


@pytest.fixture(scope="module")
def said(data, tmp_path_factory):
  """The numbers of the page's sections on photographs, and the folder of their figures."""
  folder = tmp_path_factory.mktemp("figures")
  return photographs.sections(data, folder), folder


def test_the_tests_of_the_watched_arm_are_told_and_of_arms_that_diverged_nothing(said, data):
  sections, folder = said
  found, leaks = sections["photographs"], data.result.leaks["plain"]
  attack = best_inversion(leaks)
  assert (found["watched"], found["attack"]) == ("plain", attack)
  assert found["correlation"] == leaks.agreement[attack]
  assert [row[0] for row in found["inversion_rows"]] == ["plain"]
  assert found["inversion_rows"][0][2].startswith(
    f"{leaks.tests[f'similarity/{attack}'].auc.mean:.3f}"
  )
  best = leaks.strongest
  assert found["strongest_rows"][0][:2] == ("plain", best.name) and best.auc.mean > 0.9
  assert {row[0] for row in found["strongest_rows"]} >= {"plain", "wrong memberships"}
  assert found["near_chance"] == []
  assert sections["untested"] == [{"arm": "wild", "num": 0, "of": 8}]
  assert len(found["output_rows"][0]) == len(found["output_head"])
  candidates = data.result.halves.candidates
  assert found["num_outside"] == data.spec.control_seeds * len(candidates) / 2
  assert {path.stem for path in folder.iterdir()} == {"photographs", "most_exposed", "pose"}


def test_a_control_that_finds_what_is_not_there_is_an_exception(said, data, tmp_path):
  """Planted: the wrong memberships get the results of the right ones."""
  before = said[0]["controls"]
  assert before["num_aucs"] == len(before["auc_rows"]) and before["num_shares"] == 10
  leaking = data._replace(result=data.result._replace(chance=data.result.leaks["plain"]))
  after = photographs.sections(leaking._replace(pose=None), tmp_path)["controls"]
  name = f"wrong memberships, calibrated/{best_inversion(data.result.leaks['plain'])}"
  assert after["are_above"] and after["odd_aucs"][name].mean > 0.9
  assert sum(row[-1] == "no" for row in after["auc_rows"]) == len(after["odd_aucs"])


def test_without_controls_and_pose_there_is_nothing_to_say(data, tmp_path):
  bare = data._replace(pose=None, result=data.result._replace(control=None, leaks=None))
  sections = photographs.sections(bare, tmp_path)
  assert not any(sections.values()) and not list(tmp_path.iterdir())


def test_pose_is_told_by_its_ends(said):
  pose = said[0]["pose"]
  ends = {it["measure"]: (it["first"], it["last"]) for it in pose["changes"]}
  assert ends == {
    "person": pytest.approx((0.6, 0.8)),
    "by_faces": (0.6, 0.7),
    "by_outputs": (0.5, 0.4),
  }
  assert [(it["times"], it["num"]) for it in pose["rises"]] == [(1, 1), (1, 1), (0, 1)]
  assert pose["arm"] == "plain" and pose["scales"] == (0.0, 1.0)
