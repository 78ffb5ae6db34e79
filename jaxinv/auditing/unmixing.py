"""Single photographs unmixed from what training did to the audited model's first layer.

The attack is `attacks.single.unmixing`; here it is applied to what an audit was given, and its
images are compared with the references. An image counts as one of these photographs only where it
is much nearer to it than to every photograph of anybody else.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinv.attacks.single.separation import detail
from jaxinv.attacks.single.unmixing import Change, change_of, count_sources, spectrum, unmix
from jaxinv.auditing import extraction
from jaxinv.auditing.findings import (
  OPTIMIZER_STATE,
  Unmixing,
  is_memory,
  is_sum_of_gradients,
)
from jaxinv.auditing.given import AttackerTensors
from jaxinv.auditing.sources import Source
from jaxinv.errors import InputError
from jaxinv.metrics.matching import FEWEST_PEOPLE
from jaxinv.metrics.rows import centred, finite, unit
from jaxinv.types import References

# More images than these are counted only: separating them takes minutes.
_MOST_IMAGES = 400
# Larger layers are left out: the spectrum takes the cube of the units, and copies of the kernel.
_MOST_UNITS, _MOST_BYTES = 4096, 2**28
# Of so many units the factor of weight decay is sought, which takes up to 20 spectra.
_MOST_UNITS_DECAY = 1024
# An image is a photograph where their correlation is so large, over pixels or over their finest
# detail, and one less the correlation is so many times as large for every photograph of anybody
# else. In detail no two of 400 AT&T faces have more than 0.11, of the same person 0.47.
ALIKE, ALIKE_DETAIL, _APART = 0.9, 0.5, 2.0
_BLOCK = 256  # Photographs that are compared at once.


def unmix_change(
  sources: Sequence[Source], held: AttackerTensors, references: References | None
) -> tuple[Unmixing | None, list[str]]:
  """Unmixes the change of the first layer that takes images, where an earlier state is held.

  Or the sum of gradients that an optimiser keeps of that layer, where it is in the file.

  Args:
    sources: where there may be images.
    held: what the attacker holds.
    references: photographs to compare with.

  Returns:
    What the change is made of, and notes. None for models with convolutions, whose first layer
    takes patches, and where there is neither an earlier state nor an optimiser's, no dense layer,
    or no change.
  """
  source = _first_layer(sources)
  states = [name for name in ("init_params", "previous_params") if getattr(held, name) is not None]
  sums = [it for it in sources if it.layers and is_sum_of_gradients(it.tensor)]
  if source is None or not (states or sums):
    return None, []
  if why := _too_large(source, held.params[source.tensor].shape):
    return None, [f"The change of {source.tensor} was not unmixed: {why}."]
  tried = [_counted(source, held, name) for name in states]
  tried += [_counted_sum(it, held) for it in sums[:1]]
  tried = [it for it in tried if it is not None]
  if not tried:
    return None, []
  # The first is the sum of all training; a later one where that one alone gives a number.
  best, change = max(tried, key=lambda it: (it[0].count.certain, it[0].count.number > 0))
  if not best.count.number:
    return best, [_no_number(best)]
  if best.count.number > _MOST_IMAGES:
    return best, [
      f"The images that {best.mixture} is made of were counted and not separated: there are more "
      f"than {_MOST_IMAGES}."
    ]
  try:
    found = unmix(change, source.image_shape, best.count.number)
  except InputError as error:
    return best, [f"{best.mixture[0].upper()}{best.mixture[1:]} was not unmixed: {error}."]
  best = best._replace(
    images=found.images.astype(np.float32), stability=found.stability, is_scaled=found.is_scaled
  )
  return (best if references is None else _compared(best, references)), []


def _first_layer(sources: Sequence[Source]) -> Source | None:
  """The first layer of a model without convolutions; not what an optimiser remembers of it."""
  if any(source.what == "filter" for source in sources):
    return None
  dense = [it for it in sources if it.layers and not is_memory(it.tensor)]
  return dense[0] if dense else None


def _too_large(source: Source, shape: tuple[int, ...]) -> str:
  """Why a layer is left out, if it is."""
  units, size = shape[source.order[0]], 4 * int(np.prod(shape))
  if units > _MOST_UNITS:
    return f"it has {units:,} units, more than {_MOST_UNITS:,}"
  return f"it takes {size / 2**20:.0f} MiB" if size > _MOST_BYTES else ""


def _counted(source: Source, held: AttackerTensors, earlier: str) -> tuple[Unmixing, Change] | None:
  """The number of images in the change since an earlier state; None where nothing changed.

  Weight decay shrinks the earlier weights, and what it took of them hides a cliff: where none is
  certain, it is sought again with the factor that decay left.
  """
  before = getattr(held, earlier)
  layout = extraction.choose_change_layout(held.params, before, source)
  now, minus = (extraction.first_layer(it, source, layout) for it in (held.params, before))
  num_features = int(np.prod(source.image_shape))
  tried = []
  for factor in (1.0, None):
    change = change_of(now, minus, num_features, factor)
    if not change.kernel.any():
      break
    tried.append((count_sources(change, spectrum(change)[0]), change))
    if tried[-1][0].certain or change.kernel.shape[1] > _MOST_UNITS_DECAY:
      break
  if not tried:
    return None
  count, change = max(tried, key=lambda it: (it[0].certain, it[0].number > 0))
  nothing = np.zeros((0, *source.image_shape), np.float32)
  return Unmixing(source.tensor, earlier, layout, count, nothing, np.zeros(0)), change


def _counted_sum(source: Source, held: AttackerTensors) -> tuple[Unmixing, Change] | None:
  """The number of images in an optimiser's sum of gradients; None where it is zero."""
  layout = extraction.choose_layout(held, source)
  now = extraction.first_layer(held.params, source, layout)
  change = change_of(now, None, int(np.prod(source.image_shape)))
  if not change.kernel.any():
    return None
  count = count_sources(change, spectrum(change)[0])
  nothing = np.zeros((0, *source.image_shape), np.float32)
  return Unmixing(source.tensor, OPTIMIZER_STATE, layout, count, nothing, np.zeros(0)), change


