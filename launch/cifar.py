"""Trains networks with and without an adversary, inverts them, and measures what comes out.

  python -m launch.cifar --out_dir=runs/cifar
  python -m launch.cifar --dataset=cifar10 --data_dir=DATA --resolution=16
  python -m launch.cifar --dataset=folder:PATH --resolution=32
  python -m launch.cifar --arm=standard --arm='robust:adversary=pgd_l2,adversary_radius=0.5'
  python -m launch.cifar --inversion=pgd --inversion='smooth:total_variation=0.01,steps=400'
  python -m launch.cifar --time_widths=1,2,4,8

Each network is inverted by gradient descent on its input. An independent network, the verifier,
classifies the recovered images, and their nearest training images are compared with the nearest of
images that were left out at random.

Exit status: 0 the run is complete; 1 something given cannot be used, said in one line; 130 stopped
by Ctrl-C or SIGTERM: the same command goes on from the last checkpoint.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from absl import flags

from jaxinv.attacks.recipes import INVERSIONS, Inversion
from jaxinv.data.cifar10 import download_cifar10, load_cifar10
from jaxinv.data.fetch import cache_dir, data_dir
from jaxinv.data.load import FORMS, Options, load
from jaxinv.data.splits import divide, joined
from jaxinv.data.synthetic_shapes import synthetic_shapes
from jaxinv.ensemble.groups import Host
from jaxinv.ensemble.progress import ProgressBar
from jaxinv.errors import InputError, choose, named
from jaxinv.experiments.networks import files, outcome, page, recovery, timing, training
from jaxinv.experiments.networks.findings import NetworksResult, Summary
from jaxinv.experiments.networks.recovery import Recovered
from jaxinv.experiments.networks.settings import DTYPES, NetworkSettings, RobustnessTest, check
from jaxinv.experiments.networks.training import NetworkGroup, TrainedNetwork
from jaxinv.runs import processes
from jaxinv.training.adversary import ADVERSARIES
from jaxinv.types import Dataset, TrainTest

from . import flags as shared
from .arms import refuse_twins
from .define import group
from .inversions import parse_inversions
from .networks import KEYS, parse_network
from .run import opened, run

ARMS = ("standard", "robust:adversary=pgd_l2,adversary_radius=0.5")
VERIFIER = "verifier:model=vgg16,width_factor=0.25,norm=batch"
DEFAULT_INVERSIONS = ("pgd", "ball", "coarse_to_fine", "priors")
# Share of each class's images that are test images, where a data set comes undivided; and the
# number that is drawn from with the root seed to choose them, which no pair of seeds has.
HELD_OUT, _DIVISION = 0.2, 2**32 - 1
# What summary.json and the folder of weights hold beside the arms.
_TAKEN = ("memorised", "verifier", "controls", "paired")

FLAGS = flags.FlagValues()
shared.define_run(FLAGS, out_dir="runs/cifar")


_what, _data, _training, _output, _machine = (
  group(FLAGS, name) for name in ("what", "data", "training", "output", "machine")
)


def _define_data() -> None:
  _data.string(
    "dataset",
    "synthetic_shapes",
    "The data: synthetic_shapes, cifar10, folder:PATH (a folder with one sub-folder of images a "
    "class, grey or colour) or package.module:function (your own, which returns a jaxinv.Dataset). "
    f"Of the last two, {HELD_OUT:.0%} of each class's images, chosen at random by --seed, are the "
    "test images.",
  )
  _data.string(
    "data_dir",
    None,
    "Folder of the data, or CIFAR-10's archive; else the environment variable JAXINV_DATA, else "
    "the user's cache folder.",
  )
  _data.switch("download", False, "Fetch CIFAR-10 into the user's cache folder first.")
  _data.integer("data_seed", 0, "Decides which images synthetic_shapes draws.", 0, 2**32 - 1)
  _data.integer("num_train", 4000, "Training images that synthetic_shapes draws.", 20, 10**6)
  _data.integer("num_test", 1000, "Test images that it draws.", 10, 10**6)
  _data.integer(
    "resolution",
    16,
    "Height and width of the images in pixels: synthetic_shapes is drawn with 8 to 64, CIFAR-10 "
    "averaged down to 4, 8, 16 or 32, images of folder:PATH resized; your own keep their size.",
    4,
    512,
  )
  _data.real(
    "candidates",
    0.2,
    "Share of the training images of which each model is trained on a random half.",
    0.0,
    1.0,
  )


def _define_training() -> None:
  _what.texts(
    "arm",
    list(ARMS),
    "One way of training, 'NAME:key=value,key=value'; repeat for several. Keys: "
    f"{', '.join(KEYS)}. Optimizer and model may be your own, as package.module:name: "
    "the model a Flax module, from inputs of pixels in a row to logits.",
  )
  _what.integer("num_seeds", 4, "Number of seeds: models trained for each arm.", 1, 10**6)
  _what.string("verifier", VERIFIER, "The network that checks what is recovered, like an arm.")
  _training.integer("epochs", 20, "Passes over the training images.", 0, 10**5)
  _training.integer("batch_size", 128, "Images a step.", 1, 10**6)
  _training.switch("flip", True, "Mirror training images at random.")
  _training.integer("shift", 2, "Most pixels by which they are shifted at random.", 0, 16)
  _training.choice(
    "compute_dtype",
    "float32",
    list(DTYPES),
    "Precision of the networks' computation; parameters stay float32.",
  )
  _output.integer("save_seeds", 4, "Number of seeds whose weights and images are saved.", 1, 10**6)
  _output.integer("record_every", 3, "Epochs from one record of the curves to the next.", 1, 10**6)
  _machine.integer("width", 0, "Models trained together; 0 for one on each device.", 0, 10**6)
  _machine.names(
    "time_widths",
    [],
    "Only measure how long a training step takes at these widths, print it, and write nothing.",
  )
  _machine.real(
    "checkpoint_seconds", 10.0, "Seconds between checkpoints; 0 for one at every record.", 0.0
  )


def _define_attacks() -> None:
  _what.texts(
    "inversion",
    list(DEFAULT_INVERSIONS),
    f"How to invert; repeat for several: one of {', '.join(INVERSIONS)}, or with changes, or a "
    "recipe of your own from pgd's values, 'NAME:key=value,key=value'. Keys: "
    f"{', '.join(Inversion._fields)}.",
  )
  _what.integer("restarts", 4, "Images recovered of each class by each inversion.", 1, 1000)
  _what.choice(
    "attack",
    "pgd_l2",
    [name for name in ADVERSARIES if name != "none"],
    "The attack by which robust accuracy is measured, the same for all arms.",
  )
  _what.real("attack_radius", 0.5, "Radius of its ball, in pixels' unit of 0 to 1.", 0.0, 1e6)
  _what.integer("attack_steps", 20, "Its steps.", 1, 10**5)
  _what.integer("attack_restarts", 2, "Its restarts.", 1, 10**4)
  _what.integer("attack_images", 256, "Test images that are attacked; 0 for all.", 0, 10**7)


_define_data()
_define_training()
_define_attacks()
shared.define_distributed(FLAGS)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  # Networks are trained in float32, or --compute_dtype.
  return run("cifar", _main, FLAGS, __doc__, argv, unused=("jax_enable_x64",))


def _main(argv: Sequence[str]) -> None:
  place = shared.place(FLAGS)
  data = _load()
  settings = _settings(data.train)
  check(settings, data)
  if FLAGS.time_widths:
    _time_widths(settings, data, place)
    return
  # Bits depend on the groups, and these on the devices where no width is given: config.json says
  # which it was to a run that goes on elsewhere.
  width = training.width_of(settings, place.count)
  groups = training.plan(settings, data, place.count)
  mine = groups[place.index :: place.count]
  work = _work(settings, groups if place.first else mine)
  with opened(FLAGS, "cifar", argv, joined(data), work, "steps", place=place, width=width) as here:
    if place.count > 1:
      unseen = here.host._replace(advanced=lambda text, steps: None)
      _train_and_invert(settings, data, mine, here.store, unseen)
      dead = processes.meet(place)
      if not place.first:
        return
      for index in sorted(dead):
        here.bar.say(f"process {index} has died; what it left is done here")
    # Of what is finished, whoever did it, only the files are read.
    trained, recovered = _train_and_invert(settings, data, groups, here.store, here.host)
    result = outcome.assemble(settings, data, groups, trained, recovered, here.host)
    here.bar.working("drawing")
    paired = outcome.compare(result)
    summary = files.write(here.out_dir, result, paired)
    page_data = page.PageData(
      result=result,
      summary=summary,
      paired=paired,
      robustness=settings.robustness,
      config=here.config,
      command=here.command,
      credit=data.train.credit,
      held_out=HELD_OUT if ":" in FLAGS.dataset else None,
    )
    report = page.write_page(here.out_dir, page_data)
  _print_summary(result, summary)
  print(f"report: {report}")


def _time_widths(settings: NetworkSettings, data: TrainTest, place: processes.Place) -> None:
  """Prints seconds a step and network of each arm, by width."""
  if place.count > 1:
    raise InputError("--time_widths measures one process: leave --distributed out")
  widths = shared.integers("time_widths", FLAGS.time_widths, 1, 10**4)
  with ProgressBar(8 * len(set(widths)) * len(settings.arms), "measurements") as bar:
    for arm in settings.arms:
      title = f"timing {arm.name}"
      bar.working(title)
      tick = partial(bar.advance, title, 1)
      times = timing.seconds_a_step(settings, data, arm, widths, lambda _, tick=tick: tick())
      best = min(times, key=times.get)
      for width, seconds in times.items():
        mark = " (quickest)" if width == best and len(times) > 1 else ""
        bar.say(f"{arm.name}: width {width}: {seconds:.4f} s a step and network{mark}")


def _work(settings: NetworkSettings, groups: Sequence[NetworkGroup]) -> int:
  """Steps of training and of inverting, over all networks of the groups."""
  steps = sum(training.num_steps(settings, group) * len(group.seeds) for group in groups)
  victims = sum(len(group.seeds) for group in groups if not group.is_verifier)
  return steps + victims * recovery.num_steps(settings)


def _train_and_invert(
  settings: NetworkSettings,
  data: TrainTest,
  groups: Sequence[NetworkGroup],
  store: Path,
  host: Host,
) -> tuple[list[list[TrainedNetwork]], Recovered]:
  trained = training.train_groups(settings, data, groups, store, host)
  return trained, recovery.recover_all(settings, data, groups, trained, store, host)


def _settings(dataset: Dataset) -> NetworkSettings:
  of_data = dataset.num_classes, dataset.image_shape
  arms = tuple(parse_network(text, "arm", *of_data) for text in FLAGS.arm)
  refuse_twins([arm.name for arm in arms])
  for arm in arms:
    if arm.name.lower() in _TAKEN:
      raise InputError(
        f"--arm: the results have '{arm.name.lower()}' already: give the arm another name"
      )
  same = ("num_seeds", "epochs", "batch_size", "candidates", "flip", "shift", "restarts")
  same += ("width", "save_seeds", "record_every")
  return NetworkSettings(
    arms=arms,
    verifier=parse_network(FLAGS.verifier, "verifier", *of_data),
    inversions=parse_inversions(FLAGS.inversion, dataset.image_shape),
    root_seed=FLAGS.seed,
    robustness=RobustnessTest(
      FLAGS.attack,
      FLAGS.attack_radius,
      FLAGS.attack_steps,
      FLAGS.attack_restarts,
      FLAGS.attack_images,
    ),
    dtype=FLAGS.compute_dtype,
    **{name: FLAGS[name].value for name in same},
  )


def _load() -> TrainTest:
  """The images that the flags name, those of the user's own divided."""
  if FLAGS.download and FLAGS.dataset != "cifar10":
    raise InputError(f"--download: {FLAGS.dataset} needs no file; give --dataset=cifar10")
  if ":" in FLAGS.dataset:
    return _divide(load(FLAGS.dataset, Options(resolution=_resolution())))
  loader = choose("--dataset", FLAGS.dataset, _LOADERS | dict.fromkeys(FORMS[-2:]))
  return loader()


