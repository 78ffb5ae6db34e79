"""Adversaries: never outside the ball, and against linear models where algebra says they end."""

import math
from functools import cache

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxinv.errors import InputError
from jaxinv.training.adversary import ADVERSARIES, check, gradient_of, log_odds, robust

KEY = jax.random.key(5)
ACTIVE = [name for name in ADVERSARIES if name != "none"]
RNG = np.random.default_rng(0)
# Inputs far enough from 0 and 1 that a radius of 0.2 is never clipped.
MIDDLE = RNG.uniform(0.3, 0.7, (6, 12)).astype(np.float32)
SLOPES = RNG.standard_normal((6, 12)).astype(np.float32)
KERNEL = RNG.standard_normal((12, 3)).astype(np.float32)
LABELS = jnp.asarray(RNG.integers(0, 3, 6))


@cache
def attack_of(name, steps=4):
  """A compiled attack on a linear loss: (slopes, inputs, radius, key) -> perturbed inputs."""

  @jax.jit
  def attack(slopes, inputs, radius, key):
    return ADVERSARIES[name](lambda x: slopes, inputs, radius, steps, key)

  return lambda slopes, inputs, radius, key=KEY: np.asarray(
    attack(slopes, inputs, jnp.float32(radius), key)
  )


def size_of(name, change):
  """The norm of each row by which the adversary's ball is measured."""
  change = np.float64(change)
  return np.linalg.norm(change, axis=1) if name == "pgd_l2" else np.abs(change).max(1)


def dot(slopes, change):
  return (np.float64(slopes) * change).sum(1)


# ---- The ball ------------------------------------------------------------------------------------

values = st.sampled_from([0.0, 1.0, 0.5, 1e-7, 1 - 2**-24]) | st.floats(0, 1, width=32)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("name", ACTIVE)
@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
  st.integers(0, 2**31 - 1),
  st.sampled_from([1e-6, 1 / 255, 8 / 255, 0.5, 3.0, 100.0]) | st.floats(2**-10, 2, width=32),
  st.lists(values, min_size=12, max_size=12),
  st.sampled_from([0.0, 1e-30, 1.0, 1e30]),
)
def test_nobody_leaves_the_ball_or_the_unit_interval(name, steps, seed, radius, row, scale):
  inputs = np.float32([row, row[::-1], [0.0] * 12, [1.0] * 12])
  slopes = np.random.default_rng(seed).standard_normal((4, 12)).astype(np.float32) * scale
  found = attack_of(name, steps)(np.float32(slopes), inputs, radius, jax.random.key(seed))
  assert (found >= 0).all() and (found <= 1).all()
  assert (size_of(name, np.float64(found) - inputs) <= radius * (1 + 1e-6) + 3e-7).all()


@pytest.mark.parametrize("name", ADVERSARIES)
def test_radius_0_gives_the_inputs_bit_for_bit(name):
  inputs = np.concatenate([MIDDLE, np.float32([[0, 1] * 6, [-0.0, 2] * 6])])
  for slope in (1.0, 0.0, np.nan, np.inf):
    found = attack_of(name)(np.full((8, 12), slope, np.float32), inputs, 0.0)
    assert found.tobytes() == inputs.tobytes()


def test_nobody_does_nothing_at_any_radius():
  assert attack_of("none")(SLOPES, MIDDLE, 0.5).tobytes() == MIDDLE.tobytes()


@pytest.mark.parametrize("name", ACTIVE)
def test_without_a_slope_it_stays_at_a_start_that_is_finite_and_random(name):
  start = attack_of(name)(0 * SLOPES, MIDDLE, 0.2)
  assert np.isfinite(start).all() and (size_of(name, start - MIDDLE) > 0.05).all()
  np.testing.assert_array_equal(attack_of(name)(0 * SLOPES, MIDDLE, 0.2), start)
  other = attack_of(name)(0 * SLOPES, MIDDLE, 0.2, jax.random.key(6))
  assert (other != start).mean() > 0.9


