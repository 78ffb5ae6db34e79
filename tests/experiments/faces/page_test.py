"""The page of faces: its words follow the numbers, and an attack of the caller's own is in it."""

import re

import numpy as np
import planted_faces as planted
import pytest

from jaxinv.experiments.faces import page
from jaxinv.experiments.faces.pose import PoseSweep

CONFIG = {
  "versions": {"python": "3.11"},
  "device": {"count": 1, "kind": "cpu"},
  "precision": "highest",
  "git_revision": None,
  "flags": {"dataset": "att", "num_seeds": 4, "holdout": 1, "hidden": [], "people": []},
}


def page_data(shape, **changes) -> page.PageData:
  found = planted.outcome(shape)
  data = page.PageData(
    planted.dataset(shape)._replace(credit="Credit: Ann & Bob."),
    found,
    planted.summary(found),
    CONFIG,
    (0, 1, 2),
    planted.ARMS,
    "command <x>",
  )
  return data._replace(**changes)


@pytest.fixture(scope="module", params=[(6, 5), (6, 5, 3)], ids=["grey", "colour"])
def written(request, tmp_path_factory):
  out_dir = tmp_path_factory.mktemp("faces")
  return out_dir, page.write_page(out_dir, page_data(request.param)).read_text()


def test_the_page_needs_no_other_file(written):
  _, html = written
  assert html.count("data:image/png;base64,") == 5 and html.count("data:image/gif;base64,") == 1
  assert not re.search(r'(src|href)="(?!data:)', html)


def test_all_figures_are_drawn(written):
  out_dir, _ = written
  names = {path.name for path in (out_dir / "figures").iterdir()}
  expected = {"people.png", "all_people.png", "curves.png", "measures.png", "shares.png"}
  assert names == expected | {"training.gif"}


def test_an_attack_of_the_callers_own_is_named_and_compared(written):
  _, html = written
  assert "-$W (negative)" in html and "-$W: shows more" in html
  assert "<td>negative</td><td>ncc_centred</td>" in html


def test_words_follow_the_numbers(written):
  _, html = written
  assert "<b>sgd</b> recognises 90.0% of the photographs it never saw" in html
  assert "show the person's average face (centred NCC 0.80)" in html
  assert "look like noise (centred NCC 0.20), but anyone who knows the initial weights" in html
  assert "<b>adam against sgd</b>, same seeds: W: shows less" in html


def test_the_datas_owners_and_the_command_are_told(written):
  _, html = written
  assert "Credit: Ann &amp; Bob." in html and "command &lt;x&gt;" in html


def test_faces_that_a_program_drew_are_said_to_be(written, tmp_path):
  """And no others, whatever their data set is called."""
  assert "drawn by the program" not in written[1]
  data = page_data((6, 5))
  drawn = data._replace(dataset=data.dataset._replace(drawn=True))
  assert "drawn by the program" in page.write_page(tmp_path, drawn).read_text()


def test_models_that_all_diverged_are_said_to_have(tmp_path):
  found = planted.outcome((6, 5))
  lost = found.arms["sgd"]
  measures = {
    a: {m: np.full_like(v, np.nan) for m, v in t.items()} for a, t in lost.measures.items()
  }
  lost = lost._replace(healthy=np.zeros(planted.SEEDS, bool), measures=measures)
  found = found._replace(arms={**found.arms, "sgd": lost})
  data = page_data((6, 5), outcome=found, summary=planted.summary(found))
  html = page.write_page(tmp_path, data).read_text()
  assert "<b>sgd</b>: every model diverged." in html and "seeds 0, 1, 2, 3 diverged" in html


def test_a_sweep_over_pose_is_told_by_its_ends(tmp_path):
  images = np.zeros((2, 6, 5))
  values = np.array([[0.9, 0.8], [0.5, 0.4]])
  sweep = PoseSweep((0.0, 2.0), values, values - 0.1, images, images)
  html = page.write_page(tmp_path, page_data((6, 5), pose=sweep)).read_text()
  assert "From scale 0 to 2" in html and "goes from 0.75 to 0.35" in html
  assert "with the class average from 0.85 to 0.45" in html


def test_the_table_of_arms_has_only_what_is_not_the_default():
  table = page._hyper_table(planted.ARMS)
  assert table["hyper_head"] == ("arm", "optimizer", "learning_rate", "weight_decay")
  named = dict(zip(table["hyper_head"], table["hyper_rows"][1], strict=True))
  assert named["learning_rate"] == "0.01" and named["weight_decay"] == "0.5"
