"""The page of an audit: its figures, and the numbers that its template is filled with."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxinv.auditing import figures
from jaxinv.auditing.findings import Audit, Finding, Tensor, rank
from jaxinv.auditing.to_json import unit_json
from jaxinv.auditing.unmixing import ALIKE, ALIKE_DETAIL
from jaxinv.auditing.verdict import (
  coverage,
  flagged,
  meaning_of_alpha,
  telling,
  unmixed_words,
  values_of,
  verdict,
)
from jaxinv.runs import page
from jaxinv.runs.figures import save
from jaxinv.runs.text import count, number, percent
from jaxinv.types import References

_MOST_ROWS = 300  # Images told of one by one on the page.
# Findings told of one by one: in the long table; in the short one and the figure; as mosaics.
_MOST_FINDINGS, _MOST_DRAWN, _MOST_MOSAICS = 300, 12, 6
# Other things told of one by one on the page.
_MOST_TENSORS, _MOST_NOTES, _MOST_REASONS = 1000, 20, 15
# Where nothing is flagged, so many images show that there is nothing to see.
_FEW = 8


class PageData(NamedTuple):
  """All that the page is of.

  Attributes:
    audit: what was found.
    config: what config.json holds: versions, device, precision, git_revision, flags.
    command: the command line that makes this run.
  """

  audit: Audit
  config: Mapping
  command: str


def write_page(out_dir: Path, data: PageData) -> Path:
  """Draws all figures and writes report.html.

  Args:
    out_dir: the run's folder.
    data: what the page is of.

  Returns:
    The page's path.
  """
  audit, folder = data.audit, out_dir / "figures"
  attacks = {finding.attack.name: finding.attack for finding in audit.findings}
  values = {
    "verdict": verdict(audit),
    "coverage": coverage(audit),
    "alpha_meaning": meaning_of_alpha(audit),
    "references": audit.references is not None,
    "odd_channels": bool({it.images.shape[-1] for it in audit.findings} - {1, 3}),
    "attacks": [(name, attack.how or attack.label) for name, attack in attacks.items()],
    "config": data.config,
    "command": data.command,
    **_clearest(audit, folder),
    **_unmixed(audit, folder),
    **_findings(audit, folder),
    "measures": _measures(audit),
    **_unseen(audit),
    "mosaics": _mosaics(audit, folder),
    **_units(audit),
  }
  return page.write_page(out_dir / "report.html", __package__, values)


def _clearest(audit: Audit, folder: Path) -> dict[str, Any]:
  """The figure of the clearest images, and whether they are told from noise."""
  most = figures.MOST_SHOWN if audit.references is None else figures.MOST_PAIRS
  picks = figures.clearest(audit, most)
  if not picks:
    return {"clearest": None}
  picks = picks if picks[0].flagged else picks[:_FEW]
  path = save(figures.clearest_figure(audit, picks), folder / "clearest.png")
  return {"clearest": path, "flagged": picks[0].flagged}


def _unmixed(audit: Audit, folder: Path) -> dict[str, Any]:
  """What the change of the first layer is made of, and the figure of it."""
  found, known = audit.unmixed, audit.references
  if found is None or not len(found.images):
    return {"unmixed": None, "unmixed_words": unmixed_words(audit)}
  drawn = figures.unmixed_figure(found, known)
  return {
    "unmixed": save(drawn, folder / "unmixed.png"),
    "unmixed_words": unmixed_words(audit),
    "unmixed_drawn": min(len(found.images), figures.MOST_SHOWN),
    "unmixed_num": len(found.images),
    "unmixed_scaled": found.is_scaled,
    "alike": ALIKE,
    "alike_detail": ALIKE_DETAIL,
  }


def _findings(audit: Audit, folder: Path) -> dict[str, Any]:
  """The scores of every image, and a row a finding."""
  if not audit.findings:
    return {"num_findings": 0, "every_finding": ()}
  drawn, num = telling(audit.findings, _MOST_DRAWN), len(audit.findings)
  listed = telling(audit.findings, _MOST_FINDINGS) if num > _MOST_DRAWN else ()
  compared = ["single out a person"] * (audit.references is not None)
  head = ["tensor", "attack", "the attacker holds", "images", "structured", *compared, "median I"]
  return {
    "num_findings": num,
    "scores": save(figures.scores_figure(drawn), folder / "scores.png"),
    "findings_head": head,
    "drawn_findings": [_finding_row(it, compared) for it in drawn],
    "every_finding": [_finding_row(it, compared) for it in listed],
  }


def _finding_row(finding: Finding, compared: Sequence[str]) -> list[str]:
  num, attack = len(finding.morans_i), finding.attack
  row = [finding.source, attack.name, attack.knowledge, count(num, finding.what)]
  row += [_part(finding, flag) for flag in ("structured", "matched")[: 1 + len(compared)]]
  return [*row, number(np.median(finding.morans_i), 2) if num else ""]


def _part(finding: Finding, flag: str) -> str:
  amount = flagged(finding, flag)
  if amount is None:
    return ""
  return f"{amount:,} ({percent(amount / max(len(finding.morans_i), 1))})"


def _measures(audit: Audit) -> dict[str, list] | None:
  if not audit.measures:
    return None
  names = list(dict.fromkeys(name for values in audit.measures.values() for name in values))
  rows = [
    [attack, *(_measured(name, values.get(name)) for name in names)]
    for attack, values in audit.measures.items()
  ]
  return {"head": ["attack", *names], "rows": rows}


def _measured(name: str, value: float | None) -> str:
  return f"{value:.1g}" if value is not None and name.endswith("_p") else number(value)


def _unseen(audit: Audit) -> dict[str, Any]:
  """Notes, every tensor, and those that were not looked at by reason."""
  known = audit.references
  notes = list(dict.fromkeys([*audit.notes, *(known.notes if known else ())]))
  by_reason = defaultdict(list)
  for tensor in audit.tensors:
    if tensor.use == "none":
      by_reason[tensor.why].append(tensor)
  total = {why: sum(values_of(t.shape) for t in some) for why, some in by_reason.items()}
  reasons = sorted(total, key=lambda why: -total[why])
  return {
    "notes": notes[:_MOST_NOTES],
    "notes_left": len(notes[_MOST_NOTES:]),
    "reasons": [
      (why, f"{len(by_reason[why]):,}", f"{total[why]:,}", _examples(by_reason[why]))
      for why in reasons[:_MOST_REASONS]
    ],
    "reasons_left": len(reasons[_MOST_REASONS:]),
    "tensors": [(t.name, _shape(t), t.dtype, t.use, t.why) for t in audit.tensors[:_MOST_TENSORS]],
    "tensors_left": len(audit.tensors[_MOST_TENSORS:]),
  }


def _examples(tensors: Sequence[Tensor]) -> str:
  names = [f"{tensor.name} {_shape(tensor)}" for tensor in tensors[:3]]
  return ", ".join(names) + ", …" * (len(tensors) > 3)


def _shape(tensor: Tensor) -> str:
  return f"[{', '.join(map(str, tensor.shape))}]"


def _mosaics(audit: Audit, folder: Path) -> list[dict[str, Any]]:
  """Figures of all images of a finding, and how many are in each."""
  findings = [it for it in telling(audit.findings, _MOST_MOSAICS) if len(it.kept)]
  return [
    {
      # Noise cannot be compressed: at full size so many images would take megabytes.
      "path": save(figures.all_figure(finding), folder / f"images_{i}.png", dpi=75),
      "source": finding.source,
      "attack": finding.attack.name,
      "what": finding.what,
      "num": len(finding.morans_i),
      "drawn": min(len(finding.kept), figures.MOST_TILES),
    }
    for i, finding in enumerate(findings)
  ]


def _units(audit: Audit) -> dict[str, Any]:
  """The images by number, rows for each finding."""
  findings, known = telling(audit.findings, _MOST_DRAWN), audit.references
  each = _MOST_ROWS // max(len(findings), 1)
  head = ["image", "Moran's I", "p", "q", "structured"]
  if known is not None:
    head += ["stands out", "correlation", "match q", "resembles", "nearest photograph"]
  tables = [
    {
      "source": finding.source,
      "attack": finding.attack.name,
      "left": max(0, len(finding.morans_i) - each),
      "rows": [_unit_row(finding, known, int(unit)) for unit in rank(finding)[:each]],
    }
    for finding in findings
  ]
  return {"units_head": head, "units": tables}


def _unit_row(finding: Finding, known: References | None, unit: int) -> list[str]:
  told = unit_json(finding, known, unit)
  row = [f"{finding.what} {unit}", f"{told['morans_i']:.3f}", f"{told['p']:.2g}"]
  row += [f"{told['q']:.2g}", _yes(told["structured"])]
  if known is None:
    return row
  if told["person"] is None or told["match_q"] is None:
    return [*row, *[""] * 5]
  row += [told["person"], f"{told['person_ncc']:.3f}", f"{told['match_q']:.2g}"]
  nearest = [f"{one['file']} ({one['ncc']:.2f})" for one in told["nearest"][:1]]
  return [*row, _yes(told["matched"]), *(nearest or [""])]


def _yes(flag: bool) -> str:
  return "yes" if flag else "no"
