"""Planted photographs are counted, separated and recognised; chance gives no number."""

import numpy as np
import pytest
from planted_leaves import leaf_pictures
from scipy import ndimage

from jaxinv.attacks.single.unmixing import Count
from jaxinv.auditing import unmixing
from jaxinv.auditing.audit import audit
from jaxinv.auditing.findings import Unmixing
from jaxinv.types import References

SHAPE, NUM, UNITS = (32, 32), 12, 48


def model(images=None, seed=1, bias=True, decay=1.0, layout="hwc", torch=False):
  """An MLP before and after training on images, which moves its first layer in their span."""
  shape = (*SHAPE, 1) if images is None else images.shape[1:]
  num_features = int(np.prod(shape))
  rng = np.random.default_rng(seed)
  start = 0.03 * rng.standard_normal((num_features, UNITS))
  moved, kicked = 0.03 * rng.standard_normal((num_features, UNITS)), rng.standard_normal(UNITS)
  if images is not None:
    coefficients = 0.02 * rng.standard_normal((len(images), UNITS))
    flat = images.transpose(0, *(1 + "hwc".index(axis) for axis in layout)).reshape(len(images), -1)
    moved, kicked = flat.T @ coefficients, coefficients.sum(0)
  behind = rng.standard_normal((UNITS, 4)).astype(np.float32)

  def params(kernel, shift):
    kernel = kernel.astype(np.float32)
    if torch:
      first, last = {"weight": kernel.T}, {"weight": behind.T}
    else:
      first, last = {"kernel": kernel}, {"kernel": behind}
    return {"0": first | ({"bias": shift.astype(np.float32)} if bias else {}), "1": last}

  return params(decay * start + moved, kicked), params(start, np.zeros(UNITS))


def references(images, each=2, seed=5):
  """People with a photograph trained on and others that are not; three more people of none."""
  shape = images.shape[1:]
  num = len(images) + 3
  photographs = leaf_pictures(num * each, shape, seed)
  photographs[: len(images) * each : each] = images
  names = tuple(f"p{i}" for i in range(num))
  files = tuple(f"p{i // each}/{i % each}.png" for i in range(num * each))
  images = (255 * photographs).astype(np.float32)
  return References(images, np.repeat(np.arange(num), each), names, files, grouped=True)


def closest(found, images):
  return unmixing.correlations(found.images.astype(float), images).max(0)


def test_planted_photographs_are_counted_separated_and_recognised():
  images = leaf_pictures(NUM, (*SHAPE, 1))
  now, start = model(images)
  found = audit(now, SHAPE, init_params=start, references=references(images))
  unmixed = found.unmixed
  assert (unmixed.source, unmixed.earlier) == ("0/kernel", "init_params")
  assert unmixed.count.number == NUM and unmixed.count.certain
  assert (closest(unmixed, images) > 0.95).all() and unmixed.stability.min() > 0.8
  # Every second reference is a photograph trained on, and each is given to one image.
  assert sorted(unmixed.nearest) == list(range(0, 2 * NUM, 2))
  assert unmixed.matched.all() and (unmixed.nearest_ncc > 0.95).all() and found.match
  # The bias gives the scale.
  assert unmixed.is_scaled
  own = references(images).images[unmixed.nearest] / 255
  np.testing.assert_allclose(unmixed.images.mean((1, 2, 3)), own.mean((1, 2, 3)), rtol=0.1)


def test_photographs_of_others_do_not_match():
  now, start = model(leaf_pictures(NUM, (*SHAPE, 1)))
  found = audit(
    now, SHAPE, init_params=start, references=references(leaf_pictures(NUM, (*SHAPE, 1), 77))
  )
  assert found.unmixed.count.number == NUM and not found.unmixed.matched.any()
  assert found.unmixed_matches == 0


def test_without_references_nothing_is_matched():
  now, start = model(leaf_pictures(NUM, (*SHAPE, 1)), bias=False)
  found = audit(now, SHAPE, previous_params=start)
  assert found.unmixed.count.number == NUM and found.unmixed.earlier == "previous_params"
  assert found.unmixed.matched is None and found.match is None and not found.unmixed.is_scaled
  assert repr(found.unmixed) == "Unmixing('0/kernel', photographs=12, separated=12)"


@pytest.mark.parametrize(("layout", "torch"), [("hwc", True), ("chw", True), ("chw", False)])
def test_colour_and_other_tools_layouts(layout, torch):
  images = leaf_pictures(6, (*SHAPE, 3))
  now, start = model(images, layout=layout, torch=torch)
  found = audit(now, (*SHAPE, 3), init_params=start).unmixed
  assert found.layout == layout and found.images.shape == (6, *SHAPE, 3)
  assert (closest(found, images) > 0.95).all()


def test_what_weight_decay_took_of_the_initial_weights_is_found():
  images = leaf_pictures(NUM, (*SHAPE, 1))
  now, start = model(images, decay=0.8)
  found = audit(now, SHAPE, init_params=start).unmixed
  assert found.count.number == NUM and (closest(found, images) > 0.9).all()


def test_chance_gives_no_number_and_that_is_not_called_safe():
  now, start = model(None)
  found = audit(now, SHAPE, init_params=start)
  assert found.unmixed.count.number == 0 and not len(found.unmixed.images)
  (note,) = [note for note in found.notes if "how many images" in note]
  assert "no sign of safety" in note and "no cliff" in note


def test_an_earlier_release_is_tried_where_the_initial_weights_tell_nothing():
  now, before = model(leaf_pictures(NUM, (*SHAPE, 1)))
  found = audit(now, SHAPE, init_params=model(None, seed=9)[1], previous_params=before).unmixed
  assert found.earlier == "previous_params" and found.count.number == NUM


