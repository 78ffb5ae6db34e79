"""The values that travel: random streams do not meet."""

import itertools

import jax
import numpy as np

from jaxinv.types import Stream


def test_no_two_streams_of_one_key_are_the_same():
  keys = [(stream.value[0], stream) for stream in Stream]
  for (owner, one), (other, two) in itertools.combinations(keys, 2):
    assert owner != other or one.label != two.label, (one, two)


def test_a_stream_is_its_label_folded_into_the_key():
  key = jax.random.key(3)
  expected = jax.random.fold_in(key, Stream.HALF.label)
  np.testing.assert_array_equal(*map(jax.random.key_data, (Stream.HALF.of(key), expected)))
