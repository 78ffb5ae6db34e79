"""Training that hides: DP-SGD in closed form, noise and dropout in the mean, stopping in bits."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.data import splits
from jaxinv.ensemble.seeds import split_data
from jaxinv.errors import InputError
from jaxinv.experiments.experiment import make_experiment
from jaxinv.experiments.settings import Arm, Settings, program_name
from jaxinv.models.dense import Dropout, make_model
from jaxinv.training import dpsgd, gram, primal
from jaxinv.training.losses import LOSSES
from jaxinv.training.optimizers import LINEAR, OPTIMIZERS
from jaxinv.types import Hyper, TrainState

KEY, TRAIN = jax.random.key(7), 30
ENGINES = {"primal": primal.make_trainer, "gram": gram.make_trainer}
PRIVATE = ("dp_clip", "dp_noise")


@pytest.fixture(scope="module")
def data(make_planted):
  """Images of 5 x 4 pixels, two of each class held out: 30 to train on."""
  return split(make_planted(shape=(5, 4)))


def split(dataset):
  """A data set with two of each class held out."""
  shared = split_data(splits.whole(dataset), dataset.num_classes, 0, [0], 2)
  shared = shared._replace(train=shared.train[0], holdout=shared.holdout[0])
  return shared._replace(gram=gram.gram_matrix(shared.inputs, True))


@cache
def trainer_of(on=(), batch_size=0, loss="softmax", optimizer="sgd", engine="primal", **model):
  """A trainer that leaves out all that may be left out but for what is on."""
  parts = make_model(5, **model), LOSSES[loss], OPTIMIZERS[optimizer], batch_size, on
  return ENGINES[engine](*parts)


@cache
def step_of(*args, **kwargs):
  """A trainer's compiled step: (params, hyper, data, key, number of the step) -> params, loss."""
  trainer = trainer_of(*args, **kwargs)

  @jax.jit
  def step(params, hyper, data, key, number):
    opt_state = trainer.init(KEY, hyper, data).opt_state
    state, info = trainer.step(TrainState(params, opt_state, number, key, data.train), hyper, data)
    return state.params, info.loss

  return step


def floats(**values):
  """Hyperparameters as the mapped leaves that they are in a group."""
  return jax.tree.map(jnp.float32, Hyper(**values))


def start(data, scale=3.0, **model):
  """Parameters of a model, its biases not zero."""
  params = make_model(5, **model).init(KEY, data.inputs[:1])["params"]
  rng = np.random.default_rng(5)
  return jax.tree.map(
    lambda x: scale * x if x.ndim > 1 else jnp.float32(0.1 * rng.standard_normal(x.shape)), params
  )


def take(step, params, hyper, data, key=KEY, number=0):
  """The parameters after one step."""
  return step(params, hyper, data, key, jnp.int32(number))[0]


def change(after, before):
  """What a step did to all parameters, as one vector."""
  leaves = zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True)
  return np.concatenate([np.ravel(np.float64(a) - np.float64(b)) for a, b in leaves])


def each_gradient(params, data):
  """The gradient of every example of the data under softmax, in float64: [n, p + 1, k].

  The bias is the weight of an input that is always 1, and the last one here.
  """
  layer = params["Dense_0"]
  x = np.pad(np.float64(data.inputs), [(0, 0), (0, 1)], constant_values=1)
  w = np.concatenate([np.float64(layer["kernel"]), np.float64(layer["bias"])[None]])
  scores = np.exp(x @ w)
  residual = scores / scores.sum(1, keepdims=True) - np.eye(5)[np.asarray(data.labels)]
  return x[:, :, None] * residual[:, None]


def clip_each(gradients, bound):
  norms = np.linalg.norm(gradients, axis=(1, 2), keepdims=True)
  return gradients * np.minimum(1, bound / norms)


def layer_change(after, before):
  """What a step did to a linear model's kernel and bias, [p + 1, k]."""
  bias, kernel = (
    np.float64(after["Dense_0"][name]) - np.float64(before["Dense_0"][name])
    for name in ("bias", "kernel")
  )
  return np.concatenate([kernel, bias[None]])


# DP-SGD.


@pytest.mark.parametrize("hidden", [(), (4,)])
def test_without_noise_or_a_bound_that_is_felt_a_full_batch_is_a_step_of_sgd(data, hidden):
  hyper, params = floats(learning_rate=0.5, dp_clip=1e6), start(data, hidden=hidden)
  private, plain = (
    change(take(step_of(on, hidden=hidden), params, hyper, data), params) for on in (PRIVATE, ())
  )
  assert np.abs(plain).max() > 0.01
  np.testing.assert_allclose(private, plain, atol=2e-6)


