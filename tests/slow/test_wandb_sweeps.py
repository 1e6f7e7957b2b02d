"""Sweeps as W&B sees them: a run a trial and one that sums them up, all in one group; kept offline, and sent later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.slow.test_wandb_server import after, server

pytestmark = pytest.mark.slow

SECRET = "hf_" + "Qx7" * 12
FOLDER = Path("sweeps/tiny")


def do(*command: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [sys.executable, "-m", *command], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended


def test_a_sweep_is_one_group_with_a_summary_that_goes_on_and_is_sent_once(tiny_overrides, read_wandb):
    options = ["logger=[wandb]", "callbacks=[]", "name=tiny", f"logger.wandb.notes={SECRET}", "sweep.probe_seconds=0"]
    command = ["train", "-m", *tiny_overrides, *options]
    do(*command, "seed=0,1", WANDB_MODE="offline")
    do(*command, "seed=0,1,2", WANDB_MODE="offline")

    trials = [file.parent for file in FOLDER.glob("*/record.json")]
    runs = [found.records["run"][0] for trial in trials for found in read_wandb(trial)]
    assert len(runs) == len({run.run_id for run in runs}) == 3
    summaries = read_wandb(FOLDER)
    both = [found.records["run"][0] for found in summaries]
    assert {run.run_id for run in both} == {json.loads((FOLDER / "sweep.json").read_text())["tracked"]}
    assert {run.run_group for run in [*runs, *both]} == {"tiny"}
    assert {run.job_type for run in both} == {"sweep"}
    rows = [{key: value for row in found.rows for key, value in row.items()} for found in summaries]
    assert [row["trials/completed"] for row in rows] == [2, 3]
    assert [row["trials/nrows"] for row in rows] == [2, 3]
    for file in FOLDER.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file

    account = {"WANDB_API_KEY": "0123456789" * 4}
    with server(after(0), "500") as url:
        failed = do("peftlab", "sync", "tiny", code=1, WANDB_BASE_URL=url, **account)
    assert f"no answer from {url} (HTTP 500)" in failed.stderr
    assert "failed: 5" in failed.stdout
    with server(after(10**9), "500") as url:
        assert "sent: 5" in do("peftlab", "sync", "tiny", WANDB_BASE_URL=url, **account).stdout
        again = json.loads(do("peftlab", "sync", "tiny", "--json", WANDB_BASE_URL=url, **account).stdout)
    assert (again["sent"], len(again["already"]), again["failed"]) == ([], 5, [])


@pytest.mark.exhaustive
def test_a_trial_that_is_killed_and_goes_on_is_one_run(tiny_overrides, disturb, read_wandb):
    options = ["logger=[wandb]", "callbacks=[]", "name=tiny", "sweep.probe_seconds=0", "sweep.report=false", "seed=0,1"]
    # in the place of a callback that is no part of the identity
    killed = [part.replace("callbacks.disturb", "callbacks.progress") for part in disturb(0, "SIGKILL")]
    variables = {"WANDB_MODE": "offline", "WANDB_RUN_ID": "for1run"}
    do("train", "-m", *tiny_overrides, *options, *killed, code=1, **variables)
    do("train", "-m", *tiny_overrides, *options, **variables)
    known = set()
    for file in FOLDER.glob("*/record.json"):
        history = json.loads(file.read_text())["history"]
        (tracked,) = {event["id"] for event in history if event.get("logger") == "wandb"}
        ids = {run.run_id for found in read_wandb(file.parent) for run in found.records.get("run", [])}
        assert ids == {tracked}
        known.add(tracked)
    assert len(known) == 2
    assert "for1run" not in known


def test_an_agent_of_wandb_sees_the_run_it_has_started(tiny_overrides, tmp_path, read_wandb):
    parameters = tmp_path / "parameters.yaml"
    chosen = {"optimizer.lr": 3e-05, "peft": "head", "budget.train_examples": None}
    parameters.write_text(yaml.safe_dump({"wandb_version": 1} | {key: {"value": v} for key, v in chosen.items()}))
    of_the_agent = {
        "WANDB_RUN_ID": "abc12345",
        "WANDB_SWEEP_ID": "sweep123",
        "WANDB_SWEEP_PARAM_PATH": str(parameters),
        "WANDB_MODE": "offline",
    }
    passed = [f"{key}={value}" for key, value in chosen.items()]
    do("train", *tiny_overrides, "logger=[wandb]", "callbacks=[]", "run_dir=run", *passed, **of_the_agent)
    (found,) = read_wandb(Path("run"))
    (run,) = found.records["run"][:1]
    assert (run.run_id, run.sweep_id) == ("abc12345", "sweep123")
    assert any("validation/entity_f1" in row for row in found.rows)
    record = json.loads(Path("run/record.json").read_text())
    assert record["method"]["name"] == "head"
