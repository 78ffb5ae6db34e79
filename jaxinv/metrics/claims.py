"""Claims that intervals bear out: their labels, and Holm's procedure over many of them."""

from collections.abc import Callable, Iterable
from enum import StrEnum

from jaxinv.metrics.stats import Interval

# Seeds without which no claim is made.
FEWEST_SEEDS = 5
# The chance of any wrong claim among those that are made together.
LEVEL = 0.05


class Label(StrEnum):
  """What came of a defence, in the words of files and pages; in the order of the page."""

  LOWERS = "lowers leakage"
  HIDES = "hides from the naive attacker only"
  NO_EFFECT = "no detectable effect"
  TOO_LITTLE = "changes too little to matter"
  UNDECIDED = "undecided"
  TOO_FEW = "too few seeds for a verdict"
  RAISES = "raises leakage"
  NOT_COMPARABLE = "cannot be compared"
  NOT_USEFUL = "is not as useful"
  NOT_TRAINED = "does not train"

  @property
  def at_end(self) -> bool:
    """Whether arms with this label are compared at the end, having no accuracy in common."""
    return self in (Label.NOT_USEFUL, Label.NOT_COMPARABLE)


def claim(difference: Interval, margin: float) -> Label:
  """What the interval of a difference of leakage says; `undecided` where it says nothing.

  Args:
    difference: a defence's less the baseline's, of at least two seeds.
    margin: differences smaller than this do not matter.

  Returns:
    The label: a claim only where the whole interval bears it out.

  Example:
    >>> str(claim(Interval(-0.3, -0.4, -0.2, 8), margin=0.05))
    'lowers leakage'
    >>> str(claim(Interval(0.0, -0.2, 0.2, 8), margin=0.05))
    'undecided'
  """
  _, low, high, _ = difference
  if low >= margin and low > 0:
    return Label.RAISES
  if high <= -margin and high < 0:
    return Label.LOWERS
  if -margin < low and high < margin:
    return Label.NO_EFFECT if low <= 0 <= high else Label.TOO_LITTLE
  return Label.UNDECIDED


def decide(names: Iterable[str], claimed: Callable[[str, float], Label]) -> dict[str, Label]:
  """The labels of several verdicts, with Holm's correction for their number.

  Of m verdicts that are open, those whose intervals at a confidence of 1 - 0.05 / m make a claim
  are decided; then of those that are left, until nothing is. The chance that any of the claims is
  wrong is 5 % at most; Holm 1979.

  Args:
    names: of the defences.
    claimed: from a name and a confidence to the label that its intervals bear out.

  Returns:
    The labels by name.
  """
  labels: dict[str, Label] = {}
  left = list(names)
  while left:
    claims = {name: claimed(name, 1 - LEVEL / len(left)) for name in left}
    decided = {name: label for name, label in claims.items() if label != Label.UNDECIDED}
    if not decided:
      return labels | claims
    labels |= decided
    left = [name for name in left if name not in decided]
  return labels