@pytest.mark.parametrize("bound", [0.05, 1.0])
def test_a_step_is_the_mean_of_gradients_that_are_each_clipped(data, bound):
  params = start(data)
  after = take(step_of(PRIVATE), params, floats(learning_rate=0.5, dp_clip=bound), data)
  gradients = each_gradient(params, data)[np.asarray(data.train)]
  norms = np.linalg.norm(gradients, axis=(1, 2))
  assert norms.max() > bound  # It is felt, and 1.0 not by all.
  assert norms.min() > bound or bound == 1
  expected = -0.5 * clip_each(gradients, bound).mean(0)
  np.testing.assert_allclose(layer_change(after, params), expected, atol=1e-6)
  # To clip their mean instead is another step.
  mean = gradients.mean(0)
  whole = -0.5 * mean * min(1, bound / np.linalg.norm(mean))
  assert np.abs(whole - expected).max() > 1e-3


@pytest.fixture(scope="module")
def told(make_planted):
  """Data in which example i is the i-th unit vector: a step's kernel says who was in its batch."""
  dataset = make_planted(shape=(5, 8))
  return split(dataset._replace(inputs=2 * np.eye(40, dtype=np.float32)))


def test_a_poisson_batch_is_divided_by_its_mean_size_whatever_its_own(told):
  params, hyper = start(told), floats(learning_rate=0.5, dp_clip=0.7)
  clipped_each = clip_each(each_gradient(params, told), 0.7)
  sizes, everybody = set(), set()
  for number in range(12):
    after = take(step_of(PRIVATE, 6), params, hyper, told, number=number)
    moved = layer_change(after, params)
    batch = np.flatnonzero(np.abs(moved[:-1]).max(1) > 0)
    np.testing.assert_allclose(moved, -0.5 * clipped_each[batch].sum(0) / 6, atol=1e-6)
    sizes.add(len(batch))
    everybody |= set(batch)
  assert len(sizes) > 3
  assert everybody <= set(map(int, told.train)) and len(everybody) > 20


@pytest.mark.parametrize(
  ("loss", "use_bias"), [("softmax", True), ("sigmoid", True), ("squared", False)]
)
def test_a_linear_model_takes_the_step_that_any_model_would(data, loss, use_bias):
  """Its norms come without the gradients. A program with dropout, here none, takes the long way."""
  params = start(data, use_bias=use_bias)
  hyper = floats(learning_rate=0.5, dp_clip=0.7, dp_noise=0.3)
  short, long = (
    change(take(step_of(on, 8, loss, use_bias=use_bias), params, hyper, data), params)
    for on in (PRIVATE, (*PRIVATE, "dropout"))
  )
  assert np.abs(short).max() > 0.01
  np.testing.assert_allclose(short, long, atol=2e-6)


@pytest.fixture(scope="module")
def noise_of(data):
  """The noise of a step without gradients, of so many keys: [keys, coordinates]."""
  nobody = data._replace(keep=jnp.zeros(40))
  params = start(data)
  many = jax.jit(jax.vmap(step_of(PRIVATE, 8), in_axes=(None, None, None, 0, None)))

  def draw(keys, number=0, **values):
    after, _ = many(params, floats(**values), nobody, keys, jnp.int32(number))
    leaves = zip(jax.tree.leaves(after), jax.tree.leaves(params), strict=True)
    return np.concatenate(
      [np.reshape(np.float64(a) - np.float64(b), (len(keys), -1)) for a, b in leaves], 1
    )

  return draw


@pytest.mark.parametrize(("rate", "clip", "noise"), [(0.5, 2.0, 3.0), (2.0, 0.5, 4.0)])
def test_noise_is_the_rate_times_the_clip_times_its_level_over_the_size(
  noise_of, rate, clip, noise
):
  keys = jax.random.split(KEY, 400)
  found = noise_of(keys, learning_rate=rate, dp_clip=clip, dp_noise=noise) / (rate * noise * clip)
  found *= 8
  assert abs(found.mean()) < 5 / np.sqrt(found.size)
  assert abs(found.var() - 1) < 5 * np.sqrt(2 / found.size)
  # So it is for every coordinate, and no two share any.
  assert found.shape == (400, 105)
  assert np.abs(found.var(0) - 1).max() < 5 * np.sqrt(2 / 400)
  assert np.abs(np.corrcoef(found.T) - np.eye(105)).max() < 5.5 / np.sqrt(400)


