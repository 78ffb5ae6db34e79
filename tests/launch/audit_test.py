"""launch.audit: in process, and once as a real command."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted_leaves import leaf_pictures

from jaxinv import load_att
from launch import audit

ROOT = Path(__file__).resolve().parents[2]
SIZE = (24, 20)


def portraits(num, seed=0):
  """Smooth images in 0..255, one a person."""
  noise = np.random.default_rng(seed).standard_normal((num, *SIZE))
  images = noise.cumsum(1).cumsum(2)
  low, high = images.min((1, 2), keepdims=True), images.max((1, 2), keepdims=True)
  return 255 * (images - low) / (high - low)


def softmax_weights(images, noise, seed=1):
  """Weights as training leaves them: what sets a class apart, on top of the initial noise."""
  apart = (images - images.mean(0)).reshape(len(images), -1) / 255
  start = noise * np.random.default_rng(seed).standard_normal(apart.shape)
  return (start + 0.5 * apart).astype(np.float32), start.astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """A model of twelve people, its initial weights, photographs of them and of others."""
  folder = tmp_path_factory.mktemp("weights")
  weights, start = softmax_weights(portraits(12), 0.05)
  bias = np.zeros(12, np.float32)
  np.savez(folder / "model.npz", coef_=weights, intercept_=bias)
  np.savez(folder / "init.npz", coef_=start, intercept_=bias)
  for which, seed in (("them", 0), ("others", 90)):
    for i, image in enumerate(portraits(12, seed)):
      for k, shift in enumerate((-6, 0, 6)):
        path = folder / which / f"p{i}" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image + shift).clip(0, 255).astype(np.uint8)).save(path)
  return folder


def run(files, out_dir, *extra, weights="model.npz"):
  shape = f"--image_shape={SIZE[0]},{SIZE[1]}"
  return audit.main([f"--weights={files / weights}", shape, f"--out_dir={out_dir}", *extra])


@pytest.fixture(scope="module")
def done(files, tmp_path_factory):
  out_dir = tmp_path_factory.mktemp("audits") / "full"
  extra = (f"--init_weights={files / 'init.npz'}", f"--reference={files / 'them'}")
  assert run(files, out_dir, *extra) == 0
  return out_dir


def test_the_folder_holds_what_is_documented(done):
  found = json.loads((done / "audit.json").read_text())
  assert found["verdict"]["structure"] is True and found["verdict"]["match"] is True
  assert [it["attack"] for it in found["findings"]] == ["reshape", "init_diff", "class_centred"]
  assert {it["name"]: it["use"] for it in found["tensors"]} == {
    "coef_": "images",
    "intercept_": "bias",
  }
  assert found["measures"]["init_diff"]["ncc_centred"] > 0.99
  assert found["measures"]["init_diff"]["identification"] == 1
  config = json.loads((done / "config.json").read_text())
  assert config["complete"] and len(config["weights"]) == 2
  page = (done / "report.html").read_text()
  assert "http" not in page.replace("http://www.w3.org", "") and "data:image/png" in page


def test_what_is_recovered_is_the_weights_as_images(done, files):
  with np.load(files / "model.npz") as model, np.load(done / "recovered.npz") as recovered:
    images = recovered["coef_/class/reshape"]
    np.testing.assert_array_equal(images, model["coef_"].reshape(12, *SIZE, 1))
    np.testing.assert_array_equal(recovered["coef_/class/reshape/kept"], np.arange(12))


def test_a_pipeline_fails_where_it_asks_to(files, tmp_path):
  strangers, people = (f"--reference={files / which}" for which in ("others", "them"))
  assert run(files, tmp_path / "a", "--fail_on=structure") == audit.FOUND == 3
  assert run(files, tmp_path / "b", "--fail_on=match", people) == 3
  assert run(files, tmp_path / "c", "--fail_on=match", strangers) == 0
  assert run(files, tmp_path / "d", "--fail_on=structure,match", strangers) == 3
  rng = np.random.default_rng(3)
  np.savez(tmp_path / "noise.npz", coef_=rng.standard_normal((12, 480)).astype(np.float32))
  gate = ("--fail_on=structure,match", people)
  assert run(tmp_path, tmp_path / "e", *gate, weights="noise.npz") == 0


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
  """An MLP of six people with a photograph each before and after training; and photographs."""
  folder, rng = tmp_path_factory.mktemp("mlp"), np.random.default_rng(4)
  pictures = leaf_pictures(12, SIZE)
  start = 0.1 * rng.standard_normal((480, 32))
  # As large as the initial weights: no unit shows anybody by itself.
  given = 0.02 * rng.standard_normal((6, 32))
  behind = rng.standard_normal((32, 6)).astype(np.float32)
  for name, kernel, bias in (
    ("model", start + pictures[:6].reshape(6, -1).T @ given, given.sum(0)),
    ("init", start, np.zeros(32)),
  ):
    arrays = {"0/kernel": kernel, "0/bias": bias, "1/kernel": behind}
    np.savez(folder / f"{name}.npz", **{key: it.astype(np.float32) for key, it in arrays.items()})
  for which, some in (("them", pictures[:6]), ("others", pictures[6:])):
    for i, picture in enumerate(some):
      path = folder / which / f"p{i}" / "0.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray((255 * picture).astype(np.uint8)).save(path)
  return folder


def test_what_training_changed_is_unmixed(mlp, tmp_path, capsys):
  init, gate = f"--init_weights={mlp / 'init.npz'}", "--fail_on=match"
  assert run(mlp, tmp_path / "a", init, gate, f"--reference={mlp / 'them'}") == audit.FOUND
  assert "0/kernel since the initial weights is made of 6 images" in capsys.readouterr().out
  told = json.loads((tmp_path / "a" / "audit.json").read_text())
  assert told["verdict"]["match"] is True
  unmixed = told["unmixed"]
  assert (unmixed["tensor"], unmixed["photographs"], unmixed["matched"]) == ("0/kernel", 6, 6)
  assert unmixed["certain"] and unmixed["cliff"] > 10 and unmixed["stability"] > 0.9
  assert sorted(it["nearest"] for it in unmixed["images"]) == [f"p{i}/0.png" for i in range(6)]
  with np.load(tmp_path / "a" / "recovered.npz") as recovered:
    assert recovered["0/kernel/photograph/unmixed"].shape == (6, *SIZE, 1)
    assert recovered["0/kernel/photograph/unmixed/stability"].shape == (6,)
  assert "Single images, unmixed" in (tmp_path / "a" / "report.html").read_text()


def test_what_was_unmixed_is_nobody_else_and_is_not_there_without_earlier_weights(mlp, tmp_path):
  init, others = f"--init_weights={mlp / 'init.npz'}", f"--reference={mlp / 'others'}"
  assert run(mlp, tmp_path / "b", init, "--fail_on=match", others) == 0
  told = json.loads((tmp_path / "b" / "audit.json").read_text())
  assert told["unmixed"]["photographs"] == 6 and told["unmixed"]["matched"] == 0
  assert run(mlp, tmp_path / "c", others) == 0
  assert json.loads((tmp_path / "c" / "audit.json").read_text())["unmixed"] is None
  with np.load(tmp_path / "c" / "recovered.npz") as recovered:
    assert not any("unmixed" in name for name in recovered)


def test_several_models_are_averaged(files, tmp_path):
  other, _ = softmax_weights(portraits(12), 0.05, seed=8)
  np.savez(tmp_path / "other.npz", coef_=other, intercept_=np.zeros(12, np.float32))
  out_dir = tmp_path / "out"
  assert run(files, out_dir, f"--weights={tmp_path / 'other.npz'}", "--attack=seed_mean") == 0
  with np.load(files / "model.npz") as model, np.load(out_dir / "recovered.npz") as recovered:
    mean = (model["coef_"] + other).reshape(12, *SIZE, 1) / 2
    np.testing.assert_allclose(recovered["coef_/class/seed_mean"], mean, atol=1e-6)


def test_coloured_images_are_drawn_in_colour(tmp_path):
  rng = np.random.default_rng(5)
  images = rng.standard_normal((6, 12, 10, 3)).cumsum(1).cumsum(2)
  np.savez(tmp_path / "model.npz", coef_=images.reshape(6, -1).astype(np.float32))
  for i, image in enumerate(images):
    grey = 255 * (image - image.min()) / np.ptp(image)
    (tmp_path / "them" / f"p{i}").mkdir(parents=True)
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "them" / f"p{i}" / "0.png")
  arguments = [f"--weights={tmp_path / 'model.npz'}", "--image_shape=12,10,3", "--layout=hwc"]
  arguments += [f"--reference={tmp_path / 'them'}", f"--out_dir={tmp_path / 'out'}"]
  assert audit.main(arguments) == 0
  found = json.loads((tmp_path / "out" / "audit.json").read_text())
  assert found["image_shape"] == [12, 10, 3]
  assert found["measures"]["reshape"]["identification"] == 1
  with np.load(tmp_path / "out" / "recovered.npz") as recovered:
    np.testing.assert_allclose(recovered["coef_/class/reshape"], images, rtol=1e-6)
  drawn = np.asarray(Image.open(tmp_path / "out" / "figures" / "clearest.png").convert("RGB"))
  assert (np.ptp(drawn.astype(int), axis=-1) > 40).mean() > 0.05


OWN = """
from jaxinv import Attack

