"""Audits a model that somebody else trained: what do its weights show?

Nothing of the model is run. Tensors that fit the images are found (`sources`), the attacks of
`recover` read images out of them (`extraction`), and each image is tested: blind, for structure
that noise has not (`blind`), and against reference images where there are some (`resemblance`).
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinv.auditing import extraction
from jaxinv.auditing.extraction import Held, Task
from jaxinv.auditing.findings import Audit, Finding
from jaxinv.auditing.sources import ImageShape, find_sources
from jaxinv.errors import InputError
from jaxinv.metrics import images as metrics
from jaxinv.metrics.matching import FEWEST_PEOPLE, Match, person_means, prepare, resemble
from jaxinv.metrics.metric import Targets, measure
from jaxinv.metrics.structure import benjamini_hochberg, blind_scores, permutation_null
from jaxinv.types import Params, References

_KEPT = 1024  # Images of a finding that are kept; of more, the clearest.


def audit(
  params: Params,
  image_shape: Sequence[int],
  *,
  init_params: Params | None = None,
  previous_params: Params | None = None,
  peers: Sequence[Params] = (),
  references: References | None = None,
  layout: str = "auto",
  attacks: Sequence[str] = (),
  alpha: float = 0.01,
  seed: int = 0,
  advanced: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Audit:
  """Audits parameters: which images can be read out of them, and whom do they show?

  Args:
    params: any pytree or mapping of arrays, or what `formats.read.read_weights` returns.
    image_shape: (height, width) or (height, width, channels) of the model's inputs.
    init_params: the weights before training, where the attacker knows them.
    previous_params: an earlier release of the same model.
    peers: other models of the same kind, trained on the same people.
    references: images to compare with, see `data.folder.load_references`.
    layout: how images were flattened, a name in `sources.LAYOUTS`; `auto` takes the one in which
      the weights look most like images, and multiplies the p-values by the number of choices.
    attacks: names in `attacks.ALL`; if empty, all but `mi_face` that can be carried out.
    alpha: the share of false alarms that the tests allow, corrected for the number of images.
    seed: of the permutations that noise is told by.
    advanced: told of the progress: what, images done, images in all.

  Returns:
    What was found.

  Raises:
    InputError: nothing fits, or what is given does not fit together.
  """
  shape = _whole_shape(image_shape)
  if not 0 < alpha < 1:
    raise InputError(f"alpha is {alpha:g}: give a share of false alarms between 0 and 1")
  if references is not None and references.images.shape[1:] != shape:
    raise InputError(
      f"the references are images of {references.images.shape[1:]}, the model's of {shape}: load "
      "them with its image shape"
    )
  held = Held(
    extraction.named(params),
    None if init_params is None else extraction.named(init_params),
    None if previous_params is None else extraction.named(previous_params),
    tuple(map(extraction.named, (params, *peers) if peers else ())),
  )
  if not held.tensors:
    raise InputError("there are no arrays in the parameters: give those of a trained model")
  sources, listed = find_sources(held.tensors, shape, layout)
  held = extraction.with_companions(held)
  tasks, notes = extraction.plan(sources, held, attacks)
  if references is not None and len(references.people) < FEWEST_PEOPLE:
    notes.append(
      f"The references are of {len(references.people)} people: nobody can stand out from so few, "
      f"so no match can be found; give at least {FEWEST_PEOPLE}."
    )
  null = cache(lambda shape: permutation_null(shape, seed=seed))
  layout_of = cache(partial(extraction.choose_layout, held))
  compare = None
  if references is not None:
    compare = partial(resemble, references=references, people=prepare(references))
  found, total, done = [], sum(task.source.num for task in tasks), 0
  for task in tasks:

    def advance(num, task=task):
      nonlocal done
      done += num
      advanced(f"{task.attack} of {task.source.tensor}", done, total)

    compared = compare if task.source.what != "filter" else None
    noise = null(task.source.image_shape)
    found.append(_examine(task, held, layout_of(task.source), noise, compared, advance))
  measures, order = _measures(found, references)
  return Audit(
    tensors=tuple(listed),
    findings=tuple(_corrected(found, alpha)),
    image_shape=shape,
    alpha=alpha,
    references=references,
    measures=measures,
    notes=(
      *notes,
      *order,
      *_doubts(found),
      *_layout_notes(found, shape, layout),
      *(references.notes if references else ()),
    ),
  )


def _whole_shape(image_shape: Sequence[int]) -> ImageShape:
  shape = tuple(image_shape) if isinstance(image_shape, Sequence) else (image_shape,)
  if len(shape) not in (2, 3) or any(size != int(size) or size < 1 for size in shape):
    raise InputError(
      f"the image shape is {shape}: give height and width, and channels if there are several"
    )
  height, width, channels = (*map(int, shape), 1)[:3]
  return height, width, channels


def _examine(
  task: Task,
  held: Held,
  layout: str,
  null: Any,
  compare: Callable[..., Match] | None,
  advanced: Callable[[int], None],
) -> Finding:
  """Tests an attack's images as they come, and keeps the clearest; not yet corrected."""
  source = task.source
  morans_i, p_values, matches = np.empty(0), np.empty(0), []
  images, kept = np.empty((0, *source.image_shape), np.float32), np.empty(0, int)
  for block in extraction.images(task, held, layout):
    start = len(morans_i)
    scores = blind_scores(block, null, seed=start)
    morans_i = np.concatenate([morans_i, scores.morans_i])
    p_values = np.concatenate([p_values, scores.p_values])
    if compare is not None:
      # A hidden unit may hold a face as a negative.
      matches.append(compare(block, two_sided=source.what == "unit"))
    images = np.concatenate([images, block])
    kept = np.concatenate([kept, np.arange(start, len(morans_i))])
    chance = p_values[kept]
    if matches:
      chance = np.minimum(chance, np.concatenate([match.p_values for match in matches])[kept])
    best = np.sort(np.lexsort((-morans_i[kept], chance))[:_KEPT])
    images, kept = images[best], kept[best]
    advanced(len(block))
  # A layout was chosen for being smooth: each that was tried is one more chance.
  p_values = np.minimum(1.0, p_values * len(source.layouts))
  return Finding(
    source=source.tensor,
    attack=task.attack,
    what=source.what,
    layout=layout,
    images=images,
    kept=kept,
    morans_i=morans_i,
    p_values=p_values,
    q_values=p_values,
    structured=np.zeros(len(p_values), bool),
    match=Match(*map(np.concatenate, zip(*matches, strict=True))) if matches else None,
  )


