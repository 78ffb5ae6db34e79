"""A run's folder is made ready by the first process, and the others wait for it."""

import pytest

from jaxinv.errors import InputError
from jaxinv.runs.processes import Place
from launch import folder


@pytest.fixture
def order(monkeypatch):
  """What is done, in its order."""
  done = []
  monkeypatch.setattr(folder.processes, "meet", lambda place: done.append(f"meet {place.index}"))
  for name in ("open_folder", "join_folder"):
    monkeypatch.setattr(folder.folder, name, lambda *_, name=name: done.append(name))
  return done


def test_the_first_opens_before_they_meet_and_the_others_join_after(order, tmp_path):
  folder.open_together(tmp_path, {}, False, Place(0, 2))
  folder.open_together(tmp_path, {}, False, Place(1, 2))
  assert order == ["open_folder", "meet 0", "meet 1", "join_folder"]


def test_the_others_are_let_go_where_the_folder_cannot_be_used(order, tmp_path, monkeypatch):
  def refuse(*_):
    raise InputError("not ours")

  monkeypatch.setattr(folder.folder, "open_folder", refuse)
  with pytest.raises(InputError, match="not ours"):
    folder.open_together(tmp_path, {}, False, Place(0, 2))
  assert order == ["meet 0"]
