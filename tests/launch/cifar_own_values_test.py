"""launch.cifar with images and an optimiser of the user's own."""

import json

import numpy as np
import pytest
from PIL import Image

from helpers import plant
from jaxinv.runs.files import read_npz
from launch import cifar
from launch.run import _parse

pytestmark = pytest.mark.usefixtures("undrawn")

_MODULE = """
import flax.linen as nn
import numpy as np
import optax
import jaxinv
from helpers import plant

def grey():
  return plant(num_classes=3, per_class=15, shape=(8, 12))

def few():
  return plant(num_classes=3, per_class=3, shape=(8, 8, 3))

def unscaled():
  data = grey()
  return data._replace(inputs=data.inputs * 255)

def features():
  return grey()._replace(image_shape=None)

def descend(hyper):
  return optax.sgd(hyper.learning_rate)

class Net(nn.Module):
  num_classes: int
  image_shape: tuple

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.Conv(4, (3, 3))(x.reshape(-1, *self.image_shape))
    x = nn.BatchNorm(not train)(x).reshape(len(x), -1)
    return nn.Dense(self.num_classes)(x)

def wide(num_classes):
  return nn.Dense(num_classes + 1)

def narrow(num_classes):
  return Net(num_classes, (5, 5, 1))

linear = nn.Dense(3)
number = 3
"""
# Untrained networks: what takes longest to compile is a training step.
_SMALL = (
  *("--epochs=0", "--num_seeds=1", "--batch_size=8", "--inversion=pgd:steps=2", "--restarts=2"),
  *("--candidates=0.5", "--attack_images=4", "--attack_steps=1", "--attack_restarts=1"),
  "--arm=own:width_factor=0.0625,optimizer=sgd",
  "--verifier=judge:model=resnet8,width_factor=0.0625",
)


@pytest.fixture
def module(tmp_path, monkeypatch):
  """A module of the user's own in the current folder."""
  (tmp_path / "mine_for_cifar.py").write_text(_MODULE)
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(str(tmp_path))
  return "mine_for_cifar"


@pytest.fixture
def folder(tmp_path):
  """Two classes of ten coloured images, 10 x 12 pixels."""
  for name in ("cat", "dog"):
    (tmp_path / "images" / name).mkdir(parents=True)
    for i, pixels in enumerate(plant(2, 5, (10, 12, 3)).inputs.reshape(-1, 10, 12, 3)):
      Image.fromarray((255 * pixels).astype(np.uint8)).save(tmp_path / "images" / name / f"{i}.png")
  return tmp_path / "images"


def run(*arguments, flags=_SMALL):
  return cifar.main([*flags, *arguments])


def test_grey_images_of_the_user_s_own_function_are_trained_on_inverted_and_shown(module, tmp_path):
  flags = [it for it in _SMALL if "--arm" not in it]
  flags += [f"--arm=own:model={module}:Net,optimizer={module}:descend"]
  assert run(f"--dataset={module}:grey", "--out_dir=run", flags=flags) == 0
  weights = read_npz(tmp_path / "run" / "weights" / "own.npz")
  # A network of the user's own is told the images' shape, and its kernels are found and shown.
  assert weights["params/network/Conv_0/kernel"].shape == (1, 3, 3, 1, 4)
  assert weights["batch_stats/network/BatchNorm_0/mean"].shape == (1, 4)
  images = read_npz(tmp_path / "run" / "recovered" / "own.npz")["pgd"]
  assert images.shape == (1, 3, 2, 8, 12, 1) and np.isfinite(images).all()
  config = json.loads((tmp_path / "run" / "config.json").read_text())
  assert config["flags"]["dataset"] == f"{module}:grey"
  page = (tmp_path / "run" / "report.html").read_text()
  # A fifth of 15 a class.
  assert "36 training images and 9 test images" in page and "20% of each class" in page
  assert "has 3 x 3 x 1 values" in page


def divided(*arguments):
  _parse(cifar.FLAGS, [*_SMALL, *arguments])
  return cifar._load()


def test_a_folder_s_images_are_resized_and_divided_by_the_root_seed(folder):
  train, test = divided(f"--dataset=folder:{folder}", "--resolution=8")
  assert train.image_shape == test.image_shape == (8, 8, 3) and train.names == ("cat", "dog")
  np.testing.assert_array_equal(np.bincount(train.labels), [8, 8])
  np.testing.assert_array_equal(np.bincount(test.labels), [2, 2])
  again = divided(f"--dataset=folder:{folder}", "--resolution=8")
  np.testing.assert_array_equal(test.inputs, again.test.inputs)
  others = [
    divided(f"--dataset=folder:{folder}", "--resolution=8", f"--seed={seed}") for seed in (1, 2, 3)
  ]
  assert any((test.inputs != other.test.inputs).any() for other in others)


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (("--dataset={}:unscaled",), "scale bytes by 255"),
    (("--dataset={}:features",), "--dataset: networks need images"),
    (("--dataset={}:few",), "candidate"),
    (("--dataset={}:missing",), "has no 'missing'"),
    (("--dataset={}:number",), "--dataset: "),
    (("--dataset=folder:nowhere",), "nowhere"),
    (("--dataset={}:grey", "--resolution=8"), "--resolution is for --dataset=folder:PATH"),
    (("--dataset={}:grey", "--download"), "--download"),
    (("--dataset={}:grey", "--inversion=x:scales=8-1"), "--inversion x: scales: blocks of 8"),
    (("--dataset={}:grey", "--arm=a:optimizer={}:number"), "--arm a: optimizer"),
    (("--dataset={}:grey", "--arm=a:optimizer={}:missing"), "has no 'missing'"),
    (("--dataset={}:grey", "--arm=a:model={}:missing"), "--arm a: model: mine_for_cifar has no"),
    (("--dataset={}:grey", "--arm=a:model={}:number"), "gives a int, not a Flax module"),
    (
      ("--dataset={}:grey", "--arm=a:model={}:few"),
      "mine_for_cifar:few(3): TypeError: few() takes",
    ),
    (("--dataset={}:grey", "--arm=a:model={}:wide"), "outputs of shape (1, 4): need (1, 3) logits"),
    (("--dataset={}:grey", "--arm=a:model={}:narrow"), "cannot take images of 96 values"),
    (("--dataset={}:grey", "--arm=a:model={}:linear,norm=batch"), "leave it out for mine_for"),
    (("--dataset={}:grey", "--verifier=a:model={}:wide"), "the verifier: the model gives"),
  ],
)
def test_what_cannot_be_used_is_one_line_and_writes_nothing(
  arguments, said, module, tmp_path, capsys
):
  assert run(*(it.format(module) for it in arguments), "--out_dir=run") == 1
  line = capsys.readouterr().err
  assert line.startswith("error: ") and line.count("\n") == 1 and said in line, line
  assert not (tmp_path / "run").exists()
