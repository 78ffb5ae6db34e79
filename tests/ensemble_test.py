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

from jaxinv import ensemble, train
from jaxinv.losses import LOSSES, Loss
from jaxinv.models import make_model
from jaxinv.optimizers import OPTIMIZERS
from jaxinv.train import make_trainer
from jaxinv.types import Hyper

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

  def __init__(self, dataset, optimizer="momentum", loss="softmax"):
    self.traces = 0
    value = LOSSES[loss].value

    def counted(logits, targets):
      self.traces += 1
      return value(logits, targets)

    self.dataset = dataset
    loss = Loss(counted, LOSSES[loss].residual)
    self.trainer = make_trainer(make_model(5), loss, OPTIMIZERS[optimizer], 7)
    self.program = ensemble.make_program(self.trainer)

  def prepare(self, seeds, hypers=HYPERS):
    """Keys, hyperparameters and data of a group."""
    data = ensemble.split_data(self.dataset, jnp.asarray(self.dataset.inputs), 3, seeds, 2)
    stacked = ensemble.stack_hypers([hypers[seed] for seed in seeds])
    return ensemble.train_keys(3, seeds), stacked, data

  def train(self, seeds, hypers=HYPERS, steps=6):
    keys, stacked, data = self.prepare(seeds, hypers)
    progress = ensemble.start_group(self.program, keys, stacked, data)
    return ensemble.train_group(self.program, progress, stacked, data, steps, 3)


@pytest.fixture(scope="module")
def bench(planted):
  return Bench(planted)


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
    state, _ = train.run(bench.trainer, state, hyper, data, 6)
    return state.params, state.order, bench.trainer.evaluate(state, data)

  for i in range(4):
    mine = ensemble.member((0, 0, ensemble.SHARED_DATA), (keys, hypers, data), i)
    params, order, record = alone(*mine)
    np.testing.assert_array_equal(group.states.order[i], order)
    for name, leaf in params["Dense_0"].items():
      np.testing.assert_allclose(group.states.params["Dense_0"][name][i], leaf, atol=1e-5)
    assert group.history.train_loss[-1, i] == pytest.approx(float(record.train_loss), rel=1e-4)


def test_a_seeds_model_is_the_same_bits_in_whatever_group_and_place(bench):
  first, second = bench.train([0, 1, 2, 3]), bench.train([3, 5, 8, 1])
  assert same_bits(first, 1, second, 3) and same_bits(first, 3, second, 0)
  assert not same_bits(first, 0, second, 0)


def test_padding_does_no_harm(bench):
  padded = bench.train(ensemble.pad([2, 5], 4))
  assert same_bits(padded, 0, bench.train([2, 5, 0, 1]), 0)
  assert same_bits(padded, 1, padded, 3)


def test_one_trace_serves_all_values_of_all_hyperparameters(planted):
  bench = Bench(planted)
  bench.train([0, 1, 2, 3])
  traced = bench.traces
  assert traced > 0
  bench.train([5, 1, 8, 2])
  for value in (1e-3, 0.7):
    group = dict.fromkeys(range(4), Hyper(value, value, value, 1 + value, value, value))
    bench.train(range(4), group | {1: Hyper(value), 2: Hyper(clip_norm=1e-3)})
  assert bench.traces == traced


def test_a_diverging_neighbour_is_flagged_and_leaves_the_others_bits_alone(planted):
  bench = Bench(planted, optimizer="sgd", loss="squared")
  calm = dict.fromkeys(range(4), Hyper(0.01))
  quiet = bench.train(range(4), calm, steps=30)
  stormy = bench.train(range(4), calm | {2: Hyper(1e20)}, steps=30)
  assert quiet.history.finite.all()
  np.testing.assert_array_equal(stormy.history.finite[-1], [True, True, False, True])
  assert not np.isfinite(stormy.states.params["Dense_0"]["kernel"][2]).any()
  assert all(same_bits(quiet, i, stormy, i) for i in (0, 1, 3))


