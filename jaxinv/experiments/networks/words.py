"""Inverted networks in words and tables: no sentence says more than its interval."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxinv.experiments.networks import figures
from jaxinv.experiments.networks.findings import ArmResult, NetworksResult, Summary
from jaxinv.metrics.memorisation import Memorised
from jaxinv.metrics.stats import Interval, t_test
from jaxinv.runs.page import Table

_ALPHA = 0.05


class PageData(NamedTuple):
  """All that the page tells.

  Attributes:
    result: the experiment.
    summary: what summary.json holds of the arms.
    paired: the last arm less the first, by inversion and metric; empty for one arm.
    attack: how robust accuracy was measured, in words.
    config: what config.json holds.
    command: the command line.
    credit: whose the images are, where they are somebody's.
  """

  result: NetworksResult
  summary: Summary
  paired: Mapping[str, Mapping[str, Interval]]
  attack: str
  config: Mapping
  command: str
  credit: str = ""


def with_survivors(story: PageData) -> PageData:
  """The same story, told only of arms of which at least one network did not diverge."""
  everyone = story.result.arms
  arms = {name: arm for name, arm in everyone.items() if _recovered(arm)}
  both = {next(iter(everyone)), list(everyone)[-1]} <= set(arms)
  return story._replace(
    result=story.result._replace(arms=arms), paired=story.paired if both else {}
  )


def _recovered(arm: ArmResult) -> bool:
  return all(len(inverted.images) for inverted in arm.inverted.values())


def value(entry: Mapping | None) -> str:
  """A mean with its interval, where there is one."""
  if entry is None or entry["mean"] is None:
    return "-"
  if entry["low"] is None:
    return f"{entry['mean']:.3f}"
  return f"{entry['mean']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})"


def named(story: PageData, arm: str, inversion: str) -> Mapping | None:
  """Mean and interval of the share of an arm's images that the verifier names."""
  return story.summary[arm].get(inversion, {}).get("verifier_accuracy")


def _by_seed(story: PageData, arm: str, inversion: str) -> np.ndarray:
  """The share that the verifier names, by seed."""
  return story.result.arms[arm].inverted[inversion].measures["verifier_accuracy"]


def against_chance(story: PageData, arm: str, inversion: str) -> str:
  """Where what is named lies by chance, in words."""
  chance, entry = 1 / len(story.result.names), named(story, arm, inversion)
  if entry["low"] is None:
    return "one network gives no interval"
  if t_test(_by_seed(story, arm, inversion), chance) > _ALPHA:
    return "not told from chance"
  return "above chance" if entry["mean"] > chance else "below chance"


def lead(story: PageData) -> list[str]:
  """What was found, in a few sentences: who is recognised, what is remembered, what failed."""
  living = with_survivors(story)
  texts = [_headline(living), _remembered(living)] if living.result.arms else []
  return texts + diverged(story)


def _headline(story: PageData) -> str:
  arms, inversion = list(story.result.arms), figures.inversions(story.result)[0]
  first, last = arms[0], arms[-1]
  chance = 1 / len(story.result.names)
  entries = [named(story, arm, inversion) for arm in (first, last)]
  gain = story.paired.get(inversion, {}).get("verifier_accuracy")
  if first == last or gain is None or gain.mean is None:
    where = against_chance(story, first, inversion)
    return (
      f"An independent network names the class of {value(entries[0])} of the images recovered from "
      f"**{first}** by {inversion}; chance is {chance:g} ({where})."
    )
  p_value = t_test(_by_seed(story, last, inversion) - _by_seed(story, first, inversion))
  if gain.low is None:
    words = f"From one seed **{last}** and **{first}** cannot be told apart"
  elif p_value > _ALPHA:
    words = f"No difference between **{first}** and **{last}** is shown"
  else:
    more, less = (last, first) if gain.mean > 0 else (first, last)
    words = f"**What is recovered from {more} is recognised more often than from {less}**"
  tested = "" if gain.low is None else f" (Student's t: p = {p_value:.2g})"
  return (
    f"{words}: an independent network names the class of {value(entries[1])} of the images "
    f"recovered from {last}, and of {value(entries[0])} from {first}, by {inversion}; the "
    f"difference, {_pairs(gain, entries)}, is {value(gain._asdict())}{tested}. Chance is "
    f"{chance:g}; of real test images it names {story.result.verifier['holdout_accuracy']:.3f}."
  )


