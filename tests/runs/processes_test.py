"""Several processes at one run: real processes, on this machine."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxinv.errors import InputError
from jaxinv.runs import folder
from jaxinv.runs import processes as cluster
from launch import faces

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
  *("--num_people=4", "--images_per_person=4", "--holdout=1", "--steps=6", "--num_seeds=3"),
  *("--batch_size=4", "--width=1", "--cpu_devices=1", "--arm=sgd:learning_rate=0.01"),
  # One process has two groups, the other has one: neither may wait for the other's checkpoints.
  *("--record_every=2", "--checkpoint_seconds=0"),
]


def free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    return probe.getsockname()[1]


def numbers(out_dir):
  with open(out_dir / "metrics.csv") as file:
    return {tuple(row)[:4]: float(row[4]) for row in list(csv.reader(file))[1:]}


def test_alone_there_is_nobody_to_wait_for():
  assert cluster.Place().first and cluster.meet(cluster.Place()) == set()


def test_two_processes_give_the_numbers_of_one(tmp_path):
  """In groups of one run either way, so bit for bit."""
  assert faces.main([*SMALL, f"--out_dir={tmp_path / 'one'}"]) == 0
  path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
  flags = [*SMALL, "--distributed", "--num_processes=2", f"--coordinator=localhost:{free_port()}"]
  processes = [
    subprocess.Popen(
      [sys.executable, "-m", "launch.faces", *flags, f"--process_id={i}", "--out_dir=two"],
      cwd=tmp_path,
      env=os.environ | {"PYTHONPATH": path},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  said = [process.communicate(timeout=300) for process in processes]
  assert [process.returncode for process in processes] == [0, 0], said
  assert "report:" in said[0][0] and "report:" not in said[1][0]
  assert numbers(tmp_path / "two") == numbers(tmp_path / "one")
  assert json.loads((tmp_path / "two" / "config.json").read_text())["complete"]
  with (
    np.load(tmp_path / "one/weights/sgd.npz") as one,
    np.load(tmp_path / "two/weights/sgd.npz") as two,
  ):
    for name in one.files:
      np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.mark.parametrize(
  ("flags", "says"),
  [
    (["--coordinator=a:1"], "--distributed"),
    (["--distributed", "--coordinator=a:1"], "--num_processes"),
    (["--distributed", "--coordinator=a", "--num_processes=2", "--process_id=0"], "HOST:PORT"),
    (
      ["--distributed", "--coordinator=a:65536", "--num_processes=2", "--process_id=0"],
      "HOST:PORT",
    ),
    (["--distributed", "--coordinator=a:1", "--num_processes=2", "--process_id=2"], "none of 2"),
  ],
)
def test_half_said_is_refused_in_one_line(flags, says, tmp_path, capsys):
  assert faces.main([*SMALL, f"--out_dir={tmp_path / 'run'}", *flags]) == 1
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and says in error
  assert not (tmp_path / "run").exists()


def test_a_folder_that_the_first_process_has_not_opened_is_refused(tmp_path):
  config = {"command": "launch.faces", "flags": {"seed": 1}}
  with pytest.raises(InputError, match="first process"):
    folder.join_folder(tmp_path / "elsewhere", config)
  folder.open_folder(tmp_path / "run", config, overwrite=False)
  folder.join_folder(tmp_path / "run", config)
  with pytest.raises(InputError, match="seed"):
    folder.join_folder(tmp_path / "run", config | {"flags": {"seed": 2}})
