"""Whom does a recovered image show? Each image against people's references, and against chance.

A face resembles every face, and a model's weights resemble whoever has the same hair. So what is
asked is not how large a correlation is, but whether ONE person stands out from all the others, in
what is that person's own. The other people are the null.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxinv.metrics.rows import centred, finite, unit
from jaxinv.types import References


class Match(NamedTuple):
  """Whom each recovered image resembles, against how much it resembles everybody else.

  Attributes:
    nearest: indices of the reference images with the largest correlation, the largest first; where
      a unit holds a person as a negative, those with the most negative.
    nearest_ncc: their centred correlations (both less what all people have in common).
    person: the person that stands out most.
    person_ncc: the centred correlation with that person's mean image; negative where a hidden unit
      has the face as a negative.
    p_values: chance that somebody stands out so much among people who are all alike to the image.
  """

  nearest: Int[np.ndarray, "u m"]
  nearest_ncc: Float[np.ndarray, "u m"]
  person: Int[np.ndarray, " u"]
  person_ncc: Float[np.ndarray, " u"]
  p_values: Float[np.ndarray, " u"]


FEWEST_PEOPLE = 5
# Ridge of the regression that people's own parts are what is left of, in units of the geometric
# mean of the total variance of people's means and that of one of their P - 1 components. A smaller
# one finds more, and calls more look-alikes a match. Chosen on the AT&T faces and on drawn ones,
# with references of 10 to 200 people: at 5 % after Benjamini and Hochberg's correction, at most 1 %
# of the classes of models of other people matched.
RIDGE = 0.7
_MOST_REGRESSORS = 1000  # More people tell little more of what people share, and cost their square.
_LEAST_SPREAD = 1e-6  # Of scores, which are correlations in single precision: less is rounding.
_CHUNK = 2**22  # Values worked on at a time: 17 MB, or twice that in double precision.


class People(NamedTuple):
  """What images are compared with, flattened; see `prepare`.

  Attributes:
    mean: what all have in common, the mean over people's mean images.
    faces: each person's mean image less that.
    own: what of it is that person's own, of length 1, or 0 where nothing is.
    lengths: of the reference images less the mean.
  """

  mean: Float[np.ndarray, " d"]
  faces: Float[np.ndarray, "p d"]
  own: Float[np.ndarray, "p d"]
  lengths: Float[np.ndarray, " n"]


def resemble(
  images: Float[np.ndarray, "u h w c"],
  references: References,
  two_sided: bool,
  num_nearest: int = 3,
  people: People | None = None,
) -> Match:
  """Compares recovered images with references, and tests whether one person stands out.

  Correlations are Pearson's over pixels, of an image with a reference, or with a person's mean
  image, less the mean over all people's mean images; 0 where one is constant.

  The test. A person's own part is what a ridge regression on the other people's mean images, and
  on the mean of all, leaves unexplained. An image has a score for each person: its correlation with
  that person's own part. The null is that the image has nothing to do with any one of them: all its
  scores are draws from one normal distribution, whose mean and deviation the image's own scores
  tell, whatever they are. Grubbs' test for one outlier (Annals of Mathematical Statistics 21, 1950,
  p. 27) says how rare the largest is: with z = (score - mean) / deviation over P people,
  t = z sqrt(P (P - 2) / ((P - 1)^2 - P z^2)) has Student's distribution with P - 2 degrees of
  freedom, and p is P times its tail, at most 1. That is as if the person's score was foretold by
  all others'. Noise, the mean of everybody, and somebody else's face have no such outlier; of two
  people in equal parts each still does a little.

  Two limits. The null is of people who are no more alike than others: a stranger's double, or twins
  in two folders, break it. And where the references came in one pool, each photograph is a person,
  and the other photographs of the same person are among the others: the fewer people there are in
  the pool, the less any stands out, and a person who has a tenth of the photographs is not found.

  Args:
    images: in any unit; values that are not finite count as 0.
    references: images of people, of the same shape.
    two_sided: whether a negative of a face counts too, as in hidden units. The person is then the
      one with the largest |z|, and the nearest images are those with correlations of its sign.
    num_nearest: reference images to name, m; fewer where there are fewer.
    people: what `prepare` makes of the references, for who calls this often.

  Returns:
    The match. With fewer than 5 people, and for a constant image, p is 1: nobody can stand out.
  """
  people = people or prepare(references)
  flat = references.images.reshape(len(references.images), -1)
  parts = [
    _compare(rows, flat, people, two_sided, min(num_nearest, len(flat)))
    for rows in _chunks(images.reshape(len(images), flat.shape[1]), max(flat.shape))
  ]
  return Match(*map(np.concatenate, zip(*parts, strict=True)))


def person_means(references: References) -> Float[np.ndarray, "p h w c"]:
  """Each person's mean image, in the order of `people`.

  Args:
    references: images of people.

  Returns:
    The means, in double precision, in the references' unit.
  """
  shape = references.images.shape[1:]
  means = np.zeros((len(references.people), *shape))
  # Image by image: the images may fill the memory, and must not be made doubles all at once.
  for person, image in zip(references.person, references.images, strict=True):
    means[person] += image
  counts = np.bincount(references.person, minlength=len(means))
  return means / counts.reshape(-1, 1, 1, 1)


def prepare(references: References) -> People:
  """What of the references is the same for all images that are compared with them.

  Args:
    references: images of people.

  Returns:
    The people. It takes a second for 400 people of 10,000 pixels, less for fewer.
  """
  means = person_means(references).reshape(len(references.people), -1)
  mean = means.mean(0)
  faces = centred(means - mean[None])
  flat = references.images.reshape(len(references.images), -1)
  lengths = [
    np.linalg.norm(centred(rows - mean[None]), axis=1) for rows in _chunks(flat, len(mean))
  ]
  return People(
    mean=mean.astype(np.float32),
    faces=unit(faces).astype(np.float32),
    own=unit(_own_parts(faces, centred(mean[None])[0])).astype(np.float32),
    lengths=np.concatenate(lengths),
  )


def _own_parts(
  faces: Float[np.ndarray, "p d"], mean: Float[np.ndarray, " d"]
) -> Float[np.ndarray, "p d"]:
  """What of each face a ridge regression on the others leaves unexplained, up to its length.

  With K = F F' and a ridge a, row j of F - K (K + a I)^-1 F = a (K + a I)^-1 F is face j less its
  regression on all other rows, times a factor. Of very many people, some serve as regressors.
  """
  direction = unit(mean[None])[0]
  faces = faces - (faces @ direction)[:, None] * direction[None]
  some = faces[:: -(-len(faces) // _MOST_REGRESSORS)]
  gram = some @ some.T
  ridge = RIDGE * np.trace(gram) / np.sqrt(max(len(some) - 1, 1))
  if ridge == 0:
    return np.zeros_like(faces)
  return faces - (faces @ some.T) @ np.linalg.solve(gram + ridge * np.eye(len(some)), some)


def _compare(
  images: Float[np.ndarray, "u d"],
  references: Float[np.ndarray, "n d"],
  people: People,
  two_sided: bool,
  num_nearest: int,
) -> tuple[np.ndarray, ...]:
  """The fields of a `Match`, of some images."""
  # With mean 0 and length 1; constant ones are 0.
  images = unit(centred(finite(images))).astype(np.float32)
  person, sign, p_values = _stand_out(np.float64(images @ people.own.T), two_sided)
  # An image has mean 0 by now, so the references' means need not be taken off.
  ncc = images @ references.T - (images @ people.mean)[:, None]
  # Not below a ten-thousandth of a grey level, which is rounding.
  shortest = 1e-4 * np.sqrt(images.shape[1])
  lengths = np.where(people.lengths > shortest, people.lengths, np.inf)
  ncc = np.float64(ncc) / lengths[None]
  nearest = np.argsort(-ncc * sign[:, None], axis=1, kind="stable")[:, :num_nearest]
  person_ncc = np.einsum("ud,ud->u", images, people.faces[person]).astype(np.float64)
  return nearest, np.take_along_axis(ncc, nearest, 1), person, person_ncc, p_values


def _stand_out(
  scores: Float[np.ndarray, "u p"], two_sided: bool
) -> tuple[Int[np.ndarray, " u"], Float[np.ndarray, " u"], Float[np.ndarray, " u"]]:
  """Grubbs' test: who stands out most, on which side, and the chance of it."""
  from scipy import stats  # Half a second to import, and only references need it.

  count = scores.shape[1]
  if count < 2:
    return np.zeros(len(scores), int), np.ones(len(scores)), np.ones(len(scores))
  deviation = scores.std(1, ddof=1, keepdims=True)
  varied = deviation > _LEAST_SPREAD
  z = (scores - scores.mean(1, keepdims=True)) / np.where(varied, deviation, 1.0)
  person = (np.abs(z) if two_sided else z).argmax(1)
  largest = np.take_along_axis(z, person[:, None], 1)[:, 0]
  sign = np.where(two_sided & (largest < 0), -1.0, 1.0)
  if count < FEWEST_PEOPLE:
    return person, sign, np.ones(len(scores))
  # No z can be larger; where it is as large, all the other scores are equal.
  rest = np.maximum((count - 1) ** 2 - count * largest**2, 0)
  with np.errstate(divide="ignore"):
    t = np.abs(largest) * np.sqrt(count * (count - 2) / rest)
  p_values = (1 + two_sided) * count * stats.t.sf(t, count - 2)
  return person, sign, np.where(varied[:, 0], np.minimum(p_values, 1.0), 1.0)


def _chunks(rows: Float[np.ndarray, "u d"], width: int) -> Iterator[Float[np.ndarray, "_ d"]]:
  """Some rows at a time; once none where there are none."""
  size = max(1, _CHUNK // width)
  for start in range(0, max(len(rows), 1), size):
    yield rows[start : start + size]
