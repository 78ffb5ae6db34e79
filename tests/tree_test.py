"""The tests mirror the tree: tests/<room>/<module>_test.py."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What is tested elsewhere, and why.
ELSEWHERE = {
  "__main__.py",  # The command itself: tests/main_test.py.
  "experiments/networks/findings.py",  # Tuples without code; outcome_test.py says what is in them.
}
MODULES = [
  str(path.relative_to(top))
  for top in (ROOT / "jaxinv", ROOT)
  for path in sorted((top if top != ROOT else ROOT / "launch").rglob("*.py"))
  if path.name != "__init__.py"
]


@pytest.mark.parametrize("module", [module for module in MODULES if module not in ELSEWHERE])
def test_every_module_has_a_test_file_of_its_own(module):
  assert (ROOT / "tests" / module.replace(".py", "_test.py")).is_file()


def test_no_room_is_forgotten():
  rooms = {module.split("/")[0] for module in MODULES if "/" in module}
  folders = {path.parent.name for path in (ROOT / "jaxinv").glob("*/__init__.py")}
  assert rooms == folders - {"_launch"} | {"launch"} and len(MODULES) > 120
  assert set(MODULES) > ELSEWHERE
