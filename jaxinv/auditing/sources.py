"""Which tensors of an unknown model may hold images, and how the images lie in them.

Names, shapes and dtypes are enough: nothing is loaded here.
"""

import enum
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxinv.auditing.findings import Tensor
from jaxinv.auditing.formats.stored import Stored
from jaxinv.errors import InputError, choose
from jaxinv.models.params import natural, plan_layers

ImageShape = tuple[int, int, int]

# How a vector of pixels may have been flattened: its axes, the slowest first.
LAYOUTS = ("hwc", "chw", "whc", "cwh")
# Wider kernels of convolutions than this are taken for images of their own.
_WIDEST_FILTER = 15
_FLOATS = ("float16", "bfloat16", "float32", "float64")


class Link(NamedTuple):
  """A dense layer by the names of its tensors; `transposed` where the kernel is [out, in]."""

  kernel: str
  transposed: bool
  bias: str | None


class Source(NamedTuple):
  """Images in a tensor.

  Attributes:
    tensor: its name.
    what: `class`, `unit` or `filter`, see `findings.Finding`.
    order: the tensor's axes, those of units first, then those of an image.
    image_shape: height, width and channels of each image.
    layouts: how the pixels may lie along the axes of an image, to be chosen from.
    layers: the dense layers from the pixels to what the images are of, the first being this tensor;
      more than one only for the classes of a model with hidden layers. Empty where it is none.
    num: how many images there are: of units, or of the classes behind all layers.
  """

  tensor: str
  what: str
  order: tuple[int, ...]
  image_shape: ImageShape
  layouts: tuple[str, ...]
  layers: tuple[Link, ...]
  num: int


def find_sources(
  tensors: Mapping[str, Stored], image_shape: ImageShape, layout: str = "auto"
) -> tuple[list[Source], list[Tensor]]:
  """Finds what can be read as images of a shape.

  Args:
    tensors: the model's, by name.
    image_shape: height, width and channels.
    layout: how vectors of pixels were flattened, a name in `LAYOUTS`, or `auto` for any.

  Returns:
    The sources, those of classes first; and every tensor with what it is used for and why.

  Raises:
    InputError: the layout is unknown, or no tensor fits.
  """
  layouts = possible_layouts(image_shape, layout)
  names = sorted(tensors, key=natural)
  roles = _find_roles(tensors, names, image_shape)
  kinds = {name: classify(name, tensors[name], roles, image_shape) for name in names}
  sources = [
    source
    for name, kind in kinds.items()
    for source in _sources(name, kind, tensors[name].shape, roles, image_shape, layouts)
  ]
  listed = [_listed(name, kind, tensors[name], roles, image_shape) for name, kind in kinds.items()]
  if not sources:
    raise InputError(_nothing_fits(listed, image_shape))
  rank = {"class": 0, "unit": 1, "filter": 2}
  return sorted(sources, key=lambda source: rank[source.what]), listed


class Kind(enum.Enum):
  """What a tensor is: what it is used for, and why, in a few words."""

  UNREAD = "none", "{dtype} is not read; convert weights to float32"
  EMPTY = "none", "empty"
  DENSE = (
    "images",
    "a dense kernel {way} with as many inputs as an image has values, {pixels}{maps}",
  )
  LAYER = "layer", "a dense layer behind the one that sees the images"
  BIAS = "bias", "stands beside a dense kernel"
  IMAGES = "images", "{pixels} values along {axes}, as an image has"
  FILTERS = "filters", "the kernel of a convolution that sees the images' channels"
  OTHER = "none", "no axis of {pixels} values, nor of an image's height and width"


class Roles(NamedTuple):
  """What tensors are to one another in the dense layers of a model.

  Attributes:
    chains: dense layers from the pixels on, by the name of the first kernel.
    behind: the kernels of later layers.
    biases: the biases of all layers.
    convolves: whether any tensor is a convolution that sees the images.
  """

  chains: Mapping[str, "_Chain"]
  behind: frozenset[str]
  biases: frozenset[str]
  convolves: bool


