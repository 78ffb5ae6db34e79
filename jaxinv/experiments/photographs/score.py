"""How many photographs are among unmixed components: one to one, and against decoys."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxinv.metrics.rows import centred, unit

# From this correlation on a photograph counts as recovered.
RECOVERED = 0.9


class Score(NamedTuple):
  """Components against all pictures there are, members and decoys.

  Attributes:
    closest: the picture that correlates most with each component.
    correlation: with that picture.
    edge_correlation: with the same picture, of the edges of both.
    is_member: whether it was trained on.
    photograph: the component's partner one to one, an index into the members; -1 for none.
    quality: the correlation of each member with its component; 0 where it has none.
    edge_quality: the same of their edges.
    identified: whether each member is, of all pictures, the closest to its component.
  """

  closest: Int[np.ndarray, " i"]
  correlation: Float[np.ndarray, " i"]
  edge_correlation: Float[np.ndarray, " i"]
  is_member: Bool[np.ndarray, " i"]
  photograph: Int[np.ndarray, " i"]
  quality: Float[np.ndarray, " m"]
  edge_quality: Float[np.ndarray, " m"]
  identified: Bool[np.ndarray, " m"]

  def shares(self) -> dict[str, float]:
    """What summary.json says of one model; shares of the photographs, but for `members_first`."""
    return {
      "identified": float(self.identified.mean()),
      "recovered": float((self.quality > RECOVERED).mean()),
      "recovered_edges": float((self.edge_quality > RECOVERED).mean()),
      "members_first": float(self.is_member.mean()) if len(self.is_member) else np.nan,
      "correlation": float(self.quality.mean()),
    }


class Pictures(NamedTuple):
  """All pictures there are, made ready to be correlated with.

  Attributes:
    pixels: less their means, of length 1.
    edges: their first differences, of length 1.
    image_shape: (h, w) or (h, w, c).
  """

  pixels: Float[np.ndarray, "n p"]
  edges: Float[np.ndarray, "n e"]
  image_shape: tuple[int, ...]


def prepare(inputs: Float[np.ndarray, "n p"], image_shape: tuple[int, ...]) -> Pictures:
  """Makes pictures ready for `score`."""
  pictures = np.asarray(inputs, np.float32)
  return Pictures(
    unit(centred(pictures)), unit(edges(pictures.reshape(-1, *image_shape))), image_shape
  )


def edges(images: Float[np.ndarray, "n h w *c"]) -> Float[np.ndarray, "n e"]:
  """The first differences of images, down and across."""
  parts = np.diff(images, axis=1), np.diff(images, axis=2)
  return np.concatenate([part.reshape(len(images), math.prod(part.shape[1:])) for part in parts], 1)


def score(
  images: Float[np.ndarray, "i h w *c"], pictures: Pictures, members: Int[np.ndarray, " m"]
) -> Score:
  """Compares components with all pictures, and gives each member at most one of them.

  Correlations are Pearson's over the pixels, signed: a component has a sign of its own, by its
  bias or its brightness. Members and components are matched one to one so that the sum of their
  correlations is largest (Kuhn 1955), so that no photograph counts twice.

  Args:
    images: the components, perhaps none.
    pictures: all there are.
    members: indices of those trained on.

  Returns:
    The score.
  """
  from scipy.optimize import linear_sum_assignment  # Slow to import.

  images = images.astype(np.float32)
  flat = images.reshape(len(images), pictures.pixels.shape[1])
  seen = unit(centred(flat)) @ pictures.pixels.T
  seen_edges = unit(edges(images)) @ pictures.edges.T
  closest = seen.argmax(1) if len(images) else np.zeros(0, int)
  rows, columns = linear_sum_assignment(-seen[:, members])
  photograph = np.full(len(images), -1)
  photograph[rows] = columns
  quality, edge_quality = np.zeros((2, len(members)), np.float32)
  identified = np.zeros(len(members), bool)
  quality[columns] = seen[rows, members[columns]]
  edge_quality[columns] = seen_edges[rows, members[columns]]
  identified[columns] = closest[rows] == members[columns]
  places = np.arange(len(images))
  return Score(
    closest,
    seen[places, closest],
    seen_edges[places, closest],
    np.isin(closest, members),
    photograph,
    quality,
    edge_quality,
    identified,
  )
