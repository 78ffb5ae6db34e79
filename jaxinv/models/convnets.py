"""Convolutional networks in Flax: residual networks and VGG, for small coloured images.

Inputs travel flat, as everywhere here; a network folds them into images itself. Beside the logits
each gives the features that its last convolution leaves, which is where pictures are compared.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxinv.errors import InputError, choose
from jaxinv.models.convolution import general_dilated

NORMS = ("group", "batch")
# Of running statistics: how much of the old is kept at each step.
MOMENTUM = 0.9
# He et al. 2015, arXiv 1502.01852: keeps the size of what passes through rectified layers.
_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Outputs(NamedTuple):
  """What a network says of a batch.

  Attributes:
    logits: one a class.
    features: what the last convolution leaves, averaged over its places.
  """

  logits: Float[Array, "b k"]
  features: Float[Array, "b d"]


class Norm(nn.Module):
  """Normalises channels: by the batch, with running statistics, or by groups within an image.

  In a network that does not train, batch normalisation leaves by the name `distance` how far the
  statistics of this batch are from the running ones, where that collection is asked for: the prior
  of Yin et al. 2020, arXiv 1912.08795, equation 4.

  Attributes:
    kind: a name in `NORMS`.
    train: whether the batch's own statistics are used, and move the running ones.
    dtype: of the computation.
  """

  kind: str
  train: bool
  dtype: jax.typing.DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Returns the normalised, scaled and shifted images."""
    if self.kind == "group":
      # Wu & He 2018, arXiv 1803.08494; about eight channels a group.
      groups = max(n for n in range(1, max(2, x.shape[-1] // 8 + 1)) if x.shape[-1] % n == 0)
      return nn.GroupNorm(groups, dtype=self.dtype)(x)
    layer = nn.BatchNorm(
      use_running_average=not self.train, momentum=MOMENTUM, dtype=self.dtype, name="batch"
    )
    y = layer(x)
    asked = self.is_mutable_collection("distance") and not self.is_initializing()
    if asked and not self.train:
      running = self.variables["batch_stats"]["batch"]
      x = x.astype(jnp.float32)
      mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
      apart = jnp.square(mean - running["mean"]).sum() + jnp.square(var - running["var"]).sum()
      self.sow("distance", "distance", apart)
    return y


class ConvNet(nn.Module):
  """What residual networks and VGG have in common.

  Attributes:
    image_shape: (h, w, c) of an input.
    num_classes: number of logits, k.
    blocks: residual blocks, or convolutions, of each stage; every stage but the first halves height
      and width.
    channels: of each stage.
    norm: a name in `NORMS`.
    dtype: of the computation; parameters and logits stay float32.
  """

  image_shape: tuple[int, int, int]
  num_classes: int
  blocks: Sequence[int]
  channels: Sequence[int]
  norm: str = "batch"
  dtype: jax.typing.DTypeLike = jnp.float32


class ResNet(ConvNet):
  """A residual network with normalisation and activation before each convolution.

  He et al. 2016, arXiv 1603.05027, with the stem and stages of their networks for small images.
  """

  @nn.compact
  def __call__(self, x: Float[Array, "b p"], train: bool = False) -> Outputs:
    """Answers a batch of inputs; `train` uses and moves the batch's own statistics."""
    norm = partial(Norm, self.norm, train, self.dtype)
    conv = _convolution(self.dtype)
    x = conv(self.channels[0])(_fold(x, self.image_shape, self.dtype))
    for stage, (blocks, channels) in enumerate(zip(self.blocks, self.channels, strict=True)):
      for block in range(blocks):
        strides = 2 if stage and not block else 1
        y = nn.relu(norm()(x))
        # The shortcut takes what the first activation gives where it must change the shape.
        same = strides == 1 and x.shape[-1] == channels
        short = x if same else conv(channels, (1, 1), strides=strides)(y)
        y = conv(channels, strides=strides)(y)
        x = short + conv(channels)(nn.relu(norm()(y)))
    return _outputs(nn.relu(norm()(x)), self.num_classes)


class VGG(ConvNet):
  """A plain network of 3 x 3 convolutions with pooling between stages.

  Simonyan & Zisserman 2015, arXiv 1409.1556, with normalisation, and one dense layer at its end, as
  is usual for small images. Where an image is too small to be pooled again, it is not.
  """

  @nn.compact
  def __call__(self, x: Float[Array, "b p"], train: bool = False) -> Outputs:
    """Answers a batch of inputs; `train` uses and moves the batch's own statistics."""
    x = _fold(x, self.image_shape, self.dtype)
    for stage, (blocks, channels) in enumerate(zip(self.blocks, self.channels, strict=True)):
      if stage and min(x.shape[1:3]) > 1:
        x = nn.max_pool(x, (2, 2), (2, 2))
      for _ in range(blocks):
        x = _convolution(self.dtype)(channels)(x)
        x = nn.relu(Norm(self.norm, train, self.dtype)(x))
    return _outputs(x, self.num_classes)


def _convolution(dtype: jax.typing.DTypeLike) -> Callable[..., nn.Conv]:
  on_cpu = jax.default_backend() == "cpu"

  def layer(channels, kernel=(3, 3), strides=1):
    return nn.Conv(
      channels,
      kernel,
      strides,
      use_bias=False,
      kernel_init=_INIT,
      dtype=dtype,
      conv_general_dilated=general_dilated if on_cpu else None,
    )

  return layer


def _fold(
  x: Float[Array, "b p"], image_shape: tuple[int, int, int], dtype: jax.typing.DTypeLike
) -> Float[Array, "b h w c"]:
  """Flat inputs in [0, 1] as images about zero."""
  return (4 * x - 2).reshape(-1, *image_shape).astype(dtype)


def _outputs(x: Float[Array, "b h w c"], num_classes: int) -> Outputs:
  """The last layer, in float32 whatever the others computed in."""
  features = x.astype(jnp.float32).mean((1, 2))
  return Outputs(nn.Dense(num_classes, name="head")(features), features)


class OwnNetwork(nn.Module):
  """A Flax module of the caller's own, as what trains, attacks and measures networks takes it.

  Attributes:
    network: from inputs [b, p], in [0, 1], to logits [b, k] or to `Outputs`. Where its call has an
      argument `train`, it is told whether it trains.
    image_shape: (h, w, c) of an input.
    num_classes: number of logits, k.

  Example:
    >>> model = OwnNetwork(nn.Dense(10), (4, 4, 3), 10)
    >>> outputs, _ = model.init_with_output(jax.random.key(0), jnp.ones((2, 48)))
    >>> outputs.logits.shape
    (2, 10)
  """

  network: nn.Module
  image_shape: tuple[int, int, int]
  num_classes: int

  @nn.compact
  def __call__(self, x: Float[Array, "b p"], train: bool = False) -> Outputs:
    """Answers a batch of inputs; logits are its features too where it gives no other."""
    told = "train" in inspect.signature(self.network.__call__).parameters
    said = self.network(x, train=train) if told else self.network(x)
    return said if isinstance(said, Outputs) else Outputs(said, said)


class Design(NamedTuple):
  """A network's kind, its stages' blocks, and their channels at width 1."""

  kind: type[ConvNet]
  blocks: tuple[int, ...]
  channels: tuple[int, ...]


DESIGNS: dict[str, Design] = {
  "resnet18": Design(ResNet, (2, 2, 2, 2), (64, 128, 256, 512)),
  # Three stages of one block: eight layers of weights, the shortcuts' not counted.
  "resnet8": Design(ResNet, (1, 1, 1), (64, 128, 256)),
  "vgg16": Design(VGG, (2, 2, 3, 3, 3), (64, 128, 256, 512, 512)),
}


def make_convnet(
  name: str,
  image_shape: tuple[int, int, int],
  num_classes: int,
  width: float = 1.0,
  norm: str = "batch",
  dtype: jax.typing.DTypeLike = jnp.float32,
) -> nn.Module:
  """Builds a network.

  Args:
    name: a name in `DESIGNS`.
    image_shape: (h, w, c) of an input.
    num_classes: number of classes, k.
    width: factor on all numbers of channels.
    norm: a name in `NORMS`.
    dtype: of the computation.

  Returns:
    The Flax module, from inputs [b, p] to an `Outputs`.

  Raises:
    InputError: a name is unknown, or the factor leaves a layer without channels.
  """
  design = choose("model", name, DESIGNS)
  choose("norm", norm, dict.fromkeys(NORMS))
  channels = tuple(round(width * channels) for channels in design.channels)
  if min(channels) < 1:
    raise InputError(f"a width factor of {width:g} leaves layers of {name} without channels")
  return design.kind(image_shape, num_classes, design.blocks, channels, norm, dtype)
