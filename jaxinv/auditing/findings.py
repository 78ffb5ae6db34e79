"""What an audit finds, as it travels from the tests to the page. No logic but counting."""

import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinv.attacks.attack import Attack
from jaxinv.attacks.single.unmixing import Count
from jaxinv.metrics.matching import Match
from jaxinv.types import References

# What an attacker holds who has a whole checkpoint, beside the fields of `Release`.
OPTIMIZER_STATE = "optimizer_state"


class Tensor(NamedTuple):
  """A tensor of the audited model, and what became of it.

  Attributes:
    name: its path in the file or pytree, `params/Dense_0/kernel`.
    shape: its shape.
    dtype: its type, as numpy calls it.
    use: `images` where it was recovered from, `layer` or `bias` where it helped to (in the chain of
      dense layers behind the images), `filters` for kernels of convolutions, `none`.
    why: in a few words, why so.

  Example:
    >>> import jaxinv
    >>> weights = {"kernel": np.ones((120, 2)), "bias": np.zeros(2)}
    >>> [tensor.use for tensor in jaxinv.audit(weights, image_shape=(12, 10)).tensors]
    ['bias', 'images']
  """

  name: str
  shape: tuple[int, ...]
  dtype: str
  use: str
  why: str


class Finding(NamedTuple):
  """What one attack recovered from one tensor, and what the tests say of each image.

  Attributes:
    source: the tensor's name.
    attack: which.
    what: what an image is of: `class`, `unit` (of a hidden layer, or of an axis of which nothing is
      known) or `filter` (of a convolution; looked at, but no part of the verdict).
    layout: how the pixels lie in the tensor, such as `hwc`.
    images: as recovered, not normalised, of the units `kept`.
    kept: which units, in rising order; all of them where they are not too many, else the clearest.
    morans_i: Moran's I of each unit's image.
    p_values: chance of so large an autocorrelation in pixels of random order, see `blind`.
    q_values: the same, corrected for the number of images looked at in the whole audit.
    structured: whether q is at most the audit's alpha.
    match: with references, whom each unit resembles.
    match_q: its p-values corrected likewise; None without references.
    matched: whether that is at most the audit's alpha; None without references.

  Example:
    >>> import jaxinv
    >>> noise = np.random.default_rng(0).standard_normal((120, 2))
    >>> finding, *_ = jaxinv.audit({"kernel": noise}, image_shape=(12, 10)).findings
    >>> finding.images.shape, finding.structured.tolist()
    ((2, 12, 10, 1), [False, False])
  """

  source: str
  attack: Attack
  what: str
  layout: str
  images: Float[np.ndarray, "s h w c"]
  kept: Int[np.ndarray, " s"]
  morans_i: Float[np.ndarray, " u"]
  p_values: Float[np.ndarray, " u"]
  q_values: Float[np.ndarray, " u"]
  structured: Bool[np.ndarray, " u"]
  match: Match | None = None
  match_q: Float[np.ndarray, " u"] | None = None
  matched: Bool[np.ndarray, " u"] | None = None

  def __repr__(self) -> str:
    flags = f"num={len(self.morans_i)}, structured={int(self.structured.sum())}"
    if self.matched is not None:
      flags += f", matched={int(self.matched.sum())}"
    return f"Finding({self.source!r}, {self.attack.name!r}, {self.what!r}, {flags})"


class Unmixing(NamedTuple):
  """What the change of the first layer is made of: single images, see `attacks.single.unmixing`.

  Attributes:
    source: the tensor's name.
    earlier: what was taken off, a field of `Release`: `init_params` or `previous_params`; or
      `optimizer_state`, where nothing was, as the tensor is an optimiser's sum of gradients.
    layout: how the pixels lie in the tensor.
    count: how many images the change is made of, as its singular values tell; 0 where they do not.
    images: those images, by falling stability; none where they were counted only.
    stability: up to 1, how well independent restarts agree on each: the attacker's own confidence.
    is_scaled: whether the images are in the unit of the model's inputs; else each has mean 1.
    nearest: with references, the photograph that each was given, no photograph twice; -1 where
      there are too few.
    nearest_ncc: their correlations over pixels.
    nearest_detail_ncc: the same over the pixels' second differences, see `separation.detail`.
    matched: whether an image clearly is that photograph, or is of that person: see `unmixing`.

  Example:
    >>> import jaxinv
    >>> rng = np.random.default_rng(0)
    >>> photographs = rng.laplace(size=(3, 24, 24)).cumsum(1).cumsum(2).reshape(3, -1)
    >>> start = {"kernel": np.zeros((576, 16))}
    >>> trained = {"kernel": photographs.T @ rng.normal(size=(3, 16))}
    >>> jaxinv.audit(trained, (24, 24), init_params=start).unmixed
    Unmixing('kernel', photographs=3, separated=3)
  """

  source: str
  earlier: str
  layout: str
  count: Count
  images: Float[np.ndarray, "n h w c"]
  stability: Float[np.ndarray, " n"]
  is_scaled: bool = False
  nearest: Int[np.ndarray, " n"] | None = None
  nearest_ncc: Float[np.ndarray, " n"] | None = None
  nearest_detail_ncc: Float[np.ndarray, " n"] | None = None
  matched: Bool[np.ndarray, " n"] | None = None

  def __repr__(self) -> str:
    told = f"photographs={self.count.number or None}, separated={len(self.images)}"
    if self.matched is not None:
      told += f", matched={int(self.matched.sum())}"
    return f"Unmixing({self.source!r}, {told})"

  @property
  def mixture(self) -> str:
    """What the images are mixed in, in words."""
    if self.earlier == OPTIMIZER_STATE:
      return f"the sum of gradients that the optimiser keeps in {self.source}"
    since = "the initial weights" if self.earlier == "init_params" else "the earlier release"
    return f"the change of {self.source} since {since}"

  @property
  def knowledge(self) -> str:
    """What the attacker must hold, as `Attack.knowledge` has it."""
    if self.earlier == OPTIMIZER_STATE:
      return "checkpoint"
    return Attack("unmixed", lambda *_: None, frozenset({"params", self.earlier})).knowledge


