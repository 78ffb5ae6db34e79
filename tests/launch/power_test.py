"""launch.power: files, an unfinished run, what has no meaning here."""

import csv

import pytest

from launch import flags, power

TINY = ("--num_seeds=2", "--steps=12", "--batch_size=8", "--cpu_devices=1")


@pytest.fixture
def call(monkeypatch, blurred, tmp_path, capsys):
  """Runs the command on the blurred images; returns its status and what it wrote."""
  monkeypatch.setattr(flags, "load_dataset", lambda f: blurred)

  def run_command(*arguments, out_dir=tmp_path / "run"):
    status = power.main([*TINY, f"--out_dir={out_dir}", *arguments])
    return status, *capsys.readouterr()

  return run_command


def test_the_command_writes_its_files_and_says_when(call, tmp_path):
  status, said, _ = call()
  assert status == 0
  lines = said.splitlines()
  assert lines[0].startswith("sgd: 0.00% of the classes flagged at step 0, half of them by step ")
  assert lines[1].startswith("adam: ") and lines[2] == f"figure: {tmp_path}/run/figures/power.png"
  with open(tmp_path / "run" / "power.csv") as file:
    rows = list(csv.DictReader(file))
  assert [int(row["step"]) for row in rows if row["arm"] == "adam" and row["seed"] == "1"] == [
    *(0, 1, 2, 5, 10, 12)
  ]
  assert (tmp_path / "run" / "figures" / "power.png").stat().st_size > 10_000
  status, _, error = call()
  assert status == 1 and "complete run" in error


def test_an_unfinished_run_starts_anew_and_nothing_need_be_held_out_or_trained(call, tmp_path):
  (tmp_path / "run").mkdir()
  assert call("--holdout=0", "--steps=0", "--arm=one:learning_rate=0.5")[0] == 0
  config = tmp_path / "run" / "config.json"
  config.write_text(config.read_text().replace('"complete": true', '"complete": false'))
  status, said, _ = call("--holdout=0", "--steps=0", "--arm=one:learning_rate=0.5")
  assert status == 0 and "all of them never" in said
  assert (tmp_path / "run" / "power.csv").read_text().splitlines()[1].startswith("one,0,0,0,")


def test_hidden_layers_are_looked_through(call):
  status, said, _ = call("--hidden=6", "--steps=5", "--arm=deep:optimizer=adam")
  assert status == 0 and said.startswith("deep: 0.00% of the classes")


@pytest.mark.parametrize(
  ("argument", "words"),
  [
    ("--save_seeds=3", "no meaning"),
    ("--record_every=3", "no meaning"),
    ("--normalize=max", "no meaning"),
    ("--arm=a:release_noise=1", "release_noise"),
    ("--alpha=1.5", "alpha"),
    ("--batch_size=99", "training examples"),
  ],
)
def test_what_makes_no_sense_is_refused_in_one_line(call, argument, words):
  status, _, error = call(argument)
  assert status == 1 and words in error and error.count("\n") == 1
