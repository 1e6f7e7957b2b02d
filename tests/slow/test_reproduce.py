"""The short version of ``experiments/reliability/reproduce.py``."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from peftlab.composing.compose import conf_dir

pytestmark = pytest.mark.slow

SCRIPT = conf_dir().parent / "experiments" / "reliability" / "reproduce.py"


@pytest.mark.parametrize("cases", [4, pytest.param(16, marks=pytest.mark.exhaustive)])
def test_verdicts_on_runs_that_were_tampered_with(cases):
    ended = subprocess.run([sys.executable, SCRIPT, str(cases)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert re.match(
        rf"{cases} of {cases} verdicts right with their causes named, \d+ of the runs tampered with", ended.stdout
    )