def _draw_shapes() -> TrainTest:
  return synthetic_shapes(FLAGS.data_seed, FLAGS.num_train, FLAGS.num_test, FLAGS.resolution)


def _load_cifar10() -> TrainTest:
  where = download_cifar10(cache_dir()) if FLAGS.download else data_dir(FLAGS.data_dir)
  return load_cifar10(where, FLAGS.resolution)


_LOADERS = {"synthetic_shapes": _draw_shapes, "cifar10": _load_cifar10}


def _resolution() -> tuple[int, int] | None:
  """To which a folder's images are resized; else only what the user asks for, which is refused."""
  is_asked = FLAGS.dataset.startswith("folder:") or FLAGS["resolution"].present
  return (FLAGS.resolution, FLAGS.resolution) if is_asked else None


def _divide(dataset: Dataset) -> TrainTest:
  """Training and test images of a data set that comes undivided."""
  if dataset.image_shape is None:
    raise InputError("--dataset: networks need images: give the Dataset an image_shape")
  shape = (*dataset.image_shape, 1)[:3]  # Grey images have one colour.
  with named("--dataset"):
    return divide(dataset._replace(image_shape=shape), HELD_OUT, [FLAGS.seed, _DIVISION])


def _print_summary(result: NetworksResult, summary: Summary) -> None:
  """Lines for each arm: how well it recognises, and whether its inversions are recognised."""
  print(f"verifier: holdout_accuracy {result.verifier['holdout_accuracy']:.3f}")
  for arm, attacks in summary.items():
    model = attacks.get("model", {})
    parts = [f"{name} {model[name]['mean']:.3f}" for name in model if name != "train_loss"]
    for how in result.arms[arm].inverted:
      if "verifier_accuracy" in attacks.get(how, {}):
        mean, low, high, _ = attacks[how]["verifier_accuracy"].values()
        interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
        parts.append(f"{how} recognised by the verifier {mean:.3f}{interval}")
    if attacks["diverged"]:
      parts.append(f"diverged: seeds {', '.join(map(str, attacks['diverged']))}")
    print(f"{arm}: {', '.join(parts)}")


if __name__ == "__main__":
  sys.exit(main())
