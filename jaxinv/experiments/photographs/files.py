"""The files that a run on single photographs writes beside those of every run."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxinv.experiments.photographs.field import Guess
from jaxinv.experiments.photographs.photographs import UNMIXED, Attacked, Cell, Result
from jaxinv.experiments.photographs.verdict import judge
from jaxinv.metrics.stats import mean_intervals
from jaxinv.runs import files
from jaxinv.runs.tables import exact, plain, write_csv

_HEAD = (
  *("arm", "seed", "photographs", "component", "stability", "closest", "member"),
  *("correlation", "edge_correlation"),
)


def write_photographs(out_dir: Path, result: Result, margin: float) -> dict:
  """Writes a run's numbers, images and weights.

  Args:
    out_dir: the run's folder.
    result: what came of it.
    margin: of the verdicts.

  Returns:
    The summary, as recorded in summary.json.
  """
  summary = summarize(result, margin)
  files.write_json(out_dir / "summary.json", plain(summary))
  write_csv(out_dir / "components.csv", _HEAD, _rows(result))
  for arm, cells in result.cells.items():
    recovered, weights = {}, {}
    for number, cell in cells.items():
      for attack, found in cell.attacked.items():
        if attack.startswith(UNMIXED) and any(found):
          recovered[f"{number}/{attack}"] = _stacked([f and f.unmixed.images for f in found])
      for attack, found in cell.field.items():
        recovered[f"{number}/{attack}"] = _stacked([f and f.images for f in found])
      recovered[f"{number}/members"] = cell.members
      weights |= {f"{number}/{name}": values for name, values in cell.arrays.items()}
    files.write_npz(out_dir / "recovered" / f"{arm}.npz", recovered)
    files.write_npz(out_dir / "weights" / f"{arm}.npz", weights)
  return summary


def summarize(result: Result, margin: float) -> dict:
  """Means over the seeds that did not diverge, with 95 % intervals.

  Returns:
    {arm: {"PHOTOGRAPHS": {attack: {metric: {mean, low, high, n}}}}}: attacks and controls by their
    shares, see `Score.shares`, `counted` (the number of photographs that the spectrum tells),
    `stability` and `seconds`; `model` by its accuracy on the photographs and on others; `chance`,
    what components that show nothing come to; "diverged"; `field`, other attackers by their shares,
    `loss`, `seconds` and `restarts`, where they were asked for; and of every arm but the baselines
    `verdicts`, see `verdict.Verdict`, by what the attacker holds.
  """
  verdicts = judge(result, margin)
  summary = {
    arm: {str(number): _summary(cell) for number, cell in cells.items()}
    for arm, cells in result.cells.items()
  }
  for arm, by_number in verdicts.items():
    for number, found in by_number.items():
      summary[arm][str(number)]["verdicts"] = plain(found)
  return summary


def _summary(cell: Cell) -> dict:
  table = {name: _means(found) for name, found in cell.attacked.items()}
  accuracies = {"train_accuracy": cell.accuracy, "holdout_accuracy": cell.holdout_accuracy}
  table["model"] = {
    name: _interval(values[cell.healthy].astype(float)) for name, values in accuracies.items()
  }
  table["chance"] = {"members_first": cell.chance, "identified": cell.chance_identified}
  if cell.field:
    table["field"] = {name: _means(found) for name, found in cell.field.items()}
  return table | {"diverged": [int(seed) for seed in np.flatnonzero(~cell.healthy)]}


def _means(found: Sequence[Attacked | Guess | None]) -> dict:
  rows = [_measures(one) for one in found if one is not None]
  names = rows[0] if rows else ()
  return {name: _interval(np.array([row[name] for row in rows])) for name in names}


def _measures(one: Attacked | Guess) -> dict[str, float]:
  if isinstance(one, Guess):
    more = {"loss": one.loss, "seconds": one.seconds, "restarts": float(one.restarts)}
    return one.score.shares() | more
  stability = one.unmixed.stability
  return one.score.shares() | {
    "counted": float(one.unmixed.count.number),
    "stability": float(stability.mean()) if len(stability) else np.nan,
    "seconds": one.seconds,
  }


def _interval(values: np.ndarray) -> dict:
  return mean_intervals(values[np.isfinite(values)][None])[0]._asdict()


def _rows(result: Result) -> Iterable[list[str]]:
  """components.csv: what was found with W0, a row a component."""
  for arm, cells in result.cells.items():
    for number, cell in cells.items():
      for seed, found in enumerate(cell.attacked.get(UNMIXED, ())):
        if found is None:
          continue
        score, stability = found.score, found.unmixed.stability
        for i, closest in enumerate(score.closest):
          numbers = (stability[i], score.correlation[i], score.edge_correlation[i])
          sure, seen, edge = map(exact, numbers)
          member = str(bool(score.is_member[i]))
          yield [arm, str(seed), str(number), str(i), sure, str(closest), member, seen, edge]


def _stacked(images: list[np.ndarray | None]) -> np.ndarray:
  """Components by seed; NaN where a seed has fewer than another, or diverged."""
  shape = next(x.shape[1:] for x in images if x is not None)
  most = max(len(x) for x in images if x is not None)
  whole = np.full((len(images), most, *shape), np.nan, np.float32)
  for place, found in zip(whole, images, strict=True):
    if found is not None:
      place[: len(found)] = found
  return whole
