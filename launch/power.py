"""Shows how soon the blind score of launch.audit sees that weights were trained on images.

  python -m launch.power --out_dir=runs/power
  python -m launch.power --dataset=att --data_dir=DATA --arm=sgd:learning_rate=0.1 --steps=200

Trains arms x seeds, and at the steps 0, 1, 2, 5, 10, 20, 50 and so on tests each class's weights
for spatial autocorrelation, with nothing but one model's weights at hand. Writes power.csv and
figures/power.png. It takes less than a minute; one that was interrupted keeps nothing.

Exit status: 0 the run is complete; 1 something given cannot be used, said in one line; 130 stopped.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace

from absl import flags

from jaxinv.errors import InputError
from jaxinv.experiments import experiment
from jaxinv.experiments.power.figures import power_figure
from jaxinv.experiments.power.power import Power, first_step, measure_power, to_csv
from jaxinv.experiments.settings import Settings
from jaxinv.runs import files
from jaxinv.runs.figures import save
from jaxinv.training.hyper import ON_RELEASE, used

from . import flags as shared
from .arms import parse_arms
from .define import group
from .run import opened, run

FLAGS = flags.FlagValues()
shared.define_run(FLAGS, out_dir="runs/power", resumes=False)
shared.define_data(FLAGS)
shared.define_training(
  FLAGS,
  num_seeds=8,
  steps=1000,
  batch_size=32,
  holdout=2,
  save_seeds=1,
  arm=["sgd:optimizer=sgd,learning_rate=0.1", "adam:optimizer=adam,learning_rate=0.001"],
)
shared.define_models(FLAGS)
group(FLAGS, "what").real(
  "alpha", 0.05, "Share of false alarms, from 0 to 1, among what is flagged of a model.", 0.0, 1.0
)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  unused = ("save_seeds", "record_every", "normalize", "checkpoint_seconds")
  return run("power", _main, FLAGS, __doc__, argv, resumes=False, unused=unused)


def _main(argv: Sequence[str]) -> None:
  settings = _settings()
  dataset = shared.load_dataset(FLAGS)
  lab = experiment.make_experiment(settings, dataset)
  work = settings.steps * settings.num_seeds * len(settings.arms)
  with opened(FLAGS, "power", argv, dataset, work, polled=False) as here:
    power = measure_power(lab, FLAGS.alpha, here.host)
    files.write_text(here.out_dir / "power.csv", to_csv(power))
    figure = save(power_figure(power), here.out_dir / "figures" / "power.png")
  _print_power(power)
  print(f"figure: {figure}")


def _settings() -> Settings:
  """The settings that the flags ask for; raises InputError where they make no sense here."""
  arms = parse_arms(FLAGS.arm)
  for arm in arms:
    if altered := used(arm.hyper) & set(ON_RELEASE):
      raise InputError(
        f"--arm {arm.name}: {min(altered)} changes what is released, and weights are looked at in "
        "training here: leave it out"
      )
  # The chunks are those of the looks; one step is what to ask the compiler for the memory of.
  return replace(shared.settings(FLAGS, arms, attacks=("reshape",)), record_every=1)


def _print_power(power: Power) -> None:
  """A line an arm: what is flagged before training, and by when half and all classes are."""
  for arm, curves in power.arms.items():
    share = curves.structured.mean(1)
    parts = [f"{share[0]:.2%} of the classes flagged at step 0"]
    for portion, words in ((0.5, "half"), (1.0, "all")):
      step = first_step(power, arm, portion)
      when = "never" if step is None else f"by step {step:,}"
      parts.append(f"{words} of them {when}")
    parts.append(f"{share[-1]:.1%} at step {power.steps[-1]:,}")
    print(f"{arm}: {', '.join(parts)}")


if __name__ == "__main__":
  sys.exit(main())
