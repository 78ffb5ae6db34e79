"""A progress bar on a terminal, with the time left; silent elsewhere."""

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
  """Shows how much of a known amount of work is done, on standard error where that is a terminal.

  A context manager; `advance` is what the work calls.
  """

  def __init__(self, total: int, unit: str):
    console = Console(stderr=True)
    self._bar = Progress(
      TextColumn("{task.description}"),
      BarColumn(),
      MofNCompleteColumn(),
      TextColumn(unit),
      TimeRemainingColumn(),
      console=console,
      disable=not console.is_terminal,
      transient=True,
    )
    self._task = self._bar.add_task("starting", total=total)

  def advance(self, text: str, amount: int) -> None:
    """Notes that `amount` of the work was done, and says what is being worked on."""
    self._bar.update(self._task, description=text, advance=amount)

  def reached(self, text: str, done: int, total: int) -> None:
    """The same for work that tells by itself how much is done, and how much there is."""
    self._bar.update(self._task, description=text, completed=done, total=total)

  def working(self, text: str) -> None:
    """Says what is being worked on that has no measure of its own."""
    self._bar.update(self._task, description=text)

  def say(self, line: str) -> None:
    """Prints a line on standard error without disturbing the bar."""
    if self._bar.disable:
      print(line, file=sys.stderr)
    else:
      self._bar.console.print(line, markup=False, highlight=False)

  def __enter__(self) -> "ProgressBar":
    self._bar.start()
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    self._bar.stop()
