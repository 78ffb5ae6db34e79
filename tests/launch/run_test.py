"""How a command runs: exit statuses, one line for each error, signals, and the run's folder."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest
from absl import flags

from helpers import plant
from jaxinv.ensemble.groups import Stopped
from jaxinv.errors import InputError
from jaxinv.runs.processes import Place
from launch import flags as shared
from launch.define import group
from launch.run import STOPPED, StopSignal, opened, run, typed, values


@pytest.fixture
def f(tmp_path):
  f = flags.FlagValues()
  shared.define_run(f, out_dir=str(tmp_path / "run"))
  group(f, "what").real("rate", 0.5, "A rate.")
  group(f, "what").names("parts", ["a"], "Parts.")
  return f


@pytest.fixture
def call(f):
  """Runs a command `toy` whose body is the function given; returns its exit status."""

  def call(main, *argv, **others):
    return run("toy", main, f, "About.\n  python -m launch.toy --x=1\n", argv, **others)

  return call


def never(argv):
  raise AssertionError("the command's body was reached")


def raises(error):
  def main(argv):
    raise error

  return main


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_the_status_is_the_commands_own(call, returned, status):
  assert call(lambda argv: returned) == status


def test_flags_have_their_defaults_again_in_the_next_run(call, f):
  seen = []
  for argv in (["--rate=2", "--parts=b,c"], []):
    assert call(lambda argv: seen.append((f.rate, f.parts)), *argv) == 0
  assert seen == [(2.0, ["b", "c"]), (0.5, ["a"])]
  assert set(values(f)) == set(f) - {"help", "?"} and values(f)["rate"] == 0.5


@pytest.mark.parametrize(
  ("argv", "line"),
  [
    (["--rate=nan"], "error: --rate: nan is out of range: give a finite number"),
    (["--out_dir= "], "error: --out_dir is empty: name a folder"),
    (["folder"], "error: unknown argument 'folder': flags look like --name=value"),
    (["--rat=1"], "error: Unknown command line flag 'rat'. Did you mean: rate ?"),
    (["--seed=-1"], "error: flag --seed=-1: -1 is not an integer in the range [0, 4294967295]"),
  ],
)
def test_flags_that_cannot_be_used_are_one_line_and_nothing_is_begun(call, capsys, argv, line):
  assert call(never, *argv) == 1
  assert capsys.readouterr().err == line + "\n"


def test_a_flag_without_effect_is_not_shown_and_refused_with_another_value(call, capsys):
  others = {"unused": ("rate",), "ignored": ("parts",)}
  assert call(lambda argv: 0, "--rate=0.5", "--parts=z", **others) == 0
  assert call(never, "--rate=0.6", **others) == 1
  line = "error: --rate has no meaning for python -m launch.toy: leave it out\n"
  assert capsys.readouterr().err == line
  assert call(never, "--help", **others) == 0
  text = capsys.readouterr().out
  assert "--seed" in text and "--rate" not in text and "--parts" not in text
  assert text.startswith("About.\n  python -m launch.toy --x=1\n")


@pytest.mark.parametrize("argument", ["--help", "-h", "-?", "--helpfull", "--helpshort"])
def test_help_is_not_an_error_whatever_else_is_given(call, capsys, argument):
  assert call(never, "--nonsense", argument) == 0
  assert "rate" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("error", "line"),
  [
    (InputError("bad\n  thing: mend it"), "error: bad thing: mend it"),
    (
      OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full/x.npz"),
      "error: cannot read or write /full/x.npz (No space left on device)",
    ),
    (OSError("odd"), "error: cannot read or write (odd)"),
  ],
)
def test_what_the_user_can_mend_is_one_line(call, capsys, error, line):
  assert call(raises(error)) == 1
  assert capsys.readouterr().err == line + "\n"


def test_an_error_of_the_programs_own_is_not_hidden(call):
  with pytest.raises(ZeroDivisionError):
    call(lambda argv: 1 // 0)


@pytest.mark.parametrize(
  ("resumes", "again"), [(True, "goes on from there"), (False, "starts anew")]
)
def test_a_run_that_was_stopped_says_how_to_go_on(call, capsys, resumes, again):
  assert call(raises(Stopped("stopped at step 7")), resumes=resumes) == STOPPED == 130
  assert capsys.readouterr().err == f"stopped at step 7; the same command {again}\n"
  assert call(raises(KeyboardInterrupt()), resumes=resumes) == STOPPED
  assert capsys.readouterr().err == f"stopped; the same command {again}\n"


def test_sigterm_ends_a_command_as_ctrl_c_does(call):
  def mine(number, frame):
    raise AssertionError("the caller's handler was called")

  before = signal.signal(signal.SIGTERM, mine)
  try:
    assert call(lambda argv: os.kill(os.getpid(), signal.SIGTERM)) == STOPPED
    assert signal.getsignal(signal.SIGTERM) is mine
  finally:
    signal.signal(signal.SIGTERM, before)


def test_the_first_signal_asks_to_stop_and_the_second_stops():
  before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
  with StopSignal() as stop:
    assert not stop()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop()
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)
  assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_reader_that_goes_away_is_no_error():
  program = (
    "import sys\nfrom absl import flags\nfrom launch import flags as shared\n"
    "from launch.run import run\nf = flags.FlagValues()\nshared.define_run(f, out_dir='x')\n"
    "body = lambda argv: [print('line ' * 100, flush=True) for _ in range(10_000)] and None\n"
    "sys.exit(run('toy', body, f, 'About.', []))"
  )
  with subprocess.Popen(
    [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
  ) as process:
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
  assert process.returncode == 0


def test_what_was_typed_can_be_typed_again():
  assert typed("toy", ["--arm=a:x=1,y=2", "--out_dir=my runs"]) == (
    "python -m launch.toy --arm=a:x=1,y=2 '--out_dir=my runs'"
  )


def test_the_folder_is_complete_at_the_end_of_the_block_only(f, tmp_path):
  f(["toy", "--seed=5"])
  config = tmp_path / "run" / "config.json"
  with pytest.raises(ZeroDivisionError), opened(f, "toy", [], None, 1, rate=7):
    1 // 0  # noqa: B018
  assert json.loads(config.read_text())["complete"] is False
  with opened(f, "toy", [], None, 1, more={"engines": 2}, rate=7) as here:
    assert here.out_dir == tmp_path / "run" and not here.host.stop()
  found = json.loads(config.read_text())
  assert found["complete"] is True and found["engines"] == 2
  assert found["flags"]["seed"] == 5 and found["flags"]["rate"] == 7


@pytest.mark.parametrize(("place", "first"), [(Place(), True), (Place(1, 2), False)])
def test_of_several_processes_the_first_speaks_and_finishes(f, capsys, monkeypatch, place, first):
  f(["toy"])
  finished = []
  monkeypatch.setattr("launch.run.open_together", lambda out_dir, *_: out_dir.mkdir())
  monkeypatch.setattr("launch.run.folder.finish", lambda *_: finished.append(True))
  dataset = plant()._replace(notes=("passed over: 1 hidden (.x)",))
  with opened(f, "toy", [], dataset, 1, place=place):
    assert not finished
  assert finished == [True] * first
  assert capsys.readouterr().err == "note: passed over: 1 hidden (.x)\n" * first
