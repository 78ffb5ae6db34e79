"""What a study's page says of single photographs, of their controls, and of pose."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxinv.experiments.outcome import strongest, summarize
from jaxinv.experiments.study import comparison
from jaxinv.experiments.study.comparison import LEAKAGE
from jaxinv.experiments.study.page_data import PageData, shown_cells, watched_leaks
from jaxinv.experiments.study.photographs import controls, figures
from jaxinv.experiments.study.photographs.controls import (
  FEWEST_MODELS,
  OUTPUT_TESTS,
  WHITE_BOX,
  PhotoLeaks,
  PoseStudy,
)
from jaxinv.experiments.study.study import SHUFFLED, UNTRAINED, StudyResult, attacks_on_one
from jaxinv.metrics.stats import Interval
from jaxinv.runs.figures import save, short
from jaxinv.runs.text import interval, number

# An AUC, or a share of people, so near to chance counts as chance whatever its interval.
_SLACK = 0.02

# With fewer control models than this the bias of leave-one-out scores can be seen.
_FEW_MODELS = 64

# Rank correlations from which on two attacks are said to agree, or to agree in part.
_AGREE, _PARTLY = 0.5, 0.2


def sections(data: PageData, folder: Path) -> dict[str, Any]:
  """Draws the figures of photographs, and computes what `page.html.jinja` says.

  Args:
    data: what the page is of.
    folder: of the figures.

  Returns:
    By section, its numbers and its figures; None for a section that has nothing to show.
  """
  return {
    "photographs": _photographs(data, folder),
    "untested": _untested(data),
    "controls": _controls(data),
    "pose": _pose(data, folder),
  }


def _untested(data: PageData) -> list[dict[str, Any]]:
  """The control arms of which too few models are left, and how many."""
  control = data.result.control
  return [
    {"arm": name, "num": int(controls.unbroken(control.arms[name]).sum()), "of": FEWEST_MODELS}
    for name, leaks in (data.result.leaks or {}).items()
    if leaks is None
  ]


def _photographs(data: PageData, folder: Path) -> dict[str, Any] | None:
  """How well membership is inferred by both kinds of test; None where no control trained."""
  found = watched_leaks(data)
  if found is None:
    return None
  (watched, leaks), result = found, data.result
  attack = controls.best_inversion(leaks)
  tested = {name: one for name, one in result.leaks.items() if one}
  trained = {name: one for name, one in tested.items() if not name.endswith(UNTRAINED)}
  best = {name: controls.best_inversion(one) for name, one in trained.items()}
  if result.chance:
    tested["wrong memberships"] = result.chance
  # A control's own best of several attacks would be above chance by being the best.
  aucs = {name: figures.tests_shown(one, best.get(name, attack)) for name, one in tested.items()}
  correlation = leaks.agreement[attack]
  title = f"{short(watched, 24)}: Spearman {correlation:+.2f}"
  drawn = figures.photographs_figure(aucs, leaks, attack, title)
  members = result.halves.members[:, result.halves.candidates]
  return {
    "figure": save(drawn, folder / "photographs.png"),
    "exposed_figure": save(_exposed_figure(data, leaks), folder / "most_exposed.png"),
    "watched": watched,
    "attack": attack,
    "correlation": correlation,
    "agreement": "full" if correlation >= _AGREE else "part" if correlation >= _PARTLY else "none",
    "num_arms": len(trained),
    "clearer": [name for name, one in trained.items() if _inversion_is_clearer(one)],
    "inversion_rows": [_inversion_row(name, one) for name, one in trained.items()],
    "strongest_rows": [_strongest_row(name, one) for name, one in tested.items() if one],
    "output_rows": [_output_row(name, one) for name, one in trained.items()],
    "output_head": ["arm", *(f"{test}: AUC" for test in (*OUTPUT_TESTS, WHITE_BOX)), "Spearman"],
    "near_chance": [n for n, one in trained.items() if at_chance(one.strongest.auc, 0.5)],
    "beyond_lira": [n for n, one in trained.items() if _lira_misses(one)],
    "lira_slack": _SLACK,
    "num_outside": int((~members).sum()),
  }


def _inversion_is_clearer(leaks: PhotoLeaks) -> bool:
  """Whether the recovered faces reveal more than every test of the outputs, beyond chance."""
  shown = leaks.tests[f"calibrated/{controls.best_inversion(leaks)}"].auc
  others = [leaks.tests[test].auc for test in OUTPUT_TESTS]
  return shown.low is not None and all(o.high is not None and shown.low > o.high for o in others)


def _inversion_row(name: str, leaks: PhotoLeaks) -> tuple[str, ...]:
  attack, cells = controls.best_inversion(leaks), []
  for test in (f"similarity/{attack}", f"calibrated/{attack}"):
    one = leaks.tests[test]
    cells += [interval(one.auc), number(one.tpr[0.01].mean), number(one.tpr[0.05].mean)]
  return (name, attack, *cells)


def _strongest_row(name: str, leaks: PhotoLeaks) -> tuple[str, ...]:
  best, auc = leaks.strongest
  return (name, best, interval(auc), *(interval(leaks.tests[best].tpr[r]) for r in (0.001, 0.01)))


def _lira_misses(leaks: PhotoLeaks) -> bool:
  """Whether LiRA alone is at chance where the strongest test is not."""
  return at_chance(leaks.tests["lira"].auc, 0.5) and not at_chance(leaks.strongest.auc, 0.5)


def _output_row(name: str, leaks: PhotoLeaks) -> tuple[str, ...]:
  cells = [number(leaks.tests[test].auc.mean) for test in (*OUTPUT_TESTS, WHITE_BOX)]
  return (name, *cells, f"{leaks.agreement[controls.best_inversion(leaks)]:+.2f}")


def _exposed_figure(data: PageData, leaks: PhotoLeaks, most: int = 8):
  """The photographs that leak most and least by inversion."""
  dataset, chosen = data.dataset, data.result.halves.candidates
  shown = leaks.shown[controls.best_inversion(leaks)]
  order = np.argsort(-shown, kind="stable")
  most = min(most, len(order) // 2)
  rows = np.array([order[:most], order[-most:]])
  images = dataset.inputs[chosen[rows]].reshape(2, most, *dataset.image_shape)
  people = dataset.labels[chosen]
  notes = [[f"{dataset.names[people[i]]}: {shown[i]:+.1f}" for i in row] for row in rows]
  return figures.exposed_figure(images, notes)


def at_chance(found: Interval, chance: float) -> bool:
  """Whether a control came out at chance: in its interval, or so near that it does not matter."""
  if abs(found.mean - chance) <= _SLACK:
    return True
  return found.low is not None and found.low <= chance <= found.high


def _controls(data: PageData) -> dict[str, Any] | None:
  """What the same tests find where there is nothing to find; None without controls."""
  result, chance = data.result, 1 / data.dataset.num_classes
  if result.control is None:
    return None
  aucs = {
    (control, test): one.auc
    for control, leaks in _chance_leaks(result).items()
    for test, one in leaks.tests.items()
  }
  people = _people_at_chance(data)
  shares = {key: identification for key, (identification, _) in people.items()}
  odd_aucs = {key: auc for key, auc in aucs.items() if not at_chance(auc, 0.5)}
  odd_shares = {key: share for key, share in shares.items() if not at_chance(share, chance)}
  seeds, above = data.spec.control_seeds, [share.mean > chance for share in odd_shares.values()]
  return {
    "arm": data.spec.control_arms[0].name,
    "slack": _SLACK,
    "num_aucs": len(aucs),
    "odd_aucs": {", ".join(key): auc for key, auc in odd_aucs.items()},
    "num_shares": len(shares),
    "odd_shares": {", ".join(key): share for key, share in odd_shares.items()},
    "are_below": seeds < _FEW_MODELS and any(auc.mean < 0.5 for auc in odd_aucs.values()),
    "are_above": any(above) or any(auc.mean > 0.5 for auc in odd_aucs.values()),
    "enough_models": _FEW_MODELS,
    "auc_rows": [
      (*key, interval(auc), "no" if key in odd_aucs else "yes") for key, auc in aucs.items()
    ],
    "people_rows": [
      (*key, interval(share), "no" if key in odd_shares else "yes", interval(leakage))
      for key, (share, leakage) in people.items()
    ],
  }


def _chance_leaks(result: StudyResult) -> dict[str, PhotoLeaks]:
  """The tests for photographs where there is nothing to find."""
  leaks = {name: one for name, one in result.leaks.items() if name.endswith(UNTRAINED)}
  leaks["wrong memberships"] = result.chance
  return {name: one for name, one in leaks.items() if one}


def _people_at_chance(data: PageData) -> dict[tuple[str, str], tuple[Interval, Interval]]:
  """Identification and leakage of people, by control and attack, of models that know nobody."""
  others = summarize(data.result.control) | summarize(data.result.shuffled)
  made = {attack.name for attack in attacks_on_one(data.spec)}
  return {
    (name, attack): tuple(Interval(**metrics[m]) for m in ("identification", LEAKAGE))
    for name, attacks in others.items()
    if name.endswith((UNTRAINED, SHUFFLED))
    for attack, metrics in attacks.items()
    if attack in made and "identification" in metrics
  }


# The panels of the figure of pose, by the field of `pose_panels`.
_TITLES = {
  "person": "the person: leakage (centred NCC)",
  "by_faces": "the photograph: AUC by inversion",
  "by_outputs": "the photograph: AUC by outputs (LiRA)",
}


def pose_panels(pose: PoseStudy) -> dict[str, dict[str, list[Interval]]]:
  """What the figure of pose shows: by measure, by arm, a value at each scale.

  Args:
    pose: what was found at each scale.

  Returns:
    `person`, under the strongest attack, and single photographs `by_faces` and `by_outputs` (LiRA);
    arms that have no value at some scale are left out of the latter.
  """
  panels: dict[str, dict[str, list[Interval]]] = {name: {} for name in _TITLES}
  person, by_faces, by_outputs = panels.values()
  for name, attacks in pose.person.items():
    best = strongest({a: np.ravel(values) for a, values in attacks.items()})
    if best:
      found = comparison.intervals({str(i): x for i, x in enumerate(attacks[best])})
      person[name] = list(found.values())
    aucs = {test: x for test, x in pose.photograph[name].items() if np.isfinite(x).all()}
    inversion = strongest({t: x for t, x in aucs.items() if t.startswith("calibrated/")})
    for panel, test in ((by_faces, inversion), (by_outputs, "lira")):
      if test in aucs:
        panel[name] = [Interval(float(x), None, None, 1) for x in aucs[test]]
  return panels


def _pose(data: PageData, folder: Path) -> dict[str, Any] | None:
  """People and photographs against the scale of pose; None where it was not varied."""
  pose = data.pose
  if pose is None:
    return None
  panels = pose_panels(pose)
  drawn = [*shown_cells(data), *(n for n in pose.person if n not in shown_cells(data))]
  places = {name: drawn.index(name) for name in pose.person}
  titled = {_TITLES[name]: arms for name, arms in panels.items()}
  figure = figures.pose_figure(pose.poses, titled, places)
  return {
    "figure": save(figure, folder / "pose.png"),
    "scales": (pose.poses[0], pose.poses[-1]),
    **_pose_changes(next(iter(pose.person)), panels),
  }


def _pose_changes(name: str, panels: Mapping[str, Mapping[str, list[Interval]]]) -> dict[str, Any]:
  """The first scale of pose against the last: of one arm in full, of all in number."""
  changes, rises = [], []
  for measure, arms in panels.items():
    ends = {n: (values[0].mean, values[-1].mean) for n, values in arms.items()}
    ends = {n: pair for n, pair in ends.items() if None not in pair}
    if name in ends:
      changes.append({"measure": measure, "first": ends[name][0], "last": ends[name][1]})
    times = sum(last > first for first, last in ends.values())
    rises.append({"measure": measure, "times": times, "num": len(ends)})
  return {"arm": name, "changes": changes, "rises": rises}
