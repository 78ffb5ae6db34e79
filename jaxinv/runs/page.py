"""One self-contained HTML page from sections of text, figures and tables."""

import base64
import importlib.resources
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import markupsafe

from jaxinv.runs.files import write_text


class Picture(NamedTuple):
  """A figure of the page: a PNG or GIF file, which the page takes in, and its caption."""

  path: Path
  caption: str


class Table(NamedTuple):
  """A table of the page: its caption, the heads of its columns, and rows of texts."""

  caption: str
  head: Sequence[str]
  rows: Sequence[Sequence[str]]


class Section(NamedTuple):
  """A part of the page: a title, paragraphs of plain text, then pictures, then tables.

  Attributes:
    title: its heading.
    text: paragraphs; `**word**` is set bold, all else is plain.
    pictures: figures in order.
    tables: tables in order.
    folded: shown only when opened, for what few readers look for.
  """

  title: str
  text: Sequence[str] = ()
  pictures: Sequence[Picture] = ()
  tables: Sequence[Table] = ()
  folded: bool = False


_ATT = (
  "The photographs are the AT&T Database of Faces: credit AT&T Laboratories Cambridge "
  "(F. Samaria and A. Harter, 1994)."
)


def run_section(command: str, config: Mapping, text: Sequence[str] = ()) -> Section:
  """How the page was made: the command, versions, device and every flag, folded; the data's credit.

  Args:
    command: the command line.
    config: what config.json holds.
    text: further paragraphs, such as credits.

  Returns:
    The section.
  """
  rows = [("command", command)]
  rows += [(name, str(version)) for name, version in config["versions"].items()]
  rows += [("device", f"{config['device']['count']} x {config['device']['kind']}")]
  rows += [("precision", config["precision"]), ("git revision", str(config["git_revision"]))]
  rows += [(f"--{name}", str(value)) for name, value in config["flags"].items()]
  credit = [_ATT] if config["flags"].get("dataset") == "att" else []
  text = [f"This page is made by **{command}**.", *text, *credit]
  return Section("This run", text, tables=[Table("", ("what", "value"), rows)], folded=True)


def write_report(path: Path, title: str, lead: Sequence[str], sections: Sequence[Section]) -> Path:
  """Writes the page; it needs no other file and no network.

  Args:
    path: where to write.
    title: the page's title.
    lead: the first paragraphs: what was found, in a few sentences.
    sections: the rest, in order.

  Returns:
    The path.
  """
  environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
  environment.filters |= {"data_uri": _data_uri, "bold": _bold}
  source = importlib.resources.files("jaxinv.runs") / "templates" / "report.html.jinja"
  template = environment.from_string(source.read_text(encoding="utf-8"))
  write_text(path, template.render(title=title, lead=lead, sections=sections))
  return path


def _data_uri(picture: Path) -> str:
  """The picture itself, as an address."""
  kind = picture.suffix.lstrip(".")
  return f"data:image/{kind};base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _bold(text: str) -> markupsafe.Markup:
  """Escapes a text, then sets what stands between double asterisks in bold."""

  parts = str(markupsafe.escape(text)).split("**")
  return markupsafe.Markup(
    "".join(f"<b>{part}</b>" if i % 2 else part for i, part in enumerate(parts))
  )
