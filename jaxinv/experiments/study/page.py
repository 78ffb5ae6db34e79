"""The page of a study: a verdict on each defence first, then what it rests on."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxinv.experiments.outcome import ArmOutcome
from jaxinv.experiments.study import comparison, controls, figures
from jaxinv.experiments.study.comparison import LEAKAGE, NAIVE
from jaxinv.experiments.study.page_data import (
  MANY,
  PageData,
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
from jaxinv.experiments.study.people import (
  attackers_section,
  people_section,
  phase_section,
  seed_mean_section,
  training_section,
)
from jaxinv.experiments.study.photographs import controls_section, photographs_section, pose_section
from jaxinv.experiments.study.study import attackers
from jaxinv.experiments.study.verdict import Label, Verdict
from jaxinv.runs.page import Section, Table, run_section, write_report
from jaxinv.runs.text import count, interval, listed, number


def write_page(out_dir: Path, data: PageData) -> Path:
  """Draws all figures and writes report.html.

  Args:
    out_dir: the run's folder.
    data: what the page is of.

  Returns:
    The page's path.
  """
  folder, data = out_dir / "figures", with_short_names(data)
  sections = [*_verdicts_sections(data, folder)]
  if shown_cells(data):
    sections += [
      make(data, folder)
      for make in (attackers_section, people_section, training_section, seed_mean_section)
    ]
  sections += [phase_section(data, folder), photographs_section(data, folder)]
  sections += [controls_section(data), _privacy_section(data), pose_section(data, folder)]
  sections += [
    _texts_section(data),
    numbers_section(data),
    reading_section(attackers(data.spec).values()),
    run_section(data.command, data.config, data.dataset.credit),
  ]
  present = [section for section in sections if section]
  return write_report(out_dir / "report.html", "Do the defences defend?", _lead(data), present)


def _lead(data: PageData) -> list[str]:
  """What was asked and what was found, in a few sentences."""
  spec, dataset, result = data.spec, data.dataset, data.result
  kind = " drawn by the program" if dataset.drawn else ""
  seeds = count(spec.settings.num_seeds, "seed")
  text = (
    f"{count(len(spec.cells), 'way')} of training a model to tell {dataset.num_classes} people "
    f"apart, from {len(dataset.labels)} photographs{kind}, {seeds} each: how much of the "
    "photographs does each give away? Within a seed all have the same split, initial weights and "
    f"batches. The baseline is **{spec.baseline}**"
  )
  if math.isfinite(result.target):
    why = "as was asked" if spec.target else "0.95 of what it has at the end"
    text += f"; others are compared with it at a held-out accuracy of {result.target:.3f} ({why})"
  lead = [text + ".", *_tally_sentence(data), *_baseline_sentences(data), *_diverged(data)]
  if result.target <= 1 / dataset.num_classes:
    lead.append(
      "**The accuracy at which cells are compared is no better than chance**: they are compared "
      "before they have learned anything. Train longer, or give a target accuracy."
    )
  if keys := list(baseline_cell(spec).values):
    lead.append(f"Cells of the grid are called by their arm and their values of {listed(keys)}.")
  return lead


def tally(verdicts: Mapping[str, Verdict]) -> dict[Label, list[str]]:
  """The cells by their label, in the order of `Label`; labels that no cell has are left out."""
  cells = {label: [k for k, v in verdicts.items() if v.label == label] for label in Label}
  return {label: names for label, names in cells.items() if names}


def _tally_sentence(data: PageData) -> list[str]:
  verdicts = data.result.verdicts
  if not verdicts:
    return []
  few = len(verdicts) <= MANY
  parts = [
    f"**{label}**: {len(names)}" + (f" ({', '.join(names)})" if few else "")
    for label, names in tally(verdicts).items()
  ]
  return [f"The verdicts on the {count(len(verdicts), 'defence')}: {'; '.join(parts)}."]


def _baseline_sentences(data: PageData) -> list[str]:
  """What the baseline gives away of people, and of photographs where that was asked."""
  name = data.spec.baseline
  arm = data.result.outcome.arms[name]
  if not arm.healthy.any():
    return [f"Every model of the baseline, **{name}**, diverged: nothing is compared."]
  best = strongest_attack(arm)
  share = cell_of(data, name, best, "identification").mean
  text = (
    f"The baseline recognises {cell_of(data, name, 'model', 'holdout_accuracy').mean:.1%} of "
    f"the photographs it never saw. Of its people it shows {mean_of(data, name, NAIVE.name)} "
    f"(centred NCC; 1 is a perfect copy) to whoever reshapes its weights, and "
    f"{mean_of(data, name, best)} to the strongest attacker of a single model ({best}), who "
    f"identifies {share:.0%} of them; chance is {1 / data.dataset.num_classes:.1%}."
  )
  watched = watched_leaks(data)
  if watched is None:
    return [text]
  arm_name, leaks = watched
  attack = controls.best_inversion(leaks)
  return [
    f"{text} Membership of a single photograph can be inferred with an AUC of "
    f"{leaks.tests[f'calibrated/{attack}'].auc.mean:.3f} from the recovered faces of **{arm_name}**"
    f", and of {leaks.tests['lira'].auc.mean:.3f} from the model's outputs (LiRA)."
  ]


def _diverged(data: PageData) -> list[str]:
  lost = {
    name: int((~arm.healthy).sum())
    for name, arm in data.result.outcome.arms.items()
    if not arm.healthy.all()
  }
  if not lost:
    return []
  if len(data.result.outcome.arms) > MANY:
    return [f"In {len(lost)} cells some models diverged; they are in no mean."]
  of = data.spec.settings.num_seeds
  diverged = listed(f"{name} ({count} of {of})" for name, count in lost.items())
  return [f"Models diverged, and are in no mean: {diverged}."]


def _verdicts_sections(data: PageData, folder: Path) -> list[Section]:
  """The differences and a table, of few cells then a paragraph each."""
  verdicts, spec = data.result.verdicts, data.spec
  text = [
    "At the same held-out accuracy each defence is compared with the baseline, seed by seed. The "
    "naive attacker reshapes the weights; the strongest is the attack that recovers most from the "
    "arm, of those on a single model. **A defence that fools only the first hides the face; only "
    f"one that lowers the second removes it.** Differences below {spec.margin:g} count as too "
    "small to matter."
  ]
  pictures = []
  if any(v.strongest and v.strongest.mean is not None for v in verdicts.values()):
    caption = (
      "Differences of leakage from the baseline, paired by seed, with 95 % bootstrap intervals; "
      "the band is what is too small to matter. Hollow: compared at the end, as "
      "the cell never reaches the accuracy that all are compared at."
    )
    figure = figures.verdicts_figure(verdicts, spec.margin)
    pictures = [draw(folder, "verdicts", figure, caption)]
  if len(spec.cells) <= MANY:
    texts = [f"**{name}**: {v.label}. {v.text}" for name, v in verdicts.items()]
    each = [Section("Each defence", texts)] if texts else []
    return [Section("Verdicts", text, pictures, [_verdicts_table(data)]), *each]
  counted = [(label, str(len(names))) for label, names in tally(verdicts).items()]
  counts = Table("Cells by verdict; each cell's own is below.", ("verdict", "cells"), counted)
  return [Section("Verdicts", text, pictures, [counts])]


def _texts_section(data: PageData) -> Section | None:
  """The verdicts of many cells, one by one."""
  if len(data.spec.cells) <= MANY:
    return None
  rows = [(name, verdict.text) for name, verdict in data.result.verdicts.items()]
  texts = Table("The same in words.", ("cell", "verdict"), rows)
  return Section("The verdict on each cell", tables=[_verdicts_table(data), texts], folded=True)


def _verdicts_table(data: PageData) -> Table:
  rows = [_verdict_row(data, cell.arm.name) for cell in data.spec.cells]
  head = ["cell", "verdict", "accuracy", "naive", "strongest", "difference"]
  if data.result.epsilons:
    head.append("epsilon")
    rows = [(*row, epsilon(data, row[0])) for row in rows]
  caption = (
    "Accuracy: held out, at the end. Naive and strongest: leakage under these attackers, at the "
    "same held-out accuracy, or at the end where there is no such record (see below). Difference: "
    "of the strongest attacker, from the baseline, paired by seed, with its 95 % interval."
  )
  return Table(caption, head, rows)


def _verdict_row(data: PageData, name: str) -> tuple[str, ...]:
  arm, verdict = data.result.outcome.arms[name], data.result.verdicts.get(name)
  accuracy = mean_of(data, name, "model", "holdout_accuracy")
  baseline = data.result.outcome.arms[data.spec.baseline]
  records = comparison.matched_records(arm, baseline, data.result.target)
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


def _privacy_section(data: PageData) -> Section | None:
  spec, dataset = data.spec, data.dataset
  if not data.result.epsilons:
    return None
  each = len(dataset.labels) // dataset.num_classes - spec.settings.holdout
  text = [
    "DP-SGD promises that with or without **one photograph** the probability of any outcome is the "
    f"same up to a factor of exp(epsilon), but for a probability of delta = {spec.delta:g}. It "
    "is no promise for one person: for all of a person's photographs in the training set, here "
    f"{each}, epsilon counts {each} times. The accountant assumes that chance decides for each "
    "photograph alone whether it is in a batch (Poisson sampling); so does the trainer.",
    *_privacy_sentence(data),
  ]
  return Section("Differential privacy", text, tables=[_privacy_table(data)])


def _privacy_table(data: PageData) -> Table:
  spec, epsilons = data.spec, data.result.epsilons
  arms = {c.arm.name: c.arm.hyper for c in spec.cells if c.arm.name in epsilons}
  attacks = [a for a in attackers(spec) if any(a in data.summary[name] for name in arms)]
  rows = [
    (
      name,
      epsilon(data, name),
      f"{hyper.dp_noise:g}",
      f"{hyper.dp_clip:g}",
      mean_of(data, name, "model", "holdout_accuracy"),
      *(mean_of(data, name, attack) for attack in attacks),
    )
    for name, hyper in arms.items()
  ]
  head = ("cell", "epsilon", "noise", "clip", "accuracy", *attacks)
  caption = f"At delta {spec.delta:g}; held-out accuracy, and leakage under every attack."
  return Table(caption, head, rows)


def _privacy_sentence(data: PageData) -> list[str]:
  """What is left under the strictest promise."""
  arms = data.result.outcome.arms
  kept = {
    name: epsilon
    for name, epsilon in data.result.epsilons.items()
    if math.isfinite(epsilon) and arms[name].healthy.any()
  }
  if not kept:
    return []
  name = min(kept, key=kept.__getitem__)
  best = strongest_attack(arms[name])
  return [
    f"Under the strictest of these promises, {name} with an epsilon of {epsilon(data, name)}, "
    f"the models recognise {cell_of(data, name, 'model', 'holdout_accuracy').mean:.1%} of the "
    f"photographs they never saw, and the strongest attacker ({best}) sees "
    f"{mean_of(data, name, best)} of the people."
  ]
