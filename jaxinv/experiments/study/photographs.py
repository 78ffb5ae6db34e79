"""Sections of a study's page on single photographs, their controls, and pose."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from jaxinv.experiments.outcome import summarize
from jaxinv.experiments.study import comparison, controls, figures
from jaxinv.experiments.study import figures_photographs as pictures_of
from jaxinv.experiments.study.comparison import LEAKAGE
from jaxinv.experiments.study.controls import OUTPUT_TESTS, PhotoLeaks, PoseStudy
from jaxinv.experiments.study.page_data import (
  PageData,
  draw,
  shown_cells,
  watched_leaks,
)
from jaxinv.experiments.study.study import SHUFFLED, UNTRAINED, StudyResult, attacks_on_one
from jaxinv.metrics.stats import Interval
from jaxinv.runs.page import Picture, Section, Table
from jaxinv.runs.text import count, interval, listed, number

# An AUC, or a share of people, so near to chance counts as chance whatever its interval.
_SLACK = 0.02

# With fewer control models than this the bias of leave-one-out scores can be seen.
_FEW_MODELS = 64

# Rank correlations from which on two attacks are said to agree, or to agree in part.
_AGREE, _PARTLY = 0.5, 0.2


def photographs_section(data: PageData, folder: Path) -> Section | None:
  """How well membership is inferred, by both kinds of test; None where no control trained."""
  found = watched_leaks(data)
  if found is None:
    return None
  watched, leaks = found
  attack, result = controls.best_inversion(leaks), data.result
  tested = {name: one for name, one in result.leaks.items() if one}
  trained = {name: one for name, one in tested.items() if not name.endswith(UNTRAINED)}
  best = {name: controls.best_inversion(one) for name, one in trained.items()}
  if result.chance:
    tested["wrong memberships"] = result.chance
  # A control's own best of several attacks would be above chance by being the best.
  aucs = {
    name: pictures_of.tests_shown(one, best.get(name, attack)) for name, one in tested.items()
  }
  title = f"{figures.short(watched, 24)}: Spearman {leaks.agreement[attack]:+.2f}"
  caption = (
    "Left, the AUC of each test, mean over models with its 95 % interval. The inversion attack is "
    f"each arm's best, for the controls in the last rows that of {watched}; these must be at 0.5. "
    "Right, how much more each photograph shows, and how much more sure the models are of it, when "
    f"it was in the training set than when it was not; one dot a photograph of {watched}."
  )
  figure = pictures_of.photographs_figure(aucs, leaks, attack, title)
  pictures = [draw(folder, "photographs", figure, caption), _exposed(data, folder, watched, leaks)]
  tables = [_inversion_table(trained), _answers_table(trained, _others(data))]
  return Section(
    "Single photographs", _photographs_text(data, trained, watched, leaks), pictures, tables
  )


def _photographs_text(
  data: PageData, trained: Mapping[str, PhotoLeaks], watched: str, leaks: PhotoLeaks
) -> list[str]:
  attack = controls.best_inversion(leaks)
  correlation = leaks.agreement[attack]
  words = "hardly agree" if correlation < _PARTLY else "agree in part"
  more = [name for name, found in trained.items() if _inversion_tells_more(found)]
  return [
    f"{data.spec.control_seeds} further models of each arm are trained on halves of the "
    "photographs, each photograph in exactly half of them. So whatever a test tells of a "
    "photograph is due to training on it. Two kinds of test are made on the same models: by how "
    "like the recovered face is, and by how sure the models are.",
    f"In {watched} the two {'agree' if correlation >= _AGREE else words} on which photographs "
    f"leak (Spearman's rank correlation {correlation:+.2f}). The recovered faces, calibrated, tell "
    f"more than every test of the answers, with intervals that do not touch, in {len(more)} of "
    f"{count(len(trained), 'arm')}{': ' + listed(more) if more else ''}.",
  ]


def _inversion_tells_more(leaks: PhotoLeaks) -> bool:
  shown = leaks.tests[f"calibrated/{controls.best_inversion(leaks)}"].auc
  others = [leaks.tests[test].auc for test in OUTPUT_TESTS]
  return shown.low is not None and all(o.high is not None and shown.low > o.high for o in others)


def _inversion_table(leaks: Mapping[str, PhotoLeaks]) -> Table:
  rows = []
  for name, found in leaks.items():
    attack, cells = controls.best_inversion(found), []
    for test in (f"similarity/{attack}", f"calibrated/{attack}"):
      one = found.tests[test]
      cells += [interval(one.auc), number(one.pooled.tpr[0.01]), number(one.pooled.tpr[0.05])]
    rows.append((name, attack, *cells))
  rates = ("TPR at 1 %", "at 5 %")
  caption = (
    "By inversion: how like the recovered face is to the photograph, as it is and calibrated by "
    "the other models, under the attack that tells most. TPR: members found at so many false "
    "positives, all models pooled."
  )
  return Table(
    caption, ("arm", "attack", "similarity: AUC", *rates, "calibrated: AUC", *rates), rows
  )


def _others(data: PageData) -> int:
  """Scores of photographs that a model was not trained on, of all of an arm's models."""
  halves = data.result.halves
  return int((~halves.members[:, halves.candidates]).sum())