def test_nothing_is_unmixed_where_nothing_earlier_is_held():
  now, start = model(leaf_pictures(NUM, (*SHAPE, 1)))
  bare = audit(now, SHAPE)
  assert bare.unmixed is None and not any("images it is made of" in note for note in bare.notes)
  # Nor where certain attacks were asked for, or nothing changed.
  assert audit(now, SHAPE, init_params=start, attacks=["init_diff"]).unmixed is None
  assert audit(now, SHAPE, init_params=now).unmixed is None


def test_models_with_convolutions_are_left_alone():
  now, start = model(leaf_pictures(NUM, (*SHAPE, 1)))
  kernel = np.random.default_rng(3).standard_normal((3, 3, 1, 8)).astype(np.float32)
  found = audit(now | {"conv": kernel}, SHAPE, init_params=start | {"conv": kernel})
  assert found.unmixed is None and not any("unmixed" in note for note in found.notes)


@pytest.mark.parametrize(
  ("limit", "value", "words"),
  [
    ("_MOST_IMAGES", 5, "counted and not separated"),
    ("_MOST_UNITS", 20, "was not unmixed: it has 48 units, more than 20"),
    ("_MOST_BYTES", 2**10, "was not unmixed: it takes"),
  ],
)
def test_what_would_take_too_long_is_said(limit, value, words, monkeypatch):
  monkeypatch.setattr(unmixing, limit, value)
  now, start = model(leaf_pictures(NUM, (*SHAPE, 1)))
  found = audit(now, SHAPE, init_params=start)
  assert any(words in note for note in found.notes)
  if limit == "_MOST_IMAGES":
    assert found.unmixed.count.number == NUM and not len(found.unmixed.images)
  else:
    assert found.unmixed is None


def test_images_too_small_for_detail_are_counted_and_the_reason_is_said():
  now, start = model(leaf_pictures(NUM, (2, 64, 1)))
  found = audit(now, (2, 64), init_params=start)
  assert found.unmixed.count.number == NUM and not len(found.unmixed.images)
  assert any("have no detail" in note for note in found.notes)


def test_of_fewer_references_than_images_some_have_none():
  images = leaf_pictures(NUM, (*SHAPE, 1))
  now, start = model(images)
  few = references(images[:5], each=1)
  found = audit(now, SHAPE, init_params=start, references=few._replace(images=few.images)).unmixed
  assert (found.nearest >= 0).sum() == 8 and found.matched.sum() == 5
  assert not found.matched[found.nearest < 0].any()


def test_the_detail_tells_a_photograph_that_something_smooth_lies_over():
  """As Adam leaves them: the pixels are off, the edges are not."""
  images = leaf_pictures(NUM, (*SHAPE, 1))
  known = references(images)
  smooth = 2 * np.add.outer(np.linspace(-1, 1, 32), np.linspace(0, 1, 32))[None, ..., None]
  found = Unmixing("w", "init_params", "hwc", Count(NUM, 2.0, False), images + smooth, np.ones(NUM))
  compared = unmixing._compared(found, known)
  assert compared.nearest.tolist() == list(range(0, 2 * NUM, 2)) and compared.matched.all()
  assert np.median(compared.nearest_ncc) < 0.7 and compared.nearest_detail_ncc.min() > 0.99
  # And the pixels where the references have lost their detail.
  blurred = known._replace(images=ndimage.gaussian_filter(known.images, (0, 0.8, 0.8, 0)))
  compared = unmixing._compared(found._replace(images=images), blurred)
  assert compared.nearest.tolist() == list(range(0, 2 * NUM, 2)) and compared.matched.all()


def test_of_few_people_nobody_stands_out():
  images = leaf_pictures(NUM, (*SHAPE, 1))
  known = references(images)
  few = known._replace(person=known.person // 8, people=known.people[:4])
  found = Unmixing("w", "init_params", "hwc", Count(NUM, 2.0, False), images, np.ones(NUM))
  assert unmixing._compared(found, known).matched.all()
  assert not unmixing._compared(found, few).matched.any()


@pytest.mark.parametrize("first", ["mu", "trace"])
def test_a_checkpoint_alone_gives_photographs_by_the_optimisers_sum_of_gradients(first):
  images = leaf_pictures(NUM, (*SHAPE, 1))
  (weights, _), (sums, _) = model(), model(images, decay=0.0)
  held = {"params": weights, "opt_state": {first: sums, "nu": weights}}
  unmixed = audit(held, SHAPE, references=references(images)).unmixed
  assert unmixed.source == f"opt_state/{first}/0/kernel" and unmixed.knowledge == "checkpoint"
  assert unmixed.count.number == NUM and unmixed.matched.all()
  assert unmixed.mixture.startswith("the sum of gradients")
  # The second moment is of squares: it is no mixture.
  del held["opt_state"][first]
  assert audit(held, SHAPE).unmixed is None


def test_of_a_change_and_a_sum_the_one_that_tells_the_number_is_taken():
  images = leaf_pictures(NUM, (*SHAPE, 1))
  (weights, start), (sums, _) = model(), model(images, decay=0.0)
  held = {"params": weights, "opt_state": {"mu": sums}}
  before = {"params": start, "opt_state": {"mu": start}}
  assert audit(held, SHAPE, init_params=before).unmixed.earlier == "optimizer_state"
  now, start = model(images)
  held, before = ({"params": x, "opt_state": {"mu": sums}} for x in (now, start))
  assert audit(held, SHAPE, init_params=before).unmixed.earlier == "init_params"
