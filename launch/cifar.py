"""Trains networks with and without an adversary, inverts them, and measures what comes out.

  python -m launch.cifar --out_dir=runs/cifar
  python -m launch.cifar --dataset=cifar10 --data_dir=DATA --resolution=16
  python -m launch.cifar --arm=standard --arm='robust:adversary=pgd_l2,adversary_radius=0.5'

Each network is inverted by gradient descent on its input. An independent network says which class
it sees in what comes out, and nearest training images are compared with the nearest of images that
were left out at random.

Exit status: 0 the run is complete; 1 something given cannot be used, said in one line; 130 stopped
by Ctrl-C or SIGTERM: the same command goes on from the last checkpoint.
"""

import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from absl import flags

from jaxinv import cifar_report, deep_groups, deep_outcome, files, results
from jaxinv.adversary import ADVERSARIES
from jaxinv.convnets import DESIGNS, NORMS
from jaxinv.data.cifar10 import download_cifar10, load_cifar10
from jaxinv.data.shapes import synthetic_shapes
from jaxinv.deep_findings import DeepFound, Summary
from jaxinv.deep_settings import DTYPES, Attack, DeepArm, DeepSettings, check
from jaxinv.errors import InputError
from jaxinv.groups import Host
from jaxinv.inversion import INVERSIONS, Inversion
from jaxinv.optimizers import OPTIMIZERS
from jaxinv.schedules import SCHEDULES
from jaxinv.stats import Interval
from jaxinv.study_files import plain
from jaxinv.types import Dataset, Hyper, RobustHyper, TrainTest
from launch import flags as shared
from launch.arms import number, refuse_twins, split_arm
from launch.progress import ProgressBar

ARMS = ("standard", "robust:adversary=pgd_l2,adversary_radius=0.5")
VERIFIER = "verifier:model=vgg16,width_factor=0.25,norm=batch"
_NUMBERS = ("learning_rate", "momentum", "weight_decay", "label_smoothing", "clip_norm")
_WORDS = {
  "model": DESIGNS,
  "norm": NORMS,
  "optimizer": OPTIMIZERS,
  "schedule": SCHEDULES,
  "adversary": ADVERSARIES,
}
KEYS = (*_WORDS, "width_factor", "adversary_radius", "adversary_steps", *_NUMBERS)

# What summary.json holds beside the arms.
_TAKEN = ("memorised", "verifier", "controls", "paired")

FLAGS = flags.FlagValues()
shared.define_run(FLAGS, out_dir="runs/cifar")


def _define() -> None:
  string = partial(flags.DEFINE_string, flag_values=FLAGS)
  integer = partial(flags.DEFINE_integer, flag_values=FLAGS)
  real = partial(flags.DEFINE_float, flag_values=FLAGS)
  string("dataset", "synthetic_shapes", "The data: synthetic_shapes or cifar10.")
  string(
    "data_dir",
    None,
    "Folder of the data, or CIFAR-10's archive; else the environment variable JAXINV_DATA, else "
    "the user's cache folder.",
  )
  flags.DEFINE_bool(
    "download", False, "Fetch CIFAR-10 into the user's cache folder first.", flag_values=FLAGS
  )
  integer("data_seed", 0, "Decides what synthetic_shapes draws.", 0, 2**32 - 1)
  integer("num_train", 4000, "Training images that synthetic_shapes draws.", 20, 10**6)
  integer("num_test", 1000, "Test images that it draws.", 10, 10**6)
  integer("resolution", 16, "Height and width of the images; CIFAR-10 is averaged down.", 4, 64)
  integer("num_seeds", 4, "Number of seeds: models trained for each arm.", 1, 10**6)
  integer("epochs", 12, "Passes over the training images.", 0, 10**5)
  integer("batch_size", 128, "Images a step.", 1, 10**6)
  real(
    "candidates",
    0.4,
    "Share of the training images of which each model is trained on a random half.",
    0.0,
    1.0,
  )
  flags.DEFINE_bool("flip", True, "Mirror training images at random.", flag_values=FLAGS)
  integer("shift", 2, "Most pixels by which they are shifted at random.", 0, 16)
  flags.DEFINE_multi_string(
    "arm",
    list(ARMS),
    "One way of training, 'NAME:key=value,key=value'; repeat for several. Keys: "
    f"{', '.join(KEYS)}.",
    flag_values=FLAGS,
  )
  string("verifier", VERIFIER, "The network that checks what is recovered, like an arm.")
  flags.DEFINE_list(
    "inversions",
    ["pgd", "ball", "coarse_to_fine", "priors"],
    f"How to invert: names of {', '.join(INVERSIONS)}.",
    flag_values=FLAGS,
  )
  integer("inversion_steps", 0, "Steps of each scale of an inversion; 0 for its own.", 0, 10**6)
  integer("restarts", 4, "Images recovered of each class by each inversion.", 1, 10**4)
  flags.DEFINE_enum(
    "attack",
    "pgd_l2",
    [name for name in ADVERSARIES if name != "none"],
    "The attack of which robust accuracy is told, for all arms the same.",
    flag_values=FLAGS,
  )
  real("attack_radius", 0.5, "Radius of its ball, in pixels' unit of 0 to 1.", 0.0, 1e6)
  integer("attack_steps", 20, "Its steps.", 1, 10**5)
  integer("attack_restarts", 2, "Its restarts.", 1, 10**4)
  integer("attack_images", 256, "Test images that are attacked; 0 for all.", 0, 10**7)
  flags.DEFINE_enum(
    "compute_dtype",
    "float32",
    list(DTYPES),
    "Precision of the networks' computation; parameters stay float32.",
    flag_values=FLAGS,
  )
  integer("width", 0, "Models trained together; 0 for one on each device.", 0, 10**6)
  integer("save_seeds", 4, "Of how many seeds weights and images are kept.", 1, 10**6)
  integer("record_every", 3, "Epochs from one record of the curves to the next.", 1, 10**6)
  real("checkpoint_seconds", 10.0, "Seconds between checkpoints; 0 for one at every record.", 0.0)


