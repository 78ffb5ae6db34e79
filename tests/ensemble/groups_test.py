"""The runner of groups: stopped anywhere it ends with the same bits; damage is noticed and said."""

import itertools

import numpy as np
import pytest

from jaxinv.ensemble.groups import Host, Stopped, Task, Training, load_whole, run_task, save_whole

STEPS = 10


def counting(begun=None):
  """A group whose state is (step, sum of steps); what is kept of it says how it came about."""

  def begin():
    if begun is not None:
      begun.append(True)
    return Training(
      state={"step": np.zeros(1, np.int64), "sum": np.zeros(2)},
      place=lambda state: state,
      step=lambda state: int(state["step"][0]),
      lengths=lambda done: [min(3, STEPS - at) for at in range(done, STEPS, 3)],
      advance=lambda state, length: {
        "step": state["step"] + length,
        "sum": state["sum"] + sum(range(int(state["step"][0]), int(state["step"][0]) + length)),
      },
      finish=lambda state: {"ends": {"sum": state["sum"]}, "nothing": {}},
    )

  return Task("group-of-2", "counting", 2, STEPS, begin)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_stopped_anywhere_it_ends_with_the_same_bits(tmp_path, every):
  whole = run_task(counting(), None, Host())
  assert whole["ends"]["sum"].tolist() == [45, 45]
  for _stops in range(9):
    asked = itertools.count(1)
    try:
      done = run_task(counting(), tmp_path, Host(stop=lambda asked=asked: next(asked) == every))
      break
    except Stopped as stopped:
      assert "counting" in str(stopped)
  np.testing.assert_array_equal(done["ends"]["sum"], whole["ends"]["sum"])
  assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_finished_group_does_not_begin_again_and_its_work_is_told_of(tmp_path):
  begun, told = [], []
  host = Host(advanced=lambda text, steps: told.append(steps))
  first = run_task(counting(begun), tmp_path, host)
  again = run_task(counting(begun), tmp_path, host)
  assert begun == [True] and first.keys() == again.keys() == {"ends"}
  assert sum(told) == 2 * 2 * STEPS


def test_a_damaged_file_is_said_in_a_line_and_made_again(tmp_path):
  said = []
  run_task(counting(), tmp_path, Host())
  path = tmp_path / "group-of-2.npz"
  path.write_bytes(path.read_bytes()[:-5])
  run_task(counting(), tmp_path, Host(say=said.append))
  assert len(said) == 1 and "group-of-2.npz is damaged" in said[0]


def test_trees_are_stored_as_they_were_and_no_file_is_taken_for_another(tmp_path):
  tree = {"a": {"b": np.arange(3), "c": {"d": np.ones((2, 2), np.float32)}}}
  save_whole(tmp_path / "one.npz", tree)
  found = load_whole(tmp_path / "one.npz", pytest.fail)
  np.testing.assert_array_equal(found["a"]["c"]["d"], tree["a"]["c"]["d"])
  for suffix in (".npz", ".sha256"):
    (tmp_path / f"two{suffix}").write_bytes((tmp_path / f"one{suffix}").read_bytes())
  said = []
  assert load_whole(tmp_path / "two.npz", said.append) is None and len(said) == 1
