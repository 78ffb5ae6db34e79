"""Weights and references however they are given are the same weights and references."""

import numpy as np
import pytest
from PIL import Image

from jaxinv.auditing.audit import audit
from jaxinv.auditing.given import as_references, attacker_tensors, named
from jaxinv.errors import InputError

WEIGHTS = np.random.default_rng(0).standard_normal((4, 30)).astype(np.float32)


def test_a_path_a_mapping_an_array_and_nested_lists_are_one(tmp_path):
  np.savez(tmp_path / "w.npz", w=WEIGHTS)
  forms = (tmp_path / "w.npz", str(tmp_path / "w.npz"), {"w": WEIGHTS}, {"w": WEIGHTS.tolist()})
  for params in forms:
    (tensor,) = named(params).items()
    assert tensor[0] == "w"
    np.testing.assert_allclose(tensor[1].load(), WEIGHTS)
  for params in (WEIGHTS, WEIGHTS.tolist()):
    assert list(named(params)) == ["array"]
  nested = {"fc": [{"kernel": WEIGHTS}, {"kernel": WEIGHTS}]}
  assert list(named(nested)) == ["fc/0/kernel", "fc/1/kernel"]


def test_every_model_may_be_a_path(tmp_path):
  for i, name in enumerate(("now", "start", "before", "other")):
    np.savez(tmp_path / f"{name}.npz", w=WEIGHTS + i, b=np.full(4, 1.0 * i))
  now, start, before, other = (tmp_path / f"{it}.npz" for it in ("now", "start", "before", "other"))
  found = audit(now, (6, 5), init_params=start, previous_params=str(before), peers=[other])
  assert len(found.findings) == 5


@pytest.mark.parametrize(
  ("params", "words"),
  [
    ([[1.0, 2.0], [3.0]], "array cannot be made an array"),
    ({"a": {"b": [[1.0], [2.0, 3.0]]}}, "a/b cannot be made an array"),
    ({"model": object()}, "model is a object, not an array"),
    ({}, "there are no arrays"),
    ("nowhere.npz", "there is no such file"),
  ],
)
def test_what_is_no_model_is_said_in_a_line(params, words):
  with pytest.raises(InputError, match=words):
    attacker_tensors(params)


def test_one_path_is_not_several_models(tmp_path):
  with pytest.raises(InputError, match="give a list of paths"):
    attacker_tensors({"w": WEIGHTS}, peers=str(tmp_path))


def test_references_are_a_folder_or_an_array(tmp_path):
  images = np.random.default_rng(1).integers(0, 256, (6, 6, 5)).astype(np.uint8)
  for i, image in enumerate(images):
    (tmp_path / f"class {i // 2}").mkdir(exist_ok=True)
    Image.fromarray(image).save(tmp_path / f"class {i // 2}" / f"{i}.png")
  folder = as_references(tmp_path, None, (6, 5, 1))
  array = as_references(images, [0, 0, 1, 1, 2, 2], (6, 5, 1))
  for one in (array, as_references(images[..., None] / 255, [0, 0, 1, 1, 2, 2], (6, 5, 1))):
    np.testing.assert_allclose(one.images, folder.images, atol=1e-4)
    np.testing.assert_array_equal(one.person, folder.person)
    assert one.people == folder.people and one.grouped and one.ordered
  pool = as_references(images, None, (6, 5, 1))
  assert not pool.grouped and len(pool.people) == 6


@pytest.mark.parametrize(
  ("images", "labels", "words"),
  [
    (np.zeros((6, 30)), None, r"of shape \(6, 30\): give a folder, or an array"),
    (np.zeros((6, 5, 6)), None, "load them with its image shape"),
    (np.full((6, 6, 5), 300.0), None, "outside of 0..255"),
    (np.full((6, 6, 5), np.nan), None, "outside of 0..255"),
    (np.ones((3, 6, 5)), [0, 1], "the class of each of the 3 images"),
    (np.ones((3, 6, 5)), [0, 2, 2], "each class from 0 to 2 needs an image"),
    (None, [0, 1], "are the classes of an array"),
  ],
)
def test_references_that_cannot_be_are_refused(images, labels, words):
  with pytest.raises(InputError, match=words):
    as_references(images, labels, (6, 5, 1))