def recover(release, image_shape):
  return -release.params["layer_0"]["kernel"].T.reshape(-1, *image_shape)

negative = Attack("negative", recover, per_unit=True, words="-W", how="the weights as a negative")
"""


def test_an_attack_of_the_users_own_is_named_by_its_module(files, tmp_path, monkeypatch, capsys):
  (tmp_path / "my_audit_attack.py").write_text(OWN)
  monkeypatch.chdir(tmp_path)
  out_dir = tmp_path / "out"
  assert run(files, out_dir, "--attack=reshape,my_audit_attack:negative") == 0
  with np.load(out_dir / "recovered.npz") as recovered:
    both = [recovered[f"coef_/class/{name}"] for name in ("reshape", "negative")]
  np.testing.assert_array_equal(both[0], -both[1])
  found = json.loads((out_dir / "audit.json").read_text())
  assert [it["attack"] for it in found["findings"]] == ["reshape", "negative"]
  assert "the weights as a negative" in (out_dir / "report.html").read_text()
  assert run(files, tmp_path / "no", "--attack=my_audit_attack:recover") == 1
  assert "--attack" in capsys.readouterr().err


def test_the_order_of_the_classes_can_be_given(files, tmp_path):
  names = [f"p{i}" for i in range(12)]
  people = f"--reference={files / 'them'}"
  assert run(files, tmp_path / "a", people, f"--classes={','.join(names)}") == 0
  assert run(files, tmp_path / "b", people, f"--classes={','.join(names[::-1])}") == 0
  right, wrong = (json.loads((tmp_path / it / "audit.json").read_text()) for it in "ab")
  assert right["measures"]["reshape"]["identification"] > 0.9
  assert wrong["measures"]["reshape"]["identification"] < 0.5
  # Who is seen does not depend on the order in which the people are named.
  seen = [[u["person"] for u in it["findings"][0]["units"]] for it in (right, wrong)]
  assert sorted(seen[0]) == sorted(seen[1])


def test_a_complete_audit_is_refused_and_overwritten_only_when_asked(files, tmp_path, capsys):
  assert run(files, tmp_path / "out") == 0
  first = (tmp_path / "out" / "audit.json").read_text()
  assert run(files, tmp_path / "out") == 1
  assert "holds a complete run" in capsys.readouterr().err
  assert run(files, tmp_path / "out", "--overwrite") == 0
  again = (tmp_path / "out" / "audit.json").read_text()
  assert again.replace(" --overwrite", "") == first


def test_files_of_somebody_else_are_not_replaced(files, tmp_path, capsys):
  (tmp_path / "audit.json").write_text("mine")
  assert run(files, tmp_path) == 1
  assert "no config.json that says whose it is" in capsys.readouterr().err
  assert (tmp_path / "audit.json").read_text() == "mine"


class _Bomb:
  """Unpickled, it leaves a file behind."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return (Path.touch, (self.path,))


