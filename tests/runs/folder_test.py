"""The run's folder: refused unless it is this run's, and cleared of nothing but a run."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxinv.errors import InputError
from jaxinv.runs import folder as results


def config(**flags):
  flags = {"steps": 10, "arm": ["a"]} | flags
  return {"command": "launch.faces", "flags": flags, "complete": False}


def begin(folder, **flags):
  return results.open_folder(folder, config(**flags), overwrite=False)


def stored(folder):
  return json.loads((folder / "config.json").read_text())


def test_a_new_folder_is_made_and_holds_the_configuration(tmp_path):
  folder = tmp_path / "deep" / "down"
  assert begin(folder) is False
  assert stored(folder) == config()


def test_an_unfinished_run_goes_on(tmp_path):
  begin(tmp_path)
  (tmp_path / "checkpoints").mkdir()
  assert begin(tmp_path) is True
  assert (tmp_path / "checkpoints").exists()


def test_tuples_are_the_lists_that_they_become(tmp_path):
  begin(tmp_path, arm=("a", "b"))
  assert begin(tmp_path, arm=("a", "b")) is True


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"steps": 20}, r"--steps differs \(10 there, 20 here\)"),
    ({"arm": ["b"]}, r"--arm differs"),
    ({"fresh": 1}, r"--fresh differs \(None there, 1 here\)"),
  ],
)
def test_an_unfinished_run_of_other_settings_is_refused_naming_the_flag(tmp_path, change, message):
  begin(tmp_path)
  with pytest.raises(InputError, match=message) as caught:
    begin(tmp_path, **change)
  assert "\n" not in str(caught.value)
  assert stored(tmp_path) == config()


def test_so_is_one_of_another_command_or_of_other_data(tmp_path):
  begin(tmp_path)
  for change, message in [
    ({"command": "launch.toy"}, "command differs.*launch.faces there, launch.toy here"),
    ({"data": {"sha256": "0"}}, "the data set's contents differs"),
  ]:
    with pytest.raises(InputError, match=message):
      results.open_folder(tmp_path, config() | change, overwrite=False)


def test_flags_that_say_only_where_to_work_may_change(tmp_path):
  begin(tmp_path, data_dir="here")
  other = config(data_dir="there")
  assert results.open_folder(tmp_path, other, overwrite=False, free_flags=["data_dir"]) is True


def test_a_complete_run_is_refused_and_left_as_it_is(tmp_path):
  begin(tmp_path)
  (tmp_path / "checkpoints").mkdir()
  results.finish(tmp_path, config())
  assert stored(tmp_path)["complete"] is True
  assert not (tmp_path / "checkpoints").exists()  # Only resuming needs it.
  with pytest.raises(InputError, match=r"holds a complete run: give --overwrite"):
    begin(tmp_path)
  assert stored(tmp_path)["complete"] is True


@pytest.mark.parametrize(
  "text", ["", "{", "[]", "7", "null", '{"flags": 3}', b"\xff\xfe"], ids=repr
)
def test_a_configuration_that_cannot_be_read_is_refused_and_replaced_only_on_demand(tmp_path, text):
  path = tmp_path / "config.json"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(InputError, match=r"config.json cannot be read.*--overwrite") as caught:
    begin(tmp_path)
  assert "\n" not in str(caught.value)
  assert results.open_folder(tmp_path, config(), overwrite=True) is False
  assert stored(tmp_path) == config()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("below", ["", "/deeper"])
def test_a_path_that_cannot_be_a_folder_is_refused_in_one_line(tmp_path, below, overwrite):
  (tmp_path / "file").write_text("mine")
  folder = Path(f"{tmp_path / 'file'}{below}")
  with pytest.raises(InputError, match=r"cannot write to the folder .*another --out_dir") as caught:
    results.open_folder(folder, config(), overwrite)
  assert "\n" not in str(caught.value)
  assert (tmp_path / "file").read_text() == "mine"


def test_overwrite_removes_all_that_a_run_writes_and_nothing_else(tmp_path):
  begin(tmp_path)
  own = ["metrics.csv", "summary.json", "history.npz", "splits.npz", "report.html"]
  folders = ["recovered", "weights", "figures", "checkpoints"]
  for name in own:
    (tmp_path / name).write_text("old")
  for name in folders:
    (tmp_path / name).mkdir()
    (tmp_path / name / "x.npz").write_text("old")
  mine = {"notes.txt": "mine", "metrics.csv.bak": "mine", "more/metrics.csv": "mine"}
  (tmp_path / "more").mkdir()
  for name, text in mine.items():
    (tmp_path / name).write_text(text)
  assert results.open_folder(tmp_path, config(steps=99), overwrite=True) is False
  assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
    ["config.json", "notes.txt", "metrics.csv.bak", "more"]
  )
  assert all((tmp_path / name).read_text() == text for name, text in mine.items())
  assert stored(tmp_path) == config(steps=99)


def test_overwrite_does_not_follow_links_out_of_the_folder(tmp_path):
  outside, folder = tmp_path / "outside", tmp_path / "run"
  outside.mkdir()
  (outside / "precious").write_text("mine")
  begin(folder)
  (folder / "weights").symlink_to(outside)
  results.open_folder(folder, config(), overwrite=True)
  assert (outside / "precious").read_text() == "mine"
  assert not (folder / "weights").exists()


def test_a_removal_that_is_cut_short_still_tells_whose_the_rest_is(tmp_path, monkeypatch):
  begin(tmp_path)
  (tmp_path / "checkpoints").mkdir()

  def interrupted(path):
    raise KeyboardInterrupt

  monkeypatch.setattr(results.shutil, "rmtree", interrupted)
  with pytest.raises(KeyboardInterrupt):
    results.open_folder(tmp_path, config(steps=99), overwrite=True)
  assert stored(tmp_path) == config()  # The checkpoints are not taken for those of 99 steps.


def test_a_row_is_a_measurement_and_what_is_not_finite_has_none(tmp_path):
  values = np.array([0.5, np.nan, 1 / 3])
  arms = {"a": {"reshape": {"ncc": values}, "seed_mean": {"ncc": np.array([np.inf])}}}
  results.write_metrics(tmp_path, arms | {"b": {"seed_mean": {"ssim": np.array([-2.0])}}})
  assert (tmp_path / "metrics.csv").read_text().splitlines() == [
    "arm,seed,attack,metric,value",
    "a,0,reshape,ncc,0.5",
    "a,2,reshape,ncc,0.333333333",
    "b,-1,seed_mean,ssim,-2",
  ]


def test_the_configuration_describes_flags_versions_device_and_data(planted):
  made = results.configuration("launch.faces", {"steps": 3}, planted)
  assert made["flags"] == {"steps": 3} and made["complete"] is False
  assert {"python", "jax", "jaxlib", "optax", "flax", "numpy"} <= set(made["versions"])
  assert made["device"]["count"] >= 1 and made["precision"]
  assert made["data"]["examples"] == 40 and made["data"]["image_shape"] == [13, 11]
  json.dumps(made)
  other = planted._replace(labels=planted.labels[::-1].copy())
  assert results.configuration("x", {}, other)["data"]["sha256"] != made["data"]["sha256"]


def test_checkpoints_that_nobody_owns_are_refused(tmp_path):
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(InputError, match=r"no config\.json"):
    results.open_folder(tmp_path, {"command": "launch.faces", "flags": {}}, overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_under_the_hands_of_a_process_at_work_nothing_is_removed_or_written(tmp_path, overwrite):
  results.open_folder(tmp_path, config(), overwrite=False)
  (tmp_path / "checkpoints").mkdir()
  (tmp_path / "checkpoints" / "group.npz").write_bytes(b"hours of work")
  before = (tmp_path / "config.json").read_bytes()
  asked = config(steps=99) if overwrite else config()
  with results.working_in(tmp_path), pytest.raises(InputError, match="another process is at work"):
    results.open_folder(tmp_path, asked, overwrite)
  assert (tmp_path / "checkpoints" / "group.npz").read_bytes() == b"hours of work"
  assert (tmp_path / "config.json").read_bytes() == before
  assert results.open_folder(tmp_path, asked, overwrite) is not overwrite
