"""The run's folder: refused unless it is this run's, and cleared of nothing but a run."""

import json
from pathlib import Path

import pytest

from jaxinv.errors import InputError
from jaxinv.runs import files, manifest
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


DAMAGED = pytest.mark.parametrize(
  "text", ["", "{", "[]", "7", "null", '{"flags": 3}', b"\xff\xfe"], ids=repr
)


@DAMAGED
def test_a_configuration_that_cannot_be_read_is_refused_and_replaced_only_on_demand(tmp_path, text):
  begin(tmp_path)
  path = tmp_path / "config.json"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(InputError, match=r"config.json cannot be read.*--overwrite") as caught:
    begin(tmp_path)
  assert "\n" not in str(caught.value)
  assert results.open_folder(tmp_path, config(), overwrite=True) is False
  assert stored(tmp_path) == config()


@DAMAGED
def test_without_a_manifest_it_is_somebody_elses_and_kept(tmp_path, text):
  raw = text if isinstance(text, bytes) else text.encode()
  (tmp_path / "config.json").write_bytes(raw)
  with pytest.raises(InputError, match=r"config.json (cannot be read|is of no run)") as caught:
    begin(tmp_path)
  assert "--overwrite" not in str(caught.value)
  try:
    results.open_folder(tmp_path, config(), overwrite=True)
  except InputError:
    assert (tmp_path / "config.json").read_bytes() == raw
  else:
    assert (tmp_path / "config.json.before").read_bytes() == raw


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("below", ["", "/deeper"])
def test_a_path_that_cannot_be_a_folder_is_refused_in_one_line(tmp_path, below, overwrite):
  (tmp_path / "file").write_text("mine")
  folder = Path(f"{tmp_path / 'file'}{below}")
  with pytest.raises(InputError, match=r"cannot write to the folder .*another --out_dir") as caught:
    results.open_folder(folder, config(), overwrite)
  assert "\n" not in str(caught.value)
  assert (tmp_path / "file").read_text() == "mine"


OWN = ["metrics.csv", "report.html", "recovered/sgd.npz", "weights/sgd.npz", "figures/people.png"]
CHECKPOINT = "checkpoints/group-00000-of-2/step-00000010/arrays.npz"
FOREIGN = [
  *("notes.txt", "metrics.csv.bak", "more/metrics.csv", "figures/thesis.png", "weights/mine.npz"),
  *("checkpoints/mine.npz", "checkpoints/group-00000-of-2/step-00000010/mine", "recovered/a/b.npz"),
]


def put(folder, names, text):
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def tree(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob("*")
    if path.is_file() and path.name not in ("config.json", manifest.NAME)
  }


def test_overwrite_removes_all_that_the_run_wrote_and_nothing_else(tmp_path):
  begin(tmp_path)
  for name in [*OWN, CHECKPOINT]:
    files.write_text(tmp_path / name, "ours")
  put(tmp_path, FOREIGN, "mine")
  assert results.open_folder(tmp_path, config(steps=99), overwrite=True) is False
  assert tree(tmp_path) == dict.fromkeys(FOREIGN, b"mine")
  assert stored(tmp_path) == config(steps=99)
  assert manifest.read(tmp_path) == ["config.json"]


def test_folders_that_are_left_empty_go_too(tmp_path):
  begin(tmp_path)
  for name in [*OWN, CHECKPOINT]:
    files.write_text(tmp_path / name, "ours")
  results.open_folder(tmp_path, config(), overwrite=True)
  assert {path.name for path in tmp_path.iterdir()} == {"config.json", manifest.NAME}


def test_a_finished_run_drops_its_checkpoints_and_no_others(tmp_path):
  begin(tmp_path)
  for name in ("metrics.csv", CHECKPOINT):
    files.write_text(tmp_path / name, "ours")
  put(tmp_path, ["checkpoints/mine.npz"], "mine")
  results.finish(tmp_path, config())
  assert tree(tmp_path) == {"metrics.csv": b"ours", "checkpoints/mine.npz": b"mine"}
  assert manifest.read(tmp_path) == ["config.json", "metrics.csv"]


