"""Training: it learns, the same configuration gives the same bits, and what only saves memory changes nothing."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from peftlab.errors import ConfigError, NonFiniteError
from peftlab.methods.library import LibraryMethod
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.use.finished import load

SHORT = "budget.max_steps=12"


def f1(record: RunRecord, split: str) -> float:
    (value,) = [m["value"] for m in record.data["metrics"] if (m["split"], m["name"]) == (split, "entity_f1")]
    return value


def loss(record: RunRecord, split: str) -> float:
    (value,) = [m["value"] for m in record.data["metrics"] if (m["split"], m["name"]) == (split, "loss")]
    return value


def losses(record: RunRecord) -> list[float]:
    """Return the training loss of every step."""
    with (record.folder / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def weights(record: RunRecord) -> dict[str, torch.Tensor]:
    """Return what is trained, as it was at the best validation."""
    return load_file(record.folder / "checkpoints" / "best.safetensors")


def digests(record: RunRecord) -> dict[str, str]:
    """Return the digest of every file that a run leaves, but its configuration."""
    return {file["path"]: file["sha256"] for file in record.data["files"] if file["path"] != "config.yaml"}


@pytest.mark.slow
def test_a_step_is_the_same_whether_lightning_takes_it_or_not(run_tiny, monkeypatch):
    """It takes those of runs with a callback that acts within a step; rows of loggers are the same, too."""
    found = []
    for within in (False, True):
        monkeypatch.setattr("peftlab.training.stepping.acts_within_steps", lambda trainer, within=within: within)
        record = run_tiny(SHORT, "trainer.log_every=2", "regularizer=[ema]", f"run_dir=within_{within}")
        found.append([(record.folder / file).read_bytes() for file in ("metrics.csv", "trail.jsonl")])
        found[-1].append((record.folder / "checkpoints" / "best.safetensors").read_bytes())
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(["peft=full", "optimizer.lr=5e-3", "budget.max_steps=80"], marks=pytest.mark.exhaustive),
        ["peft=lora", "optimizer.lr=2e-2", "budget.max_steps=80", "budget.validate_every=80"],
        pytest.param(
            ["peft=head", "optimizer.lr=1e-1", "budget.max_steps=240", "budget.validate_every=240"],
            marks=pytest.mark.exhaustive,  # its contract has it learn in a few steps
        ),
    ],
    ids=["full", "lora", "head"],
)
def test_it_memorises_one_batch(run_tiny, overrides):
    record = run_tiny("budget=overfit", "model.dropout=0", *overrides)
    assert record.data["data"]["splits"]["train"]["rows"] == 8
    assert record.data["data"]["splits"]["validation"]["rows"] == 8
    assert f1(record, "validation") == 1
    assert losses(record)[-1] < losses(record)[0] / 4
    assert not (record.folder / "predictions" / "test.jsonl").exists()  # there is no test


@pytest.fixture(scope="module")
def short(run_tiny, tmp_path_factory):
    """A short run; tests only read it."""
    return run_tiny(SHORT, f"run_dir={tmp_path_factory.mktemp('short') / 'run'}")


@pytest.mark.slow
def test_the_same_configuration_gives_the_same_bits_wherever_its_data_are_loaded(run_tiny, short):
    """The number of workers is no part of a run's identity."""
    again = run_tiny(SHORT, "data.workers=1", "run_dir=again")
    assert again.data["run_id"] == short.data["run_id"]
    assert digests(again) == digests(short)


@pytest.mark.slow
def test_another_seed_gives_another_run(run_tiny, short):
    other = run_tiny(SHORT, "seed=1", "run_dir=other")
    assert other.data["run_id"] != short.data["run_id"]
    assert losses(other)[0] != losses(short)[0]
    assert digests(other)["adapter/adapter_model.safetensors"] != digests(short)["adapter/adapter_model.safetensors"]


@pytest.mark.slow
def test_callbacks_and_loggers_that_only_show_change_nothing(run_tiny, short):
    other = run_tiny(SHORT, "callbacks=[progress]", "logger=[]", "run_dir=silent")
    assert other.data["run_id"] == short.data["run_id"]
    logged = {name for name in digests(short) if name == "metrics.csv" or name.startswith("tables/")}
    assert len(logged) == 5
    assert digests(other) == {name: digest for name, digest in digests(short).items() if name not in logged}
    assert not (other.folder / "metrics.csv").exists()


