"""launch.privacy: files, the printed lines, what has no meaning here."""

import json

import pytest

from launch import flags, privacy

TINY = ("--num_seeds=2", "--steps=12", "--batches=8", "--rates=0.1,1", "--epsilons=8")
TINY += ("--tuning_seeds=2", "--audit_models=30", "--cpu_devices=1", "--attack=init_diff")


@pytest.fixture
def call(monkeypatch, planted, tmp_path, capsys):
  """Runs the command on planted images; returns its status and what it wrote."""
  monkeypatch.setattr(flags, "load_dataset", lambda f: planted)

  def run_command(*arguments, out_dir=tmp_path / "run"):
    status = privacy.main([*TINY, f"--out_dir={out_dir}", *arguments])
    return status, *capsys.readouterr()

  return run_command


def test_the_command_writes_its_files_and_says_what_came_out(call, tmp_path):
  status, said, _ = call()
  assert status == 0
  lines = said.splitlines()
  assert lines[0].startswith("epsilon-8: accuracy ") and lines[1].startswith("no_privacy: ")
  assert lines[2].startswith("claimed epsilon 8: at least ")
  assert lines[3] == f"report: {tmp_path}/run/report.html"
  written = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*.*")}
  for name in ("summary.json", "curve.csv", "tuning.csv", "audit.csv", "audit.npz", "metrics.csv"):
    assert name in written
  assert {"figures/curve.png", "figures/audit.png", "config.json", "report.html"} <= written
  assert json.loads((tmp_path / "run" / "config.json").read_text())["complete"]
  status, _, error = call()
  assert status == 1 and "complete run" in error


@pytest.mark.parametrize(
  ("argument", "words"),
  [
    ("--arm=a:learning_rate=1", "no meaning"),
    ("--batch_size=8", "no meaning"),
    ("--epsilons=0", "--epsilons"),
    ("--epsilons=x", "--epsilons"),
    ("--batches=99", "training examples"),
    ("--audit_models=3", "--audit_models"),
    ("--holdout=0", "--holdout"),
    ("--delta=0", "--delta"),
    ("--steps=0", "--steps"),
  ],
)
def test_what_makes_no_sense_is_refused_in_one_line(call, argument, words):
  status, _, error = call(argument)
  assert status == 1 and words in error and error.count("\n") == 1
