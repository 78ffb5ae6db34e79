"""What an audit tells: its verdict, audit.json, the page, and figures of the right numbers."""

import html
import json
import re

import numpy as np
import pytest
from scipy import ndimage

from jaxinv.attacks.attack import Attack, resolve
from jaxinv.auditing import figures, findings, page, to_json, verdict
from jaxinv.auditing.findings import Audit, Finding, Tensor
from jaxinv.metrics.matching import Match
from jaxinv.runs import files
from jaxinv.types import References

SHAPE = (12, 9, 1)
CONFIG = {
  "versions": {"python": "3.11", "jax": "0.10"},
  "device": {"kind": "cpu", "count": 1},
  "precision": "default",
  "git_revision": None,
  "flags": {"weights": ["model.npz"]},
  "weights": [{"path": "model.npz", "bytes": 7, "sha256": "ab"}],
}
UNSEEN = (
  Tensor("b/$x_{$<i>", (4, 5), "float32", "none", "no axis fits"),
  Tensor("c", (), "int64", "none", "a single number"),
  Tensor("d", (7, 5), "float32", "none", "no axis fits"),
)


def plant(
  num=6, structured=4, matched=None, what="class", attack="reshape", source="w", shape=SHAPE
) -> Finding:
  """Images of which the first are smooth and the rest noise; of the smooth ones the first match.

  The later of these stand out more, and every second one as a negative.
  """
  rng = np.random.default_rng(num)
  images = rng.standard_normal((num, *shape))
  images[:structured] = ndimage.gaussian_filter(images[:structured], (0, 2, 2, 0))
  place = np.arange(num)
  flags = place < structured
  p_values = np.where(flags, 1e-6, 0.5)
  finding = Finding(
    source=source,
    attack=resolve([attack])[0],
    what=what,
    layout="hwc",
    images=images,
    kept=place,
    morans_i=np.where(flags, 0.9 - 0.01 * place, -0.001),
    p_values=p_values,
    q_values=np.minimum(2 * p_values, 1),
    structured=flags,
  )
  if matched is None:
    return finding
  ncc = (0.2 + 0.01 * place) * np.where(place % 2, -1.0, 1.0)
  nearest = np.stack([3 * (place % 5), 3 * (place % 5) + 1], 1)
  match = Match(nearest, np.full((num, 2), 0.3), place % 5, ncc, p_values)
  return finding._replace(match=match, match_q=p_values, matched=place < matched)


def people(grouped=True, shape=SHAPE) -> References:
  """Five people with three images each, all of one grey, or fifteen images."""
  images = np.broadcast_to(10.0 * np.arange(15)[:, None, None, None], (15, *shape))
  names = tuple(f"p{i}/{j}.pgm" for i in range(5) for j in range(3))
  person, who = (np.repeat(np.arange(5), 3), tuple("abcde"))
  if not grouped:
    person, who = np.arange(15), names
  return References(images, person, who, names, grouped, ("2 files were passed over.",))


def audit_of(*findings, known=None, shape=SHAPE, tensors=UNSEEN, alpha=0.05, measures=None):
  used = [Tensor(f.source, (108, 6), "float32", "images", "108 = 12 x 9") for f in findings]
  return Audit((*used, *tensors), findings, shape, alpha, known, measures or {}, ("A note.",))


def page_of(audit, folder) -> str:
  story = page.PageData(audit, CONFIG, "python -m launch.audit")
  return page.write_page(folder, story).read_text()


