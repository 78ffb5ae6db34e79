"""Reads single training photographs out of trained weights, and maps what can be had.

  python -m launch.photographs --out_dir=runs/photographs
  python -m launch.photographs --dataset=att --data_dir=DATA --photographs=40,160 --num_seeds=4
  python -m launch.photographs --hidden= --releases=4 --photographs=80
  python -m launch.photographs --map=hidden=32,64,128,256 --photographs=20,40,80,160
  python -m launch.photographs --preset=defences --num_seeds=5 --photographs=40

For each number of photographs every arm is trained on so many, spread evenly over the people; the
change of the first layer is unmixed into single photographs, and these are compared one to one with
all pictures, those trained on and the others, beside controls that must fail. From five seeds on
every arm but the first gets a verdict: does it keep single photographs back?

Exit status: 0 the run is complete; 1 something given cannot be used, said in one line; 130 stopped
by Ctrl-C or SIGTERM: the same command goes on from the last checkpoint.
"""

import sys
from collections.abc import Sequence

from absl import flags

from jaxinv.errors import InputError
from jaxinv.experiments.photographs import files
from jaxinv.experiments.photographs import page as photographs_page
from jaxinv.experiments.photographs.field import FIELD, Effort
from jaxinv.experiments.photographs.page import PageData
from jaxinv.experiments.photographs.photographs import run_photographs
from jaxinv.experiments.photographs.settings import (
  AXES,
  STRUCTURE,
  Axis,
  PhotographsSpec,
  check,
  num_steps,
)

from . import flags as shared
from .arms import number, parse_arms
from .define import group
from .run import opened, run

ARMS = (
  "sgd:optimizer=sgd,learning_rate=0.01",
  "adam:optimizer=adam,learning_rate=0.001",
)
# What is said to help, each beside plain SGD.
DEFENCES = (
  ARMS[0],
  "momentum:optimizer=momentum,learning_rate=0.001",
  "decay:optimizer=sgd,learning_rate=0.01,weight_decay=0.01",
  ARMS[1],
  "adamw:optimizer=adamw,learning_rate=0.001,weight_decay=0.01",
  "smoothing:optimizer=sgd,learning_rate=0.01,label_smoothing=0.3",
  "dropout:optimizer=sgd,learning_rate=0.01,dropout=0.3",
  "input_noise:optimizer=sgd,learning_rate=0.01,input_noise=0.1",
  "bits16:optimizer=sgd,learning_rate=0.01,release_bits=16",
  "bits8:optimizer=sgd,learning_rate=0.01,release_bits=8",
  "noise:optimizer=sgd,learning_rate=0.01,release_noise=0.01",
)
PRESETS = {"default": ARMS, "defences": DEFENCES}

FLAGS = flags.FlagValues()
shared.define_run(FLAGS, out_dir="runs/photographs")
shared.define_data(FLAGS)
shared.define_training(
  FLAGS,
  num_seeds=1,
  steps=2000,
  batch_size=32,
  holdout=0,
  save_seeds=1,
)
shared.define_models(FLAGS)
# What is asked is what rounding leaves of a model that was trained as others train theirs.
FLAGS.set_default("engine", "primal")
FLAGS.set_default("hidden", "512")
_what = group(FLAGS, "what")
_what.names(
  "photographs",
  ["40", "80"],
  "Numbers of photographs to train on, each spread evenly over as many people as can be.",
)
_what.integer(
  "releases",
  1,
  "Models of the same photographs that the attacker holds side by side; so many are trained for "
  "each seed.",
  1,
  1000,
)
_what.integer("restarts", 3, "Independent starts of the separation.", 1, 100)
_what.string(
  "map",
  "",
  "What to vary beside the number of photographs, 'KEY=value,value': hidden (units of the first "
  "layer), pixels (height of the photographs), batch_size, steps, releases, or a key of an arm.",
)
_what.choice("preset", "default", list(PRESETS), "Arms to train where no --arm is given.")
_what.real(
  "margin",
  0.05,
  "Differences, of the share of photographs identified and of accuracies, that do not matter.",
  0.0,
  1.0,
)
_what.names(
  "field",
  [],
  "Other attackers to set on the same models: all, or names of " + ", ".join(FIELD) + ".",
)
_what.integer("search_steps", 4000, "Steps of each search of such an attacker.", 1, 10**7)
_what.integer(
  "search_restarts",
  32,
  "Searches of such an attacker, each with hyperparameters of its own; its own loss chooses one.",
  1,
  10**5,
)
# How what was trained is read: may change when a run goes on.
_READING = ("margin", "field", "search_steps", "search_restarts")
# Follows from the number of photographs.
_UNUSED = ("holdout",)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return run("photographs", _main, FLAGS, __doc__, argv, unused=_UNUSED)


def _main(argv: Sequence[str]) -> None:
  dataset = shared.load_dataset(FLAGS)
  spec = PhotographsSpec(
    settings=shared.settings(FLAGS, parse_arms(FLAGS.arm or PRESETS[FLAGS.preset])),
    numbers=shared.integers("photographs", FLAGS.photographs, 2, 10**6),
    releases=FLAGS.releases,
    restarts=FLAGS.restarts,
    axis=_axis(FLAGS.map),
    margin=FLAGS.margin,
    field=tuple(FIELD) if "all" in FLAGS.field else tuple(FLAGS.field),
    effort=Effort(FLAGS.search_steps, FLAGS.search_restarts, seed=FLAGS.seed),
  )
  check(spec, dataset)
  work = num_steps(spec)
  with opened(FLAGS, "photographs", argv, dataset, work, free=_READING) as here:
    result = run_photographs(spec, dataset, here.store, here.host, here.bar.working)
    here.bar.working("writing and drawing")
    summary = files.write_photographs(here.out_dir, result, spec.margin)
    data = PageData(dataset, spec, result, summary, here.config, here.command)
    page = photographs_page.write_page(here.out_dir, data)
  _print_summary(summary)
  print(f"report: {page}")


def _axis(text: str) -> Axis | None:
  """Parses --map; raises InputError for what is no axis."""
  if not text:
    return None
  key, equals, rest = text.partition("=")
  if not equals or key not in AXES:
    raise InputError(f"--map '{text}': give it as KEY=value,value with a key of {', '.join(AXES)}")
  if key in STRUCTURE:
    values = shared.integers(f"map={key}", rest.split(","), 0 if key == "batch_size" else 1, 10**6)
  else:
    values = tuple(number("--map", key, value) for value in rest.split(","))
  if len({f"{value:g}" for value in values}) < len(values):
    raise InputError(f"--map '{text}': a value is given twice")
  return Axis(key, tuple(map(float, values)))


def _print_summary(summary: dict) -> None:
  """A line an arm, number and attacker."""
  for arm, by_number in summary.items():
    for count, table in by_number.items():
      for attack, found in table.items():
        if attack.startswith("unmixed") and found:
          shares = ", ".join(
            f"{name} {found[name]['mean']:.3f}"
            for name in ("identified", "recovered", "correlation")
          )
          counted = f"counts {found['counted']['mean']:.0f}"
          print(f"{arm}, {count} photographs, {attack}: {counted}, {shares}")


if __name__ == "__main__":
  sys.exit(main())
