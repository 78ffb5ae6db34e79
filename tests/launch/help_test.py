"""--help of every command: flags in groups, and only those that the command obeys."""

import importlib
import re

import pytest

from jaxinv.__main__ import COMMANDS
from launch.define import GROUPS

# Flags that a command takes since all do, and that have no effect in it.
_WITHOUT = {
  "toy": ("holdout", "fixed_split", "download", "data_dir", "data_seed", "pose", "num_people"),
  "power": ("save_seeds", "record_every", "normalize", "checkpoint_seconds"),
  "cifar": ("jax_enable_x64",),
  "privacy": ("arm", "batch_size", "record_every"),
  "photographs": ("holdout",),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_each_flag_once_in_a_group(name, capsys):
  command = importlib.import_module(f"launch.{name}")
  assert command.main(["--help"]) == 0
  text = capsys.readouterr().out
  groups = re.findall(r"^(\w+):$", text, re.M)
  assert groups == [group for group in GROUPS if group in groups]
  shown = re.findall(r"^  --(?:\[no\])?(\w+)(?:=[\w|-]+)?$", text, re.M)
  assert len(shown) == len(set(shown))
  hidden = set(command.FLAGS) - set(shown) - {"help", "?"}
  assert hidden >= set(_WITHOUT.get(name, ())) and len(hidden) <= 8
  assert hidden == set() or name in _WITHOUT

  assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("name", ["toy", "power", "cifar"])
def test_a_flag_without_effect_is_refused_with_another_value(name, tmp_path, capsys):
  flag = {"toy": "--holdout=3", "power": "--normalize=max", "cifar": "--jax_enable_x64"}[name]
  command = importlib.import_module(f"launch.{name}")
  assert command.main([flag, f"--out_dir={tmp_path / 'run'}"]) == 1
  assert "has no meaning" in capsys.readouterr().err
  assert not (tmp_path / "run").exists()
