"""Everything that is exported says what it does, and shows it by an example."""

import importlib
import inspect
import re
import sys

import pytest

import jaxinv

ROOMS = ("attacks", "auditing", "data", "ensemble", "metrics", "models", "training")


def _exported():
  """(where, name, value) of every public function and class, each once."""
  found = {}
  for where in ("jaxinv", *(f"jaxinv.{room}" for room in ROOMS)):
    module = importlib.import_module(where)
    for name in module.__all__:
      value = getattr(module, name)
      if inspect.isfunction(value) or inspect.isclass(value):
        found.setdefault(id(value), (f"{where}.{name}", value))
  return list(found.values())


def test_every_room_is_offered_and_says_what_it_exports():
  assert set(ROOMS) <= set(jaxinv.__all__)
  for room in ROOMS:
    module = getattr(jaxinv, room)
    assert module.__doc__ and module.__all__, room
    assert all(hasattr(module, name) for name in module.__all__), room


@pytest.mark.parametrize(("where", "value"), [pytest.param(*it, id=it[0]) for it in _exported()])
def test_what_is_exported_is_explained_with_an_example(where, value):
  # The examples themselves are run as doctests of their modules.
  text = inspect.getdoc(value) or ""
  if other := re.search(r"^Example: see `(\w+)`\.$", text, re.M):
    text = inspect.getdoc(getattr(sys.modules[value.__module__], other[1]))
  assert ">>>" in text, f"{where} has no example"
