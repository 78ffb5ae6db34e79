"""One self-contained HTML page: a template that says, and a plain dictionary of what it says it of.

A page's sentences, captions and tables stand in `page.html.jinja` beside the code that computes its
numbers and draws its figures. It extends `base.html.jinja` and is made of the macros of
`macros.html.jinja`, both in `runs/templates`; the filters are those of `runs.text`.
"""

import base64
import importlib.resources
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from jaxinv.runs import text
from jaxinv.runs.files import write_text


def run_rows(command: str, config: Mapping) -> list[tuple[str, str]]:
  """How a page was made, as rows of a table: the command, versions, device and every flag."""
  rows = [("command", command)]
  rows += [(name, str(version)) for name, version in config["versions"].items()]
  rows += [("device", f"{config['device']['count']} x {config['device']['kind']}")]
  changed = ", with changes" if config.get("git_dirty") else ""
  revision = f"{config['git_revision']}{changed}"
  rows += [("precision", config["precision"]), ("git revision", revision)]
  return rows + [(f"--{name}", str(value)) for name, value in config["flags"].items()]


def write_page(
  path: Path, package: str, data: Mapping[str, Any], template: str = "page.html.jinja"
) -> Path:
  """Writes a page from its template; the page needs no other file and no network.

  Args:
    path: where to write.
    package: where the template lies, as `__package__` names it.
    data: all that the template says something of. With `command` and `config` in it, and perhaps
      `credit`, the page ends with how it was made.
    template: its file's name.

  Returns:
    The path.
  """
  write_text(path, render(package, data, template))
  return path


def render(package: str, data: Mapping[str, Any], template: str = "page.html.jinja") -> str:
  """A template filled in, as HTML; see `write_page`."""

  def source(name: str) -> str | None:
    own, shared = (importlib.resources.files(room) for room in (package, "jaxinv.runs"))
    for file in (own / name, shared / "templates" / name):
      if file.is_file():
        return file.read_text(encoding="utf-8")
    return None

  environment = jinja2.Environment(
    loader=jinja2.FunctionLoader(source),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters |= {"data_uri": _data_uri} | text.FILTERS
  environment.globals |= {"run_rows": run_rows}
  return _compact(environment.get_template(template).render(data))


def paragraphs(html: str) -> list[str]:
  """The paragraphs of rendered HTML, as plain text."""
  return [markupsafe.Markup(text).striptags() for text in re.findall("<p>(.*?)</p>", html)]


def _compact(html: str) -> str:
  """One space where a template breaks its lines, so that a sentence is one line."""
  return re.sub(
    r"(</(?:p|h1|h2|figure|tr|div|details|style|head)>) ", r"\1\n", " ".join(html.split())
  )


def _data_uri(picture: Path) -> str:
  """The picture itself, as an address."""
  kind = picture.suffix.lstrip(".")
  return f"data:image/{kind};base64,{base64.b64encode(picture.read_bytes()).decode()}"
