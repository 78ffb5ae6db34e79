"""Many models at once: each is what it would be alone, whoever stands beside it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.data import splits
from jaxinv.ensemble import mapping, memory
from jaxinv.ensemble.program import (
  TOGETHER,
  _suitable_block,
  advance_group,
  chunk_lengths,
  make_program,
  start_group,
  state_shapes,
  train_group,
)
from jaxinv.ensemble.seeds import seed_keys, split_data, train_keys
from jaxinv.models.dense import make_model
from jaxinv.training import gram, primal
from jaxinv.training.losses import LOSSES, Loss
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.training.trainer import run
from jaxinv.types import Hyper, TrainState

ENGINES = {"primal": primal.make_trainer, "gram": gram.make_trainer}
HYPERS = {
  0: Hyper(0.5),
  1: Hyper(0.1, weight_decay=0.1),
  2: Hyper(0.3, clip_norm=0.1),
  3: Hyper(0.2, init_scale=3.0, label_smoothing=0.2),
  5: Hyper(0.9, weight_decay=0.01, clip_norm=1.0),
  8: Hyper(),
}


class Bench:
  """A compiled program for groups of four seeds, each seed with hyperparameters of its own."""

  def __init__(self, dataset, optimizer="momentum", loss="softmax", engine="primal"):
    self.traces = 0
    value = LOSSES[loss].value
    data = splits.whole(dataset)
    self.data = data._replace(gram=gram.gram_matrix(data.inputs, True))

    def counted(logits, targets):
      self.traces += 1
      return value(logits, targets)

    loss = Loss(counted, LOSSES[loss].residual)
    self.trainer = ENGINES[engine](make_model(5), loss, OPTIMIZERS[optimizer], 7)
    self.program = make_program(self.trainer)

  def prepare(self, seeds, hypers=HYPERS):
    """Keys, hyperparameters and data of a group."""
    data = split_data(self.data, 5, 3, seeds, 2)
    stacked = mapping.stack_hypers([hypers[seed] for seed in seeds])
    return train_keys(3, seeds), stacked, data

  def train(self, seeds, hypers=HYPERS, steps=6):
    keys, stacked, data = self.prepare(seeds, hypers)
    progress = start_group(self.program, keys, stacked, data)
    return train_group(self.program, progress, stacked, data, steps, 3)

  def kernels(self, states, seeds):
    """The weights of a group, [s, p, k]."""
    axes = (mapping.STATE_AXES, self.program.data_axes)
    params = jax.jit(jax.vmap(self.trainer.params, in_axes=axes))
    return np.asarray(params(states, self.prepare(seeds)[2])["Dense_0"]["kernel"])


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
  return request.param


@pytest.fixture(scope="module")
def bench(planted, engine):
  return Bench(planted, engine=engine)


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


def test_seed_keys_differ_by_seed_by_root_and_from_the_training_keys():
  keys = [seed_keys(root, range(50)) for root in (0, 1)]
  keys += [train_keys(0, range(50))]
  numbers = np.concatenate([jax.random.key_data(k) for k in keys])
  assert len({tuple(row) for row in numbers.tolist()}) == 150


@pytest.mark.parametrize("every", [1, 3, 7, 50])
@pytest.mark.parametrize("steps", [0, 1, 7, 20])
def test_chunks_cover_the_steps_and_end_at_multiples_from_wherever_they_start(steps, every):
  whole = np.cumsum([0, *chunk_lengths(steps, every)])
  assert whole[-1] == steps and all(end % every == 0 for end in whole[:-1])
  for done in whole:
    rest = done + np.cumsum([0, *chunk_lengths(steps, every, int(done))])
    assert list(rest) == [end for end in whole if end >= done]


@pytest.mark.parametrize(("runs", "width"), [(1, 1), (7, 3), (6, 3), (2, 5)])
def test_groups_hold_every_run_once_and_none_too_many(runs, width):
  groups = mapping.divide(runs, width)
  assert [run for group in groups for run in group] == list(range(runs))
  assert all(len(group) == width for group in groups[:-1]) and 0 < len(groups[-1]) <= width
  assert [len(mapping.pad(list(group), width)) for group in groups] == [width] * len(groups)


def test_padding_repeats_the_last_member():
  assert mapping.pad([4, 5], 4) == [4, 5, 5, 5]
  assert mapping.pad([4, 5], 2) == [4, 5]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 12, 99])
def test_blocks_of_any_size_give_what_the_whole_group_gives(size):
  """The largest that divides the group and is no larger is what the function then sees."""
  seen = []

  def function(states, shared):
    seen.append(len(states["a"]))
    outcome = {"sum": states["a"].sum(1) + shared, "b": 2 * states["b"]}
    return outcome, shared + 1

  rng = np.random.default_rng(0)
  states = {"a": jnp.asarray(rng.uniform(size=(12, 3)), float), "b": jnp.arange(12)}
  axes, ends = (0, None), (0, None)
  blocked = jax.jit(mapping.in_blocks(function, axes, ends, size))
  one, other = blocked(states, jnp.float32(4)), function(states, jnp.float32(4))
  assert seen[0] == {5: 4, 7: 6, 99: 12}.get(size, size) and seen[-1] == 12
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for leaf, expected in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(leaf, expected, rtol=1e-6)


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


def test_mapped_in_turn_a_function_gives_what_it_gives_one_by_one(bench):
  keys, hypers, data = bench.prepare([0, 1, 2, 3])
  axes = (0, 0, bench.program.data_axes)

  def function(key, hyper, data):
    return jax.random.uniform(key) * hyper.learning_rate, data.inputs[data.train].sum()

  together = mapping.in_turn(function, axes)(keys, hypers, data)
  alone = [function(*mapping.run_at(axes, (keys, hypers, data), i)) for i in range(4)]
  np.testing.assert_allclose(together, np.transpose(alone), rtol=1e-6)


def test_a_run_picked_from_a_group_is_its_row_and_what_is_shared(bench):
  keys, hypers, data = bench.prepare([0, 1, 2, 3])
  axes, group = (0, 0, bench.program.data_axes), (keys, hypers, data)
  for i in (0, 3):
    one, other = mapping.fetch_run(axes, group, i), mapping.run_at(axes, group, i)
    np.testing.assert_array_equal(jax.random.key_data(one[0]), jax.random.key_data(other[0]))
    assert jax.tree.all(jax.tree.map(np.array_equal, one[1:], other[1:]))
  assert mapping.fetch_run(0, np.arange(4), 2) == 2  # What is on the host stays there.
  with pytest.raises(IndexError):
    mapping.fetch_run(axes, group, 4)


def test_the_line_through_two_widths_predicts_a_third(bench):
  """The compiler's own word on each; nothing is run, and the shapes are those that a run has."""

  def peak(width):
    keys, hypers, data = bench.prepare([0] * width)
    states = state_shapes(bench.program, keys, hypers, data)
    return memory.compiled_bytes(bench.program.advance, states, hypers, data, num_steps=3)

  line = memory.predict_memory(peak, 8, 16)
  assert line.of(64) == pytest.approx(peak(64), rel=0.05)
  keys, hypers, data = bench.prepare([0, 1])
  told = state_shapes(bench.program, keys, hypers, data)
  states = bench.program.init(keys, hypers, data)
  assert [(x.shape, x.dtype) for x in jax.tree.leaves(told)] == [
    (x.shape, x.dtype) for x in jax.tree.leaves(states)
  ]
  # At the least a run holds its weights and velocity, or its coefficients and theirs.
  held = sum(x.nbytes for x in jax.tree.leaves((states.params, states.opt_state))) / 2
  assert line.per_run >= held


