"""Clients that train in rounds: one is a central training, and none loses anything when something dies."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from peftlab.runs.record import RunRecord

LABELS = ["data.labels=[LOC,ORG,PER]", "callbacks=[]", "model.dropout=0.2", "trainer.cache_activations=false"]


@pytest.fixture
def federated(run_tiny):
    """Run clients, three in two rounds by default."""

    def run(*overrides: str, option: str = "fedavg", rounds: int = 2) -> RunRecord:
        own = [f"federated={option}", "federated.clients=3", f"federated.rounds={rounds}", "optimizer.lr=1e-2"]
        return run_tiny(*LABELS, "budget.max_steps=null", *own, *overrides)

    return run


def adapter(record: RunRecord) -> bytes:
    return (Path(record.folder) / "adapter" / "adapter_model.safetensors").read_bytes()


def test_one_client_in_one_round_is_a_central_training(run_tiny, federated):
    central = run_tiny(*LABELS, "budget.max_steps=null", "budget.max_epochs=2", "budget.validate_every=2", "run_dir=c")
    one = federated("federated.clients=1", "federated.local_epochs=2", "run_dir=f", rounds=1)
    assert adapter(one) == adapter(central)
    assert one.data["metrics"] == central.data["metrics"]
