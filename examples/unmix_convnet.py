"""Single photographs out of a dense layer that stands behind a convolution.

python examples/unmix_convnet.py        # 12 drawn faces, seconds
python examples/unmix_convnet.py att    # 40 of the AT&T faces, in JAXINV_DATA; a minute

A convolution sees far more patches than it has filters; a dense layer behind it sees feature maps.
"""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxinv
from jaxinv.attacks.single import features, unmixing
from jaxinv.experiments.photographs.score import prepare, score

real = sys.argv[1:] == ["att"]
people = jaxinv.load("att") if real else jaxinv.synthetic_faces(num_people=12, images_per_person=4)
(height, width), steps = ((64, 52), 1000) if real else ((48, 40), 100)
images = people.inputs.reshape(-1, *people.image_shape)
images = jax.image.resize(images, (len(images), height, width), "linear")
members = np.unique(people.labels, return_index=True)[1]
seen, labels = images[members], jnp.asarray(people.labels[members])

filters = nn.Sequential([nn.Conv(16, (5, 5), strides=2), nn.relu])
rest = nn.Sequential([nn.Dense(256), nn.relu, nn.Dense(people.num_classes)])


def maps_of(images, params):
  """Feature maps [n, h, w, 16]."""
  return filters.apply({"params": params["filters"]}, images[..., None])


@jax.jit
def step(params):
  """One step of gradient descent on all photographs."""

  def loss(params):
    logits = rest.apply({"params": params["rest"]}, maps_of(seen, params).reshape(len(seen), -1))
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

  return jax.tree.map(lambda p, g: p - 0.01 * g, params, jax.grad(loss)(params))


first = {"filters": filters.init(jax.random.key(0), seen[..., None])["params"]}
shape = maps_of(seen, first).shape[1:]
first["rest"] = rest.init(jax.random.key(1), jnp.ones((1, int(np.prod(shape)))))["params"]
last = jax.lax.fori_loop(0, steps, lambda _, params: step(params), first)

change = unmixing.change_of(last["rest"], first["rest"], int(np.prod(shape)))
found = unmixing.unmix(change, shape, len(members), largest=np.inf)
got = features.to_images(lambda x: maps_of(x, last), jnp.float32(found.images), (height, width))
told = score(np.asarray(got), prepare(images.reshape(len(images), -1), (height, width)), members)
print(f"Of {len(members)} photographs {told.identified.sum()} are identified, among {len(images)};")
print(f"the correlation is {told.quality.mean():.3f} in the mean.")
