"""An attack is a value: what it needs, what it is called, and how it is found and run."""

import jax.numpy as jnp
import numpy as np
import pytest

from helpers import assert_fails
from jaxinv.attacks.attack import ALL, DEFAULT, Attack, init_diff, recover, reshape, resolve
from jaxinv.attacks.confidence import mi_face
from jaxinv.attacks.filtered import wiener
from jaxinv.errors import InputError
from jaxinv.types import Release

SHAPE, CLASSES = (4, 3), 5
IMAGES = np.random.default_rng(0).integers(0, 256, (CLASSES, *SHAPE)).astype(np.float32)
KERNEL = jnp.asarray(IMAGES.reshape(CLASSES, -1).T)


def normal(*shape):
  return jnp.asarray(np.random.default_rng(1).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize(
  ("attack", "message"),
  [
    ("init_diff", "init_params"),
    ("seed_mean", "peers"),
    ("update_ratio", "previous_params"),
    ("denoised_others", "others"),
    ("guess", "unknown attack 'guess'"),
  ],
)
def test_an_attack_that_lacks_what_it_needs_says_so(attack, message):
  with pytest.raises(InputError, match=message):
    recover(attack, Release({"kernel": KERNEL}), SHAPE)


def test_attacks_do_what_their_names_say_on_the_same_release():
  kernels = normal(3, 12, CLASSES)
  one, other = ({"k": kernel, "b": jnp.full(CLASSES, i)} for i, kernel in enumerate(kernels[:2]))
  release = Release(one, other, {"k": kernels}, {**other, "b": jnp.full(CLASSES, 2.0)})
  raw = {attack.name: attack(release, SHAPE) for attack in ALL if "others" not in attack.needs}
  plain = {"denoised": "reshape", "denoised_diff": "init_diff", "denoised_seed_mean": "seed_mean"}
  for name, unfiltered in plain.items():
    np.testing.assert_array_equal(raw.pop(name), wiener(raw[unfiltered]))
  np.testing.assert_array_equal(raw.pop("mi_face"), mi_face(Release(one), SHAPE))
  for name, expected in {
    "reshape": kernels[0],
    "init_diff": kernels[0] - kernels[1],
    "seed_mean": np.float64(kernels).mean(0),
    "class_centred": kernels[0] - np.float64(kernels[0]).mean(1, keepdims=True),
    "update_ratio": (kernels[0] - kernels[1]) / -2,
  }.items():
    np.testing.assert_allclose(raw.pop(name), expected.T.reshape(-1, *SHAPE), atol=1e-6)
  assert not raw


def test_of_every_attack_it_is_said_what_the_attacker_must_hold():
  """And so it is: the attack fails on all that others hold, and works on what it says."""
  params = {"kernel": KERNEL, "bias": jnp.ones(CLASSES)}
  needs = {
    "weights": {},
    "weights and initial weights": {"init_params": params},
    "several models": {"peers": {"kernel": KERNEL[None]}},
    "two releases": {"previous_params": params},
    "weights and other people's photographs": {"others": jnp.zeros((2, 1, len(KERNEL)))},
  }
  assert {attack.knowledge for attack in ALL} == set(needs)
  everything = {name: value for more in needs.values() for name, value in more.items()}
  for attack in ALL:
    assert attack(Release(params, **needs[attack.knowledge]), SHAPE).shape == IMAGES.shape
    for missing in needs[attack.knowledge]:
      with pytest.raises(InputError, match=missing):
        attack(Release(params, **{**everything, missing: None}), SHAPE)


def negate(release, image_shape):
  return -reshape(release, image_shape)


def test_an_attack_of_the_callers_own_is_used_like_any_other():
  own = Attack("negative", negate, frozenset({"params", "peers"}), words="-W")
  assert resolve(["init_diff", own]) == (init_diff, own) and resolve(own) == (own,)
  assert own.label == "-W" and repr(own) == "Attack(negative: -W)"
  assert own.knowledge == "several models" and not own.needs_one_model
  assert Attack("negative", negate).label == "negative"
  release = Release({"kernel": KERNEL})
  one, other = recover(own, release, SHAPE), recover("reshape", release, SHAPE)
  np.testing.assert_allclose(one, 255 - other, atol=1e-3)


def test_names_that_are_unknown_or_given_twice_are_refused():
  assert_fails(lambda: resolve(["guess"]), "unknown attack 'guess'", *(it.name for it in ALL))
  assert_fails(lambda: resolve([reshape, "reshape"]), "attack 'reshape' is named twice")
  own = Attack("init_diff", negate)
  assert_fails(lambda: resolve([init_diff, own]), "attack 'init_diff' is named twice")


def test_all_attacks_have_names_of_their_own_and_needs_that_a_release_has():
  assert resolve(it.name for it in ALL) == ALL and set(DEFAULT) < set(ALL)
  for attack in ALL:
    assert attack.needs <= set(Release._fields) and attack.how and attack.words
    # The default attacks are made of every model by itself.
    assert attack.needs_one_model or attack not in DEFAULT


def test_each_image_is_normalised_by_itself():
  kernel = KERNEL * jnp.array([[1.0, 2.0, -1.0, 1e-3, 0.0]])
  images = recover("reshape", Release({"kernel": kernel}), SHAPE)
  assert images.min((1, 2)).tolist() == [0] * 5
  np.testing.assert_allclose(images.max((1, 2)), [255, 255, 255, 255, 0], rtol=1e-6)
  images = recover("reshape", Release({"kernel": kernel}), SHAPE, "max", 2.0)
  np.testing.assert_allclose(np.abs(images).max((1, 2)), [2, 2, 2, 2, 0], rtol=1e-6)
  assert images[2].max() <= 0
