"""The short version of ``experiments/reliability/kills.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "reliability" / "kills.py"


def test_runs_that_are_killed_end_as_if_nothing_had_been(tmp_path):
    ended = subprocess.run([sys.executable, SCRIPT, "3"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    killed, stopped, saved, damaged = ended.stdout.splitlines()
    assert killed.startswith("sigkill: 3/3 end with the same bits")
    assert stopped.startswith("sigterm: 2/2 out with 143, no step lost, and the same bits")
    assert saved.startswith("saves: 0 torn files of")
    assert damaged.startswith("damaged: 2/2 fall back to the one before")
