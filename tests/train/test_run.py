"""The whole story of a run on the tiny model."""

from __future__ import annotations

import json

import torch
from peftlab.run import load, run


def test_a_run_leaves_what_the_record_says(compose_config, tiny_overrides):
    record = run(compose_config(*tiny_overrides), command=["python", "-m", "train"])
    assert record.data["status"] == "completed"
    on_disk = json.loads((record.folder / "record.json").read_text())
    assert on_disk == json.loads(json.dumps(record.data))
    assert {file["path"] for file in on_disk["files"]} == {
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "checkpoints/best.safetensors",
        "config.yaml",
        "metrics.csv",
        "packages.txt",
        "predictions/test.jsonl",
        "predictions/validation.jsonl",
    }
    tuner = load(record.folder)
    assert isinstance(tuner.model, torch.nn.Module)