def test_a_program_that_needs_more_is_told_to():
  """Planted: arguments of 4 kB, results of 4 MB."""
  grow = jax.jit(lambda x: jnp.outer(x, x))
  need = memory.compiled_bytes(grow, jnp.ones(1000))
  assert need == pytest.approx(4e6 + 4e3, rel=0.01)
  donated = jax.jit(lambda x: x + 1, donate_argnums=0)
  assert memory.compiled_bytes(donated, jnp.ones(1000)) == pytest.approx(4e3, rel=0.1)


ON_EIGHT_DEVICES = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
sys.path.insert(0, "tests")
from helpers import plant
from jaxinv.data import splits
from jaxinv.ensemble import memory
from jaxinv.ensemble.mapping import *
from jaxinv.ensemble.program import *
from jaxinv.ensemble.seeds import split_data, train_keys
from jaxinv.experiments import leakage
from jaxinv.models.dense import make_model
from jaxinv.training import gram, primal as train
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.types import Hyper, Trained

engine = {"primal": train, "gram": gram}[sys.argv[1]]
whole = splits.whole(plant())
whole = whole._replace(gram=gram.gram_matrix(whole.inputs, True))
trainer = engine.make_trainer(make_model(5), LOSSES["softmax"], OPTIMIZERS["momentum"], 7)
devices = jax.local_devices()
every = make_program(trainer)
alone = make_program(trainer, devices=devices[:1])
look = leakage.EvalConfig((13, 11), 5, holdout=True)
NAMES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def live(program, width, on):
  seeds = range(width)
  hypers = stack_hypers([Hyper(0.02 * (1 + seed % 4)) for seed in seeds])
  group = train_keys(3, seeds), hypers, split_data(whole, 5, 3, seeds, 2)
  axes = (0, 0, program.data_axes)
  group = [shard(x, axis, width, on) for x, axis in zip(group, axes)]
  progress = start_group(program, *group)
  firsts = copied(progress.states.params)
  return firsts, train_group(program, progress, *group[1:], 6, 3), group


