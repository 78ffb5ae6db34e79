"""Single photographs out of a dense layer that stands behind a convolution.

python examples/unmix_convnet.py        # drawn faces, half a minute
python examples/unmix_convnet.py att    # 40 of the AT&T faces, in JAXINV_DATA
python examples/unmix_convnet.py att faces.png     # and draws twenty of them

A first convolution sees patches, far more of them than it has filters, so that its own change has
no photographs to give. The dense layer behind it sees feature maps: its change is a mixture of
those, is unmixed, and each map is carried back to the image that the model's own filters map to it.
"""

import sys
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import jaxinv
from jaxinv.attacks.single.unmixing import change_of, unmix
from jaxinv.experiments.photographs.score import prepare, score

SHAPE, STEPS, BATCH = (64, 52), 1000, 32


class Net(nn.Module):
  """A convolution of stride 2, a dense layer, and the classes."""

  num_classes: int

  @nn.compact
  def __call__(self, images, maps_only=False):
    """Logits [n, k] of images [n, h, w], or their feature maps [n, h, w, c]."""
    maps = nn.relu(nn.Conv(16, (5, 5), strides=2, name="conv")(images[..., None]))
    if maps_only:
      return maps
    units = nn.relu(nn.Dense(256, name="dense")(maps.reshape(len(maps), -1)))
    return nn.Dense(self.num_classes, name="head")(units)


@partial(jax.jit, static_argnames="net")
def train(net, params, images, labels):
  """Plain SGD on the softmax loss."""
  sgd = optax.sgd(0.01)

  def loss(params, batch):
    logits = net.apply({"params": params}, images[batch])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]).mean()

  def step(carry, key):
    batch = jax.random.permutation(key, len(images))[:BATCH]
    updates, state = sgd.update(jax.grad(loss)(carry[0], batch), carry[1])
    return (optax.apply_updates(carry[0], updates), state), None

  keys = jax.random.split(jax.random.key(1), STEPS)
  return jax.lax.scan(step, (params, sgd.init(params)), keys)[0][0]


@partial(jax.jit, static_argnames="net")
def to_pixels(net, params, maps):
  """The images whose feature maps are most like the given ones, by gradient descent."""
  adam = optax.adam(0.05)

  def loss(raw):
    images = nn.sigmoid(raw)
    seen = net.apply({"params": params}, images, maps_only=True)
    rough = (
      jnp.square(jnp.diff(images, axis=1)).mean() + jnp.square(jnp.diff(images, axis=2)).mean()
    )
    return jnp.square(seen - maps).sum((1, 2, 3)).sum() / jnp.square(maps).sum() + rough

  def step(carry, _):
    updates, state = adam.update(jax.grad(loss)(carry[0]), carry[1])
    return (optax.apply_updates(carry[0], updates), state), None

  start = jnp.zeros((len(maps), *SHAPE))
  return nn.sigmoid(jax.lax.scan(step, (start, adam.init(start)), length=300)[0][0])


people = jaxinv.load("att" if "att" in sys.argv else "synthetic_faces")
images = people.inputs.reshape(-1, *people.image_shape)
images = jax.image.resize(images, (len(images), *SHAPE), "linear")
# One photograph of each person; all others are decoys.
members = np.unique(people.labels, return_index=True)[1]

net = Net(people.num_classes)
first = net.init(jax.random.key(0), images[:1])["params"]
last = train(net, first, images[members], jnp.asarray(people.labels[members]))
maps = np.asarray(net.apply({"params": last}, images, maps_only=True))

size = int(np.prod(maps.shape[1:]))
change = change_of({"dense": last["dense"]}, {"dense": first["dense"]}, size)
found = unmix(change, maps.shape[1:], len(members), largest=np.inf)
pictures = np.asarray(to_pixels(net, last, jnp.asarray(found.images, jnp.float32)))
ideal = np.asarray(to_pixels(net, last, jnp.asarray(maps[members])))

right = net.apply({"params": last}, images[members]).argmax(1) == people.labels[members]
steps = jax.tree.map(jnp.subtract, last["conv"], first["conv"])
moved = optax.global_norm(steps) / optax.global_norm(first["conv"])
print(f"Training accuracy {right.mean():.2f}; the filters moved by {moved:.0%} of their size.")
print(f"The spectrum counts {found.count.number} photographs of {len(members)}.")
known = prepare(np.asarray(images).reshape(len(images), -1), SHAPE)
scores = [score(seen, known, members) for seen in (pictures, ideal)]
names = "unmixed", "from the true feature maps, the most there is"
for what, got in zip(names, scores, strict=True):
  print(f"{what}: {got.identified.sum()} of {len(members)} identified,", end=" ")
  print(f"{(got.quality > 0.9).sum()} above 0.9, mean correlation {got.quality.mean():.3f}")

if sys.argv[-1].endswith(".png"):
  figure = Figure(figsize=(12, 5), layout="constrained")
  axes = figure.subplots(4, 10)
  # In the order of the classes, as they come: photographs above, below them what was found.
  partner = np.argsort(scores[0].photograph)
  for place, photograph in enumerate(range(20)):
    row, column = 2 * (place // 10), place % 10
    axes[row, column].imshow(images[members[photograph]], cmap="gray", vmin=0, vmax=1)
    # From its darkest to its brightest pixel: the maps' scale is that of filters that moved.
    axes[row + 1, column].imshow(pictures[partner[photograph]], cmap="gray")
  for axis in axes.ravel():
    axis.axis("off")
  figure.savefig(sys.argv[-1])
