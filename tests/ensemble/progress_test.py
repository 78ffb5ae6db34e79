"""The progress bar: silent where nobody looks, and lines that it does not disturb."""

import re

import pytest

from jaxinv.ensemble.progress import ProgressBar


def test_without_a_terminal_lines_are_all_that_is_written(capsys):
  with ProgressBar(10, "run-steps") as bar:
    bar.advance("sgd", 4)
    bar.reached("images", 3, 7)
    bar.working("drawing")
    bar.say("note: [red] of 2")
  assert capsys.readouterr() == ("", "note: [red] of 2\n")


@pytest.fixture
def written(monkeypatch, capsys):
  """What has been written to a terminal since the last look, without its control codes."""
  monkeypatch.setenv("FORCE_COLOR", "1")
  monkeypatch.setenv("COLUMNS", "120")
  return lambda: re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)


def test_on_a_terminal_it_shows_how_much_is_done_and_of_what(written):
  with ProgressBar(10, "run-steps") as bar:
    assert re.search(r"starting\s.*\s0/10\s+run-steps", written())
    bar.advance("sgd", 4)
    bar.advance("adam", 1)
  assert re.search(r"adam\s.*\s5/10\s+run-steps", written())
  with ProgressBar(10, "images") as bar:
    bar.reached("kernel", 3, 7)
    bar.working("drawing")
  assert re.search(r"drawing\s.*\s3/7\s+images", written())


def test_lines_stand_above_the_bar_as_they_are(written):
  with ProgressBar(10, "run-steps") as bar:
    bar.say("note: [red] of 2")
    assert re.search(r"note: \[red\] of 2\nstarting\s", written())
