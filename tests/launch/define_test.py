"""Flags by group; and every flag that --help shows is read by its command's code."""

import ast
import importlib
import re
from pathlib import Path

import pytest
from absl import flags

from jaxinv.__main__ import COMMANDS
from launch import define

LAUNCH = Path(define.__file__).parent


def shown(text):
  """The names of the flags in a text of --help."""
  return set(re.findall(r"^  --(?:\[no\])?(\w+)", text, re.M))


class Source:
  """A module of launch/: its functions, its constants, and what its names stand for."""

  def __init__(self, name, text):
    self.parts, self.names = {}, {}
    for node in ast.parse(text).body:
      if isinstance(node, ast.FunctionDef | ast.ClassDef):
        self.parts[node.name] = node
      elif isinstance(node, ast.Assign):
        self.parts |= {ast.unparse(target): node.value for target in node.targets}
      elif isinstance(node, ast.ImportFrom) and node.level:
        for it in node.names:
          # `from . import flags as shared`, or `from .run import opened`.
          home = (node.module, it.name) if node.module else (it.name, None)
          self.names[it.asname or it.name] = home
    self.names |= {part: (name, part) for part in self.parts}


def read_flags(sources, command):
  """The names of the flags that are read by what a command's `main` leads to.

  A flag is read as `FLAGS.name` or `f.name`, or as `FLAGS[text]`: there every text of the function,
  and of the constants that it names, may be a flag's name.
  """
  found, seen, waiting = set(), set(), [(command, "main")]
  while waiting:
    place = waiting.pop()
    if place in seen or place[1] not in sources[place[0]].parts:
      continue
    seen.add(place)
    source = sources[place[0]]
    nodes = list(ast.walk(source.parts[place[1]]))
    for node in nodes:
      if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id in ("FLAGS", "f"):
          found.add(node.attr)
        module, part = source.names.get(node.value.id, (None, ""))
        if module and part is None:
          waiting.append((module, node.attr))
      elif isinstance(node, ast.Name) and source.names.get(node.id, (None, None))[1]:
        waiting.append(source.names[node.id])
    if any(
      isinstance(it, ast.Subscript) and ast.unparse(it.value) in ("FLAGS", "f") for it in nodes
    ):
      named = [source.parts.get(it.id) for it in nodes if isinstance(it, ast.Name)]
      texts = [it for part in named if isinstance(part, ast.expr) for it in ast.walk(part)]
      found |= {it.value for it in [*nodes, *texts] if isinstance(it, ast.Constant)}
  return found


@pytest.fixture(scope="module")
def sources():
  return {it.stem: Source(it.stem, it.read_text("utf-8")) for it in LAUNCH.glob("*.py")}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_that_help_shows_is_read(name, sources, capsys):
  assert importlib.import_module(f"launch.{name}").main(["--help"]) == 0
  listed = shown(capsys.readouterr().out)
  assert len(listed) > 10
  assert not listed - read_flags(sources, name)


@pytest.mark.parametrize(
  ("reading", "flag"),
  [
    ("FLAGS.pose_seeds", "pose_seeds"),
    ("FLAGS.preset", "preset"),
    ("shared.place(FLAGS)", "coordinator"),
    ("own_values(FLAGS, dataset.num_classes)", "metric"),
  ],
)
def test_a_flag_that_nobody_reads_any_more_is_noticed(reading, flag, sources):
  text = (LAUNCH / "faces.py").read_text("utf-8")
  assert flag in read_flags(sources, "faces") and reading in text
  without = Source("faces", text.replace(reading, "None"))
  assert flag not in read_flags(sources | {"faces": without}, "faces")


def test_help_lists_flags_by_group_with_their_defaults():
  f = flags.FlagValues()
  output, what = define.group(f, "output"), define.group(f, "what")
  output.switch("loud", False, "Whether to say more.")
  what.choice("size", "small", ["small", "large"], "How much.")
  what.names("parts", ["a", "b"], "Which parts.")
  what.texts("arm", ["a:x=1,y=2", "b:x=2"], "Ways.")
  what.string("where", None, "A folder.")
  assert define.explain(f, "About.", without=("where",)) == "\n".join(
    [
      "About.",
      "",
      "what:",
      "  --size=small|large",
      "      How much. (default: small)",
      "  --parts",
      "      Which parts. (default: a,b)",
      "  --arm",
      "      Ways. (default: a:x=1,y=2 b:x=2)",
      "",
      "output:",
      "  --[no]loud",
      "      Whether to say more. (default: false)",
    ]
  )
