"""Data of one's own, in colour: flags with noise, one class a flag.

On the command line: --dataset=examples.own_data:flags
"""

import numpy as np

import jaxinv

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "white": (1, 1, 1)}


def flags() -> jaxinv.Dataset:
  """Three stripes of colours, 12 x 18 pixels, 10 noisy images of each of 4 flags."""
  rng = np.random.default_rng(0)
  colours = np.array(list(COLOURS.values()), np.float32)
  images, labels = [], []
  for label in range(len(colours)):
    stripes = np.roll(colours, label, axis=0)[:3]
    flag = np.repeat(stripes, 6, axis=0)[None].repeat(12, 0)  # [12, 18, 3]
    for _ in range(10):
      noisy = 0.6 * flag + 0.2 + 0.1 * rng.standard_normal(flag.shape)
      images.append(noisy.clip(0, 1).ravel())
      labels.append(label)
  inputs = np.stack(images).astype(np.float32)
  return jaxinv.Dataset(inputs, np.array(labels), len(colours), (12, 18, 3), tuple(COLOURS))


if __name__ == "__main__":
  arm = jaxinv.Arm("sgd", "sgd", jaxinv.Hyper(learning_rate=0.1))
  found = jaxinv.run(jaxinv.Settings((arm,), num_seeds=4, steps=100, batch_size=16), flags())
  print(found)
  print("recovered:", found.arms["sgd"].images["init_diff"].shape)
