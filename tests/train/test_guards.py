"""What goes wrong within a step: numbers that are none, memory that does not suffice, a disk that takes no more."""

from __future__ import annotations

import csv
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from peftlab import tensor_files
from peftlab.errors import NonFiniteError, OutOfMemoryError
from peftlab.record import RunRecord
from peftlab.tasks.ner import Ner
from peftlab.tuner import Tuner

CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB."
SAME_STEPS = [
    "model.dropout=0",
    "model.attention_dropout=0",
    "optimizer=sgd",
    "optimizer.lr=0.1",
    "budget.max_steps=12",
]


def only_record() -> dict[str, Any]:
    """Return the record of the only run below ``runs/``."""
    (file,) = Path("runs").rglob("record.json")
    return json.loads(file.read_text())


def events(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [event for event in record["history"] if event["event"] == name]


def losses(record: RunRecord) -> list[float]:
    with (record.folder / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def predicted(record: RunRecord) -> list[list[str]]:
    lines = (record.folder / "predictions" / "test.jsonl").read_text().splitlines()
    return [json.loads(line)["predicted"] for line in lines]


@pytest.fixture
def spoil(monkeypatch):
    """Make the loss of every batch NaN that an example of these ids is in; of all batches, where there are none."""
    loss = Ner.loss

    def of(*ids: str) -> None:
        def spoilt(self, logits, batch):
            bad = not ids or any(example.id in ids for example in batch["examples"])
            return loss(self, logits, batch) * (math.nan if bad else 1.0)

        monkeypatch.setattr(Ner, "loss", spoilt)

    return of


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_bad_loss_ends_the_run_before_the_step(command, spoil, accumulate):
    spoil("train:5")
    ended = command(f"trainer.accumulate={accumulate}", "budget.max_steps=6")
    assert ended.code == 1
    record = only_record()
    (event,) = events(record, "not finite")
    assert (record["status"], record["error"]["type"]) == ("failed", NonFiniteError.__name__)
    assert record["cost"]["steps"] == event["step"] - 1
    assert "train:5" in event["examples"]
    assert len(event["examples"]) == 8 // accumulate  # the part that it is in, and no other
    assert f"error: step {event['step']}: the loss is not finite" in ended.err
    assert "Traceback" not in ended.err


def test_after_a_step_that_is_left_out_the_run_goes_on_unchanged(command, spoil):
    spoil("train:5")
    assert command("trainer.on_nan=skip_batch", "budget.max_steps=6").code == 0
    record = only_record()
    (event,) = events(record, "step left out")
    assert (record["status"], record["cost"]["steps"]) == ("completed", 6)
    assert "train:5" in event["examples"]
    (best,) = Path("runs").rglob("best.safetensors")
    assert all(torch.isfinite(weight).all() for weight in load_file(best).values())


def test_left_out_means_that_nothing_changes(run_tiny, spoil, monkeypatch):
    """Every step is bad, until the run gives up: weights and optimiser are as new."""
    spoil(*(f"train:{n}" for n in range(48)))
    states: list[dict[str, Any]] = []
    step = Tuner.optimizer_step

    def watched(self, *arguments, **options):
        before = {name: weight.clone() for name, weight in self.weights().items()}
        step(self, *arguments, **options)
        states.append(dict(self.trainer.optimizers[0].state))
        assert all(torch.equal(weight, before[name]) for name, weight in self.weights().items())

    monkeypatch.setattr(Tuner, "optimizer_step", watched)
    with pytest.raises(NonFiniteError, match="10 steps in a row"):
        run_tiny("trainer.on_nan=skip_batch")
    assert states == [{}] * 9


# --- memory ----------------------------------------------------------------------------------------------------------


class _NoMemory(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise torch.OutOfMemoryError(CUDA)


@pytest.fixture
def small_memory(monkeypatch):
    """Run out of memory on more than so many positions, in a pass of training or of evaluation."""
    loss = Ner.loss

    def of(positions: int, where: str) -> None:
        def limited(self, logits, batch):
            if logits[..., 0].numel() > positions and (where == "evaluation") != logits.requires_grad:
                if where != "backward":
                    raise torch.OutOfMemoryError(CUDA)
                logits = _NoMemory.apply(logits)
            return loss(self, logits, batch)

        monkeypatch.setattr(Ner, "loss", limited)

    return of


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_batch_in_pieces_makes_the_same_steps(run_tiny, small_memory, where, accumulate):
    whole = run_tiny(*SAME_STEPS)
    small_memory(80, where)
    pieces = run_tiny(*SAME_STEPS, f"trainer.accumulate={accumulate}", "run_dir=pieces")
    assert losses(pieces) == pytest.approx(losses(whole), rel=1e-5)
    expected = load_file(whole.folder / "checkpoints" / "best.safetensors")
    for name, weight in load_file(pieces.folder / "checkpoints" / "best.safetensors").items():
        assert torch.allclose(weight, expected[name], rtol=1e-4, atol=1e-6), name
    noted = events(pieces.data, "out of memory")
    assert noted[0]["examples"] == 8 // accumulate
    tried = [event["positions"] for event in noted]
    assert all(later < earlier for earlier, later in itertools.pairwise(tried))  # no size is tried twice


def test_an_evaluation_in_pieces_finds_the_same(run_tiny, small_memory):
    options = ["budget.max_steps=12", "data.eval_batch_size=16"]
    whole = run_tiny(*options)
    small_memory(80, "evaluation")
    pieces = run_tiny(*options, "run_dir=pieces")
    assert {event["stage"] for event in events(pieces.data, "out of memory")} == {"evaluation"}
    assert predicted(pieces) == predicted(whole)
    for found, expected in zip(pieces.data["metrics"], whole.data["metrics"], strict=True):
        assert found["value"] == pytest.approx(expected["value"], rel=1e-5), expected["name"]


def test_out_of_memory_can_end_the_run(run_tiny, small_memory):
    small_memory(80, "backward")
    with pytest.raises(OutOfMemoryError, match=r"training on 8 examples .* trainer\.accumulate=2"):
        run_tiny("trainer.on_out_of_memory=stop", "run_dir=stopped")
    assert json.loads(Path("stopped/record.json").read_text())["error"]["type"] == "OutOfMemoryError"


# --- disk ------------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_at_a_checkpoint_leaves_the_one_before(command, monkeypatch):
    save_file, calls = tensor_files.save_file, []

    def fill(tensors, path, **options):
        calls.append(path)
        if len(calls) == 2:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save_file(tensors, path, **options)

    monkeypatch.setattr(tensor_files, "save_file", fill)
    ended = command("budget.max_steps=60", "optimizer.lr=1e-2", "callbacks=[]")
    assert ended.code == 1
    assert "best.safetensors: cannot be written: no space is left on the disk; " in ended.err
    assert "bytes are needed" in ended.err
    assert "Traceback" not in ended.err
    record = only_record()
    assert (record["status"], record["error"]["type"]) == ("failed", "DiskError")
    (best,) = Path("runs").rglob("best.safetensors")
    assert load_file(best)
    assert [file.name for file in best.parent.iterdir()] == ["best.safetensors"]


def test_a_disk_that_is_full_before_the_run_leaves_nothing(command, monkeypatch):
    monkeypatch.setattr(RunRecord, "_replace", _full)
    ended = command("run_dir=mine")
    assert ended.code == 2
    assert ended.err.startswith("error: mine/record.json: cannot be written: no space is left on the disk; ")
    assert not Path("mine").exists()


def test_a_record_that_cannot_be_written_at_the_end_is_told(command, monkeypatch, users_callbacks):
    replace = RunRecord._replace

    def fill(self, temporary, text):
        (_full if '"ended_at": null' not in text else replace)(self, temporary, text)

    monkeypatch.setattr(RunRecord, "_replace", fill)
    ended = command(*users_callbacks("Fail", step=2))
    assert ended.code == 1
    assert "error: the callback failed; nor can the record say so: " in ended.err
    assert only_record()["status"] == "running"


def _full(*_: Any) -> None:
    raise OSError(28, "No space left on device")