def _no_number(found: Unmixing) -> str:
  return (
    f"{found.mixture[0].upper()}{found.mixture[1:]} does not tell how many images it is made of: "
    "its singular values have no cliff. That is no sign of safety: where there are as many images "
    "as units, or the optimiser or noise blurs the cliff, the number is hidden and the images are "
    "not."
  )


def _compared(found: Unmixing, references: References) -> Unmixing:
  """Gives each image a reference photograph of its own, those that are most alike together.

  Pixels and their finest detail count alike: an optimiser may add something smooth to an image,
  and a reference may have lost its detail.
  """
  from scipy.optimize import linear_sum_assignment  # Half a second to import.

  pixels = correlations(found.images, references.images)
  details = correlations(found.images, references.images, detail)
  rows, columns = linear_sum_assignment(-pixels - details)
  nearest = np.full(len(pixels), -1)
  nearest[rows] = columns
  given = nearest >= 0
  own, own_detail = (
    np.where(given, ncc[np.arange(len(ncc)), nearest], np.nan) for ncc in (pixels, details)
  )
  matched = np.zeros(len(given), bool)
  if len(references.people) >= FEWEST_PEOPLE:
    matched = _stand_apart(pixels, nearest, references.person, ALIKE)
    matched |= _stand_apart(details, nearest, references.person, ALIKE_DETAIL)
  return found._replace(
    nearest=nearest,
    nearest_ncc=own,
    nearest_detail_ncc=own_detail,
    matched=matched & given,
  )


def correlations(
  images: Float[np.ndarray, "n h w c"],
  photographs: Float[np.ndarray, "m h w c"],
  of: Callable[[Float[np.ndarray, "n h w c"]], Float[np.ndarray, "..."]] = lambda images: images,
) -> Float[np.ndarray, "n m"]:
  """Pearson's correlation over pixels of each image with each photograph; 0 of constant ones.

  Args:
    images: in any unit.
    photographs: likewise; worked on some at a time.
    of: what is compared in place of the pixels, such as their detail.

  Returns:
    The correlations, in double precision.

  Example:
    >>> ramp = np.arange(6.0).reshape(1, 2, 3, 1)
    >>> correlations(ramp, np.concatenate([2 * ramp + 1, -ramp])).round(6)
    array([[ 1., -1.]])
  """

  def rows(some):
    seen = of(some.astype(np.float32))
    return unit(centred(finite(seen.reshape(len(some), -1))))

  left = rows(images)
  parts = [photographs[i : i + _BLOCK] for i in range(0, len(photographs), _BLOCK)]
  return np.concatenate([left @ rows(part).T for part in parts], 1).astype(np.float64)


def _stand_apart(
  ncc: Float[np.ndarray, "n m"],
  nearest: Int[np.ndarray, " n"],
  person: Int[np.ndarray, " m"],
  alike: float,
) -> Bool[np.ndarray, " n"]:
  """Which images are clearly their photograph: very alike, and nobody else's is nearly as alike.

  Faces resemble each other, so that a correlation alone says little. Other photographs of the same
  person may be as alike.
  """
  own = ncc[np.arange(len(ncc)), nearest]
  same = person[None] == person[nearest][:, None]
  other = np.where(same, -1.0, ncc).max(1)
  return (own > alike) & (1 - other >= _APART * (1 - own))