# ---- The verdict ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("audit", "expected"),
  [
    (
      audit_of(plant(matched=3), plant(8, 2, 1, "unit"), known=people()),
      "The weights show people: 3 of 6 class images and 1 of 8 units resemble one of the 5 "
      "reference people beyond chance.",
    ),
    (
      audit_of(plant(7, 5, 1, "unit"), known=people(grouped=False)),
      "The weights show reference images: 1 of 7 units resembles one of the 15 reference images "
      "beyond chance.",
    ),
    (
      audit_of(plant(matched=0), known=people()),
      "The weights hold image-like structure in 4 of 6 class images, but none resembles any of the "
      "5 reference people beyond chance.",
    ),
    (
      audit_of(plant(6, 6), plant(1500, 0, what="unit")),
      "The weights hold image-like structure in 6 of 6 class images and 0 of 1,500 units; no "
      "reference images were given, so whose it is was not asked.",
    ),
    (
      audit_of(plant(512, 0, what="unit")),
      "No structure was found: 0 of 512 units look like an image, not like noise.",
    ),
    (
      audit_of(plant(6, 0, 0), known=people()),
      "No structure was found: 0 of 6 class images look like an image, not like noise, and none "
      "resembles any of the 5 reference people beyond chance.",
    ),
    (audit_of(), "Nothing was looked at: no tensor fits images of 12 x 9 pixels, 1 channel."),
    (
      audit_of(plant(what="filter")),
      "No image of a class or unit was looked at: only filters of convolutions fit images of 12 x "
      "9 pixels, 1 channel, and filters show nobody.",
    ),
  ],
)
def test_the_verdict_is_made_of_the_numbers(audit, expected):
  first, *rest = verdict.verdict(audit)
  assert first == expected
  if not audit.structure:
    assert "no proof" in " ".join(rest)


def test_the_verdict_says_what_an_attacker_must_hold():
  plain, more = plant(6, 1, 1), plant(6, 5, 5, attack="init_diff")
  text = " ".join(verdict.verdict(audit_of(plain, more, known=people())))
  assert "5 of 6 class images" in text and "5 different people" in text
  assert "with weights and initial weights (init_diff), where the weights alone show 1" in text
  # Where the weights alone show as much, they are what is told of.
  text = " ".join(verdict.verdict(audit_of(plant(6, 5, 5), more, known=people())))
  assert "with the weights alone (reshape)" in text and "init_diff" not in text


def test_units_of_several_tensors_are_added_up_and_filters_are_not():
  units = [plant(10, n, what="unit", source=f"w{n}") for n in (2, 3)]
  text = verdict.verdict(audit_of(*units, plant(9, 9, what="filter")))[0]
  assert "in 5 of 20 units;" in text and "filter" not in text


@pytest.mark.parametrize(
  ("alpha", "share"), [(0.05, "5 %"), (0.001, "0.1 %"), (0.2, "20 %"), (0.07, "7 %")]
)
def test_alpha_is_told_as_a_share(alpha, share):
  assert f"at most {share} of" in verdict.meaning_of_alpha(audit_of(plant(), alpha=alpha))


def test_how_much_was_looked_at():
  assert verdict.coverage(audit_of(plant())) == (
    "Of 4 tensors (704 values), 3 with 8 % of the values were not looked at."
  )
  assert "none was left out" in verdict.coverage(audit_of(plant(), tensors=()))
  assert "none was looked at" in verdict.coverage(audit_of())


def test_the_console_has_a_line_a_finding_and_not_too_many():
  audit = audit_of(plant(matched=3), plant(7, 2, 0, "unit", source="u"), known=people())
  lines = verdict.summary_lines(audit)
  assert lines[0] == verdict.verdict(audit)[0]
  assert lines[-2:] == [
    "  w  reshape  6 classes: 4 structured, 3 single out a person, median Moran's I 0.88",
    "  u  reshape  7 units: 2 structured, 0 single out a person, median Moran's I 0.00",
  ]
  many = [plant(3, int(i == 50), what="unit", source=f"w{i}") for i in range(70)]
  lines = verdict.summary_lines(audit_of(*many))
  assert lines[-1].strip() == "and 50 findings more in audit.json"
  assert any(line.startswith("  w50  reshape  3 units: 1 structured") for line in lines)


# ---- audit.json ----------------------------------------------------------------------------------


