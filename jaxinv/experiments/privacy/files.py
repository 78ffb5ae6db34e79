"""The files that a run on privacy writes beside those of every run."""

from pathlib import Path

from jaxinv.experiments.files import write_arms
from jaxinv.experiments.privacy.audit import Audit
from jaxinv.experiments.privacy.privacy import Point, Result
from jaxinv.experiments.privacy.settings import PrivacySpec
from jaxinv.runs import files
from jaxinv.runs.tables import exact, plain, write_csv

# Where summary.json has what the canaries prove; no arm is called so.
AUDIT = "audit"


def write_privacy(out_dir: Path, spec: PrivacySpec, result: Result) -> dict:
  """Writes a run's numbers, images and weights.

  Args:
    out_dir: the run's folder.
    spec: of the run.
    result: what came of it.

  Returns:
    The summary, as recorded in summary.json.
  """
  summary = write_arms(out_dir, result.outcome)
  for name, point in result.points.items():
    summary[name]["privacy"] = plain({"delta": spec.delta, **_promised(point)})
  summary[AUDIT] = [plain(audit_values(audit)) for audit in result.audits]
  files.write_json(out_dir / "summary.json", summary)
  _write_curve(out_dir, result)
  _write_tuning(out_dir, result)
  if result.audits:
    head = list(audit_values(result.audits[0]))
    rows = [[_cell(x) for x in audit_values(audit).values()] for audit in result.audits]
    write_csv(out_dir / "audit.csv", head, rows)
    scores = {f"{epsilon:g}": values for epsilon, values in result.scores.items()}
    files.write_npz(out_dir / "audit.npz", scores)
  return summary


def _promised(point: Point) -> dict:
  """An arm's guarantee, how it was trained, and what was measured of it."""
  values = point._asdict()
  names = ("accuracy", "leakage", "attack", "naive", "identified", "identifier", "limits")
  chosen = {k: v for k, v in point.chosen._asdict().items() if k != "epsilon"}
  promised = point.guarantee._asdict() if point.guarantee else {}
  return {"epsilon": promised, **chosen, **{name: values[name] for name in names}}


def audit_values(audit: Audit) -> dict:
  """What audit.csv and summary.json say of one audit."""
  return {
    "epsilon": audit.epsilon,
    "noise": audit.noise,
    "canary": audit.canary,
    "attacker": audit.attacker,
    "by_errors": audit.bound.epsilon,
    "by_noise": audit.by_noise,
    "advantage": audit.advantage,
    "advantage_limit": audit.limit,
    "false_alarms": audit.errors.false_alarms,
    "misses": audit.errors.misses,
    "models": audit.errors.num_with,
    "refutes": audit.refutes,
  }


def _cell(value: object) -> str:
  return exact(value) if isinstance(value, float) else str(value)


def _write_curve(out_dir: Path, result: Result) -> None:
  """Writes curve.csv: a row an arm and quantity, with its interval and what bounds it."""
  rows = []
  for name, point in result.points.items():
    limits = {"identified": point.limits.recovered_person}
    how = {"leakage": point.attack, "identified": point.identifier, "naive": "reshape"}
    for quantity in ("accuracy", "leakage", "naive", "identified"):
      found = getattr(point, quantity)
      ends = map(exact, (found.mean, found.low, found.high, limits.get(quantity)))
      rows.append([name, exact(point.chosen.epsilon), quantity, how.get(quantity) or "", *ends])
      rows[-1].append(str(found.n))
  head = ["arm", "epsilon", "quantity", "attack", "mean", "low", "high", "limit", "n"]
  write_csv(out_dir / "curve.csv", head, rows)


def _write_tuning(out_dir: Path, result: Result) -> None:
  """Writes tuning.csv: a row a candidate and tuning seed."""
  chosen = set(result.tuning.best.values())
  rows = [
    [c.name, *(exact(x) for x in c[1:]), str(seed), exact(value), str(c in chosen)]
    for c, values in zip(result.tuning.candidates, result.tuning.accuracy, strict=True)
    for seed, value in enumerate(values)
  ]
  head = ["arm", "batch", "learning_rate", "clip", "noise", "tuning_seed", "holdout_accuracy"]
  write_csv(out_dir / "tuning.csv", [*head, "chosen"], rows)