def test_dropout_acts_in_training_and_in_no_evaluation(run_tiny):
    options = ["budget.max_steps=1", "budget.validate_every=1", "optimizer.lr=1e-9"]
    without, dropped = (
        run_tiny(*options, f"model.dropout={p}", f"model.attention_dropout={p}", f"run_dir=p{p}") for p in (0, 0.5)
    )
    assert losses(dropped)[0] != pytest.approx(losses(without)[0], rel=1e-3)
    assert loss(dropped, "test") == pytest.approx(loss(without, "test"), rel=1e-6)


def test_the_gradient_is_clipped(run_tiny):
    """The update of LoRA begins as zero: after one step of SGD it is the gradient."""
    options = ["budget.max_steps=1", "optimizer=sgd", "optimizer.lr=1", "scheduler=constant"]
    options += ["scheduler.warmup_fraction=null", "trainer.clip_norm=1e-3"]
    update = [tensor for name, tensor in weights(run_tiny(*options)).items() if "lora_B" in name]
    assert 0 < torch.nn.utils.get_total_norm(update) < 1.001e-3


@pytest.mark.slow
@pytest.mark.parametrize("peft", [pytest.param("full", marks=pytest.mark.exhaustive), "lora"])
def test_gradient_checkpointing_changes_no_loss(run_tiny, peft):
    """Dropout included: the activations are computed again with the same masks."""
    options = [f"peft={peft}", "model.dropout=0.2", "budget.max_steps=4", "budget.test=false"]
    plain = run_tiny(*options, "run_dir=plain")
    saving = run_tiny(*options, "trainer.gradient_checkpointing=true", "run_dir=saving")
    assert losses(saving) == pytest.approx(losses(plain), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [pytest.param(2, marks=pytest.mark.exhaustive), 5])
def test_a_batch_in_parts_makes_the_same_steps(run_tiny, accumulate):
    """Five parts of a batch of eight are unlike in size, and their words unlike in number."""
    options = [SHORT, "model.dropout=0", "model.attention_dropout=0", "optimizer=sgd", "optimizer.lr=0.1"]
    whole = run_tiny(*options)
    parts = run_tiny(*options, f"trainer.accumulate={accumulate}", "run_dir=parts")
    assert parts.data["run_id"] == whole.data["run_id"]
    assert (parts.data["cost"]["steps"], parts.data["cost"]["epochs"]) == (12, 2)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)
    for name, tensor in weights(whole).items():
        assert torch.allclose(weights(parts)[name], tensor, rtol=1e-4, atol=1e-6), name


@pytest.mark.slow
def test_a_batch_smaller_than_its_parts_is_filled_up(run_tiny):
    options = ["budget.max_steps=2", "model.dropout=0", "model.attention_dropout=0", "data.batch_size=2"]
    whole = run_tiny(*options)
    parts = run_tiny(*options, "trainer.accumulate=3", "run_dir=parts")
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)


@pytest.mark.slow
def test_early_stopping_stops(run_tiny):
    record = run_tiny("callbacks=[early_stopping]", "callbacks.early_stopping.patience=2", "optimizer.lr=1e-9")
    assert record.data["cost"]["steps"] == 3 * 6
    assert record.data["selection"]["step"] == 6


@pytest.mark.slow
def test_a_budget_that_ends_between_validations_is_validated_at_its_end(run_tiny):
    record = run_tiny("budget.max_steps=8")
    assert record.data["cost"]["steps"] == 8
    validated = [event["step"] for event in record.data["history"] if event["event"] == "validated"]
    assert validated[0] == 6
    assert Path(record.folder, "checkpoints", "best.safetensors").exists()
    assert record.data["selection"]["step"] in (6, 8)


WEIGHTED = ["model.dropout=0", "model.attention_dropout=0", "model.head_dropout=0", "optimizer.lr=1e-3"]
WEIGHTED += ["budget.max_steps=10", "budget.validate_every=10", "task.label_smoothing=0.1"]