def test_the_json_holds_what_was_found(tmp_path):
  audit = audit_of(plant(matched=3), known=people(), measures={"reshape": {"ncc": np.float32(0.5)}})
  files.write_json(tmp_path / "a.json", to_json.to_json(audit, "python -m x", CONFIG))
  told = json.loads((tmp_path / "a.json").read_text())
  assert told["verdict"]["structure"] is True and told["verdict"]["match"] is True
  assert told["verdict"]["text"].startswith(verdict.verdict(audit)[0])
  assert told["image_shape"] == [12, 9, 1] and told["weights"] == CONFIG["weights"]
  assert told["measures"] == {"reshape": {"ncc": 0.5}} and told["notes"] == ["A note."]
  assert told["references"]["people"] == 5 and told["references"]["images"] == 15
  assert [tensor["shape"] for tensor in told["tensors"]] == [[108, 6], [4, 5], [], [7, 5]]
  (found,) = told["findings"]
  assert (found["num"], found["structured"], found["matched"]) == (6, 4, 3)
  assert found["share"] == pytest.approx(4 / 6, abs=1e-6) and found["units_left_out"] == 0
  assert found["units"][1] == {
    "index": 1,
    "morans_i": 0.89,
    "p": 1e-6,
    "q": 2e-6,
    "structured": True,
    "person": "b",
    "person_ncc": -0.21,
    "match_p": 1e-6,
    "match_q": 1e-6,
    "matched": True,
    "nearest": [{"file": "p1/0.pgm", "ncc": 0.3}, {"file": "p1/1.pgm", "ncc": 0.3}],
  }


def test_the_json_has_the_same_keys_without_references_and_no_nan():
  bare = plant()._replace(morans_i=np.array([np.nan, np.inf, 0.5, 0.4, 0.3, 0.2]))
  told = to_json.to_json(audit_of(bare), "", CONFIG)
  full = to_json.to_json(audit_of(plant(matched=3), known=people()), "", CONFIG)
  json.dumps(told, allow_nan=False)
  assert told.keys() == full.keys() and told["verdict"]["match"] is None
  (found,), (other,) = told["findings"], full["findings"]
  assert found.keys() == other.keys() and found["matched"] is None
  assert found["units"][0].keys() == other["units"][0].keys()
  assert found["units"][0]["person"] is None and found["units"][0]["nearest"] == []
  assert [unit["morans_i"] for unit in found["units"][:3]] == [None, None, 0.5]


def test_of_many_images_the_json_lists_those_that_tell_most():
  big = plant(20000, 100, 50, "unit")._replace(images=np.empty((0, *SHAPE)), kept=np.arange(0))
  audit = audit_of(big, big, known=people())
  told = to_json.to_json(audit, "", CONFIG)
  for found in told["findings"]:
    assert found["units_left_out"] == 18000 and len(found["units"]) == 2000
    assert [unit["index"] for unit in found["units"]] == list(range(2000))
    assert found["num"] == 20000 and found["structured"] == 100 and found["matched"] == 50
  assert len(json.dumps(told, indent=2)) < 4e6


# ---- Figures -------------------------------------------------------------------------------------


def test_matches_rank_before_structure_and_that_before_noise():
  finding = plant(7, 5, 3)
  # Of three matches the last stands out most, though as little smooth; then Moran's I counts.
  assert findings.rank(finding).tolist() == [2, 1, 0, 3, 4, 5, 6]
  assert findings.rank(plant(7, 5)).tolist() == list(range(7))


def test_each_class_is_among_the_clearest_once_and_as_the_weights_alone_show_it_if_they_do():
  second = plant(attack="init_diff")
  first = plant(structured=2)._replace(morans_i=second.morans_i - 0.4)
  picks = figures.clearest(audit_of(first, second, plant(what="filter")), 9)
  shown = [(pick.finding.attack.name, pick.unit) for pick in picks]
  assert shown == [("reshape", 0), ("reshape", 1), ("init_diff", 2), ("init_diff", 3)]


def test_what_an_optimiser_remembers_is_told_apart():
  memory = plant(9, 9, source="opt_state/0/mu/w")
  both = verdict.verdict(audit_of(plant(), memory))
  assert "in 4 of 6 class images;" in both[0]
  assert both[-1].startswith("What the optimiser remembers (1 tensor in the file) shows images")
  hidden = verdict.verdict(audit_of(plant(structured=0), memory))
  assert "in 9 of 15 class images;" in hidden[0]


