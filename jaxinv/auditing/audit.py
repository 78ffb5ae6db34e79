"""Audits a model that somebody else trained: what do its weights show?

The model is never executed. Tensors that fit the images are found (`sources`), attacks read images
out of them (`extraction`), and each image is tested: blind, for structure that noise has not
(`metrics.structure`), and against reference images where there are some (`metrics.matching`).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxinv.attacks.attack import Attack
from jaxinv.auditing import extraction
from jaxinv.auditing.findings import Audit, Finding, Tensor, Unmixing
from jaxinv.auditing.given import (
  AttackerTensors,
  as_references,
  attacker_tensors,
  whole_shape,
  with_companions,
)
from jaxinv.auditing.plan import Task, none_possible, plan
from jaxinv.auditing.sources import ImageShape, Source, find_sources
from jaxinv.auditing.unmixing import unmix_change
from jaxinv.errors import InputError
from jaxinv.metrics import images as metrics
from jaxinv.metrics.matching import FEWEST_PEOPLE, Match, person_means, prepare, resemble
from jaxinv.metrics.metric import Targets, measure
from jaxinv.metrics.stats import benjamini_hochberg
from jaxinv.metrics.structure import PermutationNull, blind_scores, permutation_null
from jaxinv.types import Params, References

_KEPT = 1024  # Images of a finding that are kept; of more, the clearest.


def audit(
  params: Params | str | Path,
  image_shape: Sequence[int],
  *,
  init_params: Params | str | Path | None = None,
  previous_params: Params | str | Path | None = None,
  peers: Sequence[Params | str | Path] = (),
  references: References | str | Path | Float[np.ndarray, "n h w *c"] | None = None,
  reference_labels: Sequence[int] | None = None,
  layout: str = "auto",
  attacks: Sequence[str | Attack] = (),
  alpha: float = 0.01,
  seed: int = 0,
  advanced: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Audit:
  """Audits weights: which images can be read out of them, and do they show people?

  Args:
    params: the weights: a file or checkpoint folder, see `formats.read.read_weights`; or a mapping,
      any pytree of arrays, or nested lists of numbers.
    image_shape: (height, width) or (height, width, channels) of the model's inputs.
    init_params: likewise the weights before training, where the attacker knows them.
    previous_params: likewise an earlier release of the same model.
    peers: likewise other models of the same kind, trained on the same people.
    references: images to compare with: a folder, what `load_references` returns, or an array
      [n, h, w] or [n, h, w, c] in 0..255 or 0..1.
    reference_labels: of an array the class of each image, from 0.
    layout: how images were flattened, see `sources.LAYOUTS`; `auto` takes the most image-like one,
      and multiplies the p-values by the number of choices.
    attacks: names and values; if empty, those of `plan.DEFAULT` that can be made, and unmixing.
    alpha: the share of false alarms that the tests allow, corrected for the number of images.
    seed: of the permutations that noise is told by.
    advanced: told of the progress: what, images done, images in all.

  Returns:
    What was found; printed, it says the verdict.

  Raises:
    InputError: nothing fits, or what is given does not fit together.

  Example:
    >>> import numpy as np
    >>> face = np.add.outer(np.arange(9.0), np.arange(8.0)) - 7.5
    >>> audit({"coef_": np.stack([face.ravel(), -face.ravel()])}, (9, 8)).structure
    True
  """
  shape = whole_shape(image_shape)
  if not 0 < alpha < 1:
    raise InputError(f"alpha is {alpha:g}: give a share of false alarms between 0 and 1")
  references = as_references(references, reference_labels, shape)
  held = with_companions(attacker_tensors(params, init_params, previous_params, peers))
  sources, listed = find_sources(held.params, shape, layout)
  tasks, notes = plan(sources, held, attacks)
  found, failures = _carry_out(tasks, held, references, seed, advanced)
  notes += [*_few_people(references), *failures]
  if not found:
    raise none_possible([task.attack for task in tasks], failures)
  unmixed, said = (None, []) if attacks else _unmixed(sources, held, references, tasks, advanced)
  notes += [*_doubts(found), *_layout_notes(found, shape, layout), *said]
  return _put_together(listed, found, shape, alpha, references, notes, unmixed)


def _unmixed(
  sources: Sequence[Source],
  held: AttackerTensors,
  references: References | None,
  tasks: Sequence[Task],
  advanced: Callable[[str, int, int], None],
) -> tuple[Unmixing | None, list[str]]:
  """What changed in the first layer, unmixed; all other tasks are done by then."""
  total = sum(task.source.num for task in tasks)
  advanced("unmixing", total, total)
  return unmix_change(sources, held, references)


def _put_together(
  listed: Sequence[Tensor],
  found: list[Finding],
  shape: tuple[int, int, int],
  alpha: float,
  references: References | None,
  notes: Sequence[str],
  unmixed: Unmixing | None,
) -> Audit:
  """The audit of what was found, its p-values corrected for the number of images."""
  measures, order = _measures(found, references)
  return Audit(
    tensors=tuple(listed),
    findings=tuple(_corrected(found, alpha)),
    image_shape=shape,
    alpha=alpha,
    references=references,
    measures=measures,
    notes=(*notes, *order, *(references.notes if references else ())),
    unmixed=unmixed,
  )


def _few_people(references: References | None) -> list[str]:
  if references is None or len(references.people) >= FEWEST_PEOPLE:
    return []
  return [
    f"The references are of {len(references.people)} people: nobody can stand out from so few, "
    f"so no match can be found; give at least {FEWEST_PEOPLE}."
  ]


def _carry_out(
  tasks: Sequence[Task],
  held: AttackerTensors,
  references: References | None,
  seed: int,
  advanced: Callable[[str, int, int], None],
) -> tuple[list[Finding], list[str]]:
  """The findings, not yet corrected; and a line for each attack that failed."""
  null = cache(lambda shape: permutation_null(shape, seed=seed))
  layout_of = cache(partial(extraction.choose_layout, held))
  compare = None
  if references is not None:
    compare = partial(resemble, references=references, people=prepare(references))
  found, failures = [], []
  done, total = 0, sum(task.source.num for task in tasks)
  for task in tasks:

    def progress(num, task=task):
      nonlocal done
      done += num
      advanced(f"{task.attack.name} of {task.source.tensor}", done, total)

    source = task.source
    layout = layout_of(source)
    blocks = extraction.images(task, held, layout)
    noise = null(source.image_shape)
    compared = compare if source.what != "filter" else None
    try:
      found.append(_test(task, layout, blocks, noise, compared, progress))
    except extraction.AttackFailed as error:
      failures.append(task.left_out(str(error)))
  return found, failures


def _test(
  task: Task,
  layout: str,
  blocks: Iterator[Float[np.ndarray, "b h w c"]],
  null: PermutationNull,
  compare: Callable[..., Match] | None,
  progress: Callable[[int], None],
) -> Finding:
  """Tests an attack's images as they come, and keeps the clearest; not yet corrected."""
  source = task.source
  morans_i, p_values, matches = np.empty(0), np.empty(0), []
  images, kept = np.empty((0, *source.image_shape), np.float32), np.empty(0, int)
  for block in blocks:
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
    progress(len(block))
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
    order: {
      it.attack.name: _measure(it.images, means[jnp.array(order)], len(orders)) for it in classes
    }
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
  seen = set()
  for it in found:
    name = f"{it.attack.name} of {it.source}"
    if it.attack.needs & {"init_params", "previous_params"} and not it.images.any():
      notes.append(f"{name} is 0 everywhere: the weights to compare with are the same.")
    if not np.isfinite(it.images).all():
      notes.append(f"{name} has values that are not finite: such an image counts as noise.")
    pixels = it.images[0].size
    if it.what == "class" and it.source not in seen and len(it.morans_i) > 4 * pixels:
      seen.add(it.source)
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
