"""Planted findings of an audit, for the tests of what is said and drawn of them."""

import numpy as np
from scipy import ndimage

from jaxinv.attacks.attack import resolve
from jaxinv.attacks.single.unmixing import Count
from jaxinv.auditing.findings import Audit, Finding, Tensor, Unmixing
from jaxinv.metrics.matching import Match
from jaxinv.types import References

SHAPE = (12, 9, 1)
CONFIG = {
  "versions": {"python": "3.11", "jax": "0.10"},
  "device": {"kind": "cpu", "count": 1},
  "precision": "default",
  "git_revision": None,
  "flags": {"weights": ["model.npz"]},
  "weights": [{"path": "model.npz", "bytes": 7, "sha256": "ab"}],
}
UNSEEN = (
  Tensor("b/$x_{$<i>", (4, 5), "float32", "none", "no axis fits"),
  Tensor("c", (), "int64", "none", "a single number"),
  Tensor("d", (7, 5), "float32", "none", "no axis fits"),
)


def plant(
  num=6, structured=4, matched=None, what="class", attack="reshape", source="w", shape=SHAPE
) -> Finding:
  """Images of which the first are smooth and the rest noise; of the smooth ones the first match.

  The later of these stand out more, and every second one as a negative.
  """
  rng = np.random.default_rng(num)
  images = rng.standard_normal((num, *shape))
  images[:structured] = ndimage.gaussian_filter(images[:structured], (0, 2, 2, 0))
  place = np.arange(num)
  flags = place < structured
  p_values = np.where(flags, 1e-6, 0.5)
  finding = Finding(
    source=source,
    attack=resolve([attack])[0],
    what=what,
    layout="hwc",
    images=images,
    kept=place,
    morans_i=np.where(flags, 0.9 - 0.01 * place, -0.001),
    p_values=p_values,
    q_values=np.minimum(2 * p_values, 1),
    structured=flags,
  )
  if matched is None:
    return finding
  ncc = (0.2 + 0.01 * place) * np.where(place % 2, -1.0, 1.0)
  nearest = np.stack([3 * (place % 5), 3 * (place % 5) + 1], 1)
  match = Match(nearest, np.full((num, 2), 0.3), place % 5, ncc, p_values)
  return finding._replace(match=match, match_q=p_values, matched=place < matched)


def people(grouped=True, shape=SHAPE) -> References:
  """Five people with three images each, all of one grey, or fifteen images."""
  images = np.broadcast_to(10.0 * np.arange(15)[:, None, None, None], (15, *shape))
  names = tuple(f"p{i}/{j}.pgm" for i in range(5) for j in range(3))
  person, who = (np.repeat(np.arange(5), 3), tuple("abcde"))
  if not grouped:
    person, who = np.arange(15), names
  return References(images, person, who, names, grouped, ("2 files were passed over.",))


def unmix(num=4, matched=None, certain=True, shape=SHAPE, scaled=True) -> Unmixing:
  """Images that were unmixed, of falling stability; the first match the first references.

  With references the last has none of its own.
  """
  place = np.arange(num)
  images = np.random.default_rng(num).uniform(size=(num, *shape)).astype(np.float32)
  count = Count(num, 200.0 if certain else 2.0, certain)
  found = Unmixing(
    "w", "init_params", "hwc", count, images, np.linspace(0.98, 0.86, num), is_scaled=scaled
  )
  if matched is None:
    return found
  nearest = np.where(place < num - 1, place, -1)
  ncc = np.where(place < matched, 0.97, np.where(nearest < 0, np.nan, 0.5))
  return found._replace(
    nearest=nearest, nearest_ncc=ncc, nearest_detail_ncc=0.5 * ncc, matched=place < matched
  )


def audit_of(
  *findings, known=None, shape=SHAPE, tensors=UNSEEN, alpha=0.05, measures=None, unmixed=None
):
  used = [Tensor(f.source, (108, 6), "float32", "images", "108 = 12 x 9") for f in findings]
  return Audit(
    (*used, *tensors), findings, shape, alpha, known, measures or {}, ("A note.",), unmixed
  )
