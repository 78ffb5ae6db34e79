"""Attacks, metrics, models, optimisers and losses of the caller's own go through a whole run."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxinv
from helpers import plant
from jaxinv.experiments import outcome
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.runs.tables import SEVERAL
from jaxinv.types import Hyper

PLAIN = Arm("plain", "sgd", Hyper(learning_rate=0.5))


def settings_of(**changes):
  usual = {"arms": (PLAIN,), "num_seeds": 2, "steps": 20, "batch_size": 8, "holdout": 1}
  usual |= {"attacks": ("init_diff",), "metrics": ("ncc_centred",)}  # Few are quickly compiled.
  return Settings(**{**usual, **changes})


def negative(release, shape):
  return jaxinv.attacks.init_diff(release, shape) * -1


NEGATIVE = jaxinv.attacks.Attack("negative", negative, frozenset({"params", "init_params"}))
ERROR = jaxinv.metrics.Metric("error", lambda images, targets: jnp.abs(images).mean())


class Tanh(nn.Module):
  """One hidden layer of tanh."""

  num_classes: int = 5

  @nn.compact
  def __call__(self, inputs):
    return nn.Dense(self.num_classes)(nn.tanh(nn.Dense(7)(inputs)))


def signs(hyper):
  return optax.chain(optax.scale_by_sign(), optax.scale(-1.0 * hyper.learning_rate))


def rates(hyper):
  return optax.sgd(hyper.learning_rate)


@pytest.fixture(scope="module")
def run(planted):
  return outcome.run(
    settings_of(attacks=("init_diff", NEGATIVE), metrics=("ncc_centred", ERROR)), planted
  )


def test_an_attack_and_a_metric_of_ones_own_are_measured_like_any_other(run):
  arm = run.arms["plain"]
  assert set(arm.measures) == {"model", "init_diff", "negative", *SEVERAL}
  assert set(arm.measures["negative"]) == {"ncc_centred", "error"}
  np.testing.assert_allclose(arm.images["negative"], 255 - arm.images["init_diff"], atol=1e-3)
  # Centred targets sum to zero, so that a negative correlates as badly as the image does well.
  np.testing.assert_allclose(
    arm.measures["negative"]["ncc_centred"], -arm.measures["init_diff"]["ncc_centred"], atol=1e-5
  )
  expected = np.abs(arm.images["negative"]).mean((1, 2, 3))
  np.testing.assert_allclose(arm.measures["negative"]["error"], expected, rtol=1e-5)
  assert run.attacks[1] is NEGATIVE and run.metrics[1] is ERROR


def test_an_outcome_prints_in_a_few_lines_and_becomes_a_frame(run):
  assert "negative shows -0." in repr(run) and len(repr(run)) < 400
  pandas = pytest.importorskip("pandas")
  frame = run.to_frame()
  assert isinstance(frame, pandas.DataFrame)
  rows = frame[(frame.attack == "negative") & (frame.metric == "error")]
  np.testing.assert_allclose(rows.value, run.arms["plain"].measures["negative"]["error"], rtol=1e-6)


def test_a_model_of_ones_own_is_trained_and_read(planted):
  arms = (Arm("slow", "sgd", Hyper(0.1)), Arm("signs", signs, Hyper(learning_rate=0.01)))
  found = outcome.run(settings_of(arms=arms, model=Tanh(), steps=150), planted)
  for arm in found.arms.values():
    assert arm.healthy.all() and arm.history["train_accuracy"][:, -1].min() > 0.8
    assert arm.arrays["params/Dense_1/kernel"].shape == (2, 143, 7)
    assert arm.measures["init_diff"]["ncc_centred"].min() > 0.5


def test_the_hidden_layer_given_as_a_module_is_the_one_given_by_name(planted):
  """The same optimiser and loss, as values: the same model, as far as rounding goes."""
  softmax = jaxinv.training.LOSSES["softmax"]
  one = outcome.run(settings_of(engine="primal"), planted).arms["plain"]
  arm = Arm("plain", rates, PLAIN.hyper)
  other = outcome.run(settings_of(arms=(arm,), loss=softmax), planted).arms["plain"]
  np.testing.assert_allclose(one.arrays["weights"], other.arrays["weights"], atol=1e-6)


def test_images_in_colour_are_recovered(planted):
  coloured = plant(shape=(9, 8, 3))
  found = outcome.run(settings_of(), coloured)
  images = found.arms["plain"].images["init_diff"]
  assert images.shape == (2, 5, 9, 8, 3)
  assert found.arms["plain"].measures["init_diff"]["ncc_centred"].min() > 0.5