def _pairs(gain: Interval, entries: Sequence[Mapping]) -> str:
  """Which seeds a difference is over."""
  if all(entry["n"] == gain.n for entry in entries):
    return "paired by seed"
  return f"paired by seed over the {gain.n} of which neither network diverged"


def _remembered(story: PageData) -> str:
  result = story.result
  names = shown(result)
  if names:
    return (
      "**Training images are remembered**: what is recovered is nearer to images that were trained "
      f"on than to others left out at random, for {', '.join(names)}."
    )
  least = min(min(test.p_share, test.p_margin) for *_, test in _tests(result))
  return (
    "That single training images are remembered is not shown: recovered images are about as near "
    f"to images that were left out at random (the smallest of {num_tests(result)} p-values is "
    f"{least:.3f})."
  )


def diverged(story: PageData) -> list[str]:
  """A sentence for each arm some of whose networks diverged."""
  texts = []
  for arm in story.result.arms:
    seeds = story.summary[arm]["diverged"]
    if seeds:
      text = ", ".join(map(str, seeds[:20])) + (" and others" if len(seeds) > 20 else "")
      some = story.result.arms[arm].healthy.any()
      what = "they count nowhere" if some else "nothing could be recovered"
      texts.append(f"**{arm}**: training diverged for seeds {text}; {what}.")
  return texts


def recognised(story: PageData) -> list[str]:
  """Who is recognised, by each inversion: one sentence an arm."""
  texts = []
  for arm in story.result.arms:
    parts = []
    for inversion in figures.inversions(story.result):
      entry = named(story, arm, inversion)
      parts.append(f"{inversion} {value(entry)}, {against_chance(story, arm, inversion)}")
    texts.append(f"**{arm}**, named by the verifier: {'; '.join(parts)}.")
  return texts


def recognition_table(story: PageData) -> Table:
  """Measures of what was recovered, by arm and inversion."""
  metrics = ("verifier_accuracy", "verifier_confidence", "own_accuracy", "diversity")
  rows = [
    (arm, how, *(value(story.summary[arm].get(how, {}).get(metric)) for metric in metrics))
    for arm, one in story.result.arms.items()
    for how in one.inverted
  ]
  head = ("arm", "inversion", "verifier names it", "its confidence", "the network itself")
  return Table("Recovered images; mean and 95 % interval.", (*head, "diversity"), rows)


def class_table(result: NetworksResult) -> Table:
  """Share of images that the verifier names, by arm and class, by the first inversion."""
  inversion = figures.inversions(result)[0]
  shares = {
    arm: np.nanmean(one.inverted[inversion].by_class, 0) for arm, one in result.arms.items()
  }
  rows = [(arm, *(f"{share:.2f}" for share in values)) for arm, values in shares.items()]
  caption = f"Share that the verifier names, by class; {inversion}, mean over seeds."
  return Table(caption, ("arm", *result.names), rows)


def paired_table(story: PageData) -> Table:
  """The last arm less the first, by inversion."""
  first, *_, last = story.result.arms
  metrics = ("verifier_accuracy", "verifier_confidence", "diversity")
  rows = [
    (how, *(value(gains[metric]._asdict()) if metric in gains else "-" for metric in metrics))
    for how, gains in story.paired.items()
  ]
  head = ("inversion", "verifier names it", "its confidence", "diversity")
  return Table(f"{last} less {first}, paired by seed.", head, rows)


def control_table(result: NetworksResult) -> Table:
  """What the verifier says of images that nothing was recovered into."""
  rows = [
    (name, f"{values['verifier_accuracy']:.3f}", f"{values['verifier_confidence']:.3f}")
    for name, values in result.controls.items()
  ]
  return Table("Controls.", ("what", "verifier names it", "confidence"), rows)


