"""A metric of one's own: how well the edges of a face are recovered.

On the command line: --metric=ncc_centred --metric=examples.own_metric:edges
"""

import jax
import jax.numpy as jnp

import jaxinv


def edge_correlation(images, targets):
  """Mean over classes of the correlation of horizontal differences; images are [k, h, w]."""
  edges, truth = (jnp.diff(x, axis=2) for x in (images, targets.train_mean))
  return jax.vmap(jaxinv.metrics.images.ncc)(edges, truth).mean()


edges = jaxinv.Metric("edge_ncc", edge_correlation, words="NCC of edges")

if __name__ == "__main__":
  people = jaxinv.synthetic_faces(num_people=6, images_per_person=8)
  settings = jaxinv.Settings(
    arms=(jaxinv.Arm("sgd", "sgd", jaxinv.Hyper(learning_rate=0.1)),),
    num_seeds=4,
    steps=100,
    metrics=("ncc_centred", edges),  # Names and values mixed.
  )
  table = jaxinv.summarize(jaxinv.run(settings, people))["sgd"]
  for attack in ("reshape", "init_diff"):
    print(attack, {name: round(value["mean"], 3) for name, value in table[attack].items()})
