"""Figures of an audit: the clearest images, all images, and where their scores lie."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from jaxinv.auditing.findings import Audit, Finding, Unmixing, clearness, rank
from jaxinv.metrics.images import normalize
from jaxinv.runs.figures import colour, legend, new_figure, short
from jaxinv.runs.text import count, number
from jaxinv.types import References

# At most so many recovered images in the first figure; of one or two a column with references.
MOST_SHOWN, MOST_PAIRS = 24, 16
# Of a finding's images, in the figure of all of them.
MOST_TILES = 100

# What is flagged has these colours everywhere.
_STRUCTURED, _MATCHED = colour(0), colour(1)
_WIDTH = 10.0  # Of a figure, in inches.
_LINE = 0.14  # Of text between images, in inches.
_OUTSIDE = 0.1  # Of [0, 1], a pixel that is an input may be by error.
_MOST_LETTERS = 16  # Of a line above a photograph.


class Pick(NamedTuple):
  """One of the clearest images.

  Attributes:
    finding: where it is from.
    place: its place among the finding's images.
    unit: its class or unit.
  """

  finding: Finding
  place: int
  unit: int

  @property
  def matched(self) -> bool:
    """Whether it resembles somebody beyond chance."""
    return self.finding.matched is not None and bool(self.finding.matched[self.unit])

  @property
  def structured(self) -> bool:
    """Whether it has structure that noise has not."""
    return bool(self.finding.structured[self.unit])

  @property
  def flagged(self) -> bool:
    """Whether it is either."""
    return self.matched or self.structured

  @property
  def frame(self) -> str | None:
    """The colour that says so."""
    return _MATCHED if self.matched else _STRUCTURED if self.structured else None


class Tile(NamedTuple):
  """An image of a mosaic, the words above it, and the colour of its frame, if it has one."""

  image: Float[np.ndarray, "h w *c"]
  words: str = ""
  frame: str | None = None


def clearest(audit: Audit, most: int) -> list[Pick]:
  """The clearest images of classes, then of units; each class or unit once, by its best attack.

  Of attacks that flag an image alike, one that takes the weights alone comes first: others would
  make them look worse than they are.

  Args:
    audit: what was found. Filters are left out.
    most: how many at most; half of them units where both have something to show.

  Returns:
    Those that are flagged, those that resemble somebody first; where none is, the smoothest.
  """
  classes, units = (_clearest_of(audit, what, most) for what in ("class", "unit"))
  if any(pick.flagged for pick in classes + units):
    classes, units = ([p for p in some if p.flagged] for some in (classes, units))
  classes = classes[: most - min(len(units), most // 2)]
  return classes + units[: most - len(classes)]


def _clearest_of(audit: Audit, what: str, most: int) -> list[Pick]:
  ranked = []
  for finding in (f for f in audit.findings if f.what == what):
    keys = clearness(finding)
    places = {int(unit): place for place, unit in enumerate(finding.kept)}
    alone = finding.attack.knowledge == "weights"
    for unit in [int(unit) for unit in rank(finding) if int(unit) in places][:most]:
      *flags, clear = (float(key[unit]) for key in keys)
      ranked.append(((*flags, alone, clear), Pick(finding, places[unit], unit)))
  ranked.sort(key=lambda one: one[0], reverse=True)
  best: dict[tuple, Pick] = {}
  for _, pick in ranked:
    best.setdefault((pick.finding.source, pick.unit), pick)
  return list(best.values())[:most]


def displayable(images: Float[np.ndarray, "s h w c"]) -> Float[np.ndarray, "s h w *c"]:
  """Recovered images in [0, 1] as they can be looked at, each scaled on its own, colours jointly.

  Args:
    images: in any unit.

  Returns:
    Of three channels in colour, else grey: the mean over channels.
  """
  if images.shape[-1] != 3:
    images = images.mean(-1)
  scale = jax.vmap(lambda image: normalize(image, largest=1.0))
  return np.asarray(scale(jnp.asarray(images, jnp.float32)))


def clearest_figure(audit: Audit, picks: Sequence[Pick]) -> Figure:
  """The clearest images, and with references a photograph below each.

  The photograph is the nearest one; below a face that is there as a negative, of which no
  photograph is near, it is the person's first.

  Args:
    audit: what was found.
    picks: which to show, in order.

  Returns:
    The figure.
  """
  sources = {(pick.finding.what, pick.finding.source) for pick in picks}
  several = len(sources) > len({what for what, _ in sources})
  upper = [_recovered_tile(pick, several) for pick in picks]
  if audit.references is None:
    return mosaic_figure([upper])
  return mosaic_figure([upper, [_photograph_tile(audit, pick) for pick in picks]])


def _recovered_tile(pick: Pick, several: bool) -> Tile:
  finding = pick.finding
  words = (
    f"{finding.what} {pick.unit}, I {number(finding.morans_i[pick.unit], 2)}\n{finding.attack.name}"
  )
  if several:
    words = f"{short(finding.source, 16)}\n{words}"
  return Tile(displayable(finding.images[pick.place][None])[0], words, pick.frame)


def _photograph_tile(audit: Audit, pick: Pick) -> Tile:
  match, known = pick.finding.match, audit.references
  if match is None:
    return Tile(np.ones(audit.image_shape[:2]))
  person, likeness = int(match.person[pick.unit]), float(match.person_ncc[pick.unit])
  name = short(known.people[person], 16)
  chosen = int(match.nearest[pick.unit, 0])
  words = f"{_file_words(known.files[chosen])}\n{match.nearest_ncc[pick.unit, 0]:+.2f}"
  if pick.matched and likeness < 0:
    chosen = int(np.flatnonzero(known.person == person)[0])
    words = f"{name}\nas a negative\n{likeness:+.2f}"
  elif pick.matched and known.person[chosen] != person:
    words += f", but\n{name} {likeness:+.2f}"
  return Tile(_grey_or_colour(known.images[chosen]), words)


def _file_words(name: str) -> str:
  """A photograph's name; where it is too long, its folder (the person) has a line of its own."""
  lines = [name] if len(name) <= _MOST_LETTERS else name.rsplit("/", 1)
  return "\n".join(short(line, _MOST_LETTERS) for line in lines)


