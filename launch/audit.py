"""Audits weights that somebody else trained: do they show the people they were trained on?

  python -m launch.audit --weights=model.safetensors --image_shape=112,92
  python -m launch.audit --weights=model.pt --image_shape=32,32,3 --reference=photographs
  python -m launch.audit --weights=new.npz --previous_weights=old.npz --image_shape=8,8

Reads safetensors, .npz and .npy, Flax msgpack, Orbax checkpoint folders, PyTorch's .pt (where torch
is installed) and Keras 3's .weights.h5 (where h5py is), told apart by their contents. None of the
model's code is run, and nothing is ever unpickled. Every tensor with an axis that fits the images
is read as images, by the attacks that what is given allows; each image is tested for structure that
noise has not, and with --reference compared with photographs.

With --init_weights or --previous_weights, what training changed in the first layer is unmixed: of
how many images it is made, and which they are. So is the sum of gradients that an optimiser keeps,
where the file is a checkpoint that holds one: Adam's first moment, momentum's buffer.

Writes report.html, audit.json and recovered.npz into --out_dir.

Exit status: 0 the audit is complete; 1 something given cannot be used, said in one line; 3 the
audit is complete and found what --fail_on names; 130 stopped by Ctrl-C or SIGTERM.
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from jaxinv.attacks.attack import ALL, Attack
from jaxinv.auditing.audit import audit
from jaxinv.auditing.findings import Audit, References
from jaxinv.auditing.formats.read import read_weights
from jaxinv.auditing.formats.stored import Stored
from jaxinv.auditing.page import PageData, write_page
from jaxinv.auditing.sources import LAYOUTS
from jaxinv.auditing.to_json import to_json
from jaxinv.auditing.verdict import summary_lines
from jaxinv.data.folder import load_references
from jaxinv.ensemble.groups import Stopped
from jaxinv.ensemble.progress import ProgressBar
from jaxinv.errors import InputError, named_object
from jaxinv.runs import files, folder

from . import flags as shared
from .define import group
from .run import StopSignal, run, typed, values

FOUND = 3  # Exit status where --fail_on is met.

FLAGS = flags.FlagValues()
shared.define_run(FLAGS, out_dir="runs/audit", resumes=False)
_what, _data, _output = (group(FLAGS, name) for name in ("what", "data", "output"))
_data.texts(
  "weights",
  [],
  "The model's weights: a file, or a checkpoint folder. Repeat for other models of the same kind "
  "trained on the same people; the first is the one that is audited.",
)
_data.string("init_weights", None, "The same model's weights before training.")
_data.string("previous_weights", None, "An earlier release of the same model.")
_data.names(
  "image_shape",
  [],
  "Height and width of the model's input in pixels, and its channels if there are several: "
  "112,92 or 32,32,3.",
)
_data.choice(
  "layout",
  "auto",
  ["auto", *LAYOUTS],
  "How images were flattened, slowest axis first: hwc as numpy and TensorFlow do, chw as PyTorch "
  "does, whc and cwh column by column; auto takes the one in which the weights are smoothest.",
)
_data.string(
  "path",
  "",
  "Look only at tensors whose name begins so, such as params/encoder.",
)
_what.names(
  "attack",
  [],
  f"Attacks to carry out, of {', '.join(attack.name for attack in ALL)}, or "
  "your own as package.module:name; if empty all that can be but mi_face, and with earlier weights "
  "the change of the first layer is unmixed into single photographs.",
)
_data.string(
  "reference",
  None,
  "Folder of images to compare with: one sub-folder a person, or one pool.",
)
_data.names(
  "classes",
  [],
  "Names of the sub-folders of --reference in the order of the model's classes; their natural "
  "order if empty.",
)
_what.real(
  "alpha",
  0.01,
  "Share of false alarms, from 0 to 1, that the tests allow, corrected for the number of images.",
)
_output.names(
  "fail_on",
  [],
  "Exit with status 3 where this is found: structure, match (which needs --reference), or both.",
)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return run("audit", _main, FLAGS, __doc__, argv, resumes=False)


def _main(argv: Sequence[str]) -> int:
  shape = _image_shape()
  _check_fail_on()
  out_dir = Path(FLAGS.out_dir)
  folder.check_folder(out_dir, FLAGS.overwrite)
  models, others = _read_models()
  references = _references(shape)
  with ProgressBar(1, "images") as bar, StopSignal() as stop:

    def advanced(what: str, done: int, total: int) -> None:
      bar.reached(what, done, total)
      if stop():
        raise Stopped(f"stopped after {done:,} of {total:,} images")

    found = audit(
      models[0],
      shape,
      init_params=others.get("init_weights"),
      previous_params=others.get("previous_weights"),
      peers=models[1:],
      references=references,
      layout=FLAGS.layout,
      attacks=[_attack(spec) for spec in FLAGS.attack],
      alpha=FLAGS.alpha,
      seed=FLAGS.seed,
      advanced=advanced,
    )
    bar.working("drawing")
    config = folder.configuration("launch.audit", values(FLAGS), None)
    config |= {"weights": [_described(path) for path in _paths()]}
    folder.open_folder(out_dir, config, FLAGS.overwrite, list(config["flags"]))
    with folder.working_in(out_dir):
      page = _write(out_dir, found, config, typed("audit", argv))
      folder.finish(out_dir, config)
  for line in summary_lines(found):
    print(line)
  print(f"report: {page}")
  return FOUND if _met(found) else 0


def _write(out_dir: Path, found: Audit, config: Mapping, command: str) -> Path:
  """Writes all files of the audit; returns the page."""
  arrays = {}
  for finding in found.findings:
    name = f"{finding.source}/{finding.what}/{finding.attack.name}"
    arrays |= {name: finding.images, f"{name}/kept": finding.kept}
  if (unmixed := found.unmixed) is not None and len(unmixed.images):
    name = f"{unmixed.source}/photograph/unmixed"
    arrays |= {name: unmixed.images, f"{name}/stability": unmixed.stability}
  files.write_npz(out_dir / "recovered.npz", arrays)
  page = write_page(out_dir, PageData(found, config, command))
  # Last: where it is, all is there.
  files.write_json(out_dir / "audit.json", to_json(found, command, config))
  return page


def _attack(spec: str) -> str | Attack:
  """An attack by its name; or of the user's own, as `package.module:name`."""
  return named_object(spec, "--attack", Attack) if ":" in spec else spec


