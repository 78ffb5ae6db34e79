"""Runs of versions without a manifest: theirs are removed by name, what is beside them stays."""

import json

import pytest

from jaxinv.errors import InputError
from jaxinv.runs import before_manifests, folder, manifest

CONFIG = {
  "command": "launch.study",
  "flags": {"arm": ["sgd", "slow:learning_rate=0.1"]},
  "versions": {"python": "3.11", "jax": "0.10"},
  "device": {},
  "precision": "highest",
  "git_revision": None,
  "engines": {"grid/1": {}},
  "complete": True,
}
OURS = [
  *("metrics.csv", "summary.json", "weights/sgd.npz", "weights/slow.npz", "recovered/targets.npz"),
  *(
    "logits/sgd.untrained.npz",
    "figures/people.png",
    "figures/images_3.png",
    "figures/grid-pgd.png",
  ),
  *("figures/training.gif", "weights/reported.npz", "figures/neighbours-slow.png"),
  *("checkpoints/group-00001-of-3.npz", "checkpoints/cells/group-00001-of-3.sha256"),
  *("checkpoints/sgd-00000-of-1/step-00000010/arrays.npz",),
  *(
    "checkpoints/_recovered-slow-00001-of-2.npz",
    "checkpoints/group-0000000/partial-00000001/sha256.json",
  ),
]
FOREIGN = [
  *("notes.txt", "weights/mine.npz", "figures/thesis.png", "figures/deep/people.png", "data.csv"),
  *("checkpoints/best.npz", "checkpoints/group-00001-of-3/notes.txt", "old/metrics.csv"),
  *("recovered/sgd.npz.bak", "checkpoints/model/step-1/arrays.npz"),
]


@pytest.fixture
def old_run(tmp_path):
  for name in [*OURS, *FOREIGN]:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("x")
  (tmp_path / "summary.json").write_text(json.dumps({"reported": {}}))
  (tmp_path / "config.json").write_text(json.dumps(CONFIG))
  return tmp_path


def test_what_the_run_wrote_is_known_by_name(old_run):
  assert set(before_manifests.files_of(old_run, CONFIG)) == {*OURS, "config.json"}


def test_overwriting_removes_that_and_keeps_the_rest(old_run):
  folder.open_folder(old_run, CONFIG | {"complete": False}, overwrite=True)
  left = {p.relative_to(old_run).as_posix() for p in old_run.rglob("*") if p.is_file()}
  assert left == {*FOREIGN, "config.json", manifest.NAME}


def test_an_unfinished_one_goes_on(old_run):
  config = CONFIG | {"complete": False}
  (old_run / "config.json").write_text(json.dumps(config))
  assert folder.open_folder(old_run, config, overwrite=False) is True
  assert set(manifest.read(old_run)) == {*OURS, "config.json"}


@pytest.mark.parametrize("key", ["command", "versions", "git_revision", "complete"])
def test_a_configuration_without_our_keys_is_somebody_elses(old_run, key):
  config = {name: value for name, value in CONFIG.items() if name != key}
  assert not before_manifests.is_config(config)
  (old_run / "config.json").write_text(json.dumps(config))
  with pytest.raises(InputError, match="of no run"):
    folder.open_folder(old_run, CONFIG, overwrite=True)


def test_links_are_not_followed(old_run, tmp_path_factory):
  outside = tmp_path_factory.mktemp("outside")
  (outside / "sgd.npz").write_text("mine")
  for path in (old_run / "weights").iterdir():
    path.unlink()
  (old_run / "weights").rmdir()
  (old_run / "weights").symlink_to(outside)
  folder.open_folder(old_run, CONFIG, overwrite=True)
  assert (outside / "sgd.npz").read_text() == "mine"
