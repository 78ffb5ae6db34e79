"""Attacks, metrics, models and optimisers of the user's own code, named on the command line."""

import json

import numpy as np
import pytest

from launch import audit, faces, study

pytestmark = pytest.mark.usefixtures("undrawn")

_MODULE = """
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxinv import Attack
from jaxinv.attacks import reshape
from jaxinv.training import LOSSES

negative = Attack("negative", lambda release, shape: -reshape.recover(release, shape), words="-W")

class Small(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, x):
    return nn.Dense(self.num_classes)(x)

def descend(hyper):
  return optax.sgd(hyper.learning_rate)

def unready(num_classes):
  raise NotImplementedError(f"no model of {num_classes} classes")

loss = LOSSES["squared"]
number = 3
"""
_SMALL = ("--num_people=3", "--images_per_person=4", "--steps=4", "--num_seeds=1", "--holdout=1")
_SMALL += ("--batch_size=0",)


@pytest.fixture
def module(tmp_path, monkeypatch):
  """A module of the user's own in the current folder."""
  (tmp_path / "mine_on_the_command_line.py").write_text(_MODULE)
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(str(tmp_path))
  return "mine_on_the_command_line"


def test_own_values_go_through_faces(module, tmp_path):
  flags = [f"--attack={module}:negative", "--attack=reshape", f"--model={module}:Small"]
  flags += [f"--arm=own:optimizer={module}:descend,learning_rate=0.01", f"--loss={module}:loss"]
  assert faces.main([*_SMALL, *flags, "--out_dir=run"]) == 0
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  ncc = {name: summary["own"][name]["ncc"]["mean"] for name in ("negative", "reshape")}
  assert ncc["negative"] == pytest.approx(-ncc["reshape"], abs=1e-4)
  config = json.loads((tmp_path / "run" / "config.json").read_text())
  assert config["flags"]["attack"] == [f"{module}:negative", "reshape"]
  assert config["flags"]["model"] == f"{module}:Small"


def test_the_same_attack_goes_through_a_study_and_an_audit_and_their_pages(module, tmp_path):
  arms = ["--arm=sgd:learning_rate=0.01", "--arm=slow:learning_rate=0.001"]
  more = [*arms, f"--attack={module}:negative", "--control_seeds=0", "--num_seeds=2"]
  assert study.main([*_SMALL, *more, "--out_dir=study"]) == 0
  rows = (tmp_path / "study" / "cells.csv").read_text()
  assert ",negative,ncc_centred," in rows
  assert "-W" in (tmp_path / "study" / "report.html").read_text()
  with np.load(tmp_path / "study" / "weights" / "sgd.npz") as stored:
    np.savez(tmp_path / "model.npz", kernel=stored["weights"][0].T, bias=stored["bias"][0])
  flags = ["--weights=model.npz", "--image_shape=112,92", f"--attack={module}:negative"]
  assert audit.main([*flags, "--out_dir=audit"]) == 0
  report = json.loads((tmp_path / "audit" / "audit.json").read_text())
  assert {finding["attack"] for finding in report["findings"]} == {"negative"}
  assert "-W" in (tmp_path / "audit" / "report.html").read_text()


@pytest.mark.parametrize(
  ("flag", "said"),
  [
    ("--attack={}:number", "--attack: "),
    ("--attack={}:missing", "has no 'missing'"),
    ("--metric={}:negative", "--metric: "),
    ("--model={}:number", "--model: "),
    ("--model={}:unready", "NotImplementedError: no model of 3 classes"),
    ("--attack=nonsense", "nonsense"),
    ("--loss={}:number", "--loss: "),
    ("--loss=hinge", "unknown loss"),
    ("--arm=a:optimizer={}:number", "--arm a: optimizer"),
  ],
)
def test_what_cannot_be_used_is_said_in_a_line(flag, said, module, tmp_path, capsys):
  assert faces.main([*_SMALL, flag.format(module), "--out_dir=run"]) == 1
  complaint = capsys.readouterr().err
  assert said in complaint and complaint.count("\n") == 1
  assert not (tmp_path / "run").exists()
