from __future__ import annotations

import os
from pathlib import Path

import pytest

from peftlab.storage.atomic import append, is_torn, remove_abandoned, remove_torn, replacing


def test_a_file_is_put_in_place_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "folder" / "x"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent  # a rename is one step only within a file system
        assert not path.exists()
    assert path.read_text() == "new"
    assert [each.name for each in path.parent.iterdir()] == ["x"]


def test_a_failure_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "x"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        fail(temporary)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError) as told, replacing(tmp_path / "file" / "x"):
        pass
    assert told.value.filename == str(tmp_path / "file")


def test_what_a_killed_process_leaves_is_removed(tmp_path: Path):
    for name in ("x", f".x.{2**120}", ".x.4", ".lock", "y.4"):
        (tmp_path / name).touch()
    remove_torn(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [".lock", ".x.4", "x", "y.4"]


def test_writers_at_once_do_not_meet(tmp_path: Path):
    path = tmp_path / "x"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        for number, temporary in enumerate((first, second)):
            temporary.write_text(str(number))
            assert is_torn(temporary)
            assert is_torn(temporary, "x")
            assert not is_torn(temporary, "y")
    assert path.read_text() == "0"
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("name", [f".x.{2**120}", f".split.safetensors.{2**127}"])
def test_what_was_left_long_ago_goes_when_something_is_written_there(tmp_path: Path, name: str):
    old, new, folder = tmp_path / name, tmp_path / f"{name}4", tmp_path / f"{name}5"
    for path in (old, new, tmp_path / ".hidden", tmp_path / "mine.1"):
        path.write_text("")
    folder.mkdir()
    for path in (old, folder, tmp_path / ".hidden", tmp_path / "mine.1"):
        os.utime(path, (0, 0))
    (folder / "just written").touch()
    os.utime(folder, (0, 0))
    with replacing(tmp_path / "other") as temporary:
        temporary.write_text("")
    kept = {new.name, folder.name, ".hidden", "mine.1", "other"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_hidden_files_of_the_user_stay_where_something_is_written(tmp_path: Path):
    (tmp_path / ".venv-3.12" / "lib").mkdir(parents=True)
    (tmp_path / ".env.1").write_text("all my settings")
    for path in (".venv-3.12/lib", ".venv-3.12", ".env.1"):
        os.utime(tmp_path / path, (0, 0))
    with replacing(tmp_path / "list.csv") as temporary:
        temporary.write_text("")
    assert {path.name for path in tmp_path.iterdir()} == {".venv-3.12", ".env.1", "list.csv"}


def test_a_link_among_it_goes_and_what_it_leads_to_stays(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    link = folder / f".x.{2**120}"
    link.symlink_to(tmp_path / "mine")
    os.utime(link, (0, 0), follow_symlinks=False)
    remove_abandoned(folder)
    assert list(folder.iterdir()) == []
    link.symlink_to(tmp_path / "mine")
    remove_torn(folder)
    assert list(folder.iterdir()) == []
    assert (tmp_path / "mine" / "thesis").exists()


@pytest.mark.parametrize("lay", ["link", "loop", "pipe", "nothing"])
def test_what_is_appended_lands_in_the_file_of_that_name(tmp_path: Path, lay: str):
    (tmp_path / "outside").write_text("all my work")
    path = tmp_path / "x"
    path.write_text("a\n")
    append(path, "b\n", lambda: "unused")
    assert path.read_text() == "a\nb\n"
    path.unlink()
    if lay == "pipe":
        os.mkfifo(path)
    elif lay != "nothing":
        path.symlink_to("outside" if lay == "link" else "x")
    append(path, "c\n", lambda: "a\nb\nc\n")
    assert not path.is_symlink()
    assert path.read_text() == "a\nb\nc\n"
    assert (tmp_path / "outside").read_text() == "all my work"