def _tests(result: NetworksResult) -> list[tuple[str, str, str, Memorised]]:
  """All tests of memory: arm, inversion, by what, and the test."""
  return [
    (arm, how, kind, test)
    for arm, one in result.arms.items()
    for how, inverted in one.inverted.items()
    for kind, test in inverted.memorised.items()
  ]


def num_tests(result: NetworksResult) -> int:
  """P-values on the page: of share and margin for each test."""
  return 2 * len(_tests(result))


def _is_shown(result: NetworksResult, test: Memorised) -> bool:
  """Whether memory is shown, by either p-value, corrected for all on the page."""
  return min(test.p_share, test.p_margin) <= _ALPHA / num_tests(result)


def shown(result: NetworksResult) -> list[str]:
  """Of what memory of single training images is shown."""
  return list(
    dict.fromkeys(
      f"{arm} by {how}" for arm, how, _, test in _tests(result) if _is_shown(result, test)
    )
  )


def memory_table(result: NetworksResult) -> Table:
  """The tests of memory and their verdicts."""
  rows = []
  for *names, test in _tests(result):
    verdict = "memorised" if _is_shown(result, test) else "not shown"
    numbers = (f"{test.share:.3f}", f"{test.margin:.4f}")
    rows.append((*names, *numbers, f"{test.p_share:.3f}", f"{test.p_margin:.3f}", verdict))
  head = ("arm", "inversion", "by", "share nearer to trained", "margin", "p of share")
  return Table(
    "All seeds pooled; chance is 0.5. The verdict is by the p-values, corrected for all "
    f"{num_tests(result)} of them (Bonferroni, 5 %).",
    (*head, "p of margin", "verdict"),
    rows,
  )


def model_table(story: PageData) -> Table:
  """Accuracies of the networks and of the verifier."""
  metrics = ("train_accuracy", "holdout_accuracy", "robust_accuracy")
  rows = [
    (arm, one.adversary, *(value(story.summary[arm]["model"].get(metric)) for metric in metrics))
    for arm, one in story.result.arms.items()
  ]
  verifier = [f"{story.result.verifier[name]:.3f}" for name in metrics[:2]]
  rows.append(("the verifier", story.result.verifier_adversary, *verifier, "-"))
  head = ("arm", "trained against", "training images", "test images", "robust accuracy")
  return Table("", head, rows)


def claims_table(story: PageData) -> Table:
  """What part two says, beside what was measured here."""
  result, rows = story.result, []
  inversion = figures.inversions(result)[0]
  said = {
    True: "Inversions of normally trained networks look like noise.",
    False: "Inversions of adversarially trained networks look like the class.",
  }
  for plain, claim in said.items():
    for arm, one in result.arms.items():
      if (one.adversary == "none") == plain:
        entry = named(story, arm, inversion)
        where = against_chance(story, arm, inversion)
        words = f"{arm} by {inversion}: {value(entry)} named, {where}"
        rows.append((claim, words))
  if (gain := story.paired.get(inversion, {}).get("verifier_accuracy")) is not None:
    first, *_, last = result.arms
    words = f"{last} less {first}, paired by seed: {value(gain._asdict())} named"
    rows.append(("They differ.", words))
  names = shown(result)
  rows.append(
    (
      "Recovered images can be matched with training images, by the cosine of last features.",
      "Everything has a nearest training image. Nearer than images left out at random, beyond "
      f"chance (5 % over all {num_tests(result)} p-values): {', '.join(names) or 'none is'}.",
    )
  )
  return Table("", ("part two says", "measured"), rows)


def kernel_text(result: NetworksResult) -> Sequence[str]:
  """Why reshaped weights show nothing at this depth."""
  height, width, colours = result.image_shape
  tall, wide, deep, _ = next(iter(result.arms.values())).kernels.shape
  return [
    f"A linear model's weights for a class are as many as an image's {height} x {width} x "
    f"{colours} values, and can be reshaped into one. A kernel of a network's first layer has "
    f"{tall} x {wide} x {deep} values, and no tensor here has the shape of an image: reshaped, "
    "the weights show edges and colours, and nobody's picture."
  ]
