"""jaxinv: how much of its training data do a model's weights give away?

What most people need; the rooms hold the rest. A name is loaded when it is first used, so that a
program pays for what it uses only.
"""

import importlib
from typing import Any

# Where each name is defined, below `jaxinv`.
_HOMES = {
  "Arm": "experiments.settings",
  "Attack": "attacks.attack",
  "Dataset": "types",
  "Hyper": "types",
  "InputError": "errors",
  "Metric": "metrics.metric",
  "Release": "types",
  "Settings": "experiments.settings",
  "audit": "auditing.audit",
  "load": "data.load",
  "load_att": "data.att",
  "load_cifar10": "data.cifar10",
  "load_folder": "data.folder",
  "load_references": "data.folder",
  "recover": "attacks.attack",
  "run": "experiments.outcome",
  "summarize": "experiments.outcome",
  "synthetic_faces": "data.synthetic_faces",
  "synthetic_shapes": "data.synthetic_shapes",
}
_ROOMS = ("attacks", "auditing", "data", "ensemble", "metrics", "models", "training")

__all__ = [*_HOMES, *_ROOMS]


def __getattr__(name: str) -> Any:
  """Loads a name on first use; https://peps.python.org/pep-0562."""
  if name == "__version__":
    value = _version()
  elif name in _ROOMS:
    return importlib.import_module(f"jaxinv.{name}")
  elif name in _HOMES:
    value = getattr(importlib.import_module(f"jaxinv.{_HOMES[name]}"), name)
  else:
    raise AttributeError(f"module 'jaxinv' has no attribute '{name}'")
  globals()[name] = value
  return value


def __dir__() -> list[str]:
  return sorted([*__all__, "__version__"])


def _version() -> str:
  """What the installed package calls itself."""
  from importlib import metadata

  try:
    return metadata.version("jaxinv")
  except metadata.PackageNotFoundError:  # Run from a folder, never installed.
    return "0+unknown"
