"""What a run on privacy is asked: noise that keeps to each epsilon, and no nonsense."""

import math
from dataclasses import replace

import pytest

from helpers import assert_fails
from jaxinv.experiments.privacy.settings import (
  PLAIN,
  Candidate,
  arm_name,
  attacks_on_one,
  candidates,
  check,
)
from jaxinv.experiments.settings import num_train, photographs_each
from jaxinv.training.dpsgd import epsilon


def test_every_candidate_keeps_to_its_epsilon_at_its_own_batch(spec, planted):
  found = candidates(replace(spec, epsilons=(8.0,), batches=(8, 16)), planted)
  assert num_train(spec.settings, planted) == 30 and photographs_each(spec.settings, planted) == 6
  assert [c.epsilon for c in found] == [*[8.0] * 4, *[math.inf] * 4]
  for c in found[:-4]:
    kept = epsilon(c.noise, c.batch / 30, 12, spec.delta)
    assert 0.98 * c.epsilon < kept <= c.epsilon
  assert {c.noise for c in found[-4:]} == {0.0}
  # A larger batch needs more noise.
  assert found[2].batch == 16 and found[2].noise > 1.4 * found[0].noise


def test_the_arm_without_privacy_is_plain_sgd_with_a_name_of_its_own():
  plain = Candidate(math.inf, 8, 0.5)
  assert plain.name == arm_name(math.inf) == PLAIN
  assert plain.hyper.dp_clip == math.inf and plain.hyper.learning_rate == 0.5
  private = Candidate(3.0, 8, 0.5, 2.0, 1.1)
  assert private.name == "epsilon-3"
  assert (private.hyper.dp_clip, private.hyper.dp_noise) == (2.0, 1.1)


def test_attacks_are_those_that_make_sense(spec):
  deep = replace(spec, attacks=(), settings=replace(spec.settings, hidden=(4,)))
  names = [attack.name for attack in attacks_on_one(replace(spec, attacks=()))]
  of_deep = [attack.name for attack in attacks_on_one(deep)]
  assert "update_ratio" in names and "update_ratio" not in of_deep and "seed_mean" not in names
  given = attacks_on_one(replace(spec, attacks=("denoised",)))
  assert [attack.name for attack in given] == ["reshape", "denoised"]


@pytest.mark.parametrize(
  ("changed", "words"),
  [
    ({"epsilons": ()}, "--epsilons"),
    ({"epsilons": (1.0, math.inf)}, "finite"),
    ({"epsilons": (1.0, 1.0)}, "twice"),
    ({"clips": (0.0,)}, "--clips"),
    ({"delta": 1.0}, "--delta"),
    ({"audit_models": 5}, "--audit_models"),
    ({"batches": (99,)}, "99"),
  ],
)
def test_nonsense_is_refused_in_one_line(spec, planted, changed, words):
  assert_fails(lambda: check(replace(spec, **changed), planted), words)


@pytest.mark.parametrize(("changed", "words"), [({"steps": 0}, "--steps"), ({"holdout": 0}, "out")])
def test_what_settings_cannot_be_is_refused(spec, planted, changed, words):
  settings = replace(spec.settings, **changed)
  assert_fails(lambda: check(replace(spec, settings=settings), planted), words)
