"""Photographs of dead leaves come back one by one, and controls come out at chance."""

from dataclasses import replace

import numpy as np
import pytest

from jaxinv.ensemble.groups import Host
from jaxinv.experiments.photographs import figures
from jaxinv.experiments.photographs.files import summarize
from jaxinv.experiments.photographs.photographs import (
  MOMENT,
  OTHERS,
  SHUFFLED,
  UNMIXED,
  UNTRAINED,
  run_photographs,
)
from jaxinv.experiments.photographs.settings import Axis, PhotographsSpec
from jaxinv.experiments.settings import Settings


@pytest.mark.parametrize("arm", ["sgd", "decay"])
def test_every_photograph_comes_back_through_sgd_with_and_without_decay(result, arm):
  cell = result.cells[arm][12]
  assert cell.units == 64 and (cell.accuracy == 1).all() and cell.healthy.all()
  for seed, found in enumerate(cell.attacked[UNMIXED]):
    assert found.unmixed.count.certain and found.unmixed.count.number == 12
    assert found.score.identified.all() and found.score.quality.min() > 0.9
    assert set(found.score.closest) == set(cell.members[seed])
    # The bias gives the scale: pixels come back as they were.
    assert found.unmixed.is_scaled and -0.3 < found.unmixed.images.min() < 0.3


def test_the_state_of_adam_gives_what_its_weights_may_hide(result):
  cell = result.cells["adam"][12]
  for found in cell.attacked[MOMENT]:
    assert found.unmixed.count.number == 12 and found.score.identified.all()
  assert MOMENT not in result.cells["sgd"][12].attacked


def test_controls_are_at_chance(result):
  cell = result.cells["sgd"][12]
  assert cell.chance == 0.5 and cell.chance_identified == pytest.approx(0.4, abs=0.01)
  for control in (UNTRAINED, SHUFFLED, OTHERS):
    (found,) = cell.attacked[control]
    # At random 0.40, with a standard deviation of 0.1.
    assert found.score.identified.mean() <= 0.7, control
    assert (found.score.quality < 0.9).all() and found.score.quality.mean() < 0.5, control
  # What was found shows members: asked for strangers, none comes first.
  assert not cell.attacked[OTHERS][0].score.is_member.any()


def test_seeds_have_photographs_of_their_own_and_releases_share_theirs(result, spec, leaves):
  members = result.cells["sgd"][12].members
  assert (np.bincount(leaves.labels[members[0]]) == 2).all() and (members[0] != members[1]).any()
  linear = Settings(spec.settings.arms[:1], num_seeds=1, steps=200, batch_size=0, engine="primal")
  together = PhotographsSpec(linear, (12,), releases=4, restarts=1)
  cell = run_photographs(together, leaves, None, Host()).cells["sgd"][12]
  # One linear model has 6 columns, too few to tell 12 photographs apart; four have 24.
  assert cell.units == 24
  assert cell.attacked[UNMIXED][0].score.identified.all()
  alone = run_photographs(replace(together, releases=1), leaves, None, Host()).cells["sgd"][12]
  assert alone.attacked[UNMIXED][0].score.identified.mean() <= 0.5


def test_a_diverged_model_costs_its_own_seed_alone(spec, leaves):
  arm = spec.settings.arms[0]._replace(
    hyper=spec.settings.arms[0].hyper._replace(learning_rate=1e9)
  )
  wild = replace(spec, settings=replace(spec.settings, arms=(arm,), num_seeds=1, steps=10))
  cell = run_photographs(wild, leaves, None, Host()).cells["sgd"][12]
  assert not cell.healthy.any() and cell.attacked[UNMIXED] == [None]


def test_over_the_width_the_number_of_units_is_the_limit(spec, leaves):
  one = replace(spec.settings, arms=spec.settings.arms[:1], num_seeds=1)
  asked = PhotographsSpec(one, (12,), restarts=1, axis=Axis("hidden", (8.0, 64.0)))
  found = run_photographs(asked, leaves, None, Host())
  assert list(found.cells) == ["sgd-hidden-8", "sgd-hidden-64"]
  shares = {
    name: [cell.attacked[UNMIXED][0].score.identified.mean() for cell in by_number.values()]
    for name, by_number in found.cells.items()
  }
  assert shares["sgd-hidden-8"][0] <= 8 / 12 and shares["sgd-hidden-64"] == [1]
  drawn = figures.heat_figure(summarize(found, 0.05), found, ["sgd"], asked.axis)
  texts = [text.get_text() for text in drawn.axes[0].texts]
  assert texts[1] == "1.00" and texts[0] != "1.00"
  assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == ["8", "64"]
