"""The grammar of a network's training: what is right is taken as written, else one line."""

import flax.linen as nn
import pytest

from jaxinv.errors import InputError
from jaxinv.experiments.networks.settings import NetworkArm
from jaxinv.types import Hyper, RobustHyper
from launch.networks import parse_network


def parse(text):
  return parse_network(text, "arm", 3, (8, 8, 3))


def test_what_is_not_given_has_its_default():
  assert parse("a") == NetworkArm("a")


def test_an_arm_is_taken_as_written():
  text = (
    "a:model=vgg16,width_factor=0.5,norm=batch,optimizer=nesterov,schedule=cosine,"
    "adversary=pgd_linf,adversary_radius=0.25,adversary_steps=7,learning_rate=0.125,momentum=0.5,"
    "weight_decay=0,label_smoothing=0.1,clip_norm=2,copies=16"
  )
  base = Hyper(0.125, 0.5, 0.0, label_smoothing=0.1, clip_norm=2.0)
  parts = ("vgg16", 0.5, "batch", "nesterov", "cosine", "pgd_linf", 7)
  assert parse(text) == NetworkArm("a", *parts, RobustHyper(base, 0.25), 16)


def test_a_model_of_the_user_s_own_is_made_for_the_data():
  assert parse("a:model=flax.linen:Dense").model == nn.Dense(3)


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("a:model=resnet9", "--arm a: unknown model 'resnet9': choose from resnet18"),
    ("a:norm=layer", "unknown norm 'layer'"),
    ("a:schedule=often", "unknown schedule"),
    ("a:optimizer=sgd,momentum=0.5", "sgd has no momentum"),
    ("a:adversary=pgd_l2", "an adversary and its radius go together"),
    ("a:adversary_radius=1", "an adversary and its radius go together"),
    ("a:adversary_steps=3", "adversary_steps needs an adversary"),
    ("a:copies=1.5", "that is whole, from 1 to 1000"),
    ("a:init_scale=3", "unknown key 'init_scale=3'"),
    ("a:model=flax.linen:Dense,width_factor=2", "width_factor is of the models that are there"),
    ("a:model=flax.linen:Dense,norm=group", "norm is of the models that are there"),
    ("a:model=flax.linen:relu", "gives a .*, not a Flax module"),
  ],
)
def test_what_cannot_be_used_is_said(text, said):
  with pytest.raises(InputError, match=said):
    parse(text)
