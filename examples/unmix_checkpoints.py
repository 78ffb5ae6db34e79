"""Reads single photographs out of two checkpoints of one training, without the initial weights."""

import numpy as np

import jaxinv
from jaxinv.attacks import unmixing

SHAPE = (112, 92)

# Somebody's training: an MLP on 12 photographs, saved after 150 and after 300 steps.
people = jaxinv.synthetic_faces(num_people=12, images_per_person=4)
arm = jaxinv.Arm("sgd", "sgd", jaxinv.Hyper(learning_rate=0.005))


def saved_after(steps):
  """The parameters as they were then, and which photographs were trained on."""
  settings = jaxinv.Settings(
    (arm,), num_seeds=1, steps=steps, batch_size=0, holdout=3, hidden=(256,), attacks=("reshape",)
  )
  found = jaxinv.run(settings, people, progress=False)
  kept = found.arms["sgd"].arrays
  layer = {name: kept[f"params/Dense_0/{name}"][0] for name in ("kernel", "bias")}
  return layer, found.splits["train"][0]


early, members = saved_after(150)
late, _ = saved_after(300)

change = unmixing.change_of(late, early, num_features=SHAPE[0] * SHAPE[1])
found = unmixing.unmix(change, SHAPE)
print(f"The change is made of {found.count.number} photographs (cliff {found.count.cliff:.0f}:1).")

photographs = people.inputs[members]
alike = np.corrcoef(found.images.reshape(len(found.images), -1), photographs)[:-12, -12:]
for image, stability in zip(alike, found.stability, strict=True):
  closest = people.names[people.labels[members[image.argmax()]]]
  print(f"stability {stability:.2f}: correlates {image.max():.3f} with a photograph of {closest}")