def test_two_seeds_and_two_steps_have_noise_of_their_own_and_the_same_seed_the_same(noise_of):
  keys, hyper = jax.random.split(KEY, 3), {"learning_rate": 1.0, "dp_clip": 1.0, "dp_noise": 1.0}
  draws = np.concatenate([noise_of(keys, number, **hyper) for number in (0, 1)])
  assert np.abs(np.corrcoef(draws) - np.eye(6)).max() < 5 / np.sqrt(105)
  np.testing.assert_array_equal(noise_of(keys, 0, **hyper), draws[:3])


def test_without_noise_nothing_moves_where_nobody_counts(noise_of):
  keys = jax.random.split(KEY, 3)
  np.testing.assert_array_equal(noise_of(keys, learning_rate=1.0, dp_clip=1.0), 0)


@pytest.mark.parametrize("bound", [0.1, 1e6])
def test_no_example_moves_the_sum_of_clipped_gradients_by_more_than_the_bound(data, bound):
  """What the accountant counts on. Without a bound that is felt, as a control, one does."""
  params, hyper = start(data), floats(learning_rate=1.0, dp_clip=bound)
  without = jnp.ones((TRAIN, 40)).at[jnp.arange(TRAIN), data.train].set(0.0)
  many = jax.vmap(
    lambda keep: step_of(PRIVATE)(params, hyper, data._replace(keep=keep), KEY, jnp.int32(0))[0]
  )
  everybody = take(step_of(PRIVATE), params, hyper, data)
  afters = jax.jit(many)(without)
  moves = [
    TRAIN * np.linalg.norm(change(everybody, jax.tree.map(lambda x, i=i: x[i], afters)))
    for i in range(TRAIN)
  ]
  if bound == 0.1:
    np.testing.assert_allclose(moves, bound, rtol=1e-3)  # All are clipped.
  else:
    assert max(moves) > 1


def test_the_loss_that_is_told_is_the_batchs_share_before_the_step(data):
  params, hyper = start(data), floats(dp_clip=0.1, dp_noise=5.0)
  losses = [float(step_of(on)(params, hyper, data, KEY, jnp.int32(0))[1]) for on in (PRIVATE, ())]
  assert losses[0] == pytest.approx(losses[1], rel=1e-5)


# Early stopping.


@cache
def path_of(optimizer, engine, on):
  """Compiles the life of a model: its parameters after each of twelve steps."""
  trainer = trainer_of(on, 8, "softmax", optimizer, engine)

  @jax.jit
  def path(hyper, data):
    def step(state, _):
      state, _ = trainer.step(state, hyper, data)
      return state, trainer.params(state, data)

    first = trainer.init(KEY, hyper, data)
    return trainer.params(first, data), jax.lax.scan(step, first, length=12)[1]

  return path


@pytest.mark.parametrize(
  ("optimizer", "engine", "on"),
  [
    *((name, "primal", ()) for name in OPTIMIZERS),
    *((name, "gram", ()) for name in LINEAR),
    ("momentum", "primal", PRIVATE),
  ],
)
def test_a_model_stopped_after_five_steps_stays_what_it_then_was_bit_for_bit(
  data, optimizer, engine, on
):
  """However large its velocity then is, and its weights decay; it is the same program all along."""
  path = path_of(optimizer, engine, ("steps", "weight_decay", *on))
  usual = {"learning_rate": 0.05, "weight_decay": 0.1}
  usual |= {"dp_clip": 0.5, "dp_noise": 1.0} if on else {}
  (_, free), (_, stopped) = (path(floats(**usual, steps=n), data) for n in (np.inf, 5))
  for one, other in zip(jax.tree.leaves(stopped), jax.tree.leaves(free), strict=True):
    np.testing.assert_array_equal(one[:5], other[:5])
    np.testing.assert_array_equal(one[5:], np.broadcast_to(other[4], one[5:].shape))
    assert all((other[t] != other[4]).any() for t in range(5, 12))
  if optimizer == "sgd":
    first, never = path(floats(**usual, steps=0), data)
    for one, other in zip(jax.tree.leaves(never), jax.tree.leaves(first), strict=True):
      np.testing.assert_array_equal(one, np.broadcast_to(other, one.shape))


# Noise on the inputs, and dropout.


