"""`jaxinv NAME`: the table of commands, and how they are installed."""

import ast
import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import jaxinv
from jaxinv.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]


def test_every_command_is_in_the_table_once():
  scripts = {path.stem for path in (ROOT / "launch").glob("*.py") if "\ndef main(" in _text(path)}
  assert scripts == set(COMMANDS)


def test_help_lists_every_command_in_a_line(capsys):
  for argv in ([], ["--help"], ["-h"]):
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, about in COMMANDS.items():
      assert sum(line.split() == [name, *about.split()] for line in lines) == 1
    assert max(map(len, lines)) <= 100


def test_an_unknown_command_is_said_in_a_line(capsys):
  assert main(["face"]) == 1
  said = capsys.readouterr().err
  assert said.startswith("error: unknown command 'face': choose from faces, ")
  assert said.count("\n") == 1


@pytest.mark.parametrize("installed", ["9.8", None])
def test_version_is_that_of_the_installed_package(installed, capsys, monkeypatch):
  def version(name):
    if name != "jaxinv" or installed is None:
      raise metadata.PackageNotFoundError(name)
    return installed

  monkeypatch.setattr(metadata, "version", version)
  monkeypatch.setitem(vars(jaxinv), "__version__", "")  # Which is put back at the end.
  del jaxinv.__version__
  assert main(["--version"]) == 0
  assert capsys.readouterr().out == f"jaxinv {installed or '0+unknown'}\n"


def test_a_command_runs_from_another_folder(tmp_path):
  command = [sys.executable, "-m", "jaxinv", "toy", "--steps=5", "--num_seeds=1", "--out_dir=out"]
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}
  done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert (tmp_path / "out" / "report.html").is_file()


def test_commands_import_each_other_under_any_name_of_their_package():
  for path in (ROOT / "launch").glob("*.py"):
    for node in ast.walk(ast.parse(_text(path))):
      if isinstance(node, ast.ImportFrom) and not node.level:
        assert node.module.split(".")[0] != "launch", path
      if isinstance(node, ast.Import):
        assert all(name.name.split(".")[0] != "launch" for name in node.names), path


def test_no_package_called_launch_is_installed():
  (call,) = (
    node for node in ast.walk(ast.parse(_text(ROOT / "setup.py"))) if _is_call(node, "setup")
  )
  given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
  assert given["package_dir"] == "{'jaxinv._launch': 'launch'}"
  assert given["packages"] == "[*find_packages(include=['jaxinv', 'jaxinv.*']), 'jaxinv._launch']"


def test_all_of_the_library_is_installed():
  project = tomllib.loads(_text(ROOT / "pyproject.toml"))
  patterns = project["tool"]["setuptools"]["package-data"]["jaxinv"]
  library = ROOT / "jaxinv"
  data = {path for pattern in patterns for path in library.glob(pattern)}
  for path in library.rglob("*"):
    if path.is_file() and "__pycache__" not in path.parts:
      assert path.suffix == ".py" or path in data, f"{path} is not installed"
      # Folders without it are not found as packages.
      assert (path.parent / "__init__.py").is_file() or path.suffix != ".py", path
  assert library / "py.typed" in data
  assert any(path.suffix == ".jinja" for path in data)


@pytest.mark.parametrize("extra", ["cuda", "cuda12", "cuda13", "tpu"])
def test_extras_ask_for_the_versions_of_jax_that_the_library_asks_for(extra):
  project = tomllib.loads(_text(ROOT / "pyproject.toml"))["project"]
  (jax,) = (need for need in project["dependencies"] if need.startswith("jax>"))
  (need,) = project["optional-dependencies"][extra]
  assert need.partition("]")[2] == jax.removeprefix("jax")


def _text(path: Path) -> str:
  return path.read_text(encoding="utf-8")


def _is_call(node: ast.AST, name: str) -> bool:
  return isinstance(node, ast.Call) and ast.unparse(node.func) == name
