"""What a study's page says of people: who sees how much of them, when, and where on the grid."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxinv.attacks.attack import Attack
from jaxinv.data.splits import clearest_and_most_varied
from jaxinv.experiments.outcome import ArmOutcome
from jaxinv.experiments.study import comparison, figures
from jaxinv.experiments.study.comparison import NAIVE
from jaxinv.experiments.study.page_data import (
  MOST_FACES,
  MOST_SHOWN,
  PHASE_MEASURES,
  PageData,
  arms_shown,
  averages_of,
  baseline_cell,
  cell_of,
  mean_of,
  phases,
  shown_cells,
  strongest_attack,
)
from jaxinv.experiments.study.study import attackers
from jaxinv.metrics.stats import Interval
from jaxinv.runs.figures import save
from jaxinv.runs.text import number


def sections(data: PageData, folder: Path) -> dict[str, Any]:
  """Draws the figures of people, and computes what `people.html.jinja` says.

  Args:
    data: what the page is of.
    folder: of the figures.

  Returns:
    By section, its numbers and its figure; None for a section that has nothing to show.
  """
  spec, any_shown = data.spec, bool(shown_cells(data))
  point = baseline_cell(spec).values
  return {
    "num_drawn": len(shown_cells(data)) if len(spec.cells) > MOST_SHOWN else None,
    "baseline_point": ", ".join(f"{key} {value:g}" for key, value in point.items()),
    "attackers": _attackers(data, folder) if any_shown else None,
    "faces": _faces(data, folder) if any_shown else None,
    "training": _training(data, folder) if any_shown else None,
    "several": _several(data, folder),
    "grid": _grid(data, folder),
  }


def _attackers(data: PageData, folder: Path) -> dict[str, Any]:
  """Leakage under every attack, and identification."""
  arms, known = arms_shown(data), attackers(data.spec)
  leakage = {
    name: {
      a: cell_of(data, name, a) for a in arm.measures if a != "model" and cell_of(data, name, a)
    }
    for name, arm in arms.items()
  }
  attacks = [a for a in known if any(a in arm.measures for arm in arms.values())]
  return {
    "figure": save(figures.attackers_figure(leakage, known), folder / "attackers.png"),
    "strongest": strongest_by_holding(list(known.values()), arms, leakage),
    "head": attacks,
    "rows": [(name, *(mean_of(data, name, a, "identification") for a in attacks)) for name in arms],
  }


def strongest_by_holding(
  attacks: Sequence[Attack],
  arms: Mapping[str, ArmOutcome],
  leakage: Mapping[str, Mapping[str, Interval]],
) -> list[dict[str, Any]]:
  """The attack that is most often strongest, by what the attacker holds.

  Args:
    attacks: all that may have been made.
    arms: by name.
    leakage: by arm, by attack.

  Returns:
    For each thing held: the attack, in how many of the arms it is strongest, and the leakage of
    every arm under its own strongest attack.
  """
  best = {name: comparison.strongest_by_knowledge(arm, attacks) for name, arm in arms.items()}
  strongest = []
  for held in dict.fromkeys(attack.knowledge for attack in attacks):
    chosen = {name: by_held[held] for name, by_held in best.items() if held in by_held}
    if chosen:
      attack, times = Counter(chosen.values()).most_common(1)[0]
      leakages = [leakage[name][chosen[name]].mean for name in chosen]
      values = {"held": held, "attack": attack, "times": times, "num": len(chosen)}
      strongest.append(values | {"leakages": leakages})
  return strongest


def _faces(data: PageData, folder: Path) -> dict[str, Any]:
  """Three people as the naive and the strongest attacker see them."""
  dataset, arms = data.dataset, arms_shown(data, MOST_FACES)
  people = clearest_and_most_varied(dataset.inputs, dataset.labels, dataset.num_classes)
  strongest = {name: strongest_attack(arm) for name, arm in arms.items()}
  figure = figures.people_figure(data.result.outcome, strongest, dataset.names, people)
  return {
    "figure": save(figure, folder / "people.png"),
    "naive": [cell_of(data, name, NAIVE.name).mean for name in arms],
    "strongest": [cell_of(data, name, attack).mean for name, attack in strongest.items()],
  }


def _training(data: PageData, folder: Path) -> dict[str, Any]:
  """Leakage against use through training, and when people can be identified."""
  arms, identified = arms_shown(data), data.result.identified
  figure = figures.training_figure(arms, data.result.target)
  attacks = list(dict.fromkeys(a for name in arms for a in identified[name]))

  def when(name: str, attack: str) -> str:
    time = identified[name].get(attack)
    if time is None:
      return ""
    return "never" if time.step is None else f"{time.step} ({number(time.accuracy)})"

  return {
    "figure": save(figure, folder / "through_training.png"),
    "number": len(arms),
    "head": attacks,
    "rows": [(name, *(when(name, attack) for attack in attacks)) for name in arms],
    **_early(data, arms),
  }


def _early(data: PageData, arms: Mapping[str, ArmOutcome]) -> dict[str, Any]:
  """When people can first be identified, and in how many cells before the models are of use."""
  firsts = {}
  for name in arms:
    times = [t for t in data.result.identified[name].values() if t.step is not None]
    if times:
      firsts[name] = min(times, key=lambda t: (t.step, t.attack != NAIVE.name))
  if not firsts:
    return {"first": None}
  last = {name: cell_of(data, name, "model", "holdout_accuracy").mean for name in firsts}
  early = [name for name, time in firsts.items() if time.accuracy < last[name] / 2]
  name = data.spec.baseline if data.spec.baseline in firsts else next(iter(firsts))
  return {"first": {"name": name, **firsts[name]._asdict()}, "num_early": len(early)}


def _several(data: PageData, folder: Path) -> dict[str, Any] | None:
  """What averages of several models show, and where the law holds; None without averages."""
  names, margin = shown_cells(data), data.spec.margin
  averages = {name: averages_of(arm) for name, arm in arms_shown(data).items()}
  averages = {name: one for name, one in averages.items() if one and len(one.counts) > 1}
  if not averages:
    return None
  single = {name: cell_of(data, name, NAIVE.name).mean for name in averages}
  together = {name: one.measured[-1] for name, one in averages.items()}
  most = max(averages, key=lambda name: together[name] - single[name])
  off = {n: one.measured[-1] - one.law[-1] for n, one in averages.items() if one.law is not None}
  above, below = ([n for n, by in off.items() if sign * by > margin] for sign in (1, -1))
  figure = figures.seed_mean_figure(averages, {name: names.index(name) for name in averages})
  return {
    "figure": save(figure, folder / "seed_mean.png"),
    "most": most,
    "one": single[most],
    "num_models": averages[most].counts[-1],
    "together": together[most],
    "above": above,
    "below": below,
    "num_laws": len(off),
    "num_held": len(off) - len(above) - len(below),
  }


def _grid(data: PageData, folder: Path) -> dict[str, Any] | None:
  """Leakage and accuracy over the grid; None without one."""
  drawn = phases(data.spec, data.summary)
  if not drawn:
    return None
  naive, known, accuracy = (
    np.concatenate([phase.values[name][0].ravel() for phase in drawn]) for name in PHASE_MEASURES
  )
  useful = np.nan_to_num(accuracy, nan=-1.0) >= data.result.target
  return {
    "figure": save(figures.phase_figure(drawn), folder / "phase.png"),
    "num_drawn": len(drawn),
    "num_arms": len({cell.base for cell in data.spec.cells}),
    "fixed": list(baseline_cell(data.spec).values.items())[2:],
    "num_points": len(useful),
    "num_useful": int(useful.sum()),
    "naive": naive[useful],
    "known": known[useful],
    "num_hidden": int((known - naive > data.spec.margin)[useful].sum()),
  }