_define()


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  argv = sys.argv[1:] if argv is None else argv
  return shared.run(partial(_main, argv), FLAGS, __doc__, argv)


def _main(argv: Sequence[str]) -> None:
  settings = _settings()
  data = _load()
  check(settings, data)
  config = results.configuration("launch.cifar", shared.values(FLAGS), _whole(data))
  out_dir = Path(FLAGS.out_dir)
  results.open_folder(out_dir, config, FLAGS.overwrite, shared.FREE)
  groups = deep_groups.plan(settings, data)
  work = sum(deep_groups.num_steps(settings, group) * len(group.seeds) for group in groups)
  with (
    results.working_in(out_dir),
    ProgressBar(work, "model-steps") as bar,
    shared.StopSignal() as stop,
  ):
    host = Host(bar.advance, bar.say, stop, FLAGS.checkpoint_seconds)
    store = out_dir / results.CHECKPOINTS
    trained = deep_groups.train_groups(settings, data, groups, store, host)
    networks, verifier = deep_outcome.by_arm(groups, trained)
    recovered = deep_outcome.recover_all(settings, data, networks, store, host)
    found = deep_outcome.assemble(settings, data, networks, verifier, recovered, host)
    paired = deep_outcome.compare(found)
    summary = _write(out_dir, found, paired)
    story = cifar_report.Story(
      found=found,
      summary=summary,
      paired=paired,
      attack=f"{FLAGS.attack_restarts} restarts of {FLAGS.attack_steps} steps of {FLAGS.attack} "
      f"within a radius of {FLAGS.attack_radius:g}",
      config=config,
      command=shlex.join(["python", "-m", "launch.cifar", *argv]),
    )
    page = cifar_report.write_page(out_dir, story)
    results.finish(out_dir, config)
  _print_summary(found, summary)
  print(f"report: {page}")


def _settings() -> DeepSettings:
  arms = tuple(parse_arm(text, "arm") for text in FLAGS.arm)
  refuse_twins([arm.name for arm in arms])
  for arm in arms:
    if arm.name in _TAKEN:
      raise InputError(f"--arm: summary.json has '{arm.name}' already: give the arm another name")
  same = ("num_seeds", "epochs", "batch_size", "candidates", "flip", "shift", "restarts")
  same += ("width", "save_seeds", "record_every")
  return DeepSettings(
    arms=arms,
    verifier=parse_arm(FLAGS.verifier, "verifier"),
    inversions=_inversions(),
    root_seed=FLAGS.seed,
    attack=Attack(
      FLAGS.attack,
      FLAGS.attack_radius,
      FLAGS.attack_steps,
      FLAGS.attack_restarts,
      FLAGS.attack_images,
    ),
    dtype=FLAGS.compute_dtype,
    **{name: FLAGS[name].value for name in same},
  )


