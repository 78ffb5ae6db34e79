"""Which people and how many photographs of each; what is refused before training."""

from dataclasses import replace

import numpy as np
import pytest
from planted_leaves import leaf_dataset

from jaxinv.errors import InputError
from jaxinv.experiments.photographs.settings import (
  MOST_PICTURES,
  Axis,
  check,
  num_steps,
  part_of,
  trained_with,
  variants,
)


@pytest.mark.parametrize(
  ("number", "people", "each"), [(12, 6, 2), (18, 6, 3), (4, 4, 1), (10, 5, 2)]
)
def test_photographs_are_spread_over_as_many_people_as_can_be(leaves, number, people, each):
  part = part_of(leaves, number, seed=3)
  assert part.dataset.num_classes == people and part.each == each
  np.testing.assert_array_equal(part.dataset.inputs, leaves.inputs[part.index])
  assert (np.bincount(part.dataset.labels) == 4).all()
  original = leaves.labels[part.index]
  assert [leaves.names[k] for k in original] == [part.dataset.names[k] for k in part.dataset.labels]


def test_people_with_more_pictures_keep_as_many_as_the_others(leaves):
  uneven = leaves._replace(inputs=leaves.inputs[:-1], labels=leaves.labels[:-1])
  part = part_of(uneven, 12, seed=0)
  assert (np.bincount(part.dataset.labels) == 3).all()


def test_decoys_of_a_large_data_set_are_few():
  many = leaf_dataset(people=2, each=8, shape=(4, 4))
  index = np.repeat(np.arange(16), MOST_PICTURES // 8)
  large = many._replace(inputs=many.inputs[index], labels=many.labels[index])
  assert len(part_of(large, 4, seed=0).index) == MOST_PICTURES


def test_what_is_held_out_is_what_is_not_trained_on(spec, leaves):
  part = part_of(leaves, 12, seed=0)
  settings = trained_with(spec, part)
  assert settings.holdout == 2 and settings.num_seeds == 2 and not settings.fixed_split
  assert trained_with(replace(spec, releases=3), part).num_seeds == 6
  assert trained_with(replace(spec, releases=3), part).fixed_split


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"numbers": (24,)}, "decoy"),
    ({"numbers": (13,)}, "evenly"),
    ({"numbers": (1,)}, "2 or more"),
    ({"numbers": ()}, "one number or more"),
    ({"numbers": (12, 12)}, "twice"),
    ({"releases": 0}, "1 or more"),
    ({"axis": Axis("pixels", (400.0,))}, "heights"),
    ({"axis": Axis("releases", (2.0, 0.0))}, "1 or more"),
    ({"axis": Axis("release_bits", (0.0,))}, "release_bits"),
  ],
)
def test_what_cannot_be_made_is_refused_before_training(spec, leaves, changes, words):
  with pytest.raises(InputError, match=words):
    check(replace(spec, **changes), leaves)
  check(spec, leaves)


def test_a_map_varies_one_thing_and_keeps_the_rest(spec, leaves):
  wide, wider = variants(replace(spec, axis=Axis("hidden", (16.0, 32.0))), leaves)
  assert (wide.suffix, wide.spec.settings.hidden) == ("-hidden-16", (16,))
  assert wider.spec == replace(spec, settings=replace(spec.settings, hidden=(32,)))
  (few,) = variants(replace(spec, axis=Axis("release_bits", (8.0,))), leaves)
  assert {arm.hyper.release_bits for arm in few.spec.settings.arms} == {8.0}
  assert [v.suffix for v in variants(spec, leaves)] == [""]


def test_smaller_photographs_are_means_of_pixels(spec, leaves):
  flat = leaves._replace(inputs=np.repeat(leaves.inputs[:, :1], leaves.inputs.shape[1], 1))
  (small,) = variants(replace(spec, axis=Axis("pixels", (10.0,))), flat)
  assert small.dataset.image_shape == (10, 8) and small.dataset.inputs.shape == (24, 80)
  np.testing.assert_allclose(small.dataset.inputs, flat.inputs[:, :80], atol=1e-6)


def test_steps_are_counted_of_all_that_is_trained(spec):
  each = 2 * 3 * spec.settings.steps
  assert num_steps(spec) == each
  assert num_steps(replace(spec, releases=2, axis=Axis("hidden", (8.0, 16.0)))) == 4 * each
  assert num_steps(replace(spec, axis=Axis("releases", (1.0, 3.0)))) == 4 * each
  assert num_steps(replace(spec, axis=Axis("steps", (10.0, 20.0)))) == 2 * 3 * 30
