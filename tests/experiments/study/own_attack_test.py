"""An attack of the caller's own goes through a whole study: numbers, verdicts, figures and page."""

import csv
import html
import json

import numpy as np
import pytest

from helpers import plant
from jaxinv.attacks.attack import ALL, Attack, init_diff, reshape
from jaxinv.ensemble.groups import Host
from jaxinv.experiments.outcome import strongest
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.experiments.study import (
  comparison,
  figures,
  files,
  page_data,
  study,
)
from jaxinv.experiments.study.page import write_page
from jaxinv.experiments.study.photographs import figures as photograph_figures
from jaxinv.experiments.study.study import StudySpec
from jaxinv.runs import folder
from jaxinv.types import Hyper

# Made at the end only, as it has no projection; `negative` is measured at every record too.
BLUR = Attack("blur", lambda release, shape: 2 * reshape(release, shape))
NEGATIVE = Attack(
  "negative",
  lambda release, shape: -init_diff(release, shape),
  init_diff.needs,
  project=lambda of, held: of(held.init_params, held.params),
  how="the change of the weights turned round",
)
ARMS = Arm("plain", "sgd", Hyper(0.5)), Arm("decay", "sgd", Hyper(0.3, weight_decay=0.1))


def rows_of(path):
  with open(path) as file:
    return list(csv.DictReader(file))


@pytest.fixture(scope="module", params=[(), (8,)], ids=["linear", "hidden"])
def run(request, tmp_path_factory):
  """The folder of a whole study with two attacks of the caller's own, its spec and result."""
  settings = Settings(
    ARMS, num_seeds=3, steps=8, batch_size=8, record_every=4, save_seeds=1, hidden=request.param
  )
  cells, dataset = study.cross(ARMS, {}), plant()
  spec = StudySpec(
    settings, cells, "plain", control_arms=ARMS[:1], control_seeds=8, attacks=(BLUR, NEGATIVE)
  )
  result = study.run_study(spec, study.make_experiments(spec, dataset), None, Host())
  out_dir = tmp_path_factory.mktemp("study")
  summary = files.write_study(out_dir, spec, result, dataset)
  config = folder.configuration("launch.study", {"dataset": "mine"}, dataset)
  write_page(out_dir, page_data.PageData(dataset, spec, result, summary, config, "python -m x"))
  return out_dir, spec, result


def test_it_stands_in_every_file_beside_those_of_the_package(run):
  out_dir, spec, _ = run
  attacks = [attack.name for attack in study.attacks_on_one(spec)]
  assert {"blur", "negative"} < set(attacks)
  assert ("update_ratio" in attacks) == (not spec.settings.hidden)
  for name in ("cells.csv", "paired.csv"):
    assert {"blur", "negative"} <= {row["attack"] for row in rows_of(out_dir / name)}
  summary = json.loads((out_dir / "summary.json").read_text())
  assert {*attacks, "seed_mean"} <= set(summary["plain"])
  assert "negative" in summary["controls"]["people"]["plain"]


def test_its_numbers_are_those_of_its_images(run):
  """A picture turned round has the opposite correlation; a scaled one has the same."""
  arm = run[2].outcome.arms["plain"]
  for mine, sign, known in (("negative", -1, "init_diff"), ("blur", 1, "reshape")):
    np.testing.assert_allclose(
      comparison.final(arm, mine), sign * comparison.final(arm, known), atol=1e-4
    )
  np.testing.assert_allclose(
    arm.trail["negative"]["ncc_centred"], -arm.trail["init_diff"]["ncc_centred"], atol=1e-4
  )
  assert "blur" not in arm.trail


def test_it_counts_with_its_knowledge_among_the_strongest(run):
  _, spec, result = run
  arm = result.outcome.arms["plain"]
  best = {"reshape": -0.1, "init_diff": 0.1, "blur": 0.9, "negative": 0.8}
  measures = {name: {"ncc_centred": np.full(3, value)} for name, value in best.items()}
  attacks = list(study.attackers(spec).values())
  assert comparison.strongest_by_knowledge(arm._replace(measures=measures), attacks) == {
    "weights": "blur",
    "weights and initial weights": "negative",
  }
  assert strongest({a: v["ncc_centred"] for a, v in measures.items()}) == "blur"


def test_the_page_explains_it(run):
  out_dir = run[0]
  text = html.unescape((out_dir / "report.html").read_text())
  assert "drawn by the program" not in text  # Which it says of no data set but its own.
  assert "the change of the weights turned round" in text and "blur; made at the end only" in text
  for name in ("attackers", "people", "most_exposed"):
    assert (out_dir / "figures" / f"{name}.png").stat().st_size > 0


def test_faces_in_colour_are_drawn_in_colour(run):
  """Grey ones repeated in three channels, one of which is then put out."""
  outcome = run[2].outcome
  arm = outcome.arms["plain"]

  def tinted(images):
    return np.repeat(images[..., None], 3, -1) * np.array([1.0, 1.0, 0.0])

  images = {name: tinted(values) for name, values in arm.images.items()}
  colour = outcome._replace(
    arms={"plain": arm._replace(images=images)}, train_means=tinted(outcome.train_means)
  )
  drawn = figures.people_figure(colour, {"plain": "blur"}, plant().names, [0, 1])
  picture = drawn.axes[0].images[0].get_array()
  assert picture.shape[-1] == 3
  assert picture[..., 0][picture[..., 2] == 0].max() > 0.5
  shown = np.ones((2, 3, 13, 11, 3)) * np.array([1.0, 0.5, 0.0])
  exposed = photograph_figures.exposed_figure(shown, [["a", "b", "c"]] * 2)
  assert exposed.axes[0].images[0].get_array().shape == (13, 11, 3)


def test_attacks_are_given_by_name_or_as_values_and_named_once():
  spec = StudySpec(Settings(ARMS), study.cross(ARMS, {}), "plain")
  usual = [attack.name for attack in study.attacks_on_one(spec)]
  assert usual == [
    *("reshape", "denoised", "class_centred", "init_diff", "denoised_diff", "update_ratio"),
    *("mi_face", "denoised_others"),
  ]
  again = spec._replace(attacks=("reshape", init_diff, BLUR))
  assert [attack.name for attack in study.attacks_on_one(again)] == [*usual[:-1], "blur", usual[-1]]
  # More attacks than there were markers once.
  many = tuple(BLUR._replace(name=f"a{i}") for i in range(20))
  names = list(study.attackers(spec._replace(attacks=many)))
  assert len(names) == len(ALL) + 20