def weights(program, firsts, states, data, width):
  axes = (0, STATE_AXES, program.data_axes)
  picked = [fetch_run(axes, (firsts, states, data), i) for i in range(width)]
  home = {d for x in jax.tree.leaves(picked) for d in x.devices()} == {devices[0]}
  params = jax.jit(lambda _, state, data: trainer.params(state, data)["Dense_0"]["kernel"])
  keys = [jax.random.key_data(state.key) for _, state, _ in picked]
  same = np.array_equal(np.stack(keys), jax.random.key_data(states.key))
  return np.stack([params(*one) for one in picked]), home and same


def difference(one, other):
  return float(np.abs(np.subtract(*map(np.asarray, (one, other)))).max())


found = {}
for width in (8, 11):
  first, spread, group = live(every, width, devices)
  start, single, _ = live(alone, width, devices[:1])
  own, home = weights(every, first, spread.states, group[2], width)
  other, _ = weights(alone, start, single.states, group[2], width)
  leaf = jax.tree.leaves(spread.states.params)[0]
  found[width] = {
    "places": len(leaf.sharding.device_set), "home": home, "size": float(np.abs(own).max()),
    "difference": difference(own, other),
    "loss": difference(spread.history.train_loss, single.history.train_loss),
  }
  if width == 8:
    place, healthy = np.arange(8) % 2, np.ones(8, bool)
    models = Trained(first, spread.states, group[2])
    measured = leakage.measure_group(every, look, 2)(models, place.astype(np.int32), healthy)
    sums = np.asarray(measured.sums)
    found["sums"] = [len(sums), difference(sums.sum(0)[1], own[1::2].sum(0).T)]
    one = leakage.examine_one(every, look)(models, 5)
    value = one.measures["reshape"]["ncc"]
    found["measured"] = difference(measured.measures["reshape"]["ncc"][5], value)
    texts = [
      every.advance.lower(spread.states, *group[1:], num_steps=3).compile().as_text(),
      jax.jit(jnp.sum).lower(leaf).compile().as_text(),
    ]
    found["loops"] = texts[0].count("while(")
    found["talk"] = [[name for name in NAMES if name in text] for text in texts]
print(json.dumps(found))
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_spread_over_eight_devices_the_models_are_the_same_and_never_talk(engine):
  """To a tolerance: a device then holds a group of width one. The devices are the host's, faked."""
  flags = "--xla_force_host_platform_device_count=8"
  root = Path(__file__).parents[2]
  path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
  environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": path}
  command = [sys.executable, "-c", ON_EIGHT_DEVICES, engine]
  done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout.splitlines()[-1])
  assert found["8"]["places"] == 8
  assert found["11"]["places"] == 1  # Eleven runs do not divide over eight devices.
  for width in ("8", "11"):
    assert found[width]["home"] and found[width]["size"] > 0.1
    assert found[width]["difference"] < 1e-5 and found[width]["loss"] < 1e-5
  assert found["sums"][0] == 8 and found["sums"][1] < 1e-4 and found["measured"] < 1e-5
  step, control = found["talk"]
  assert found["loops"] > 0 and step == []
  assert control  # A sum over the models does talk, and is caught at it.
