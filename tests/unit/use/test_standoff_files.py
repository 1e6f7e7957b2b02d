"""Files of entities are whole, or not there."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peftlab.errors import DiskError
from peftlab.tasks.ner import Ner
from peftlab.use.standoff_files import annotate

ENTITY = {"type": "PER", "start": 0, "end": 4}


class FoundEverywhere:
    """A run that finds one entity in each sentence."""

    def __init__(self) -> None:
        self.parts = SimpleNamespace(task=Ner.__new__(Ner), data=SimpleNamespace(format=None))

    def predict(self, sentences: list[str]) -> list[dict[str, Any]]:
        return [{"entities": [ENTITY]} for _ in sentences]


def test_a_file_whose_writing_fails_is_not_there_in_part(tmp_path, monkeypatch):
    def half_written(self: Path, text: str, **options: Any) -> None:
        write(self, text[: len(text) // 2], **options)
        raise OSError(errno.ENOSPC, "full")

    (tmp_path / "a.txt").write_text("Anna came. Otto went.")
    run: Any = FoundEverywhere()
    with monkeypatch.context() as patched:
        write = Path.write_text
        patched.setattr(Path, "write_text", half_written)
        with pytest.raises(DiskError, match=r"out/a.ann: cannot be written.*another --standoff"):
            list(annotate(run, [str(tmp_path)], tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []
    assert list(annotate(run, [str(tmp_path)], tmp_path / "out")) == [tmp_path / "out" / "a.ann"]
    assert (tmp_path / "out" / "a.ann").read_text() == "T1\tPER 0 4\tAnna\nT2\tPER 11 15\tOtto\n"
    assert (tmp_path / "out" / "a.txt").read_text() == "Anna came. Otto went."
