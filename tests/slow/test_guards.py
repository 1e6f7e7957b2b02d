"""Runs that are spoilt on purpose, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RELIABILITY = Path(__file__).parents[2] / "experiments" / "reliability"

pytestmark = pytest.mark.slow


def trials(script: str, how_many: int) -> str:
    """Return the summary of so many trials of `script`."""
    ended = subprocess.run(
        [sys.executable, str(RELIABILITY / script), str(how_many)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_numbers_that_go_wrong_stop_the_run_in_time():
    assert "9 of 9 runs" in trials("non_finite.py", 9)


def test_a_full_disk_leaves_whole_files(tmp_path):
    mount = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("a disk cannot be mounted here")
    subprocess.run(["umount", str(tmp_path)], check=True)
    assert "16 of 16 runs" in trials("disk_full.py", 16)
