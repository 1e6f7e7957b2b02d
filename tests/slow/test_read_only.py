"""Places that may only be read, as a user meets them. Root ignores permissions: it has to give up that right first."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peftlab.runs.record import RunRecord
from peftlab.storage import checkpoints, trees

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="rights are given up in the way of Linux"),
]

Train = Callable[..., subprocess.CompletedProcess[str]]

DROP_RIGHT, RIGHTS = 24, {"override": 1, "read and search": 2}
"""Of prctl(2) and capabilities(7)."""
VERSION = 0x20080522
"""Of what capset(2) takes: rights in effect, permitted and inheritable, twice 32 of them."""
LIBC = ctypes.CDLL(None)


def give_up_rights() -> None:
    """Keep the rights from what this process starts, and give them up itself."""
    header, sets = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    LIBC.capget(header, sets)
    for right in RIGHTS.values():
        LIBC.prctl(DROP_RIGHT, right, 0, 0, 0)
        sets[0] &= ~(1 << right)
        sets[1] &= ~(1 << right)
    LIBC.capset(header, sets)


@pytest.fixture
def train(tiny_overrides) -> Train:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "train", *tiny_overrides, "callbacks=[]", *arguments],
            preexec_fn=give_up_rights,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def locked(tmp_path) -> Iterator[Path]:
    """An empty folder that may only be read."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    yield folder
    folder.chmod(0o755)


def test_the_rights_are_gone(locked):
    program = f"open({str(locked / 'file')!r}, 'w')"
    Path("program.py").write_text(program)
    for words in (["-c", program], ["program.py"]):  # the latter a fork
        ended = subprocess.run([sys.executable, *words], preexec_fn=give_up_rights, check=False, capture_output=True)
        assert b"PermissionError" in ended.stderr


@pytest.mark.parametrize("where", ["run_dir", "the current folder"])
def test_no_run_begins_where_it_may_not_write(train, locked, monkeypatch, where):
    monkeypatch.setenv("PEFTLAB_CACHE", str(locked.parent / "cache"))
    if where == "the current folder":
        monkeypatch.chdir(locked)
    ended = train(*(["run_dir=locked/run"] if where == "run_dir" else []))
    assert ended.returncode == 2
    path = "locked/run" if where == "run_dir" else "runs/ner-files-lora"
    assert ended.stderr.startswith(f"error: {path}: cannot be written: there is no permission. Make it writable, or ")
    assert ended.stderr.count("\n") == 1
    assert list(locked.iterdir()) == []


def test_a_cache_that_may_only_be_read_is_done_without(train, locked, monkeypatch):
    monkeypatch.setenv("PEFTLAB_CACHE", str(locked))
    ended = train("run_dir=run", "peft=head")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"{locked}" in ended.stdout  # what cannot be kept there is told
    assert RunRecord.load("run").data["status"] == "completed"


def test_a_run_goes_on_when_its_folder_can_be_written_again(train, disturb):
    signalled = [part.replace("callbacks.disturb", "callbacks.progress") for part in disturb(0, "SIGTERM")]
    assert train("run_dir=run", *signalled).returncode == 143
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    folders = [Path("run"), Path("run/checkpoints")]
    for folder in folders:
        folder.chmod(0o555)
    refused = train("run_dir=run")
    for folder in folders:
        folder.chmod(0o755)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: run/")
    assert "there is no permission" in refused.stderr
    assert {path: path.read_bytes() for path in before if path.name != ".lock"} == {
        path: content for path, content in before.items() if path.name != ".lock"
    }
    assert train("run_dir=run").returncode == 0
    record = RunRecord.load("run")
    assert (record.data["status"], record.resumed_at) == ("completed", 2)


def test_a_folder_that_can_no_longer_be_written_leaves_the_checkpoint_before(train, disturb):
    forbidden = [part.replace("callbacks.disturb", "callbacks.progress") for part in disturb(0, "lock")]
    ended = train("run_dir=run", "trainer.checkpoint_every=1", *forbidden)
    Path("run/checkpoints").chmod(0o755)
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "error: run/checkpoints/step-2.safetensors: cannot be written: there is no permission."
    )
    assert "Traceback" not in ended.stderr
    record = RunRecord.load("run").data
    assert (record["status"], record["error"]["type"]) == ("failed", "DiskError")
    newest = checkpoints.newest_whole(Path("run/checkpoints"))
    assert trees.read(newest)["global_step"] == 1
    assert train("run_dir=run").returncode == 0
    assert RunRecord.load("run").resumed_at == 1


def test_a_file_system_that_can_only_be_read(train, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("a disk cannot be mounted here")
    try:
        ended = train("run_dir=disk/run")
    finally:
        subprocess.run(["umount", disk], check=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: disk/run: cannot be written: the file system can only be read.")
