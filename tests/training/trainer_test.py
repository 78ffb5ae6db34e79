"""What all engines share: the record of one model, and the loop over its steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.data import splits
from jaxinv.training.losses import LOSSES
from jaxinv.training.trainer import Trainer, all_finite, record, run
from jaxinv.types import Data, Hyper, Info, TrainState


def test_of_equal_logits_the_first_class_is_the_answer(planted):
  """As of argmax; untrained weights of zero thus classify as chance does."""
  data = splits.whole(planted)
  rng = np.random.default_rng(0)
  logits = rng.integers(0, 3, (40, 5)).astype(np.float32)  # Many ties.
  finite = jnp.asarray(True)
  found = record(LOSSES["softmax"], jnp.asarray(logits), data, finite)
  assert float(found.train_accuracy) == pytest.approx((logits.argmax(1) == planted.labels).mean())
  found = record(LOSSES["softmax"], jnp.zeros((40, 5)), data, finite)
  assert float(found.train_accuracy) == pytest.approx(0.2)


def test_a_run_takes_its_steps_one_after_another_in_any_chunks():
  def step(state, hyper, data):
    return state._replace(params=hyper.learning_rate * state.params + 1), Info(state.params)

  trainer = Trainer(*[None] * 6)._replace(step=step)
  start = TrainState(
    jnp.float32(1), None, jnp.zeros((), jnp.int32), jax.random.key(0), jnp.arange(1)
  )
  index = jnp.arange(1)
  parts = Hyper(2.0), Data(jnp.ones((1, 1)), index, index, index)
  whole, info = run(trainer, start, *parts, 5)
  half, _ = run(trainer, start, *parts, 2)
  assert info.loss.tolist() == [1, 3, 7, 15, 31]  # 2 x + 1, from 1 on.
  assert whole.params == run(trainer, half, *parts, 3)[0].params == 63


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_found_in_any_tree(bad):
  tree = {"a": jnp.ones(3), "b": (jnp.zeros(()), jnp.ones((2, 2)))}
  assert all_finite(tree)
  assert not all_finite({**tree, "b": (jnp.zeros(()), jnp.ones((2, 2)).at[1, 0].set(bad))})
