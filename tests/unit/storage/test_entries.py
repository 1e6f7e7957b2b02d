"""What stands in a run folder: nothing is read or written through what leads elsewhere."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from peftlab.errors import ConfigError, DiskError, UserError
from peftlab.storage.entries import (
    FILES,
    FOLDERS,
    check_own,
    check_readable,
    inside,
    is_inner,
    may_lead_out,
    own_folder,
)


def link_to_file(path: Path) -> None:
    (path.parent.parent / "outside.txt").write_text("mine")
    path.symlink_to(path.parent.parent / "outside.txt")


def link_to_folder(path: Path) -> None:
    path.symlink_to(path.parent.parent)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def loop(path: Path) -> None:
    path.symlink_to(path)


def listen(path: Path) -> None:
    """Leave a socket."""
    here = Path.cwd()
    os.chdir(path.parent)  # its name may be no longer than 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


ODD = [link_to_file, link_to_folder, dangling, loop, os.mkfifo, listen]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "record.json").write_text("{}")
    for name in FOLDERS:
        (folder / name).mkdir()
    return folder


@pytest.mark.parametrize("lay", ODD, ids=lambda lay: lay.__name__)
def test_a_run_does_not_go_on_where_something_else_stands_under_a_name_of_its_own(run, lay):
    for name in (*FILES, *FOLDERS):
        path = run / name
        aside = path.rename(run.parent / "aside") if path.exists() else None
        lay(path)
        with pytest.raises(
            ConfigError, match=rf"^{path} is a .*, where the run keeps a \w+: it does not go on\. Put a"
        ):
            check_own(run)
        path.unlink()
        if aside:
            aside.rename(path)
    check_own(run)


@pytest.mark.parametrize("lay", ODD, ids=lambda lay: lay.__name__)
@pytest.mark.parametrize(
    "name", ["predictions/test.jsonl", "checkpoints/step-1.safetensors", "adapter/x", "tables/a/b"]
)
def test_nor_where_it_stands_within_a_folder_of_its_own(run, name, lay):
    (run / name).parent.mkdir(exist_ok=True)
    lay(run / name)
    with pytest.raises(ConfigError, match=f"^{run / name} is a "):
        check_own(run)


@pytest.mark.parametrize(
    ("name", "is_folder"),
    [
        ("log.txt", True),
        (".lock", True),
        ("record.json", True),
        ("predictions", False),
        ("adapter", False),
        ("checkpoints", False),
        ("predictions/test.jsonl", True),
        ("adapter/adapter_config.json", True),
    ],
)
def test_a_folder_for_a_file_and_a_file_for_a_folder(run, name, is_folder):
    path = run / name
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.mkdir() if is_folder else path.write_text("")
    with pytest.raises(ConfigError, match=f"^{path} is a {'folder' if is_folder else 'file'}, where "):
        check_own(run)


@pytest.mark.parametrize("lay", ODD, ids=lambda lay: lay.__name__)
def test_what_is_the_users_own_is_nobodys_business(run, lay):
    (run / "wandb").mkdir()
    (run / "tracking" / "wandb").mkdir()
    for name in ("notes", "wandb/latest-run", "tracking/wandb/debug.log"):
        lay(run / name)
    check_own(run)
    check_readable(run)


def test_a_run_folder_that_is_reached_through_a_link(run, tmp_path):
    (tmp_path / "disk").symlink_to(run)
    check_own(tmp_path / "disk")
    check_readable(tmp_path / "disk")
    assert inside(tmp_path / "disk", tmp_path / "disk" / "record.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["record.json", "trail.jsonl", "predictions/test.jsonl", "adapter", "packages.txt"])
def test_nothing_is_read_through_a_link_that_leads_out(run, name, monkeypatch):
    path = run / name
    path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    listed, rglob = [], Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: listed.append(self) or rglob(self, pattern))
    for target in ("/etc/passwd", "../..", "/dev/zero", "/nowhere"):
        path.symlink_to(target)
        with pytest.raises(UserError, match=rf"^'{path}' leads out of the run folder, to '/.*': it is not read"):
            check_readable(run)
        path.unlink()
    assert path not in listed


def test_what_is_read_is_a_file_and_a_link_within_is_followed(run):
    (run / "config.yaml").symlink_to("record.json")
    check_readable(run)
    os.mkfifo(run / "log.txt")
    with pytest.raises(UserError, match=r"log\.txt' is a named pipe, and no file of a run\. Remove it$"):
        check_readable(run)


def test_a_folder_that_has_become_a_link_is_not_written_through(run):
    assert own_folder(run / "tables" / "validation").is_dir()
    (run / "predictions").rmdir()
    (run / "predictions").symlink_to(run.parent)
    with pytest.raises(DiskError, match=r"predictions: has become a link to '.*': nothing is written through it"):
        own_folder(run / "predictions")


INNER = ["", ".", "a", "a/b.json", "a.b/..c", "a..", "./a", "a:b", "a\\b"]
OUTER = ["/a", "..", "../a", "a/../b", "a/..", "a\0b"]


def test_what_stays_inside_a_folder_by_its_name():
    assert [is_inner(path) for path in INNER] == [True] * len(INNER)
    assert [path for path in INNER if not is_inner(path, portable=True)] == ["a:b", "a\\b"]
    assert [is_inner(path) for path in OUTER] == [False] * len(OUTER)


def test_a_name_that_may_be_taken_for_a_place_elsewhere():
    for name in ("", ".", "run 3", "12:30", "a:b", "v1..2", "a/b"):
        assert not may_lead_out(name), name
    for name in ("/a", "\\a", "~", "~me/a", "..", "a/../b", "a\\..\\b", "s3://b", "file:/a", "C:\\a", "a::b", "a\0"):
        assert may_lead_out(name), name
