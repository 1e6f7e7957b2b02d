"""Label errors of the training split: runs on its folds, which are runs like any other."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from peftlab import cli
from peftlab.one_run import run
from peftlab.runs.record import RunRecord

pytestmark = pytest.mark.slow


@pytest.fixture
def peftlab(capsys):
    def execute(*arguments):
        capsys.readouterr()
        assert cli.main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr()

    return execute


@pytest.mark.exhaustive
def test_what_runs_on_the_folds_list_is_dropped(peftlab, compose_config, tiny_overrides):
    learning = ["optimizer.lr=1e-2", "budget.max_steps=40", "callbacks=[]", "task.top_k=2"]
    chosen = [*tiny_overrides, *learning]
    folder = run(compose_config(*chosen, "run_dir=run")).folder

    out, _ = peftlab("clean", folder, "--split", "train", "--folds", "2", "--json", "--csv", "errors.csv")
    records = [RunRecord.load(file.parent) for file in Path("runs").glob("*/*/record.json")]
    assert {record.data["status"] for record in records} == {"completed"}
    assert sorted(record.data["data"]["splits"]["test"]["rows"] for record in records) == [24, 24]
    again, _ = peftlab("clean", folder, "--split", "train", "--folds", "2", "--json")
    assert again == out
    assert len(list(Path("runs").glob("*/*"))) == 2  # found, not repeated

    rows = json.loads(out)
    assert {row["split"] for row in rows} == {"train"}
    named = {row["id"] for row in rows}
    clean = "data.clean={label_errors: drop, label_errors_from: errors.csv}"
    record = run(compose_config(*chosen, clean, "run_dir=cleaned"))
    assert record.data["data"]["cleaned"] == {"label_errors": {"action": "drop", "examples": len(named)}}
    assert record.data["data"]["splits"]["train"]["rows"] == 48 - len(named)
    listing = record.data["identity"]["data_sha256"]["label_errors"]
    with Path("errors.csv").open() as stream:
        kept = list(csv.DictReader(stream))[1:]
    with Path("errors.csv").open("w") as stream:
        writer = csv.DictWriter(stream, kept[0])
        writer.writeheader()
        writer.writerows(kept)
    other = run(compose_config(*chosen, clean, "run_dir=edited"))
    assert other.data["identity"]["data_sha256"]["label_errors"] != listing
    assert other.data["identity"]["config_sha256"] == record.data["identity"]["config_sha256"]