def _answers_table(leaks: Mapping[str, PhotoLeaks], others: int) -> Table:
  rows = []
  for name, found in leaks.items():
    cells = []
    for test in OUTPUT_TESTS:
      one = found.tests[test]
      cells += [
        number(one.auc.mean),
        number(one.pooled.tpr[0.001]),
        number(one.pooled.tpr[0.01]),
      ]
    agreement = found.agreement[controls.best_inversion(found)]
    rows.append((name, *cells, f"{agreement:+.2f}"))
  head = [word for test in OUTPUT_TESTS for word in (f"{test}: AUC", "at 0.1 %", "at 1 %")]
  caption = (
    "By the models' answers, likewise; and Spearman's rank correlation of how much each photograph "
    f"leaks by inversion and by answers. There are {others} scores of photographs that were not "
    "trained on: a rate below one in as many stands for none."
  )
  return Table(caption, ("arm", *head, "Spearman"), rows)


def _exposed(
  data: PageData, folder: Path, watched: str, leaks: PhotoLeaks, most: int = 8
) -> Picture:
  """The photographs that leak most and least by inversion."""
  dataset, chosen = data.dataset, data.result.halves.candidates
  attack = controls.best_inversion(leaks)
  shown = leaks.shown[attack]
  order = np.argsort(-shown, kind="stable")
  most = min(most, len(order) // 2)
  rows = np.array([order[:most], order[-most:]])
  images = dataset.inputs[chosen[rows]].reshape(2, most, *dataset.image_shape)
  notes = [
    [f"{dataset.names[dataset.labels[chosen[i]]]}: {shown[i]:+.1f}" for i in row] for row in rows
  ]
  caption = (
    f"The photographs of {watched} that leak most, above, and least, below, by inversion "
    f"({attack}): the person, and how much more like the recovered face is when the photograph was "
    "in the training set, in standard deviations over models."
  )
  return draw(folder, "most_exposed", pictures_of.exposed_figure(images, notes), caption)


def at_chance(found: Interval, chance: float) -> bool:
  """Whether a control came out at chance: in its interval, or so near that it does not matter."""
  if abs(found.mean - chance) <= _SLACK:
    return True
  return found.low is not None and found.low <= chance <= found.high


def controls_section(data: PageData) -> Section | None:
  """What the same tests find where there is nothing to find; None without controls."""
  result = data.result
  if result.control is None:
    return None
  tests = {
    f"{control}, {test}": one.auc
    for control, leaks in _chance_leaks(result).items()
    for test, one in leaks.tests.items()
  }
  others = summarize(result.control) | summarize(result.shuffled)
  made = {attack.name for attack in attacks_on_one(data.spec)}
  people = {
    (name, attack): metrics
    for name, attacks in others.items()
    if name.endswith((UNTRAINED, SHUFFLED))
    for attack, metrics in attacks.items()
    if attack in made and "identification" in metrics
  }
  text = _chance_sentences(data, tests, people)
  return Section("Controls that must fail", text, tables=_controls_tables(data, tests, people))


def _chance_leaks(result: StudyResult) -> dict[str, PhotoLeaks]:
  """The tests for photographs where there is nothing to find."""
  found = {name: leaks for name, leaks in result.leaks.items() if name.endswith(UNTRAINED)}
  found["wrong memberships"] = result.chance
  return {name: leaks for name, leaks in found.items() if leaks}


def _chance_sentences(data: PageData, tests: Mapping[str, Interval], people: Mapping) -> list[str]:
  chance = 1 / data.dataset.num_classes
  off = {name: auc for name, auc in tests.items() if not at_chance(auc, 0.5)}
  shares = {key: Interval(**metrics["identification"]) for key, metrics in people.items()}
  lost = {f"{n}, {a}": share for (n, a), share in shares.items() if not at_chance(share, chance)}
  text = [
    "Untrained models, models trained on shuffled labels, and the models of "
    f"{data.spec.control_arms[0].name} with each other's memberships go through the same "
    "tests; whatever these find there is their own error.",
    f"Photographs: {len(tests) - len(off)} of {count(len(tests), 'AUC')} are at chance: 0.5 is in "
    f"the 95 % interval, or within {_SLACK:g}.{_exceptions(off)}",
    f"People: {len(shares) - len(lost)} of {count(len(shares), 'share')} of people identified are "
    f"at chance, {chance:.3f}, by the same rule.{_exceptions(lost)}",
  ]
  return text + _caveats(data.spec.control_seeds, off.values(), lost.values(), chance)


def _caveats(
  seeds: int, aucs: Collection[Interval], shares: Collection[Interval], chance: float
) -> list[str]:
  """What to make of controls that are not at chance."""
  text = []
  if seeds < _FEW_MODELS and any(auc.mean < 0.5 for auc in aucs):
    text.append(
      f"AUCs below 0.5 are expected under wrong memberships: each of the {seeds} models is scored "
      "by means of the others, and the more photographs leak, the more so few models come out "
      f"below chance. It fades with more models; give {_FEW_MODELS} or more."
    )
  if any(auc.mean > 0.5 for auc in aucs) or any(share.mean > chance for share in shares):
    text.append(
      "**Some controls are above chance.** Of many 95 % intervals a few miss by luck, and those of "
      "few models are too narrow, as their scores depend on each other. Differences from chance of "
      "this size are no leak."
    )
  return text


def _exceptions(found: Mapping[str, Interval]) -> str:
  return f" Not so: {listed(f'{k} {interval(i)}' for k, i in found.items())}." if found else ""


def _controls_tables(data: PageData, tests: Mapping[str, Interval], people: Mapping) -> list[Table]:
  chance = 1 / data.dataset.num_classes
  photographs = [
    (*name.rsplit(", ", 1), interval(auc), "yes" if at_chance(auc, 0.5) else "no")
    for name, auc in tests.items()
  ]
  rows = []
  for (name, attack), metrics in people.items():
    share, leakage = (Interval(**metrics[m]) for m in ("identification", LEAKAGE))
    verdict = "yes" if at_chance(share, chance) else "no"
    rows.append((name, attack, interval(share), verdict, interval(leakage)))
  head = ("control", "attack", "identification", "at chance", "centred NCC")
  return [
    Table("Single photographs.", ("control", "test", "AUC", "at chance"), photographs),
    Table(f"People; chance is {chance:.3f} and 0.", head, rows),
  ]


def pose_panels(pose: PoseStudy) -> dict[str, dict[str, list[Interval]]]:
  """What the figure of pose shows: by title, by arm, a value at each scale.

  Args:
    pose: what was found at each scale.

  Returns:
    The person under the strongest attack, single photographs by inversion and by LiRA; arms that
    have no value at some scale are left out of the latter.
  """
  panels: dict[str, dict[str, list[Interval]]] = {
    "the person: leakage (centred NCC)": {},
    "the photograph: AUC by inversion": {},
    "the photograph: AUC by answers (LiRA)": {},
  }
  person, shown, answered = panels.values()
  for name, attacks in pose.person.items():
    best = comparison.strongest({a: np.ravel(values) for a, values in attacks.items()})
    if best:
      found = comparison.intervals({str(i): x for i, x in enumerate(attacks[best])})
      person[name] = list(found.values())
    aucs = {t: x for t, x in pose.photograph[name].items() if len(x) == len(pose.poses)}
    by_face = comparison.strongest({t: x for t, x in aucs.items() if t.startswith("calibrated/")})
    for panel, test in ((shown, by_face), (answered, "lira")):
      if test in aucs:
        panel[name] = [Interval(float(x), None, None, 1) for x in aucs[test]]
  return panels


def pose_section(data: PageData, folder: Path) -> Section | None:
  """People and photographs against the scale of pose; None where it was not varied."""
  pose = data.pose
  if pose is None:
    return None
  panels = pose_panels(pose)
  drawn = [*shown_cells(data), *(n for n in pose.person if n not in shown_cells(data))]
  places = {name: drawn.index(name) for name in pose.person}
  caption = (
    "The same people drawn with their pose variation scaled, models trained on halves of the "
    "photographs. Left, leakage of the person under the arm's strongest attack, with 95 % "
    "intervals; then the AUC of telling single photographs, by the recovered faces, calibrated, "
    "and by LiRA, all models pooled."
  )
  text = [
    "A linear model adds up photographs. Pose makes a person's photographs less alike: does what "
    "it shows of the person get less, and what it tells of each photograph?",
    *_pose_sentences(pose, panels),
  ]
  figure = pictures_of.pose_figure(pose.poses, panels, places)
  return Section("Pose", text, [draw(folder, "pose", figure, caption)])


def _pose_sentences(pose: PoseStudy, panels: Mapping[str, Mapping]) -> list[str]:
  """The first scale of pose against the last: of the first arm in full, of all in number."""
  words = ("the leakage of the person", "the AUC by the recovered faces", "that by LiRA")
  name, changes, rises = next(iter(pose.person)), [], []
  for what, arms in zip(words, panels.values(), strict=True):
    ends = {n: (values[0].mean, values[-1].mean) for n, values in arms.items()}
    ends = {n: pair for n, pair in ends.items() if None not in pair}
    if name in ends:
      changes.append(f"{what} goes from {' to '.join(number(x, 2) for x in ends[name])}")
    rises.append(f"{what} rises in {sum(b > a for a, b in ends.values())} of {len(ends)}")
  if not changes:
    return []
  scales = f"From scale {pose.poses[0]:g} to {pose.poses[-1]:g} of the pose variation"
  return [f"{scales}, in {name} {listed(changes)}. Of all arms {listed(rises)}."]
