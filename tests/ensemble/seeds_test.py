"""Halves, shuffled labels, and what a run keeps of them: balanced, and the same after any stop."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest

from helpers import flat, part_means
from jaxinv.data import splits
from jaxinv.ensemble import mapping
from jaxinv.ensemble.groups import Host, Stopped
from jaxinv.ensemble.seeds import seed_keys, shuffle_labels, split_data, train_keys
from jaxinv.errors import InputError
from jaxinv.experiments import experiment, outcome, planning
from jaxinv.experiments.groups import run_groups, sum_of
from jaxinv.experiments.settings import Arm, Settings
from jaxinv.experiments.study.photographs import controls
from jaxinv.types import Hyper

CLASSES, SEEDS = 5, 4
ATTACKS = ("reshape", "denoised", "class_centred", "init_diff", "denoised_diff", "update_ratio")
PLAIN = Arm("plain", "sgd", Hyper(0.3))
ROUGH = Arm("rough", "sgd", Hyper(0.3, release_bits=1.0))


# Keys.


def test_seed_keys_differ_by_seed_by_root_and_from_the_training_keys():
  keys = [seed_keys(root, range(50)) for root in (0, 1)]
  keys += [train_keys(0, range(50))]
  numbers = np.concatenate([jax.random.key_data(k) for k in keys])
  assert len({tuple(row) for row in numbers.tolist()}) == 150


# Halves.


@pytest.fixture(scope="module")
def people(make_planted):
  """Eight images of each of six people, in small."""
  return make_planted(num_classes=6, shape=(2, 2))


def halve(dataset, seeds, root=3, holdout=2):
  """The data of some seeds, each with half of one split."""
  data = splits.whole(dataset)
  return split_data(data, dataset.num_classes, root, seeds, holdout, True, True)


@pytest.fixture(scope="module", params=[1, 2])
def halved(request, people):
  """Sixteen halves of a split into classes of 7, or of 6, to train on, and what is held out."""
  data = halve(people, range(16), holdout=request.param)
  return np.asarray(data.train), np.asarray(data.holdout)


def test_every_candidate_is_in_exactly_half_of_the_seeds(halved):
  train, holdout = halved
  counts = np.bincount(train.ravel(), minlength=48)
  np.testing.assert_array_equal(counts[holdout[0]], 0)
  np.testing.assert_array_equal(np.delete(counts, holdout[0]), 8)


def test_seeds_in_pairs_are_complementary_and_pairs_differ(halved):
  train, holdout = halved
  candidates = np.setdiff1d(np.arange(48), holdout[0])
  for one, other in zip(train[::2], train[1::2], strict=True):
    np.testing.assert_array_equal(np.sort(np.concatenate([one, other])), candidates)
  assert len({tuple(row) for row in train}) == 16


def test_each_class_is_halved_up_to_one(people, halved):
  train, holdout = halved
  each = 8 - holdout.shape[1] // 6
  for row in train:
    counts = np.bincount(people.labels[row], minlength=6)
    assert counts.sum() == 3 * each and set(counts) <= {each // 2, (each + 1) // 2}


def test_the_held_out_are_one_set_for_all_seeds_and_never_trained_on(people, halved):
  train, holdout = halved
  np.testing.assert_array_equal(holdout, np.tile(holdout[:1], (16, 1)))
  assert not set(train.ravel()) & set(holdout.ravel())
  assert set(np.bincount(people.labels[holdout[0]], minlength=6)) == {holdout.shape[1] // 6}


def test_who_is_with_whom_is_chance(people):
  """Two of a class of 6 are together in 2 of 5 halves, for one takes a place; others in 1 of 2."""
  members = np.zeros((800, 48))
  for first in range(0, 1600, 16):  # One half of each pair: the other says the same.
    train = np.asarray(halve(people, range(first, first + 16)).train)[::2]
    np.put_along_axis(members[first // 2 :][:8], train, 1, 1)
  candidates = np.flatnonzero(members.any(0))
  together = 2 * (members.T @ members / 800)[np.ix_(candidates, candidates)]
  same = people.labels[candidates][:, None] == people.labels[candidates]
  expected = np.where(same, 2 / 5, 1 / 2) + np.eye(36) * 3 / 5
  # Twice the share of the halves that hold both, which is about a quarter.
  assert np.abs(together - expected).max() < 5 * 2 * np.sqrt(0.25 * 0.75 / 800)


@pytest.mark.parametrize("seeds", [[5], [*range(15, -1, -1)], [900, 4, 5, 5, *range(100, 112)]])
def test_a_seeds_half_does_not_depend_on_its_neighbours(people, seeds):
  """Given alone, in another order, or among others and twice."""
  everyone, some = halve(people, range(16)), halve(people, seeds)
  assert len(seeds) in (1, 16)
  for place, seed in enumerate(seeds):
    if seed < 16:
      np.testing.assert_array_equal(some.train[place], everyone.train[seed])
      np.testing.assert_array_equal(some.holdout[place], everyone.holdout[seed])


def test_another_root_seed_halves_otherwise(people):
  one, other = (np.asarray(halve(people, range(16), root).train) for root in (0, 1))
  assert all((a != b).any() for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def odd(make_planted):
  """Nine images of each of five classes: 45, and 35 where two of each are held out."""
  return make_planted(per_class=9)


@pytest.mark.parametrize(("holdout", "left"), [(0, 45), (2, 35), (4, 25)])
def test_an_odd_number_of_training_examples_is_refused_in_one_line(odd, holdout, left):
  settings = Settings((Arm("a", "sgd", Hyper()),), batch_size=4, holdout=holdout, halves=True)
  with pytest.raises(InputError, match=f"^{left} training examples cannot be halved") as caught:
    experiment.make_experiment(settings, odd)
  assert "\n" not in str(caught.value) and "--holdout" in str(caught.value)
  experiment.make_experiment(replace(settings, halves=False), odd)
  experiment.make_experiment(replace(settings, holdout=holdout + 1), odd)


def test_a_batch_is_drawn_from_a_half(planted):
  settings = Settings((Arm("a", "sgd", Hyper()),), batch_size=15, halves=True)
  experiment.make_experiment(settings, planted)
  with pytest.raises(InputError, match="a batch of 16 is more than the 15 training examples"):
    experiment.make_experiment(replace(settings, batch_size=16), planted)


# Shuffled labels.


def deal(dataset, seeds, fixed=False):
  """The data of some seeds, and the same with labels dealt out anew."""
  data = split_data(splits.whole(dataset), dataset.num_classes, 3, seeds, 2, fixed)
  return data, shuffle_labels(data, 3, seeds)


@pytest.mark.parametrize("fixed", [False, True])
def test_shuffled_labels_are_those_of_the_training_examples_dealt_out_anew(people, fixed):
  """For each seed otherwise, also where all have one split."""
  data, dealt = deal(people, range(16), fixed)
  assert dealt.labels.shape == (16, 48)
  kept = []
  for labels, train, holdout in zip(*map(np.asarray, dealt[1:4]), strict=True):
    np.testing.assert_array_equal(labels[holdout], people.labels[holdout])
    np.testing.assert_array_equal(np.bincount(labels[train]), np.bincount(people.labels[train]))
    kept.append(labels[train] == people.labels[train])
  # By chance one of six has its own label again; within five standard errors.
  assert abs(np.mean(kept) - 1 / 6) < 5 * np.sqrt(5 / 36 / np.size(kept))
  assert len({tuple(row) for row in np.asarray(dealt.labels)}) == 16
  for name in ("inputs", "train", "holdout"):
    np.testing.assert_array_equal(getattr(dealt, name), getattr(data, name))


@pytest.mark.parametrize("seeds", [[5], [*range(15, -1, -1)]])
def test_what_a_seed_is_dealt_does_not_depend_on_its_neighbours(people, seeds):
  (_, everyone), (_, some) = deal(people, range(16)), deal(people, seeds)
  np.testing.assert_array_equal(some.labels, np.asarray(everyone.labels)[seeds])


def test_control_models_that_learned_shuffled_labels_show_nobody(make_planted, alone):
  """All that they were taught they know by heart; taught the truth, they show everybody sooner."""
  settings = everything((PLAIN,), ATTACKS)
  settings = replace(settings, num_seeds=12, steps=200, record_every=200, save_seeds=1)
  settings = replace(settings, shuffled_labels=True)
  lab = experiment.make_experiment(settings, make_planted(noise=0.15))
  results = run_groups(lab, planning.plan(lab), None, Host())

  def over_seeds(name):
    return np.concatenate([flat(result)[name] for result in results], -1)

  assert over_seeds("history/train_accuracy")[-1].min() == 1
  # A standard error is 0.05, were the people of a seed independent.
  assert abs(over_seeds("history/holdout_accuracy")[-1].mean() - 0.2) < 0.2
  assert abs(over_seeds("measures/init_diff/identification").mean() - 0.2) < 0.2
  assert abs(over_seeds("measures/init_diff/ncc_centred").mean()) < 0.1
  true = alone.arms["plain"].measures["init_diff"]
  assert true["identification"].min() == 1 and true["ncc_centred"].min() > 0.8


# All that a run keeps: halves, looks at records, prefixes, photographs, two releases, altered ones.


def everything(arms, attacks):
  """Settings with all there is to keep, in groups of two."""
  return Settings(
    arms,
    num_seeds=SEEDS,
    steps=30,
    batch_size=5,
    width=2,
    record_every=10,
    save_seeds=SEEDS,
    attacks=attacks,
    at_records=True,
    prefixes=True,
    halves=True,
    photographs=True,
  )


@pytest.fixture(scope="module")
def lab(planted):
  """One arm in two groups of two, looked at by all attacks on one model."""
  return experiment.make_experiment(everything((PLAIN,), ATTACKS), planted)


@pytest.fixture(scope="module")
def peaceful(lab):
  """What its groups keep where they are left in peace."""
  return run_groups(lab, planning.plan(lab), None, Host())


@pytest.fixture(scope="module")
def alone(lab, peaceful):
  """The same, put together."""
  return outcome.assemble(lab, peaceful)


@pytest.fixture(scope="module")
def beside(planted):
  """The arm beside another that is trained alike, and released with one bit a weight."""
  return outcome.run(everything((PLAIN, ROUGH), ATTACKS), planted)


@pytest.fixture(scope="module")
def arms(alone, beside):
  """One of each kind."""
  return {"plain": alone.arms["plain"], "rough": beside.arms["rough"]}


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_stopped_anywhere_a_run_keeps_the_same_bits(lab, peaceful, tmp_path, chunks):
  """After every chunk; after two; and after three, which is exactly at the end of each group."""
  for times in itertools.count():
    asked = itertools.count(1)
    host = Host(stop=lambda asked=asked: next(asked) == chunks, checkpoint_seconds=1e9)
    try:
      results = run_groups(lab, planning.plan(lab), tmp_path, host)
      break
    except Stopped:
      assert times < 9
  assert times == {1: 6, 2: 3, 3: 2}[chunks]
  for one, other in zip(results, peaceful, strict=True):
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys() and "trail/update_ratio/identification" in one
    for name, array in one.items():
      assert array.dtype == other[name].dtype, name
      np.testing.assert_array_equal(array, other[name], err_msg=name)


@pytest.mark.parametrize("name", ["plain", "rough"])
def test_the_trail_ends_at_what_the_images_show(arms, name):
  arm = arms[name]
  assert arm.healthy.all()
  for attack, metric in itertools.product(ATTACKS, ("ncc_centred", "identification")):
    trail = arm.trail[attack][metric]
    assert trail.shape == (SEEDS, 4)
    np.testing.assert_allclose(trail[:, -1], arm.measures[attack][metric], atol=1e-4)
    if metric == "ncc_centred":  # And not at what they showed before.
      assert np.abs(trail[:, -1] - trail[:, -2]).max() > 1e-3
  for attack in ATTACKS:
    identified = arm.identified[attack][:, -1].mean(1)
    np.testing.assert_allclose(identified, arm.measures[attack]["identification"], atol=1e-6)
  assert set(arm.identified) == set(ATTACKS)


def test_where_nothing_was_learned_differences_of_weights_show_nothing(alone):
  arm = alone.arms["plain"]
  for attack in ("init_diff", "update_ratio"):
    np.testing.assert_array_equal(arm.trail[attack]["ncc_centred"][:, 0], 0)
    assert not arm.identified[attack][:, 0].any()
    assert np.abs(arm.trail[attack]["ncc_centred"][:, 1:]).min() > 1e-3


def class_means(dataset, index):
  labels = dataset.labels[index]
  return np.stack([np.float64(dataset.inputs[index])[labels == c].mean(0) for c in range(CLASSES)])


def correlations(a, b):
  """Of each row of the one with each of the other, [k, k]."""
  return np.corrcoef(a, b)[: len(a), len(a) :]


def judge(weights, train_means, holdout_means, part_means):
  """The measures that need no window, in float64."""
  similar, held, *parts = (
    np.diag(correlations(weights, x)).mean() for x in (train_means, holdout_means, *part_means)
  )
  scores = correlations(weights, holdout_means - holdout_means.mean(0))
  return {
    "ncc": similar,
    "ncc_centred": np.diag(correlations(weights, train_means - train_means.mean(0))).mean(),
    "identification": (scores.argmax(1) == np.arange(CLASSES)).mean(),
    "excess": np.mean(parts) - held,
  }


@pytest.mark.parametrize("name", ["plain", "rough"])
def test_prefixes_are_the_mean_models_of_the_first_seeds(planted, alone, arms, name):
  arm = arms[name]
  assert list(arm.prefixes) == [1, 2, 4]
  train, holdout = (
    np.stack([class_means(planted, index) for index in alone.splits[part]])
    for part in ("train", "holdout")
  )
  size = len(alone.splits["holdout"][0]) // CLASSES
  parts = np.stack([part_means(planted, index, size) for index in alone.splits["train"]])
  for count, values in arm.prefixes.items():
    mean = np.float64(arm.arrays["weights"])[:count].mean(0)
    truth = (means[:count].mean(0) for means in (train, holdout, parts))
    expected = judge(mean, *truth)
    assert {metric: float(values[metric]) for metric in expected} == pytest.approx(
      expected, abs=1e-4
    )
  for metric, value in arm.prefixes[4].items():
    assert arm.measures["seed_mean"][metric] == [value]


def test_a_group_has_a_place_for_every_sum_that_it_needs():
  for arms, seeds, width in itertools.product(range(1, 4), range(1, 20), range(1, 60)):
    settings = Settings(
      tuple(Arm(f"a{i}", "sgd", Hyper()) for i in range(arms)), seeds, prefixes=True
    )
    runs = [(arm, seed) for arm in range(arms) for seed in range(seeds)]
    for group in mapping.divide(len(runs), width):
      for changes in ({}, {"prefixes": False}):
        changed = replace(settings, **changes)
        sums = {(runs[i][0], sum_of(changed, runs[i][1])) for i in group}
        assert len(sums) <= planning.places(changed, width), (arms, seeds, width)


@pytest.mark.parametrize("name", ["plain", "rough"])
def test_the_logits_kept_are_those_of_the_weights_released(planted, arms, name):
  arm = arms[name]
  weights, bias = (np.float64(arm.arrays[part]) for part in ("weights", "bias"))
  expected = planted.inputs @ weights.swapaxes(1, 2) + bias[:, None]
  assert arm.details["logits"].shape == (SEEDS, 40, CLASSES)
  np.testing.assert_allclose(arm.details["logits"], expected, atol=1e-4)


def test_the_likeness_kept_is_that_of_each_photographs_own_class(planted, alone):
  arm = alone.arms["plain"]
  photographs = np.float64(planted.inputs) - planted.inputs.mean(0, dtype=np.float64)
  raw = {
    "reshape": arm.arrays["weights"],
    "init_diff": np.float64(arm.arrays["weights"]) - arm.arrays["init_weights"],
  }
  for attack, images in raw.items():
    for seed in range(SEEDS):
      own = correlations(images[seed], photographs)[planted.labels, np.arange(40)]
      np.testing.assert_allclose(arm.details["similarity"][attack][seed], own, atol=1e-4)


def test_photographs_trained_on_are_more_like_what_is_recovered(alone):
  """The whole way: halves of the experiment, read off its splits, and a signal that is there."""
  halves = controls.halves_of(alone.splits["train"], alone.splits["holdout"], 40)
  assert len(halves.candidates) == 30 and len(halves.population) == 10
  likeness = alone.arms["plain"].details["similarity"]["init_diff"][:, halves.candidates]
  mine = halves.members[:, halves.candidates]
  np.testing.assert_array_equal(mine.sum(0), SEEDS // 2)
  assert controls.detect(likeness, mine).pooled.auc > 0.55


# Releases that are not what was trained.


def accuracies(dataset, arm, index):
  """Of the weights released, for each seed on its own examples."""
  weights, bias = (np.float64(arm.arrays[part]) for part in ("weights", "bias"))
  logits = dataset.inputs @ weights.swapaxes(1, 2) + bias[:, None]
  right = logits.argmax(2) == dataset.labels
  return [right[seed, chosen].mean() for seed, chosen in enumerate(index)]


def test_an_arm_that_is_released_otherwise_has_the_accuracy_of_its_release(planted, beside):
  rough, plain = beside.arms["rough"], beside.arms["plain"]
  assert all(len(np.unique(weights)) == 2 for weights in rough.arrays["weights"])
  for part in ("train", "holdout"):
    curve = rough.history[f"{part}_accuracy"]
    expected = accuracies(planted, rough, beside.splits[part])
    np.testing.assert_allclose(curve[:, -1], expected, atol=1e-6)
    np.testing.assert_allclose(rough.measures["model"][f"{part}_accuracy"], expected, atol=1e-6)
    # It was trained as the other was, whose accuracy is another: that of its own release.
    assert (curve != plain.history[f"{part}_accuracy"]).any()
    expected = accuracies(planted, plain, beside.splits[part])
    np.testing.assert_allclose(plain.history[f"{part}_accuracy"][:, -1], expected, atol=1e-6)
  np.testing.assert_array_equal(rough.history["train_loss"], plain.history["train_loss"])


def test_a_neighbour_that_is_released_otherwise_leaves_an_arm_alone(alone, beside):
  """Weights, measures and all else, bit for bit."""
  one, other = (jax.tree_util.tree_leaves_with_path(x.arms["plain"]) for x in (beside, alone))
  assert len(one) > 60
  for (path, mine), (name, theirs) in zip(one, other, strict=True):
    assert path == name
    np.testing.assert_array_equal(mine, theirs, err_msg=jax.tree_util.keystr(path))
