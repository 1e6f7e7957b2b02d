"""A run that its watcher ends early, and that goes on later."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftlab.runs.record import RunRecord
from peftlab.storage import checkpoints
from peftlab.terminal.signals import Pruned

pytestmark = pytest.mark.slow

OPTIONS = ["budget.max_steps=24", "budget.validate_every=0.5", "trainer.checkpoint_every=1000", "model.dropout=0.1"]
OPTIONS += ["callbacks=[]"]


class Watcher:
    """Ends the run at a validation, by its number; never where it is None."""

    def __init__(self, at: int | None) -> None:
        self.at, self.told = at, []

    def stepped(self, step: int, steps: int) -> None:
        assert steps == 24

    def validated(self, step: int, steps: int, value: float) -> bool:
        self.told.append((step, steps, value))
        return len(self.told) != self.at


@pytest.fixture
def watched(compose_config, tiny_overrides, tmp_path, monkeypatch):
    from peftlab.one_run import run

    monkeypatch.chdir(tmp_path)

    def run_(folder: str, at: int | None) -> tuple[RunRecord, Watcher]:
        watcher = Watcher(at)
        try:
            record = run(compose_config(*tiny_overrides, *OPTIONS, f"run_dir={folder}"), watcher=watcher)
        except Pruned:
            record = RunRecord.load(folder)
        return record, watcher

    return run_


def bits(folder: str) -> list[bytes]:
    names = ("metrics.csv", "trail.jsonl", "checkpoints/best.safetensors", "predictions/test.jsonl")
    return [Path(folder, name).read_bytes() for name in names]


def test_a_pruned_run_says_so_keeps_a_checkpoint_and_goes_on_to_the_same_bits(watched):
    _, whole = watched("whole", at=None)
    record, watcher = watched("run", at=2)
    assert record.data["status"] == "pruned"
    assert record.data["error"] is None
    assert watcher.told == whole.told[:2]
    assert checkpoints.step_of(checkpoints.newest_whole(Path("run/checkpoints"))) == watcher.told[-1][0]
    assert record.data["metrics"] == []

    record, watcher = watched("run", at=None)
    assert record.data["status"] == "completed"
    assert record.resumed_at == whole.told[1][0]
    assert watcher.told == whole.told[2:]
    assert bits("run") == bits("whole")


def test_a_validation_is_told_with_the_score_of_the_record(watched):
    record, watcher = watched("run", at=None)
    events = [event for event in record.data["history"] if event["event"] == "validated"]
    assert [(event["step"], event["of"], event["entity_f1"]) for event in events] == watcher.told
    assert watcher.told[-1][0] == 24


def test_at_its_end_a_run_is_not_pruned_any_more(watched):
    _, whole = watched("whole", at=None)
    record, _ = watched("run", at=len(whole.told))
    assert record.data["status"] == "completed"