def _find_roles(
  tensors: Mapping[str, Stored], names: Sequence[str], image_shape: ImageShape
) -> Roles:
  floats = {name: tensors[name].shape for name in names if str(tensors[name].dtype) in _FLOATS}
  chains = _find_chains(floats, int(np.prod(image_shape)))
  links = [link for chain in chains.values() for link in chain.links]
  return Roles(
    chains=chains,
    behind=frozenset(link.kernel for link in links) - set(chains),
    biases=frozenset(link.bias for link in links if link.bias is not None),
    convolves=any(_filter_axes(shape, image_shape[2]) for shape in floats.values()),
  )


def classify(name: str, tensor: Stored, roles: Roles, image_shape: ImageShape) -> Kind:
  """What a tensor is.

  Args:
    name: its name.
    tensor: its shape and type; nothing is loaded.
    roles: what tensors are to one another.
    image_shape: height, width and channels.

  Returns:
    The first of the kinds that it is.
  """
  if str(tensor.dtype) not in _FLOATS:
    return Kind.UNREAD
  if not np.prod(tensor.shape):
    return Kind.EMPTY
  if name in roles.chains:
    return Kind.DENSE
  if name in roles.behind:
    return Kind.LAYER
  if name in roles.biases:
    return Kind.BIAS
  if _image_axes(tensor.shape, image_shape):
    return Kind.IMAGES
  return Kind.FILTERS if _filter_axes(tensor.shape, image_shape[2]) else Kind.OTHER


def _sources(
  name: str,
  kind: Kind,
  shape: tuple[int, ...],
  roles: Roles,
  image_shape: ImageShape,
  layouts: tuple[str, ...],
) -> list[Source]:
  """The images in a tensor."""
  if kind is Kind.DENSE:
    return _dense_sources(shape, image_shape, layouts, roles.chains[name])
  if kind is Kind.IMAGES:
    order, flat = _image_axes(shape, image_shape)
    num = int(np.prod(shape)) // int(np.prod(image_shape))
    return [Source(name, "unit", order, image_shape, layouts if flat else ("hwc",), (), num)]
  if kind is Kind.FILTERS:
    order, kernel = _filter_axes(shape, image_shape[2])
    num = int(np.prod(shape)) // int(np.prod(kernel))
    return [Source(name, "filter", order, kernel, ("hwc",), (), num)]
  return []


def _listed(name: str, kind: Kind, tensor: Stored, roles: Roles, image_shape: ImageShape) -> Tensor:
  """What became of a tensor, and why."""
  use, words = kind.value
  told: dict[str, Any] = {"dtype": tensor.dtype, "pixels": int(np.prod(image_shape))}
  if kind is Kind.DENSE:
    told["way"] = "[out, in]" if roles.chains[name].links[0].transposed else "[in, out]"
    maps = "; as the model has convolutions, these may be their feature maps"
    told["maps"] = maps if roles.convolves else ""
  if kind is Kind.IMAGES:
    order, flat = _image_axes(tensor.shape, image_shape)
    told["axes"] = f"axis {order[-1]}" if flat else "axes {}, {}, {}".format(*order[-3:])
  return Tensor(name, tensor.shape, str(tensor.dtype), use, words.format(**told))


def possible_layouts(image_shape: ImageShape, layout: str) -> tuple[str, ...]:
  """The layouts to choose from, only such as differ in who is whose neighbour.

  Args:
    image_shape: height, width and channels.
    layout: a name in `LAYOUTS`, for which there is no choice, or `auto`.

  Raises:
    InputError: the layout is unknown.
  """
  if layout in LAYOUTS:
    return (layout,)
  if layout != "auto":
    choose("layout", layout, dict.fromkeys(("auto", *LAYOUTS)))
  height, width, channels = image_shape
  layouts = LAYOUTS if channels > 1 else ("hwc", "whc")
  # A square image and its mirror image along the diagonal have the same neighbours.
  turned = height != width and min(height, width) > 1
  return tuple(it for it in layouts if turned or it.index("h") < it.index("w"))


class _Chain(NamedTuple):
  """Dense layers from the pixels on.

  Attributes:
    links: the layers.
    num_outputs: of the last.
    whole: whether nothing in their branch takes what they give.
  """

  links: tuple[Link, ...]
  num_outputs: int
  whole: bool


