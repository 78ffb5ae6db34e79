"""Images are read out of tensors some at a time, in the order that a layout says."""

import numpy as np
import pytest

from jaxinv.attacks.attack import init_diff, reshape, seed_mean
from jaxinv.auditing import extraction
from jaxinv.auditing.given import attacker_tensors
from jaxinv.auditing.plan import Task
from jaxinv.auditing.sources import LAYOUTS, find_sources
from jaxinv.errors import InputError


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_undoes_the_flattening(layout):
  images = np.random.default_rng(0).standard_normal((4, 6, 5, 3))
  flat = images.transpose(0, *(1 + "hwc".index(letter) for letter in layout)).reshape(4, -1)
  np.testing.assert_array_equal(extraction.as_images(flat, (6, 5, 3), layout), images)


@pytest.mark.parametrize("attack", [reshape, init_diff, seed_mean])
def test_the_images_are_those_of_the_attack_in_blocks(attack, monkeypatch):
  rng = np.random.default_rng(0)
  now, start, other = ({"w": rng.standard_normal((7, 30)).astype(np.float32)} for _ in range(3))
  held = attacker_tensors(now, start, None, [other])
  (source,), _ = find_sources(held.params, (6, 5, 1), "hwc")
  monkeypatch.setattr(extraction, "_BLOCK_BYTES", 4 * 30 * 3)
  blocks = list(extraction.images(Task(source, attack), held, "hwc"))
  assert [len(block) for block in blocks] == [3, 3, 1]
  wanted = {
    "reshape": now["w"],
    "init_diff": now["w"] - start["w"],
    "seed_mean": (now["w"] + other["w"]) / 2,
  }[attack.name]
  np.testing.assert_allclose(np.concatenate(blocks).reshape(7, 30), wanted, atol=1e-6)


def test_the_layout_is_that_in_which_images_are_smooth():
  smooth = np.random.default_rng(0).standard_normal((20, 6, 5)).cumsum(1).cumsum(2)
  for images, layout in ((smooth, "hwc"), (smooth.swapaxes(1, 2), "whc")):
    held = attacker_tensors({"w": images.reshape(20, 30)})
    (source,), _ = find_sources(held.params, (6, 5, 1))
    assert extraction.choose_layout(held, source) == layout


def test_the_layout_of_a_change_is_that_in_which_it_is_smooth_whatever_it_was_added_to():
  rng = np.random.default_rng(0)
  moved = 1e-2 * rng.standard_normal((20, 6, 5)).cumsum(1).cumsum(2)
  start = rng.standard_normal((20, 5, 6)).cumsum(1).cumsum(2).swapaxes(1, 2).reshape(20, 30)
  for change, layout in ((moved, "hwc"), (moved.swapaxes(1, 2), "whc")):
    held = attacker_tensors({"w": start + change.reshape(20, 30)}, {"w": start})
    (source,), _ = find_sources(held.params, (6, 5, 1))
    assert extraction.choose_change_layout(held.params, held.init_params, source) == layout
    params = extraction.first_layer(held.params, source, "hwc")
    np.testing.assert_allclose(params["layer_0"]["kernel"].T, held.params["w"].load(), rtol=1e-6)


def test_weights_that_are_not_finite_are_the_files_fault_and_not_the_attacks():
  held = attacker_tensors({"w": np.full((3, 30), np.nan)})
  (source,), _ = find_sources(held.params, (6, 5, 1), "hwc")
  with pytest.raises(InputError, match="w holds NaN or infinite values"):
    next(extraction.images(Task(source, reshape), held, "hwc"))