@pytest.fixture(scope="module")
def weighted(run_tiny, tmp_path_factory):
    """Runs with class weights, by the number of parts that each batch of 8 is computed in."""
    folder = tmp_path_factory.mktemp("weighted")
    return {
        n: run_tiny(*WEIGHTED, "task.class_weights=balanced", f"trainer.accumulate={n}", f"run_dir={folder / str(n)}")
        for n in (1, 5)
    }


class TestClassWeights:
    @pytest.mark.slow
    def test_a_batch_in_parts_makes_the_same_steps(self, weighted):
        whole, parts = weights(weighted[1]), weights(weighted[5])
        assert max(float((whole[name] - parts[name]).abs().max()) for name in whole) < 1e-6

    @pytest.mark.slow
    def test_they_count(self, run_tiny, weighted):
        bare = run_tiny(*WEIGHTED, "budget.max_steps=1", "budget.test=false", "run_dir=bare")
        assert losses(bare)[0] != pytest.approx(losses(weighted[1])[0], rel=1e-2)

    @pytest.mark.slow
    def test_what_balanced_stands_for_is_kept(self, weighted, tiny_data, run_tiny):
        config = RunFolder(weighted[1]).read_config()
        lines = (tiny_data / "train.txt").read_text().split("\n")
        counts = Counter(line.split(" ")[1] for line in lines if line)
        kept = config["task"]["class_weights"]
        assert list(kept) == weighted[1].data["data"]["labels"]
        for tag, count in counts.items():
            assert kept[tag] == pytest.approx(sum(counts.values()) / (len(counts) * count))
        spelt = "{" + ", ".join(f"{tag}: {weight!r}" for tag, weight in kept.items()) + "}"
        again = run_tiny(*WEIGHTED, f"task.class_weights={spelt}", "run_dir=again")
        assert again.data["identity"] == weighted[1].data["identity"]

    @pytest.mark.slow
    def test_a_finished_run_scores_with_them(self, weighted, tiny_data):
        run = load(weighted[1].folder)
        assert run.evaluate().equal
        loss = {score.name: score.value for score in run.evaluate(tiny_data / "test.txt").scores}["loss"]
        recorded = {m["name"]: m["value"] for m in weighted[1].data["metrics"] if m["split"] == "test"}
        assert loss == recorded["loss"]

    def test_a_label_that_is_none_is_refused_before_anything_is_written(self, run_tiny):
        with pytest.raises(
            ConfigError, match=r"no label 'PERS'\. Did you mean 'PER'\? Allowed: LOC, ORG, PER, O, B-LOC"
        ):
            run_tiny("task.class_weights={PERS: 2}", "run_dir=none")
        assert not Path("none").exists()


@pytest.mark.slow
def test_the_best_by_the_loss_is_the_one_of_the_least(run_tiny):
    record = run_tiny("task.selection.metric=loss", "budget.max_steps=30", "callbacks=[early_stopping]")
    validated = [event["loss"] for event in record.data["history"] if event["event"] == "validated"]
    assert len(validated) == 5  # it goes on while the loss falls
    assert record.data["selection"]["value"] == min(validated) < validated[0]
    assert record.data["selection"]["mode"] == "min"


def test_what_is_minimised_is_one_thing_everywhere(run_tiny, monkeypatch):
    """The penalty of a method is in the loss of a step, and where a step went wrong it is found there."""
    monkeypatch.setattr(LibraryMethod, "penalty", lambda self, model: torch.tensor(torch.nan))
    with pytest.raises(NonFiniteError, match="step 1: the loss is not finite; first seen in penalty"):
        run_tiny(SHORT)


@pytest.mark.slow
@pytest.mark.parametrize(
    "adalora", [["peft=adalora"], ["peft=combined", "peft@peft.first=bitfit", "peft@peft.second=adalora"]]
)
def test_averaged_weights_have_the_ranks_that_they_were_pruned_to(run_tiny, adalora):
    key = "peft.second" if len(adalora) > 1 else "peft"
    sizes = [f"{key}.init_r=4", f"{key}.target_r=2", "budget.max_steps=12", "budget.select=last"]
    swa = ["regularizer=[swa]", "regularizer.swa.start=0.2", "scheduler=constant"]
    model = load(run_tiny(*adalora, *sizes, *swa).folder).model
    values = [own for name, own in model.named_parameters() if ".lora_E." in name]
    assert sum(int(own.count_nonzero()) for own in values) == 2 * len(values)
