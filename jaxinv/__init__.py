"""jaxinv: how much of its training data do a model's weights give away?

What most people need; the modules hold the rest.
"""

from jaxinv.auditing.audit import audit
from jaxinv.data.att import load_att
from jaxinv.data.cifar10 import load_cifar10
from jaxinv.data.folder import load_references
from jaxinv.data.synthetic_faces import synthetic_faces
from jaxinv.data.synthetic_shapes import synthetic_shapes
from jaxinv.errors import InputError
from jaxinv.experiments.outcome import run, summarize
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.types import Dataset, Hyper, Release

__all__ = [
  "Arm",
  "Dataset",
  "Hyper",
  "InputError",
  "Release",
  "Settings",
  "audit",
  "load_att",
  "load_cifar10",
  "load_references",
  "run",
  "summarize",
  "synthetic_faces",
  "synthetic_shapes",
]
