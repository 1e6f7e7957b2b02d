"""The short version of ``experiments/active_learning/kills.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "active_learning" / "kills.py"


def test_a_loop_that_is_killed_ends_as_if_nothing_had_been(tmp_path):
    ended = subprocess.run([sys.executable, SCRIPT, "4"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.rstrip().endswith("the same bits")
