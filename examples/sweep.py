"""What the engine is, in one call: 64 seeds x 5 learning rates as one compiled program."""

import numpy as np

import jaxinv
from jaxinv.models import make_model
from jaxinv.training import LOSSES, OPTIMIZERS, make_trainer

people = jaxinv.synthetic_faces(num_people=6, images_per_person=8)
trainer = make_trainer(make_model(people.num_classes), LOSSES["softmax"], OPTIMIZERS["adam"])
rates = [1e-5, 1e-4, 3e-4, 1e-3, 3e-3]
hypers = [jaxinv.Hyper(learning_rate=rate) for rate in rates]
found = jaxinv.ensemble.train(trainer, hypers, people, seeds=64, steps=30)
print(found)
accuracy = np.asarray(found.history.train_accuracy[-1]).reshape(len(rates), 64)
for rate, values in zip(rates, accuracy, strict=True):
  print(f"rate {rate:g}: train accuracy {values.mean():.3f} (sd {values.std():.3f})")
