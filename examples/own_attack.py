"""An attack of one's own beside the built-in ones: the difference of weights, smoothed.

On the command line: --attack=reshape --attack=examples.own_attack:blur
"""

import jax
import jax.numpy as jnp

import jaxinv


def smooth_difference(release, image_shape):
  """W - W0, each pixel the mean of its 3 x 3 neighbourhood: [k, h, w] or [k, h, w, 3]."""
  images = jaxinv.attacks.init_diff(release, image_shape)
  kernel = jnp.ones((1, 3, 3, 1)[: images.ndim]) / 9
  return jax.scipy.signal.convolve(images, kernel, mode="same")


blur = jaxinv.Attack(
  "blur",
  smooth_difference,
  needs=frozenset({"params", "init_params"}),  # Decides what is kept for it, and its knowledge.
  words="W - W0, smoothed",
)

if __name__ == "__main__":
  people = jaxinv.synthetic_faces(num_people=6, images_per_person=8)
  settings = jaxinv.Settings(
    arms=(jaxinv.Arm("adam", "adam", jaxinv.Hyper(learning_rate=0.001)),),
    num_seeds=4,
    steps=100,
    attacks=(*jaxinv.attacks.DEFAULT, blur),
  )
  found = jaxinv.run(settings, people)
  for attack, measures in jaxinv.summarize(found)["adam"].items():
    if "ncc_centred" in measures:
      print(f"{attack:10} centred NCC {measures['ncc_centred']['mean']:.3f}")