def _find_chains(shapes: Mapping[str, tuple[int, ...]], pixels: int) -> dict[str, _Chain]:
  """Chains of dense layers that begin at the pixels, by the name of the first kernel.

  A file may hold several models (weights and their running mean, an optimiser's memories), whose
  tensors have the same shapes. So a chain is looked for in the largest branch in which no second
  kernel takes pixels.
  """
  chains: dict[str, _Chain] = {}
  matrices = [name for name, shape in shapes.items() if len(shape) == 2 and pixels in shape]
  for name in matrices:
    if any(name == link.kernel for chain in chains.values() for link in chain.links):
      continue
    parts = re.split(r"(?<=[/.])", name)
    for depth in range(len(parts)):
      prefix = "".join(parts[:depth])
      branch = {it: shape for it, shape in shapes.items() if it.startswith(prefix)}
      links = _chain(branch, pixels)
      kernels = {link.kernel for link in links}
      rivals = any(it in branch and it not in kernels for it in matrices)
      outputs = [shapes[it.kernel][0 if it.transposed else 1] for it in links]
      # A later layer with as many outputs as there are pixels is a decoder, or a second model.
      if links[0].kernel == name and not rivals and pixels not in outputs[1:]:
        takers = {it for it in branch if len(shapes[it]) > 1 and outputs[-1] in shapes[it]}
        chains[name] = _Chain(links, outputs[-1], takers <= kernels)
        break
  return chains


def _chain(branch: Mapping[str, tuple[int, ...]], pixels: int) -> tuple[Link, ...]:
  """The layers of a branch by name."""
  names = list(branch)

  def link(place):
    bias = None if place.bias is None else names[place.bias]
    return Link(names[place.kernel], place.transposed, bias)

  return tuple(link(place) for place in plan_layers(list(branch.items()), pixels))


def _dense_sources(shape, image_shape, layouts, chain: _Chain) -> list[Source]:
  """The images of a dense kernel: its own units, and with layers behind it the classes."""
  first, *behind = chain.links
  order = (0, 1) if first.transposed else (1, 0)
  what = "class" if chain.whole and not behind else "unit"
  own = Source(first.kernel, what, order, image_shape, layouts, (first,), shape[order[0]])
  if not behind:
    return [own]
  return [own, own._replace(what="class", layers=chain.links, num=chain.num_outputs)]


def _image_axes(
  shape: tuple[int, ...], image_shape: ImageShape
) -> tuple[tuple[int, ...], bool] | None:
  """The axes with those of an image last (height, width, channels), and whether it is one axis."""
  height, width, channels = image_shape
  pixels = height * width * channels
  if pixels in shape:
    axis = shape.index(pixels)
    return (*(i for i in range(len(shape)) if i != axis), axis), True
  wanted = {"hwc": (height, width, channels), "chw": (channels, height, width)}
  for letters, sizes in wanted.items():
    for start in range(len(shape) - 2):
      if shape[start : start + 3] == sizes:
        image = tuple(start + letters.index(letter) for letter in "hwc")
        return (*(i for i in range(len(shape)) if i not in image), *image), False
  if channels == 1:
    for start in range(len(shape) - 1):
      if shape[start : start + 2] == (height, width):
        image = (start, start + 1)
        return (*(i for i in range(len(shape)) if i not in image), *image), False
  return None


def _filter_axes(
  shape: tuple[int, ...], channels: int
) -> tuple[tuple[int, ...], ImageShape] | None:
  """For kernels of a first convolution, [h, w, in, out] or PyTorch's [out, in, h, w]."""
  if len(shape) != 4:
    return None
  for order in ((3, 0, 1, 2), (0, 2, 3, 1)):
    height, width, depth = (shape[i] for i in order[1:])
    if depth == channels and 1 < max(height, width) <= _WIDEST_FILTER:
      return order, (height, width, depth)
  return None


def _nothing_fits(listed: Sequence[Tensor], image_shape: ImageShape) -> str:
  height, width, channels = image_shape
  there = [f"{it.name} {it.shape}" for it in itertools.islice(listed, 6)]
  more = f" and {len(listed) - 6} more" if len(listed) > 6 else ""
  unread = [it for it in listed if it.use == "none" and "is not read" in it.why]
  unread = [it for it in unread if _image_axes(it.shape, image_shape)]
  if unread:
    return f"{unread[0].name} {unread[0].shape} would fit the images, but {unread[0].why}"
  return (
    f"no tensor fits images of {height} x {width} x {channels} = {height * width * channels} "
    f"values: there are {', '.join(there) or 'none'}{more}; give the --image_shape "
    "(height,width,channels) of what the model was made for"
  )