def _image_shape() -> tuple[int, ...]:
  if len(FLAGS.image_shape) not in (2, 3):
    raise InputError(
      "--image_shape: give height and width of the model's input, and its channels if there are "
      "several, such as --image_shape=112,92 or 32,32,3"
    )
  return shared.integers("image_shape", FLAGS.image_shape, 1, 10**5)


def _check_fail_on() -> None:
  for what in FLAGS.fail_on:
    if what not in ("structure", "match"):
      raise InputError(f"--fail_on: '{what}' is neither structure nor match")
  if "match" in FLAGS.fail_on and not FLAGS.reference:
    raise InputError("--fail_on=match needs images to match: give --reference")


def _met(found: Audit) -> bool:
  """Whether the audit found what --fail_on names."""
  found_so = {"structure": found.structure, "match": bool(found.match)}
  return any(found_so[what] for what in FLAGS.fail_on)


def _paths() -> list[Path]:
  """All weights that were given, the audited model's first."""
  given = [*FLAGS.weights, FLAGS.init_weights, FLAGS.previous_weights]
  return [Path(path) for path in given if path]


def _read_models() -> tuple[list[dict[str, Stored]], dict[str, dict[str, Stored]]]:
  """The tensors of each --weights, and of the other models by flag; nothing is loaded yet."""
  if not all(FLAGS.weights) or not FLAGS.weights:
    raise InputError("no weights to audit: give --weights=FILE")
  others = {name: FLAGS[name].value for name in ("init_weights", "previous_weights")}
  models = [_below_path(read_weights(Path(path)), path) for path in FLAGS.weights]
  return models, {
    name: _below_path(read_weights(Path(path)), path) for name, path in others.items() if path
  }


def _below_path(tensors: Mapping[str, Stored], file: str) -> dict[str, Stored]:
  """The tensors whose names begin with --path."""
  chosen = {name: stored for name, stored in tensors.items() if name.startswith(FLAGS.path)}
  if not chosen:
    names = ", ".join(list(tensors)[:6])
    raise InputError(f"--path: no tensor of {file} begins with '{FLAGS.path}': there are {names}")
  return chosen


def _references(shape: Sequence[int]) -> References | None:
  """The images to compare with, their people in the order of --classes."""
  if not FLAGS.reference:
    if FLAGS.classes:
      raise InputError("--classes names sub-folders of --reference: give that too")
    return None
  references = load_references(Path(FLAGS.reference), (*shape, 1)[:3])
  if not FLAGS.classes:
    return references
  if sorted(FLAGS.classes) != sorted(references.people):
    odd = sorted(set(FLAGS.classes) ^ set(references.people)) or ["one of them twice"]
    raise InputError(
      f"--classes: give each sub-folder of {FLAGS.reference} once: {odd[0]} is not in both"
    )
  place = np.array([FLAGS.classes.index(name) for name in references.people])
  person = place[references.person]
  return references._replace(person=person, people=tuple(FLAGS.classes), ordered=True)


def _described(path: Path) -> dict:
  """A file of weights as config.json tells of it; of a folder, all its files in order."""
  inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
  digests = [files.sha256(part) for part in inside]
  whole = digests[0] if not path.is_dir() else hashlib.sha256("".join(digests).encode()).hexdigest()
  size = sum(part.stat().st_size for part in inside)
  return {"path": str(path), "bytes": size, "sha256": whole}


if __name__ == "__main__":
  sys.exit(main())
