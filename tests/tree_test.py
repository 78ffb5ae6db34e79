"""The tests mirror the tree: tests/<room>/<module>_test.py."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Modules of commands are tested through their command too, and not all have a file of their own.
ROOMS = ("attacks", "auditing", "data", "ensemble", "metrics", "models", "runs", "training")
MODULES = [
  path.relative_to(ROOT / "jaxinv")
  for room in ROOMS
  for path in sorted((ROOT / "jaxinv" / room).rglob("*.py"))
  if path.name != "__init__.py"
]


@pytest.mark.parametrize("module", [str(path) for path in MODULES])
def test_every_module_below_the_commands_has_a_test_file_of_its_own(module):
  assert (ROOT / "tests" / module.replace(".py", "_test.py")).is_file()


def test_no_room_is_forgotten():
  folders = {path.parent.name for path in (ROOT / "jaxinv").glob("*/__init__.py")}
  assert folders - {"experiments", "_launch"} == set(ROOMS) and len(MODULES) > 60
