"""The whole story of a run on the tiny model: what it leaves behind, and that it is true."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import yaml
from seqeval.metrics import f1_score, precision_score, recall_score

from peftlab.data.module import DataModule
from peftlab.runs.record import RunRecord
from peftlab.use.evaluate import tuner_of
from peftlab.use.finished import load


def metric(record: RunRecord, split: str, name: str) -> float:
    (value,) = [m["value"] for m in record.data["metrics"] if (m["split"], m["name"]) == (split, name)]
    return value


def predictions(record: RunRecord, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (record.folder / "predictions" / f"{split}.jsonl").read_text().splitlines()]


def sentences(file: Path) -> list[tuple[list[str], list[str]]]:
    """Return words and tags of every sentence of a column file."""
    blocks = [block.splitlines() for block in file.read_text().split("\n\n") if block.strip()]
    return [([line.split()[0] for line in block], [line.split()[1] for line in block]) for block in blocks]


def empty(value: Any, key: str = "") -> list[str]:
    """Return the dotted keys of the nulls in `value`."""
    if isinstance(value, dict):
        return [found for name, child in value.items() for found in empty(child, f"{key}.{name}".lstrip("."))]
    return [key] if value is None else []


# --- the record ------------------------------------------------------------------------------------------------------


def test_the_record_on_disk_is_the_one_returned(finished):
    assert json.loads((finished.folder / "record.json").read_text()) == json.loads(json.dumps(finished.data))


def test_the_record_is_complete(finished):
    record = finished.data
    assert record["status"] == "completed"
    unknown = {"error", "data.licence", "code.commit", "code.diff_sha256", "cost.energy_joules"}
    assert set(empty(record)) <= unknown
    assert record["command"] == ["python", "-m", "train"]
    assert record["overrides"] == [f"run_dir={finished.folder}"]
    assert (record["name"], record["method"]["name"]) == ("ner-files-lora", "lora")
    assert record["environment"]["seeds"] == {"global": 0}
    assert record["environment"]["precision"] == "32-true"
    assert {name: split["rows"] for name, split in record["data"]["splits"].items()} == {
        "train": 48,
        "validation": 16,
        "test": 16,
    }
    assert set(record["data"]["labels"]) == {"O", *(f"{b}-{t}" for b in "BI" for t in ("LOC", "ORG", "PER"))}
    assert (record["cost"]["steps"], record["cost"]["epochs"]) == (60, 10)
    assert record["cost"]["train_flops"] > 0


def test_the_record_lists_every_file_with_its_digest(finished):
    listed = {file["path"]: file for file in finished.data["files"]}
    assert set(listed) == {
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "adapter/labels.json",
        "checkpoints/best.safetensors",
        "config.yaml",
        "metrics.csv",
        "packages.txt",
        "predictions/test.jsonl",
        "predictions/validation.jsonl",
        "trail.jsonl",
        *(f"tables/{split}/{name}.csv" for split in ("validation", "test") for name in ("confusion", "entity_types")),
    }
    on_disk = {str(path.relative_to(finished.folder)) for path in finished.folder.rglob("*") if path.is_file()}
    assert on_disk == {*listed, "record.json", "log.txt", ".lock"}
    for name, file in listed.items():
        content = (finished.folder / name).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_kept_configuration_has_no_auto_left(finished):
    config = yaml.safe_load((finished.folder / "config.yaml").read_text())
    assert config["data"]["splits"] == {"train": "train.txt", "validation": "dev.txt", "test": "test.txt"}
    assert config["data"]["labels"] == ["LOC", "ORG", "PER"]
    assert "auto" not in config["trainer"].values()


def test_every_step_is_logged(finished):
    with (finished.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = {int(row["step"]): float(row["train/loss"]) for row in rows if row["train/loss"]}
    assert len(losses) == 60
    assert losses[max(losses)] < losses[min(losses)] / 2
    assert len([row for row in rows if row["validation/entity_f1"]]) >= 10


def test_the_log_holds_the_tables_and_the_closing_lines(finished):
    text = (finished.folder / "log.txt").read_text()
    method, cost = finished.data["method"], finished.data["cost"]
    assert f"{method['trainable_parameters']:,} trainable of {method['total_parameters']:,}" in text
    assert f"at {cost['samples_per_second']:.0f} samples/s" in text
    assert text.rstrip().endswith(f"run folder: {finished.folder}")
    for split in ("validation", "test"):
        assert f"{split}, best checkpoint (" in text
        scores = (metric(finished, split, f"entity_{name}") for name in ("precision", "recall", "f1"))
        precision, recall, f1 = (f"{score:.4f}" for score in scores)
        assert [precision, recall, f1] in [line.split()[2:5] for line in text.splitlines() if "all entities" in line]


# --- scores and predictions ------------------------------------------------------------------------------------------


def test_it_learns_something_but_not_everything(finished):
    """Or the tests below would compare nothing with nothing."""
    assert 0.1 < metric(finished, "test", "entity_f1") < 1


@pytest.mark.parametrize(("split", "file"), [("validation", "dev.txt"), ("test", "test.txt")])
def test_the_predictions_hold_every_example_in_order(finished, tiny_data, split, file):
    found = predictions(finished, split)
    assert [p["id"] for p in found] == [f"{split}:{n}" for n in range(16)]
    assert [(p["input"], p["gold"]) for p in found] == sentences(tiny_data / file)
    for p in found:
        assert len(p["predicted"]) == len(p["probability"]) == len(p["input"])
        assert all(0 < probability <= 1 for probability in p["probability"])
        for entity in [*p["gold_entities"], *p["predicted_entities"]]:
            assert entity["text"] == " ".join(p["input"][entity["start"] : entity["end"]])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_scores_are_those_of_seqeval_on_the_predictions(finished, split):
    gold = [p["gold"] for p in predictions(finished, split)]
    predicted = [p["predicted"] for p in predictions(finished, split)]
    for name, score in {"f1": f1_score, "precision": precision_score, "recall": recall_score}.items():
        assert metric(finished, split, f"entity_{name}") == pytest.approx(score(gold, predicted), abs=1e-6)


@pytest.mark.slow
def test_truncated_words_are_counted_and_scored_as_missed(run_tiny, tiny_data):
    record = run_tiny("data.max_tokens=16", "data.long=truncate")
    found = predictions(record, "test")
    assert [(p["input"], p["gold"]) for p in found] == sentences(tiny_data / "test.txt")
    missed = [(p["predicted"][n], p["gold"][n]) for p in found for n, q in enumerate(p["probability"]) if q is None]
    assert record.data["data"]["splits"]["test"]["truncated"] == len(missed)
    assert {predicted for predicted, _ in missed} == {"O"}
    assert {gold for _, gold in missed} > {"O"}
    expected = recall_score([p["gold"] for p in found], [p["predicted"] for p in found])
    assert metric(record, "test", "entity_recall") == pytest.approx(expected, abs=1e-6)


# --- which checkpoint ------------------------------------------------------------------------------------------------


BY_THE_LOSS = ["task.selection.metric=loss", "task.selection.mode=min", "budget.max_steps=24", "run_dir=run"]
"""Four epochs, in which the loss falls."""


def test_the_best_checkpoint_is_tested_not_the_last(run_tiny, users_callbacks, validations):
    record = run_tiny(*BY_THE_LOSS, *users_callbacks("Spoil", step=20))
    losses = {e["step"]: e["loss"] for e in record.data["history"] if e["event"] == "validated"}
    assert losses[24] > 2 * losses[18]
    selection = record.data["selection"]
    assert selection["value"] == min(losses.values()) == losses[selection["step"]]
    assert metric(record, "validation", "loss") == selection["value"]
    assert metric(record, "test", "loss") < losses[24] / 2
    assert len(validations) == 1  # of the best, once more
    predictions_are_those_of_the_loaded(record)


def test_the_score_of_the_selection_is_that_of_its_checkpoint(finished):
    selection = finished.data["selection"]
    assert (selection["metric"], selection["split"], selection["mode"]) == ("entity_f1", "validation", "max")
    validated = {e["step"]: e["entity_f1"] for e in finished.data["history"] if e["event"] == "validated"}
    assert list(validated) == list(range(6, 61, 6))
    assert selection["value"] == max(validated.values()) == validated[selection["step"]]
    assert metric(finished, "validation", "entity_f1") == selection["value"]


@pytest.fixture
def validations(monkeypatch):
    """The calls of Lightning's `validate`."""
    calls: list[Any] = []
    validate = lightning.Trainer.validate
    monkeypatch.setattr(lightning.Trainer, "validate", lambda *a, **k: calls.append(a) or validate(*a, **k))
    return calls


