"""Which photographs make up a face: the coefficients, in order."""

import numpy as np
import planted_faces as planted
import pytest

from jaxinv.experiments.faces.shares import find_shares


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_photographs_come_in_the_order_of_their_coefficients(shape):
  data, arm = planted.dataset(shape), planted.arm_outcome(shape, 0.5)
  train = np.array([0, 1, 2, 4, 8])
  weight = np.zeros((1, 12, 3))
  weight[0, train, 0] = [1.0, 3.0, 2.0, -1.0, -3.0]
  found = find_shares(data, arm._replace(arrays={"coefficients": weight}), train, 0, most=8)
  np.testing.assert_array_equal(found.own_weight, [3, 2, 1])
  np.testing.assert_array_equal(found.own, data.inputs[[1, 2, 0]].reshape(3, *shape))
  np.testing.assert_array_equal(found.other_weight, [-3, -1])
  assert found.own_part == pytest.approx(6 / 10) and found.name == "Zoë"
  assert found.image.shape == shape and found.image.min() == 0 and found.image.max() == 1


def test_coefficients_that_are_all_zero_give_a_part_of_zero():
  data, arm = planted.dataset((6, 5)), planted.arm_outcome((6, 5), 0.5)
  arrays = {"coefficients": np.zeros((1, 12, 3))}
  assert find_shares(data, arm._replace(arrays=arrays), np.arange(12), 0).own_part == 0
