"""Sections of a study's page on people: who sees them, how, when, and where."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxinv.data.splits import clearest_and_most_varied
from jaxinv.experiments.outcome import ArmOutcome
from jaxinv.experiments.study import comparison, figures
from jaxinv.experiments.study.comparison import NAIVE
from jaxinv.experiments.study.page_data import (
  MOST_FACES,
  PHASE_MEASURES,
  PageData,
  Phase,
  arms_shown,
  baseline_cell,
  cell_of,
  draw,
  mean_of,
  phases,
  shown_cells,
  strongest_attack,
  which_cells,
)
from jaxinv.experiments.study.study import attackers
from jaxinv.metrics.stats import Interval
from jaxinv.runs.page import Section, Table
from jaxinv.runs.text import count, listed, number, span


def attackers_section(data: PageData, folder: Path) -> Section:
  """What every attacker sees, by what it holds."""
  arms = arms_shown(data)
  leakage = {
    name: {
      a: cell_of(data, name, a) for a in arm.measures if a != "model" and cell_of(data, name, a)
    }
    for name, arm in arms.items()
  }
  caption = (
    "Leakage at the end under every attack, grouped by what the attacker holds; in each group the "
    "strongest attack is filled. Means over seeds with 95 % intervals (often smaller than the "
    f"marker).{which_cells(data)}"
  )
  figure = figures.attackers_figure(leakage, attackers(data.spec))
  return Section(
    "Who sees how much",
    [_knowledge_sentence(data, arms, leakage)],
    [draw(folder, "attackers", figure, caption)],
    [_identification_table(data, arms)],
  )


def _knowledge_sentence(
  data: PageData, arms: Mapping[str, ArmOutcome], leakage: Mapping[str, Mapping[str, Interval]]
) -> str:
  """The strongest attacks by what they need: how often, and how much they see."""
  attacks = list(attackers(data.spec).values())
  best = {name: comparison.strongest_by_knowledge(arm, attacks) for name, arm in arms.items()}
  parts = []
  for knowledge in dict.fromkeys(attack.knowledge for attack in attacks):
    chosen = {name: found[knowledge] for name, found in best.items() if knowledge in found}
    if chosen:
      attack, times = Counter(chosen.values()).most_common(1)[0]
      seen = [leakage[name][chosen[name]].mean for name in chosen]
      often = "" if len(set(chosen.values())) == 1 else f" in {times} of {len(chosen)} arms"
      parts.append(f"with **{knowledge}** {attack} is strongest{often}, at {span(seen)}")
  return f"The strongest attacker by knowledge: {'; '.join(parts)}."


def _identification_table(data: PageData, arms: Mapping[str, ArmOutcome]) -> Table:
  attacks = [a for a in attackers(data.spec) if any(a in arm.measures for arm in arms.values())]
  rows = [(name, *(mean_of(data, name, a, "identification") for a in attacks)) for name in arms]
  caption = (
    "Identification: the share of people whose recovered picture is closest to their own held-out "
    f"photographs; chance is {1 / data.dataset.num_classes:.3f}. The picture need not be clear "
    "for that."
  )
  return Table(caption, ("cell", *attacks), rows)


def people_section(data: PageData, folder: Path) -> Section:
  """Three people as the naive and the strongest attacker see them."""
  dataset, arms = data.dataset, arms_shown(data, MOST_FACES)
  people = clearest_and_most_varied(dataset.inputs, dataset.labels, dataset.num_classes)
  strongest = {name: strongest_attack(arm) for name, arm in arms.items()}
  outcome = data.result.outcome
  figure = figures.people_figure(outcome, strongest, dataset.names, people)
  caption = (
    "For each person above what the naive attacker sees (reshape), below what the strongest "
    "attacker of a single model does (named at the top); the first seed. The people are those "
    f"with the least, median and most variable photographs.{which_cells(data)}"
  )
  naive, best = (
    [cell_of(data, name, attack).mean for name, attack in pairs]
    for pairs in ([(name, NAIVE.name) for name in arms], strongest.items())
  )
  text = (
    f"Over {count(len(arms), 'way')} of training the naive picture has a leakage of "
    f"{span(naive)}, the strongest attacker's of {span(best)}. Where the upper picture is "
    "noise and the lower one a face, the face is covered, not gone."
  )
  return Section("The faces", [text], [draw(folder, "people", figure, caption)])


def training_section(data: PageData, folder: Path) -> Section:
  """Leakage against use through training, and when people can be identified."""
  arms = arms_shown(data)
  figure = figures.training_figure(arms, data.result.target)
  caption = (
    "Leakage against held-out accuracy at the recorded steps: means over seeds, bands that hold "
    "the middle 80 % of them, a dot at the end. The dotted line is the accuracy at which cells "
    f"are compared. A curve that rises at the left leaks before it is of use.{which_cells(data)}"
  )
  picture = draw(folder, "through_training", figure, caption)
  return Section(
    "Through training", _early_sentences(data, arms), [picture], [_identified_table(data, arms)]
  )


def _early_sentences(data: PageData, arms: Mapping[str, ArmOutcome]) -> list[str]:
  """How early people can be identified, and how useful the models are by then."""
  firsts = {}
  for name in arms:
    times = [t for t in data.result.identified[name].values() if t.step is not None]
    if times:
      firsts[name] = min(times, key=lambda t: (t.step, t.attack != NAIVE.name))
  if not firsts:
    return ["Under no attack can half of the people be identified."]
  last = {name: cell_of(data, name, "model", "holdout_accuracy").mean for name in firsts}
  early = [name for name, t in firsts.items() if t.accuracy < last[name] / 2]
  name = data.spec.baseline if data.spec.baseline in firsts else next(iter(firsts))
  time = firsts[name]
  return [
    f"In {name} half of the people can be identified from step {time.step} on ({time.attack}), "
    f"when the models recognise {time.accuracy:.1%} of the photographs they never saw. In "
    f"{len(early)} of {count(len(arms), 'way')} of training it is so before the models have half "
    "of the held-out accuracy that they end with."
  ]


def _identified_table(data: PageData, arms: Mapping[str, ArmOutcome]) -> Table:
  attacks = list(dict.fromkeys(a for name in arms for a in data.result.identified[name]))

  def when(name: str, attack: str) -> str:
    time = data.result.identified[name].get(attack)
    if time is None:
      return ""
    return "never" if time.step is None else f"{time.step} ({number(time.accuracy)})"

  caption = (
    "The first recorded step from which on half of the people can be identified to the end, and "
    "the held-out accuracy then."
  )
  rows = [(name, *(when(name, attack) for attack in attacks)) for name in arms]
  return Table(caption, ("cell", *attacks), rows)


def seed_mean_section(data: PageData, folder: Path) -> Section | None:
  """What averages of several models show; None where there are none."""
  names = shown_cells(data)
  found = {name: comparison.averages(arm) for name, arm in arms_shown(data).items()}
  found = {name: one for name, one in found.items() if one and len(one.counts) > 1}
  if not found:
    return None
  places = {name: names.index(name) for name in found}
  caption = (
    "Leakage of the average of the first 1, 2, 4, ... models of an arm. Dashed, the law: with c1 "
    "the mean leakage of one model under reshape, and c that of W - W0, which has no initial "
    "weights in it, n models show c / sqrt(1 + (c^2 / c1^2 - 1) / n), since what was learned stays "
    "and the norm of independent initial weights falls as 1 / sqrt(n). Nothing is fitted to the "
    f"points.{which_cells(data)}"
  )
  figure = figures.seed_mean_figure(found, places)
  return Section(
    "Several models",
    _averages_sentences(data, found),
    [draw(folder, "seed_mean", figure, caption)],
  )


def _averages_sentences(data: PageData, found: Mapping[str, comparison.Averages]) -> list[str]:
  """What averaging gains where it gains most, and where the law does not hold."""
  gains = {
    name: one.measured[-1] - cell_of(data, name, NAIVE.name).mean for name, one in found.items()
  }
  most = max(gains, key=gains.__getitem__)
  sentences = [
    "Whoever holds several models trained on the same people averages their weights: it gains most "
    f"in {most}, where one model shows {mean_of(data, most, NAIVE.name)} and the average of "
    f"{found[most].counts[-1]} shows {number(found[most].measured[-1])}."
  ]
  off = {name: one.measured[-1] - one.law[-1] for name, one in found.items() if one.law is not None}
  above, below = (
    [name for name, by in off.items() if sign * by > data.spec.margin] for sign in (1, -1)
  )
  held = len(off) - len(above) - len(below)
  text = (
    f"At the most models the law holds to within {data.spec.margin:g} in {held} of "
    f"{count(len(off), 'way')} of training."
  )
  if above:
    text += (
      f" More is seen in {listed(above)}: there W - W0 holds noise too, of the release or of the "
      "training, which averages out with the initial weights."
    )
  if below:
    text += f" Less is seen in {listed(below)}: models that learn less alike than the law supposes."
  return [*sentences, text]


def phase_section(data: PageData, folder: Path) -> Section | None:
  """Leakage and accuracy over the grid; None without one."""
  found = phases(data.spec, data.summary)
  if not found:
    return None
  fixed = list(baseline_cell(data.spec).values.items())[2:]
  rest = f" Further keys are as in the baseline: {', '.join(f'{k} {v:g}' for k, v in fixed)}."
  bases = {cell.base for cell in data.spec.cells}
  caption = (
    "Means over seeds at every point of the grid: leakage under reshape and under W - W0 "
    "(init_diff), and held-out accuracy, all from 0 to 1; '-' where every model "
    f"diverged.{rest if fixed else ''}"
  )
  if len(bases) > len(found):
    caption += f" Drawn are the first {len(found)} of {len(bases)} arms."
  picture = draw(folder, "phase", figures.phase_figure(found), caption)
  return Section("Hidden or not learned?", [_phase_sentence(data, found)], [picture])


def _phase_sentence(data: PageData, found: Sequence[Phase]) -> str:
  """How much both attackers see of the models that are of use."""
  naive, known, accuracy = (
    np.concatenate([phase.values[name][0].ravel() for phase in found]) for name in PHASE_MEASURES
  )
  text = (
    "Where reshape is low and init_diff is not, the face is hidden under the initial weights; "
    "where accuracy is low too, there is little to hide."
  )
  useful = np.nan_to_num(accuracy, nan=-1.0) >= data.result.target
  if not useful.any():
    return f"{text} No point of the grid reaches the accuracy at which cells are compared."
  hidden = int((known - naive > data.spec.margin)[useful].sum())
  return (
    f"{text} Of {len(useful)} points {int(useful.sum())} have a held-out accuracy of "
    f"{data.result.target:.3f} or more at the end. Among these reshape sees "
    f"{span(naive[useful])}, init_diff {span(known[useful])}; in {hidden} of them init_diff "
    f"sees more by over {data.spec.margin:g}."
  )
