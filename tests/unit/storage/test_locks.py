"""Locks on folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peftlab.errors import ConfigError
from peftlab.storage.locks import alone, is_locked, lock

HOLD = (
    "import sys; from pathlib import Path; from peftlab.storage.locks import lock; "
    "lock(Path('.')); print(flush=True); input()"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that has locked the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_a_second_process_is_kept_out_and_told_who_is_there(holder, tmp_path):
    assert is_locked(tmp_path)
    with pytest.raises(ConfigError, match=rf"process {holder.pid} on .* is writing this sweep"):
        lock(tmp_path, "sweep")


def test_the_lock_ends_with_the_process(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert not is_locked(tmp_path)
    os.close(lock(tmp_path))


def test_a_folder_that_nobody_has_ever_locked_is_free(tmp_path):
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["outside", "nowhere", ".lock"])
def test_a_link_in_its_place_is_neither_followed_nor_emptied(tmp_path, target):
    (tmp_path / "outside").write_text("all my work")
    (tmp_path / ".lock").symlink_to(target)
    with pytest.raises(ConfigError, match=r"\.lock is a link to '.*', where a lock is kept: remove it"):
        lock(tmp_path)
    assert not is_locked(tmp_path)
    assert (tmp_path / "outside").read_text() == "all my work"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_in_its_place_is_told(tmp_path, make):
    make(tmp_path / ".lock")
    with pytest.raises(ConfigError, match=r"\.lock is a (folder|named pipe), where a lock is kept"):
        lock(tmp_path)
    assert not is_locked(tmp_path)


@pytest.mark.slow
def test_those_that_come_for_the_same_name_come_one_after_another(tmp_path):
    """Ten processes read a number, wait, and write the next: none overtakes another, and no lock is left."""
    number = tmp_path / "number"
    number.write_text("0")
    children = []
    for _ in range(10):
        if (child := os.fork()) == 0:
            with alone(tmp_path, "abc"):
                seen = int(number.read_text())
                time.sleep(0.002)
                number.write_text(str(seen + 1))
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 10
    assert [file.name for file in tmp_path.iterdir()] == ["number"]
    assert number.read_text() == "10"


def test_what_a_killed_process_has_left_keeps_nobody_out(tmp_path):
    if (child := os.fork()) == 0:
        with alone(tmp_path, "abc"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / ".abc.lock").exists()
    with alone(tmp_path, "abc"):
        pass
    assert list(tmp_path.iterdir()) == []
