"""What an audit found, as a pipeline reads it: the contents of audit.json."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxinv.auditing.findings import Audit, Finding, Unmixing, rank
from jaxinv.auditing.verdict import flagged, verdict
from jaxinv.types import References

# Images told of one by one: in the whole file, and of any finding at least.
_MOST_UNITS, _FEWEST_UNITS = 4000, 10


def to_json(audit: Audit, command: str, config: Mapping) -> dict[str, Any]:
  """Everything an audit found, as audit.json holds it: strict JSON, null where there is no value.

  Its keys:
    verdict: `structure` and `match` (whether any class image or unit has structure, or resembles
      somebody; null without references), `text` the same in words.
    alpha, image_shape [height, width, channels], command, measures {attack: {measure: mean}},
      notes.
    weights: what `config["weights"]` has: the files and their SHA-256. versions, git_revision:
      likewise from `config`.
    references: null, or `images`, `people`, `grouped`, `notes`.
    tensors: of each `name`, `shape`, `dtype`, `use` and `why`, see `findings.Tensor`.
    findings: of each `source`, `attack`, `knowledge` (what the attacker holds), `what`, `layout`,
      `num` (of images), `structured` and `matched` (how many are flagged; the latter null without
      references), `share` (structured / num), `median_morans_i`, `units`, and `units_left_out`:
      how many of these are not listed. The flagged and then the clearest are listed first, see
      `findings.rank`; at most about 4,000 in the whole file.
    units, in rising order: `index`, `morans_i`, `p`, `q`, `structured`; and with references, else
      null: `person` (that stands out most), `person_ncc`, `match_p`, `match_q`, `matched`, and
      `nearest`: the nearest reference images [{`file`, `ncc`}], else [].
    unmixed: null without earlier weights or an optimiser's sum of gradients, where certain attacks
      were asked for, and for models that it is not for; else `tensor`, `knowledge`, `photographs`
      (how many it is made of; null where the singular values do not tell, which is no sign of
      safety), `cliff` (the factor by which they fall behind these; where it is not `certain`,
      beyond any fall near it), `certain`,
      `stability` (the mean), `matched` (how many clearly match a reference; null without), and of
      the `images`, where they were separated: `index`, `stability`, and `nearest` (a reference's
      file), `ncc`, `detail_ncc` (over second differences) and `matched`, or null.

  Args:
    audit: what was found.
    command: the command line that made it.
    config: what config.json holds.

  Returns:
    Mappings, lists, texts and numbers only. Floats have 6 digits.
  """
  most = max(_FEWEST_UNITS, _MOST_UNITS // max(len(audit.findings), 1))
  known = audit.references
  told = {
    "verdict": {
      "structure": audit.structure,
      "match": audit.match,
      "text": " ".join(verdict(audit)),
    },
    "alpha": audit.alpha,
    "image_shape": list(audit.image_shape),
    "command": command,
    "weights": config.get("weights", []),
    "versions": dict(config["versions"]),
    "git_revision": config.get("git_revision"),
    "references": known and _references_json(known),
    "tensors": [{**tensor._asdict(), "shape": list(tensor.shape)} for tensor in audit.tensors],
    "findings": [_finding_json(finding, known, most) for finding in audit.findings],
    "measures": {attack: dict(values) for attack, values in audit.measures.items()},
    "unmixed": audit.unmixed and _unmixed_json(audit.unmixed, known),
    "notes": list(audit.notes),
  }
  return _strict(told)


def _unmixed_json(found: Unmixing, known: References | None) -> dict[str, Any]:
  separated = bool(len(found.images))
  compared = separated and known is not None and found.nearest is not None
  told: dict[str, Any] = {
    "tensor": found.source,
    "knowledge": found.knowledge,
    "photographs": found.count.number or None,
    "cliff": found.count.cliff,
    "certain": found.count.certain,
    "stability": found.stability.mean() if separated else None,
    "matched": int(found.matched.sum()) if compared else None,
    "images": [{"index": i, "stability": value} for i, value in enumerate(found.stability)],
  }
  for i, image in enumerate(told["images"]):
    image |= dict.fromkeys(("nearest", "ncc", "detail_ncc", "matched"))
    if compared and found.nearest[i] >= 0:
      nearest = known.files[found.nearest[i]]
      image |= {"nearest": nearest, "ncc": found.nearest_ncc[i]}
      image |= {"detail_ncc": found.nearest_detail_ncc[i], "matched": found.matched[i]}
  return told


def _references_json(known: References) -> dict[str, Any]:
  return {
    "images": len(known.files),
    "people": len(known.people),
    "grouped": known.grouped,
    "notes": list(known.notes),
  }


def _finding_json(finding: Finding, known: References | None, most: int) -> dict[str, Any]:
  num = len(finding.morans_i)
  structured = flagged(finding, "structured")
  listed = np.sort(rank(finding)[:most])
  return {
    "source": finding.source,
    "attack": finding.attack.name,
    "knowledge": finding.attack.knowledge,
    "what": finding.what,
    "layout": finding.layout,
    "num": num,
    "structured": structured,
    "share": structured / max(num, 1),
    "matched": flagged(finding, "matched"),
    "median_morans_i": np.median(finding.morans_i) if num else None,
    "units": [unit_json(finding, known, int(unit)) for unit in listed],
    "units_left_out": num - len(listed),
  }


def unit_json(finding: Finding, known: References | None, unit: int) -> dict[str, Any]:
  """What is told of one image; see `to_json`.

  Args:
    finding: whose it is.
    known: what it was compared with.
    unit: its class or unit.

  Returns:
    The keys of a unit; numbers as numpy has them.
  """
  told: dict[str, Any] = {
    "index": unit,
    "morans_i": finding.morans_i[unit],
    "p": finding.p_values[unit],
    "q": finding.q_values[unit],
    "structured": bool(finding.structured[unit]),
    **dict.fromkeys(("person", "person_ncc", "match_p", "match_q", "matched")),
    "nearest": [],
  }
  match = finding.match
  if match is None or known is None:
    return told
  nearest = zip(match.nearest[unit], match.nearest_ncc[unit], strict=True)
  return told | {
    "person": known.people[match.person[unit]],
    "person_ncc": match.person_ncc[unit],
    "match_p": match.p_values[unit],
    "match_q": None if finding.match_q is None else finding.match_q[unit],
    "matched": None if finding.matched is None else bool(finding.matched[unit]),
    "nearest": [{"file": known.files[i], "ncc": ncc} for i, ncc in nearest],
  }


def _strict(value: Any) -> Any:
  """The same in JSON's own types: numbers of numpy made plain, those that are not finite null."""
  if isinstance(value, Mapping):
    return {str(name): _strict(one) for name, one in value.items()}
  if isinstance(value, (list, tuple)):
    return [_strict(one) for one in value]
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, float):
    return float(f"{value:.6g}") if math.isfinite(value) else None
  return value if isinstance(value, (bool, int, str, type(None))) else str(value)
