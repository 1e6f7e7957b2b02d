"""Locks on folders."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from peftlab.errors import ConfigError
from peftlab.locks import is_locked, lock

HOLD = (
    "import sys; from pathlib import Path; from peftlab.locks import lock; lock(Path('.')); print(flush=True); input()"
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