class Audit(NamedTuple):
  """All that was found in a model's weights.

  Attributes:
    tensors: every tensor, in natural order of the names.
    findings: what was recovered; class images before units, those before filters.
    image_shape: height, width and channels.
    alpha: the share of false alarms that the tests allow.
    references: what the images were compared with, where there was something.
    measures: by attack and measure, the mean over classes, as the studies have them, and
      `identification_p`: the chance that so many classes are closest to their own person, if each
      were as close to anybody. Empty where there are not as many people as classes.
    notes: what was not looked at and why, and what a reader must know.
    unmixed: what the change of the first layer is made of, where an earlier state was given.

  Example:
    >>> import jaxinv
    >>> ramp = np.add.outer(np.arange(12.0), np.arange(10.0)).ravel()  # An image, as no noise is.
    >>> found = jaxinv.audit({"kernel": np.stack([ramp, -ramp], 1)}, image_shape=(12, 10))
    >>> found.structure, found.match
    (True, None)
  """

  tensors: tuple[Tensor, ...]
  findings: tuple[Finding, ...]
  image_shape: tuple[int, int, int]
  alpha: float
  references: References | None = None
  measures: dict[str, dict[str, float]] = {}  # noqa: RUF012 (of a NamedTuple; never changed)
  notes: tuple[str, ...] = ()
  unmixed: Unmixing | None = None

  def __repr__(self) -> str:
    from jaxinv.auditing.verdict import summary_lines  # It is made of what is here.

    return "\n".join(summary_lines(self))

  @property
  def structure(self) -> bool:
    """Whether any image of a class or unit has structure that noise has not."""
    return any(f.structured.any() for f in self.findings if f.what != "filter")

  @property
  def match(self) -> bool | None:
    """Whether any of them resembles somebody beyond chance, or all together do.

    Or whether an image that was unmixed clearly is a reference photograph. None without references.
    """
    if self.references is None:
      return None
    one = any(f.matched.any() for f in self.findings if f.matched is not None)
    return one or self.identifying is not None or self.unmixed_matches > 0

  @property
  def unmixed_matches(self) -> int:
    """How many images that were unmixed clearly are reference photographs."""
    known = self.unmixed is not None and self.unmixed.matched is not None
    return int(self.unmixed.matched.sum()) if known else 0

  @property
  def identifying(self) -> str | None:
    """The attack by which more classes are closest to their own person than chance explains."""
    chances = {attack: it.get("identification_p", 1.0) for attack, it in self.measures.items()}
    best = min(chances, key=chances.__getitem__, default=None)
    return best if best and chances[best] * len(chances) <= self.alpha else None


def rank(finding: Finding) -> Int[np.ndarray, " u"]:
  """The finding's units, the clearest first.

  Those that resemble somebody lead, by how much; then come those with structure, then the rest,
  by Moran's I.

  Args:
    finding: what an attack recovered.

  Returns:
    All units; of equals the first leads.
  """
  return np.lexsort(tuple(-key for key in reversed(clearness(finding))))


def clearness(finding: Finding) -> tuple[np.ndarray, ...]:
  """What images are ranked by: matched, structured, and how clear each is among its like."""
  structured = finding.structured.astype(float)
  if finding.match is None or finding.matched is None:
    return np.zeros_like(structured), structured, finding.morans_i
  clear = np.where(finding.matched, np.abs(finding.match.person_ncc), finding.morans_i)
  return finding.matched.astype(float), structured, clear


def is_sum_of_gradients(name: str) -> bool:
  """Whether a tensor is an optimiser's first moment or momentum, by its name, as tools have it.

  Example:
    >>> is_sum_of_gradients("opt_state/0/mu/Dense_0/kernel")
    True
    >>> is_sum_of_gradients("opt_state/0/nu/Dense_0/kernel")
    False
  """
  first = r"(^|[/.])(mu|trace|exp_avg|momentum_buffer|momentum)([/.]|$)"
  return is_memory(name) and bool(re.search(first, name))


def is_memory(name: str) -> bool:
  """Whether a tensor is what an optimiser remembers, by its name: its moments, not the weights."""
  return bool(re.search(r"(^|[/._])(opt_state|optimizer|exp_avg|momentum_buffer)", name))