@pytest.mark.parametrize("name, power", [("pgd_l2", 12), ("pgd_linf", 1), ("fgsm_rs", 1)])
def test_starts_are_uniform_in_the_ball(name, power):
  """Means of 24,000 values and 2,000 norms, within 5 of their standard deviations."""
  inputs = np.full((2000, 12), 0.5, np.float32)
  change = (attack_of(name)(0 * inputs, inputs, 0.25) - 0.5) / 0.25
  assert abs(change.mean()) < 5 * change.std() / math.sqrt(change.size)
  sizes = np.linalg.norm(change, axis=1) if power > 1 else np.abs(change[:, 0])
  uniform = sizes**power  # As the volume of what is inside.
  assert abs(uniform.mean() - 0.5) < 5 * math.sqrt(1 / 12 / 2000)
  assert abs((uniform < 0.1).mean() - 0.1) < 5 * math.sqrt(0.09 / 2000)


# ---- Linear losses, in closed form ---------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_pgd_linf_ends_at_the_corner(steps):
  found = attack_of("pgd_linf", steps)(SLOPES, MIDDLE, 0.2)
  np.testing.assert_allclose(found, MIDDLE + 0.2 * np.sign(SLOPES), atol=1e-6)


def test_pgd_linf_ends_at_the_corner_of_what_is_left_of_the_ball():
  inputs = np.concatenate([0 * MIDDLE, MIDDLE, 0 * MIDDLE + 1])
  slopes = np.tile(SLOPES, (3, 1))
  found = attack_of("pgd_linf")(slopes, inputs, 0.6)
  np.testing.assert_allclose(found, np.clip(inputs + 0.6 * np.sign(slopes), 0, 1), atol=1e-6)


def test_pgd_l2_of_one_value_ends_at_the_end():
  slopes, inputs = SLOPES.reshape(-1, 1), MIDDLE.reshape(-1, 1)
  found = attack_of("pgd_l2")(slopes, inputs, 0.2)
  np.testing.assert_allclose(found, inputs + 0.2 * np.sign(slopes), atol=1e-6)


def climbed(start, slopes, radius, steps):
  """Where projected steps lead in the plane of the start and the slope, in float64."""
  uphill = slopes / np.linalg.norm(slopes, axis=1, keepdims=True)
  x = np.float64(start)
  for _ in range(steps):
    x = x + 2.5 * radius / steps * uphill
    x = x * np.minimum(1, radius / np.linalg.norm(x, axis=1, keepdims=True))
  return x


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_pgd_l2_takes_the_steps_of_the_paper(steps):
  radius, attack = 0.2, attack_of("pgd_l2", steps)
  start = attack(0 * SLOPES, MIDDLE, radius) - MIDDLE
  found = attack(SLOPES, MIDDLE, radius) - MIDDLE
  np.testing.assert_allclose(found, climbed(start, SLOPES, radius, steps), atol=2e-6)


@pytest.mark.parametrize("steps", [1, 10, 400])
def test_pgd_l2_gains_of_an_image_what_the_docstring_says(steps):
  """The best point x + radius g / |g| gains radius |g|; starts are nearly at right angles to g."""
  slopes = np.random.default_rng(1).standard_normal((20, 768)).astype(np.float32)
  inputs = np.full((20, 768), 0.5, np.float32)
  expected = climbed([[0.0, 1.0]], np.eye(2)[:1], 1.0, steps)[0, 0]
  assert expected == pytest.approx({1: 0.928, 10: 0.980, 400: 0.987}[steps], abs=1e-3)
  for sign in (1, -1):
    change = attack_of("pgd_l2", steps)(sign * slopes, inputs, 0.5) - inputs
    gained = sign * dot(slopes, change) / (0.5 * np.linalg.norm(slopes, axis=1))
    assert gained.mean() == pytest.approx(expected, abs=3e-3) and gained.max() < 1 + 1e-5


