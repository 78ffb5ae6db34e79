"""The values that travel: random streams do not meet; what is printed is short."""

import itertools

import jax
import numpy as np

from helpers import plant
from jaxinv.types import Hyper, Release, Stream


def test_no_two_streams_of_one_key_are_the_same():
  keys = [(stream.value[0], stream) for stream in Stream]
  for (owner, one), (other, two) in itertools.combinations(keys, 2):
    assert owner != other or one.label != two.label, (one, two)


def test_a_stream_is_its_label_folded_into_the_key():
  key = jax.random.key(3)
  expected = jax.random.fold_in(key, Stream.HALF.label)
  np.testing.assert_array_equal(*map(jax.random.key_data, (Stream.HALF.of(key), expected)))


def test_a_data_set_prints_what_it_holds_and_not_its_numbers():
  data = plant()
  assert repr(data) == "Dataset(40 images of 13 x 11, 5 classes)"
  data = plant(shape=(4, 3, 3))._replace(drawn=True)
  assert repr(data) == "Dataset(40 images of 4 x 3 x 3, 5 classes, drawn by a program)"
  data = data._replace(image_shape=None, drawn=False)
  assert repr(data) == "Dataset(40 examples of 36 features, 5 classes)"


def test_hyperparameters_print_where_they_differ_from_the_defaults():
  assert repr(Hyper()) == "Hyper()" and repr(Hyper(momentum=0.9)) == "Hyper()"
  assert repr(Hyper(0.5, dropout=0.25)) == "Hyper(learning_rate=0.5, dropout=0.25)"
  assert repr(Hyper(np.array([0.1, 0.2]))) == "Hyper(learning_rate=array([0.1, 0.2]))"


def test_a_release_prints_what_the_attacker_holds():
  assert repr(Release({"kernel": np.ones(3)}, peers={})) == "Release(params, peers)"
