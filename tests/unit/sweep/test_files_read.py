"""What a process reads: noted by Python itself, in an interpreter of its own, since its hooks stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from peftlab.sweep.files_read import _state, are_unchanged

READS = """
import json, os, sys
from pathlib import Path
from peftlab.sweep.files_read import FilesRead
files = FilesRead(["installed", sys.prefix, sys.base_prefix])
for name in ("data.txt", "./data.txt", "installed/code.py"):
    Path(name).read_text()
Path("written.txt").write_text("a")
os.close(os.open("low.txt", os.O_RDONLY))
open(os.devnull).close()
try:
    open("missing.txt")
except FileNotFoundError:
    pass
list(Path("folder").glob("*"))
sys.path.insert(0, os.getcwd())
try:
    import nothing_of_this_name
except ImportError:
    import importlib.metadata
    list(importlib.metadata.distributions())
if sys.argv[1:]:
    Path("written.txt").read_text()
print(json.dumps(files.states()))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("data.txt", "low.txt", "folder/one.txt", "installed/code.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a")
    for path in tmp_path.rglob("*"):
        os.utime(path, (1000, 1000))
    return tmp_path


def reads(place: Path, *arguments: str) -> dict[str, list[int]] | None:
    command = [sys.executable, "-c", READS, *arguments]
    ended = subprocess.run(command, cwd=place, check=True, capture_output=True, text=True)
    return json.loads(ended.stdout)


def states_now(place: Path) -> dict[str, tuple[int, ...]]:
    """Return the same without another interpreter."""
    return {str(place / name): _state(str(place / name)) for name in ("data.txt", "low.txt", "missing.txt", "folder")}


def test_what_is_opened_to_read_and_what_is_listed_counts(place):
    states = reads(place)
    assert {str(Path(name).relative_to(place)) for name in states} == {"data.txt", "low.txt", "missing.txt", "folder"}
    assert are_unchanged(states)
    for name, change in (
        ("data.txt", lambda: (place / "data.txt").write_text("bc")),
        ("data.txt", lambda: os.utime(place / "data.txt", (2000, 2000))),
        ("low.txt", (place / "low.txt").unlink),
        ("missing.txt", lambda: (place / "missing.txt").write_text("a")),
        ("folder", lambda: (place / "folder" / "two.txt").write_text("a")),
    ):
        before = states_now(place)
        change()
        assert not are_unchanged(before), name
        assert are_unchanged({other: state for other, state in before.items() if not other.endswith(name)})


def test_what_has_just_been_changed_is_not_sure_to_stay(place):
    assert reads(place, "also what was written") is None
