"""The page of inverted networks: what was found, in words, figures and tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxinv.deep_findings import DeepFound, Summary
from jaxinv.figures import cifar as figures
from jaxinv.figures.common import save
from jaxinv.nearest import Memorised
from jaxinv.report import Picture, Section, Table, run_section, write_report
from jaxinv.stats import Interval

_CIFAR = (
  "The photographs are a part of CIFAR-10: credit A. Krizhevsky, Learning Multiple Layers of "
  "Features from Tiny Images, 2009."
)
_ALPHA = 0.05


class Story(NamedTuple):
  """All that the page tells.

  Attributes:
    found: the experiment.
    summary: what summary.json holds of the arms.
    paired: the last arm less the first, by inversion and metric; empty for one arm.
    attack: how robust accuracy was measured, in words.
    config: what config.json holds.
    command: the command line.
  """

  found: DeepFound
  summary: Summary
  paired: Mapping[str, Mapping[str, Interval]]
  attack: str
  config: Mapping
  command: str


def write_page(out_dir: Path, story: Story) -> Path:
  """Draws the figures into `out_dir/figures` and writes `out_dir/report.html`.

  Args:
    out_dir: the run's folder.
    story: what to tell.

  Returns:
    The page's path.
  """
  found, folder = story.found, out_dir / "figures"
  arm, inversion = list(found.arms)[-1], figures.inversions(found)[0]
  if not all(len(one.inverted[inversion].images) for one in found.arms.values()):
    lead = ["All networks of an arm diverged: nothing could be recovered from them."]
    return write_report(out_dir / "report.html", _TITLE, lead, [_run(story)])
  bird = found.names.index("bird") if "bird" in found.names else 0

  def picture(name, figure, caption):
    return Picture(save(figure, folder / f"{name}.png"), caption)

  grid = picture(
    "grid", figures.grid_figure(found, inversion), f"Recovered by {inversion}, one image a class."
  )
  birds = picture(
    "restarts",
    figures.restarts_figure(found, inversion, bird),
    f"{found.names[bird]}: restarts of {inversion}.",
  )
  recognition = picture(
    "recognition",
    figures.recognition_figure(found, story.summary),
    "Means over seeds with 95 % bootstrap intervals.",
  )
  memory = picture(
    "memorisation",
    figures.memorisation_figure(found, story.summary),
    "Candidates: images of which each network was trained on a random half.",
  )
  near = picture(
    "neighbours",
    figures.neighbours_figure(found, arm, inversion),
    f"{arm}, first network, {inversion}: below each real image the cosine of last features.",
  )
  curves = picture("curves", figures.curves_figure(found), "Accuracy in training.")
  kernels = picture("kernels", figures.kernels_figure(found), "Kernels, each in its own range.")
  height, width, colours = found.image_shape
  tall, wide, deep, _ = found.arms[arm].kernels.shape
  sections = [
    Section("What each network takes for a class", pictures=[grid]),
    Section(
      "Does somebody else recognise it?",
      _recognised(story),
      [recognition],
      [_recognition_table(story), _control_table(found)],
    ),
    Section("Several of one class", pictures=[birds]),
    Section("Is it memory?", _MEMORY, [memory, near], [_memory_table(found)]),
    Section(
      "The networks",
      [f"Robust accuracy is the share of test images that withstand {story.attack}."],
      [curves],
      [_model_table(story)],
    ),
    Section(
      "Reshaped weights no longer show anything",
      [
        f"A linear model's weights for a class are as many as an image's {height} x {width} x "
        f"{colours} values, and can be reshaped into one. A kernel of a network's first layer has "
        f"{tall} x {wide} x {deep} values, and no tensor here has the shape of an image: reshaped, "
        "the weights show edges and colours, and nobody's picture."
      ],
      [kernels],
    ),
    Section("What part two claims, and what was measured", _claims(story)),
    _run(story),
  ]
  return write_report(out_dir / "report.html", _TITLE, _recognised(story), sections)


_TITLE = "Robust or private: networks inverted"
_MEMORY = (
  "A recovered horse is like some horse that was trained on: that shows nothing, for every good "
  "picture of a horse is. So each network was trained on a random half of the candidate images of "
  "each class. Where it remembers none of them, a recovered image's nearest candidate is one that "
  "was trained on half of the time. The p-values deal out anew who was trained on, for all "
  "networks together.",
)


def _run(story: Story) -> Section:
  credit = [_CIFAR] if story.config["flags"].get("dataset") == "cifar10" else []
  return run_section(story.command, story.config, credit)


def _value(entry: Mapping | None) -> str:
  """A mean with its interval, where there is one."""
  if entry is None or entry["mean"] is None:
    return "-"
  if entry["low"] is None:
    return f"{entry['mean']:.3f}"
  return f"{entry['mean']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})"


def _recognised(story: Story) -> list[str]:
  """Who recognises what, by the first inversion; says no more than intervals support."""
  found, inversion = story.found, figures.inversions(story.found)[0]
  chance, texts = 1 / len(found.names), []
  for arm in found.arms:
    entry = story.summary[arm].get(inversion, {}).get("verifier_accuracy")
    if entry is None:
      continue
    low, high = entry["low"], entry["high"]
    if low is None:
      words = "one network gives no interval"
    elif low > chance:
      words = "above chance"
    else:
      words = "below chance" if high < chance else "not told from chance"
    texts.append(
      f"**{arm}**: an independent network names the class of {_value(entry)} of the images "
      f"recovered by {inversion}; chance is {chance:g} ({words})."
    )
  if inversion in story.paired and (gain := story.paired[inversion].get("verifier_accuracy")):
    first, last = next(iter(found.arms)), list(found.arms)[-1]
    texts.append(f"{last} less {first}, paired by seed: {_value(gain._asdict())}.")
  test = found.controls.get("test images", {}).get("verifier_accuracy")
  if test is not None:
    texts.append(f"The verifier itself is right on {test:.3f} of the test images.")
  return texts


def _recognition_table(story: Story) -> Table:
  metrics = ("verifier_accuracy", "verifier_confidence", "own_accuracy", "diversity")
  rows = [
    (arm, how, *(_value(story.summary[arm].get(how, {}).get(metric)) for metric in metrics))
    for arm, one in story.found.arms.items()
    for how in one.inverted
  ]
  head = ("arm", "inversion", "verifier names it", "its confidence", "the network itself")
  return Table("Recovered images; mean and 95 % interval.", (*head, "diversity"), rows)


def _control_table(found: DeepFound) -> Table:
  rows = [
    (name, f"{values['verifier_accuracy']:.3f}", f"{values['verifier_confidence']:.3f}")
    for name, values in found.controls.items()
  ]
  return Table(
    "Controls: images that nothing was recovered into.",
    ("what", "verifier names it", "confidence"),
    rows,
  )


def _num_tests(found: DeepFound) -> int:
  """P-values on the page: of share and margin, by features and by pixels, for each row."""
  return 4 * len(found.arms) * len(figures.inversions(found))


def _shown(found: DeepFound, test: Memorised) -> bool:
  """Whether memory is shown, by either p-value, corrected for all on the page."""
  return min(test.p_share, test.p_margin) <= _ALPHA / _num_tests(found)


def _memory_table(found: DeepFound) -> Table:
  rows = []
  for arm, one in found.arms.items():
    for how, inverted in one.inverted.items():
      for kind, test in inverted.memorised.items():
        verdict = "memorised" if _shown(found, test) else "not shown"
        numbers = (f"{test.share:.3f}", f"{test.margin:.4f}")
        rows.append(
          (arm, how, kind, *numbers, f"{test.p_share:.3f}", f"{test.p_margin:.3f}", verdict)
        )
  head = (
    "arm",
    "inversion",
    "by",
    "share nearer to trained",
    "margin",
    "p of share",
    "p of margin",
  )
  return Table(
    "All seeds pooled; chance is 0.5. The verdict is by the p-values, corrected for all "
    f"{_num_tests(found)} of them (Bonferroni, 5 %).",
    (*head, "verdict"),
    rows,
  )


def _model_table(story: Story) -> Table:
  metrics = ("train_accuracy", "holdout_accuracy", "robust_accuracy")
  rows = [
    (arm, *(_value(story.summary[arm].get("model", {}).get(metric)) for metric in metrics))
    for arm in story.found.arms
  ]
  verifier = [f"{story.found.verifier[name]:.3f}" for name in metrics[:2]]
  rows.append(("the verifier", *verifier, "-"))
  return Table("", ("arm", "training images", "test images", "robust accuracy"), rows)


def _claims(story: Story) -> list[str]:
  """What part two says, beside what was measured here."""
  found = story.found
  shown = [
    f"{arm} by {how}"
    for arm, one in found.arms.items()
    for how, inverted in one.inverted.items()
    if any(_shown(found, test) for test in inverted.memorised.values())
  ]
  return [
    "Claim: inversions of normally trained networks look like noise, and those of adversarially "
    "trained ones like the class. Measured: see the table of who recognises them; the difference "
    "between arms is paired by seed.",
    "Claim: recovered images can be matched with training images by the cosine of the last "
    "convolutional features. Measured: everything has a nearest training image; whether it is "
    "nearer than images left out at random is what counts. "
    + (
      f"It is, beyond chance (5 % over all {_num_tests(found)} tests), for {', '.join(shown)}."
      if shown
      else "Here that is not shown."
    ),
  ]
