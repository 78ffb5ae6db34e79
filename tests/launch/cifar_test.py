"""launch.cifar: files, resuming, bad input; what `training` and `outcome` measure."""

import errno
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.ensemble import groups
from jaxinv.ensemble.groups import Host
from jaxinv.ensemble.seeds import train_keys
from jaxinv.experiments.networks import figures, outcome, recovery
from jaxinv.experiments.networks import files as networks_files
from jaxinv.experiments.networks.settings import draw_masks, model_of, train_config
from jaxinv.experiments.networks.training import TrainedNetwork, plan
from jaxinv.metrics import memorisation
from jaxinv.models.params import unflatten
from jaxinv.runs import files
from launch import cifar, run

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).resolve().parents[2]
_SMALL = (
  *("--num_train=80", "--num_test=20", "--resolution=8", "--epochs=2", "--num_seeds=2"),
  *("--batch_size=16", "--inversion=pgd:steps=3", "--restarts=2", "--candidates=0.4"),
  *("--attack_images=10", "--attack_steps=2", "--record_every=1", "--checkpoint_seconds=0"),
  "--arm=plain:width_factor=0.0625",
  "--arm=robust:width_factor=0.0625,adversary=fgsm_rs,adversary_radius=0.03",
  "--verifier=judge:model=resnet8,norm=batch,width_factor=0.0625",
)


def _run(out_dir: Path, *more: str) -> int:
  return cifar.main([*_SMALL, f"--out_dir={out_dir}", *more])


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Path:
  out_dir = tmp_path_factory.mktemp("cifar") / "run"
  assert _run(out_dir) == 0
  return out_dir


def _metrics(out_dir: Path) -> dict[tuple[str, ...], float]:
  rows = [line.split(",") for line in (out_dir / "metrics.csv").read_text().splitlines()[1:]]
  return {tuple(row[:4]): float(row[4]) for row in rows}


