from __future__ import annotations

from pathlib import Path

import pytest

from peftlab.atomic_files import is_torn, remove_torn, replacing


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


def test_what_a_killed_process_leaves_is_removed(tmp_path: Path):
    for name in ("x", ".x.123", ".lock", "y.4"):
        (tmp_path / name).touch()
    remove_torn(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [".lock", "x", "y.4"]


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
