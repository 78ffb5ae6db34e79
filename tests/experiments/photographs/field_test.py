"""Each attacker finds photographs where they were put for it, and none where there are none."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from planted_leaves import leaf_pictures

from helpers import assert_fails
from jaxinv.experiments.photographs.field import FIELD, NEED_INIT, Effort, Held, attack
from jaxinv.experiments.photographs.score import prepare

SHAPE, N = (20, 16), 4
LEAVES = leaf_pictures(12, SHAPE).reshape(12, -1).astype(np.float32)
PICTURES, MEMBERS = prepare(LEAVES, SHAPE), np.array([1, 4, 6, 9])
EFFORT = Effort(steps=800, restarts=4, copies=1, width=2)
DECAY = 0.01


def hold(params, first=None):
  return Held(params, first, SHAPE, N, N)


@pytest.fixture(scope="module")
def models():
  """A linear model of one photograph a class, before and after training with weight decay."""
  inputs = jnp.asarray(LEAVES[MEMBERS])
  rng = np.random.default_rng(0)
  kernel = jnp.asarray(0.03 * rng.normal(size=(LEAVES.shape[1], N)), jnp.float32)
  first = {"kernel": kernel, "bias": jnp.zeros(N)}

  def loss(params):
    logits = inputs @ params["kernel"] + params["bias"][None]
    fit = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(N)).mean()
    return fit + DECAY / 2 * optax.tree.norm(params, squared=True)

  def step(params, _):
    return jax.tree.map(lambda x, g: x - 0.1 * g, params, jax.grad(loss)(params)), None

  return first, jax.jit(lambda x: jax.lax.scan(step, x, length=8000)[0])(first)


def test_kkt_finds_the_photographs_by_its_own_loss_and_controls_fail(models):
  first, trained = models
  found = attack(hold(trained, first), PICTURES, MEMBERS, ["kkt_softmax"], EFFORT)["kkt_softmax"]
  assert found.images.shape == (N, *SHAPE) and found.restarts == 4 and found.seconds > 0
  assert found.loss < 0.05 and found.score.identified.all()
  assert found.images.min() >= 0 and found.images.max() <= 1
  # Photographs that it was not trained on, and weights that nobody trained.
  strangers = attack(hold(trained), PICTURES, MEMBERS + 1, ["kkt_softmax"], EFFORT)["kkt_softmax"]
  assert not strangers.score.identified.any() and strangers.loss == found.loss
  untrained = attack(hold(first), PICTURES, MEMBERS, ["kkt_softmax"], EFFORT)["kkt_softmax"]
  assert untrained.loss > 0.2 and untrained.score.identified.mean() <= 0.5


def test_each_other_attacker_finds_what_was_put_there_for_it(models):
  first, trained = models
  every = attack(hold(trained, first), PICTURES, MEMBERS, effort=EFFORT._replace(steps=100))
  assert set(every) == set(FIELD)
  # One photograph a class: their average is the photograph, less what all have in common.
  assert every["class_average"].score.identified.all() and np.isnan(every["neurons"].loss)
  # A search from what unmixing found starts near the truth.
  assert every["kkt_unmixed"].score.identified.mean() >= 0.5
  for name, guess in every.items():
    assert len(guess.images) == N and np.isfinite(guess.images).all(), name


def test_units_that_copy_photographs_and_weights_that_mix_them_give_them_away():
  rng, inputs = np.random.default_rng(1), LEAVES[MEMBERS]
  last = {"kernel": rng.normal(size=(12, N)), "bias": np.zeros(N)}
  units = np.zeros((N, 12))
  units[np.arange(N), [3, 7, 8, 11]] = 2.0, -1.0, 1.5, 1.0  # A negative is as good.

  def seen(coefficients, name, steps=800):
    layer = {"kernel": inputs.T @ coefficients, "bias": coefficients.sum(0)}
    params = {"Dense_0": layer, "Dense_1": last}
    return attack(hold(params), PICTURES, MEMBERS, [name], EFFORT._replace(steps=steps))[name]

  assert seen(units, "neurons").score.identified.all()
  mixed = rng.normal(size=(N, 12))
  # These weights satisfy no equation: a longer search would leave what unmixing gave.
  assert seen(mixed, "kkt_unmixed", steps=1).score.identified.all()
  assert not seen(mixed, "neurons").score.identified.all()


def test_who_needs_initial_weights_is_left_out_without_them_and_strangers_are_refused(models):
  assert attack(hold(models[1]), PICTURES, MEMBERS, NEED_INIT, EFFORT) == {}
  assert_fails(lambda: attack(hold(models[1]), PICTURES, MEMBERS, ["nobody"]), "nobody", "kkt")
