"""Splits: every class gives up exactly what is asked, and nothing is lost or seen twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import assert_fails, part_means, plant
from jaxinv.data import splits
from jaxinv.ensemble.seeds import split_data
from jaxinv.errors import InputError
from jaxinv.types import Dataset

LABELS = np.random.default_rng(1).permutation(np.repeat(np.arange(4), [3, 9, 5, 4])).astype("i4")


def unequal():
  """Four classes of 3, 9, 5 and 4 examples."""
  inputs = np.random.default_rng(2).uniform(size=(len(LABELS), 6)).astype(np.float32)
  return Dataset(inputs, LABELS, 4, (2, 3), ("anna", "bert", "carl", "dora"))


def draw(seeds, holdout, fixed=False, root=0):
  return split_data(splits.whole(unequal()), 4, root, seeds, holdout, fixed)


@pytest.mark.parametrize("holdout", [0, 1, 2])
def test_every_class_gives_up_exactly_so_many_and_the_parts_cover_all_once(holdout):
  data = draw(range(20), holdout)
  assert data.holdout.shape == (20, 4 * holdout)
  for train, held in zip(np.asarray(data.train), np.asarray(data.holdout), strict=True):
    np.testing.assert_array_equal(np.bincount(LABELS[held], minlength=4), [holdout] * 4)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(len(LABELS)))
    assert (np.diff(train) > 0).all() and (np.diff(held) > 0).all()


def test_every_example_is_held_out_as_often_as_any_other_of_its_class():
  """Within four standard errors, over 400 seeds."""
  held = np.bincount(np.asarray(draw(range(400), 2).holdout).ravel(), minlength=len(LABELS)) / 400
  share = 2 / np.bincount(LABELS)[LABELS]
  assert (np.abs(held - share) < 4 * np.sqrt(share * (1 - share) / 400)).all()


def test_seeds_have_splits_of_their_own_and_roots_too():
  one, other = draw([0, 1], 2), draw([0, 1], 2, root=5)
  assert (one.holdout[0] != one.holdout[1]).any()
  assert (one.holdout[0] != other.holdout[0]).any()


def test_a_seeds_split_is_the_same_whoever_its_neighbours_are():
  np.testing.assert_array_equal(draw([3, 1, 8], 2).train[1], draw([1], 2).train[0])


def test_a_fixed_split_is_one_for_all_seeds_and_decided_by_the_root():
  data = draw([0, 7, 9], 2, fixed=True)
  np.testing.assert_array_equal(data.train, np.stack([data.train[0]] * 3))
  np.testing.assert_array_equal(data.holdout[0], draw([4], 2, fixed=True).holdout[0])
  assert (data.holdout[0] != draw([0], 2, fixed=True, root=1).holdout[0]).any()


def test_class_means_are_those_of_numpy():
  dataset = unequal()
  index = np.asarray(draw([3], 2).train)[0]
  means = splits.class_means(
    jnp.asarray(dataset.inputs), jnp.asarray(LABELS), jnp.asarray(index), 4
  )
  chosen = [index[LABELS[index] == c] for c in range(4)]
  expected = np.stack([dataset.inputs[c].mean(0) for c in chosen])
  np.testing.assert_allclose(means, expected, rtol=1e-5)


def test_the_mean_of_no_example_is_zero():
  nobody = jnp.zeros(0, jnp.int32)
  means = splits.class_means(jnp.ones((len(LABELS), 6)), jnp.asarray(LABELS), nobody, 4)
  np.testing.assert_array_equal(means, np.zeros((4, 6)))


def test_a_class_too_small_is_named_with_the_largest_number_that_works():
  splits.check_split(unequal(), 2)
  with pytest.raises(InputError, match=r"class 'anna' has 3 examples.*hold out 3.*--holdout=2 "):
    splits.check_split(unequal(), 3)


def test_a_class_without_examples_is_refused_even_with_nothing_to_hold_out():
  empty = unequal()._replace(num_classes=5, names=("anna", "bert", "carl", "dora", "emil"))
  with pytest.raises(InputError, match="'emil' has 0 examples"):
    splits.check_split(empty, 0)


@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_parts_are_equally_large_and_share_nothing_where_a_class_has_enough(size):
  dataset = unequal()
  index = np.arange(len(LABELS))
  shares = np.asarray(splits.part_shares(jnp.asarray(LABELS), jnp.asarray(index), 4, size))
  assert len(shares) == max(1, len(LABELS) // 4 // size)
  np.testing.assert_allclose(shares.sum(2), 1, rtol=1e-6)
  for c, count in enumerate(np.bincount(LABELS)):
    used = shares[:, c] > 0
    np.testing.assert_array_equal(used.sum(1), min(size, count))
    assert not used[:, c != LABELS].any()
    if count >= size * len(shares):
      assert used.sum(0).max() == 1
  means = part_means(dataset, index, size)
  np.testing.assert_allclose(shares @ dataset.inputs, means, atol=1e-6)


def test_whole_holds_nothing_out():
  data = splits.whole(unequal())
  np.testing.assert_array_equal(data.train, np.arange(len(LABELS)))
  assert data.holdout.shape == (0,)
  assert all(isinstance(leaf, jax.Array) for leaf in data[:4])
  assert data.keep is None and data.gram is None


def test_a_split_leaves_all_else_of_the_data_as_it_is():
  before = splits.whole(unequal())._replace(keep=jnp.ones(len(LABELS)), gram=jnp.eye(len(LABELS)))
  after = split_data(before, 4, 0, [0, 1], 2)
  for name in ("inputs", "labels", "keep", "gram"):
    assert getattr(after, name) is getattr(before, name)


def test_a_sound_data_set_passes():
  splits.check_dataset(unequal())
  splits.check_dataset(plant(shape=(4, 3, 3)))
  splits.check_dataset(unequal()._replace(image_shape=None))


def with_input(value):
  inputs = unequal().inputs.copy()
  inputs[3, 2] = value
  return inputs


@pytest.mark.parametrize(
  ("changes", "parts"),
  [
    ({"inputs": np.zeros((21, 6), np.uint8)}, ("uint8", "[0, 1]", "255")),
    ({"inputs": unequal().inputs * 255}, ("[0, 1]", "scale bytes by 255")),
    ({"inputs": with_input(-0.1)}, ("-0.1", "[0, 1]")),
    ({"inputs": with_input(np.nan)}, ("not all finite",)),
    ({"inputs": with_input(np.inf)}, ("not all finite",)),
    ({"inputs": np.zeros((21, 2, 3))}, ("(21, 2, 3)", "one row an example")),
    ({"labels": LABELS[1:]}, ("21 inputs", "(20,)")),
    ({"labels": LABELS.astype(float)}, ("float64", "whole numbers")),
    ({"labels": LABELS + 1}, ("label 4", "from 0 to 3")),
    ({"labels": LABELS - 1}, ("label -1", "from 0 to 3")),
    ({"labels": np.where(LABELS == 2, 1, LABELS)}, ("class 'carl'", "no example")),
    ({"inputs": unequal().inputs.tolist()}, ("inputs are a list", "NumPy array")),
    ({"labels": [0, 1]}, ("labels are a list", "NumPy array")),
    ({"image_shape": (-2, -3)}, ("6 features", "(-2, -3)")),
    ({"image_shape": (3, 3)}, ("6 features", "(3, 3)")),
    ({"image_shape": (6,)}, ("6 features", "(6,)")),
    ({"names": ("anna", "bert")}, ("4 classes and 2 names",)),
    ({"num_classes": 1, "names": ("anna",)}, ("2 or more",)),
  ],
)
def test_an_unsound_data_set_is_refused_in_one_line(changes, parts):
  assert_fails(lambda: splits.check_dataset(unequal()._replace(**changes)), *parts)


def test_a_data_set_is_divided_by_class_and_nothing_is_lost():
  """Of 3, 9, 5 and 4 examples a fifth, rounded: 1, 2, 1 and 1."""
  dataset = unequal()
  train, test = splits.divide(dataset, 0.2, 7)
  np.testing.assert_array_equal(np.bincount(test.labels), [1, 2, 1, 1])
  both = np.concatenate([train.inputs, test.inputs])
  assert sorted(map(tuple, both)) == sorted(map(tuple, dataset.inputs))
  for part in (train, test):
    rows = [np.flatnonzero((dataset.inputs == row).all(1))[0] for row in part.inputs]
    assert rows == sorted(rows)
    np.testing.assert_array_equal(part.labels, LABELS[rows])
    assert part.names == dataset.names and part.image_shape == (2, 3)


def test_a_division_is_its_seed_s_and_no_class_gives_all():
  first, again, other = (splits.divide(unequal(), 0.2, seed).test.inputs for seed in (1, 1, 2))
  np.testing.assert_array_equal(first, again)
  assert first.shape == other.shape and (first != other).any()
  np.testing.assert_array_equal(np.bincount(splits.divide(unequal(), 1.0, 0).train.labels), [1] * 4)


def test_a_class_of_one_example_cannot_be_divided():
  alone = unequal()._replace(inputs=unequal().inputs[:4], labels=np.array([0, 0, 1, 2], "i4"))
  alone = alone._replace(num_classes=3, names=alone.names[:3])
  assert_fails(lambda: splits.divide(alone, 0.2, 0), "class 'bert' has 1 example")
