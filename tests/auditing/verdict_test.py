"""The verdict is made of the numbers, and says what an attacker must hold."""

import pytest
from audit_results import audit_of, people, plant, unmix

from jaxinv.auditing import verdict


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
    "Of 4 tensors (704 values), 3 with 8 % of the values were not examined."
  )
  assert "all were examined" in verdict.coverage(audit_of(plant(), tensors=()))
  assert "none was examined" in verdict.coverage(audit_of())


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


def test_images_that_were_unmixed_and_match_come_first():
  noise = plant(6, 0, 0)
  audit = audit_of(noise, known=people(), unmixed=unmix(4, 3))
  assert audit.match and audit.unmixed_matches == 3
  first, *_, counted, separated = verdict.verdict(audit)
  assert first == (
    "The weights show people: 3 images that clearly match a reference photograph can be read out "
    "of the change of w since the initial weights."
  )
  assert counted == (
    "The change of w since the initial weights is made of 4 images (its singular values fall by a "
    "factor of 2e+02 behind them)."
  )
  assert "a mean stability of 0.92" in separated and "and 3 clearly match a reference" in separated
  text = " ".join(verdict.verdict(audit_of(plant(matched=3), known=people(), unmixed=unmix(4, 1))))
  assert "people: 1 image that clearly matches a" in text and ". 3 of 6 class images" in text


def test_a_number_of_images_is_told_without_references_and_none_is_not():
  audit = audit_of(plant(), unmixed=unmix(certain=False))
  text = " ".join(verdict.verdict(audit))
  assert "is made of about 4 images (there its singular values fall 2 times as steeply" in text
  assert "reference" not in " ".join(verdict.unmixed_words(audit)) and audit.match is None
  found = unmix()
  counted = found._replace(images=found.images[:0], stability=found.stability[:0])
  assert len(verdict.unmixed_words(audit_of(plant(), unmixed=counted))) == 1
  none = counted._replace(count=found.count._replace(number=0))
  assert not verdict.unmixed_words(audit_of(plant(), unmixed=none))
  assert audit_of(plant(matched=0), known=people(), unmixed=unmix(4, 0)).match is False
