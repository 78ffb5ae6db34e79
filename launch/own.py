"""Values of the user's own code on the command line, as package.module:name."""

import inspect
from typing import Any

from absl import flags
from flax import linen as nn

from jaxinv.attacks.attack import ALL as ATTACKS
from jaxinv.attacks.attack import Attack
from jaxinv.errors import InputError, named_object, own_code
from jaxinv.metrics.metric import ALL as METRICS
from jaxinv.metrics.metric import Metric
from jaxinv.training.losses import Loss

from .define import group


def define_own(f: flags.FlagValues) -> None:
  """Adds the flags by which a run takes values of the user's own code."""
  what = group(f, "what")
  what.texts(
    "attack",
    [],
    f"An attack to make: {', '.join(it.name for it in ATTACKS if it.needs_one_model)}, or your own "
    "as package.module:name; repeat for several. The default ones if none is given.",
  )
  what.texts(
    "metric",
    [],
    f"A metric to measure: {', '.join(it.name for it in METRICS)}, or your own as "
    "package.module:name; repeat for several. All of these if none is given.",
  )
  what.string(
    "model",
    None,
    "Your own model as package.module:name: a Flax module, or a function of the number of classes "
    "that returns one.",
  )


def own_values(f: flags.FlagValues, num_classes: int) -> dict[str, Any]:
  """The fields of `Settings` that the flags of `define_own` give.

  Args:
    f: the flags.
    num_classes: classes of the data, for a function that makes the model.

  Returns:
    Values by field; fields whose flag is not given are missing.

  Raises:
    InputError: what is named cannot be imported, or is of another type.
  """
  found = {}
  for flag, kind in (("attack", Attack), ("metric", Metric)):
    if f[flag].value:
      found[f"{flag}s"] = tuple(
        named_object(text, f"--{flag}", kind) if ":" in text else text for text in f[flag].value
      )
  if ":" in f.loss:
    found["loss"] = named_object(f.loss, "--loss", Loss)
  if f.model:
    found["model"] = own_model(f.model, "--model", num_classes)
  return found


def own_model(
  spec: str, what: str, num_classes: int, image_shape: tuple[int, ...] | None = None
) -> nn.Module:
  """The model of the user's own that a text names.

  Args:
    spec: `package.module:name`, of a Flax module, or of a function of the number of classes that
      makes one; where it has an argument `image_shape`, it is given that by name.
    what: what it is given for, for the message: `--model`.
    num_classes: classes of the data.
    image_shape: of the data.

  Returns:
    The module.

  Raises:
    InputError: what is named cannot be imported, raises, or is no Flax module.
  """
  model = named_object(spec, what)
  if callable(model) and not isinstance(model, nn.Module):
    with own_code(f"{what}: {spec}({num_classes})"):
      asked = image_shape and "image_shape" in inspect.signature(model).parameters
      model = model(num_classes, image_shape=image_shape) if asked else model(num_classes)
  if not isinstance(model, nn.Module):
    raise InputError(f"{what}: {spec} gives a {type(model).__name__}, not a Flax module")
  return model
