"""A run folder against its record: what is gone, changed or not listed is found, and a run is not used with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftlab.errors import UserError
from peftlab.runs.folder import CONFIG, RunFolder
from peftlab.runs.identity import identity
from peftlab.runs.record import RunRecord
from peftlab.use.unchanged import Change, changes, check_unchanged, config_sha256, files

SETTINGS = {"seed": 0, "peft": {"r": 16}}


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    """Return the folder of a completed run with an adapter of two files."""
    made = identity(SETTINGS, {"train": "d"}, "w")
    record = RunRecord.start(tmp_path, run_id="r", name="n", command=[], overrides=[], identity=made)
    for name in ("adapter/weights", "adapter/labels", "predictions/test.jsonl", "notes", CONFIG):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    for name in ("adapter/weights", "adapter/labels", "predictions/test.jsonl", CONFIG):
        record.add_file(name)
    record.finish("completed")
    return RunFolder(record)


def present(folder: RunFolder):
    return files(folder.path, [file["path"] for file in folder.record.data["files"]])


def test_what_is_as_it_was_left(folder):
    assert present(folder).keys() == {"adapter/weights", "adapter/labels", "predictions/test.jsonl", CONFIG}
    assert list(changes(folder.record.data["files"], present(folder))) == []
    assert config_sha256(folder.record.data, SETTINGS) == folder.record.data["identity"]["config_sha256"]
    check_unchanged(folder, SETTINGS)


def test_what_is_not(folder):
    (folder.path / "adapter/weights").unlink()
    (folder.path / "adapter/labels").write_text("others")
    (folder.path / "predictions/more.jsonl").write_text("")
    listed = {file["path"]: file for file in folder.record.data["files"]}
    here = present(folder)
    assert list(changes(folder.record.data["files"], here)) == [
        Change("adapter/weights", listed["adapter/weights"], None),
        Change("adapter/labels", listed["adapter/labels"], here["adapter/labels"]),
        Change("predictions/more.jsonl", None, here["predictions/more.jsonl"]),
    ]
    with pytest.raises(UserError, match="adapter/labels is not what the run has left there"):
        check_unchanged(folder, SETTINGS)


@pytest.mark.parametrize("name", ["adapter/more", "adapter/inner/more"])
def test_a_file_more_in_the_adapter(folder, name):
    (folder.path / name).parent.mkdir(exist_ok=True)
    (folder.path / name).write_text("")
    with pytest.raises(UserError, match=f"{name} is not what the run has left there"):
        check_unchanged(folder, SETTINGS)


def test_the_configuration_is_that_of_the_identity_or_the_file_is_that_of_the_run(folder):
    """Its secrets are masked in the file, and so it may be another text than the one that the identity is of."""
    other = SETTINGS | {"seed": 1}
    check_unchanged(folder, other)
    (folder.path / CONFIG).write_text("changed")
    check_unchanged(folder, SETTINGS)
    with pytest.raises(UserError, match=f"{CONFIG} is not the configuration of its record"):
        check_unchanged(folder, other)


def test_a_list_without_the_adapter(folder, caplog):
    folder.record.data["files"] = [file for file in folder.record.data["files"] if file["path"] == CONFIG]
    with pytest.raises(UserError, match="the list of files in its record is not that of a completed run"):
        check_unchanged(folder, SETTINGS)
    folder.record.data["status"] = "running"
    check_unchanged(folder, SETTINGS)
    assert "its record has no digests of the adapter" in caplog.text


def test_other_files_of_the_folder_are_not_looked_at(folder):
    Path(folder.path / "predictions/test.jsonl").write_text("changed")
    (folder.path / "notes").write_text("changed")
    check_unchanged(folder, SETTINGS)
