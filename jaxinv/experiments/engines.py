"""Which engine trains an arm, and its compiled functions."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxinv.ensemble import mapping
from jaxinv.ensemble.program import TOGETHER, Program, make_program
from jaxinv.errors import InputError, choose, own_code
from jaxinv.experiments import leakage
from jaxinv.experiments.in_training import measure_group_in_training
from jaxinv.experiments.settings import ENGINES, Arm, Settings, program_name
from jaxinv.metrics.metric import Targets
from jaxinv.models.params import class_weights
from jaxinv.training import gram, primal, private_span
from jaxinv.training.hyper import ON_RELEASE, OUTSIDE, used
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import LINEAR, OPTIMIZERS, Optimizer
from jaxinv.types import Dataset, Hyper, Params, Release, Trained

# Engines that are quicker than `primal` where they are exact; by name, and what they are for.
_QUICK = {"gram": gram, "private_span": private_span}
_SERVES = {
  "gram": f"{', '.join(LINEAR)}, without {', '.join(OUTSIDE)}",
  "private_span": "sgd with dp_clip, without clip_norm, dropout, input_noise",
}


class EnginePlan(NamedTuple):
  """How the arms of one program are trained.

  Attributes:
    kind: `primal`, `gram` or `private_span`.
    optimizer: a name or a function, see `Arm`.
    used: hyperparameters that some of the arms make use of.
    together: whether all models share one large matrix product.
  """

  kind: str
  optimizer: str | Optimizer
  used: frozenset[str]
  together: bool


def choose_engine(
  settings: Settings, arms: Sequence[Arm], num_examples: int, num_features: int
) -> EnginePlan:
  """Which engine trains the arms of one program, and how.

  Args:
    settings: the engine that is asked for, or `auto`; the model and the batches.
    arms: the arms.
    num_examples: examples of the data set, n.
    num_features: features of each, p.

  Returns:
    The plan.

  Raises:
    InputError: a quicker engine is asked for, and cannot train these arms.
  """
  optimizer = arms[0].optimizer
  used_by_any = frozenset().union(*(used(arm.hyper) for arm in arms))
  exact = [
    name
    for name, engine in _QUICK.items()
    if settings.model is None and engine.is_exact(optimizer, settings.hidden, used_by_any)
  ]
  kind = settings.engine
  if kind in _QUICK and kind not in exact:
    raise InputError(
      f"the {kind} engine cannot train {program_name(arms[0])} with {len(settings.hidden)} hidden "
      f"layers: it is for linear models and {_SERVES[kind]}; give --engine=auto"
    )
  if kind == "auto":
    # Not `private_span`: tests of membership on its models came out lower than on the primal
    # engine's, by 0.005 to 0.012 of AUC in two runs of 128 models, and why is not known.
    fast = "gram" in exact and gram.is_faster(num_examples, num_features)
    kind = "gram" if fast else "primal"
  # Where all models multiply the same examples by their weights, together they make one large
  # product, which is worth more than a core's cache.
  together = kind == "primal" and not settings.batch_size and not used_by_any & set(OUTSIDE)
  return EnginePlan(kind, optimizer, used_by_any, together)


class Engine(NamedTuple):
  """The compiled functions for the arms that one program trains.

  Attributes:
    kind: `primal`, `gram` or `private_span`.
    is_linear: whether the model is linear, so that its class weights say all.
    program: trains a group.
    measure: places -> (group, place, healthy) -> what is measured of a group.
    look: group -> leakage at a record, see `in_training.measure_in_training`.
    examine: (group, i) -> what the i-th run gives away.
    watch: (group, i, class) -> the i-th run's weights of one class, [p].
  """

  kind: str
  is_linear: bool
  program: Program
  measure: Callable[[int], Callable[..., leakage.Measured]]
  look: Callable[[Trained], tuple[dict, dict]]
  examine: Callable[..., leakage.Findings]
  watch: Callable[..., jax.Array]


def make_engine(
  settings: Settings, chosen: EnginePlan, model: nn.Module, config: leakage.EvalConfig
) -> Engine:
  """Builds the trainer that was chosen, and maps it and what looks at its models over runs."""
  own = {"transposed_kernel": True} if chosen.together and settings.is_linear else {}
  if chosen.kind == "private_span":
    own = {"block": settings.record_every}
  optimizer = choose("optimizer", chosen.optimizer, OPTIMIZERS)
  parts = (model, choose("loss", settings.loss, LOSSES), optimizer, settings.batch_size)
  trainer = ENGINES[chosen.kind](*parts, used=chosen.used, **own)
  if settings.keep_moment and chosen.kind == "primal":
    trainer = primal.keeping_moment(trainer)
  program = make_program(
    trainer,
    mapping.SHARED_DATA._replace(labels=0 if settings.shuffled_labels else None),
    block=TOGETHER if chosen.together else 0,
  )
  config = config._replace(altered=bool(set(ON_RELEASE) & chosen.used))
  at_records = tuple(attack for attack in config.attacks if attack.at_records)
  # What is recovered is compared with the truth, whatever was taught.
  seen = program._replace(data_axes=mapping.SHARED_DATA)
  return Engine(
    chosen.kind,
    settings.is_linear,
    program,
    measure=cache(lambda places: leakage.measure_group(seen, config, places)),
    look=measure_group_in_training(seen, config._replace(attacks=at_records)),
    examine=leakage.examine_one(seen, config),
    watch=leakage.watch_one(seen, config),
  )


def check_own(
  settings: Settings, model: nn.Module, dataset: Dataset, config: leakage.EvalConfig
) -> None:
  """Tries the model, optimisers, attacks and metrics on this data set's shapes; runs nothing.

  Args:
    settings: the arms and their optimisers.
    model: from inputs [b, p] to logits [b, k].
    dataset: the data.
    config: the attacks and the metrics.

  Raises:
    InputError: one of them, which may be the user's own code, fails or gives another shape.
  """
  shape, classes = dataset.image_shape, dataset.num_classes
  params = _check_model(model, dataset)
  hyper = jax.tree.map(jnp.asarray, Hyper())
  for arm in settings.arms:
    with own_code(f"arm '{arm.name}': the optimizer"):
      optimizer = choose("optimizer", arm.optimizer, OPTIMIZERS)
      jax.eval_shape(partial(_update, optimizer), hyper, params)
  others = jax.ShapeDtypeStruct((2, 1, dataset.inputs.shape[1]), jnp.float32)
  release = Release(params, params, previous_params=params, others=others)
  for attack in config.attacks:
    with own_code(f"attack '{attack.name}'"):
      if odd := sorted(attack.needs - set(Release._fields)):
        raise InputError(f"needs '{odd[0]}': choose from {', '.join(Release._fields)}")
      images = jax.eval_shape(lambda held, a=attack: a(held, shape), release)
      _check_shape(images, (classes, *shape), "one image a class")
  image = jax.ShapeDtypeStruct((classes, *shape), jnp.float32)
  parts = jax.ShapeDtypeStruct((1, *image.shape), jnp.float32)
  targets = Targets(image, *((image, parts) if config.holdout else ()))
  for metric in config.metrics:
    with own_code(f"metric '{metric.name}'"):
      if config.holdout or not metric.needs_holdout:
        _check_shape(jax.eval_shape(metric.measure, image, targets), (), "one number")


def _check_model(model: nn.Module, dataset: Dataset) -> Params:
  """The shapes of the model's parameters, where it gives logits of which class weights are read."""
  features, classes = dataset.inputs.shape[1], dataset.num_classes
  one = jax.ShapeDtypeStruct((1, features), jnp.float32)
  with own_code(f"the model cannot take images of {features} values, one a row"):
    params = jax.eval_shape(model.init, jax.random.key(0), one)["params"]
    logits = jax.eval_shape(model.apply, {"params": params}, one)
  if logits.shape != (1, classes):
    raise InputError(f"the model gives outputs of shape {logits.shape}: need (1, {classes}) logits")
  jax.eval_shape(lambda params: class_weights(params, features, classes), params)
  return params


def _update(optimizer: Optimizer, hyper: Hyper, params: Params) -> Params:
  """One step of an optimiser, whose gradient is as the parameters are."""
  update = optimizer(hyper)
  return update.update(params, update.init(params), params)[0]


def _check_shape(value: object, shape: tuple[int, ...], words: str) -> None:
  found = getattr(value, "shape", type(value).__name__)
  if found != shape:
    raise InputError(f"gives {found}: need {words}, {shape}")
