"""What a metric is: a value that says how it is measured, what it needs and how figures call it.

Everything that must know about a metric reads it here, so that a metric of the caller's own is
used like any other.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
from jaxtyping import Array, Float

from jaxinv import errors
from jaxinv.metrics import images as of_images


class Targets(NamedTuple):
  """The truth that one model's recovered images are compared with.

  Attributes:
    train_mean: mean training image of each class, in the data's unit.
    holdout_mean: mean held-out image of each class; None where nothing was held out.
    train_parts: means of j parts of each class's training images, each of as many images as are
      held out, see `splits.part_shares`; None for all in one.

  Example:
    >>> import jax.numpy as jnp
    >>> targets = Targets(train_mean=jnp.zeros((2, 8, 8)))  # 2 classes, nothing held out.
    >>> sorted(measure(jnp.ones((2, 8, 8)), targets, ["ncc", "excess"]))
    ['ncc']
  """

  train_mean: Float[Array, "k h w *c"]
  holdout_mean: Float[Array, "k h w *c"] | None = None
  train_parts: Float[Array, "j k h w *c"] | None = None


class Metric(NamedTuple):
  """A measure of one model's recovered images.

  Attributes:
    name: what it is called, in files too.
    measure: (images, targets) -> a scalar, the mean over classes; `images` is one image a class,
      as `targets.train_mean`. Traced by JAX: no Python branches on values.
    words: its label in figures, without the unit.
    unit: its unit, nothing where it has none.
    needs_holdout: whether it needs `targets.holdout_mean`; not measured where nothing is held out.
    high: whether a higher value means that more was recovered.

  Example:
    >>> import jax.numpy as jnp
    >>> def error(images, targets):
    ...   return jnp.abs(images - targets.train_mean).mean()
    >>> mine = Metric("error", error, words="mean error", unit="grey levels", high=False)
    >>> mine.label
    'mean error (grey levels)'
    >>> black, white = jnp.zeros((2, 3, 3)), jnp.full((2, 3, 3), 255.0)
    >>> float(measure(black, Targets(white), (mine,))["error"])
    255.0
  """

  name: str
  measure: Callable[[Array, Targets], Float[Array, ""]]
  words: str = ""
  unit: str = ""
  needs_holdout: bool = False
  high: bool = True

  def __call__(self, images: Array, targets: Targets) -> Float[Array, ""]:
    """The mean over classes."""
    return self.measure(images, targets)

  def __repr__(self) -> str:
    return f"Metric({self.name}: {' '.join(self.label.split())})"

  @property
  def label(self) -> str:
    """What figures call it, with its unit."""
    return (self.words or self.name) + (f" ({self.unit})" if self.unit else "")


def _mean_ncc(images: Float[Array, "k h w *c"], means: Float[Array, "k h w *c"]):
  return jax.vmap(of_images.ncc)(images, means).mean()


ncc = Metric(
  "ncc",
  lambda images, targets: _mean_ncc(images, targets.train_mean),
  words="NCC with the\nclass mean",
)
ncc_centred = Metric(
  "ncc_centred",
  lambda images, targets: _mean_ncc(
    images, targets.train_mean - targets.train_mean.mean(0, keepdims=True)
  ),
  words="centred NCC",
)
ssim = Metric(
  "ssim", lambda images, targets: of_images.ssim(images, targets.train_mean).mean(), words="SSIM"
)
psnr = Metric(
  "psnr",
  lambda images, targets: jax.vmap(of_images.psnr)(images, targets.train_mean).mean(),
  words="PSNR",
  unit="dB",
)
identification = Metric(
  "identification",
  lambda images, targets: of_images.identification(images, targets.holdout_mean),
  words="identification",
  needs_holdout=True,
)


def _excess(images: Float[Array, "k h w *c"], targets: Targets) -> Float[Array, ""]:
  """Means of as many images on either side: that of many is the liker to any image of its class."""
  parts = targets.train_mean[None] if targets.train_parts is None else targets.train_parts
  seen = jax.vmap(_mean_ncc, (None, 0))(images, parts).mean()
  return seen - _mean_ncc(images, targets.holdout_mean)


excess = Metric(
  "excess",
  _excess,
  words="excess NCC over\nheld-out mean",
  needs_holdout=True,
)

# What `jaxinv.run` and the commands measure unless told otherwise.
DEFAULT = (ncc, ncc_centred, ssim, psnr, identification, excess)
ALL = DEFAULT


def resolve(metrics: Iterable[str | Metric] | str | Metric) -> tuple[Metric, ...]:
  """Metrics given by name or as values, as values.

  Args:
    metrics: names of `ALL` and values of the caller's own, mixed; or one alone.

  Returns:
    The values, in the order given.

  Raises:
    InputError: a name is unknown, or two metrics have one name.

  Example:
    >>> [metric.label for metric in resolve(["psnr", ssim])]
    ['PSNR (dB)', 'SSIM']
  """
  return errors.resolve("metric", metrics, ALL)


def measure(
  images: Float[Array, "k h w *c"], targets: Targets, metrics: Iterable[str | Metric] = DEFAULT
) -> dict[str, Float[Array, ""]]:
  """All metrics of one model's recovered images.

  Args:
    images: one recovered image a class.
    targets: the class means to compare with.
    metrics: what to measure; those that need held-out images are left out where there are none.

  Returns:
    A scalar by each metric's name: its mean over classes.

  Raises:
    InputError: a name is unknown, or two metrics have one name.

  Example:
    >>> images = jax.random.uniform(jax.random.key(0), (2, 8, 8))
    >>> measure(images, Targets(images), ["ncc", "psnr"])["psnr"]
    Array(100., dtype=float32)
  """
  return {
    metric.name: metric.measure(images, targets)
    for metric in resolve(metrics)
    if targets.holdout_mean is not None or not metric.needs_holdout
  }
