"""Checkpoints: come back bit for bit, and a damaged one is never believed."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.runs import checkpoint, manifest


class State(NamedTuple):
  params: dict
  keys: jax.Array
  step: jax.Array
  rest: tuple


def state_at(step):
  rng = np.random.default_rng(step)
  return State(
    params={"b": jnp.float32(rng.standard_normal(4)), "a": jnp.float32([[np.nan, -0.0, 1e-45]])},
    keys=jax.random.split(jax.random.key(step), 3),
    step=jnp.int32(step),
    rest=(np.array([True, False]), (), np.uint32([7])),
  )


def assert_same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    assert a.dtype == b.dtype
    if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
      a, b = jax.random.key_data(a), jax.random.key_data(b)
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def silent(line):
  raise AssertionError(f"nothing was to be said: {line}")


@pytest.fixture
def folder(tmp_path):
  """Checkpoints of the steps 5 and 20."""
  for step in (5, 20):
    checkpoint.save(tmp_path / "group", step, state_at(step))
  return tmp_path / "group"


def test_the_newest_comes_back_bit_for_bit_typed_keys_too(folder):
  found = checkpoint.restore(folder, state_at(0), silent)
  assert_same(found, state_at(20))
  drawn = [jax.random.uniform(s.keys[1], (3,)) for s in (found, state_at(20))]
  np.testing.assert_array_equal(*drawn)


def test_without_a_checkpoint_there_is_none(tmp_path):
  assert checkpoint.restore(tmp_path / "nowhere", state_at(0), silent) is None


def test_only_the_newest_two_are_kept_in_the_order_of_their_steps(tmp_path):
  for step in (9, 10, 100):
    checkpoint.save(tmp_path, step, {"x": np.ones(1)})
  assert [path.name for path in checkpoint.saved(tmp_path)] == ["step-00000010", "step-00000100"]


def test_a_step_saved_twice_is_replaced(folder):
  checkpoint.save(folder, 20, state_at(21))
  assert_same(checkpoint.restore(folder, state_at(0), silent), state_at(21))


def test_what_was_cut_short_while_saving_is_no_checkpoint(folder):
  (folder / "step-00000020").rename(folder / "partial-00000020")
  assert_same(checkpoint.restore(folder, state_at(0), silent), state_at(5))
  checkpoint.save(folder, 20, state_at(20))
  assert_same(checkpoint.restore(folder, state_at(0), silent), state_at(20))


def largest(path):
  return max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def truncate(path):
  file = largest(path)
  file.write_bytes(file.read_bytes()[:-3])


def flip(path):
  raw = bytearray(largest(path).read_bytes())
  raw[len(raw) // 2] ^= 1
  largest(path).write_bytes(bytes(raw))


def empty(path):
  largest(path).write_bytes(b"")


def remove(path):
  largest(path).unlink()


def lose_digests(path):
  (path / "sha256.json").unlink()


def cut_digests(path):
  (path / "sha256.json").write_text((path / "sha256.json").read_text()[:-5])


def spoil_digests(path):
  (path / "sha256.json").write_bytes(b"\xff\xfe")


DAMAGES = [truncate, flip, empty, remove, lose_digests, cut_digests, spoil_digests]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(folder, damage):
  damage(folder / "step-00000020")
  said = []
  assert_same(checkpoint.restore(folder, state_at(0), said.append), state_at(5))
  assert len(said) == 1 and "step-00000020 is damaged" in said[0] and "\n" not in said[0]
  # It is gone: the next save of that step is whole, and is used.
  assert_same(checkpoint.restore(folder, state_at(0), silent), state_at(5))


def test_where_all_are_damaged_each_is_named_and_none_used(folder):
  for path in checkpoint.saved(folder):
    truncate(path)
  said = []
  assert checkpoint.restore(folder, state_at(0), said.append) is None
  assert ["step-00000020" in said[0], "step-00000005" in said[1]] == [True, True]


def test_a_checkpoint_of_another_structure_is_not_forced_into_this_one(folder):
  said = []
  assert checkpoint.restore(folder, {"x": np.ones(1)}, said.append) is None
  assert len(said) == 2


def test_every_file_of_a_checkpoint_has_its_digest(folder):
  path = folder / "step-00000020"
  digests = json.loads((path / "sha256.json").read_text())
  files = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
  assert set(digests) == files - {"sha256.json"} and len(digests) > 0


def test_what_lies_beside_checkpoints_stays_when_they_are_dropped(folder):
  (folder / "notes.txt").write_text("mine")
  checkpoint.discard(folder)
  assert [path.name for path in folder.iterdir()] == ["notes.txt"]
  (folder / "notes.txt").unlink()
  checkpoint.save(folder, 5, state_at(5))
  checkpoint.discard(folder)
  assert not folder.exists()


def test_all_files_of_a_checkpoint_are_in_the_runs_manifest(tmp_path):
  manifest.start(tmp_path, ())
  for step in (5, 10, 15):
    checkpoint.save(tmp_path / "checkpoints" / "group", step, state_at(step))
  listed = set(manifest.read(tmp_path))
  there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
  assert there - {manifest.NAME} <= listed
