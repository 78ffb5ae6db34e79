"""The command `jaxinv NAME --flags`, also `python -m jaxinv NAME --flags`."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import jaxinv

COMMANDS = {
  "faces": "train arms x seeds on faces, invert them, measure, draw, report",
  "study": "compare defences with a baseline, under attackers, with controls and verdicts",
  "photographs": "read single training photographs out of trained weights",
  "privacy": "measure what DP-SGD costs and hides, and whether it keeps to its epsilon",
  "audit": "examine somebody else's weights for the people they were trained on",
  "power": "measure how soon in training an audit detects that weights were trained on images",
  "cifar": "train networks with and without an adversary, and invert them",
  "toy": "read the averages of two Gaussian clouds out of a 2 x 2 matrix",
  "benchmark": "time SGD against Adam, and many models at once against one at a time",
}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command that the first argument names; returns its exit status."""
  name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
  if name in ("--help", "-h", "-help", "help"):
    print(_help())
    return 0
  if name == "--version":
    print(f"jaxinv {jaxinv.__version__}")
    return 0
  if name not in COMMANDS:
    print(f"error: unknown command '{name}': choose from {', '.join(COMMANDS)}", file=sys.stderr)
    return 1
  _find_commands()
  # By name: the library depends on no command.
  return importlib.import_module(f"jaxinv._launch.{name}").main(rest)


def _help() -> str:
  lines = [f"  {name:<{max(map(len, COMMANDS))}}  {about}" for name, about in COMMANDS.items()]
  return "\n".join(
    [
      "How much of its training data do a model's weights give away?",
      "",
      "usage: jaxinv COMMAND --flag=value ...",
      "",
      *lines,
      "",
      "jaxinv COMMAND --help explains the command's flags; jaxinv --version.",
    ]
  )


def _find_commands() -> None:
  """Makes the commands importable in a checkout, where they lie in launch/ beside this package."""
  here = Path(__file__).resolve().parent
  checkout = here.parent / "launch" / "__init__.py"
  if (here / "_launch").is_dir() or not checkout.is_file() or "jaxinv._launch" in sys.modules:
    return
  spec = importlib.util.spec_from_file_location(
    "jaxinv._launch", checkout, submodule_search_locations=[str(checkout.parent)]
  )
  sys.modules[spec.name] = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(sys.modules[spec.name])


if __name__ == "__main__":
  sys.exit(main())
