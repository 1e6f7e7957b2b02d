"""Training: it learns, the same configuration gives the same bits, and what only saves memory changes nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from peftlab.record import RunRecord

SHORT = "budget.max_steps=12"


def f1(record: RunRecord, split: str) -> float:
    (value,) = [m["value"] for m in record.data["metrics"] if (m["split"], m["name"]) == (split, "entity_f1")]
    return value


def losses(record: RunRecord) -> list[float]:
    """Return the training loss of every step."""
    with (record.folder / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def digests(record: RunRecord) -> dict[str, str]:
    """Return the digest of every file that a run leaves, but its configuration."""
    return {file["path"]: file["sha256"] for file in record.data["files"] if file["path"] != "config.yaml"}


@pytest.mark.parametrize(
    "overrides",
    [
        ["peft=full", "optimizer.lr=5e-3", "budget.max_steps=80"],
        ["peft=lora", "optimizer.lr=2e-2", "budget.max_steps=80"],
        ["peft=head", "optimizer.lr=1e-1", "budget.max_steps=240", "budget.validate_every=240"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_it_memorises_one_batch(run_tiny, overrides):
    record = run_tiny("budget=overfit", "model.dropout=0", *overrides)
    assert record.data["data"]["splits"]["train"]["rows"] == 8
    assert record.data["data"]["splits"]["validation"]["rows"] == 8
    assert f1(record, "validation") == 1
    assert losses(record)[-1] < losses(record)[0] / 4
    assert not (record.folder / "predictions" / "test.jsonl").exists()  # there is no test


def test_the_same_configuration_gives_the_same_bits(run_tiny, finished):
    assert digests(run_tiny()) == digests(finished)


def test_another_seed_gives_another_run(run_tiny, finished):
    other = run_tiny("seed=1")
    assert other.data["run_id"] != finished.data["run_id"]
    assert losses(other)[0] != losses(finished)[0]
    assert digests(other)["adapter/adapter_model.safetensors"] != digests(finished)["adapter/adapter_model.safetensors"]


def test_loading_in_another_process_changes_nothing(run_tiny):
    """The number of workers is no part of a run's identity."""
    here = run_tiny(SHORT)
    there = run_tiny(SHORT, "data.workers=1", "run_dir=there")
    assert there.data["run_id"] == here.data["run_id"]
    assert digests(there) == digests(here)


def test_callbacks_and_loggers_that_only_show_change_nothing(run_tiny):
    shown = run_tiny(SHORT, "callbacks=[progress]", "trainer.log_every=5")
    silent = run_tiny(SHORT, "callbacks=[]", "logger=[]", "run_dir=silent")
    assert silent.data["run_id"] == shown.data["run_id"]
    of_the_logger = ("metrics.csv", "tables/")
    kept = {name: digest for name, digest in digests(shown).items() if not name.startswith(of_the_logger)}
    assert digests(silent) == kept
    assert not (silent.folder / "metrics.csv").exists()


@pytest.mark.parametrize("peft", ["full", "lora"])
def test_gradient_checkpointing_changes_no_loss(run_tiny, peft):
    """Dropout included: the activations are computed again with the same masks."""
    plain = run_tiny(SHORT, f"peft={peft}", "model.dropout=0.2")
    saving = run_tiny(SHORT, f"peft={peft}", "model.dropout=0.2", "trainer.gradient_checkpointing=true")
    assert losses(saving) == pytest.approx(losses(plain), rel=1e-4)


def test_accumulated_batches_make_one_step(run_tiny):
    cost = run_tiny("budget.max_steps=6", "trainer.accumulate=2").data["cost"]
    assert (cost["steps"], cost["epochs"]) == (6, 2)


def test_accumulated_batches_are_one_large_batch(run_tiny):
    """Up to the weights of their words: each batch counts alike. LoRA's B starts at zero, so it is the gradient."""
    options = ["budget.max_steps=1", "optimizer=sgd", "optimizer.lr=0.1", "trainer.clip_norm=null", "model.dropout=0"]
    one = run_tiny(*options, "data.batch_size=48")
    six = run_tiny(*options, "data.batch_size=8", "trainer.accumulate=6")
    assert one.data["cost"]["epochs"] == six.data["cost"]["epochs"] == 1
    steps = [load_file(record.folder / "adapter" / "adapter_model.safetensors") for record in (one, six)]
    whole, parts = (torch.cat([t.flatten() for name, t in sorted(step.items()) if "lora_B" in name]) for step in steps)
    assert whole.norm() > 0
    assert (whole - parts).norm() < 0.2 * whole.norm()


def test_early_stopping_stops(run_tiny):
    record = run_tiny("callbacks=[early_stopping]", "callbacks.early_stopping.patience=2", "optimizer.lr=1e-9")
    assert record.data["cost"]["steps"] == 3 * 6
    assert record.data["selection"]["step"] == 6


def test_a_budget_that_ends_between_validations_is_validated_at_its_end(run_tiny):
    record = run_tiny("budget.max_steps=8")
    assert record.data["cost"]["steps"] == 8
    validated = [event["step"] for event in record.data["history"] if event["event"] == "validated"]
    assert validated[0] == 6
    assert Path(record.folder, "checkpoints", "best.safetensors").exists()
    assert record.data["selection"]["step"] in (6, 8)