def parse_arm(text: str, flag: str) -> DeepArm:
  """Parses one way of training a network, `NAME:key=value,key=value`.

  Args:
    text: what was given.
    flag: by which flag.

  Returns:
    The arm.

  Raises:
    InputError: what is wrong, in which arm, and what would be right.
  """
  name, values = split_arm(text, KEYS, flag)
  where = f"--{flag} {name}"
  for key, known in _WORDS.items():
    if key in values and values[key] not in known:
      raise InputError(f"{where}: unknown {key} '{values[key]}': choose from {', '.join(known)}")
  words = {key: values.pop(key) for key in _WORDS if key in values}
  numbers = {key: number(where, key, value) for key, value in values.items()}
  radius = numbers.pop("adversary_radius", 0.0)
  adversary = words.get("adversary", "none")
  if (adversary == "none") != (radius == 0):
    raise InputError(
      f"{where}: an adversary and its radius go together: give adversary=pgd_l2 and "
      "adversary_radius=0.5, say, or neither"
    )
  static = {key: numbers.pop(key) for key in ("width_factor", "adversary_steps") if key in numbers}
  if "adversary_steps" in static:
    static["adversary_steps"] = int(static["adversary_steps"])
  base = Hyper(**{"learning_rate": 0.003, "weight_decay": 0.01, **numbers})
  return DeepArm(name, **words, **static, hyper=RobustHyper(base, radius))


def _inversions() -> dict[str, Inversion]:
  """The recipes named, their lengths made to suit the resolution."""
  recipes = {}
  for name in FLAGS.inversions:
    if name not in INVERSIONS:
      raise InputError(f"--inversions: unknown '{name}': choose from {', '.join(INVERSIONS)}")
    recipe, scale = INVERSIONS[name], FLAGS.resolution / 16
    recipes[name] = recipe._replace(
      steps=FLAGS.inversion_steps or recipe.steps,
      step_size=scale * recipe.step_size,
      radius=scale * recipe.radius,
    )
  return recipes


def _load() -> TrainTest:
  if FLAGS.dataset == "synthetic_shapes":
    if FLAGS.download:
      raise InputError("--download: synthetic_shapes needs no file; give --dataset=cifar10")
    return synthetic_shapes(FLAGS.data_seed, FLAGS.num_train, FLAGS.num_test, FLAGS.resolution)
  if FLAGS.dataset == "cifar10":
    where = download_cifar10(shared.cache_dir()) if FLAGS.download else shared.data_dir(FLAGS)
    return load_cifar10(where, FLAGS.resolution)
  raise InputError(f"unknown --dataset '{FLAGS.dataset}': choose from synthetic_shapes, cifar10")


def _whole(data: TrainTest) -> Dataset:
  """Training and test images as one, for their digest."""
  return data.train._replace(
    inputs=np.concatenate([data.train.inputs, data.test.inputs]),
    labels=np.concatenate([data.train.labels, data.test.labels]),
  )


def _write(out_dir: Path, found: DeepFound, paired: dict[str, dict[str, Interval]]) -> Summary:
  """Writes metrics.csv, summary.json, recovered/, weights/ and history.npz; returns the summary."""
  measures = deep_outcome.table(found)
  results.write_metrics(out_dir, measures)
  history = {}
  for name, arm in found.arms.items():
    images = {
      how: 255 * inverted.images.reshape(*inverted.images.shape[:3], *found.image_shape)
      for how, inverted in arm.inverted.items()
    }
    files.write_npz(out_dir / "recovered" / f"{name}.npz", images)
    files.write_npz(out_dir / "weights" / f"{name}.npz", arm.variables)
    history[f"{name}/step"] = arm.steps
    history |= {f"{name}/{curve}": values for curve, values in arm.history.items()}
  files.write_npz(out_dir / "history.npz", history)
  summary = deep_outcome.summarize(found)
  more = {
    "memorised": {
      name: {how: inverted.memorised for how, inverted in arm.inverted.items()}
      for name, arm in found.arms.items()
    },
    "verifier": found.verifier,
    "controls": found.controls,
    "paired": paired,
  }
  files.write_json(out_dir / "summary.json", plain({**summary, **more}))
  return summary


def _print_summary(found: DeepFound, summary: Summary) -> None:
  """Lines for each arm: how well it recognises, and whether its inversions are recognised."""
  print(f"verifier: holdout_accuracy {found.verifier['holdout_accuracy']:.3f}")
  for arm, attacks in summary.items():
    model = attacks.get("model", {})
    parts = [f"{name} {model[name]['mean']:.3f}" for name in model if name != "train_loss"]
    for how in found.arms[arm].inverted:
      if "verifier_accuracy" in attacks.get(how, {}):
        mean, low, high, _ = attacks[how]["verifier_accuracy"].values()
        interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
        parts.append(f"{how} named by the verifier {mean:.3f}{interval}")
    if attacks["diverged"]:
      parts.append(f"diverged: seeds {', '.join(map(str, attacks['diverged']))}")
    print(f"{arm}: {', '.join(parts)}")


if __name__ == "__main__":
  sys.exit(main())