def unmixed_figure(found: Unmixing, known: References | None) -> Figure:
  """The images that were unmixed, the most stable first; with references their photographs below.

  Args:
    found: at least one image.
    known: the references.

  Returns:
    The figure.
  """
  shown = found.images[:MOST_SHOWN]
  looks = as_inputs(shown) if found.is_scaled else displayable(shown)
  frames = [None] * len(shown)
  if found.matched is not None:
    frames = [_MATCHED if it else None for it in found.matched[:MOST_SHOWN]]
  upper = [
    Tile(look, f"image {i}, {number(found.stability[i], 2)}", frame)
    for i, (look, frame) in enumerate(zip(looks, frames, strict=True))
  ]
  if known is None or found.nearest is None:
    return mosaic_figure([upper])
  lower = []
  for i, chosen in enumerate(found.nearest[:MOST_SHOWN]):
    ncc, detail = found.nearest_ncc[i], found.nearest_detail_ncc[i]
    words = f"{_file_words(known.files[chosen])}\n{ncc:+.2f}, detail {detail:+.2f}"
    tile = Tile(_grey_or_colour(known.images[chosen]), words)
    lower.append(tile if chosen >= 0 else Tile(np.ones(shown.shape[1:3])))
  return mosaic_figure([upper, lower])


def as_inputs(images: Float[np.ndarray, "s h w c"]) -> Float[np.ndarray, "s h w *c"]:
  """Images in the inputs' unit as they are; as `displayable` those that do not lie in [0, 1]."""
  looks = np.clip(images, 0, 1)
  looks = looks if looks.shape[-1] == 3 else looks.mean(-1)
  inside = ((images > -_OUTSIDE) & (images < 1 + _OUTSIDE)).mean((1, 2, 3)) > 0.9
  return np.where(inside.reshape(-1, *[1] * (looks.ndim - 1)), looks, displayable(images))


