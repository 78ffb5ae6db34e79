"""Reads single training photographs out of trained weights, and maps what can be had.

  python -m launch.photographs --out_dir=runs/photographs
  python -m launch.photographs --dataset=att --data_dir=DATA --photographs=40,160 --num_seeds=4
  python -m launch.photographs --hidden= --releases=4 --photographs=80

For each number of photographs every arm is trained on so many, spread evenly over the people; the
change of the first layer is unmixed into single photographs, and these are compared one to one with
all pictures, those trained on and the others, beside controls that must fail.

Exit status: 0 the run is complete; 1 something given cannot be used, said in one line; 130 stopped
by Ctrl-C or SIGTERM: the same command goes on from the last checkpoint.
"""

import sys
from collections.abc import Sequence

from absl import flags

from jaxinv.experiments.photographs import files
from jaxinv.experiments.photographs import page as photographs_page
from jaxinv.experiments.photographs.page import PageData
from jaxinv.experiments.photographs.photographs import run_photographs
from jaxinv.experiments.photographs.settings import PhotographsSpec, check

from . import flags as shared
from .arms import parse_arms
from .define import group
from .run import opened, run

ARMS = (
  "sgd:optimizer=sgd,learning_rate=0.01",
  "adam:optimizer=adam,learning_rate=0.001",
)

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
# Follows from the number of photographs.
_UNUSED = ("holdout",)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return run("photographs", _main, FLAGS, __doc__, argv, unused=_UNUSED)


def _main(argv: Sequence[str]) -> None:
  dataset = shared.load_dataset(FLAGS)
  spec = PhotographsSpec(
    settings=shared.settings(FLAGS, parse_arms(FLAGS.arm or ARMS)),
    numbers=shared.integers("photographs", FLAGS.photographs, 2, 10**6),
    releases=FLAGS.releases,
    restarts=FLAGS.restarts,
  )
  check(spec, dataset)
  models = spec.settings.num_seeds * spec.releases * len(spec.numbers) * len(spec.settings.arms)
  with opened(FLAGS, "photographs", argv, dataset, models * spec.settings.steps) as here:
    result = run_photographs(spec, dataset, here.store, here.host, here.bar.working)
    here.bar.working("writing and drawing")
    summary = files.write_photographs(here.out_dir, result)
    data = PageData(dataset, spec, result, summary, here.config, here.command)
    page = photographs_page.write_page(here.out_dir, data)
  _print_summary(summary)
  print(f"report: {page}")


def _print_summary(summary: dict) -> None:
  """A line an arm, number and attacker."""
  for arm, by_number in summary.items():
    for number, table in by_number.items():
      for attack, found in table.items():
        if attack.startswith("unmixed") and found:
          shares = ", ".join(
            f"{name} {found[name]['mean']:.3f}"
            for name in ("identified", "recovered", "correlation")
          )
          counts = f"counts {found['counted']['mean']:.0f}"
          print(f"{arm}, {number} photographs, {attack}: {counts}, {shares}")


if __name__ == "__main__":
  sys.exit(main())
