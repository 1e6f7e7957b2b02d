"""Arguments that commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from peftlab.terminal.arguments import file_to_write, folder_to_write


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for taken, said in (
        ("folder", "folder' is a folder; name a file"),
        ("file/x/y", "file' is a file, where a folder"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=said):
            file_to_write(str(tmp_path / taken))
    for taken in ("file", "file/x"):
        with pytest.raises(argparse.ArgumentTypeError, match="file' is a file, where a folder is wanted; name another"):
            folder_to_write(str(tmp_path / taken))


@pytest.mark.parametrize("name", ["x", "file", "folder/x", "new/x", "x" * 300])
def test_other_places_are_left_to_whoever_writes_there(tmp_path: Path, monkeypatch, name: str):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    assert file_to_write(name) == Path(name)
    assert name == "file" or folder_to_write(name) == Path(name)
