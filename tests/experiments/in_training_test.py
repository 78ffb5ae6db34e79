"""What is measured of a model in training, mostly without an image, is what its images show."""

import numpy as np
import pytest

from jaxinv.ensemble import mapping
from jaxinv.ensemble.seeds import train_keys
from jaxinv.experiments import experiment
from jaxinv.experiments.settings import Arm, Settings, program_name
from jaxinv.types import Hyper, Snapshot, Trained

ATTACKS = ("reshape", "denoised", "class_centred", "init_diff", "denoised_diff", "update_ratio")
CASES = {
  "gram": ("gram", Hyper(0.3, weight_decay=0.05)),
  "primal": ("primal", Hyper(0.3, weight_decay=0.05)),
  "private": ("private_span", Hyper(0.3, weight_decay=0.05, dp_clip=1.0, dp_noise=0.1)),
  "altered": ("gram", Hyper(0.3, release_noise=0.5, release_bits=5.0)),
}


def look_both_ways(dataset, engine, hyper):
  """What a look at three models measures, and what examining their images gives."""
  settings = Settings(
    (Arm("a", "sgd", hyper),), 3, batch_size=0, engine=engine, attacks=ATTACKS, at_records=True
  )
  lab = experiment.make_experiment(settings, dataset)
  parts, data = lab.engines[program_name(settings.arms[0])], experiment.split_of(lab, range(3))
  hypers = mapping.stack_hypers([hyper] * 3)
  states = parts.program.init(train_keys(0, range(3)), hypers, data)
  firsts = mapping.copied(states.params)
  states, _ = parts.program.advance(states, hypers, data, num_steps=7)
  earlier = mapping.copied(Snapshot(states.params, states.step))
  states, _ = parts.program.advance(states, hypers, data, num_steps=5)
  group = Trained(firsts, states, data, hypers, earlier)
  return parts.look(group), parts.measure(1)(group, np.zeros(3, np.int32), np.ones(3, bool))


@pytest.mark.parametrize("case", CASES)
def test_what_is_measured_in_training_is_what_the_images_show(planted, case):
  (measures, details), measured = look_both_ways(planted, *CASES[case])
  for attack in ATTACKS:
    for name, values in measures[attack].items():
      expected = measured.measures[attack][name]
      np.testing.assert_allclose(values, expected, atol=2e-4, err_msg=f"{attack} {name}")
    shown = measured.details["identified"][attack]
    np.testing.assert_array_equal(details["identified"][attack], shown)
  leaks = np.array([measures[attack]["ncc_centred"] for attack in ATTACKS])
  assert np.ptp(leaks, axis=0).min() > 0.01  # The attacks differ, so that a mix-up would show.
  for name in ("train_accuracy", "holdout_accuracy") if case == "altered" else ():
    np.testing.assert_array_equal(measures["model"][name], measured.measures["model"][name])
