"""Batches: a Poisson batch is a coin for each example, and nobody outside the split takes part."""

import hypothesis
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxinv.data import splits
from jaxinv.ensemble.seeds import split_data
from jaxinv.training import dpsgd
from jaxinv.training.batches import poisson_batch, shares

KEYS = jax.random.split(jax.random.key(11), 4000)
SIZE, TRAIN = 6, 30
CHANCE = SIZE / TRAIN


@pytest.fixture(scope="module")
def data(planted):
  """The planted images, two of each class held out: 30 to train on."""
  shared = split_data(splits.whole(planted), planted.num_classes, 0, [0], 2)
  return shared._replace(train=shared.train[0], holdout=shared.holdout[0])


def draw(data, size=SIZE, capacity=TRAIN, keys=KEYS):
  """A batch for each key: indices and shares, [keys, places]."""
  many = jax.jit(jax.vmap(lambda key: poisson_batch(key, data, size, capacity)))
  return tuple(map(np.asarray, many(keys)))


def taken(data, index, share):
  """Whether each training example has a share, [keys, m]."""
  whole = np.zeros((len(index), len(data.labels)))
  np.add.at(whole, (np.arange(len(index))[:, None], index), share)
  return whole[:, np.asarray(data.train)] > 0


@pytest.fixture(scope="module")
def drawn(data):
  """Four thousand batches of six in the mean, with a place for everybody."""
  return draw(data)


def assert_coins(joined, chance):
  """That the columns are coins: their chance, no covariance, sums as of a binomial law."""
  count, places = joined.shape
  variance = chance * (1 - chance)
  assert np.abs(joined.mean(0) - chance).max() < 5 * np.sqrt(variance / count)
  centred = joined - joined.mean(0)
  covariance = centred.T @ centred / count
  np.fill_diagonal(covariance, 0)
  assert np.abs(covariance).max() < 5 * variance / np.sqrt(count)
  sizes = joined.sum(1)
  expected = places * variance
  kurtosis = 3 + (1 - 6 * variance) / expected
  assert abs(sizes.var() - expected) < 5 * expected * np.sqrt((kurtosis - 1) / count)
  assert abs(sizes.mean() - places * chance) < 5 * np.sqrt(expected / count)


def test_each_example_joins_by_a_coin_of_its_own(data, drawn):
  assert_coins(taken(data, *drawn), CHANCE)


def test_control_batches_of_one_size_are_no_coins(data):
  """As shuffled ones are: each example joins as often, but the others know of it."""
  joined = np.zeros((len(KEYS), TRAIN))
  rng = np.random.default_rng(0)
  chosen = rng.permuted(np.tile(np.arange(TRAIN), (len(KEYS), 1)), axis=1)[:, :SIZE]
  np.put_along_axis(joined, chosen, 1, 1)
  assert np.abs(joined.mean(0) - CHANCE).max() < 5 * np.sqrt(CHANCE * (1 - CHANCE) / len(KEYS))
  with pytest.raises(AssertionError):
    assert_coins(joined, CHANCE)


def test_a_place_that_is_taken_has_one_over_the_mean_size_and_others_none(drawn):
  _, share = drawn
  np.testing.assert_allclose(np.unique(share), [0, 1 / SIZE], rtol=1e-6)
  # In the mean a batch has all of the objective, though hardly ever exactly.
  error = np.sqrt(TRAIN * CHANCE * (1 - CHANCE)) / SIZE / np.sqrt(len(KEYS))
  assert abs(share.sum(1).mean() - 1) < 5 * error and np.ptp(share.sum(1)) > 1


def test_no_example_has_two_places_and_none_that_is_held_out_has_one(data, drawn):
  index, share = drawn
  assert all(len(set(row)) == TRAIN for row in index)
  assert set(index[share > 0]) == set(map(int, data.train))


def test_equal_keys_draw_equal_batches(data, drawn):
  index, share = draw(data, keys=KEYS[:7])
  np.testing.assert_array_equal(index, drawn[0][:7])
  np.testing.assert_array_equal(share, drawn[1][:7])


@pytest.mark.parametrize("size", [0, TRAIN])
def test_the_full_batch_is_everybody_and_all_alike(data, size):
  index, share = draw(data, size, dpsgd.capacity(TRAIN, TRAIN), KEYS[:50])
  np.testing.assert_array_equal(np.sort(index), np.tile(np.sort(data.train), (50, 1)))
  np.testing.assert_allclose(share, 1 / TRAIN, rtol=1e-6)


def test_with_one_place_somebody_has_it_wherever_anybody_joins(data, drawn):
  index, share = draw(data, capacity=1)
  assert share.shape == (len(KEYS), 1)
  joined = taken(data, *drawn)
  np.testing.assert_array_equal(share[:, 0] > 0, joined.any(1))
  mine = taken(data, index, share)
  assert mine.sum(1).max() == 1 and (joined | ~mine).all()
  nobody = (1 - CHANCE) ** TRAIN
  assert abs(np.mean(share == 0) - nobody) < 5 * np.sqrt(nobody / len(KEYS))


@pytest.mark.parametrize("capacity", [4, 12, 29])
def test_who_finds_no_place_is_left_out_and_nobody_else(data, drawn, capacity):
  joined, cut = taken(data, *drawn), taken(data, *draw(data, capacity=capacity))
  np.testing.assert_array_equal(cut.sum(1), np.minimum(joined.sum(1), capacity))
  assert (joined | ~cut).all()


def test_the_places_that_privacy_asks_for_are_enough(data, drawn):
  places = dpsgd.capacity(SIZE, TRAIN)
  assert places < TRAIN
  mine = taken(data, *draw(data, capacity=places))
  np.testing.assert_array_equal(mine, taken(data, *drawn))


def test_an_example_has_a_part_as_large_as_it_counts_and_joins_as_often(data, drawn):
  keep = np.resize(np.float32([1, 0, 0.25]), len(data.labels))
  index, share = draw(data._replace(keep=jnp.asarray(keep)))
  np.testing.assert_array_equal(index, drawn[0])
  np.testing.assert_allclose(share, drawn[1] * keep[index], rtol=1e-6)
  assert not share[keep[index] == 0].any()


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(hnp.arrays(np.float32, 8, elements=st.just(0.0) | st.floats(0.5, 1e6, width=32)))
def test_shares_are_in_proportion_and_sum_to_one_or_of_nothing_to_nothing(weights):
  found = np.asarray(shares(jnp.asarray(weights)))
  assert found.sum() == pytest.approx(float(weights.any()), rel=1e-5)
  np.testing.assert_allclose(found * weights.sum(), weights, rtol=1e-5)
