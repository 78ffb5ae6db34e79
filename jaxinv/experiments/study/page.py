"""The page of a study: a verdict on each defence first, then what it rests on."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxinv.experiments.outcome import ArmOutcome
from jaxinv.experiments.study import comparison, controls, figures
from jaxinv.experiments.study.comparison import LEAKAGE, NAIVE
from jaxinv.experiments.study.people import (
  attackers_section,
  people_section,
  phase_section,
  seed_mean_section,
  training_section,
)
from jaxinv.experiments.study.photographs import controls_section, photographs_section, pose_section
from jaxinv.experiments.study.story import (
  MANY,
  Story,
  baseline_cell,
  cell_of,
  draw,
  epsilon,
  mean_of,
  numbers_section,
  reading_section,
  shown_cells,
  strongest_attack,
  watched_leaks,
  with_short_names,
)
from jaxinv.experiments.study.study import attackers
from jaxinv.experiments.study.verdict import Label, Verdict
from jaxinv.runs.page import Section, Table, run_section, write_report
from jaxinv.runs.text import count, interval, listed, number


def write_page(out_dir: Path, story: Story) -> Path:
  """Draws all figures and writes report.html.

  Args:
    out_dir: the run's folder.
    story: what to tell.

  Returns:
    The page's path.
  """
  folder, story = out_dir / "figures", with_short_names(story)
  sections = [*_verdicts_sections(story, folder)]
  if shown_cells(story):
    sections += [
      make(story, folder)
      for make in (attackers_section, people_section, training_section, seed_mean_section)
    ]
  sections += [phase_section(story, folder), photographs_section(story, folder)]
  sections += [controls_section(story), _privacy_section(story), pose_section(story, folder)]
  sections += [
    _texts_section(story),
    numbers_section(story),
    reading_section(attackers(story.question).values()),
    run_section(story.command, story.config, story.dataset.credit),
  ]
  told = [section for section in sections if section]
  return write_report(out_dir / "report.html", "Do the defences defend?", _lead(story), told)


def _lead(story: Story) -> list[str]:
  """What was asked and what was found, in a few sentences."""
  question, data, answer = story.question, story.dataset, story.answer
  kind = " drawn by the program" if data.drawn else ""
  seeds = count(question.settings.num_seeds, "seed")
  text = (
    f"{count(len(question.cells), 'way')} of training a model to tell {data.num_classes} people "
    f"apart, from {len(data.labels)} photographs{kind}, {seeds} each: how much of the photographs "
    "does each give away? Within a seed all have the same split, initial weights and batches. The "
    f"baseline is **{question.baseline}**"
  )
  if math.isfinite(answer.target):
    why = "as was asked" if question.target else "0.95 of what it has at the end"
    text += f"; others are compared with it at a held-out accuracy of {answer.target:.3f} ({why})"
  lead = [text + ".", *_tally_sentence(story), *_baseline_sentences(story), *_diverged(story)]
  if answer.target <= 1 / data.num_classes:
    lead.append(
      "**The accuracy at which cells are compared is no better than chance**: they are compared "
      "before they have learned anything. Train longer, or give a target accuracy."
    )
  if keys := list(baseline_cell(question).values):
    lead.append(f"Cells of the grid are called by their arm and their values of {listed(keys)}.")
  return lead


def tally(verdicts: Mapping[str, Verdict]) -> dict[Label, list[str]]:
  """The cells by their label, in the order of `Label`; labels that no cell has are left out."""
  cells = {label: [k for k, v in verdicts.items() if v.label == label] for label in Label}
  return {label: names for label, names in cells.items() if names}


def _tally_sentence(story: Story) -> list[str]:
  verdicts = story.answer.verdicts
  if not verdicts:
    return []
  few = len(verdicts) <= MANY
  parts = [
    f"**{label}**: {len(names)}" + (f" ({', '.join(names)})" if few else "")
    for label, names in tally(verdicts).items()
  ]
  return [f"The verdicts on the {count(len(verdicts), 'defence')}: {'; '.join(parts)}."]


def _baseline_sentences(story: Story) -> list[str]:
  """What the baseline gives away of people, and of photographs where that was asked."""
  name = story.question.baseline
  arm = story.answer.outcome.arms[name]
  if not arm.healthy.any():
    return [f"Every model of the baseline, **{name}**, diverged: nothing is compared."]
  best = strongest_attack(arm)
  share = cell_of(story, name, best, "identification").mean
  text = (
    f"The baseline recognises {cell_of(story, name, 'model', 'holdout_accuracy').mean:.1%} of "
    f"the photographs it never saw. Of its people it shows {mean_of(story, name, NAIVE.name)} "
    f"(centred NCC; 1 is a perfect copy) to whoever reshapes its weights, and "
    f"{mean_of(story, name, best)} to the strongest attacker of a single model ({best}), who "
    f"identifies {share:.0%} of them; chance is {1 / story.dataset.num_classes:.1%}."
  )
  told = watched_leaks(story)
  if told is None:
    return [text]
  arm_name, leaks = told
  attack = controls.best_inversion(leaks)
  return [
    f"{text} Membership of a single photograph can be inferred with an AUC of "
    f"{leaks.tests[f'calibrated/{attack}'].auc.mean:.3f} from the recovered faces of **{arm_name}**"
    f", and of {leaks.tests['lira'].auc.mean:.3f} from the model's outputs (LiRA)."
  ]


def _diverged(story: Story) -> list[str]:
  lost = {
    name: int((~arm.healthy).sum())
    for name, arm in story.answer.outcome.arms.items()
    if not arm.healthy.all()
  }
  if not lost:
    return []
  if len(story.answer.outcome.arms) > MANY:
    return [f"In {len(lost)} cells some models diverged; they are in no mean."]
  of = story.question.settings.num_seeds
  told = listed(f"{name} ({count} of {of})" for name, count in lost.items())
  return [f"Models diverged, and are in no mean: {told}."]


def _verdicts_sections(story: Story, folder: Path) -> list[Section]:
  """The differences and a table, of few cells then a paragraph each."""
  verdicts, question = story.answer.verdicts, story.question
  text = [
    "At the same held-out accuracy each defence is compared with the baseline, seed by seed. The "
    "naive attacker reshapes the weights; the strongest is the attack that recovers most from the "
    "arm, of those on a single model. **A defence that fools only the first hides the face; only "
    f"one that lowers the second removes it.** Differences below {question.margin:g} count as too "
    "small to matter."
  ]
  pictures = []
  if any(v.strongest and v.strongest.mean is not None for v in verdicts.values()):
    caption = (
      "Differences of leakage from the baseline, paired by seed, with 95 % bootstrap intervals; "
      "the band is what is too small to matter. Hollow: compared at the end, as "
      "the cell never reaches the accuracy that all are compared at."
    )
    figure = figures.verdicts_figure(verdicts, question.margin)
    pictures = [draw(folder, "verdicts", figure, caption)]
  if len(question.cells) <= MANY:
    told = [f"**{name}**: {v.label}. {v.text}" for name, v in verdicts.items()]
    each = [Section("Each defence", told)] if told else []
    return [Section("Verdicts", text, pictures, [_verdicts_table(story)]), *each]
  counted = [(label, str(len(names))) for label, names in tally(verdicts).items()]
  counts = Table("Cells by verdict; each cell's own is below.", ("verdict", "cells"), counted)
  return [Section("Verdicts", text, pictures, [counts])]


def _texts_section(story: Story) -> Section | None:
  """The verdicts of many cells, one by one."""
  if len(story.question.cells) <= MANY:
    return None
  rows = [(name, verdict.text) for name, verdict in story.answer.verdicts.items()]
  texts = Table("The same in words.", ("cell", "verdict"), rows)
  return Section("The verdict on each cell", tables=[_verdicts_table(story), texts], folded=True)


def _verdicts_table(story: Story) -> Table:
  rows = [_verdict_row(story, cell.arm.name) for cell in story.question.cells]
  head = ["cell", "verdict", "accuracy", "naive", "strongest", "difference"]
  if story.answer.epsilons:
    head.append("epsilon")
    rows = [(*row, epsilon(story, row[0])) for row in rows]
  caption = (
    "Accuracy: held out, at the end. Naive and strongest: leakage under these attackers, at the "
    "same held-out accuracy, or at the end where there is no such record (see below). Difference: "
    "of the strongest attacker, from the baseline, paired by seed, with its 95 % interval."
  )
  return Table(caption, head, rows)


def _verdict_row(story: Story, name: str) -> tuple[str, ...]:
  arm, verdict = story.answer.outcome.arms[name], story.answer.verdicts.get(name)
  accuracy = mean_of(story, name, "model", "holdout_accuracy")
  baseline = story.answer.outcome.arms[story.question.baseline]
  records = comparison.matched_records(arm, baseline, story.answer.target)
  levels = levels_of(arm, records and records[0])
  best = comparison.strongest({k: np.array([v]) for k, v in levels.items()})
  if best is None:
    return (name, verdict.label if verdict else "baseline", accuracy, "", "", "")
  return (
    name,
    verdict.label if verdict else "baseline",
    accuracy,
    number(levels.get(NAIVE.name)),
    f"{number(levels[best])} {best}",
    interval(verdict.strongest, sign="+") if verdict else "",
  )


def levels_of(arm: ArmOutcome, record: int | None) -> dict[str, float]:
  """By attack, an arm's mean leakage.

  Args:
    arm: what came of it.
    record: at which record to look; None for the end.

  Returns:
    The means; only of attacks that have a value.
  """
  found = {}
  for attack in comparison.attacks_of(arm):
    if record is None:
      values = comparison.final(arm, attack)
    elif LEAKAGE in arm.trail.get(attack, {}):
      values = comparison.at_record(arm, attack, record)
    else:
      continue
    if np.isfinite(values).any():
      found[attack] = float(np.nanmean(values))
  return found


def _privacy_section(story: Story) -> Section | None:
  question, data = story.question, story.dataset
  if not story.answer.epsilons:
    return None
  each = len(data.labels) // data.num_classes - question.settings.holdout
  text = [
    "DP-SGD promises that with or without **one photograph** the probability of any outcome is the "
    f"same up to a factor of exp(epsilon), but for a probability of delta = {question.delta:g}. It "
    "is no promise for one person: for all of a person's photographs in the training set, here "
    f"{each}, epsilon counts {each} times. The accountant assumes that chance decides for each "
    "photograph alone whether it is in a batch (Poisson sampling); so does the trainer.",
    *_privacy_sentence(story),
  ]
  return Section("Differential privacy", text, tables=[_privacy_table(story)])


def _privacy_table(story: Story) -> Table:
  question, epsilons = story.question, story.answer.epsilons
  arms = {c.arm.name: c.arm.hyper for c in question.cells if c.arm.name in epsilons}
  attacks = [a for a in attackers(question) if any(a in story.summary[name] for name in arms)]
  rows = [
    (
      name,
      epsilon(story, name),
      f"{hyper.dp_noise:g}",
      f"{hyper.dp_clip:g}",
      mean_of(story, name, "model", "holdout_accuracy"),
      *(mean_of(story, name, attack) for attack in attacks),
    )
    for name, hyper in arms.items()
  ]
  head = ("cell", "epsilon", "noise", "clip", "accuracy", *attacks)
  caption = f"At delta {question.delta:g}; held-out accuracy, and leakage under every attack."
  return Table(caption, head, rows)


def _privacy_sentence(story: Story) -> list[str]:
  """What is left under the strictest promise."""
  arms = story.answer.outcome.arms
  kept = {
    name: epsilon
    for name, epsilon in story.answer.epsilons.items()
    if math.isfinite(epsilon) and arms[name].healthy.any()
  }
  if not kept:
    return []
  name = min(kept, key=kept.__getitem__)
  best = strongest_attack(arms[name])
  return [
    f"Under the strictest of these promises, {name} with an epsilon of {epsilon(story, name)}, "
    f"the models recognise {cell_of(story, name, 'model', 'holdout_accuracy').mean:.1%} of the "
    f"photographs they never saw, and the strongest attacker ({best}) sees "
    f"{mean_of(story, name, best)} of the people."
  ]
