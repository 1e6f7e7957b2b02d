"""The scripts of the studies: what they train is pinned, a failure is seen, and a rehearsal leaves the study alone."""

from __future__ import annotations

import re

import pytest

from peftlab.composing.compose import conf_dir

STUDIES = conf_dir().parent / "experiments"
SCRIPTS = sorted(STUDIES.glob("*/*.sh"))
TRAINS = r"-m train\b|peftlab (?:train|active|scorecard)\b"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_what_trains_says_the_precision(script):
    """Where it is left open, runs of one study that are made on two machines are not comparable."""
    text = script.read_text(encoding="utf-8").replace("\\\n", " ")
    if re.search(TRAINS, re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)):
        assert re.search(r"trainer\.precision=(32-true|bf16-mixed)", text)
