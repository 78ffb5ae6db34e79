"""The flags that commands share: numbers in lists, data, several processes, settings."""

import pytest
from absl import flags

from helpers import assert_fails
from jaxinv.experiments.settings import Arm
from jaxinv.runs.processes import Place
from jaxinv.types import Hyper
from launch import flags as shared

DEFAULTS = {
  **{"num_seeds": 8, "steps": 1000, "batch_size": 32, "holdout": 2, "save_seeds": 8, "width": 0},
  **{"record_every": 0, "loss": "softmax", "normalize": "min-max", "arm": []},
}
SMALL = ("--num_people=2", "--images_per_person=3")


@pytest.fixture
def parse():
  """The flags of a command that trains, given some."""

  def parse(*argv):
    f = flags.FlagValues()
    shared.define_run(f, out_dir="run")
    shared.define_data(f)
    shared.define_training(f, **DEFAULTS)
    shared.define_models(f)
    shared.define_distributed(f)
    flags.DEFINE_list("pose_sweep", [], "Scales.", flag_values=f)
    f(["command", *argv])
    return f

  return parse


def test_lists_of_numbers_are_read_within_their_bounds():
  assert shared.integers("width", ["1", " 30 ", "-2"], -2, 30) == (1, 30, -2)
  assert shared.floats("pose_sweep", ["0", ".5", "3e0"], 0, 3) == (0.0, 0.5, 3.0)
  assert shared.integers("width", [], 1, 2) == shared.floats("width", [], 1, 2) == ()


@pytest.mark.parametrize("text", ["0", "31", "1.0", "", "x", "1e3", "9" * 400])
def test_what_is_no_whole_number_within_the_bounds_is_refused(text):
  wanted = f"--width: '{text}' is not a whole number from 1 to 30"
  assert_fails(lambda: shared.integers("width", ["2", text], 1, 30), wanted)


@pytest.mark.parametrize("text", ["-1", "3.1", "", "x", "nan", "inf"])
def test_what_is_no_number_within_the_bounds_is_refused(text):
  wanted = f"--pose_sweep: '{text}' is not a number from 0 to 3"
  assert_fails(lambda: shared.floats("pose_sweep", ["2", text], 0, 3), wanted)


def test_settings_are_what_the_flags_say(parse):
  arms = [Arm("a", "sgd", Hyper(0.1))]
  f = parse("--steps=200", "--seed=7", "--hidden=16,8", "--fixed_split", "--engine=primal")
  found = shared.settings(f, arms, num_seeds=3)
  assert (found.arms, found.root_seed, found.hidden) == (tuple(arms), 7, (16, 8))
  assert found.fixed_split and found.engine == "primal" and found.num_seeds == 3
  assert found.record_every == 4  # Fifty records.
  assert shared.settings(parse("--steps=20"), arms).record_every == 1
  assert shared.settings(parse("--record_every=30"), arms).record_every == 30
  assert_fails(lambda: shared.settings(parse("--hidden=0"), arms), "--hidden: '0'")


def test_data_are_drawn_as_the_flags_say_and_poses_by_themselves(parse):
  f = parse(*SMALL, "--data_seed=3", "--pose=0")
  still, turned = shared.load_dataset(f), shared.draw_faces(f, 2.0)
  assert repr(still) == "Dataset(6 images of 112 x 92, 2 classes, drawn by a program)"
  assert (shared.draw_faces(f, 0.0).inputs == still.inputs).all()
  assert (turned.inputs != still.inputs).any()
  other = shared.load_dataset(parse(*SMALL, "--data_seed=4", "--pose=0"))
  assert (other.inputs != still.inputs).any()


@pytest.mark.parametrize(("given", "shape"), [("4", (4, 4)), ("4,3", (4, 3))])
def test_a_resolution_is_one_number_or_two(parse, tmp_path, given, shape):
  for person in "ab":
    (tmp_path / person).mkdir()
    (tmp_path / person / "1.pgm").write_bytes(b"P5 2 2 255\n" + bytes([0, 50, 100, 255]))
  folder = f"--dataset=folder:{tmp_path}"
  assert shared.load_dataset(parse(folder, f"--resolution={given}")).image_shape == shape
  for bad, said in (("1,2,3", "give height and width"), ("0", "from 1 to 10000")):
    assert_fails(lambda it=bad: shared.load_dataset(parse(folder, f"--resolution={it}")), said)


def test_poses_are_of_faces_that_are_drawn(parse):
  assert shared.poses(parse("--pose_sweep=0,1.5")) == (0.0, 1.5)
  assert shared.poses(parse("--dataset=att")) == ()
  f = parse("--pose_sweep=0", "--dataset=att")
  assert_fails(lambda: shared.poses(f), "--pose_sweep needs --dataset=synthetic_faces")


HOST = "--coordinator=host:1234"


@pytest.mark.parametrize(
  ("argv", "said"),
  [
    ((HOST,), "--coordinator is for several processes: give --distributed too"),
    (("--process_id=0",), "--process_id is for several processes"),
    (("--distributed", HOST), "only --coordinator is given"),
    (("--distributed", "--num_processes=2", "--process_id=0"), "--num_processes, --process_id is"),
    (
      ("--distributed", HOST, "--num_processes=2", "--process_id=2"),
      "--process_id: 2 is none of 2 processes, counted from 0",
    ),
    *(
      (
        ("--distributed", f"--coordinator={address}", "--num_processes=2", "--process_id=0"),
        f"--coordinator: '{address}' is not HOST:PORT",
      )
      for address in ("host", "host:", ":1", "host:65536", "a b:1", "host:1:2")
    ),
  ],
)
def test_processes_that_cannot_meet_are_told_so_before_they_wait(parse, monkeypatch, argv, said):
  monkeypatch.setattr("launch.flags.processes.join", lambda *_: pytest.fail("it joined"))
  assert_fails(lambda: shared.place(parse(*argv)), said)


def test_processes_are_joined_as_the_flags_say(parse, monkeypatch):
  joined = []
  monkeypatch.setattr("launch.flags.processes.join", lambda *given: joined.append(given))
  assert shared.place(parse()) == Place() and not joined
  shared.place(parse("--distributed"))
  shared.place(parse("--distributed", HOST, "--num_processes=2", "--process_id=1"))
  assert joined == [(None, None, None), ("host:1234", 2, 1)]