@pytest.mark.parametrize("name", ["input_noise", "dropout"])
def test_a_feature_at_zero_in_a_program_that_has_it_is_the_plain_step(data, name):
  params, hyper = start(data), floats(learning_rate=0.5)
  moved, plain = (
    change(take(step_of((*on, "steps"), 8), params, hyper, data), params) for on in ((name,), ())
  )
  np.testing.assert_allclose(moved, plain, atol=1e-6)
  some = change(
    take(step_of((name, "steps"), 8), params, hyper._replace(**{name: 0.3}), data), params
  )
  assert np.abs(some - plain).max() > 0.01


@pytest.fixture(scope="module")
def small(make_planted):
  """Images of 3 x 2 pixels."""
  return split(make_planted(shape=(3, 2), noise=0.2))


@pytest.mark.parametrize(("name", "level"), [("input_noise", 0.5), ("dropout", 0.4)])
def test_in_the_mean_noise_and_dropout_are_weight_decay(small, name, level):
  """Under the squared loss exactly: noise of variance v adds v W to the gradient (Bishop 1995), and
  dropping a share q of the inputs q / (1 - q) times their mean square (Wager et al. 2013)."""
  params, hyper = start(small), floats(learning_rate=1.0, **{name: level})
  keys = jax.random.split(KEY, 4000)
  many = jax.jit(jax.vmap(step_of((name,), loss="squared"), in_axes=(None, None, None, 0, None)))
  kernel = np.float64(params["Dense_0"]["kernel"])
  moved = np.float64(many(params, hyper, small, keys, jnp.int32(0))[0]["Dense_0"]["kernel"])
  moved -= kernel
  x, labels = np.float64(small.inputs)[small.train], np.asarray(small.labels)[small.train]
  residual = x @ kernel + np.float64(params["Dense_0"]["bias"]) - np.eye(5)[labels]
  variance = level**2 if name == "input_noise" else level / (1 - level) * (x**2).mean(0)[:, None]
  plain = -(x.T @ residual) / TRAIN
  error = moved.std(0) / np.sqrt(len(keys))
  assert (np.abs(moved.mean(0) - (plain - variance * kernel)) < 4.5 * error).all()
  # As a control, so exact that most weights would show it if there were no decay.
  assert (np.abs(moved.mean(0) - plain) > 4.5 * error).mean() > 0.5


def test_dropped_inputs_are_zero_or_scaled_up_and_in_the_mean_what_they_were():
  """Read off a model that hands its inputs on: its kernel is the identity."""
  model, x = make_model(5, use_bias=False), jnp.float32(np.linspace(1, 9, 40).reshape(8, 5))
  identity = {"params": {"Dense_0": {"kernel": jnp.eye(5)}}}
  keys = jax.random.split(KEY, 4000)
  many = jax.jit(jax.vmap(lambda key: model.apply(identity, x, Dropout(key, jnp.float32(0.3)))))
  found = np.float64(many(keys)) / np.asarray(x)
  kept = found > 0
  np.testing.assert_allclose(found[kept], 1 / 0.7, rtol=1e-5)
  assert np.abs(kept.mean(0) - 0.7).max() < 4.5 * np.sqrt(0.21 / 4000)
  assert np.abs(found.mean(0) - 1).max() < 4.5 * np.sqrt(0.3 / 0.7 / 4000)
  flat = kept.reshape(4000, 40).astype(float)
  assert np.abs(np.corrcoef(flat.T) - np.eye(40)).max() < 5 / np.sqrt(4000)
  np.testing.assert_allclose(model.apply(identity, x), x, rtol=1e-6)


def test_a_record_is_of_the_model_without_noise_or_dropout(data):
  params = start(data)
  state = TrainState(params, None, jnp.int32(0), KEY, data.train)
  record = trainer_of(("input_noise", "dropout", *PRIVATE)).evaluate(state, data)
  layer, labels = params["Dense_0"], np.asarray(data.labels)
  logits = np.float64(data.inputs) @ np.float64(layer["kernel"]) + np.float64(layer["bias"])
  values = np.log(np.exp(logits).sum(1)) - logits[np.arange(40), labels]
  assert float(record.train_loss) == pytest.approx(values[data.train].mean(), rel=1e-5)
  right = logits.argmax(1) == labels
  assert float(record.train_accuracy) == pytest.approx(right[data.train].mean())
  assert float(record.holdout_accuracy) == pytest.approx(right[data.holdout].mean())


