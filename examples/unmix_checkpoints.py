"""Reads single photographs out of two checkpoints of one training, without the initial weights.

python examples/unmix_checkpoints.py        # drawn faces, seconds
python examples/unmix_checkpoints.py att    # 80 of the AT&T faces, in JAXINV_DATA; two minutes
"""

import sys

import numpy as np

import jaxinv
from jaxinv.attacks.single import unmixing

real = sys.argv[1:] == ["att"]
people = jaxinv.load("att") if real else jaxinv.synthetic_faces(num_people=12, images_per_person=4)
each, steps, units = (2, (500, 1500), 512) if real else (1, (50, 100), 128)
arm = jaxinv.Arm("sgd", "sgd", jaxinv.Hyper(learning_rate=0.01 if real else 0.005))


def saved_after(steps):
  """The first layer as it was then, and which photographs were trained on."""
  settings = jaxinv.Settings(
    (arm,),
    num_seeds=1,
    steps=steps,
    batch_size=32 if real else 0,
    holdout=len(people.labels) // people.num_classes - each,
    hidden=(units,),
    attacks=("reshape",),
  )
  found = jaxinv.run(settings, people, progress=False)
  kept = found.arms["sgd"].arrays
  layer = {name: kept[f"params/Dense_0/{name}"][0] for name in ("kernel", "bias")}
  return layer, found.splits["train"][0]


(early, members), (late, _) = map(saved_after, steps)
change = unmixing.change_of(late, early, num_features=people.inputs.shape[1])
found = unmixing.unmix(change, people.image_shape)
print(f"The change is made of {found.count.number} photographs (cliff {found.count.cliff:.0f}:1).")

# Each against all pictures there are, those trained on and the others.
number = len(found.images)
alike = np.corrcoef(found.images.reshape(number, -1), people.inputs)[:number, number:]
closest = alike.argmax(1)
told = len(set(closest) & set(members))
print(f"{told} of {len(members)} photographs are the closest picture to one of the images found;")
print(f"the correlation is {alike.max(1).mean():.3f} in the mean.")
