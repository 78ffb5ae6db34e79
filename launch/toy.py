"""Trains linear classifiers of Gaussian clouds and reads the clouds' averages out of the weights.

  python -m launch.toy --out_dir=runs/toy
  python -m launch.toy --spread=0.5 --loss=softmax --num_seeds=100
  python -m launch.toy --means='2,1;-2,-1' --arm='adam:optimizer=adam,learning_rate=0.01'

Exit status: 0 the run is complete; 1 something given cannot be used, said in one line; 130 stopped
by Ctrl-C or SIGTERM: the same command goes on from the last checkpoint.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from jaxinv.errors import InputError
from jaxinv.experiments.outcome import summarize_arm
from jaxinv.experiments.settings import Arm
from jaxinv.experiments.toy import groups
from jaxinv.experiments.toy import page as toy_report
from jaxinv.experiments.toy.groups import Outcome
from jaxinv.experiments.toy.toy import Settings, check, draw
from jaxinv.runs import files, tables
from jaxinv.runs.text import interval

from . import flags as shared
from .arms import parse_arms
from .define import group
from .run import opened, run

FLAGS = flags.FlagValues()
shared.define_run(FLAGS, out_dir="runs/toy")
shared.define_data(FLAGS, ("gaussians",))
shared.define_training(
  FLAGS,
  num_seeds=8,
  steps=10_000,
  batch_size=0,
  holdout=0,
  save_seeds=None,
  loss="sigmoid",
  normalize="max",
  arm=["sgd:optimizer=sgd,learning_rate=0.85,init_scale=0.01"],
)
_data = group(FLAGS, "data")
_data.texts(
  "means",
  ["2,0", "-2,0"],
  "Mean of a class, 'x,y' in any unit; repeat for each class, or separate by ';'.",
)
_data.real(
  "spread",
  0.1,
  "Standard deviation of the points around their class's mean, in the unit of --means.",
  0.0,
  1e6,
)
_data.integer(
  "points_per_class", 100, "Points of each class, which every seed draws anew.", 1, 10**6
)
_data.real(
  "data_max",
  None,
  "Largest magnitude of the data as the attacker knows it, in the unit of --means; that of the "
  "class means where not given.",
  0.0,
  1e6,
)
# Flags of the commands for images.
_UNUSED = (
  *("holdout", "fixed_split", "download"),
  *("data_seed", "pose", "num_people", "images_per_person"),
)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return run("toy", _main, FLAGS, __doc__, argv, unused=_UNUSED, ignored=("data_dir",))


def _main(argv: Sequence[str]) -> None:
  settings = _settings()
  check(settings)
  work = settings.steps * settings.num_seeds
  with opened(FLAGS, "toy", argv, None, work) as here:
    outcome = groups.run(settings, here.store, here.host)
    here.bar.working("measuring and drawing")
    summary = _write(here.out_dir, settings, outcome)
    first = draw(settings, [0])
    points, labels = np.asarray(first.inputs[0]), np.asarray(first.labels)
    data = toy_report.PageData(
      settings, outcome, summary, here.config, here.command, points, labels
    )
    page = toy_report.write_page(here.out_dir, data)
  _print_summary(settings, outcome, summary)
  print(f"report: {page}")


def _settings() -> Settings:
  """The settings that the flags ask for; raises InputError where they make no sense."""
  if FLAGS.dataset != "gaussians":
    raise InputError(f"unknown --dataset '{FLAGS.dataset}': choose gaussians")
  means = _means()
  largest = max(abs(value) for mean in means for value in mean)
  return Settings(
    arm=_arm(),
    means=means,
    spread=FLAGS.spread,
    points_per_class=FLAGS.points_per_class,
    data_max=largest if FLAGS.data_max is None else FLAGS.data_max,
    num_seeds=FLAGS.num_seeds,
    root_seed=FLAGS.seed,
    steps=FLAGS.steps,
    batch_size=FLAGS.batch_size,
    loss=FLAGS.loss,
    initializer=FLAGS.initializer,
    normalize=FLAGS.normalize,
    width=FLAGS.width,
    save_seeds=FLAGS.save_seeds,
    chunk=FLAGS.record_every,
  )


def _arm() -> Arm:
  arms = parse_arms(FLAGS.arm)
  if len(arms) != 1:
    raise InputError(f"--arm: the toy trains one arm, not {len(arms)}: run it once for each")
  return arms[0]


def _means() -> tuple[tuple[float, float], ...]:
  texts = [part for text in FLAGS.means for part in text.split(";")]
  means = []
  for text in texts:
    values = shared.floats("means", text.split(","), -1e6, 1e6)
    if len(values) != 2:
      raise InputError(f"--means: '{text.strip()}' is not a point: give x,y")
    means.append(values)
  if len(means) < 2:
    raise InputError("--means: one class is nothing to tell apart: give two or more, 'x,y;x,y'")
  return tuple(means)


def _write(out_dir: Path, settings: Settings, outcome: Outcome) -> dict:
  """Writes the run's numbers; returns the summary."""
  arrays = {
    "weights": outcome.weights,
    "recovered": outcome.recovered,
    "class_means": np.array(settings.means, np.float32).T,
  }
  files.write_npz(out_dir / "trajectory.npz", arrays)
  tables.write_metrics(out_dir, {settings.arm.name: outcome.measures})
  summary = {settings.arm.name: summarize_arm(outcome.measures, outcome.healthy)}
  files.write_json(out_dir / "summary.json", summary)
  return summary


def _print_summary(settings: Settings, outcome: Outcome, summary: Mapping) -> None:
  """A line a class, recovered against true, then the error and the seeds that diverged."""
  table = summary[settings.arm.name]
  healthy = outcome.healthy[: settings.kept]
  if healthy.any():
    print(f"class  {'recovered':>18}  {'true average':>18}")
    recovered = outcome.recovered[healthy].mean(0).T
    for k, (found, true) in enumerate(zip(recovered, settings.means, strict=True)):
      texts = (f"({x + 0.0:.3f}, {y + 0.0:.3f})" for x, y in (np.round(found, 3), true))
      print(f"{k + 1:>5}  " + "  ".join(f"{text:>18}" for text in texts))
    error = interval(table["reshape"]["max_error"], 4)
    print(f"largest error, mean over seeds (95 % interval): {error}")
  if table["diverged"]:
    print(f"diverged: seeds {', '.join(map(str, table['diverged']))}")


if __name__ == "__main__":
  sys.exit(main())
