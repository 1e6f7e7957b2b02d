"""What goes wrong within a step: numbers that are none, memory that does not suffice, a disk that takes no more."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from peftlab import one_run
from peftlab.errors import NonFiniteError, OutOfMemoryError
from peftlab.methods.adalora import AdaLora
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.storage import tensors as tensor_files
from peftlab.tasks.ner import Ner
from peftlab.terminal.signals import Interrupted
from peftlab.training.checkpointing import Checkpointing
from peftlab.training.non_finite import UNREAD
from peftlab.training.rules import Rules
from peftlab.training.tuner import Tuner
from peftlab.use.check import check

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


def without_times(noted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in event.items() if key != "at"} for event in noted]


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
    """Make the loss, or its gradient, NaN where an example of these ids is in the batch; or always, without ids."""
    loss = Ner.loss

    def of(*ids: str, kind: str = "loss") -> None:
        def spoilt(self, outputs, batch):
            bad = not ids or any(example.id in ids for example in batch.examples)
            if kind == "gradient" and bad:  # that of a root at 0 is infinite, and 0 times infinity no number
                return loss(self, outputs, batch) + (0 * outputs.logits).sum().sqrt()
            return loss(self, outputs, batch) * (math.nan if bad else 1.0)

        monkeypatch.setattr(Ner, "loss", spoilt)

    return of


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.slow), 2])
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


@pytest.mark.slow
def test_after_a_step_that_is_left_out_the_run_goes_on_unchanged(command, spoil):
    spoil("train:5")
    assert command("trainer.on_nan=skip_batch", "budget.max_steps=6").code == 0
    record = only_record()
    (event,) = events(record, "step left out")
    assert (record["status"], record["cost"]["steps"]) == ("completed", 6)
    assert "train:5" in event["examples"]
    (best,) = Path("runs").rglob("best.safetensors")
    assert all(torch.isfinite(weight).all() for weight in load_file(best).values())
    assert check(RunFolder(RunRecord.load(best.parents[1]))).causes == []


@pytest.mark.slow
def test_left_out_means_that_nothing_changes(run_tiny, spoil, monkeypatch):
    """Every step is bad, until the run gives up: weights and optimiser are as new."""
    spoil(*(f"train:{n}" for n in range(48)))
    states: list[dict[str, Any]] = []
    step = Tuner.take_step

    def watched(self, parts):
        before = {name: weight.clone() for name, weight in self.weights().items()}
        outputs = step(self, parts)
        states.append(dict(self.trainer.optimizers[0].state))
        assert all(torch.equal(weight, before[name]) for name, weight in self.weights().items())
        return outputs

    monkeypatch.setattr(Tuner, "take_step", watched)
    with pytest.raises(NonFiniteError, match="10 steps in a row"):
        run_tiny("trainer.on_nan=skip_batch")
    assert states == [{}] * 9


def test_steps_that_were_left_out_before_an_interruption_count(run_tiny, spoil, users_callbacks):
    spoil(*(f"train:{n}" for n in range(48)))
    signalled = users_callbacks("Signal", number=int(SIGTERM), hook="on_train_batch_end", step=4)
    options = ["trainer.on_nan=skip_batch", "run_dir=run"]
    with pytest.raises(Interrupted):
        run_tiny(*options, *(override.replace("callbacks.users", "callbacks.progress") for override in signalled))
    with pytest.raises(NonFiniteError, match="10 steps in a row"):
        run_tiny(*options)
    record = json.loads(Path("run/record.json").read_text())
    assert [event["step"] for event in events(record, "step left out")] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    (last,) = events(record, "not finite")
    assert last["step"] == 10


@pytest.fixture
def read_late(monkeypatch):
    """Have checks wait to be read, as they do on a GPU."""
    monkeypatch.setitem(UNREAD, "cpu", 50)


LATE = ["budget.max_steps=6", "trainer.log_every=4", "trainer.trail_every=100"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_bad_step_that_is_noticed_late_has_changed_nothing(run_tiny, spoil, monkeypatch, kind):
    """Steps after it have been computed by then, and the device has left them out."""
    spoil("train:5", kind=kind)
    weights: list[dict[str, Any]] = []
    step = Tuner.take_step

    def watched(self, parts):
        outputs = step(self, parts)
        weights.append({name: weight.clone() for name, weight in self.weights().items()})
        return outputs

    monkeypatch.setattr(Tuner, "take_step", watched)
    found, taken = [], []
    for unread, name in ((1, "at_once"), (50, "late")):
        monkeypatch.setitem(UNREAD, "cpu", unread)
        weights.clear()
        with pytest.raises(NonFiniteError, match=f"the {kind} is not finite"):
            run_tiny(*LATE, f"run_dir={name}")
        record = json.loads(Path(name, "record.json").read_text())
        found.append(without_times(events(record, "not finite")))
        taken.append(list(weights))
    assert found[0] == found[1]
    ((event,),) = found[:1]
    assert len(taken[0]) == event["step"] - 1 < len(taken[1])
    assert all(torch.equal(weight, taken[0][-1][name]) for name, weight in taken[1][-1].items())


@pytest.mark.slow
def test_bad_steps_that_are_noticed_late_are_left_out_like_others(run_tiny, spoil, read_late, monkeypatch):
    spoil("train:5")
    late = run_tiny(*LATE, "trainer.on_nan=skip_batch", "run_dir=late")
    monkeypatch.setitem(UNREAD, "cpu", 1)
    at_once = run_tiny(*LATE, "trainer.on_nan=skip_batch", "run_dir=at_once")
    both = [without_times(events(run.data, "step left out")) for run in (late, at_once)]
    assert both[0] == both[1] != []
    for file in ("metrics.csv", "trail.jsonl", "checkpoints/best.safetensors", "predictions/test.jsonl"):
        assert Path("late", file).read_bytes() == Path("at_once", file).read_bytes()


@pytest.fixture
def fp16(monkeypatch):
    """Have runs compute in fp16 on the CPU, with a loss scale under which the first steps overflow."""

    def trainer(make=L.Trainer, **options):
        scaled = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**24))
        return make(**{**options, "precision": None, "plugins": [*options["plugins"], scaled]})

    monkeypatch.setattr(L, "Trainer", trainer)


@pytest.mark.slow
def test_of_a_step_that_fp16_skips_nobody_takes_notice(run_tiny, fp16, monkeypatch):
    skipped, noticed = [], []
    step = Tuner.optimizer_step

    def watched(self, *arguments, **options):
        before = {name: weight.clone() for name, weight in self.weights().items()}
        step(self, *arguments, **options)
        if all(torch.equal(weight, before[name]) for name, weight in self.weights().items()):
            skipped.append(self.trainer.global_step + 1)

    monkeypatch.setattr(Tuner, "optimizer_step", watched)
    monkeypatch.setattr(AdaLora, "after_step", lambda self, model, step, context: noticed.append(step))
    monkeypatch.setattr(Rules, "after_step", lambda *_: noticed.append("rule"))
    record = run_tiny("peft=adalora", "regularizer=[fgm]", "budget.max_steps=10", "trainer.clip_norm=null")
    assert record.data["status"] == "completed"
    assert skipped == list(range(1, len(skipped) + 1)) != []  # until the scale is small enough
    assert noticed == [each for step in range(len(skipped) + 1, 11) for each in (step, "rule")] != []


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("where", "accumulate"), [pytest.param("forward", 1, marks=pytest.mark.slow), ("backward", 2)])
def test_a_batch_in_pieces_makes_the_same_steps(run_tiny, small_memory, where, accumulate):
    whole = run_tiny(*SAME_STEPS)
    pieces = run_tiny(*SAME_STEPS, f"trainer.accumulate={accumulate}", "run_dir=pieces", *small_memory(where))
    assert losses(pieces) == pytest.approx(losses(whole), rel=1e-5)
    expected = load_file(whole.folder / "checkpoints" / "best.safetensors")
    for name, weight in load_file(pieces.folder / "checkpoints" / "best.safetensors").items():
        assert torch.allclose(weight, expected[name], rtol=1e-4, atol=1e-6), name
    noted = events(pieces.data, "out of memory")
    assert noted[0]["examples"] == 8 // accumulate
    assert "DefaultCPUAllocator: can't allocate memory" in noted[0]["reason"]
    tried = [event["positions"] for event in noted]
    assert all(later < earlier for earlier, later in itertools.pairwise(tried))  # no size is tried twice


class Memory(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and refuses more than so many, as the allocator of a GPU does."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most, self.peak = most, 0
        self.stored: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if type(tensor) is torch.Tensor:
                storage = tensor.untyped_storage()
                self.stored[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.stored = {key: found for key, found in self.stored.items() if not found[0].expired()}
        used = sum(size for _, size in self.stored.values())
        self.peak = max(self.peak, used)
        if used > self.most and used - self.stored[storage._cdata][1] > self.most / 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more")
        return output


@pytest.mark.exhaustive
def test_pieces_find_the_room_that_a_whole_batch_has_taken(run_tiny, monkeypatch):
    """Nothing holds on to the activations of a pass that has been given up, be it the first one of all."""
    fit = one_run.fit

    def run(memory, name):
        def limited(*arguments):
            with memory:
                fit(*arguments)

        monkeypatch.setattr(one_run, "fit", limited)
        return run_tiny(*SAME_STEPS, "data.batch_size=16", "data.eval_batch_size=2", f"run_dir={name}")

    memory = Memory(math.inf)
    whole = run(memory, "whole")
    pieces = run(Memory(0.75 * memory.peak), "pieces")
    assert losses(pieces) == pytest.approx(losses(whole), rel=1e-5)
    assert [event["examples"] for event in events(pieces.data, "out of memory")] == [16]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["backward", "evaluation"])
def test_what_a_run_has_learnt_of_the_memory_is_kept_when_it_is_resumed(run_tiny, small_memory, monkeypatch, where):
    options = [*SAME_STEPS, "data.eval_batch_size=16", "trainer.checkpoint_every=3", *small_memory(where)]
    whole = run_tiny(*options, "run_dir=whole")
    stopped = iter([False] * 8 + [True])
    with monkeypatch.context() as patch:
        patch.setattr(Checkpointing, "on_train_batch_end", lambda *_: next(stopped) and os.kill(os.getpid(), SIGTERM))
        with pytest.raises(Interrupted):
            run_tiny(*options, "run_dir=parts")
    parts = run_tiny(*options, "run_dir=parts")
    noted = [[event["positions"] for event in events(run.data, "out of memory")] for run in (whole, parts)]
    assert noted[1] == noted[0] != []
    for file in ("metrics.csv", "checkpoints/best.safetensors", "predictions/test.jsonl"):
        assert Path("parts", file).read_bytes() == Path("whole", file).read_bytes()


def test_an_evaluation_in_pieces_finds_the_same(run_tiny, small_memory):
    options = ["budget.max_steps=12", "data.eval_batch_size=16"]
    whole = run_tiny(*options)
    pieces = run_tiny(*options, "run_dir=pieces", *small_memory("evaluation"))
    assert {event["stage"] for event in events(pieces.data, "out of memory")} == {"evaluation"}
    assert predicted(pieces) == predicted(whole)
    for found, expected in zip(pieces.data["metrics"], whole.data["metrics"], strict=True):
        assert found["value"] == pytest.approx(expected["value"], rel=1e-5), expected["name"]


@pytest.mark.slow
def test_out_of_memory_can_end_the_run(run_tiny, small_memory):
    with pytest.raises(OutOfMemoryError, match=r"training on 8 examples .* trainer\.accumulate=2"):
        run_tiny("trainer.on_out_of_memory=stop", "run_dir=stopped", *small_memory("backward"))
    assert json.loads(Path("stopped/record.json").read_text())["error"]["type"] == "OutOfMemoryError"


# --- disk ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_disk_that_is_full_before_the_run_leaves_nothing(command, full_for_the_record):
    full_for_the_record(lambda text: True)
    ended = command("run_dir=mine")
    assert ended.code == 2
    assert ended.err.startswith("error: mine/record.json: cannot be written: no space is left on the disk; ")
    assert not Path("mine").exists()


@pytest.mark.slow
def test_a_record_that_cannot_be_written_at_the_end_is_told(command, full_for_the_record, users_callbacks):
    full_for_the_record(lambda text: '"ended_at": null' not in text)
    ended = command(*users_callbacks("Fail", step=2))
    assert ended.code == 1
    assert "error: the callback failed; nor can the record say so: " in ended.err
    assert only_record()["status"] == "running"


@pytest.fixture
def full_for_the_record(monkeypatch):
    """Return a function after which the disk takes no record whose text is so."""
    replace = Path.replace

    def fill(so: Callable[[str], bool]) -> None:
        def put(temporary: Path, target: Path) -> Path:
            if target.name == "record.json" and so(temporary.read_text(encoding="utf-8")):
                raise OSError(errno.ENOSPC, "No space left on device")
            return replace(temporary, target)

        monkeypatch.setattr(Path, "replace", put)

    return fill
