"""Loaders: each a function that returns a `types.Dataset` with inputs in float32."""

from jaxinv.data.att import load_att
from jaxinv.data.cifar10 import load_cifar10
from jaxinv.data.folder import load_folder, load_references
from jaxinv.data.synthetic_faces import synthetic_faces
from jaxinv.data.synthetic_shapes import synthetic_shapes
from jaxinv.types import Dataset

__all__ = [
  "Dataset",
  "load_att",
  "load_cifar10",
  "load_folder",
  "load_references",
  "synthetic_faces",
  "synthetic_shapes",
]
