"""Pages: whole in one file, escaped, and never with a hole in a sentence."""

import jinja2
import pytest
from PIL import Image

from jaxinv.runs import page

CONFIG = {
  "versions": {"python": "3.11", "jax": "0.10"},
  "device": {"count": 1, "kind": "cpu"},
  "precision": "highest",
  "git_revision": None,
  "flags": {"steps": 10, "dataset": "synthetic_faces"},
}


@pytest.fixture
def template(tmp_path, monkeypatch):
  """A package of the caller's own, with a page's template in it."""
  package = tmp_path / f"own_pages_{tmp_path.name}"
  package.mkdir()
  (package / "__init__.py").write_text("")
  monkeypatch.syspath_prepend(tmp_path)
  return package / "page.html.jinja"


def write(tmp_path, template, text, **data):
  template.write_text(
    '{% extends "base.html.jinja" %}{% from "macros.html.jinja" import figure, table, folded %}'
    "{% block title %}A title{% endblock %}{% block content %}" + text + "{% endblock %}"
  )
  return page.write_page(tmp_path / "report.html", template.parent.name, data).read_text()


def test_a_page_holds_its_pictures_and_needs_nothing_else(tmp_path, template):
  Image.new("L", (3, 2)).save(tmp_path / "x.png")
  text = "{% call figure(path) %}One <b>{{ name }}</b>.{% endcall %}"
  html = write(tmp_path, template, text, path=tmp_path / "x.png", name="a<b")
  assert 'src="data:image/png;base64,' in html and "http" not in html
  assert "One <b>a&lt;b</b>." in html and "<title>A title</title>" in html


def test_a_sentence_that_is_broken_over_lines_is_one_line(tmp_path, template):
  html = write(tmp_path, template, "<p>One\n  sentence\n{{ word }}.</p>", word="here")
  assert "<p>One sentence here.</p>" in html


def test_tables_and_filters(tmp_path, template):
  text = "{% call table(('x',), [(value | interval(2),)]) %}All <i>of</i> it.{% endcall %}"
  html = write(tmp_path, template, text, value={"mean": 0.5, "low": 0.4, "high": 0.6})
  assert "<caption>All <i>of</i> it.</caption>" in html and "<td>0.50 (0.40 to 0.60)</td>" in html


def test_what_a_template_lacks_is_an_error_not_a_hole(tmp_path, template):
  with pytest.raises(jinja2.UndefinedError, match="missing"):
    write(tmp_path, template, "<p>{{ missing }}</p>")
  assert not (tmp_path / "report.html").exists()


def test_a_page_ends_with_how_it_was_made_and_whose_the_data_are(tmp_path, template):
  html = write(tmp_path, template, "", command="launch <x>", config=CONFIG, credit="Credit: A & B")
  assert "This page is made by <b>launch &lt;x&gt;</b>." in html and "Credit: A &amp; B" in html
  assert "<td>--steps</td><td>10</td>" in html and "with changes" not in html
  config = CONFIG | {"git_revision": "abc", "git_dirty": True}
  assert "abc, with changes" in write(tmp_path, template, "", command="launch", config=config)


def test_paragraphs_are_plain_text_without_what_stands_between_them():
  html = "<h2>Speed</h2><p><b>One</b> &amp; two &lt; three.</p> <p> And four. </p><td>5</td>"
  assert page.paragraphs(html) == ["One & two < three.", "And four."]
