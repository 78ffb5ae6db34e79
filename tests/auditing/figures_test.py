"""Figures of an audit draw the right numbers and images."""

import numpy as np
from audit_results import audit_of, people, plant, unmix

from jaxinv.auditing import figures, verdict


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


def test_a_long_name_of_a_photograph_keeps_the_person():
  known = people()
  files = tuple(f"person 1{name[1:]}".replace(".", "00.") for name in known.files)
  audit = audit_of(plant(matched=3), known=known._replace(files=files))
  (axis,) = figures.clearest_figure(audit, figures.clearest(audit, 16)).axes
  assert axis.texts[4].get_text() == "person 12\n000.pgm\n+0.30"


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


def test_what_is_in_the_inputs_unit_is_drawn_as_it_is_and_else_scaled():
  inside, outside = np.full((1, 4, 5, 1), 0.4), np.linspace(-3, 5, 20).reshape(1, 4, 5, 1)
  inside[0, 0, 0, 0] = -0.2
  looks = figures.as_inputs(np.concatenate([inside, outside]))
  assert looks.shape == (2, 4, 5) and looks[0, 0, 0] == 0 and looks[0, 1, 1] == 0.4
  np.testing.assert_allclose(looks[1], figures.displayable(outside)[0])


def test_images_that_were_unmixed_stand_above_their_photographs():
  def words(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]

  bare = figures.unmixed_figure(unmix(3), None)
  assert words(bare) == ["image 0, 0.98", "image 1, 0.92", "image 2, 0.86"]
  both = figures.unmixed_figure(unmix(3, 1), people())
  # The last has no photograph of its own.
  assert words(both)[3:] == [
    *("p0/0.pgm\n+0.97, detail +0.48", "p0/1.pgm\n+0.50, detail +0.25"),
    "",
  ]
  assert len(both.axes[0].patches) == 1 and len(both.axes[0].images) == 6