def _corrected(found: Sequence[Finding], alpha: float) -> list[Finding]:
  """Corrects for the number of images: of all classes and units together, and of all filters."""
  corrected = list(found)
  for filters in (False, True):
    which = [i for i, finding in enumerate(found) if (finding.what == "filter") == filters]
    q_values = _correct([found[i].p_values for i in which])
    for i, q in zip(which, q_values, strict=True):
      corrected[i] = corrected[i]._replace(q_values=q, structured=q <= alpha)
  which = [i for i, finding in enumerate(found) if finding.match is not None]
  for i, q in zip(which, _correct([found[i].match.p_values for i in which]), strict=True):
    corrected[i] = corrected[i]._replace(match_q=q, matched=q <= alpha)
  return corrected


def _correct(p_values: Sequence[Float[np.ndarray, " _"]]) -> list[Float[np.ndarray, " _"]]:
  """Benjamini and Hochberg's correction of all p-values together, handed back apart."""
  if not p_values:
    return []
  ends = np.cumsum([len(p) for p in p_values])[:-1]
  return np.split(benjamini_hochberg(np.concatenate(p_values)), ends)


def _measures(
  found: Sequence[Finding], references: References | None
) -> tuple[dict[str, dict[str, float]], list[str]]:
  """The studies' measures, where there are as many people as classes; and in which order they are.

  A model's classes may be people in natural order or, as PyTorch's ImageFolder has them, in that of
  the alphabet: the order in which more classes are closest to their own person is taken.
  """
  if references is None or not references.grouped:
    return {}, []
  means = jnp.asarray(person_means(references), jnp.float32)
  classes = [it for it in found if it.what == "class" and len(it.kept) == len(it.morans_i)]
  classes = [it for it in classes if len(it.images) == len(means)]
  if not classes:
    return {}, []
  given = tuple(range(len(means)))
  orders = {given: "--classes" if references.ordered else "the references"}
  if not references.ordered:
    orders.setdefault(tuple(sorted(given, key=references.people.__getitem__)), "the alphabet")
  tried = {
    order: {it.attack: _measure(it.images, means[jnp.array(order)], len(orders)) for it in classes}
    for order in orders
  }
  best = max(tried, key=lambda order: max(it["identification"] for it in tried[order].values()))
  note = f"The classes were taken to be in the order of {orders[best]}"
  return tried[best], [f"{note}{'.' if references.ordered else '; --classes gives another.'}"]


