"""Models, and parameter pytrees of any model."""

from jaxinv.models.dense import INITIALIZERS, MLP, make_model
from jaxinv.models.params import class_weights, flatten, unflatten, weight_movement

__all__ = [
  "INITIALIZERS",
  "MLP",
  "class_weights",
  "flatten",
  "make_model",
  "unflatten",
  "weight_movement",
]
