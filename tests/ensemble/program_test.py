"""Groups as compiled programs: each model is what it would be alone, whoever stands beside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benches import Bench
from jaxinv.ensemble import mapping
from jaxinv.ensemble.program import (
  TOGETHER,
  _suitable_block,
  advance_group,
  chunk_lengths,
  make_program,
  start_group,
  train_group,
)
from jaxinv.training.trainer import run
from jaxinv.types import Hyper, TrainState


def same_bits(one, i, other, j):
  """Whether place i of a group and place j of another hold the same model and history."""
  pairs = zip(jax.tree.leaves(one.states.params), jax.tree.leaves(other.states.params), strict=True)
  records = zip(one.history, other.history, strict=True)
  return all((a[i] == b[j]).all() for a, b in pairs) and all(
    np.array_equal(a[:, i], b[:, j], equal_nan=True) for a, b in records
  )


def test_the_group_equals_a_loop_over_single_models(bench):
  """To a tolerance: a program of another width sums its products in another order."""
  seeds = [0, 1, 2, 3]
  group = bench.train(seeds)
  keys, hypers, data = bench.prepare(seeds)

  @jax.jit
  def alone(key, hyper, data):
    state = bench.trainer.init(key, hyper, data)
    state, _ = run(bench.trainer, state, hyper, data, 6)
    return bench.trainer.params(state, data), state.order, bench.trainer.evaluate(state, data)

  kernels = bench.kernels(group.states, seeds)
  for i in range(4):
    mine = mapping.run_at((0, 0, mapping.SHARED_DATA), (keys, hypers, data), i)
    params, order, record = alone(*mine)
    np.testing.assert_array_equal(group.states.order[i], order)
    np.testing.assert_allclose(kernels[i], params["Dense_0"]["kernel"], atol=1e-5)
    assert group.history.train_loss[-1, i] == pytest.approx(float(record.train_loss), rel=1e-4)


def test_a_seeds_model_is_the_same_bits_in_whatever_group_and_place(bench):
  first, second = bench.train([0, 1, 2, 3]), bench.train([3, 5, 8, 1])
  assert same_bits(first, 1, second, 3) and same_bits(first, 3, second, 0)
  assert not same_bits(first, 0, second, 0)


def test_padding_does_no_harm(bench):
  padded = bench.train(mapping.pad([2, 5], 4))
  assert same_bits(padded, 0, bench.train([2, 5, 0, 1]), 0)
  assert same_bits(padded, 1, padded, 3)


def test_one_trace_serves_all_values_of_all_hyperparameters(planted, engine):
  bench = Bench(planted, engine=engine)
  bench.train([0, 1, 2, 3])
  traced = bench.traces
  assert traced > 0
  bench.train([5, 1, 8, 2])
  for value in (1e-3, 0.7):
    group = dict.fromkeys(range(4), Hyper(value, value, value, 1 + value, value, value))
    bench.train(range(4), group | {1: Hyper(value), 2: Hyper(clip_norm=1e-3)})
  assert bench.traces == traced


def test_a_diverging_neighbour_is_flagged_and_leaves_the_others_bits_alone(planted, engine):
  bench = Bench(planted, "sgd", "squared", engine)
  calm = dict.fromkeys(range(4), Hyper(0.01))
  quiet = bench.train(range(4), calm, steps=30)
  stormy = bench.train(range(4), calm | {2: Hyper(1e20)}, steps=30)
  assert quiet.history.finite.all()
  np.testing.assert_array_equal(stormy.history.finite[-1], [True, True, False, True])
  kernels = bench.kernels(stormy.states, range(4))
  np.testing.assert_array_equal(np.isfinite(kernels).any((1, 2)), [True, True, False, True])
  assert all(same_bits(quiet, i, stormy, i) for i in (0, 1, 3))


def test_weights_that_overflow_between_two_records_are_flagged(bench):
  """For what is no number stays none: a huge step in the middle of a chunk is not overlooked."""
  keys, hypers, data = bench.prepare([0, 1, 2, 3])

  def step(state, hyper, data):
    far = (state.step == 1) & (hyper.learning_rate > 0.4)
    state, info = bench.trainer.step(state, hyper, data)
    params = jax.tree.map(lambda x: jnp.where(far, jnp.inf, x), state.params)
    return state._replace(params=params), info

  program = make_program(bench.trainer._replace(step=step))
  start = start_group(program, keys, hypers, data)
  end = train_group(program, start, hypers, data, 12, 12)
  np.testing.assert_array_equal(end.history.finite, [[True] * 4, [False, True, True, True]])


def test_arms_share_a_seeds_initial_weights_split_and_batches(planted, bench):
  other = Bench(planted, optimizer="adam")
  one, two = bench.train([0, 1, 2, 3]), other.train([0, 1, 2, 3])
  np.testing.assert_array_equal(one.states.order, two.states.order)
  seeds = [0, 1, 2, 3]
  starts = [b.kernels(b.program.init(*b.prepare(seeds)), seeds) for b in (bench, other)]
  np.testing.assert_array_equal(*starts)
  ordinary = bench.prepare(seeds, dict.fromkeys(range(4), Hyper(0.9)))
  same = bench.kernels(bench.program.init(*ordinary), seeds)
  np.testing.assert_array_equal(same[:3], starts[0][:3])
  np.testing.assert_allclose(3 * same[3], starts[0][3], rtol=1e-6)  # Its init_scale is 3.


def test_history_has_a_record_before_the_first_step_and_after_every_chunk(bench):
  progress = bench.train([0, 1, 2, 3])
  assert {values.shape for values in progress.history} == {(3, 4)}
  assert int(progress.states.step) == 6
  keys, hypers, data = bench.prepare([0, 1, 2, 3])
  start = start_group(bench.program, keys, hypers, data)
  np.testing.assert_array_equal(start.history.train_loss[0], progress.history.train_loss[0])


def test_the_caller_looks_in_after_every_chunk(bench):
  keys, hypers, data = bench.prepare([0, 1, 2, 3])
  progress = start_group(bench.program, keys, hypers, data)
  for length, done in ((3, 3), (4, 7)):
    progress = advance_group(bench.program, progress, hypers, data, length)
    assert int(progress.states.step) == done
  assert progress.history.train_loss.shape == (3, 4)


@pytest.mark.parametrize("every", [1, 3, 7, 50])
@pytest.mark.parametrize("steps", [0, 1, 7, 20])
def test_chunks_cover_the_steps_and_end_at_multiples_from_wherever_they_start(steps, every):
  whole = np.cumsum([0, *chunk_lengths(steps, every)])
  assert whole[-1] == steps and all(end % every == 0 for end in whole[:-1])
  for done in whole:
    rest = done + np.cumsum([0, *chunk_lengths(steps, every, int(done))])
    assert list(rest) == [end for end in whole if end >= done]


@pytest.mark.parametrize(("width", "block"), [(4, 1), (4, 2), (5, 2)])
def test_a_group_that_steps_in_blocks_is_the_same_models(bench, width, block):
  """To a tolerance, for a block is a program of another width; five is prime."""
  seeds = [0, 1, 2, 3, 5][:width]
  keys, hypers, data = bench.prepare(seeds)
  ends = []
  for size in (block, width):
    program = make_program(bench.trainer, block=size)
    states = program.init(keys, hypers, data)
    ends.append(program.advance(states, hypers, data, num_steps=6))
  (one, record), (other, expected) = ends
  assert int(one.step) == int(other.step) == 6
  np.testing.assert_array_equal(one.order, other.order)
  kernels = [bench.kernels(states, seeds) for states in (one, other)]
  np.testing.assert_allclose(*kernels, atol=1e-5)
  np.testing.assert_allclose(record.train_loss, expected.train_loss, rtol=1e-4)


@pytest.mark.skipif(jax.devices()[0].platform != "cpu", reason="elsewhere all runs stand together")
@pytest.mark.parametrize(
  ("width", "together"), [(1, 1), (4, 4), (11, 11), (16, 8), (17, 17), (22, 11), (64, 8)]
)
def test_runs_that_share_a_product_stand_about_as_many_together_as_is_quickest(width, together):
  """On whatever they weigh; a prime number of them is not trained one by one."""
  states = TrainState({"w": jnp.zeros((width, 300, 400))}, (), jnp.zeros(()), jnp.zeros(width), 0)
  device = jax.devices()[0]
  assert _suitable_block(states, device, TOGETHER) == together
