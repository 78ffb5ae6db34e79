"""The grammar of a network's way of training: `NAME:key=value,key=value`."""

from collections.abc import Callable

from jaxinv.errors import InputError, choose, named, named_object
from jaxinv.experiments.networks.settings import NetworkArm
from jaxinv.models.convnets import DESIGNS, NORMS
from jaxinv.training.adversary import ADVERSARIES
from jaxinv.training.optimizers import OPTIMIZERS, SCHEDULES
from jaxinv.types import Hyper, RobustHyper

from .arms import number, refuse_momentum, split_arm
from .own import own_model

_NUMBERS = ("learning_rate", "momentum", "weight_decay", "label_smoothing", "clip_norm")
_WORDS = {
  "model": DESIGNS,
  "norm": dict.fromkeys(NORMS),
  "optimizer": OPTIMIZERS,
  "schedule": SCHEDULES,
  "adversary": ADVERSARIES,
}
KEYS = (*_WORDS, "width_factor", "adversary_radius", "adversary_steps", "copies", *_NUMBERS)


def parse_network(
  text: str, flag: str, num_classes: int, image_shape: tuple[int, ...]
) -> NetworkArm:
  """Parses one way of training a network, `NAME:key=value,key=value`.

  Args:
    text: what was given.
    flag: by which flag.
    num_classes: classes of the data, for a model of the user's own.
    image_shape: of the data, for the same.

  Returns:
    The arm.

  Raises:
    InputError: what is wrong, in which arm, and what would be right.
  """
  name, values = split_arm(text, KEYS, flag)
  where = f"--{flag} {name}"
  words = {key: values.pop(key) for key in _WORDS if key in values}
  with named(where):
    for key, word in words.items():
      if key == "optimizer" and ":" in word:
        words[key] = named_object(word, key, Callable)
      elif key == "model" and ":" in word:
        if taken := {"norm", "width_factor"} & {*words, *values}:
          raise InputError(f"{min(taken)} is of the models that are there: leave it out for {word}")
        words[key] = own_model(word, key, num_classes, image_shape)
      else:
        choose(key, word, _WORDS[key])
  refuse_momentum(where, words.get("optimizer", "adamw"), values)
  numbers = {key: number(where, key, value) for key, value in values.items()}
  radius = numbers.pop("adversary_radius", 0.0)
  adversary = words.get("adversary", "none")
  if (adversary == "none") != (radius == 0):
    raise InputError(
      f"{where}: an adversary and its radius go together: give adversary=pgd_l2 and "
      "adversary_radius=0.5, say, or neither"
    )
  if adversary == "none" and "adversary_steps" in numbers:
    raise InputError(f"{where}: adversary_steps needs an adversary, such as adversary=pgd_l2")
  whole = ("adversary_steps", "copies")
  static = {key: int(numbers.pop(key)) for key in whole if key in numbers}
  static |= {key: numbers.pop(key) for key in ("width_factor",) if key in numbers}
  base = Hyper(**{"learning_rate": 0.003, "weight_decay": 0.01, **numbers})
  return NetworkArm(name, **words, **static, hyper=RobustHyper(base, radius))
