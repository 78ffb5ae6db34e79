"""Audits a checkpoint that somebody saved: does it show its training data?"""

import tempfile
from pathlib import Path

import numpy as np

import jaxinv

# Somebody's model: here one of our own, saved as an npz of plain arrays.
people = jaxinv.synthetic_faces(num_people=8, images_per_person=8)
arm = jaxinv.Arm("sgd", "sgd", jaxinv.Hyper(learning_rate=0.1))
found = jaxinv.run(jaxinv.Settings((arm,), num_seeds=1, steps=200), people)
kept = found.arms["sgd"].arrays

with tempfile.TemporaryDirectory() as folder:
  checkpoint = Path(folder) / "model.npz"
  np.savez(checkpoint, kernel=kept["weights"][0].T, bias=kept["bias"][0])
  audit = jaxinv.audit(checkpoint, image_shape=(112, 92))
  print(audit)
  for finding in audit.findings:
    print(finding.attack, f"{int(finding.structured.sum())} of {len(finding.structured)} classes")
