"""Asks whether defences defend: arms and grids against a baseline, under attackers of all kinds.

  python -m launch.study --out_dir=runs/study
  python -m launch.study --dataset=att --arm=sgd --arm=big:init_scale=5 --num_seeds=32
  python -m launch.study --grid=init_scale=0.3,1,3,10 --grid=learning_rate=0.01,0.1

Every cell (an arm at a point of the grid) is trained from the same seeds: the same splits, initial
weights and batches. Each is compared with the baseline, seed by seed, at the end and where both
have the same held-out accuracy, and gets a verdict. Controls: models on halves of the photographs,
so that each is in exactly half of them, say what single photographs leak; untrained weights,
shuffled labels and wrong memberships go through the same tests and must come out at chance.

Exit status: 0 the run is complete; 1 something given cannot be used, said in one line; 130 stopped
by Ctrl-C or SIGTERM: the same command goes on from the last checkpoint.
"""

import sys
from collections.abc import Sequence
from functools import partial

from absl import flags

from jaxinv.errors import InputError
from jaxinv.experiments import planning
from jaxinv.experiments.settings import Arm
from jaxinv.experiments.study import files, page_data, study
from jaxinv.experiments.study import page as study_page
from jaxinv.experiments.study.photographs import controls
from jaxinv.experiments.study.study import StudySpec

from . import flags as shared
from .arms import parse_arms, parse_grid
from .define import group
from .own import define_own, own_values
from .run import opened, run

ARMS = (
  "sgd:optimizer=sgd,learning_rate=0.1",
  "sgd_slow:optimizer=sgd,learning_rate=0.01",
  "sgd_init5:optimizer=sgd,learning_rate=0.1,init_scale=5",
  "decay:optimizer=sgd,learning_rate=0.01,weight_decay=0.1",
  "adam:optimizer=adam,learning_rate=0.001",
  "adam_init5:optimizer=adam,learning_rate=0.001,init_scale=5",
  "smoothing:optimizer=sgd,learning_rate=0.1,label_smoothing=0.3",
  "noise:optimizer=sgd,learning_rate=0.1,release_noise=1",
  "bits:optimizer=sgd,learning_rate=0.1,release_bits=4",
  # With the usual number of steps, batch and photographs an epsilon of 8 at a delta of 1e-5.
  "dp:optimizer=sgd,learning_rate=0.1,dp_clip=1,dp_noise=1.55",
)

# How what was trained is read: may change when a run goes on.
_READING = ("delta", "margin", "target_accuracy")

FLAGS = flags.FlagValues()
shared.define_run(FLAGS, out_dir="runs/study")
shared.define_data(FLAGS)
shared.define_training(
  FLAGS,
  num_seeds=16,
  steps=500,
  batch_size=32,
  holdout=2,
  save_seeds=1,
)
shared.define_models(FLAGS)
define_own(FLAGS)
_what, _output = group(FLAGS, "what"), group(FLAGS, "output")
_what.texts(
  "grid",
  [],
  "Values of one key of an arm, 'KEY=value,value'; repeat for several. Every arm is crossed with "
  "every point.",
)
_what.string("baseline", "", "The cell all others are compared with; the first one if empty.")
_what.integer(
  "control_seeds",
  64,
  "Models of each control arm, each trained on half of the photographs; even, 0 for no controls.",
  0,
  10**6,
)
_what.names(
  "control_arms",
  [],
  "Names of the arms, without the grid, whose models are examined for single photographs; all if "
  "empty.",
)
_what.names(
  "pose_sweep",
  [],
  "Scales of pose at which to train the controls again, e.g. 0,0.5,1,2 (synthetic_faces only).",
)
_what.integer(
  "pose_seeds",
  32,
  "Models of each control arm at each scale of --pose_sweep; even.",
  8,
  10**6,
)
_output.real(
  "target_accuracy",
  0.0,
  "Held-out accuracy, from 0 to 1, at which cells are compared; 0 for 0.95 of the baseline's.",
  0.0,
  1.0,
)
_output.real(
  "margin",
  0.05,
  "Differences of leakage (centred NCC, from 0 to 1) that are too small to matter.",
  0.0,
  1.0,
)
_output.real("delta", 1e-5, "Delta, from 0 to 1, of the epsilons of DP-SGD.", 0.0, 1.0)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return run("study", _main, FLAGS, __doc__, argv)


def _main(argv: Sequence[str]) -> None:
  dataset = shared.load_dataset(FLAGS)
  spec = _spec(dataset.num_classes)
  experiments = study.make_experiments(spec, dataset)
  posed, poses = spec._replace(control_seeds=FLAGS.pose_seeds), shared.poses(FLAGS)
  work = study.run_steps(spec)
  if poses:
    study.check_controls(posed)
    work += len(poses) * study.control_steps(posed)
  engines = planning.describe(experiments.cells, planning.plan(experiments.cells))
  more = {"engines": engines}
  with opened(FLAGS, "study", argv, dataset, work, more=more, free=_READING) as here:
    for name, how in engines.items():
      here.bar.say(f"{name}: {how['engine']} engine, {how['groups']} x {how['width']} runs")
    result = study.run_study(spec, experiments, here.store, here.host)
    draw = partial(shared.draw_faces, FLAGS)
    pose = None
    if poses:
      halved = study.make_experiments(posed, draw(poses[0])).halves
      pose = controls.against_pose(halved, poses, draw, here.host)
    here.bar.working("writing and drawing")
    summary = files.write_study(here.out_dir, spec, result, dataset)
    if pose:
      files.write_pose(here.out_dir, pose)
    data = page_data.PageData(dataset, spec, result, summary, here.config, here.command, pose)
    page = study_page.write_page(here.out_dir, data)
  for name, verdict in result.verdicts.items():
    print(f"{name}: {verdict.label}. {verdict.text}")
  print(f"report: {page}")


def _spec(num_classes: int) -> StudySpec:
  arms, grid = parse_arms(FLAGS.arm or ARMS), parse_grid(FLAGS.grid)
  plain = [arm.name for arm in arms if arm.optimizer == "sgd"]
  if "momentum" in grid and plain:
    raise InputError(f"--grid: sgd, of arm {plain[0]}, has no momentum: give optimizer=momentum")
  cells = study.cross(arms, grid)
  own = own_values(FLAGS, num_classes)
  attacks = own.pop("attacks", ())
  settings = shared.settings(FLAGS, tuple(cell.arm for cell in cells), **own)
  return StudySpec(
    settings=settings,
    cells=cells,
    baseline=FLAGS.baseline or cells[0].arm.name,
    target=FLAGS.target_accuracy or None,
    margin=FLAGS.margin,
    control_arms=_control_arms(arms),
    control_seeds=FLAGS.control_seeds,
    delta=FLAGS.delta,
    attacks=attacks,
  )


def _control_arms(arms: Sequence[Arm]) -> tuple[Arm, ...]:
  by_name = {arm.name: arm for arm in arms}
  for name in FLAGS.control_arms:
    if name not in by_name:
      raise InputError(f"--control_arms: '{name}' is none of {', '.join(by_name)}")
  if FLAGS.control_arms:
    return tuple(by_name[name] for name in dict.fromkeys(FLAGS.control_arms))
  return tuple(arms)


if __name__ == "__main__":
  sys.exit(main())
