"""Which real image is a recovered one like, and does that show that it was memorised?

A recovered horse is like some horse that was trained on: that much is true of every good picture of
a horse, and shows nothing. So each model is trained on a random half of the candidates of each
class, and the question is whether recovered images are nearer to the half that was trained on, the
members, than to the other.

Where a model memorises nothing, what it gives would have been the same with other halves, and
which candidates were members is a deal of cards independent of it. A recovered image's nearest
candidate of its class is then a member with the members' share, 1/2. That is one coin: a single
image comes out near a member every other time, by luck alone, however striking the resemblance,
and no test of it can come below p = 1/2 where one candidate stands out. Nor do restarts of a class
help: they end near each other, have the same nearest candidate, and are the same coin again. A
model has about as many coins as classes. What can be shown is that members are nearer more often
than coins would have it, over the classes of several models, each with halves of its own; so the
evidence of models is pooled, and all images of a model share one deal.

The p-values are those of a permutation test: the members' marks are dealt anew among the candidates
of each class, many times, and p is the share of deals, the true one included, with a statistic as
large as it was. It holds for any number of members and for any dependence between the images.

Everything here is on the host; similarities are in any unit, the larger the nearer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinv.errors import InputError
from jaxinv.metrics.rows import centred, finite, unit


class Case(NamedTuple):
  """One model's recovered images, and what they are compared with.

  Attributes:
    similarity: of each recovered image with each example; finite.
    labels_recovered: the class each recovered image is of.
    labels: class of each example.
    candidate: whether an example's membership was drawn at random.
    member: whether the model was trained on it; counts for candidates only.
  """

  similarity: Float[np.ndarray, "i n"]
  labels_recovered: Int[np.ndarray, " i"]
  labels: Int[np.ndarray, " n"]
  candidate: Bool[np.ndarray, " n"]
  member: Bool[np.ndarray, " n"]


class InOut(NamedTuple):
  """Each recovered image's nearest candidates of its class, trained on and not.

  Attributes:
    member: index of the nearest member; -1 where the class has none.
    member_similarity: with it; NaN likewise.
    other: index of the nearest candidate that is no member; -1 where there is none.
    other_similarity: with it; NaN likewise.
    nearer: whether the nearest candidate of all is a member; of equally near ones the first counts.
  """

  member: Int[np.ndarray, " i"]
  member_similarity: Float[np.ndarray, " i"]
  other: Int[np.ndarray, " i"]
  other_similarity: Float[np.ndarray, " i"]
  nearer: Bool[np.ndarray, " i"]


class Memorised(NamedTuple):
  """What the permutation test finds, over the images whose class has candidates of both kinds.

  Attributes:
    share: of the images, those nearer to a member; NaN where no image counts.
    margin: mean of (similarity with the nearest member - with the nearest other); NaN likewise.
    p_share: how often a deal has such a share, or a larger one; 1 where no image counts.
    p_margin: the same of the margin.
  """

  share: float
  margin: float
  p_share: float
  p_margin: float


def cosine(a: Float[np.ndarray, "i d"], b: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "i n"]:
  """The cosine of each row of `a` with each of `b`; rows of zeros have 0 with everything.

  Args:
    a: feature vectors, in any unit; values that are not finite count as 0.
    b: others.

  Returns:
    The cosines, in [-1, 1] but for rounding, never NaN.
  """
  return unit(finite(a)) @ unit(finite(b)).T


def pixel_similarity(
  a: Float[np.ndarray, "i p"], b: Float[np.ndarray, "n p"]
) -> Float[np.ndarray, "i n"]:
  """Pearson's correlation over pixels of each image with each other; constant images have 0.

  Args:
    a: flat images, in any unit; values that are not finite count as 0.
    b: others.

  Returns:
    The cosine of the images less their own means, in [-1, 1] but for rounding, never NaN.
  """
  return unit(centred(finite(a))) @ unit(centred(finite(b))).T


def nearest(
  similarity: Float[np.ndarray, "i n"], allowed: Bool[np.ndarray, "i n"]
) -> tuple[Int[np.ndarray, " i"], Float[np.ndarray, " i"]]:
  """The most similar of the examples that are allowed, for each image.

  Args:
    similarity: of each image with each example.
    allowed: which examples count for each image; those with a similarity of NaN never do.

  Returns:
    The index of each image's nearest example, the first of equals, and their similarity; -1 and
    NaN where none is allowed.
  """
  allowed = allowed & ~np.isnan(similarity)
  found = allowed.any(1)
  if not found.any():
    return np.full(len(found), -1), np.full(len(found), np.nan, similarity.dtype)
  index = np.where(allowed, similarity, -np.inf).argmax(1)
  value = np.take_along_axis(similarity, index[:, None], 1)[:, 0]
  return np.where(found, index, -1), np.where(found, value, np.nan).astype(similarity.dtype)


def compare_members(
  similarity: Float[np.ndarray, "i n"],
  labels_recovered: Int[np.ndarray, " i"],
  labels: Int[np.ndarray, " n"],
  candidate: Bool[np.ndarray, " n"],
  member: Bool[np.ndarray, " n"],
) -> InOut:
  """Each recovered image's nearest member and nearest other, among its class's candidates.

  Args:
    similarity: see `Case`, as of the others.
    labels_recovered: the class each recovered image is of.
    labels: class of each example.
    candidate: whether an example's membership was drawn at random.
    member: whether the model was trained on it.

  Returns:
    One of each an image. By itself it shows nothing of memorisation: see above.
  """
  allowed = (labels_recovered[:, None] == labels[None]) & candidate[None]
  first, _ = nearest(similarity, allowed)
  return InOut(
    *nearest(similarity, allowed & member[None]),
    *nearest(similarity, allowed & ~member[None]),
    nearer=(first >= 0) & member[first],
  )


def permutation_test(
  similarity: Float[np.ndarray, "i n"],
  labels_recovered: Int[np.ndarray, " i"],
  labels: Int[np.ndarray, " n"],
  candidate: Bool[np.ndarray, " n"],
  member: Bool[np.ndarray, " n"],
  rng: np.random.Generator,
  num: int = 999,
) -> Memorised:
  """Whether ONE model's recovered images are nearer to members; see `pooled_test`.

  Args:
    similarity: see `Case`, as of the next four.
    labels_recovered: the class each recovered image is of.
    labels: class of each example.
    candidate: whether an example's membership was drawn at random.
    member: whether the model was trained on it.
    rng: source of the deals.
    num: deals.

  Returns:
    Share, margin and their p-values.

  Raises:
    InputError: a similarity of a candidate is not finite, or there is no deal.
  """
  return pooled_test([Case(similarity, labels_recovered, labels, candidate, member)], rng, num)


def pooled_test(
  cases: Sequence[Case], rng: np.random.Generator, num: int = 999, together: bool = False
) -> Memorised:
  """Whether several models' recovered images, taken together, are nearer to members.

  The statistics are sums over all images of all models. One-sided p = (1 + deals with a sum at
  least the true one) / (1 + `num`), exact for exchangeable marks (Phipson and Smyth 2010,
  "Permutation p-values should never be zero"); ties make it cautious.

  Args:
    cases: one a model.
    rng: source of the deals.
    num: deals.
    together: False deals for each model apart: right where the models' halves were drawn
      independently, cautious where they complement each other, and wrong where models share a half.
      True deals one order of the candidates to all models, so that each candidate keeps its row of
      marks over the models: right for every design that treats candidates alike, complementary and
      shared halves among them. The models must have the same candidates.

  Returns:
    Share, margin and their p-values, over all images that count.

  Raises:
    InputError: a similarity of a candidate is not finite, there is no deal, or models dealt to
      together have different candidates.
  """
  if num < 1:
    raise InputError(f"a permutation test deals at least once, not {num} times")
  if together and not all(_same_candidates(case, cases[0]) for case in cases):
    raise InputError("models dealt to together have the same candidates: give together=False")
  seed = int(rng.integers(2**63))
  count, nearer, margins = 0, np.zeros(1 + num, int), np.zeros(1 + num)
  for case in cases:
    # The same generator gives classes of the same sizes the same orders, whatever their marks.
    deals = np.random.default_rng(seed) if together else rng
    of_case = _sums(case, deals, num)
    count, nearer, margins = (
      total + part for total, part in zip((count, nearer, margins), of_case, strict=True)
    )
  if not count:
    return Memorised(float("nan"), float("nan"), 1.0, 1.0)
  p_values = [float((x >= x[0]).mean()) for x in (nearer, margins)]  # The true one is among them.
  return Memorised(float(nearer[0] / count), float(margins[0] / count), *p_values)


def _same_candidates(a: Case, b: Case) -> bool:
  return np.array_equal(a.candidate, b.candidate) and np.array_equal(
    a.labels[a.candidate], b.labels[b.candidate]
  )


def _sums(
  case: Case, rng: np.random.Generator, num: int
) -> tuple[int, Int[np.ndarray, " _"], Float[np.ndarray, " _"]]:
  """How many images count, and the two sums over them: first the true ones, then each deal's."""
  count, nearer, margins = 0, np.zeros(1 + num, int), np.zeros(1 + num)
  # Of all classes, also those without an image: so models dealt to together draw alike.
  for label in np.unique(case.labels[case.candidate]):
    among = np.flatnonzero(case.candidate & (case.labels == label))
    true = case.member[among][None]
    marks = np.concatenate([true, rng.permuted(np.repeat(true, num, axis=0), axis=1)])
    if true.all() or not true.any():
      continue
    for row in case.similarity[np.ix_(case.labels_recovered == label, among)]:
      first, margin = _against(row, marks)
      count, nearer, margins = count + 1, nearer + first, margins + margin
  return count, nearer, margins


def _against(
  similarity: Float[np.ndarray, " n"], marks: Bool[np.ndarray, "_ n"]
) -> tuple[Bool[np.ndarray, " _"], Float[np.ndarray, " _"]]:
  """Of one image and each deal: whether the nearest is a member, and the margin."""
  if not np.isfinite(similarity).all():
    raise InputError("a similarity with a candidate is not a finite number: leave out such a model")
  order = np.argsort(-similarity, kind="stable")
  ordered, similarity = marks[:, order], similarity[order].astype(np.float64)
  # In the order of similarity, the first of a kind is the nearest of it.
  margin = similarity[ordered.argmax(1)] - similarity[(~ordered).argmax(1)]
  return ordered[:, 0], margin