def _grey_or_colour(photograph: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w *c"]:
  image = np.clip(photograph / 255, 0, 1)
  return image if image.shape[-1] == 3 else image.mean(-1)


def all_figure(finding: Finding) -> Figure:
  """All images of a finding by their number, or the clearest where they are too many.

  Args:
    finding: what an attack recovered.

  Returns:
    The figure.
  """
  places = np.argsort(rank(finding))[finding.kept]
  shown = np.sort(np.argsort(places)[:MOST_TILES])
  images = displayable(finding.images[shown])
  picks = [Pick(finding, int(i), int(finding.kept[i])) for i in shown]
  parts = zip(images, picks, strict=True)
  tiles = [Tile(image, str(pick.unit), pick.frame) for image, pick in parts]
  return mosaic_figure([tiles], area=0.62, most_columns=14)


def mosaic_figure(
  strips: Sequence[Sequence[Tile]], area: float = 1.5, most_columns: int = 8
) -> Figure:
  """Images in rows, words above each; where there are two strips the second lies below the first.

  Args:
    strips: tiles of one shape, in order; the strips are as long as one another.
    area: of an image, in square inches.
    most_columns: images beside one another, at most.

  Returns:
    The figure.
  """
  height, width = strips[0][0].image.shape[:2]
  # A longer image than this is drawn as if it were not: it could not be seen otherwise.
  ratio = float(np.clip(height / width, 0.2, 3.0))
  side, num = area**0.5, len(strips[0])
  most = int(np.clip(_WIDTH // max(side / ratio**0.5, 0.5 * side), 2, most_columns))
  columns, gap = min(most, num), 0.08 * side
  wide = _WIDTH / most - gap
  tall = wide * ratio
  heads = [_LINE * max(tile.words.count("\n") + 1 for tile in s) + 0.06 for s in strips]
  row_height = sum(heads) + len(strips) * tall + 2 * gap
  size = (max(columns * (wide + gap), 2.0), -(-num // columns) * row_height)
  figure, ((axis,),) = new_figure(1, 1, size)
  for below, strip in enumerate(strips):
    for i, tile in enumerate(strip):
      top = i // columns * row_height + sum(heads[: below + 1]) + below * tall
      place = (i % columns * (wide + gap), top, wide, tall)
      _draw_tile(axis, tile, place, 8 if area > 1 else 9, 2.2 if area > 1 else 1.4)
  axis.set(xlim=(-gap / 2, size[0] - gap / 2), ylim=(size[1] - gap, -gap), aspect="auto")
  axis.axis("off")
  return figure


def _draw_tile(
  axis: Axes, tile: Tile, place: tuple[float, float, float, float], size: int, line: float
) -> None:
  """Draws a tile at (left, top, width, height), all in inches; words end at its top."""
  left, top, wide, tall = place
  extent = (left, left + wide, top + tall, top)
  axis.imshow(tile.image, cmap="gray", vmin=0, vmax=1, extent=extent)
  look = {"fontsize": size, "parse_math": False, "linespacing": 1.1}
  axis.text(left + wide / 2, top - 0.05, tile.words, ha="center", va="bottom", **look)
  if tile.frame:
    look = {"fill": False, "edgecolor": tile.frame, "linewidth": line}
    axis.add_patch(Rectangle((left, top), wide, tall, **look))


def scores_figure(findings: Sequence[Finding]) -> Figure:
  """Moran's I of every image, a row a finding; with references also whom each resembles how much.

  Args:
    findings: one a row.

  Returns:
    The figure.
  """
  compared = any(finding.match is not None for finding in findings)
  size = (_WIDTH, 1.3 + 0.5 * max(len(findings), 2))
  figure, (axes,) = new_figure(1, 1 + compared, size, sharey=True)
  for row, finding in enumerate(findings):
    _strip(axes[0], row, finding.morans_i, finding.structured, _STRUCTURED)
    if finding.match is not None and finding.matched is not None:
      _strip(axes[1], row, finding.match.person_ncc, finding.matched, _MATCHED)
  names = [
    f"{short(f.source, 30)}\n{f.attack.name}, {count(len(f.morans_i), f.what)}" for f in findings
  ]
  axes[0].set_yticks(range(len(findings)), names, parse_math=False, fontsize=8)
  axes[0].set_ylim(len(findings) - 0.4, -0.6)
  axes[0].set_xlabel("Moran's I: noise is near 0, a smooth image near 1")
  marks = [_mark(_STRUCTURED), _mark(None)]
  words = ["structure beyond chance", "nothing beyond chance"]
  if compared:
    axes[1].set_xlabel("correlation with the person that stands out most")
    marks, words = (
      [marks[0], _mark(_MATCHED), marks[1]],
      [words[0], "singles out a person", words[1]],
    )
  for axis in axes:
    axis.axvline(0, color="black", linewidth=0.8)
    # Noise alone would fill the axis, and look as if it were something.
    axis.set_xlim(right=max(axis.get_xlim()[1], 0.3))
  legend(figure, marks, words, 3)
  return figure


def _strip(axis: Axes, row: int, values: np.ndarray, flagged: np.ndarray, shade: str) -> None:
  """One dot an image, spread about its row so that they can be told apart."""
  # Multiples of the golden ratio spread evenly, whatever their number, and always the same way.
  places = row + 0.6 * ((np.arange(len(values)) * 0.618034) % 1 - 0.5)
  for chosen, look in ((~flagged, _look(None)), (flagged, _look(shade))):
    solid = 0.8 if chosen.sum() <= 100 else 0.45
    axis.plot(values[chosen], places[chosen], **look, alpha=solid)


def _look(shade: str | None) -> dict:
  if shade is None:
    return {"marker": "x", "ms": 3.5, "ls": "", "color": colour(6)}
  return {"marker": "o", "ms": 4, "mew": 0, "ls": "", "color": shade}


def _mark(shade: str | None) -> Line2D:
  return Line2D([], [], **_look(shade))
