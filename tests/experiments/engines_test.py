"""The engine is the exact and quicker one; values of one's own are tried before training."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

import jaxinv
from helpers import assert_fails
from jaxinv.errors import InputError
from jaxinv.experiments import outcome
from jaxinv.experiments.engines import EnginePlan, choose_engine
from jaxinv.experiments.experiment import make_experiment
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.types import Hyper

DENSE, NONE = nn.Dense(5), Hyper()


def chosen(engine="auto", optimizer="sgd", shape=(40, 143), hypers=(NONE,), **settings):
  arms = tuple(Arm(str(i), optimizer, hyper) for i, hyper in enumerate(hypers))
  return choose_engine(Settings(arms, engine=engine, **settings), arms, *shape)


@pytest.mark.parametrize(
  ("settings", "kind"),
  [
    ({}, "gram"),
    ({"shape": (143, 143)}, "gram"),
    ({"shape": (144, 143)}, "primal"),  # More examples than features: the span is the larger.
    ({"shape": (144, 143), "engine": "gram"}, "gram"),
    ({"engine": "primal"}, "primal"),
    ({"optimizer": "adam"}, "primal"),
    ({"hidden": (3,)}, "primal"),
    ({"model": DENSE}, "primal"),
    ({"hypers": (Hyper(dp_clip=1.0), Hyper(dp_clip=1.0, weight_decay=0.1))}, "primal"),
    ({"hypers": (Hyper(dp_clip=1.0),), "shape": (71, 143)}, "primal"),
    ({"hypers": (Hyper(dp_clip=1.0),), "shape": (72, 143)}, "primal"),
    ({"hypers": (Hyper(dp_clip=1.0),), "engine": "primal"}, "primal"),
    ({"hypers": (Hyper(dp_clip=1.0),), "optimizer": "momentum"}, "primal"),
    ({"hypers": (Hyper(dp_clip=1.0), Hyper(clip_norm=1.0))}, "primal"),
    ({"hypers": (Hyper(dp_clip=1.0, dropout=0.1),)}, "primal"),
    ({"hypers": (Hyper(dp_clip=1.0),), "hidden": (3,)}, "primal"),
    ({"hypers": (Hyper(dp_clip=1.0),), "model": DENSE}, "primal"),
    ({"hypers": (Hyper(weight_decay=0.1), Hyper(clip_norm=1.0))}, "gram"),
  ],
)
def test_the_span_engine_is_taken_where_it_is_exact_and_quicker(settings, kind):
  assert chosen(**settings).kind == kind


@pytest.mark.parametrize(
  "settings",
  [{"optimizer": "adam"}, {"hidden": (3,)}, {"model": DENSE}, {"hypers": (Hyper(dropout=0.5),)}],
)
def test_the_span_engine_is_refused_where_it_is_not_exact(settings):
  with pytest.raises(InputError, match="the gram engine cannot train"):
    chosen("gram", **settings)


@pytest.mark.parametrize(
  "settings",
  [{"optimizer": "momentum"}, {"hidden": (3,)}, {"hypers": (NONE,)}, {"model": DENSE}],
)
def test_the_private_span_engine_is_refused_where_it_is_not_exact(settings):
  with pytest.raises(InputError, match=r"the private_span engine cannot train.*sgd with dp_clip"):
    chosen("private_span", **{"hypers": (Hyper(dp_clip=1.0),), **settings})


def test_the_private_span_engine_draws_where_a_record_is_made(planted):
  """So that what two records say together is right too."""
  arm = Arm("dp", "sgd", Hyper(learning_rate=0.5, dp_clip=1.0, dp_noise=1.0))
  asked = Settings((arm,), batch_size=8, record_every=4, engine="private_span")
  lab = make_experiment(asked, planted)
  engine, data = lab.engines["sgd+dp"], lab.data
  assert engine.kind == "private_span" and data.rotation.basis.shape == (40, 143)
  trainer, hyper = engine.program.trainer, jax.tree.map(jnp.float32, arm.hyper)
  state = trainer.init(jax.random.key(0), hyper, data)
  waiting = []
  for _ in range(9):
    state, _ = trainer.step(state, hyper, data)
    waiting.append(bool(state.params.outside.variance > 0))
  assert waiting == [True, True, True, False] * 2 + [True]


def test_a_plan_has_what_any_arm_uses_and_full_batches_share_a_product():
  plan = chosen(hypers=(Hyper(weight_decay=0.1), Hyper(clip_norm=0.5)))
  assert plan.kind == "gram" and plan.used == {"weight_decay", "clip_norm"} and not plan.together
  assert chosen("primal", batch_size=0) == EnginePlan("primal", "sgd", chosen().used, True)
  assert not chosen("primal", batch_size=8).together
  assert not chosen("primal", batch_size=0, hypers=(Hyper(input_noise=0.1),)).together


def settings_of(**changes):
  arm = Arm("plain", "sgd", Hyper(learning_rate=0.5))
  usual = {"arms": (arm,), "num_seeds": 2, "steps": 20, "batch_size": 8, "holdout": 1}
  return Settings(**{**usual, **changes})


def negative(release, shape):
  return jaxinv.attacks.init_diff(release, shape) * -1


NEGATIVE = jaxinv.attacks.Attack("negative", negative, frozenset({"params", "init_params"}))
ERROR = jaxinv.metrics.Metric("error", lambda images, targets: jnp.abs(images).mean())


def test_what_cannot_be_attacked_is_refused_before_training(planted):
  class Pooled(nn.Module):
    @nn.compact
    def __call__(self, inputs):
      return nn.Dense(5)(inputs[:, :100])

  def fails(*parts, **changes):
    assert_fails(lambda: outcome.run(settings_of(**changes), planted), *parts)

  fails("no kernel leads from 143 features", model=Pooled())
  fails("(1, 3)", "(1, 5)", model=nn.Dense(3))
  wrong = NEGATIVE._replace(recover=lambda release, shape: jnp.zeros((5, 2, 2)))
  fails("attack 'negative'", "(5, 2, 2)", "(5, 13, 11)", attacks=(wrong,))
  broken = NEGATIVE._replace(recover=lambda release, shape: release.params["nothing"])
  fails("attack 'negative'", "nothing", attacks=(broken,))
  unknown = NEGATIVE._replace(needs=frozenset({"params", "diary"}))
  fails("attack 'negative'", "needs 'diary'", "init_params", attacks=(unknown,))
  fails("attack 'negative'", "twice", attacks=(NEGATIVE, NEGATIVE))
  fails("several models", attacks=("seed_mean",))
  fails("model", attacks=(NEGATIVE._replace(name="model"),))
  fails("unknown attack 'resahpe'", "reshape", attacks=("resahpe",))
  fails("unknown metric 'nncc'", metrics=("nncc",))
  named = [Arm(name, lambda hyper: optax.sgd(0.1), Hyper()) for name in "ab"]
  fails("two different optimizers", arms=tuple(named))


def test_own_code_that_fails_is_refused_before_training(planted):
  def fails(*parts, **changes):
    assert_fails(lambda: outcome.run(settings_of(**changes), planted), *parts)

  def silent(*_):
    raise RuntimeError  # Without a message.

  for measure, part in (
    (silent, "RuntimeError"),
    (lambda images, targets: images.mean((1, 2)), "gives (5,): need one number"),
    (lambda images, targets: None, "gives NoneType"),
    (lambda images, targets: "much", "TypeError"),
  ):
    fails("metric 'error'", part, metrics=(ERROR._replace(measure=measure),))
  for optimizer, part in (
    (silent, "RuntimeError"),
    (lambda hyper: None, "NoneType"),
    (lambda hyper: optax.sgd(0.1 if hyper.learning_rate > 1 else 0.2), "TracerBoolConversionError"),
  ):
    fails("arm 'own': the optimizer", part, arms=(Arm("own", optimizer, Hyper()),))

  class Unready(nn.Module):
    @nn.compact
    def __call__(self, inputs):
      raise NotImplementedError("to do\nlater")

  fails("the model", "143 values", "NotImplementedError: to do", model=Unready())
