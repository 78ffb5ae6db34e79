"""The page of an experiment on faces: its figures, and what they show in words made of numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxinv.experiments.faces import figures
from jaxinv.experiments.faces.pose import PoseSweep
from jaxinv.experiments.outcome import Outcome
from jaxinv.experiments.settings import Arm
from jaxinv.metrics import stats
from jaxinv.runs.figures import save
from jaxinv.runs.page import Picture, Section, Table, run_section, write_report
from jaxinv.types import Dataset, Hyper

# Below this much centred correlation a picture reads as noise to most people, above the other as
# a face; only words hang on it, no number does.
_NOISE, _FACE = 0.35, 0.6


class Story(NamedTuple):
  """All that the page tells of.

  Attributes:
    dataset: the faces.
    outcome: what came of the experiment.
    summary: its means and intervals.
    config: what config.json holds.
    people: classes shown first; the watched one leads.
    arms: the ways of training.
    command: the command line that makes this run.
    pose: the sweep over pose, where one was made.
  """

  dataset: Dataset
  outcome: Outcome
  summary: Mapping
  config: Mapping
  people: Sequence[int]
  arms: Sequence[Arm]
  command: str
  pose: PoseSweep | None = None


def write_page(out_dir: Path, story: Story) -> Path:
  """Draws all figures and writes report.html.

  Args:
    out_dir: the run's folder.
    story: what to tell.

  Returns:
    The page's path.
  """
  pictures = draw(out_dir / "figures", story)
  sections = [
    _people_section(story, pictures),
    *([_shares_section(story, pictures)] if "shares" in pictures else []),
    _measures_section(story, pictures),
    _curves_section(story, pictures),
    *([_pose_section(story, pictures)] if story.pose else []),
    Section("Everybody", pictures=[pictures["all_people"]], folded=True),
    _numbers_section(story),
    run_section(story.command, story.config),
  ]
  title = f"What {story.dataset.num_classes} people's faces leave in the weights"
  return write_report(out_dir / "report.html", title, _lead(story), sections)


def draw(folder: Path, story: Story) -> dict[str, Picture]:
  """Draws the figures into a folder and gives them captions."""
  outcome, names = story.outcome, story.dataset.names
  everybody = range(story.dataset.num_classes)
  watched = names[story.people[0]]
  pictures = {
    "people": (
      figures.people_figure(outcome, names, story.people),
      "Left, the average of a person's training photographs. Then what each way of training left "
      "in the weights (W), and what it changed in them (W - W0). One model each, the first seed.",
    ),
    "all_people": (
      figures.people_figure(outcome, names, everybody, blocks=max(1, min(2, len(names) // 8))),
      "The same for every person.",
    ),
    "curves": (
      figures.curves_figure(outcome),
      "Mean over seeds; the bands hold the middle 80 % of them.",
    ),
    "measures": (
      figures.measures_figure(story.summary, list(outcome.arms)),
      "Means over seeds with 95 % bootstrap intervals (often smaller than the marker).",
    ),
  }
  drawn = {
    # Everybody at once is for a glance: at full size the noise alone would take megabytes.
    name: Picture(
      save(figure, folder / f"{name}.png", 65 if name == "all_people" else 110), caption
    )
    for name, (figure, caption) in pictures.items()
  }
  if story.config["flags"]["hidden"]:
    figure = figures.units_figure(outcome, story.dataset.image_shape)
    drawn["units"] = Picture(
      save(figure, folder / "units.png"),
      "Units of the first layer of the first seed as images, those that moved most; for each arm "
      "as they are, and what training changed in them.",
    )
  if told := _told_by_coefficients(story):
    drawn["shares"] = Picture(
      save(figures.shares_figure(told[1]), folder / "shares.png"),
      f"{told[0]}, the first seed: the weighted sum of photographs that training put into a "
      "person's weights, and the photographs: first the person's own, then those of others that "
      "count most against. The numbers are their coefficients.",
    )
  animation = folder / "training.gif"
  figures.write_animation(animation, outcome, outcome.train_means[0, story.people[0]])
  drawn["training"] = Picture(animation, f"{watched}'s face appears in the weights, step by step.")
  if story.pose:
    drawn["pose"] = _draw_pose(folder, story.pose)
  return drawn


def _draw_pose(folder: Path, pose: PoseSweep) -> Picture:
  measures = {
    "with the class average": pose.to_average,
    "with a single photograph": pose.to_photograph,
  }
  figure = figures.pose_figure(pose.poses, measures, pose.averages, pose.recovered)
  caption = (
    "Left, one person's average and recovered face; right, the correlation of the recovered face "
    "with the average, and with each photograph it was made from (both less the average of all "
    "people)."
  )
  return Picture(save(figure, folder / "pose.png"), caption)


def _mean(story: Story, arm: str, attack: str, metric: str) -> float | None:
  """A mean of the summary, or None where there is none."""
  cell = story.summary.get(arm, {}).get(attack, {}).get(metric)
  return None if cell is None else cell["mean"]


def _lead(story: Story) -> list[str]:
  """What was found, in a few sentences."""
  data, flags = story.dataset, story.config["flags"]
  seeds = flags["num_seeds"]
  photographs = len(data.labels) - data.num_classes * flags["holdout"]
  kind = "drawn by the program" if flags["dataset"] == "synthetic_faces" else "of real people"
  models = "one model" if seeds == 1 else f"{seeds} models"
  lead = [
    f"In each of {len(story.outcome.arms)} ways, {models} learned to tell {data.num_classes} "
    f"people apart from {photographs} photographs {kind}. Of the trained models we take nothing "
    "but the weights, and reshape those of each class into a picture."
  ]
  lead += [_arm_sentence(story, arm) for arm in story.outcome.arms]
  diverged = {arm: s["diverged"] for arm, s in story.summary.items() if s["diverged"]}
  lead += [
    f"**{arm}: seeds {', '.join(map(str, seeds))} diverged** and are in no mean."
    for arm, seeds in diverged.items()
  ]
  return lead


def _arm_sentence(story: Story, arm: str) -> str:
  """What an attacker sees of one arm, and what the arm is good for."""
  plain, more = (_mean(story, arm, a, "ncc_centred") for a in ("reshape", "init_diff"))
  if plain is None or more is None:
    return f"**{arm}**: no model came through training."
  parts = [f"**{arm}**"]
  accuracy = _mean(story, arm, "model", "holdout_accuracy")
  if accuracy is not None:
    parts.append(f"recognises {accuracy:.1%} of the photographs it never saw.")
  else:
    parts.append(f"knows {_mean(story, arm, 'model', 'train_accuracy'):.1%} of its photographs.")
  parts.append(f"Its reshaped weights {_looks(plain)} (correlation {plain:.2f})")
  if plain < _FACE <= more:
    parts.append(f"but whoever knows the initial weights sees one all the same ({more:.2f}).")
  else:
    parts.append(f"and less their initial values they {_looks(more)} ({more:.2f}).")
  found = _mean(story, arm, "init_diff", "identification")
  if found is not None:
    chance = 1 / story.dataset.num_classes
    parts.append(
      f"From the latter {found:.0%} of the people are recognised; chance is {chance:.1%}."
    )
  return " ".join(parts)


def _looks(correlation: float) -> str:
  if correlation >= _FACE:
    return "show the person's average face"
  return "look like noise" if correlation < _NOISE else "show a face through noise"


def _people_section(story: Story, pictures: Mapping[str, Picture]) -> Section:
  text = [
    "A linear layer gives each class one weight for each pixel. Training moves these weights by "
    "sums of training photographs: towards those of the class, away from the others. So the "
    "change is an average face, and reshaped into a picture it can be seen.",
    "W is what an attacker finds in the released model. W - W0 is what one sees who knows the "
    "initial weights W0 too, say because the model was fine-tuned from a published one. Where W "
    "looks like noise and W - W0 like a face, the noise is the initial weights: **the face is "
    "covered, not gone**.",
  ]
  if not story.config["flags"]["people"]:
    text.append(
      "The people are chosen by how much their photographs differ among themselves: least, middle "
      "and most."
    )
  shown = [pictures["people"], pictures["training"]]
  if "units" in pictures:
    text.append(
      "These models have hidden layers: W is then the product of all kernels, that is each class's "
      "sum of the first layer's units, weighted by the layers after it."
    )
    shown.append(pictures["units"])
  return Section("The faces in the weights", text, shown, [_arms_table(story)])


def _arms_table(story: Story) -> Table:
  """How each arm was trained; what has its default value is left blank."""

  def row(arm: Arm) -> tuple[str, ...]:
    return (arm.name, arm.optimizer, *(_unusual(arm.hyper, name) for name in Hyper._fields))

  rows = [row(arm) for arm in story.arms]
  return Table("The arms.", ("arm", "optimizer", *Hyper._fields), rows)


def _unusual(hyper: Hyper, name: str) -> str:
  value = getattr(hyper, name)
  usual = name != "learning_rate" and value == getattr(Hyper(), name)
  return "" if usual else f"{value:g}"


def _told_by_coefficients(story: Story) -> tuple[str, list[figures.Shares]] | None:
  """The first arm that was trained in the span of the data, and what its faces are made of."""
  for name, arm in story.outcome.arms.items():
    if "coefficients" in arm.arrays and arm.healthy[0]:
      train, people = story.outcome.splits["train"][0], story.people[:3]
      return name, [figures.find_shares(story.dataset, arm, train, i) for i in people]
  return None


def _shares_section(story: Story, pictures: Mapping[str, Picture]) -> Section:
  arm, told = _told_by_coefficients(story)
  left = float(story.outcome.arms[arm].arrays["init_share"][0])
  text = [
    "The weights of a linear model trained by SGD are exactly a share of the initial weights (here "
    f"{left:.3g}) plus a weighted sum of the training photographs. So each photograph's part in a "
    "recovered face is a number, and it is known: all of them are in weights/, under "
    "'coefficients'.",
    " ".join(_shares_sentence(share) for share in told),
  ]
  return Section("Which photographs make up a face", text, [pictures["shares"]])


def _shares_sentence(share: figures.Shares) -> str:
  most, least = share.own_weight.max(), share.own_weight.min()
  between = (
    f"the largest coefficient of them is {most:.2g}, the smallest {least:.2g}"
    if len(share.own_weight) > 1
    else f"its coefficient is {most:.2g}"
  )
  own = "own photograph" if len(share.own_weight) == 1 else "own photographs"
  return (
    f"**{share.name}**: {share.own_part:.0%} of all the coefficients' magnitude is on the {own}; "
    f"{between}."
  )


def _measures_section(story: Story, pictures: Mapping[str, Picture]) -> Section:
  text = [
    "**Centred NCC** is the correlation of the recovered picture with what sets the person's "
    "average apart from everybody's; 1 is a perfect copy up to brightness and contrast, 0 is "
    "nothing. **NCC**, **SSIM** and **PSNR** compare with the average itself. **Identification** "
    "is the share of people whose recovered picture is closest to their own photographs, of "
    "those the model never saw. **Excess** is how much closer it is to the photographs "
    "trained on than to those held out.",
    *_comparisons(story),
  ]
  return Section("How much is recovered", text, [pictures["measures"]])


def _comparisons(story: Story) -> list[str]:
  """Each arm against the first, paired by seed."""
  first, *others = story.outcome.arms
  sentences = []
  for arm in others:
    parts = []
    for attack in ("reshape", "init_diff"):
      values = (story.outcome.arms[a].measures[attack]["ncc_centred"] for a in (arm, first))
      difference = stats.paired_difference(*values)
      if difference.low is not None:
        parts.append(f"{figures.ATTACK_WORDS[attack]}: {_verdict(difference)}")
    if parts:
      sentences.append(f"**{arm} against {first}**, same seeds: {'; '.join(parts)}.")
  return sentences


def _verdict(difference: stats.Interval) -> str:
  interval = (
    f"{difference.mean:+.3f}, 95 % interval {difference.low:+.3f} to {difference.high:+.3f}"
  )
  if difference.low > 0:
    return f"shows more ({interval})"
  return f"shows less ({interval})" if difference.high < 0 else f"no difference seen ({interval})"


def _curves_section(story: Story, pictures: Mapping[str, Picture]) -> Section:
  text = ["Loss and accuracy at the recorded steps, without label smoothing or weight decay."]
  return Section("Training", text, [pictures["curves"]])


def _pose_section(story: Story, pictures: Mapping[str, Picture]) -> Section:
  pose = story.pose
  first, last = pose.to_photograph.mean(1)[[0, -1]]
  text = [
    "A linear model can only remember an average, and pose blurs it. Here the same people are "
    f"drawn with their pose variation scaled. From scale {pose.poses[0]:g} to {pose.poses[-1]:g} "
    "the recovered face's correlation with a single photograph of the person goes from "
    f"{first:.2f} to {last:.2f}, and with the class average from {pose.to_average.mean(1)[0]:.2f} "
    f"to {pose.to_average.mean(1)[-1]:.2f}."
  ]
  return Section("Pose", text, [pictures["pose"]])


def _numbers_section(story: Story) -> Section:
  rows = []
  for arm, attacks in story.summary.items():
    for attack, metrics in attacks.items():
      if attack == "diverged":
        continue
      for metric, cell in metrics.items():
        ends = [_number(cell[end]) for end in ("low", "high")]
        rows.append((arm, attack, metric, _number(cell["mean"]), *ends, str(cell["n"])))
  head = ("arm", "attack", "metric", "mean", "low", "high", "seeds")
  table = Table("Means over seeds, 95 % bootstrap intervals (BCa).", head, rows)
  return Section("All numbers", tables=[table], folded=True)


def _number(value: float | None) -> str:
  return "" if value is None else f"{value:.4f}"
