"""A stream that is killed, in a stage and between two, ends with the bits of one that is not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from peftlab.continual.stream import learn

pytestmark = pytest.mark.slow


@pytest.fixture
def overrides(tiny_run, tiny_texts):
    stages = "stream.stages=[[hire,move],[nothing,report]]"
    own = ["task=classification", "data=csv", f"data.path={tiny_texts}", "logger=[]", "callbacks=[]"]
    steps = ["budget.max_steps=60", "budget.max_epochs=60", "trainer.checkpoint_every=1"]
    return [*tiny_run, *own, *steps, "stream=classes", stages, "stream.controls=[]"]


def stages(folder: Path) -> int:
    """Return how many stages the chain says are finished."""
    file = folder / "chain.json"
    return len(json.loads(file.read_text())["stages"]) if file.is_file() else 0


@pytest.mark.exhaustive
def test_the_bits_are_the_same(overrides, tmp_path):
    whole = learn(overrides, tmp_path / "whole").walks[0]
    killed = tmp_path / "killed"
    moments = (
        lambda: any(killed.glob("*/checkpoints/*")),
        lambda: stages(killed) == 1 and any(killed.glob(f"{whole.runs[1]}/checkpoints/*")),
    )
    for moment in moments:
        learning = f"learn({overrides!r}, Path({str(killed)!r}))"
        code = f"from pathlib import Path; from peftlab.continual.stream import learn; {learning}"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not moment() and process.poll() is None:
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()[1].decode()
        process.kill()
        process.communicate()
        assert stages(killed) < 2
    again = learn(overrides, killed).walks[0]
    assert again.runs == whole.runs
    assert np.array_equal(again.matrix.values, whole.matrix.values, equal_nan=True)
    for run in whole.runs:
        one, other = (folder / run / "adapter/adapter_model.safetensors" for folder in (tmp_path / "whole", killed))
        assert one.read_bytes() == other.read_bytes()
        assert (tmp_path / "whole" / run / "trail.jsonl").read_text().splitlines()[-1] == (
            killed / run / "trail.jsonl"
        ).read_text().splitlines()[-1]
    assert any((killed / run / "record.json").read_text().count('"resumed"') for run in whole.runs)