def test_each_example_of_a_private_batch_drops_inputs_of_its_own(data):
  """Thirty examples without any that counts a feature: one in a thousand million for each."""
  params, hyper = start(data), floats(learning_rate=1.0, dp_clip=1e6, dropout=0.5)
  after = take(step_of((*PRIVATE, "dropout")), params, hyper, data)
  assert (np.abs(layer_change(after, params)).max(1) > 0).all()


# Programs.


PLAIN = Hyper(0.1)
NAMES = {
  "sgd": [
    PLAIN,
    PLAIN._replace(steps=5),
    PLAIN._replace(weight_decay=0.1, clip_norm=1.0, label_smoothing=0.1),
  ],
  "sgd+release": [
    PLAIN._replace(release_bits=4),
    PLAIN._replace(release_noise=0.1),
    PLAIN._replace(release_bits=4, release_noise=0.1),
  ],
  "sgd+noise": [PLAIN._replace(input_noise=0.1), PLAIN._replace(input_noise=0.2, steps=3)],
  "sgd+dropout": [PLAIN._replace(dropout=0.1)],
  "sgd+dp": [PLAIN._replace(dp_clip=1.0), PLAIN._replace(dp_clip=2.0, dp_noise=1.0)],
  "sgd+noise+dropout+dp": [PLAIN._replace(input_noise=0.1, dropout=0.1, dp_clip=1.0)],
}


@pytest.mark.parametrize("name", NAMES)
def test_defences_that_cost_every_step_or_look_have_programs_of_their_own(name):
  assert {program_name(Arm("a", "sgd", hyper)) for hyper in NAMES[name]} == {name}
  assert program_name(Arm("a", "adam", NAMES[name][0])) == name.replace("sgd", "adam")


def test_arms_that_need_no_such_program_stay_on_the_quick_engine(planted):
  arms = [
    Arm(f"{name}-{i}", "sgd", hyper) for name, some in NAMES.items() for i, hyper in enumerate(some)
  ]
  lab = make_experiment(Settings((*arms, Arm("adam", "adam", PLAIN)), batch_size=8), planted)
  kinds = {name: engine.kind for name, engine in lab.engines.items()}
  quick = {"sgd": "gram", "sgd+release": "gram"}  # What is done on release changes no training.
  quick["sgd+dp"] = "primal"
  assert kinds == dict.fromkeys((*NAMES, "adam"), "primal") | quick
  assert lab.data.gram is not None and lab.data.rotation is None


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("sgd", "sgd+release")])
def test_the_quick_engine_is_refused_where_it_would_not_be_exact(planted, name):
  arms = tuple(Arm(f"a{i}", "sgd", hyper) for i, hyper in enumerate(NAMES[name]))
  with pytest.raises(InputError, match=r"cannot train sgd\+.*without input_noise") as caught:
    make_experiment(Settings(arms, batch_size=8, engine="gram"), planted)
  assert "\n" not in str(caught.value)


def test_noise_in_units_of_no_bound_is_refused(planted):
  with pytest.raises(InputError, match="arm 'a': dp_noise is in units of dp_clip"):
    make_experiment(Settings((Arm("a", "sgd", Hyper(dp_noise=1.0)),), batch_size=8), planted)


@pytest.mark.parametrize("use_bias", [True, False])
def test_an_mlps_norms_without_the_examples_gradients_are_those_of_the_gradients(data, use_bias):
  model = make_model(5, hidden=(6, 4), use_bias=use_bias)
  params = jax.tree.map(lambda x: 3 * x, model.init(KEY, data.inputs[:1])["params"])
  inputs, targets = data.inputs[:8], jax.nn.one_hot(data.labels[:8], 5)
  taken, hyper = jnp.arange(8) < 6, floats(dp_clip=7.0, dp_noise=0.5)
  loss = LOSSES["softmax"]

  def losses(p, x, t, key):
    return loss.value(model.apply({"params": p}, x), t)

  each = dpsgd.example_gradients(losses, params, inputs, targets, jax.random.split(KEY, 8), taken)
  slow = dpsgd.private_mean(each, 6, hyper, KEY)
  quick = dpsgd.dense_private_mean(model, loss, params, inputs, targets, taken, 6, hyper, KEY)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), slow, quick)
  # Some are clipped and some not, so that each case is seen.
  norms = np.sqrt(sum(np.square(g.reshape(8, -1)).sum(1) for g in jax.tree.leaves(each)))[:6]
  assert norms.min() < 7 < norms.max()