def test_the_files_are_there_and_fit_each_other(ran):
  config = json.loads((ran / "config.json").read_text())
  assert config["complete"] and config["command"] == "launch.cifar"
  assert (ran / "report.html").exists() and not (ran / "checkpoints").exists()
  summary, metrics = json.loads((ran / "summary.json").read_text()), _metrics(ran)
  for arm in ("plain", "robust"):
    images = files.read_npz(ran / "recovered" / f"{arm}.npz")
    assert set(images) == {"pgd"}
    assert images["pgd"].shape == (2, 10, 2, 8, 8, 3)
    assert images["pgd"].min() >= 0 and images["pgd"].max() <= 255
    values = [metrics[arm, str(seed), "pgd", "verifier_accuracy"] for seed in (0, 1)]
    assert summary[arm]["pgd"]["verifier_accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert summary[arm]["pgd"]["verifier_accuracy"]["n"] == 2
  history = files.read_npz(ran / "history.npz")
  np.testing.assert_array_equal(history["plain/step"], [0, 4, 8])


def test_every_number_of_the_model_is_what_its_weights_say(ran):
  """By the weights on disk, and a network built anew."""
  settings, data = _asked(ran)
  model = model_of(settings, settings.arms[0], data)
  stored = files.read_npz(ran / "weights" / "plain.npz")
  metrics = _metrics(ran)
  for seed in range(2):
    variables = unflatten({name: x[seed] for name, x in stored.items()})
    logits = np.asarray(model.apply(variables, jnp.asarray(data.test.inputs)).logits)
    right = (logits.argmax(1) == data.test.labels).mean()
    assert metrics["plain", str(seed), "model", "holdout_accuracy"] == pytest.approx(right)
    first = model.init(jax.random.split(train_keys(0, [seed])[0])[0], jnp.zeros((1, 192)))
    moved, size = (
      np.sqrt(sum(np.square(x).sum() for x in jax.tree.leaves(tree) if x.ndim > 1))
      for tree in (
        jax.tree.map(np.subtract, variables["params"], first["params"]),
        first["params"],
      )
    )
    assert metrics["plain", str(seed), "model", "weight_movement"] == pytest.approx(
      moved / size, rel=1e-5
    )


def test_nearer_to_members_is_recomputed_from_the_images_on_disk(ran):
  settings, data = _asked(ran)
  masks = draw_masks(settings, data.train.labels)
  images = files.read_npz(ran / "recovered" / "robust.npz")["pgd"] / 255
  labels = np.repeat(np.arange(10), 2)
  for seed in range(2):
    similarity = memorisation.pixel_similarity(images[seed].reshape(20, -1), data.train.inputs)
    nearer = []
    for row, label in zip(similarity, labels, strict=True):
      among = np.flatnonzero(masks.candidate & (data.train.labels == label))
      nearer.append(masks.kept[seed, among[row[among].argmax()]])
    result = _metrics(ran)["robust", str(seed), "pgd", "nearer_pixels"]
    assert result == pytest.approx(np.mean(nearer))


def _asked(out_dir: Path):
  """Settings and data of the run, from its flags."""
  run._parse(cifar.FLAGS, [*_SMALL, f"--out_dir={out_dir}"])
  data = cifar._load()
  return cifar._settings(data.train), data


def test_stopped_anywhere_and_gone_on_gives_the_same_bits(ran, tmp_path, monkeypatch):
  out_dir = tmp_path / "stopped"
  real, stops = run.StopSignal.__call__, []

  def stop_often(self):
    # Measuring is the end of it, and begins anew each time: it must not be stopped for ever.
    stops.append(1)
    return (len(stops) % 5 == 0 and len(statuses) < 4) or real(self)

  monkeypatch.setattr(run.StopSignal, "__call__", stop_often)
  statuses = []
  while not statuses or statuses[-1] == run.STOPPED:
    assert len(statuses) < 20
    statuses.append(_run(out_dir))
  assert len(statuses) > 2 and statuses[-1] == 0
  for name in ("metrics.csv", "summary.json"):
    assert (out_dir / name).read_bytes() == (ran / name).read_bytes()
  for name in ("recovered/robust.npz", "weights/robust.npz", "history.npz"):
    ours, theirs = files.read_npz(out_dir / name), files.read_npz(ran / name)
    for key in theirs:
      np.testing.assert_array_equal(ours[key], theirs[key])


def test_processes_that_share_a_run_give_its_numbers(ran, tmp_path):
  """Each trains and inverts its groups; the first then reads them all, and trains none."""
  settings, data = _asked(ran)
  planned = plan(settings, data)
  shares = [planned[process::2] for process in (1, 0)]
  assert all(shares) and sum(map(len, shares)) == len(planned)
  for share in shares:
    cifar._train_and_invert(settings, data, share, tmp_path, Host())
  stop = Host(stop=lambda: True)  # Nothing is left that could be stopped.
  trained, recovered = cifar._train_and_invert(settings, data, planned, tmp_path, stop)
  result = outcome.assemble(settings, data, planned, trained, recovered, Host())
  for arm in ("plain", "robust"):
    ours = result.arms[arm].inverted["pgd"].images.reshape(2, 10, 2, 8, 8, 3)
    theirs = files.read_npz(ran / "recovered" / f"{arm}.npz")["pgd"]
    np.testing.assert_array_equal(255 * ours, theirs)


def test_widths_are_timed_and_nothing_is_written(tmp_path, capsys):
  one = [flag for flag in _SMALL if not flag.startswith("--arm=robust")]
  out_dir = tmp_path / "out"
  assert cifar.main([*one, "--time_widths=1", f"--out_dir={out_dir}"]) == 0
  line = capsys.readouterr().err
  assert line.startswith("plain: width 1: ") and float(line.split()[3]) > 0
  assert not out_dir.exists()


def test_a_complete_run_is_not_replaced(ran, capsys):
  assert _run(ran) == 1
  assert "complete run" in capsys.readouterr().err


@pytest.mark.parametrize(
  "argument, words",
  [
    ("--arm=a:adversary=pgd_l2", "go together"),
    ("--arm=a:adversary_radius=0.5", "go together"),
    ("--arm=a:adversary=pgd", "unknown adversary 'pgd'"),
    ("--arm=a:adversary=pgd_l2,adversary_radius=x", "is not a number"),
    ("--arm=a:depth=3", "unknown key 'depth=3'"),
    ("--arm=a:model=resnet50", "unknown model 'resnet50'"),
    ("--arm=a:width_factor=0", "above 0"),
    ("--arm=a:adversary_steps=1.5", "whole"),
    ("--arm=a/b", "NAME:key=value"),
    ("--arm=PLAIN", "named twice"),
    ("--arm=controls", "the results have 'controls' already"),
    ("--arm=Verifier", "the results have 'verifier' already"),
    ("--verifier=", "--verifier"),
    ("--inversion=magic", "no such preset"),
    ("--inversion=pgd", "named twice"),
    ("--arm=a:optimizer=sgd,momentum=0.5", "no momentum"),
    ("--time_widths=0", "--time_widths"),
    ("--dataset=mnist", "unknown --dataset 'mnist'"),
    ("--dataset=cifar10", "--resolution|--data_dir|no such|is no"),
    ("--resolution=7", "resolution"),
    ("--batch_size=1000", "a batch of 1000"),
    ("--download", "needs no file"),
    ("--candidates=nan", "finite"),
    ("--jax_enable_x64", "--jax_enable_x64 has no meaning"),
    ("--arm=a:adversary_steps=3", "--arm a: adversary_steps needs an adversary"),
    ("--arm=a:width_factor=1e-9", "arm 'a': a width factor"),
    ("--verifier=b:width_factor=1e-9", "the verifier: a width factor"),
  ],
)
def test_bad_input_is_one_line_and_writes_nothing(argument, words, tmp_path, capsys, monkeypatch):
  monkeypatch.setenv("JAXINV_DATA", str(tmp_path / "nowhere"))
  assert _run(tmp_path / "out", argument) == 1
  line = capsys.readouterr().err
  assert line.startswith("error: ") and line.count("\n") == 1
  assert re.search(words, line)
  assert not (tmp_path / "out").exists()


def test_a_network_that_diverged_is_left_out_and_said(ran, tmp_path):
  """One of two seeds has a record that is not finite: its measures are NaN, the other's stand."""
  settings, data = _asked(ran)
  stored = files.read_npz(ran / "weights" / "plain.npz")
  history = files.read_npz(ran / "history.npz")

  def network(seed: int, finite: bool):
    curves = {name: history[f"plain/{name}"][seed] for name in outcome.CURVES}
    curves["finite"] = np.full(3, finite)
    variables = unflatten({name: x[seed] for name, x in stored.items()})
    return TrainedNetwork(variables, history["plain/step"], curves, 0.5)

  settings = replace(settings, arms=settings.arms[:1], verifier=settings.arms[0], width=2)
  groups_of = plan(settings, data)
  judge = network(0, True)
  trained = [[network(0, True), network(1, False)], [judge]]
  recovered = recovery.recover_all(settings, data, groups_of, trained, None, Host())
  assert set(recovered) == {("plain", 0)}
  result = outcome.assemble(settings, data, groups_of, trained, recovered, Host())
  summary = outcome.summarize(result)
  assert summary["plain"]["diverged"] == [1]
  assert summary["plain"]["pgd"]["verifier_accuracy"]["n"] == 1
  networks_files.write(tmp_path, result, {})
  images = files.read_npz(tmp_path / "recovered" / "plain.npz")["pgd"]
  assert np.isfinite(images[0]).all() and np.isnan(images[1]).all()  # As the weights' rows lie.
  trained = [[network(0, False), network(1, True)], [judge]]
  recovered = recovery.recover_all(settings, data, groups_of, trained, None, Host())
  result = outcome.assemble(settings, data, groups_of, trained, recovered, Host())
  networks_files.write(tmp_path, result, {})
  images = files.read_npz(tmp_path / "recovered" / "plain.npz")["pgd"]
  assert np.isnan(images[0]).all() and np.isfinite(images[1]).all()
  grid = figures.grid_figure(result, "pgd")
  assert [axis.get_ylabel() for axis in grid.axes if axis.get_ylabel()][-1] == "plain, model 2"
  (curve,) = figures.curves_figure(result).axes[0].lines
  np.testing.assert_allclose(curve.get_ydata(), history["plain/train_accuracy"][1])
  nobody = [[network(0, False), network(1, False)], [judge]]
  result = outcome.assemble(settings, data, groups_of, nobody, {}, Host())
  summary = outcome.summarize(result)
  assert summary["plain"] == {"diverged": [0, 1]}  # Its accuracies count nowhere either.


def test_a_verifier_that_diverged_checks_nothing_and_is_named(tmp_path, capsys):
  few = [flag for flag in _SMALL if not flag.startswith(("--arm=robust", "--verifier"))]
  wild = "learning_rate=1e9,weight_decay=1e9,optimizer=sgdw,schedule=constant"
  wild = f"--verifier=judge:model=resnet8,norm=group,width_factor=0.0625,{wild}"
  assert cifar.main([*few, wild, f"--out_dir={tmp_path / 'out'}"]) == 1
  assert "the verifier diverged" in capsys.readouterr().err
  assert not (tmp_path / "out" / "summary.json").exists()


def test_a_run_of_other_groups_is_not_gone_on_with(tmp_path, capsys, monkeypatch):
  """Fewer devices make smaller groups, whose networks differ in their last bits."""
  out_dir = tmp_path / "out"
  monkeypatch.setattr(run.StopSignal, "__call__", lambda self: True)
  assert _run(out_dir, "--width=2") == run.STOPPED
  assert _run(out_dir, "--width=1") == 1
  assert "--width differs (2 there, 1 here)" in capsys.readouterr().err


def test_an_arm_s_name_cannot_be_that_of_another_s_images(tmp_path):
  few = [flag for flag in _SMALL if not flag.startswith("--arm=robust")]
  other = "--arm=recovered-plain:width_factor=0.0625"
  assert cifar.main([*few, other, "--epochs=0", f"--out_dir={tmp_path / 'out'}"]) == 0


def test_images_are_shifted_where_they_are_not_mirrored():
  """What is trained is as the flags say; `tests/training/network_test.py` shifts images by it."""
  run._parse(cifar.FLAGS, [*_SMALL, "--noflip", "--shift=1"])
  settings = cifar._settings(cifar._load().train)
  config = train_config(settings, settings.arms[0], 64)
  assert (config.flip, config.shift) == (False, 1)


def test_a_disk_that_is_full_is_said_in_one_line(tmp_path, capsys, monkeypatch):
  def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device", "recovered/plain.npz")

  monkeypatch.setattr(files, "write_npz", full)
  assert _run(tmp_path / "out") == 1
  said = capsys.readouterr().err
  assert said == "error: cannot read or write recovered/plain.npz (No space left on device)\n"


def test_a_finished_group_is_not_taken_for_another(tmp_path):
  said = []
  groups.save_whole(tmp_path / "one.npz", {"x": np.ones(3)})
  for end in (".npz", ".sha256"):
    (tmp_path / f"one{end}").rename(tmp_path / f"other{end}")
  assert groups.load_whole(tmp_path / "other.npz", said.append) is None and len(said) == 1


@pytest.mark.parametrize("damage", ["half", "digest"])
def test_a_damaged_finished_group_is_made_again(tmp_path, damage):
  said = []
  path = tmp_path / "group.npz"
  groups.save_whole(path, {"x": np.ones(100)})
  host = Host(say=said.append)
  assert set(groups.load_whole(path, host.say)) == {"x"}
  if damage == "half":
    path.write_bytes(path.read_bytes()[:50])
  else:
    path.with_suffix(".sha256").write_text("0")
  assert groups.load_whole(path, host.say) is None
  assert len(said) == 1 and "made again" in said[0]


def test_the_real_command_runs(tmp_path):
  command = [sys.executable, "-m", "launch.cifar", *_SMALL, f"--out_dir={tmp_path / 'out'}"]
  # Untrained networks: the training step takes longest to compile, and is compiled above.
  few = [*command, "--num_seeds=1", "--epochs=0"]
  done = subprocess.run(few, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip().endswith(f"report: {tmp_path / 'out' / 'report.html'}")


def test_what_it_writes_may_be_overwritten(ran):
  listed = (ran / "manifest.txt").read_text().splitlines()
  written = {str(path.relative_to(ran)) for path in ran.rglob("*") if path.is_file()}
  assert written - {"manifest.txt"} <= set(listed)
  assert {"weights/plain.npz", "history.npz", "summary.json"} <= written
