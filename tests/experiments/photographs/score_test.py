"""One to one, against all pictures."""

import numpy as np
from planted_leaves import leaf_pictures

from jaxinv.experiments.photographs.score import prepare, score

SHAPE = (20, 16)
PICTURES = leaf_pictures(8, SHAPE)


def test_copies_are_identified_and_strangers_are_not():
  ready = prepare(PICTURES.reshape(8, -1), SHAPE)
  found = score(3 * PICTURES[[5, 1, 2]] + 1, ready, np.array([1, 2, 5]))
  assert found.closest.tolist() == [5, 1, 2] and found.photograph.tolist() == [2, 0, 1]
  np.testing.assert_allclose(found.quality, 1, atol=1e-5)
  np.testing.assert_allclose(found.edge_quality, 1, atol=1e-5)
  assert found.identified.all() and found.is_member.all()
  strangers = score(PICTURES[[5, 1, 2]], ready, np.array([0, 3, 4]))
  assert not strangers.identified.any() and not strangers.is_member.any()


def test_a_photograph_counts_once_and_a_negative_does_not():
  ready = prepare(PICTURES.reshape(8, -1), SHAPE)
  twice = score(PICTURES[[5, 5]], ready, np.array([1, 5]))
  assert twice.identified.tolist() == [False, True] and twice.is_member.all()
  assert twice.shares()["identified"] == 0.5 and twice.shares()["members_first"] == 1.0
  negative = score(1 - PICTURES[[5]], ready, np.array([5]))
  assert not negative.identified.any() and negative.quality[0] < 0


def test_no_components_and_too_few_are_no_error():
  ready = prepare(PICTURES.reshape(8, -1), SHAPE)
  none = score(np.zeros((0, *SHAPE)), ready, np.array([1, 2]))
  assert none.quality.tolist() == [0, 0] and not none.identified.any()
  assert np.isnan(none.shares()["members_first"])
  one = score(PICTURES[[2]], ready, np.array([1, 2]))
  assert one.identified.tolist() == [False, True]
