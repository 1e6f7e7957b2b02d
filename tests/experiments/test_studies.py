"""The scripts of the studies: what they train is pinned, a failure is seen, and a rehearsal leaves the study alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from peftlab.composing.compose import conf_dir

STUDIES = conf_dir().parent / "experiments"
SCRIPTS = sorted(STUDIES.glob("*/*.sh"))
TRAINS = r"-m train\b|peftlab (?:train|active|scorecard)\b"
PYTHON = """#!/usr/bin/env bash
echo "$*" >> {folder}/calls
case "$*" in
  *prepare.py*) mkdir -p "${{@: -1}}" ;;
  *table.py*) echo table > "${{@: -1}}" ;;
  *summarise.py*) echo table ;;
  *four_tasks*) exit 3 ;;
esac
"""
"""Stands for the interpreter: notes what it is called with, and fails where the first stream is learnt."""


@pytest.fixture
def study(tmp_path):
    """Run the script of a study in a copy of its folder, with another program in the interpreter's place."""
    python = tmp_path / "python"
    python.write_text(PYTHON.format(folder=tmp_path))
    python.chmod(0o755)

    def run(name: str, *arguments: str, **variables: str) -> tuple[int, Path]:
        folder = tmp_path / "experiments" / name
        shutil.copytree(STUDIES / name, folder)
        command = ["bash", str(folder / "run.sh"), *arguments]
        environment = os.environ | variables | {"PYTHON": str(python)}
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode, folder

    return run


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_what_trains_says_the_precision(script):
    """Where it is left open, runs of one study that are made on two machines are not comparable."""
    text = script.read_text(encoding="utf-8").replace("\\\n", " ")
    if re.search(TRAINS, re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)):
        assert re.search(r"trainer\.precision=(32-true|bf16-mixed)", text)


def test_a_study_that_fails_ends_the_script_and_leaves_its_results(study):
    code, folder = study("continual", str(STUDIES))
    assert code == 1
    assert not (folder / "results.md").exists()
    calls = (folder.parents[1] / "calls").read_text()
    assert "+experiment=stream_banking77" in calls, "the others are made all the same"
    assert "summarise.py" not in calls


def test_a_rehearsal_keeps_its_records_apart(study):
    code, folder = study("semi_supervised", "keep", SWEEP="sweeps/try")
    before = {file.name for file in (STUDIES / "semi_supervised").iterdir()}
    assert code == 0
    assert {file.name for file in folder.iterdir()} == before
    assert (folder.parents[1] / "sweeps/try/results.md").read_text() == "table\n"


def test_a_study_goes_on_from_kept_records_which_have_no_weights(study, tmp_path):
    def record(name: str, seed: int) -> None:
        folder = tmp_path / "sweeps/try" / name
        folder.mkdir(parents=True)
        (folder / "record.json").write_text('{"status": "completed"}')
        (folder / "config.yaml").write_text(f"task: x\nseed: {seed}\n")

    for name, seed in {"supervised-0": 0, "supervised-1": 1, "teacher-0": 0, "tapt": 0, "after_tapt/x": 0}.items():
        record(name, seed)
    code, _ = study("semi_supervised", SWEEP="sweeps/try", DRAWS="0")
    assert code == 0
    calls = (tmp_path / "calls").read_text()
    assert "existing=skip run_dir=sweeps/try/supervised-0" in calls
    assert not re.search("rerun|teacher-0|tapt", calls)
    (tmp_path / "calls").unlink()
    shutil.rmtree(tmp_path / "experiments")
    code, _ = study("semi_supervised", SWEEP="sweeps/try", DRAWS="0 1")
    assert code == 0
    calls = (tmp_path / "calls").read_text()
    assert "existing=skip run_dir=sweeps/try/supervised-0" in calls
    assert "existing=rerun run_dir=sweeps/try/supervised-1" in calls
    assert "run_dir=sweeps/try/teacher-1" in calls
    assert "run_dir=sweeps/try/teacher-0" not in calls
    assert "run_dir=sweeps/try/tapt existing=rerun" in calls
    assert "sweep_dir=sweeps/try/after_tapt" in calls


def test_a_rehearsal_of_privacy_leaves_the_results_alone(study):
    code, folder = study("privacy", "budget.max_epochs=1", REHEARSAL="1")
    assert code == 0
    assert {file.name for file in folder.iterdir()} == {file.name for file in (STUDIES / "privacy").iterdir()}
    assert (folder.parents[1] / "runs/privacy_rehearsal/results.md").read_text() == "table\n"


def test_a_finished_run_of_pictures_is_not_made_again(study):
    code, folder = study("images")
    assert code == 0
    calls = [line for line in (folder.parents[1] / "calls").read_text().splitlines() if "-m train" in line]
    assert len(calls) == 6
    assert all("existing=skip" in line for line in calls)
