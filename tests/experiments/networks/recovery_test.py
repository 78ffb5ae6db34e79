"""What an attacker recovers: its randomness, its starts, its files, and a network as its victim."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.recipes import Inversion
from jaxinv.ensemble.groups import Host, Stopped
from jaxinv.ensemble.seeds import train_keys
from jaxinv.experiments.networks import recovery
from jaxinv.experiments.networks.settings import model_of
from jaxinv.experiments.networks.training import TrainedNetwork
from jaxinv.models.convnets import ResNet


def test_every_network_that_is_no_verifier_is_inverted_by_every_recipe(tiny):
  assert set(tiny.recovered) == {("plain", 0), ("plain", 1)}
  for images in tiny.recovered.values():
    assert set(images) == {"pgd"}
    assert images["pgd"].shape == (10, 2, 192)
    assert images["pgd"].min() >= 0 and images["pgd"].max() <= 1


def test_an_inversion_lowers_the_loss_of_the_network_that_it_inverts(tiny):
  model = model_of(tiny.settings, tiny.settings.arms[0], tiny.data)
  victim = recovery.make_victim(model, tiny.trained[0][0].variables)
  labels = recovery.wanted(tiny.settings, tiny.data)
  key = recovery.attacker_key(tiny.settings, 0)
  begin = recovery.starts(tiny.settings, tiny.data, tiny.settings.inversions["pgd"], key)
  end = tiny.recovered["plain", 0]["pgd"].reshape(20, -1)
  loss = jax.jit(victim.loss)
  assert float(loss(jnp.asarray(end), labels).mean()) < float(loss(begin, labels).mean())


def test_starts_of_a_seed_are_the_mean_of_the_training_images_but_for_its_own_noise(tiny):
  recipe = Inversion(spread=0.0)
  keys = [recovery.attacker_key(tiny.settings, seed) for seed in (0, 1)]
  still, noisy = (
    [np.asarray(recovery.starts(tiny.settings, tiny.data, r, key)) for key in keys]
    for r in (recipe, recipe._replace(spread=0.1))
  )
  np.testing.assert_allclose(still[0], np.tile(tiny.data.train.inputs.mean(0), (20, 1)), atol=1e-6)
  assert np.abs(noisy[0] - noisy[1]).max() > 0.05


def test_an_attacker_draws_from_no_stream_of_training(tiny):
  """Nor does the key of any of its draws equal a run's key or one that is folded from it."""
  key = recovery.attacker_key(tiny.settings, 0)
  attacker = [key, *(jax.random.fold_in(key, label) for label in (0, 1))]
  run = train_keys(tiny.settings.root_seed, [0])[0]
  training = [run, *jax.random.split(run), *(jax.random.fold_in(run, step) for step in range(4))]
  drawn = {tuple(jax.random.key_data(key).tolist()) for key in attacker}
  assert drawn.isdisjoint(tuple(jax.random.key_data(key).tolist()) for key in training)


def test_images_inverted_in_parts_are_those_inverted_together(tiny, monkeypatch):
  network, arm = tiny.trained[0][0], tiny.settings.arms[0]
  monkeypatch.setattr(recovery, "_TOGETHER", 16)
  parts = recovery._recover(tiny.settings, tiny.data, arm, network, 0, Host())
  np.testing.assert_allclose(parts["pgd"], tiny.recovered["plain", 0]["pgd"], atol=1e-4)


def test_what_is_finished_is_read_again_and_a_network_that_diverged_has_nothing(tiny, tmp_path):
  groups, trained = tiny.groups[:1], tiny.trained[:1]
  again = [
    recovery.recover_all(tiny.settings, tiny.data, groups, trained, tmp_path, host)
    for host in (Host(), Host(stop=lambda: True))  # Nothing is left that could be stopped.
  ]
  for images in again:
    np.testing.assert_array_equal(images["plain", 0]["pgd"], tiny.recovered["plain", 0]["pgd"])
  with pytest.raises(Stopped, match="plain, seed 0"):
    stop = Host(stop=lambda: True)
    recovery.recover_all(tiny.settings, tiny.data, groups, trained, None, stop)
  network = trained[0][0]
  history = network.history | {"finite": np.array([True, False])}
  lost = [[TrainedNetwork(network.variables, network.steps, history, 0.0)]]
  assert recovery.recover_all(tiny.settings, tiny.data, groups, lost, None, Host()) == {}


def test_steps_are_those_of_all_scales_of_all_recipes(tiny):
  recipes = {"a": Inversion(steps=3), "b": Inversion(steps=2, scales=(4, 2, 1))}
  assert recovery.num_steps(replace(tiny.settings, inversions=recipes)) == 9


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_victim_has_statistics_only_with_batch_normalisation(norm):
  model = ResNet((8, 8, 3), 2, (1, 1), (4, 8), norm)
  images = jax.random.uniform(jax.random.key(0), (4, 192))
  labels = jnp.array([0, 1, 1, 0])
  variables = model.init(jax.random.key(1), images[:1])
  victim = recovery.make_victim(model, variables)
  logits = model.apply(variables, images).logits
  expected = -jax.nn.log_softmax(logits)[jnp.arange(4), labels]
  np.testing.assert_allclose(victim.loss(images, labels), expected, atol=1e-5)
  assert (victim.statistics is None) == (norm == "group")
  if victim.statistics:
    assert float(victim.statistics(images)) > 0
