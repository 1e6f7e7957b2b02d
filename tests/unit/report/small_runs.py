"""Folders of runs that nobody trained: records, and files beside them."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from peftlab.runs.record import RunRecord

_TIME = datetime(2026, 1, 1, tzinfo=UTC).isoformat(timespec="milliseconds")

_FILES = {
    "adapter/adapter_model.safetensors": "weights",
    "adapter/labels.json": '["O", "B-LOC"]',
    "checkpoints/best.safetensors": "weights",
    "config.yaml": "name: tiny\npeft: {name: lora}\n",
    "metrics.csv": "step,loss\n1,0.5\n",
    "packages.txt": "numpy==2.4\n",
    "predictions/test.jsonl": '{"id": "test:0", "predicted": "a", "gold": "a"}\n',
    "tables/test/confusion.csv": ",a\na,1\n",
    "trail.jsonl": '{"tensors": []}\n',
}


def make_run(folder: Path) -> Path:
    """Make the folder of a completed run; the same name gives the same bytes."""
    for name, content in _FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    identity = {"sha256": hashlib.sha256(folder.name.encode()).hexdigest()}
    record = RunRecord.start(
        folder, run_id=folder.name, name=folder.parent.name, command=[], overrides=[], identity=identity
    )
    record.update(selection={"metric": "accuracy", "mode": "max"}, method={"name": "lora"})
    record.add_metric("accuracy", "test", 1.0, "best", "accuracy")
    for name in _FILES:
        record.add_file(name)
    record.finish("completed")
    record.data |= {"started_at": _TIME, "ended_at": _TIME}
    record.data["history"] = [event | {"at": _TIME} for event in record.data["history"]]
    record.write()
    for name in (
        "reproduction.json",
        "robustness.json",
        "explanation.json",
        "fairness.json",
        "compression.json",
        "audit.json",
    ):
        (folder / name).write_text(json.dumps([{"verdict": "identical"}]))
    return folder


def make_sweep(runs: int) -> Path:
    """Make the folder ``sweeps/tiny`` with its board, its report and so many runs."""
    sweep = Path("sweeps/tiny")
    for number in range(runs):
        make_run(sweep / f"run{number}")
    for name in ("sweep.json", "trials.csv", "report/report.html", "report/figures/f.svg", "output/0.txt"):
        (sweep / name).parent.mkdir(parents=True, exist_ok=True)
        (sweep / name).write_text(name)
    return sweep
