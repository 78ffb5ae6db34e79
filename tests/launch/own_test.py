"""Values of the user's own code by name: found, made for the data, or refused in one line."""

import flax.linen as nn
import pytest

from jaxinv.errors import InputError
from launch.own import own_model

_MODULE = """
import flax.linen as nn

class Folding(nn.Module):
  num_classes: int
  image_shape: tuple

ready = nn.Dense(7)
nothing = lambda num_classes: None
number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
  """A module of the user's own that can be imported."""
  (tmp_path / "mine_for_own.py").write_text(_MODULE)
  monkeypatch.syspath_prepend(str(tmp_path))


def test_a_module_is_taken_and_a_class_is_called_with_classes_and_shape():
  ready = own_model("mine_for_own:ready", "--model", 3)
  assert isinstance(ready, nn.Dense) and ready.features == 7
  made = own_model("mine_for_own:Folding", "--model", 3, (4, 5, 1))
  assert (made.num_classes, made.image_shape) == (3, (4, 5, 1))
  assert own_model("flax.linen:Dense", "--model", 3, (4, 5, 1)) == nn.Dense(3)


@pytest.mark.parametrize(
  ("name", "said"),
  [
    ("number", "mine_for_own:number gives a int, not a Flax module"),
    ("nothing", "mine_for_own:nothing gives a NoneType, not a Flax module"),
    ("Folding", r"mine_for_own:Folding\(3\): TypeError: .*image_shape"),
    ("absent", "mine_for_own has no 'absent'"),
  ],
)
def test_what_is_no_model_is_refused(name, said):
  with pytest.raises(InputError, match=f"^--model: {said}"):
    own_model(f"mine_for_own:{name}", "--model", 3)