def _measure(
  images: Float[np.ndarray, "k h w c"], means: Float[Array, "k h w c"], tries: int
) -> dict[str, float]:
  """Means over classes; of images with several channels, the mean over channels too."""
  from scipy.stats import binom  # Half a second to import.

  images = jnp.asarray(images)
  each = [measure(images[..., i], Targets(means[..., i])) for i in range(images.shape[-1])]
  values = {name: float(np.mean([it[name] for it in each])) for name in each[0]}
  own = metrics.identified(*(x.reshape(*x.shape[:2], -1) for x in (images, means)))
  # Were it nothing to do with people, one class in k would be closest to its own.
  chance = binom.sf(int(own.sum()) - 1, len(own), 1 / len(own))
  values["identification"] = float(own.mean())
  return values | {"identification_p": min(1.0, tries * float(chance))}


def _doubts(found: Sequence[Finding]) -> list[str]:
  """What makes it doubtful that the user gave what was meant."""
  notes = []
  dense = dict.fromkeys(it.source for it in found if it.what != "filter")
  if dense and any(it.what == "filter" for it in found):
    notes.append(
      f"The model has convolutions that see the images: {', '.join(list(dense)[:3])} may stand "
      "behind them, and what is shown of it may be feature maps rather than images."
    )
  for it in found:
    if it.attack in ("init_diff", "update_ratio") and not it.images.any():
      notes.append(
        f"{it.attack} of {it.source} is 0 everywhere: the weights to compare with are the same."
      )
    pixels = it.images[0].size
    if it.what == "class" and it.attack == "reshape" and len(it.morans_i) > 4 * pixels:
      notes.append(
        f"{it.source} was taken for {len(it.morans_i):,} classes of images of {pixels} values: "
        "should it be the other way round, the image shape is wrong."
      )
  return notes


def _layout_notes(found: Sequence[Finding], shape: ImageShape, layout: str) -> list[str]:
  """What a reader must know of how pixels were taken to lie."""
  notes = []
  if layout == "auto" and any(finding.what != "filter" for finding in found):
    used = sorted({finding.layout for finding in found if finding.what != "filter"})
    notes.append(
      f"Images were taken to be flattened as {' and '.join(used)} (slowest axis first), in which "
      "they are smoothest; p-values are multiplied by the number of layouts tried."
    )
    if shape[0] != shape[1] and any(name.index("w") < name.index("h") for name in used):
      height, width, channels = shape
      swapped = ",".join(map(str, (width, height, *([channels] if channels > 1 else []))))
      notes.append(
        "So they lie column by column, which few tools do: if what is shown lies on its side, the "
        f"image shape is {swapped}."
      )
    if shape[0] == shape[1]:
      notes.append(
        "The images are square: were they flattened column by column, they are shown mirrored "
        "along the diagonal; the scores are the same. --layout=whc turns them."
      )
  return notes
