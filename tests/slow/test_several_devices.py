"""Runs on two processes: what one device computes comes out, and they end together."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.forks import fork_ours, start_interpreters

from peftlab.config import validate
from peftlab.data.module import DataModule
from peftlab.devices.processes import RankError
from peftlab.models.backbone import fetch
from peftlab.one_run import run
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.storage import checkpoints, trees
from peftlab.use.evaluate import tuner_of
from peftlab.use.finished import load

pytestmark = pytest.mark.slow

TWO = ["trainer.devices=2"]
EXACT = ["model.dropout=0", "model.attention_dropout=0", "budget.max_steps=7", "callbacks=[early_stopping]"]
EXACT += ["optimizer=sgd", "optimizer.lr=0.05", "optimizer.algorithm.fused=false"]
"""Of what an optimiser like Adam does with a gradient that is nearly zero, the sign is left to rounding."""


def on_disk(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "record.json").read_text())


def losses(record: RunRecord) -> list[float]:
    with (record.folder / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def predictions(folder: Path, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions" / f"{split}.jsonl").read_text().splitlines()]


def gone(process: int) -> bool:
    """Return whether the process ends within some seconds."""
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{process}/stat").read_text().split(")")[1].split()[0] == "Z":  # dead, and nobody has asked yet
            return True
        time.sleep(0.2)
    return False


def train(*arguments: str, python: tuple[str, ...] = ("-m", "train")) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *python, *arguments], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.parametrize(
    ("strategy", "peft", "more"),
    [
        pytest.param("ddp", "lora", ["trainer.accumulate=2"], marks=pytest.mark.new_interpreter),
        pytest.param(  # not every part gets an example
            "ddp", "full", ["data.batch_size=3", "trainer.accumulate=2"], marks=pytest.mark.exhaustive
        ),
        ("ddp", "lora", ["model.quantize=nf4"]),
        ("fsdp", "full", ["trainer.accumulate=2"]),
    ],
)
def test_two_devices_compute_what_one_does(compose_config, tiny_overrides, strategy, peft, more):
    options = [*tiny_overrides, *EXACT, f"peft={peft}", *more]
    one = run(compose_config(*options, "run_dir=one"))
    two = run(compose_config(*options, "run_dir=two", *TWO, f"trainer.strategy={strategy}"))

    assert two.data["run_id"] == one.data["run_id"]
    environment = two.data["environment"]
    assert (environment["devices"], environment["world_size"], environment["strategy"]) == (2, 2, strategy)
    assert environment["effective_batch_size"] == one.data["environment"]["effective_batch_size"]
    assert [file["path"] for file in two.data["files"]] == [file["path"] for file in one.data["files"]]
    for key in ("steps", "epochs"):
        assert two.data["cost"][key] == one.data["cost"][key]

    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    for file in ("checkpoints/best.safetensors", "adapter/adapter_model.safetensors"):
        expected, found = load_file(one.folder / file), load_file(two.folder / file)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.allclose(found[name], tensor, rtol=1e-3, atol=1e-5), name
    for event, other in zip(one.data["history"], two.data["history"], strict=True):
        assert {**event, "at": None} == {**other, "at": None}  # the scores are ratios of counts


@pytest.mark.parametrize(("strategy", "steps"), [("ddp", 60), pytest.param("fsdp", 4, marks=pytest.mark.exhaustive)])
def test_what_two_devices_evaluate_is_what_the_saved_model_predicts(compose_config, tiny_overrides, strategy, steps):
    """On the same weights: the same bits, every example once, in the order of the file."""
    options = [*tiny_overrides, *TWO, f"trainer.strategy={strategy}", "data.eval_batch_size=3", "optimizer.lr=2e-2"]
    record = run(compose_config(*options, f"budget.max_steps={steps}", "callbacks=[]"))
    tuner = tuner_of(load(record.folder))
    spec = validate(RunFolder(record).read_config())
    data = DataModule(spec.data, tuner.task, fetch(spec.model).processor("tokenizer"), spec.budget, spec.seed)
    data.load()
    expected, answers = {}, []
    for batch in data.test_dataloader():
        with torch.no_grad():
            found = tuner.task.answers(tuner(batch), batch, tuner.model, final=True)
        answers += found
        expected |= {one["id"]: one for one in map(tuner.task.kept, batch.examples, found)}
    found = predictions(record.folder, "test")
    assert [prediction["id"] for prediction in found] == [f"test:{n}" for n in range(16)]
    assert found == [expected[prediction["id"]] for prediction in found]
    scores = {m["name"]: m["value"] for m in record.data["metrics"] if m["split"] == "test" and m["name"] != "loss"}
    assert scores == tuner.task.scorer.details(tuner.task.scorer.total(answers))
    assert scores["entity_f1"] > 0 or steps < 60  # in which it learns something


@pytest.mark.parametrize(
    ("how", "cause"), [("raise", "ArithmeticError: one rank has failed"), ("SIGKILL", "exit code -9")]
)
def test_a_rank_that_fails_ends_the_run(compose_config, tiny_overrides, disturb, how, cause):
    with pytest.raises(RankError, match=f"rank 1 failed: .*{cause}"):
        run(compose_config(*tiny_overrides, *TWO, *disturb(1, how), "run_dir=run"))
    record = on_disk(Path("run"))
    assert (record["status"], record["error"]["type"]) == ("failed", "RankError")
    assert cause in record["error"]["message"]
    assert not torch.distributed.is_initialized()
    assert "LOCAL_RANK" not in os.environ


def test_a_failure_of_rank_0_is_its_own(compose_config, tiny_overrides, disturb):
    with pytest.raises(ArithmeticError, match="one rank has failed"):
        run(compose_config(*tiny_overrides, *TWO, *disturb(0, "raise"), "run_dir=run"))
    assert on_disk(Path("run"))["error"]["type"] == "ArithmeticError"
    assert gone(int(Path("pids/1").read_text()))


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=pytest.mark.exhaustive)])
def test_ctrl_c_ends_all_ranks_after_a_step(tiny_overrides, disturb, strategy):
    ended = train(*tiny_overrides, *TWO, f"trainer.strategy={strategy}", "run_dir=run", *disturb(0, "SIGINT"), "seed=1")
    assert (ended.returncode, ended.stderr) == (130, "")
    record = on_disk(Path("run"))
    assert (record["status"], record["cost"]["steps"]) == ("interrupted", 2)  # the signal came when the second was over
    path = checkpoints.newest_whole(Path("run/checkpoints"), sharded=strategy == "fsdp")
    assert checkpoints.step_of(path) == 2
    if strategy == "ddp":
        weights = trees.read(path)["state_dict"]
        assert sum(weight.numel() for weight in weights.values()) == record["method"]["trainable_parameters"]
    assert gone(int(Path("pids/1").read_text()))


@pytest.mark.parametrize(
    ("strategy", "more"),
    [
        ("ddp", ["regularizer=[fgm]"]),
        pytest.param("fsdp", ["peft=full", "trainer.accumulate=2"], marks=pytest.mark.exhaustive),
    ],
)
def test_two_devices_go_on_to_the_same_bits(tiny_overrides, disturb, strategy, more):
    """Dropout included: each rank goes on with its own random numbers."""
    options = [*tiny_overrides, *TWO, f"trainer.strategy={strategy}", "budget.max_steps=10", "model.dropout=0.2", *more]
    never = 5
    assert train(*options, *disturb(never, "SIGTERM"), "run_dir=whole").returncode == 0
    assert train(*options, *disturb(1, "SIGTERM"), "run_dir=parts").returncode == 143
    assert train(*options, *disturb(1, "SIGTERM"), "run_dir=parts").returncode == 0  # it is past the second step
    events = [(event["event"], event.get("step")) for event in on_disk(Path("parts"))["history"]]
    assert ("resumed", 2) in events
    for file in ("metrics.csv", "checkpoints/best.safetensors", "predictions/test.jsonl"):
        assert Path("parts", file).read_bytes() == Path("whole", file).read_bytes()


@pytest.mark.exhaustive
def test_shares_that_were_being_written_when_a_run_was_killed_are_passed_over(tiny_overrides, disturb):
    """What is left: a folder that had not got its name, one whose share is damaged, and a whole one before them."""
    options = [*tiny_overrides, *TWO, "trainer.strategy=fsdp", "budget.max_steps=10", "trainer.checkpoint_every=1"]
    options += ["callbacks=[]"]
    assert train(*options, "run_dir=whole").returncode == 0
    # in the place of a callback that is no part of the identity
    killed = [part.replace("callbacks.disturb", "callbacks.progress") for part in disturb(0, "SIGKILL")]
    assert train(*options, *killed, "run_dir=parts").returncode == -9
    (before,) = checkpoints.files(Path("parts/checkpoints"))
    shutil.copytree(before, before.with_name(f".step-2.sharded.{2**120}"))
    shutil.copytree(before, before.with_name("step-2.sharded"))
    share = max(Path("parts/checkpoints/step-2.sharded").glob("*.distcp"), key=lambda file: file.stat().st_size)
    share.write_bytes(share.read_bytes()[:-1])
    ended = train(*options, "run_dir=parts")
    assert ended.returncode == 0, ended.stderr
    assert f"step-2.sharded is damaged and passed over: the sha256 of {share.name}" in ended.stdout
    assert RunRecord.load(Path("parts")).resumed_at == 1
    assert list(Path("parts/checkpoints").glob(".*")) == []
    for file in ("metrics.csv", "checkpoints/best.safetensors", "predictions/test.jsonl"):
        assert Path("parts", file).read_bytes() == Path("whole", file).read_bytes()


def test_a_device_computes_its_share_in_pieces_without_the_others(tiny_overrides, small_memory):
    options = [*tiny_overrides, *EXACT, *TWO, "trainer.strategy=ddp", "trainer.accumulate=2", "callbacks=[]"]
    options += ["data.batch_size=32", "data.eval_batch_size=16"]
    assert train(*options, "run_dir=whole").returncode == 0
    ended = train(*options, *small_memory("backward", rank=1), "run_dir=pieces")
    assert ended.returncode == 0, ended.stderr
    whole, pieces = (RunRecord.load(Path(name)) for name in ("whole", "pieces"))
    assert losses(pieces) == pytest.approx(losses(whole), rel=1e-4)
    expected = load_file(Path("whole/checkpoints/best.safetensors"))
    for name, tensor in load_file(Path("pieces/checkpoints/best.safetensors")).items():
        assert torch.allclose(tensor, expected[name], rtol=1e-3, atol=1e-5), name
    noted = [event for event in pieces.data["history"] if event["event"] == "out of memory"]
    assert {event["rank"] for event in noted} == {1}
    assert {event["stage"] for event in noted} == {"training"}


@pytest.mark.exhaustive
def test_a_device_evaluates_its_batches_in_pieces_without_the_others(tiny_overrides, small_memory):
    options = [*tiny_overrides, *TWO, "trainer.strategy=ddp", "data.eval_batch_size=8", "callbacks=[]"]
    assert train(*options, "run_dir=whole").returncode == 0
    assert train(*options, *small_memory("evaluation", rank=1), "run_dir=pieces").returncode == 0
    assert predictions(Path("pieces"), "test") == predictions(Path("whole"), "test")
    noted = [event for event in on_disk(Path("pieces"))["history"] if event["event"] == "out of memory"]
    assert {(event["rank"], event["stage"]) for event in noted} == {(1, "evaluation")}


def test_where_the_model_is_shared_out_the_run_ends(tiny_overrides, small_memory):
    # all 48 examples in one batch: of several, the first is drawn, and may be the smallest
    options = [*tiny_overrides, *TWO, "trainer.strategy=fsdp", "data.batch_size=48", *small_memory("forward", rank=1)]
    ended = train(*options, "run_dir=run", "callbacks=[]")
    assert ended.returncode == 1
    assert "out of memory in training on 24 examples" in on_disk(Path("run"))["error"]["message"]


def test_no_rank_outlives_rank_0(tiny_overrides, disturb):
    assert train(*tiny_overrides, *TWO, *disturb(0, "SIGKILL")).returncode == -9
    assert gone(int(Path("pids/1").read_text()))


@pytest.mark.exhaustive
def test_processes_that_torchrun_has_started(tiny_overrides):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "train")
    for starts in (start_interpreters, fork_ours):
        starts()
        ended = train(*tiny_overrides, "trainer.devices=auto", "run_dir=run", python=torchrun)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert ended.stdout.count("finished already") in (0, 1)
    assert "this very run is finished already" in ended.stdout
    record = on_disk(Path("run"))
    assert (record["status"], record["environment"]["world_size"]) == ("completed", 2)
    assert not Path("runs").exists()
