"""Objects of the user's own code, by name; messages of one line."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from helpers import assert_fails
from jaxinv.errors import InputError, choose, named, named_object, own_code, resolve


@pytest.fixture
def here(tmp_path, monkeypatch):
  """An empty current folder; what is imported from it is forgotten afterwards."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
  before = set(sys.modules)
  yield tmp_path
  for name in set(sys.modules) - before:
    del sys.modules[name]


def test_a_name_that_is_known_is_what_it_stands_for():
  assert choose("loss", "b", {"a": 1, "b": 2}) == 2
  assert_fails(lambda: choose("loss", "c", {"a": 1, "b": 2}), "unknown loss 'c'", "a, b")


class Toy(NamedTuple):
  name: str


def test_values_are_given_by_name_or_as_values_and_mixed():
  known, own = (Toy("a"), Toy("b")), Toy("own")
  assert resolve("toy", ["b", own, "a"], known) == (Toy("b"), own, Toy("a"))
  assert resolve("toy", "b", known) == resolve("toy", Toy("b"), known) == (Toy("b"),)
  assert_fails(lambda: resolve("toy", ["c"], known), "unknown toy 'c'", "a, b")
  assert_fails(lambda: resolve("toy", [len], known), "unknown toy", "len")
  assert_fails(lambda: resolve("toy", ["a", Toy("a")], known), "toy 'a' is named twice")


def test_a_message_says_first_what_it_is_about():
  def fail():
    with named("the third arm"):
      choose("loss", "c", {})

  assert_fails(fail, "the third arm: unknown loss")


@pytest.mark.parametrize(
  ("error", "message"),
  [
    (KeyError("kernel"), "attack 'blur': KeyError: 'kernel'"),
    (ValueError("first\nsecond"), "attack 'blur': ValueError: first"),
    (ValueError(), "attack 'blur': ValueError"),
    (InputError("give more"), "attack 'blur': give more"),
  ],
)
def test_what_own_code_raises_is_said_in_one_line(error, message):
  with pytest.raises(InputError) as caught, own_code("attack 'blur'"):
    raise error
  assert str(caught.value) == message


def test_an_object_of_the_current_folder_is_found(here):
  (here / "their_package").mkdir()
  (here / "their_package" / "__init__.py").write_text("")
  (here / "their_package" / "code.py").write_text("class Box:\n  number = 7\n")
  assert named_object("their_package.code:Box.number", "--thing") == 7


def test_an_object_of_another_type_is_refused(here):
  (here / "their_module.py").write_text("number = 7\n")
  assert named_object("their_module:number", "--thing", int) == 7
  call = lambda: named_object("their_module:number", "--thing", Callable)  # noqa: E731
  assert_fails(call, "--thing", "their_module:number", "int", "Callable")


@pytest.mark.parametrize(
  ("code", "part"),
  [
    ("import no_such_module_at_all", "no_such_module_at_all"),
    ("def f(:", "SyntaxError"),
    ("raise SystemExit(3)", "SystemExit"),
    ("raise AttributeError('two\\nlines')", "two lines"),
    ("x = 1", "has no 'it'"),
  ],
)
def test_code_that_fails_gives_one_line(here, code, part):
  (here / "their_module.py").write_text(code)
  assert_fails(lambda: named_object("their_module:it", "--thing"), "--thing", "their_module", part)


@pytest.mark.parametrize("spec", ["", "module", "a:b:c", "a/b.py:c", ":c", "a:", "..a:b", "a: b"])
def test_a_spec_of_another_form_is_refused(spec):
  assert_fails(lambda: named_object(spec, "--thing"), "--thing", "package.module:name")


def test_a_module_that_is_not_there_is_refused(here):
  assert_fails(lambda: named_object("not_there_at_all:x", "--thing"), "cannot import", "not_there")
