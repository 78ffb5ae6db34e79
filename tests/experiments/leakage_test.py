"""What a group gives away: for one model and for many, linear or with hidden layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.data import splits
from jaxinv.ensemble import mapping
from jaxinv.ensemble.groups import Host
from jaxinv.ensemble.program import make_program
from jaxinv.ensemble.seeds import split_data, train_keys
from jaxinv.experiments import experiment, leakage, planning
from jaxinv.experiments.groups import run_groups
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.metrics.metric import measure
from jaxinv.models.dense import make_model
from jaxinv.training import gram, primal
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import OPTIMIZERS
from jaxinv.training.primal import make_trainer
from jaxinv.types import Data, Hyper, Trained, TrainState

RNG = np.random.default_rng(0)
LOOK = leakage.EvalConfig((13, 11), 5, holdout=True)


def state_of(params, data):
  step = jnp.zeros((), jnp.int32)
  return TrainState(params, (), step, jax.random.key(0), data.train)


@pytest.fixture(scope="module")
def data(planted):
  """One example of each class held out."""
  held = np.array([np.flatnonzero(planted.labels == c)[0] for c in range(5)])
  rest = np.setdiff1d(np.arange(40), held)
  return Data(*map(jnp.asarray, (planted.inputs, planted.labels, rest, held)))


@pytest.fixture(scope="module")
def planted_model(data):
  """A linear model whose weights are its start plus the class means, and what it gives away."""
  trainer = make_trainer(make_model(5), LOSSES["softmax"], OPTIMIZERS["sgd"])
  means = splits.class_means(data.inputs, data.labels, data.train, 5).T
  noise = jnp.asarray(RNG.standard_normal(means.shape), jnp.float32)
  start, end = ({"Dense_0": {"kernel": k, "bias": jnp.arange(5.0)}} for k in (noise, noise + means))
  states = state_of(start, data), state_of(end, data)
  model = Trained(states[0].params, states[1], data)
  return jax.jit(lambda model: leakage.examine(trainer, LOOK, model))(model), noise, means


def test_what_training_added_is_seen_and_measured_as_what_it_is(planted_model):
  found, _, _ = planted_model
  measures = found.measures["init_diff"]
  assert measures["ncc"] == pytest.approx(1, abs=1e-4)
  assert measures["ssim"] == pytest.approx(1, abs=1e-3)
  assert measures["identification"] == 1
  assert measures["psnr"] > 50
  assert found.measures["reshape"]["ncc"] < 0.5  # The start hides it.


def test_weights_come_as_one_row_a_class_with_bias_and_movement(planted_model):
  found, noise, means = planted_model
  np.testing.assert_array_equal(found.weights, (noise + means).T)
  np.testing.assert_array_equal(found.init_weights, noise.T)
  np.testing.assert_array_equal(found.bias, np.arange(5))
  expected = np.linalg.norm(means) / np.linalg.norm(noise)
  assert float(found.measures["model"]["weight_movement"]) == pytest.approx(expected, rel=1e-5)


def test_class_images_are_the_means_of_both_parts_in_0_255(data, planted):
  for index, images in zip(
    (data.train, data.holdout), leakage.class_images(LOOK, data), strict=True
  ):
    index = np.asarray(index)
    expected = [planted.inputs[index[planted.labels[index] == c]].mean(0) for c in range(5)]
    np.testing.assert_allclose(np.reshape(images, (5, -1)), 255 * np.stack(expected), rtol=1e-5)


@pytest.fixture(scope="module", params=["primal", "gram"])
def group(request, planted):
  """A program, and four models as it trained them: first parameters, states and data."""
  make_trainer = {"primal": primal.make_trainer, "gram": gram.make_trainer}[request.param]
  program = make_program(make_trainer(make_model(5), LOSSES["softmax"], OPTIMIZERS["sgd"]))
  data = split_data(splits.whole(planted), 5, 0, range(4), 1)
  data = data._replace(gram=gram.gram_matrix(data.inputs, True))
  hypers = mapping.stack_hypers([Hyper(0.05), Hyper(0.1), Hyper(0.05), Hyper(1e38)])
  states = program.init(train_keys(0, range(4)), hypers, data)
  firsts = mapping.copied(states.params)
  states, record = program.advance(states, hypers, data, num_steps=10)
  assert record.finite.tolist() == [True, True, True, False]
  return program, Trained(firsts, states, data)


@pytest.fixture(scope="module")
def alone(group):
  """What each of the four gives away, looked at alone."""
  program, models = group
  look = leakage.examine_one(program, LOOK)
  return [jax.device_get(look(models, i)) for i in range(4)]


def test_one_model_of_a_group_is_examined_as_it_is_by_itself(group, alone):
  program, models = group
  mine = mapping.run_at(mapping.trained_axes(program.data_axes, models), models, 2)
  params = program.trainer.params(mine.state, mine.data)
  np.testing.assert_allclose(alone[2].weights, params["Dense_0"]["kernel"].T, atol=1e-6)
  found = jax.jit(lambda model: leakage.examine(program.trainer, LOOK, model))(mine)
  for one, other in zip(jax.tree.leaves(alone[2]), jax.tree.leaves(found), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
  targets = leakage.targets_of(LOOK, mine.data)
  expected = measure(jnp.asarray(alone[2].images["reshape"]), targets)
  for name, value in expected.items():
    assert float(alone[2].measures["reshape"][name]) == pytest.approx(float(value), abs=1e-4)


def test_a_groups_measures_are_those_of_its_members(group, alone):
  program, models = group
  whom = np.zeros(4, np.int32), np.ones(4, bool)
  measured = leakage.measure_group(program, LOOK, 3)(models, *whom)
  assert set(measured.measures) == {"model", *(attack.name for attack in LOOK.attacks)}
  for attack, table in measured.measures.items():
    assert set(table) == set(alone[0].measures[attack])
    for name, values in table.items():
      expected = [found.measures[attack][name] for found in alone[:3]]
      np.testing.assert_allclose(values[:3], expected, rtol=1e-4, atol=1e-4, err_msg=name)


def test_sums_hold_the_healthy_members_of_each_place_and_one_without_has_none(group, alone):
  """The fourth has diverged: its weights, which are no numbers, are in no sum."""
  program, models = group
  place, healthy = np.array([0, 2, 0, 2], np.int32), np.array([True, True, True, False])
  weights = [found.weights for found in alone]
  assert not np.isfinite(weights[3]).all()
  add = leakage.measure_group(program, LOOK, 3)
  sums = np.asarray(add(models, place, healthy).sums).sum(0)
  np.testing.assert_allclose(sums[0], weights[0] + weights[2], atol=1e-5)
  np.testing.assert_array_equal(sums[1], 0)
  np.testing.assert_allclose(sums[2], weights[1], atol=1e-5)
  fewer = np.asarray(add(models, place, healthy & (place == 2)).sums).sum(0)
  np.testing.assert_array_equal(fewer[0], 0)


def test_the_watched_class_is_that_of_the_weights(group, alone):
  program, models = group
  watch = leakage.watch_one(program, LOOK)
  for i, chosen in ((0, 3), (2, 1)):
    np.testing.assert_allclose(watch(models, i, chosen), alone[i].weights[chosen], atol=1e-6)


def test_a_hidden_layer_is_read_as_the_product_of_its_kernels_and_its_parameters_are_kept(planted):
  arm = Arm("deep", "adam", Hyper(0.03))
  settings = Settings((arm,), 2, steps=30, batch_size=0, holdout=1, hidden=(16,), record_every=30)
  lab = experiment.make_experiment(settings, planted)
  (result,) = run_groups(lab, planning.plan(lab), None, Host())
  kernels = [result.arrays["params"][f"Dense_{i}"]["kernel"] for i in (0, 1)]
  assert [k.shape for k in kernels] == [(2, 143, 16), (2, 16, 5)]
  expected = np.matmul(*kernels).transpose(0, 2, 1)
  np.testing.assert_allclose(result.arrays["weights"], expected, atol=1e-4)
  np.testing.assert_array_equal(result.arrays["bias"], result.arrays["params"]["Dense_1"]["bias"])
  start = np.matmul(*(result.arrays["init_params"][f"Dense_{i}"]["kernel"] for i in (0, 1)))
  np.testing.assert_allclose(result.arrays["init_weights"], start.transpose(0, 2, 1), atol=1e-5)
  assert result.history["train_accuracy"][-1].min() == 1
  assert result.measures["init_diff"]["ncc_centred"].min() > 0.5  # Faces show through a layer, too.
