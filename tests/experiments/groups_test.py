"""Groups: stopped anywhere and damaged anyhow, a run ends with the bits of one left in peace."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from helpers import flat
from jaxinv.ensemble.groups import Host, Stopped
from jaxinv.experiments import planning
from jaxinv.experiments.experiment import make_experiment
from jaxinv.experiments.groups import run_groups
from jaxinv.experiments.planning import plan


def run(lab, store, **host):
  return run_groups(lab, planning.plan(lab), store, Host(**host))


def run_in_pieces(lab, store, chunks=1, **host):
  """Stops after so many chunks, again and again, until all is done; returns how often."""
  for times in itertools.count():
    asked = itertools.count(1)
    try:
      return run(lab, store, stop=lambda asked=asked: next(asked) == chunks, **host), times
    except Stopped:
      assert times < 50


def assert_same_bits(results, others):
  """Weights, measures, histories, images, frames: every array of every group."""
  for one, other in zip(results, others, strict=True):
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys()
    for name, array in one.items():
      assert array.dtype == other[name].dtype, name
      np.testing.assert_array_equal(array, other[name], err_msg=name)


def newest(store):
  """The newest checkpoint of the group that was stopped."""
  return sorted(store.glob("group-*/step-*"))[-1]


def largest(path):
  return max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def cut(file):
  file.write_bytes(file.read_bytes()[:-7])


def flip(file):
  raw = bytearray(file.read_bytes())
  raw[len(raw) // 2] ^= 16
  file.write_bytes(bytes(raw))


def silent(line):
  raise AssertionError(f"nothing was to be said: {line}")


def test_the_plan_holds_every_run_once_in_groups_of_one_width(lab):
  groups = planning.plan(lab)
  assert [run for group in groups for run in group.runs] == [
    (arm, seed) for arm in range(3) for seed in range(3)
  ]
  assert [len(group.runs) for group in groups] == [4, 4, 1]
  assert {group.width for group in groups} == {4}


def test_a_run_keeps_what_the_results_need(lab, trained):
  keys = set().union(*map(flat, trained))
  assert {f"arrays/{name}" for name in ("weights", "init_weights", "bias")} <= keys
  sums = {f"sums/{arm}/0.{seed}" for arm in (0, 1) for seed in range(3)}
  assert sums | {"frames/0", "frames/2"} <= keys
  assert not any(key.startswith("sums/2") for key in keys)  # All of its seeds diverged.
  assert trained[0].arrays["weights"].shape == (4, 5, 143)
  assert trained[2].history["train_loss"].shape == (4, 1)  # Padding left no trace.
  assert trained[0].frames["0"].shape == (4, 143)


def test_frames_end_at_the_first_seeds_weights_of_the_watched_class(trained):
  frames, arrays = trained[0].frames["0"], trained[0].arrays
  np.testing.assert_allclose(frames[-1], arrays["weights"][0, 1], rtol=1e-6)
  np.testing.assert_allclose(frames[0], arrays["init_weights"][0, 1], rtol=1e-6)


def private(arm):
  """The arm with DP-SGD, and without what only the primal engine could do beside it."""
  hyper = arm.hyper._replace(dp_clip=1.0, dp_noise=0.5, clip_norm=float("inf"))
  return arm._replace(hyper=hyper)


@pytest.fixture(scope="module", params=["gram", "primal", "private_span"])
def either(request, lab, trained):
  """A lab of each engine, and what it keeps where it is left in peace."""
  if lab.engines["sgd"].kind == request.param:
    return lab, trained
  settings = replace(lab.settings, engine=request.param)
  if request.param == "private_span":
    settings = replace(settings, arms=tuple(map(private, settings.arms)))
  other = make_experiment(settings, lab.dataset)
  return other, run_groups(other, plan(other), None, Host())


def test_stopped_after_every_chunk_a_run_ends_with_the_same_bits(either, tmp_path):
  lab, trained = either
  results, stops = run_in_pieces(lab, tmp_path, say=silent)
  assert stops == 9  # Three groups of three chunks.
  assert_same_bits(results, trained)


_EXTRAS = ("coefficients", "init_share")


def test_coefficients_are_kept_of_the_engine_that_has_them(either):
  lab, trained = either
  has = [engine.kind for engine in lab.engines.values()] == ["gram"]
  for result in trained:
    extras = {name: result.arrays[name].shape for name in _EXTRAS if name in result.arrays}
    runs = len(result.saved)
    assert extras == (dict(zip(_EXTRAS, ((runs, 40, 5), (runs,)), strict=True)) if has else {})


@pytest.mark.parametrize("chunks", [2, 5])
def test_so_does_one_stopped_now_and_then_with_a_checkpoint_after_each_chunk(
  lab, trained, tmp_path, chunks
):
  results, stops = run_in_pieces(lab, tmp_path, chunks, checkpoint_seconds=0, say=silent)
  assert stops > 0
  assert_same_bits(results, trained)


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_checkpoint_is_named_and_changes_nothing(lab, trained, tmp_path, damage):
  asked = itertools.count(1)
  with pytest.raises(Stopped, match="step 6 of decay"):
    run(lab, tmp_path, stop=lambda: next(asked) == 6, checkpoint_seconds=0)
  path = newest(tmp_path)
  assert path.name == "step-00000006"
  damage(largest(path))
  said, steps = [], []
  results = run(lab, tmp_path, say=said.append, advanced=lambda text, n: steps.append((text, n)))
  assert len(said) == 1 and str(path) in said[0]
  assert_same_bits(results, trained)
  # The first group is not trained again; the second goes on from step 4, with 2 more to take.
  assert [n for text, n in steps if text.startswith("decay")] == [4 * 4, 2 * 4]


def test_with_all_checkpoints_damaged_a_group_starts_anew(lab, trained, tmp_path):
  asked = itertools.count(1)
  with pytest.raises(Stopped):
    run(lab, tmp_path, stop=lambda: next(asked) == 2, checkpoint_seconds=0)
  for path in tmp_path.glob("group-*/step-*"):
    cut(largest(path))
  said = []
  assert_same_bits(run(lab, tmp_path, say=said.append), trained)
  assert len(said) == 2


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_finished_group_is_named_and_trained_again(lab, trained, tmp_path, damage):
  run(lab, tmp_path)
  damage(tmp_path / "group-00001-of-4.npz")
  said = []
  assert_same_bits(run(lab, tmp_path, say=said.append), trained)
  assert len(said) == 1 and "group-00001-of-4.npz" in said[0] and "\n" not in said[0]
  assert_same_bits(run(lab, tmp_path, say=silent, stop=lambda: True), trained)


def test_any_flipped_byte_of_a_finished_group_is_noticed(lab, trained, tmp_path):
  """Also one that the zip format itself would not notice, or chokes on."""
  run(lab, tmp_path)
  path = tmp_path / "group-00002-of-4.npz"
  whole = path.read_bytes()
  groups = planning.plan(lab)[2:]
  places = [*range(0, 40), *range(len(whole) - 300, len(whole), 3)]
  for place in places:
    raw = bytearray(whole)
    raw[place] ^= 0xFF
    path.write_bytes(bytes(raw))
    with pytest.raises(LookupError):
      run_groups(lab, groups, tmp_path, Host(say=_noticed))


def _noticed(line):
  raise LookupError(line)


def test_a_finished_run_is_not_trained_again_and_leaves_no_checkpoint(lab, trained, tmp_path):
  run(lab, tmp_path, checkpoint_seconds=0)
  assert not [path for path in tmp_path.iterdir() if path.is_dir()]
  assert_same_bits(run(lab, tmp_path, stop=lambda: True), trained)


def test_all_run_steps_are_told_padding_left_out(lab, tmp_path):
  told = []
  run(lab, tmp_path, advanced=lambda text, n: told.append(n))
  assert sum(told) == 3 * 3 * 6
  again = []
  run(lab, tmp_path, advanced=lambda text, n: again.append(n))
  assert sum(again) == 3 * 3 * 6
