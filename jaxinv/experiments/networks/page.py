"""The page of inverted networks: what was found, in words, figures and tables."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from jaxinv.experiments.networks import figures
from jaxinv.experiments.networks import words as story_of
from jaxinv.experiments.networks.words import PageData
from jaxinv.runs.figures import save
from jaxinv.runs.page import Picture, Section, run_section, write_report

__all__ = ["PageData", "write_page"]

_TITLE = "Robust or private: networks inverted"
_GRID = (
  "Above, a real image of each class (the test image nearest to the class's mean), and where the "
  "inversion starts. Below, what is recovered from networks that differ in their seed only: the "
  "first restart of each class, none of them chosen."
)
_MEMORY = (
  "A recovered horse is like some horse that was trained on: that shows nothing, for every good "
  "picture of a horse is. So each network was trained on a random half of the candidate images of "
  "each class. Where it remembers none of them, a recovered image's nearest candidate is one that "
  "was trained on half of the time. The p-values deal out anew who was trained on, for all "
  "networks together, and they decide. The figure's intervals take seeds for independent, which "
  "complementary halves are not: they show how much networks differ."
)
_CONTROLS = (
  "Controls: where an inversion starts, nothing was recovered yet, and the verifier should name no "
  "more than chance; real test images are what it can do at best. Bootstrap intervals of so few "
  "networks are too narrow; whether something lies above chance, or two arms differ, is said by "
  "Student's t at 5 %."
)
_ROBUST = "Robust accuracy is the share of test images that withstand {attack}."


# From a name, a figure and a caption to a picture that is saved.
_Album = Callable[[str, Figure, str], Picture]


def _picture(folder: Path, name: str, figure: Figure, caption: str) -> Picture:
  return Picture(save(figure, folder / f"{name}.png"), caption)


def write_page(out_dir: Path, story: PageData) -> Path:
  """Draws the figures into `out_dir/figures` and writes `out_dir/report.html`.

  Args:
    out_dir: the run's folder.
    story: what to tell.

  Returns:
    The page's path.
  """
  living, picture = story_of.with_survivors(story), partial(_picture, out_dir / "figures")
  sections = []
  if living.result.arms:
    sections = [
      _grids(living, picture),
      _recognition(living, picture),
      _memory(living, picture),
      _networks(living, picture),
      _kernels(living, picture),
      Section(
        "What part two claims, and what was measured", tables=[story_of.claims_table(living)]
      ),
      _everything(living, picture),
    ]
  return write_report(
    out_dir / "report.html", _TITLE, story_of.lead(story), [*sections, _run(story)]
  )


def _grids(story: PageData, picture: _Album) -> Section:
  result = story.result
  inversion = figures.inversions(result)[0]
  bird = result.names.index("bird") if "bird" in result.names else 0
  caption = f"Recovered by {inversion}, one image a class."
  several = f"Several restarts of {inversion}: {result.names[bird]}."
  pictures = [
    picture("grid", figures.grid_figure(result, inversion), caption),
    picture("restarts", figures.restarts_figure(result, inversion, bird), several),
  ]
  return Section("What each network takes for a class", [_GRID], pictures)


def _recognition(story: PageData, picture: _Album) -> Section:
  figure = figures.recognition_figure(story.result, story.summary)
  paired = [story_of.paired_table(story)] if story.paired else []
  tables = [story_of.recognition_table(story), *paired]
  tables += [story_of.class_table(story.result), story_of.control_table(story.result)]
  return Section(
    "Does somebody else recognise it?",
    [*story_of.recognised(story), _CONTROLS],
    [picture("recognition", figure, "Means over seeds with 95 % bootstrap intervals.")],
    tables,
  )


def _memory(story: PageData, picture: _Album) -> Section:
  result = story.result
  arm, inversion = list(result.arms)[-1], figures.inversions(result)[0]
  candidates = "Candidates: images of which each network was trained on a random half."
  cosines = f"{arm}, first network, {inversion}: below each real image the cosine of last features."
  pictures = [
    picture("memorisation", figures.memorisation_figure(result, story.summary), candidates),
    picture("neighbours", figures.neighbours_figure(result, arm, inversion), cosines),
  ]
  return Section("Is it memory?", [_MEMORY], pictures, [story_of.memory_table(result)])


def _networks(story: PageData, picture: _Album) -> Section:
  curves = picture("curves", figures.curves_figure(story.result), "Accuracy in training.")
  text = [_ROBUST.format(attack=story.attack)]
  return Section("The networks", text, [curves], [story_of.model_table(story)])


def _kernels(story: PageData, picture: _Album) -> Section:
  figure = figures.kernels_figure(story.result)
  return Section(
    "Reshaped weights no longer show anything",
    story_of.kernel_text(story.result),
    [picture("kernels", figure, "Kernels of the first layer, each in its own range.")],
  )


def _everything(story: PageData, picture: _Album) -> Section:
  """The other inversions' grids, and the other arms' nearest images: only for who asks."""
  result, pictures = story.result, []
  first, *others = figures.inversions(result)
  for how in others:
    grid = figures.grid_figure(result, how)
    pictures.append(picture(f"grid-{how}", grid, f"Recovered by {how}, one image a class."))
  for arm in list(result.arms)[:-1]:
    near = figures.neighbours_figure(result, arm, first)
    pictures.append(picture(f"neighbours-{arm}", near, f"{arm}, first network, {first}."))
  return Section("All other recovered images", pictures=pictures, folded=True)


def _run(story: PageData) -> Section:
  return run_section(story.command, story.config, story.credit)