def test_a_loss_that_overflows_between_two_records_is_flagged(bench):
  """Also where the weights come back: a huge rate in the middle of a chunk is not overlooked."""
  keys, hypers, data = bench.prepare([0, 1, 2, 3])
  trainer = bench.trainer._replace(
    step=lambda state, hyper, data: (
      state._replace(step=state.step + 1),
      train.Info(jnp.where((state.step == 1) & (hyper.learning_rate > 0.4), jnp.inf, 1.0)),
    )
  )
  program = ensemble.make_program(trainer)
  start = ensemble.start_group(program, keys, hypers, data)
  end = ensemble.train_group(program, start, hypers, data, 3, 3)
  np.testing.assert_array_equal(end.history.finite, [[True] * 4, [False, True, True, True]])


def test_arms_share_a_seeds_initial_weights_split_and_batches(planted, bench):
  other = Bench(planted, optimizer="adam")
  one, two = bench.train([0, 1, 2, 3]), other.train([0, 1, 2, 3])
  np.testing.assert_array_equal(one.states.order, two.states.order)
  starts = [
    np.asarray(b.program.init(*b.prepare([0, 1, 2, 3])).params["Dense_0"]["kernel"])
    for b in (bench, other)
  ]
  np.testing.assert_array_equal(*starts)
  ordinary = bench.prepare([0, 1, 2, 3], dict.fromkeys(range(4), Hyper(0.9)))
  same = np.asarray(bench.program.init(*ordinary).params["Dense_0"]["kernel"])
  np.testing.assert_array_equal(same[:3], starts[0][:3])
  np.testing.assert_allclose(3 * same[3], starts[0][3], rtol=1e-6)  # Its init_scale is 3.


def test_history_has_a_record_before_the_first_step_and_after_every_chunk(bench):
  progress = bench.train([0, 1, 2, 3])
  assert {values.shape for values in progress.history} == {(3, 4)}
  assert int(progress.states.step) == 6
  keys, hypers, data = bench.prepare([0, 1, 2, 3])
  start = ensemble.start_group(bench.program, keys, hypers, data)
  np.testing.assert_array_equal(start.history.train_loss[0], progress.history.train_loss[0])


def test_the_caller_looks_in_after_every_chunk_and_may_stop(bench):
  keys, hypers, data = bench.prepare([0, 1, 2, 3])
  seen = []

  def look(progress, length):
    seen.append((int(progress.states.step), length))
    if len(seen) == 2:
      raise KeyboardInterrupt

  start = ensemble.start_group(bench.program, keys, hypers, data)
  with pytest.raises(KeyboardInterrupt):
    ensemble.train_group(bench.program, start, hypers, data, 12, 3, look)
  assert seen == [(3, 3), (6, 3)]


def test_seed_keys_differ_by_seed_by_root_and_from_the_training_keys():
  keys = [ensemble.seed_keys(root, range(50)) for root in (0, 1)]
  keys += [ensemble.train_keys(0, range(50))]
  numbers = np.concatenate([jax.random.key_data(k) for k in keys])
  assert len({tuple(row) for row in numbers.tolist()}) == 150


@pytest.mark.parametrize("every", [1, 3, 7, 50])
@pytest.mark.parametrize("steps", [0, 1, 7, 20])
def test_chunks_cover_the_steps_and_end_at_multiples_from_wherever_they_start(steps, every):
  whole = np.cumsum([0, *ensemble.chunk_lengths(steps, every)])
  assert whole[-1] == steps and all(end % every == 0 for end in whole[:-1])
  for done in whole:
    rest = done + np.cumsum([0, *ensemble.chunk_lengths(steps, every, int(done))])
    assert list(rest) == [end for end in whole if end >= done]