@pytest.mark.parametrize("name", ["notes.txt", "checkpoints/x.npz", "figures/a.png", "audit.json"])
def test_a_folder_that_holds_no_run_is_refused_and_never_emptied(tmp_path, name):
  put(tmp_path, [name], "mine")
  with pytest.raises(InputError, match="another --out_dir") as caught:
    begin(tmp_path)
  assert "--overwrite" not in str(caught.value) and "\n" not in str(caught.value)
  assert tree(tmp_path) == {name: b"mine"} and not (tmp_path / "config.json").exists()
  results.open_folder(tmp_path, config(), overwrite=True)
  assert tree(tmp_path) == {name: b"mine"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("text", ['{"name": "mine"}', '{"command": "train", "flags": {"lr": 1}}'])
def test_a_folder_with_somebody_elses_configuration_is_refused_and_untouched(
  tmp_path, text, overwrite
):
  put(tmp_path, ["weights/mine.npz", "metrics.csv"], "mine")
  (tmp_path / "config.json").write_text(text)
  with pytest.raises(InputError, match="is of no run of jaxinv") as caught:
    results.open_folder(tmp_path, config(), overwrite)
  assert "--overwrite" not in str(caught.value)
  assert tree(tmp_path) == {"weights/mine.npz": b"mine", "metrics.csv": b"mine"}
  assert (tmp_path / "config.json").read_text() == text


def test_a_file_in_the_way_that_is_not_the_runs_is_set_aside(tmp_path):
  put(tmp_path, ["audit.json"], "mine")
  results.open_folder(tmp_path, config(), overwrite=True)
  files.write_text(tmp_path / "audit.json", "ours")
  assert tree(tmp_path) == {"audit.json": b"ours", "audit.json.before": b"mine"}
  results.open_folder(tmp_path, config(), overwrite=True)
  assert tree(tmp_path) == {"audit.json.before": b"mine"}


def test_a_run_whose_configuration_is_gone_is_replaced_only_on_demand(tmp_path):
  begin(tmp_path)
  files.write_text(tmp_path / CHECKPOINT, "ours")
  (tmp_path / "config.json").unlink()
  with pytest.raises(InputError, match=r"config\.json is gone: give --overwrite"):
    begin(tmp_path)
  results.open_folder(tmp_path, config(), overwrite=True)
  assert tree(tmp_path) == {}


def test_overwrite_does_not_follow_links_out_of_the_folder(tmp_path):
  outside, folder = tmp_path / "outside", tmp_path / "run"
  outside.mkdir()
  begin(folder)
  (folder / "weights").symlink_to(outside)
  files.write_text(folder / "weights" / "sgd.npz", "ours")
  put(outside, ["precious"], "mine")
  results.open_folder(folder, config(), overwrite=True)
  assert (outside / "precious").read_text() == "mine" and (outside / "sgd.npz").exists()


def test_a_removal_that_is_cut_short_still_tells_whose_the_rest_is(tmp_path, monkeypatch):
  begin(tmp_path)
  files.write_text(tmp_path / CHECKPOINT, "ours")

  def interrupted(path, **_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(Path, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt):
      results.open_folder(tmp_path, config(steps=99), overwrite=True)
  assert stored(tmp_path) == config()  # The checkpoints are not taken for those of 99 steps.
  results.open_folder(tmp_path, config(steps=99), overwrite=True)
  assert tree(tmp_path) == {".lock": b""} or tree(tmp_path) == {}


def test_the_configuration_describes_flags_versions_device_and_data(planted):
  made = results.configuration("launch.faces", {"steps": 3}, planted)
  assert made["flags"] == {"steps": 3} and made["complete"] is False
  assert {"jaxinv", "python", "jax", "jaxlib", "optax", "flax", "numpy"} <= set(made["versions"])
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


def test_a_source_tree_with_changes_is_said_to_have_them(monkeypatch):
  for changed, dirty in [(" M jaxinv/errors.py", True), ("", False), (None, None)]:
    answers = {"rev-parse": "abc", "status": changed}
    monkeypatch.setattr(results, "_git", lambda command, *_, answers=answers: answers[command])
    made = results.configuration("launch.faces", {}, None)
    assert made["git_revision"] == "abc" and made["git_dirty"] is dirty
