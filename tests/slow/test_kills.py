"""The short version of ``experiments/reliability/kills.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "reliability" / "kills.py"


@pytest.mark.parametrize(("kills", "half"), [(1, 1), pytest.param(3, 2, marks=pytest.mark.exhaustive)])
def test_runs_that_are_killed_end_as_if_nothing_had_been(tmp_path, kills, half):
    ended = subprocess.run(
        [sys.executable, SCRIPT, str(kills)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    killed, stopped, saved, damaged = ended.stdout.splitlines()
    assert killed.startswith(f"sigkill: {kills}/{kills} end with the same bits")
    assert stopped.startswith(f"sigterm: {half}/{half} out with 143, no step lost, and the same bits")
    assert saved.startswith("saves: 0 torn files of")
    assert damaged.startswith(f"damaged: {half}/{half} fall back to the one before")


@pytest.mark.parametrize(("topic", "kills"), [pytest.param("indexed", 2, marks=pytest.mark.exhaustive), ("packed", 1)])
def test_runs_of_other_kinds_are_killed(tmp_path, topic, kills):
    ended = subprocess.run(
        [sys.executable, SCRIPT, str(kills), topic], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith(f"{topic}: {kills}/{kills} end with the same bits")
