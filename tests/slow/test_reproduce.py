"""The short version of ``experiments/reliability/reproduce.py``."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from peftlab.composing.compose import conf_dir

pytestmark = pytest.mark.slow

SCRIPT = conf_dir().parent / "experiments" / "reliability" / "reproduce.py"


def test_verdicts_on_runs_that_were_tampered_with():
    ended = subprocess.run([sys.executable, SCRIPT, "16"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert re.match(r"16 of 16 verdicts right with their causes named, \d+ of the runs tampered with", ended.stdout)