@pytest.mark.parametrize(("runs", "width"), [(1, 1), (7, 3), (6, 3), (2, 5)])
def test_groups_hold_every_run_once_and_none_too_many(runs, width):
  groups = ensemble.divide(runs, width)
  assert [run for group in groups for run in group] == list(range(runs))
  assert all(len(group) == width for group in groups[:-1]) and 0 < len(groups[-1]) <= width
  assert [len(ensemble.pad(list(group), width)) for group in groups] == [width] * len(groups)


def test_padding_repeats_the_last_member():
  assert ensemble.pad([4, 5], 4) == [4, 5, 5, 5]
  assert ensemble.pad([4, 5], 2) == [4, 5]


def test_the_width_follows_the_memory(bench, monkeypatch):
  _, _, data = bench.prepare([0])
  need = ensemble.run_bytes(bench.program, Hyper(), data)
  # Weights, velocity and gradient are held at the least.
  assert need > 3 * 4 * 143 * 5
  widths = []
  for runs in (0.5, 10, 1e9):
    monkeypatch.setattr(ensemble, "device_memory", lambda runs=runs: int(2 * runs * need))
    widths.append(ensemble.fit_width(bench.program, Hyper(), data))
  assert widths[0] == 1 and 9 <= widths[1] <= 10 and 10 < widths[2] <= 1000


ON_EIGHT_DEVICES = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
sys.path.insert(0, "tests")
from conftest import plant
from jaxinv import ensemble
from jaxinv.losses import LOSSES
from jaxinv.models import make_model
from jaxinv.optimizers import OPTIMIZERS
from jaxinv.train import make_trainer
from jaxinv.types import Hyper

dataset, seeds = plant(), range(8)
trainer = make_trainer(make_model(5), LOSSES["softmax"], OPTIMIZERS["sgd"], 7)
program = ensemble.make_program(trainer)
one = (
  ensemble.train_keys(3, seeds),
  ensemble.stack_hypers([Hyper(0.1 * (1 + seed)) for seed in seeds]),
  ensemble.split_data(dataset, jnp.asarray(dataset.inputs), 3, seeds, 2),
)
axes = (0, 0, program.data_axes)
spread = tuple(ensemble.shard(x, axis, 8) for x, axis in zip(one, axes))
odd = ensemble.shard(one[1], 0, 6)
ends = [
  ensemble.train_group(program, ensemble.start_group(program, *x), *x[1:], 6, 3)
  for x in (one, spread)
]
kernels = [end.states.params["Dense_0"]["kernel"] for end in ends]
states = program.init(*spread)
hlo = program.advance.lower(states, *spread[1:], num_steps=3).compile().as_text()
talking = jax.jit(jnp.sum).lower(kernels[1]).compile().as_text()
NAMES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
print(json.dumps({
  "devices": [len(kernel.sharding.device_set) for kernel in kernels],
  "places": sorted({str(part.index[0]) for part in kernels[1].addressable_shards}),
  "odd": len(odd.learning_rate.sharding.device_set),
  "difference": float(np.abs(np.subtract(*map(np.asarray, kernels))).max()),
  "size": float(np.abs(kernels[0]).max()),
  "loss": float(np.abs(ends[0].history.train_loss - ends[1].history.train_loss).max()),
  "loops": hlo.count("while("),
  "collectives": [name for name in NAMES if name in hlo],
  "control": [name for name in NAMES if name in talking],
}))
"""


def test_spread_over_eight_devices_the_models_are_the_same_and_never_talk():
  """To a tolerance: a device then holds a group of width one. The devices are the host's, faked."""
  flags = "--xla_force_host_platform_device_count=8"
  root = Path(__file__).parent.parent
  path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
  environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": path}
  command = [sys.executable, "-c", ON_EIGHT_DEVICES]
  done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout.splitlines()[-1])
  assert found["devices"] == [1, 8] and len(found["places"]) == 8
  assert found["odd"] == 1  # Six runs do not divide over eight devices.
  assert found["size"] > 0.1 and found["difference"] < 1e-5 and found["loss"] < 1e-5
  assert found["loops"] > 0 and found["collectives"] == []
  assert found["control"]  # A sum over the models does talk, and is caught at it.
