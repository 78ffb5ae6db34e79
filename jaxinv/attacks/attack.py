"""What an attack is: a value that says what it needs, where it applies and how it is called.

Everything that must know about an attack (what is kept for it, whether an audit can run it, how
figures call it) reads it here, so that an attack of the caller's own is used like any other.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from jaxinv import errors
from jaxinv.attacks import confidence, filtered, weights
from jaxinv.metrics.images import normalize
from jaxinv.types import Params, Release

ImageShape = tuple[int, ...]


class Attack(NamedTuple):
  """A way from what an attacker holds to images.

  Attributes:
    name: what it is called, in files too.
    recover: (release, image shape) -> one raw image a class, for one model.
    needs: fields of `Release` that it reads: decides what is kept, and what an audit can run.
    per_unit: whether it may be fed some units of a layer at a time.
    linear_only: whether it is for models of one layer.
    project: (of, held) -> its images as the examples see them, where they are linear in the
      weights: `of(params, minus)` projects the weights, less those of `minus` where it is not
      None; `held` is a release in the form in which the engine keeps parameters. It can then be
      measured at every record without making images.
    cosines: (of, held) -> the cosine transform of its images, see `filtered.cosine_transform`, up
      to a factor: `of` gives that of the weights, `held` is a release. It too can be measured at
      every record.
    smooths: whether its images are smooth whatever goes in, so that their structure means nothing.
    words: its label in figures.
    how: its line in "how to read"; the label where there is none.
    fewest_classes: of a model that it says something of.

  Example:
    >>> import jax.numpy as jnp
    >>> negative = Attack("negative", lambda release, shape: -reshape(release, shape), words="-W")
    >>> negative(Release({"kernel": jnp.ones((6, 2))}), (2, 3)).shape
    (2, 2, 3)
  """

  name: str
  recover: Callable[[Release, ImageShape], Array]
  needs: frozenset[str] = frozenset({"params"})
  per_unit: bool = False
  linear_only: bool = False
  project: Callable[[Callable[[Params, Params | None], Any], Release], Any] | None = None
  cosines: Callable[[Callable[[Params, Params | None], Array], Release], Array] | None = None
  smooths: bool = False
  words: str = ""
  how: str = ""
  fewest_classes: int = 1

  def __call__(self, release: Release, image_shape: ImageShape) -> Array:
    """One raw image a class."""
    return self.recover(release, image_shape)

  def __repr__(self) -> str:
    return f"Attack({self.name}: {self.label})"

  @property
  def label(self) -> str:
    """What figures call it."""
    return self.words or self.name

  @property
  def knowledge(self) -> str:
    """What the attacker must hold, in words."""
    held = [words for field, words in _KNOWLEDGE.items() if field in self.needs]
    return " and ".join(held) or "weights"

  @property
  def at_records(self) -> bool:
    """Whether it is made at every record, and not at the end only."""
    return self.project is not None or self.cosines is not None

  @property
  def needs_one_model(self) -> bool:
    """Whether it attacks a single model, and not several together."""
    return "peers" not in self.needs


# Longest knowledge first; what goes beyond the weights says so by itself.
_KNOWLEDGE = {
  "peers": "several models",
  "previous_params": "two releases",
  "init_params": "weights and initial weights",
  "others": "weights and other people's photographs",
}

reshape = Attack(
  "reshape",
  weights.reshape,
  per_unit=True,
  project=lambda of, held: of(held.params, None),
  words="W",
  how="the weights of a class, reshaped into a picture: the naive attacker",
)
init_diff = Attack(
  "init_diff",
  weights.init_diff,
  frozenset({"params", "init_params"}),
  per_unit=True,
  project=lambda of, held: of(held.params, held.init_params),
  words="W - W0",
  how="what training changed in the weights, W - W0",
)
seed_mean = Attack(
  "seed_mean",
  weights.seed_mean,
  frozenset({"peers"}),
  per_unit=True,
  words="mean W of all seeds",
  how="the average of the weights of all seeds' models",
)
class_centred = Attack(
  "class_centred",
  weights.class_centred,
  project=lambda of, held: of(held.params, None).less_class_mean(),
  words="W less its class mean",
  how="the same less the mean over the classes, which softmax does not see",
  fewest_classes=2,
)
update_ratio = Attack(
  "update_ratio",
  weights.update_ratio,
  frozenset({"params", "previous_params"}),
  per_unit=True,
  linear_only=True,
  project=lambda of, held: of(held.params, held.previous_params).over_bias(),
  words="change of W over that of the bias",
  how="what a class's weights changed by since the record before, over what its bias changed by",
)
mi_face = Attack(
  "mi_face",
  confidence.mi_face,
  words="MI-Face",
  how="the picture that the model is most confident of, found by steps on the input",
  fewest_classes=2,
)

denoised = Attack(
  "denoised",
  filtered.denoised,
  cosines=lambda of, held: filtered.wiener_cosines(of(held.params, None)),
  smooths=True,
  words="W, denoised",
  how="the weights of a class through a Wiener filter: noise is white, faces are smooth",
)
denoised_diff = Attack(
  "denoised_diff",
  filtered.denoised_diff,
  frozenset({"params", "init_params"}),
  cosines=lambda of, held: filtered.wiener_cosines(of(held.params, held.init_params)),
  smooths=True,
  words="W - W0, denoised",
  how="what training changed in the weights, W - W0, through a Wiener filter",
)
denoised_seed_mean = Attack(
  "denoised_seed_mean",
  filtered.denoised_seed_mean,
  frozenset({"peers"}),
  smooths=True,
  words="mean W of all seeds, denoised",
  how="the average of the weights of all seeds' models, through a Wiener filter",
)
denoised_others = Attack(
  "denoised_others",
  filtered.denoised_others,
  frozenset({"params", "others"}),
  smooths=True,
  words="W, denoised by faces",
  how="the weights of a class through a filter made of the principal components of other people's "
  "photographs",
  fewest_classes=2,
)

# What `jaxinv.run` and `launch.faces` make unless told otherwise, of each model.
DEFAULT = (reshape, denoised, init_diff)
ALL = (
  reshape,
  denoised,
  init_diff,
  denoised_diff,
  seed_mean,
  denoised_seed_mean,
  class_centred,
  update_ratio,
  denoised_others,
  mi_face,
)


def resolve(attacks: Iterable[str | Attack] | str | Attack) -> tuple[Attack, ...]:
  """Attacks given by name or as values, as values.

  Args:
    attacks: names of `ALL` and values of the caller's own, mixed.

  Returns:
    The values, in the order given.

  Raises:
    InputError: a name is unknown, or two attacks have one name.

  Example:
    >>> [attack.label for attack in resolve(["reshape", init_diff])]
    ['W', 'W - W0']
  """
  return errors.resolve("attack", attacks, ALL)


def recover(
  attack: str | Attack,
  release: Release,
  image_shape: ImageShape,
  mode: str = "min-max",
  largest: float = 255.0,
) -> Float[Array, "k ..."]:
  """Runs an attack and normalises each image.

  Args:
    attack: a name in `ALL`, or a value.
    release: what the attacker holds.
    image_shape: (h, w) in pixels, or (h, w, c).
    mode: how to normalise, see `metrics.images.normalize`.
    largest: the largest value of the data.

  Returns:
    One image a class, in 0..255 unless said otherwise.

  Raises:
    InputError: the attack is unknown or lacks what it needs.

  Example:
    >>> import jax.numpy as jnp
    >>> release = Release({"kernel": jnp.arange(12.0).reshape(6, 2)})
    >>> recover("reshape", release, (2, 3))[0].astype(int).tolist()
    [[0, 51, 102], [153, 204, 255]]
  """
  (found,) = resolve([attack])
  images = found(release, image_shape)
  return jax.vmap(lambda image: normalize(image, mode, largest))(images)
