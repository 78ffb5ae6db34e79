"""launch.photographs: files, the printed lines, resuming, what has no meaning here."""

import json

import numpy as np
import pytest
from planted_leaves import leaf_dataset

from jaxinv.experiments.photographs.field import FIELD
from jaxinv.experiments.photographs.page import FIELD_WORDS
from launch import flags, photographs

TINY = ("--photographs=6,12", "--hidden=48", "--steps=60", "--batch_size=6", "--cpu_devices=1")
TINY += ("--arm=sgd:learning_rate=0.1", "--restarts=1")


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
  """Runs the command on planted pictures; returns its status and what it wrote."""
  monkeypatch.setattr(flags, "load_dataset", lambda f: leaf_dataset())

  def run_command(*arguments, out_dir=tmp_path / "run"):
    status = photographs.main([*TINY, f"--out_dir={out_dir}", *arguments])
    return status, *capsys.readouterr()

  return run_command


def test_the_command_writes_its_files_and_says_what_came_out(call, tmp_path):
  status, said, _ = call()
  assert status == 0
  lines = said.splitlines()
  assert lines[0].startswith("sgd, 6 photographs, unmixed: counts 6, identified 1.000, ")
  assert lines[1].startswith("sgd, 6 photographs, unmixed_alone: ")
  assert lines[2].startswith("sgd, 12 photographs, unmixed: counts 12, identified 1.000, ")
  assert lines[4] == f"report: {tmp_path}/run/report.html"
  written = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*.*")}
  assert {"summary.json", "components.csv", "recovered/sgd.npz", "weights/sgd.npz"} <= written
  assert {"figures/map.png", "figures/photographs-sgd-12.png", "report.html"} <= written
  assert json.loads((tmp_path / "run" / "config.json").read_text())["complete"]
  # One number by itself gives the same numbers.
  call("--photographs=6", out_dir=tmp_path / "again")
  one, two = (np.load(tmp_path / name / "recovered" / "sgd.npz") for name in ("run", "again"))
  assert set(two) == {"6/unmixed", "6/unmixed_alone", "6/members"} and all(
    (one[k] == two[k]).all() for k in two
  )


@pytest.mark.parametrize(
  ("argument", "words"),
  [
    ("--holdout=2", "no meaning"),
    ("--photographs=24", "decoy"),
    ("--photographs=x", "--photographs"),
    ("--photographs=6,6", "twice"),
    ("--releases=0", "releases"),
    ("--arm=a:learning_rate=-1", "learning_rate"),
    ("--engine=gram", "gram"),
    ("--map=width=3", "key of hidden"),
    ("--field=nobody", "kkt_softmax"),
    ("--map=hidden=8,8", "twice"),
    ("--map=hidden=x", "whole number"),
    ("--map=release_bits=99", "release_bits"),
    ("--map=pixels=1000", "heights"),
  ],
)
def test_what_makes_no_sense_is_refused_in_one_line(call, argument, words):
  status, _, error = call(argument)
  assert status == 1 and words in error and error.count("\n") == 1


def test_the_field_is_beside_unmixing(call, tmp_path):
  field = ("--field=kkt_softmax,neurons", "--search_steps=20", "--search_restarts=2")
  status, _, _ = call(*field, "--photographs=6")
  assert status == 0
  found = json.loads((tmp_path / "run" / "summary.json").read_text())["sgd"]["6"]["field"]
  assert list(found) == ["kkt_softmax", "neurons"] and found["kkt_softmax"]["restarts"]["mean"] == 2
  assert found["neurons"]["loss"]["mean"] is None
  images = np.load(tmp_path / "run" / "recovered" / "sgd.npz")
  assert images["6/kkt_softmax"].shape == (1, 12, 40, 32)
  page = (tmp_path / "run" / "report.html").read_text()
  assert "Side by side with the field" in page and "KKT conditions of cross entropy" in page
  assert (tmp_path / "run" / "figures" / "field-sgd-6.png").is_file()
  assert set(FIELD) <= set(FIELD_WORDS)


def test_a_map_with_two_arms_is_drawn_and_judged(call, tmp_path):
  more = ("--arm=adam:optimizer=adam,learning_rate=0.003", "--map=hidden=8,32")
  status, said, _ = call(*more, "--num_seeds=2", "--photographs=6", "--steps=9")
  assert status == 0 and "adam-hidden-32, 6 photographs, unmixed_moment: " in said
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  assert list(summary) == [f"{arm}-hidden-{n}" for arm in ("sgd", "adam") for n in (8, 32)]
  assert set(summary["adam-hidden-8"]["6"]["verdicts"]) == {
    "weights",
    "weights_and_init",
    "checkpoint",
  }
  page = (tmp_path / "run" / "report.html").read_text()
  assert "Does it defend?" in page and "Beyond the line" in page
