"""Functions of one run mapped over many: in turn, in blocks, and over devices that never talk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.ensemble import mapping


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
