"""The page of a study: a verdict on each defence first, then what it rests on."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxinv.report import Section, run_section, write_report
from jaxinv.study import Answer, PoseStudy, Question
from jaxinv.types import Dataset


class Story(NamedTuple):
  """All that the page tells of.

  Attributes:
    dataset: the faces.
    question: what was asked.
    answer: what came of it.
    summary: its means and intervals.
    config: what config.json holds.
    command: the command line that makes this run.
    pose: the controls' question at several scales of pose, where it was asked.
  """

  dataset: Dataset
  question: Question
  answer: Answer
  summary: Mapping
  config: Mapping
  command: str
  pose: PoseStudy | None = None


def write_page(out_dir: Path, story: Story) -> Path:
  """Draws all figures and writes report.html.

  Args:
    out_dir: the run's folder.
    story: what to tell.

  Returns:
    The page's path.
  """
  verdicts = [f"**{k}**: {v.label}. {v.text}" for k, v in story.answer.verdicts.items()]
  sections = [Section("Verdicts", verdicts), run_section(story.command, story.config)]
  return write_report(out_dir / "report.html", "Do the defences defend?", verdicts[:1], sections)