def test_pgd_l2_wherever_it_starts_goes_uphill_to_the_best_point():
  """From starts that are not at right angles to the slope the end is nearer still."""
  slopes, inputs = np.tile(SLOPES, (50, 1)), np.tile(MIDDLE, (50, 1))
  gained = dot(slopes, attack_of("pgd_l2", 20)(slopes, inputs, 0.2) - inputs)
  gained /= 0.2 * np.linalg.norm(slopes, axis=1)
  assert gained.mean() > 0.98 and gained.min() > 0.9


@pytest.mark.parametrize("name", ["pgd_l2", "pgd_linf"])
def test_control_a_start_alone_or_a_step_downhill_raises_no_loss(name):
  gains = {}
  for sign in (1, 0, -1):
    gains[sign] = dot(SLOPES, attack_of(name)(sign * SLOPES, MIDDLE, 0.2) - MIDDLE)
  assert (gains[1] > 1.3 * np.abs(gains[0])).all() and (gains[-1] < -1.3 * np.abs(gains[0])).all()


def test_fgsm_rs_is_one_step_from_its_start_and_reaches_the_corner_where_that_allows():
  attack = attack_of("fgsm_rs")
  start = attack(0 * SLOPES, MIDDLE, 0.2) - MIDDLE
  found = attack(SLOPES, MIDDLE, 0.2) - MIDDLE
  expected = np.clip(start + 1.25 * 0.2 * np.sign(SLOPES), -0.2, 0.2)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  corner = np.isclose(found, 0.2 * np.sign(SLOPES), atol=1e-6)
  np.testing.assert_array_equal(corner, start * np.sign(SLOPES) > -0.05)
  assert 0.4 < corner.mean() < 0.9  # A quarter more than the radius does not do for all.
  np.testing.assert_array_equal(attack_of("fgsm_rs", 9)(SLOPES, MIDDLE, 0.2), found + MIDDLE)


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
@pytest.mark.parametrize("name", ACTIVE)
def test_the_gradients_length_does_not_matter(name, scale):
  found = attack_of(name)(np.float32(scale) * SLOPES, MIDDLE, 0.2)
  np.testing.assert_allclose(found, attack_of(name)(SLOPES, MIDDLE, 0.2), atol=1e-6)


def test_the_gradient_is_taken_anew_at_each_step():
  """A squared loss rises on both sides of 0: the side of the start decides, not of the input."""
  weights, inputs = jnp.asarray(SLOPES[0]), jnp.full((40, 12), 0.5)

  def outcome(x):
    return (x - 0.5) @ weights + 0.05

  def gradient(x):
    return outcome(x)[:, None] * weights[None]

  start = ADVERSARIES["pgd_linf"](jnp.zeros_like, inputs, 0.2, 20, KEY)
  found = ADVERSARIES["pgd_linf"](gradient, inputs, 0.2, 20, KEY)
  sides = np.sign(outcome(start))
  assert (sides > 0).sum() > 5 and (sides < 0).sum() > 5
  expected = 0.5 + 0.2 * sides[:, None] * np.sign(SLOPES[:1])
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_logistic_loss_is_raised_to_the_corner():
  weights = jnp.asarray(SLOPES[0])

  def gradient(x):
    return -jax.nn.sigmoid(-(x @ weights))[:, None] * weights[None]

  found = ADVERSARIES["pgd_linf"](gradient, jnp.asarray(MIDDLE), 0.2, 20, KEY)
  np.testing.assert_allclose(found, MIDDLE - 0.2 * np.sign(SLOPES[:1]), atol=1e-6)


# ---- How it is used ------------------------------------------------------------------------------


def quadratic(params):
  return lambda x: (x @ params) @ params.T