@pytest.mark.parametrize(
  ("extra", "words"),
  [
    (["--image_shape="], "--image_shape: give height and width"),
    (["--image_shape=24"], "--image_shape: give height and width"),
    (["--image_shape=24,x"], "'x' is not a whole number"),
    (["--image_shape=24,21"], "no tensor fits images of 24 x 21 x 1 = 504 values"),
    (["--weights=missing.npz"], "missing.npz"),
    (["--fail_on=leak"], "'leak' is neither structure nor match"),
    (["--fail_on=match"], "give --reference"),
    (["--reference=nowhere"], "nowhere"),
    (["--classes=a,b"], "give that too"),
    (["--alpha=0"], "alpha is 0"),
    (["--alpha=nan"], "alpha"),
    (["--attack=magic"], "unknown attack 'magic'"),
    (["--attack=update_ratio"], "--previous_weights"),
    (["--path=encoder"], "begins with 'encoder': there are coef_"),
    (["--layout=zigzag"], "layout"),
  ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(extra, words, files, tmp_path, capsys):
  assert run(files, tmp_path / "out", *extra) == 1
  said = capsys.readouterr().err
  assert words in said and said.count("\n") == 1 and said.startswith("error: ")
  assert not (tmp_path / "out").exists()


def test_weights_that_cannot_be_used_get_one_line(files, tmp_path, capsys):
  marker = tmp_path / "unpickled"
  bad = {
    "empty.npz": b"",
    "pickle.safetensors": pickle.dumps(_Bomb(marker)),
    "cut.npz": (files / "model.npz").read_bytes()[:-300],
    "text.pt": b"these are no weights",
  }
  for name, content in bad.items():
    (tmp_path / name).write_bytes(content)
    assert run(tmp_path, tmp_path / "out", weights=name) == 1
    said = capsys.readouterr().err
    assert name in said and said.count("\n") == 1
  weights = np.zeros((12, 480), np.float32)
  weights[3, 7] = np.nan
  np.savez(tmp_path / "nan.npz", coef_=weights)
  assert run(tmp_path, tmp_path / "out", weights="nan.npz") == 1
  assert "coef_ holds NaN or infinite values" in capsys.readouterr().err
  assert not marker.exists() and not (tmp_path / "out").exists()


def test_the_real_command_runs_and_its_errors_have_no_traceback(files, tmp_path):
  command = [sys.executable, "-m", "launch.audit", f"--weights={files / 'model.npz'}"]
  command += [f"--out_dir={tmp_path / 'out'}"]
  # With the usual shape of warnings and devices, not those of this process.
  good = [*command, "--image_shape=24,20", "--fail_on=structure"]
  done = subprocess.run(good, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 3, done.stderr
  assert done.stdout.strip().endswith(f"report: {tmp_path / 'out' / 'report.html'}")
  assert "12 of 12 class images" in done.stdout
  bad = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert bad.returncode == 1 and bad.stderr.startswith("error: --image_shape")
  assert "Traceback" not in bad.stderr and bad.stdout == ""


@pytest.mark.skipif("JAXINV_DATA" not in os.environ, reason="JAXINV_DATA names no real faces")
def test_real_faces_are_found_in_weights_and_not_in_noise(tmp_path):
  dataset = load_att(Path(os.environ["JAXINV_DATA"]))
  for label, name in enumerate(dataset.names):
    (tmp_path / "people" / name).mkdir(parents=True)
    for i, row in enumerate(dataset.inputs[dataset.labels == label]):
      pixels = (255 * row.reshape(dataset.image_shape)).round().astype(np.uint8)
      Image.fromarray(pixels).save(tmp_path / "people" / name / f"{i}.png")
  means = np.stack([dataset.inputs[dataset.labels == k].mean(0) for k in range(40)])
  start = 0.01 * np.random.default_rng(0).standard_normal(means.shape)
  weights = {"trained": start + 0.05 * (means - means.mean(0)), "untrained": start}
  for which, values in weights.items():
    np.save(tmp_path / f"{which}.npy", values.astype(np.float32))
    arguments = [f"--weights={tmp_path / which}.npy", "--image_shape=112,92"]
    arguments += [f"--reference={tmp_path / 'people'}", f"--out_dir={tmp_path / which}"]
    assert audit.main([*arguments, "--fail_on=match"]) == (3 if which == "trained" else 0)
  found = json.loads((tmp_path / "trained" / "audit.json").read_text())
  (reshape, *_) = found["findings"]
  assert reshape["structured"] == 40 and reshape["matched"] >= 38
  seen = {u["index"]: u["person"] for u in reshape["units"] if u["matched"]}
  assert all(person == dataset.names[index] for index, person in seen.items())