def predictions_are_those_of_the_loaded(record):
    assert load("run", allow=["users_callbacks"]).evaluate().equal
    found = {one["id"]: one for one in decoded(record.folder, "validation")[1]}
    assert predictions(record, "validation") == [found[f"validation:{n}"] for n in range(16)]


@pytest.mark.slow
def test_the_best_that_was_just_validated_is_not_validated_once_more(run_tiny, validations):
    record = run_tiny(*BY_THE_LOSS)
    assert record.data["selection"]["step"] == 24
    assert validations == []
    predictions_are_those_of_the_loaded(record)


# --- the model, loaded again -----------------------------------------------------------------------------------------


def decoded(folder: Path, split: str = "test") -> tuple[list[torch.Tensor], list[dict[str, Any]]]:
    """Load a run; return its logits and its predictions on a split, as a run keeps them."""
    run = load(folder, allow=["users_callbacks"])
    tuner, spec = tuner_of(run), run.spec
    data = DataModule(spec.data, tuner.task, run.processor, spec.budget, spec.seed)
    data.load()
    batches = list({"validation": data.val_dataloader, "test": data.test_dataloader}[split]())
    with torch.no_grad():
        outputs = [tuner(batch) for batch in batches]
    found = []
    for one, batch in zip(outputs, batches, strict=True):
        found += map(tuner.task.kept, batch.examples, tuner.task.answers(one, batch, tuner.model, final=True))
    return [one.logits for one in outputs], found


@pytest.mark.parametrize("peft", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_a_loaded_run_predicts_what_the_run_predicted(run_tiny, peft):
    record = run_tiny(f"peft={peft}", "budget.max_steps=12")
    assert record.data["method"]["name"] == peft
    logits, found = decoded(record.folder)
    again, _ = decoded(record.folder)
    assert all(torch.equal(one, other) for one, other in zip(logits, again, strict=True))
    assert {p["id"]: p["probability"] for p in found} == {
        p["id"]: p["probability"] for p in predictions(record, "test")
    }
    assert {p["id"]: p["predicted"] for p in found} == {p["id"]: p["predicted"] for p in predictions(record, "test")}