def test_units_have_half_of_the_places_and_only_images_that_were_kept_are_shown():
  units = plant(9, 9, what="unit", source="u")
  units = units._replace(images=units.images[3:6], kept=np.arange(3, 6))
  audit = audit_of(plant(9, 9), units)
  picks = figures.clearest(audit, 8)
  assert [p.unit for p in picks] == [0, 1, 2, 3, 4, 3, 4, 5]
  assert [p.unit for p in figures.clearest(audit, 4)] == [0, 1, 3, 4]
  assert [p.place for p in picks[-3:]] == [0, 1, 2]
  nothing = figures.clearest(audit_of(plant(9, 0), plant(9, 0, what="unit")), 4)
  assert [pick.finding.what for pick in nothing] == ["class"] * 2 + ["unit"] * 2


def test_images_are_scaled_one_by_one_and_colours_jointly():
  grey = np.array([0.0, 5.0, 10.0, 10.0]).reshape(1, 2, 2, 1)
  both = figures.displayable(np.concatenate([grey, 100 * grey - 7]))
  np.testing.assert_allclose(both, np.array([[[0, 0.5], [1, 1]]] * 2), atol=1e-6)
  colour = np.stack([grey[..., 0], grey[..., 0] / 2, -grey[..., 0]], -1)
  np.testing.assert_allclose(figures.displayable(colour), colour / 20 + 0.5, atol=1e-6)
  two = np.concatenate([grey, 3 * grey], -1)
  np.testing.assert_allclose(figures.displayable(two), both[:1], atol=1e-6)
  flat = figures.displayable(np.full((1, 2, 2, 1), np.nan))
  np.testing.assert_array_equal(flat, np.zeros((1, 2, 2)))


def test_a_photograph_stands_below_each_image_and_the_persons_below_a_negative():
  finding = plant(matched=3)
  audit = audit_of(finding, known=people())
  picks = figures.clearest(audit, 16)
  (axis,) = figures.clearest_figure(audit, picks).axes
  shown = [image.get_array() for image in axis.images]
  np.testing.assert_allclose(shown[0], figures.displayable(finding.images[2:3])[0])
  assert [pick.unit for pick in picks] == [2, 1, 0, 3]
  greys = [float(image[0, 0]) * 25.5 for image in shown[4:]]
  np.testing.assert_allclose(greys, [6, 3, 0, 9], rtol=1e-6)
  words = [text.get_text() for text in axis.texts]
  assert words[0] == "class 2, I 0.88\nreshape"
  assert words[4:6] == ["p2/0.pgm\n+0.30", "b\nas a negative\n-0.21"]
  assert len(axis.patches) == 4


def test_another_persons_photograph_says_who_stands_out():
  finding = plant(1, 1, 1)
  match = finding.match._replace(nearest=np.array([[14, 3]]))
  audit = audit_of(finding._replace(match=match), known=people())
  (axis,) = figures.clearest_figure(audit, figures.clearest(audit, 1)).axes
  assert axis.texts[1].get_text() == "p4/2.pgm\n+0.30, but\na +0.20"


def test_scores_are_drawn_at_their_values_and_flags_by_colour():
  finding = plant(matched=3)
  left, right = figures.scores_figure([finding, plant(what="filter")]).axes
  noise, smooth = left.lines[:2]
  np.testing.assert_array_equal(smooth.get_xdata(), finding.morans_i[:4])
  np.testing.assert_array_equal(noise.get_xdata(), finding.morans_i[4:])
  np.testing.assert_array_equal(right.lines[1].get_xdata(), finding.match.person_ncc[:3])
  assert np.abs(smooth.get_ydata()).max() < 0.5 < left.lines[3].get_ydata().min()
  assert smooth.get_color() != right.lines[1].get_color() != noise.get_color()
  assert len(figures.scores_figure([plant()]).axes) == 1


def test_all_images_are_drawn_and_of_too_many_the_clearest():
  (axis,) = figures.all_figure(plant(9, 4)).axes
  assert [text.get_text() for text in axis.texts] == list(map(str, range(9)))
  assert len(axis.patches) == 4
  many = plant(300, 0)
  many.morans_i[200:] = 0.1
  (axis,) = figures.all_figure(many).axes
  assert [text.get_text() for text in axis.texts] == list(map(str, range(200, 300)))


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


# ---- The page ------------------------------------------------------------------------------------


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
