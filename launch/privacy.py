"""Shows what DP-SGD costs and hides at each epsilon, and whether it keeps to it.

  python -m launch.privacy --out_dir=runs/privacy
  python -m launch.privacy --dataset=att --data_dir=DATA --epsilons=1,8,100 --num_seeds=16

For each epsilon, learning rate, clipping norm and batch size are chosen by held-out accuracy on
seeds that are not measured; then models of other seeds are trained and attacked, and what came out
stands beside what no attacker exceeds. Thousands of small models with and without a canary prove a
lower bound on epsilon: above the claim, the program would be wrong.

Exit status: 0 the run is complete; 1 something given cannot be used, said in one line; 130 stopped
by Ctrl-C or SIGTERM: the same command goes on from the last checkpoint.
"""

import sys
from collections.abc import Sequence

from absl import flags

from jaxinv.experiments.privacy import files
from jaxinv.experiments.privacy import page as privacy_page
from jaxinv.experiments.privacy.page import PageData
from jaxinv.experiments.privacy.privacy import Result, make_plan, run_privacy, run_steps
from jaxinv.experiments.privacy.settings import PrivacySpec
from jaxinv.runs.text import interval

from . import flags as shared
from .define import group
from .own import define_own, own_values
from .run import opened, run

FLAGS = flags.FlagValues()
shared.define_run(FLAGS, out_dir="runs/privacy")
shared.define_data(FLAGS)
shared.define_training(
  FLAGS,
  num_seeds=8,
  steps=500,
  batch_size=0,
  holdout=2,
  save_seeds=1,
)
shared.define_models(FLAGS)
define_own(FLAGS)
_what, _training, _output = (group(FLAGS, name) for name in ("what", "training", "output"))
_what.names(
  "epsilons",
  ["1", "8", "30", "100", "1000"],
  "Epsilons of a photograph, from one model, each above 0; the arm without privacy is always made.",
)
_what.real("delta", 1e-5, "Delta, between 0 and 1, of these epsilons.", 0.0, 1.0)
_what.integer(
  "audit_models",
  1000,
  "Models with each of two canaries, and without any, for the empirical epsilon of each of "
  "--epsilons; 0 for no audit.",
  0,
  10**6,
)
_training.names(
  "rates", ["0.01", "0.03", "0.1", "0.3"], "Learning rates to choose from, for each epsilon."
)
_training.names("clips", ["1", "10"], "Norms to clip each example's gradient to, to choose from.")
_training.names(
  "batches",
  ["32", "128"],
  "Examples of a batch, in the mean, to choose from; the first also sets the share of a batch of "
  "the models with canaries.",
)
_training.integer(
  "tuning_seeds", 3, "Seeds by whose held-out accuracy is chosen; none is measured.", 1, 10**4
)
_output.real("confidence", 0.95, "Of the lower bounds on epsilon, from 0.5 to 0.9999.", 0.5, 0.9999)
# Without these there is no curve.
_METRICS = ("ncc_centred", "identification")
# The arms and their batches are chosen here.
_UNUSED = ("arm", "batch_size", "record_every")


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  return run("privacy", _main, FLAGS, __doc__, argv, unused=_UNUSED)


def _main(argv: Sequence[str]) -> None:
  dataset = shared.load_dataset(FLAGS)
  spec = _spec(dataset.num_classes)
  plan = make_plan(spec, dataset)
  with opened(FLAGS, "privacy", argv, dataset, run_steps(spec, plan)) as here:
    result = run_privacy(spec, plan, dataset, here.store, here.host)
    here.bar.working("writing and drawing")
    summary = files.write_privacy(here.out_dir, spec, result)
    data = PageData(dataset, spec, result, summary, here.config, here.command)
    page = privacy_page.write_page(here.out_dir, data)
  _print_result(result)
  print(f"report: {page}")


def _spec(num_classes: int) -> PrivacySpec:
  numbers = {
    name: shared.floats(name, FLAGS[name].value, 0, 1e9) for name in ("epsilons", "rates", "clips")
  }
  own = own_values(FLAGS, num_classes)
  if "metrics" in own:
    own["metrics"] = tuple(dict.fromkeys((*_METRICS, *own["metrics"])))
  return PrivacySpec(
    attacks=own.pop("attacks", ()),
    settings=shared.settings(FLAGS, (), **own),
    delta=FLAGS.delta,
    batches=shared.integers("batches", FLAGS.batches, 1, 10**7),
    tuning_seeds=FLAGS.tuning_seeds,
    audit_models=FLAGS.audit_models,
    confidence=FLAGS.confidence,
    **numbers,
  )


def _print_result(result: Result) -> None:
  """A line an arm, and one for the strongest proof of each epsilon."""
  for name, point in result.points.items():
    print(
      f"{name}: accuracy {interval(point.accuracy)}, {point.attack} shows "
      f"{interval(point.leakage)}, identified {interval(point.identified)}"
    )
  for epsilon in dict.fromkeys(audit.epsilon for audit in result.audits):
    own = [audit for audit in result.audits if audit.epsilon == epsilon]
    best = max(own, key=lambda audit: audit.highest)
    words = "REFUTED: " if any(audit.refutes for audit in own) else ""
    print(
      f"claimed epsilon {epsilon:g}: {words}at least {best.highest:.2f} "
      f"({best.canary} canary, {best.attacker})"
    )


if __name__ == "__main__":
  sys.exit(main())
