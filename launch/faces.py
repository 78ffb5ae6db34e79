"""Trains arms x seeds on faces, reads the faces back out of the weights, measures and reports.

  python -m launch.faces --out_dir=runs/faces --num_seeds=8
  python -m launch.faces --dataset=att --data_dir=DATA --out_dir=runs/att
  python -m launch.faces --arm='a:optimizer=sgd,learning_rate=0.1' --arm='b:optimizer=adam'

Exit status: 0 the run is complete; 1 something given cannot be used, said in one line; 130 stopped
by Ctrl-C or SIGTERM: the same command goes on from the last checkpoint.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from absl import flags

from jaxinv.data.splits import clearest_and_most_varied
from jaxinv.errors import InputError
from jaxinv.experiments import experiment, outcome, planning
from jaxinv.experiments.faces import page as faces_report
from jaxinv.experiments.faces import pose
from jaxinv.experiments.files import write_outcome
from jaxinv.experiments.groups import run_groups
from jaxinv.experiments.settings import Settings
from jaxinv.runs import processes
from jaxinv.types import Dataset

from . import flags as shared
from .arms import parse_arms
from .define import group
from .own import define_own, own_values
from .run import opened, run

ARMS = (
  "sgd:optimizer=sgd,learning_rate=0.1",
  "adam:optimizer=adam,learning_rate=0.001",
  "sgd_decay:optimizer=sgd,learning_rate=0.01,weight_decay=0.1",
)
PRESETS = {
  "default": ARMS,
  # As in the article, the first arm's weights show the face and the second's look like noise, both
  # at a held-out accuracy of 0.95 or more. What does it is the size of the initial weights: the
  # last two arms are the same optimisers with the sizes exchanged, and the pictures exchange too.
  "article": (
    "sgd:optimizer=sgd,learning_rate=0.1",
    "adam:optimizer=adam,learning_rate=0.001,init_scale=10",
    "sgd_large_init:optimizer=sgd,learning_rate=0.1,init_scale=10",
    "adam_small_init:optimizer=adam,learning_rate=0.001",
  ),
}

FLAGS = flags.FlagValues()
shared.define_run(FLAGS, out_dir="runs/faces")
shared.define_data(FLAGS)
shared.define_training(
  FLAGS,
  num_seeds=8,
  steps=1000,
  batch_size=32,
  holdout=2,
  save_seeds=8,
)
shared.define_models(FLAGS)
define_own(FLAGS)
shared.define_distributed(FLAGS)
_what = group(FLAGS, "what")
_what.choice(
  "preset",
  "default",
  list(PRESETS),
  "Arms to train where no --arm is given: sgd, adam and sgd_decay, or as in the article, where "
  "SGD's weights show the face and Adam's look like noise.",
)
_what.names(
  "pose_sweep",
  [],
  "Scales of pose at which to train the first arm again, e.g. 0,1,2 (synthetic_faces only).",
)
_what.integer("pose_seeds", 4, "Seeds of each scale of --pose_sweep.", 1, 10**6)
group(FLAGS, "output").names(
  "people", [], "Names of the people shown first; else three are chosen by their variety."
)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return run("faces", _main, FLAGS, __doc__, argv)


def _main(argv: Sequence[str]) -> None:
  place = shared.place(FLAGS)
  dataset = shared.load_dataset(FLAGS)
  people = _people(dataset)
  settings = _settings(watch=people[0], **own_values(FLAGS, dataset.num_classes))
  lab = experiment.make_experiment(settings, dataset)
  poses = shared.poses(FLAGS)
  sweep = replace(settings, num_seeds=FLAGS.pose_seeds)
  groups = planning.plan(lab, place.count)
  engines = planning.describe(lab, groups)
  mine = groups[place.index :: place.count]
  work = settings.steps * sum(len(group.runs) for group in (groups if place.first else mine))
  work += sweep.steps * sweep.num_seeds * len(poses) * place.first
  with opened(FLAGS, "faces", argv, dataset, work, more={"engines": engines}, place=place) as here:
    for name, how in engines.items():
      here.bar.say(
        f"{name}: {how['engine']} engine, {how['groups']} x {how['width']} runs on "
        f"{how['devices']} device{'s' * (how['devices'] > 1)}"
      )
    if place.count > 1:
      unseen = here.host._replace(advanced=lambda text, steps: None)
      run_groups(lab, mine, here.store, unseen)
      dead = processes.meet(place)
      if not place.first:
        return
      for index in sorted(dead):
        here.bar.say(f"process {index} has died; what it left is trained here")
    # Of what is finished, whoever trained it, only the files are read.
    trained = run_groups(lab, groups, here.store, here.host)
    draw = partial(shared.draw_faces, FLAGS)
    posed = pose.sweep(sweep, poses, draw, here.host) if poses else None
    here.bar.working("measuring and drawing")
    found = outcome.assemble(lab, trained)
    summary = write_outcome(here.out_dir, found)
    if posed:
      pose.write_pose(here.out_dir, posed)
    data = faces_report.PageData(
      dataset, found, summary, here.config, people, settings.arms, here.command, posed
    )
    page = faces_report.write_page(here.out_dir, data)
  _print_summary(summary)
  print(f"report: {page}")


def _settings(**others: Any) -> Settings:
  return shared.settings(FLAGS, parse_arms(FLAGS.arm or PRESETS[FLAGS.preset]), **others)


def _people(dataset: Dataset) -> tuple[int, ...]:
  """Classes named by --people, or three chosen by the variety of their photographs."""
  unknown = [name for name in FLAGS.people if name not in dataset.names]
  if unknown:
    raise InputError(
      f"--people: no person named '{unknown[0]}': names go from '{dataset.names[0]}' to "
      f"'{dataset.names[-1]}'"
    )
  if FLAGS.people:
    return tuple(dataset.names.index(name) for name in FLAGS.people)
  return clearest_and_most_varied(dataset.inputs, dataset.labels, dataset.num_classes)


def _print_summary(summary) -> None:
  """One line an arm: how well it recognises, and what its weights show."""
  for arm, attacks in summary.items():
    parts = []
    for attack, metric in (
      ("model", "train_accuracy"),
      ("model", "holdout_accuracy"),
      ("reshape", "ncc_centred"),
      ("denoised", "ncc_centred"),
      ("init_diff", "ncc_centred"),
      ("seed_mean", "ncc_centred"),
    ):
      if metric in attacks.get(attack, {}):
        name = metric if attack == "model" else f"{attack} {metric}"
        parts.append(f"{name} {attacks[attack][metric]['mean']:.3f}")
    if attacks["diverged"]:
      parts.append(f"diverged: seeds {', '.join(map(str, attacks['diverged']))}")
    print(f"{arm}: {', '.join(parts)}")


if __name__ == "__main__":
  sys.exit(main())
