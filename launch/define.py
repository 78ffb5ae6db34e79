"""Flags by the groups that --help shows them in, and --help itself."""

import textwrap
from collections.abc import Callable, Container
from functools import partial
from typing import NamedTuple

from absl import flags

# In the order of --help.
GROUPS = ("what", "data", "training", "output", "machine")
_WIDTH = 100


class Group(NamedTuple):
  """What defines the flags of a group, each a function of absl's arguments but for the flags."""

  string: Callable
  integer: Callable
  real: Callable
  switch: Callable
  choice: Callable
  names: Callable
  texts: Callable


def group(f: flags.FlagValues, name: str) -> Group:
  """What defines flags of one of `GROUPS`.

  Args:
    f: to which the flags are added.
    name: of the group.

  Returns:
    A function for each kind of flag; `names` are separated by commas, `texts` given repeatedly.
  """
  kinds = (
    *(flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float, flags.DEFINE_bool),
    *(flags.DEFINE_enum, flags.DEFINE_list, flags.DEFINE_multi_string),
  )
  # What absl calls a flag's module is any text, by which it keeps them apart.
  return Group(*(partial(define, flag_values=f, module_name=name) for define in kinds))


def explain(f: flags.FlagValues, about: str, without: Container[str] = ()) -> str:
  """The text of --help: what the command is about, and its flags by group.

  Args:
    f: the command's flags.
    about: what it does.
    without: names of flags to leave out.

  Returns:
    The text.
  """
  parts = [about.strip()]
  for name in GROUPS:
    shown = [flag for flag in f.flags_by_module_dict().get(name, ()) if flag.name not in without]
    if shown:
      parts.append("\n".join([f"{name}:", *map(_explain_flag, shown)]))
  return "\n\n".join(parts)


def _explain_flag(flag: flags.Flag) -> str:
  name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
  # What absl adds to the text of some kinds.
  text = " ".join(flag.help.split()).removesuffix(
    "; repeat this option to specify a list of values"
  )
  choices = "|".join(getattr(flag.parser, "enum_values", ()))
  if choices:
    name, text = f"{name}={choices}", text.removeprefix(f"<{choices}>: ")
  text += f" (default: {_default_words(flag.default)})"
  lines = textwrap.wrap(text, _WIDTH - 6, break_long_words=False, break_on_hyphens=False)
  return "\n".join([f"  {name}", *(f"      {line}" for line in lines)])


def _default_words(value: object) -> str:
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, list):
    value = (" " if any("," in text for text in value) else ",").join(value)
  return "none" if value in (None, "") else f"{value}"
