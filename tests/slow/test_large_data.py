"""A file that is larger than what may be in memory of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = Path(__file__).parents[2] / "experiments" / "large_data" / "measure.py"

pytestmark = pytest.mark.slow


def test_a_run_on_a_large_file_takes_little_memory(tmp_path):
    """It took 160 MiB; with all texts and tokens in memory, 950."""
    arguments = ["--gib", "0.04", "--single", "--folder", str(tmp_path)]
    ended = subprocess.run([sys.executable, str(MEASURE), *arguments], capture_output=True, text=True, check=True)
    measured = json.loads(ended.stdout.splitlines()[-1])
    assert measured["file_mib"] >= 40
    assert measured["own_mib"] - measured["before_mib"] < 250
    assert list(tmp_path.iterdir()) == []
