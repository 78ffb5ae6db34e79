"""Who is trained on, and what is refused before anything is trained."""

from dataclasses import replace

import numpy as np
import pytest

from jaxinv.attacks.recipes import INVERSIONS, Inversion
from jaxinv.errors import InputError
from jaxinv.experiments.networks.settings import (
  NetworkArm,
  NetworkSettings,
  RobustnessTest,
  check,
  draw_masks,
)
from jaxinv.types import Hyper, RobustHyper


def _settings(**others):
  arm = NetworkArm("plain", width_factor=1 / 16)
  fields = {"arms": (arm,), "verifier": arm, "inversions": {"pgd": INVERSIONS["pgd"]}}
  return NetworkSettings(
    **{**fields, "num_seeds": 4, "batch_size": 16, "candidates": 0.4, **others}
  )


def test_each_candidate_is_kept_by_exactly_half_of_an_even_number_of_seeds(shapes):
  labels = shapes.train.labels
  masks = draw_masks(_settings(candidates=0.7), labels)
  # 6 images a class: 4 are candidates, an even number.
  np.testing.assert_array_equal(np.bincount(labels[masks.candidate]), [4] * 10)
  np.testing.assert_array_equal(masks.kept.sum(0), np.where(masks.candidate, 2, 4))
  for kept in masks.kept:
    np.testing.assert_array_equal(np.bincount(labels[kept & masks.candidate]), [2] * 10)


def test_a_seed_s_mask_does_not_depend_on_how_many_there_are(shapes):
  few, many = (draw_masks(_settings(num_seeds=num), shapes.train.labels).kept for num in (2, 7))
  np.testing.assert_array_equal(few, many[:2])
  assert (many[0] != many[2]).any()
  other = draw_masks(_settings(root_seed=1), shapes.train.labels)
  assert (other.kept[0] != many[0]).any()


def test_what_makes_sense_passes(shapes):
  check(_settings(), shapes)


_BAD_RADIUS = RobustHyper(Hyper(), -1.0)


@pytest.mark.parametrize(
  "change, words",
  [
    ({"arms": ()}, "no arm is given"),
    ({"arms": (NetworkArm("a"), NetworkArm("a"))}, "named twice"),
    ({"arms": (NetworkArm("a", optimizer="lion"),)}, "unknown optimizer 'lion'"),
    ({"arms": (NetworkArm("a", schedule="ramp"),)}, "unknown schedule 'ramp'"),
    ({"arms": (NetworkArm("a", model="alexnet"),)}, "unknown model 'alexnet'"),
    ({"arms": (NetworkArm("a", adversary="cw"),)}, "unknown adversary 'cw'"),
    ({"arms": (NetworkArm("a", adversary="pgd_l2", hyper=_BAD_RADIUS),)}, "adversary_radius is -1"),
    ({"robustness": RobustnessTest(steps=0)}, "adversary_steps is 0"),
    ({"arms": (NetworkArm("a", copies=0),)}, "copies is 0"),
    ({"verifier": NetworkArm("v", copies=4)}, "leave copies out of --verifier"),
    ({"inversions": {}}, "no inversion is given"),
    ({"inversions": {"x": Inversion(scales=(3, 1))}}, "blocks of 3 do not fill"),
    ({"candidates": 1.5}, "give a share from 0 to 1"),
    ({"candidates": 0.1}, "not even one candidate in and one out"),
    ({"batch_size": 60}, "a batch of 60 does not fit the 50 images"),
  ],
)
def test_what_does_not_is_refused_in_a_line(shapes, change, words):
  with pytest.raises(InputError, match=words) as error:
    check(replace(_settings(), **change), shapes)
  assert "\n" not in str(error.value)
