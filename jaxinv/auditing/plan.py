"""Which attacks an audit carries out on which tensors, and what it leaves out and why."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxinv.attacks.attack import (
  Attack,
  class_centred,
  init_diff,
  reshape,
  resolve,
  seed_mean,
  update_ratio,
)
from jaxinv.auditing.given import AttackerTensors
from jaxinv.auditing.sources import Source
from jaxinv.errors import InputError

# Carried out unless others are asked for, as far as what the attacker holds allows.
DEFAULT = (reshape, init_diff, seed_mean, class_centred, update_ratio)
# Bytes of the images that an attack on all classes together makes, at most.
_WHOLE_BYTES = 2**28
# What to give for each field of a `Release`.
_NEEDED = {
  "init_params": "the initial weights: give init_params (--init_weights)",
  "previous_params": "an earlier release: give previous_params (--previous_weights)",
  "peers": "several models: give peers (--weights more than once)",
}


class Task(NamedTuple):
  """One attack on one source."""

  source: Source
  attack: Attack

  def left_out(self, why: str) -> str:
    """What a reader must know where it is not carried out."""
    name, source = self.attack.name, self.source
    return f"{name} of {source.tensor} ({source.what}) was left out: {why}."


def plan(
  sources: Sequence[Source], held: AttackerTensors, attacks: Sequence[str | Attack]
) -> tuple[list[Task], list[str]]:
  """Which attacks are carried out on which sources; and what is left out, in words.

  Args:
    sources: where there may be images.
    held: what the attacker holds.
    attacks: names and values; if empty, those of `DEFAULT` that can be carried out.

  Returns:
    The tasks, source by source, and notes.

  Raises:
    InputError: an attack is unknown, needs what is not held or smooths, or none fits any source.
  """
  asked = resolve(attacks)
  for attack in asked:
    if lacks := _lacks(attack, held):
      raise InputError(f"{attack.name} needs {lacks}")
    if attack.smooths:
      raise InputError(
        f"{attack.name} smooths whatever it is given, so that an audit's test for structure would "
        "take noise for an image: leave it out"
      )
  asked = asked or tuple(attack for attack in DEFAULT if not _lacks(attack, held))
  tasks, notes = [], []
  for source in sources:
    for task in (Task(source, attack) for attack in asked):
      if why := _unfit(task):
        notes.append(task.left_out(why))
      elif source.what == "class" or not _about_classes(task.attack):
        tasks.append(task)
  if not tasks:
    raise none_possible(asked, notes)
  return tasks, notes


def none_possible(asked: Sequence[Attack], notes: Sequence[str]) -> InputError:
  """What to say where no attack gives an image."""
  names = ", ".join(dict.fromkeys(attack.name for attack in asked))
  return InputError(f"none of the attacks {names} is possible here: {notes[0] if notes else ''}")


def _lacks(attack: Attack, held: AttackerTensors) -> str:
  """What an attack needs that the attacker does not hold; nothing if it can be carried out."""
  for field in sorted(attack.needs):
    if field not in AttackerTensors._fields:
      return f"'{field}', which an audit has not: it has {', '.join(AttackerTensors._fields)}"
    if not getattr(held, field):
      return _NEEDED[field]
  return ""


def _about_classes(attack: Attack) -> bool:
  """Whether an attack says something of classes only, so that nobody misses it elsewhere."""
  return not attack.per_unit or not attack.needs_one_model


def _unfit(task: Task) -> str:
  """Why an attack that the reader may expect is left out."""
  source, attack = task
  if source.what == "class" and source.num < attack.fewest_classes:
    return "there is one class only"
  if attack.linear_only and not source.layers:
    return "it is for dense layers"
  if attack.linear_only and len(source.layers) > 1:
    return "it is for a layer that sees the images; see what is said of its units"
  if not attack.per_unit and source.what == "class":
    size = 4 * source.num * int(np.prod(source.image_shape))
    if size > _WHOLE_BYTES:
      return f"its images of {source.num} classes together would take {size / 2**20:.0f} MiB"
  return ""