@pytest.mark.parametrize("name", ADVERSARIES)
def test_mapped_over_models_it_is_the_loop(name):
  params = jnp.asarray(RNG.standard_normal((3, 12, 2)), jnp.float32)
  keys, radii = jax.random.split(KEY, 3), jnp.array([0.0, 0.1, 0.4])

  def attack(params, radius, key):
    return ADVERSARIES[name](quadratic(params), jnp.asarray(MIDDLE), radius, 3, key)

  mapped = jax.jit(jax.vmap(attack))(params, radii, keys)
  for i in range(3):
    np.testing.assert_allclose(mapped[i], attack(params[i], radii[i], keys[i]), atol=2e-6)


@pytest.mark.parametrize("name", ADVERSARIES)
def test_no_gradient_flows_through_what_it_returns(name):
  def total(params, inputs, radius):
    return ADVERSARIES[name](quadratic(params), inputs, radius, 2, KEY).sum()

  slopes = jax.grad(total, (0, 1, 2))(KERNEL, jnp.asarray(MIDDLE), jnp.float32(0.1))
  for slope in slopes:
    assert not np.any(slope)


@pytest.mark.parametrize("name", ACTIVE)
def test_half_precision_stays_what_it_is(name):
  inputs = jnp.asarray(MIDDLE, jnp.bfloat16)
  found = ADVERSARIES[name](lambda x: jnp.ones_like(x), inputs, jnp.float32(0.2), 2, KEY)
  assert found.dtype == jnp.bfloat16 and np.isfinite(np.float32(found)).all()


# ---- The loss that is raised ---------------------------------------------------------------------


def cross_entropy(logits, labels):
  logits = np.float64(logits)
  return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]


def test_cross_entropy_is_a_rising_function_of_the_log_odds():
  logits = (3 * RNG.standard_normal((50, 4))).astype(np.float32)
  labels = RNG.integers(0, 4, 50)
  odds = np.float64(log_odds(jnp.asarray(logits), jnp.asarray(labels)))
  np.testing.assert_allclose(np.log1p(np.exp(odds)), cross_entropy(logits, labels), atol=1e-5)


def test_the_gradient_has_cross_entropys_direction():
  def entropy(x):
    chosen = jnp.take_along_axis(jax.nn.log_softmax(x @ KERNEL), LABELS[:, None], 1)
    return -chosen.sum()

  def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)

  found = gradient_of(lambda x: x @ KERNEL, LABELS)(jnp.asarray(MIDDLE))
  np.testing.assert_allclose(unit(found), unit(jax.grad(entropy)(MIDDLE)), atol=1e-5)


@pytest.mark.parametrize("sure", [1.0, 100.0, 1e4])
def test_a_model_that_is_very_sure_still_shows_the_way(sure):
  """With two classes it leads from one row of weights to the other, however large the margin."""
  kernel = sure * KERNEL[:, :2]
  labels = jnp.argmax(jnp.asarray(MIDDLE) @ kernel, 1)
  found = gradient_of(lambda x: x @ kernel, labels)(jnp.asarray(MIDDLE))
  away = kernel[:, 1] - kernel[:, 0]
  expected = np.where(labels[:, None] == 0, away[None], -away[None])
  np.testing.assert_allclose(found, expected, rtol=1e-5)


# ---- Robustness ----------------------------------------------------------------------------------


def binary(p=12, n=400, seed=2):
  """A classifier with the classes' boundary through the middle of the inputs, most right."""
  rng = np.random.default_rng(seed)
  kernel = rng.standard_normal((p, 2)).astype(np.float32)
  inputs = rng.uniform(0.4, 0.6, (n, p)).astype(np.float32)
  difference = kernel[:, 0] - kernel[:, 1]
  margins = (inputs - 0.5) @ difference
  flipped = rng.uniform(size=n) < 0.1
  labels = np.where((margins > 0) ^ flipped, 0, 1)
  own = np.where(labels == 0, margins, -margins)

  def logits(x):
    return (x - 0.5) @ kernel

  return logits, jnp.asarray(inputs), jnp.asarray(labels), own, difference


