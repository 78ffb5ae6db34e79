"""The page of an audit, which one reads in a minute: the verdict, the clearest images, the numbers.

`to_json`, `summary_lines` and `verdict` are for whoever writes audit.json and to the console.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxinv.auditing import figures
from jaxinv.auditing.findings import Audit, Finding, Tensor, rank
from jaxinv.auditing.to_json import to_json, unit_json
from jaxinv.auditing.verdict import (
  count,
  coverage,
  flagged,
  meaning_of_alpha,
  plural,
  summary_lines,
  telling,
  two_digits,
  values_of,
  verdict,
)
from jaxinv.runs.figures import save
from jaxinv.runs.page import Picture, Section, Table, run_section, write_report
from jaxinv.types import References

__all__ = ["Story", "summary_lines", "to_json", "verdict", "write_page"]

_MOST_ROWS = 300  # Images told of one by one on the page.
# Findings told of one by one: in the long table; in the short one and the figure; as mosaics.
_MOST_FINDINGS, _MOST_DRAWN, _MOST_MOSAICS = 300, 12, 6
# Other things told of one by one on the page.
_MOST_TENSORS, _MOST_NOTES, _MOST_REASONS = 1000, 20, 15
# Where nothing is flagged, so many images show that there is nothing to see.
_FEW = 8

_KINDS = (
  "**Class images**: one a class, what the model weighs each pixel by for that class; with hidden "
  "layers the sum of the first layer's units, weighted by the layers behind it. **Units**: one a "
  "hidden unit, or one a place of an axis of which nothing more is known. **Filters** are no part "
  "of the verdict: every trained convolution learns edges and blobs, whatever it was trained on, "
  "and so small a patch shows nobody."
)
_READING = (
  "**Moran's I** is how alike neighbouring pixels are: near 0 in noise, near 1 in a smooth image. "
  "Structure is found where it is larger than in the same pixels in random order; or where that "
  "is so of the pixels' distances from their mean, which tell where training moved weights at all.",
  "**Resemblance** is the correlation with a person's mean image, both less what all people have "
  "in common: 1 is a perfect copy up to brightness and contrast, 0 nothing; it is negative where a "
  "hidden unit holds the face as a negative. It counts where somebody stands out more than anybody "
  "would among people who are all alike to the image.",
  "**No structure is no proof of no leak**: an image may be covered by noise that an attacker who "
  "holds more can take away (the initial weights, several models), or lie there in a form that was "
  "not tried.",
)
_MEASURES = (
  "Class images against the mean reference image of each class; means over classes. ncc_centred: "
  "correlation with what sets the class apart from all others, 1 is a perfect copy. "
  "identification: share of classes whose image is closest to their own references, and "
  "identification_p the chance of so many if it were nobody's. ncc, ssim and psnr (dB): likeness "
  "to the mean itself, which all classes share in part."
)


class Story(NamedTuple):
  """All that the page tells of.

  Attributes:
    audit: what was found.
    config: what config.json holds: versions, device, precision, git_revision, flags.
    command: the command line that makes this run.
  """

  audit: Audit
  config: Mapping
  command: str


def write_page(out_dir: Path, story: Story) -> Path:
  """Draws all figures and writes report.html.

  Args:
    out_dir: the run's folder.
    story: what to tell.

  Returns:
    The page's path.
  """
  audit, folder = story.audit, out_dir / "figures"
  first, *more = verdict(audit)
  lead = [f"**{first}** {' '.join(more)}"]
  sections = [
    _clearest_section(audit, folder),
    _findings_section(audit, folder),
    _unseen_section(audit),
    _every_finding_section(audit),
    _mosaics_section(audit, folder),
    _units_section(audit),
    _tensors_section(audit),
    Section(
      "How to read this", [*_attack_lines(audit), *_READING, meaning_of_alpha(audit)], folded=True
    ),
    run_section(story.command, story.config),
  ]
  told = [section for section in sections if section]
  return write_report(out_dir / "report.html", "What do these weights show?", lead, told)


def _attack_lines(audit: Audit) -> list[str]:
  """What each attack does that was carried out."""
  attacks = {finding.attack.name: finding.attack for finding in audit.findings}
  return [f"**{name}**: {it.how or it.label}." for name, it in attacks.items()]


def _draw(folder: Path, name: str, figure, caption: str, dpi: int = 110) -> Picture:
  return Picture(save(figure, folder / f"{name}.png", dpi), caption)


def _clearest_section(audit: Audit, folder: Path) -> Section | None:
  known = audit.references
  picks = figures.clearest(audit, figures.MOST_SHOWN if known is None else figures.MOST_PAIRS)
  if not picks:
    return None
  caption = (
    "Above each image its number, Moran's I, and the attack that shows it best (further ones are "
    "below)."
  )
  if known is not None:
    caption += (
      " Below it the nearest reference photograph, with its name and correlation (both less what "
      "all have in common); where a face is there as a negative, a photograph of that person."
    )
  if not picks[0].flagged:
    picks = picks[:_FEW]
    caption += " None of these is told from noise; they are the smoothest."
  elif known is not None:
    caption += (
      " An orange frame: by itself it singles out that person beyond chance. A blue one: it has "
      "structure, but not so clearly anybody's."
    )
  else:
    caption += " All of these have structure beyond chance."
  figure = figures.clearest_figure(audit, picks)
  picture = _draw(folder, "clearest", figure, caption + _channels(audit))
  title = "The clearest images" if picks[0].flagged else "What there is to see"
  return Section(title, pictures=[picture])


def _channels(audit: Audit) -> str:
  """A caveat where images have other channels than grey or three colours."""
  shown = {finding.images.shape[-1] for finding in audit.findings} - {1, 3}
  return " Of images of other than 1 or 3 channels the mean over channels is shown." * bool(shown)


def _findings_section(audit: Audit, folder: Path) -> Section | None:
  if not audit.findings:
    return None
  drawn = telling(audit.findings, _MOST_DRAWN)
  caption = "Every image that was looked at, one mark each"
  if len(drawn) < len(audit.findings):
    caption += f" ({len(drawn)} of {len(audit.findings)} findings, those that tell the most)"
  pictures = [_draw(folder, "scores", figures.scores_figure(drawn), f"{caption}.")]
  tables = [_findings_table(audit, drawn)]
  if audit.measures:
    tables.append(_measures_table(audit))
  return Section("What was found", [_KINDS], pictures, tables)


def _findings_table(audit: Audit, shown: Sequence[Finding]) -> Table:
  head = ["tensor", "attack", "the attacker holds", "images", "structured"]
  head += ["single out a person"] * (audit.references is not None) + ["median I"]
  rows = []
  for f in shown:
    num = len(f.morans_i)
    images = f"{num:,} {f.what if num == 1 else plural(f.what)}"
    row = [f.source, f.attack.name, f.attack.knowledge, images, _part(f, "structured")]
    row += [_part(f, "matched")] * (audit.references is not None)
    rows.append([*row, two_digits(np.median(f.morans_i)) if num else ""])
  caption = "By tensor and attack: how many images are flagged, and the median of Moran's I."
  if left := len(audit.findings) - len(shown):
    caption += f" {count(left, 'finding')} more in audit.json, which tell less."
  return Table(caption, head, rows)


def _every_finding_section(audit: Audit) -> Section | None:
  if len(audit.findings) <= _MOST_DRAWN:
    return None
  table = _findings_table(audit, telling(audit.findings, _MOST_FINDINGS))
  return Section("Every finding", tables=[table], folded=True)


def _part(finding: Finding, flag: str) -> str:
  number = flagged(finding, flag)
  if number is None:
    return ""
  return f"{number:,} ({number / max(len(finding.morans_i), 1):.0%})"


def _measures_table(audit: Audit) -> Table:
  names = list(dict.fromkeys(name for values in audit.measures.values() for name in values))
  rows = [
    [attack, *(_measured(name, values[name]) if name in values else "" for name in names)]
    for attack, values in audit.measures.items()
  ]
  return Table(_MEASURES, ["attack", *names], rows)


def _measured(name: str, value: float) -> str:
  return f"{value:.1g}" if name.endswith("_p") else f"{value:.3f}"


def _unseen_section(audit: Audit) -> Section:
  known = audit.references
  notes = list(dict.fromkeys([*audit.notes, *(known.notes if known else ())]))
  text = [coverage(audit), *notes[:_MOST_NOTES]]
  if len(notes) > _MOST_NOTES:
    text.append(f"{count(len(notes) - _MOST_NOTES, 'note')} more in audit.json.")
  by_reason = defaultdict(list)
  for tensor in audit.tensors:
    if tensor.use == "none":
      by_reason[tensor.why].append(tensor)
  if not by_reason:
    return Section("What was assumed, and what was not looked at", text)
  total = {why: sum(values_of(t.shape) for t in some) for why, some in by_reason.items()}
  reasons = sorted(total, key=lambda why: -total[why])
  rows = [
    (why, f"{len(by_reason[why]):,}", f"{total[why]:,}", _examples(by_reason[why]))
    for why in reasons[:_MOST_REASONS]
  ]
  caption = "Tensors that were not looked at, by reason; those with the most values first."
  if len(reasons) > _MOST_REASONS:
    caption += f" {count(len(reasons) - _MOST_REASONS, 'reason')} more under Every tensor."
  head = ("why", "tensors", "values", "such as")
  return Section(
    "What was assumed, and what was not looked at", text, tables=[Table(caption, head, rows)]
  )


def _examples(tensors: Sequence[Tensor]) -> str:
  names = [f"{tensor.name} {_shape(tensor)}" for tensor in tensors[:3]]
  return ", ".join(names) + ", …" * (len(tensors) > 3)


def _shape(tensor: Tensor) -> str:
  return f"[{', '.join(map(str, tensor.shape))}]"


def _mosaics_section(audit: Audit, folder: Path) -> Section | None:
  shown = [f for f in telling(audit.findings, _MOST_MOSAICS) if len(f.kept)]
  if not shown:
    return None
  pictures = []
  for i, finding in enumerate(shown):
    num, drawn = len(finding.morans_i), min(len(finding.kept), figures.MOST_TILES)
    which = f"all {num:,}" if drawn == num else f"the clearest {drawn} of {num:,}"
    caption = f"{finding.source}, {finding.attack.name}: {which} {plural(finding.what)}."
    # Noise cannot be compressed: at full size so many images would take megabytes.
    pictures.append(_draw(folder, f"images_{i}", figures.all_figure(finding), caption, dpi=75))
  orange = " Orange frames: it singles out a person beyond chance." * (audit.references is not None)
  text = [f"Blue frames: structure beyond chance.{orange}{_channels(audit)}"]
  if len(shown) < len(audit.findings):
    text.append(f"{len(shown)} of {count(len(audit.findings), 'finding')}, those that tell most.")
  return Section("All images", text, pictures, folded=True)


def _units_section(audit: Audit) -> Section | None:
  """The images by number, a table a finding."""
  shown = telling(audit.findings, _MOST_DRAWN)
  if not shown:
    return None
  known, each = audit.references, _MOST_ROWS // len(shown)
  head = ["image", "Moran's I", "p", "q", "structured"]
  if known is not None:
    head += ["stands out", "correlation", "match q", "resembles", "nearest photograph"]
  tables = []
  for finding in shown:
    units = rank(finding)[:each]
    caption = f"{finding.source}, {finding.attack.name}: the clearest first"
    if left := len(finding.morans_i) - len(units):
      caption += f"; {left:,} are left out here"
    rows = [_unit_row(finding, known, int(unit)) for unit in units]
    tables.append(Table(f"{caption}.", head, rows))
  text = ["q is p corrected for the number of images; images are flagged by q."]
  if len(shown) < len(audit.findings):
    text.append(
      f"Of {len(shown)} of {count(len(audit.findings), 'finding')}, those that tell most."
    )
  return Section("Every image", text, tables=tables, folded=True)


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


def _tensors_section(audit: Audit) -> Section:
  rows = [(t.name, _shape(t), t.dtype, t.use, t.why) for t in audit.tensors[:_MOST_TENSORS]]
  caption = "What became of each tensor."
  if left := len(audit.tensors) - len(rows):
    caption += f" {count(left, 'tensor')} more in audit.json."
  table = Table(caption, ("tensor", "shape", "type", "use", "why"), rows)
  return Section("Every tensor", tables=[table], folded=True)
