"""The page of an audit tells all, of images of any shape."""

import html
import re

import pytest
from audit_results import CONFIG, audit_of, people, plant, unmix

from jaxinv.attacks.attack import Attack
from jaxinv.auditing import page, to_json, verdict


def page_of(audit, folder) -> str:
  story = page.PageData(audit, CONFIG, "python -m launch.audit")
  return page.write_page(folder, story).read_text()


def test_an_attack_of_the_callers_own_is_told_of_like_any_other(tmp_path):
  def recover(release, image_shape):
    raise AssertionError("a page computes nothing")

  needs = frozenset({"params", "init_params"})
  mine = Attack("squint", recover, needs, words="W, squinted", how="the weights through a mist")
  audit = audit_of(plant(6, 1, 1), plant(6, 5, 5)._replace(attack=mine), known=people())
  text = " ".join(verdict.verdict(audit))
  assert "with weights and initial weights (squint), where the weights alone show 1" in text
  told = to_json.to_json(audit, "", CONFIG)["findings"][1]
  assert (told["attack"], told["knowledge"]) == ("squint", "weights and initial weights")
  shown = html.unescape(page_of(audit, tmp_path))
  assert "<td>squint</td>" in shown and "the weights through a mist" in shown


def test_the_page_has_all_sections_in_order_and_needs_no_other_file(tmp_path):
  measures = {"reshape": {"ncc_centred": 0.123, "psnr": 7.0}, "init_diff": {"ncc_centred": 0.456}}
  findings = (plant(matched=3), plant(9, 3, 1, "unit"), plant(4, 4, what="filter", shape=(3, 3, 5)))
  audit = audit_of(*findings, known=people(), measures=measures)
  raw = page_of(audit, tmp_path)
  text = html.unescape(raw)
  heads = re.findall(r"<(?:h2|summary)>(.*?)</", text)
  assert heads == [
    *(
      "The clearest images",
      "What was found",
      "What was assumed, and what was not looked at",
      "All images",
    ),
    *("Every image", "Every tensor", "How to read this", "This run"),
  ]
  assert f"<b>{verdict.verdict(audit)[0]}</b>" in text
  assert raw.count('<img src="data:image/png;base64,') == 5
  assert not re.search(r"(src|href)=\"(?!data:)", raw) and "<i>" not in raw
  for shown in ("3 (50%)", "0.123", "0.456", "no axis fits", "A note.", "p1/0.pgm (0.30)"):
    assert shown in text
  assert "other than 1 or 3 channels" in text and text.count("2 files were passed over") == 1
  assert "nan" not in re.sub(r"base64,[^\"]*", "", text) and "**" not in text


def test_tensors_that_were_not_looked_at_are_grouped_by_reason(tmp_path):
  text = html.unescape(page_of(audit_of(), tmp_path)).replace("\n", "")
  assert "<td>no axis fits</td><td>2</td><td>55</td><td>b/$x_{$<i> [4, 5], d [7, 5]</td>" in text
  assert text.index("no axis fits") < text.index("a single number")
  assert "The clearest images" not in text and not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
  ("shape", "kwargs"),
  [
    ((8, 8, 1), {"matched": 2}),
    ((6, 9, 3), {"matched": 2}),
    ((4, 60, 2), {}),
    ((90, 3, 1), {"num": 1, "structured": 1}),
    ((12, 9, 1), {"num": 120, "structured": 0, "what": "unit", "matched": 0}),
    ((3, 3, 1), {"what": "filter"}),
  ],
)
def test_images_of_any_shape_have_a_page(shape, kwargs, tmp_path):
  known = people(shape=shape) if "matched" in kwargs else None
  finding = plant(shape=shape, source="a$_{$<b>" + "long" * 30, **kwargs)
  text = page_of(audit_of(finding, known=known, shape=shape), tmp_path)
  assert ("None of these is told from noise" in text) == (finding.structured.sum() == 0)
  assert ("clearest.png" in {p.name for p in (tmp_path / "figures").iterdir()}) == (
    finding.what != "filter"
  )


def test_of_many_findings_the_page_tells_of_those_that_tell_most(tmp_path):
  many = [plant(3, int(i == 50), what="unit", source=f"w{i}") for i in range(70)]
  text = html.unescape(page_of(audit_of(*many), tmp_path))
  assert text.count("<td>w50</td>") == 3  # In both tables of findings and among the tensors.
  assert len(list((tmp_path / "figures").iterdir())) == 8
  assert "12 of 70 findings" in text and "<summary>Every finding</summary>" in text


@pytest.mark.parametrize("shape", [(12, 9, 1), (12, 9, 3), (12, 9, 2)])
@pytest.mark.parametrize("scaled", [False, True])
def test_what_was_unmixed_has_a_section(shape, scaled, tmp_path):
  known = people(shape=shape)
  found = unmix(30, 5, shape=shape, scaled=scaled)
  found = found._replace(nearest=found.nearest % 15)
  raw = page_of(audit_of(plant(shape=shape), known=known, shape=shape, unmixed=found), tmp_path)
  text = html.unescape(raw)
  assert text.index("Single images, unmixed") < text.index("<h2>What was found</h2>")
  assert "The 24 most stable of 30 images" in text and (tmp_path / "figures/unmixed.png").is_file()
  assert ("they are drawn as they are" in text) == scaled
  assert "nan" not in re.sub(r"base64,[^\"]*", "", text)


def test_a_number_alone_has_a_section_and_no_figure(tmp_path):
  found = unmix()
  counted = found._replace(images=found.images[:0], stability=found.stability[:0])
  text = page_of(audit_of(plant(), unmixed=counted), tmp_path)
  assert "is made of 4 images" in text and not (tmp_path / "figures/unmixed.png").exists()
  assert "unmixed" not in page_of(audit_of(plant()), tmp_path)