@pytest.mark.parametrize("name, order", [("pgd_l2", 2), ("pgd_linf", 1)])
def test_a_linear_classifier_withstands_where_its_margin_says_so(name, order):
  """Right under attack: margin > radius |w_0 - w_1|, in the dual norm of the ball's."""
  logits, inputs, labels, margins, difference = binary()
  radius = 0.05 if order == 2 else 0.02
  reach = margins / (radius * np.linalg.norm(difference, order))
  found = np.asarray(robust(logits, name, inputs, labels, radius, 20, 2, KEY))
  assert found[reach > 1 + 1e-4].all()  # Nobody goes farther than the ball.
  nearly = 0.93 if order == 2 else 1 - 1e-4  # Two starts of L2 leave a little, see `pgd_l2`.
  assert not found[reach < nearly].any()
  for part in (reach > 1, (reach < nearly) & (margins > 0), margins < 0):
    assert part.sum() > 20


def test_right_under_attack_implies_right_without():
  logits, inputs, labels, margins, _ = binary()
  clean = np.asarray(robust(logits, "none", inputs, labels, 0.1, 1, 1, KEY))
  np.testing.assert_array_equal(clean, margins > 0)
  for name in ACTIVE:
    previous = clean
    for restarts in (0, 1, 3):
      found = np.asarray(robust(logits, name, inputs, labels, 0.04, 2, restarts, KEY))
      assert not (found & ~previous).any()
      previous = found
    assert found.sum() < clean.sum() - 20
    assert (robust(logits, name, inputs, labels, 0.0, 2, 2, KEY) == clean).all()


def test_an_attack_downhill_is_withstood_by_all_that_are_right():
  """The control: the same search with the labels of the other class makes nobody wrong."""
  logits, inputs, labels, margins, _ = binary()
  away = gradient_of(logits, 1 - labels)
  moved = ADVERSARIES["pgd_linf"](away, inputs, 0.02, 20, KEY)
  assert (np.asarray(logits(moved).argmax(1) == labels) | (margins <= 0)).all()


def test_another_start_finds_what_the_first_does_not():
  """Where one step ends depends on its start: more starts break more, and keys decide."""
  logits, inputs, labels, _, _ = binary(n=2000)

  def count(restarts, key=KEY):
    return np.asarray(robust(logits, "fgsm_rs", inputs, labels, 0.02, 1, restarts, key))

  assert count(1).sum() > count(4).sum() > count(16).sum()
  assert (count(1) != count(1, jax.random.key(6))).any()
  np.testing.assert_array_equal(count(1), count(1))


def test_robustness_is_compiled_once_for_all_radii():
  logits, inputs, labels, _, _ = binary()
  traces = []

  @jax.jit
  def share(radius):
    traces.append(None)
    return robust(logits, "pgd_linf", inputs, labels, radius, 3, 2, KEY).mean()

  shares = [float(share(jnp.float32(radius))) for radius in (0.0, 0.01, 0.03, 0.3)]
  assert len(traces) == 1 and shares == sorted(shares, reverse=True) and shares[-1] == 0


# ---- Settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  "name, radius, steps, parts",
  [
    ("pgd", 0.5, 7, ["unknown adversary 'pgd'", *ADVERSARIES]),
    ("a\nb", 0.5, 7, ["unknown adversary"]),
    ("pgd_l2", -0.1, 7, ["adversary_radius is -0.1", "0 or more"]),
    ("pgd_l2", math.nan, 7, ["adversary_radius is nan", "finite"]),
    ("pgd_linf", math.inf, 7, ["adversary_radius is inf", "finite"]),
    ("fgsm_rs", 0.5, 0, ["adversary_steps is 0", "1 or more"]),
  ],
)
def test_what_cannot_be_is_refused_in_one_line(name, radius, steps, parts):
  with pytest.raises(InputError) as caught:
    check(name, radius, steps)
  assert "\n" not in str(caught.value)
  for part in parts:
    assert part in str(caught.value)


@pytest.mark.parametrize("name", ADVERSARIES)
def test_what_can_be_is_not(name):
  check(name, 0.0, 1)
  check(name, 0.5, 20)
