"""Clients that train in rounds: one is a central training, and none loses anything when something dies."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from peftlab.errors import ConfigError, RunError
from peftlab.federated.local import LocalTraining
from peftlab.federated.workers import Worker
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.use.check import check
from peftlab.use.finished import load

pytestmark = pytest.mark.slow

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


def test_rounds_of_one_client_that_keeps_no_state_are_the_steps_of_a_central_training(run_tiny, federated):
    sgd = [
        "optimizer=sgd",
        "optimizer.algorithm.momentum=0",
        "optimizer.algorithm.nesterov=false",
        "model.dropout=0",
        "model.attention_dropout=0",
    ]
    sgd += ["model.head_dropout=0", "optimizer.lr=0.1", "scheduler=cosine"]
    central = run_tiny(*LABELS, *sgd, "budget.max_steps=8", "budget.validate_every=9", "run_dir=c")
    options = ["federated.clients=1", "federated.local_epochs=null", "federated.local_steps=1"]
    rounds = federated(*options, *sgd, "budget.validate_every=9", "run_dir=f", rounds=8)
    assert adapter(rounds) == adapter(central)


def test_the_record_says_who_has_learnt_what_in_which_round(federated):
    record = federated("federated.by=dirichlet", "federated.alpha=0.5", "federated.fraction=0.67")
    section = record.extensions["federated"]
    clients, rounds = section["clients"], section["rounds"]
    assert sum(client["examples"] for client in clients) == record.data["data"]["splits"]["train"]["rows"]
    assert all(sum(client["classes"].values()) == pytest.approx(1, abs=1e-3) for client in clients)
    assert [each["round"] for each in rounds] == [1, 2]
    assert all(len(each["clients"]) == 2 for each in rounds)
    size = sum(tensor.nbytes for tensor in load_file(Path(record.folder) / "checkpoints/best.safetensors").values())
    assert all(each["bytes_up"] == each["bytes_down"] == 2 * size for each in rounds)
    assert section["bytes_up"] == 4 * size
    assert all(0 < each["lost"] < 1 and each["validation"].keys() == {"entity_f1"} for each in rounds)
    assert record.data["cost"]["steps"] == 2
    assert record.data["cost"]["train_flops"] > 0
    assert not (Path(record.folder) / "checkpoints" / "clients").exists()
    assert check(RunFolder(record)).causes == []
    assert load(record.folder).predict(["Marie Curie moved to Rome"])


@pytest.mark.exhaustive
def test_fedprox_holds_clients_back_and_half_a_step_goes_half_the_way(federated):
    losses = {}
    for mu in (0, 100):
        record = federated(f"federated.mu={mu}", "federated.local_epochs=6", option="fedprox", rounds=1)
        losses[mu] = record.extensions["federated"]["rounds"][0]["loss"]
    assert losses[100] > losses[0]
    plain = ["peft=bitfit", "optimizer=sgd"]
    start, half, whole = (
        load_file(Path(federated(*plain, rate, rounds=1).folder) / "checkpoints/best.safetensors")
        for rate in ("optimizer.lr=1e-12", "federated.server_lr=0.5", "federated.server_lr=1.0")
    )
    for name, tensor in half.items():
        torch.testing.assert_close(tensor, (start[name] + whole[name]) / 2, atol=1e-6, rtol=1e-5)


def test_one_client_alone_trains_on_its_own_examples(federated, run_tiny):
    alone = run_tiny(*LABELS, "federated=local", "federated.clients=3", "federated.only=1", "budget.max_steps=4")
    together = federated(rounds=1).extensions["federated"]["clients"]
    assert alone.data["data"]["splits"]["train"]["rows"] == together[1]["examples"]
    assert "federated" not in alone.extensions


def files(folder: str | Path) -> dict[str, bytes]:
    names = ("trail.jsonl", "predictions/*", "adapter/*", "checkpoints/*", "metrics.csv")
    return {
        str(file.relative_to(folder)): file.read_bytes() for name in names for file in sorted(Path(folder).glob(name))
    }


def test_a_coordinator_that_dies_in_any_place_goes_on_bit_for_bit(federated, monkeypatch):
    """It has what clients have sent, and trains only the others again."""
    whole = federated("run_dir=whole", rounds=3)
    trained: list[tuple[int, int]] = []
    train = LocalTraining.train

    class Killed(BaseException):
        """As by kill -9: nothing is tidied up but what the test needs."""

    def dying(self, order):
        if len(trained) in (1, 4) and (order.round, order.number, "died") not in trained:
            trained.append((order.round, order.number, "died"))
            raise Killed
        trained.append((order.round, order.number))
        train(self, order)

    monkeypatch.setattr(LocalTraining, "train", dying)
    for _ in range(2):
        with pytest.raises(Killed):
            federated("run_dir=parts", rounds=3)
    parts = federated("run_dir=parts", rounds=3)
    done = [each for each in trained if len(each) == 2]
    assert done == [(n, client) for n in range(3) for client in range(3)], "no client trains twice"
    assert files("parts") == files("whole")
    assert parts.data["metrics"] == whole.data["metrics"]
    entries = [record.extensions["federated"]["rounds"] for record in (parts, whole)]
    assert entries[0] == entries[1]


CLIENTS = ["privacy=dp", "privacy.unit=client", "federated.fraction=0.6"]
CLIENTS += ["privacy.epsilon=null", "privacy.noise_multiplier=0.6"]


@pytest.mark.exhaustive
def test_a_private_federation_promises_something_to_each_client(federated):
    """A client has no part in A, so that the mean of what clients send is that of their changes."""
    pytest.importorskip("opacus")
    record = federated(*CLIENTS, "federated.clients=6", "privacy.max_grad_norm=1e-3", rounds=3)
    privacy, federation = record.data["privacy"], record.extensions["federated"]
    assert (privacy["unit"], privacy["units"], privacy["steps"], privacy["steps_taken"]) == ("client", 6, 3, 3)
    assert 1 < privacy["epsilon"] < 10
    assert privacy["sample_rate"] == 0.6
    assert privacy["clipped"] == 1
    assert any("server" in line for line in privacy["not_covered"])
    assert any("which clients took part" in line for line in privacy["not_covered"])
    assert federation["aggregation"] == "noisy mean of clipped changes"
    assert all(each["clipped"] == len(each["clients"]) and "lost" not in each for each in federation["rounds"])
    trained = load_file(Path(record.folder) / "checkpoints/best.safetensors")
    assert trained
    assert not [name for name in trained if "lora_A" in name]
    assert check(RunFolder(record)).causes == []
    assert load(record.folder).predict(["Marie Curie moved to Rome"])


def test_a_round_that_nobody_was_drawn_for_has_no_loss_and_rounds_that_are_not_taken_cost_no_noise(federated):
    pytest.importorskip("opacus")
    rare = ["federated.fraction=1e-6", "privacy.max_grad_norm=1e-8"]
    record = federated(*CLIENTS, *rare, "budget.max_steps=2", rounds=9)
    rounds = record.extensions["federated"]["rounds"]
    assert [(each["clients"], each["loss"]) for each in rounds] == [([], None), ([], None)]
    assert "train/loss" not in (Path(record.folder) / "metrics.csv").read_text()
    trail = [json.loads(line) for line in (Path(record.folder) / "trail.jsonl").read_text().splitlines()[1:]]
    assert [point["loss"] for point in trail] == [None, "nan", "nan"]
    assert (record.data["privacy"]["steps"], record.data["privacy"]["steps_taken"]) == (2, 2)


@pytest.mark.exhaustive
def test_a_private_federation_that_dies_goes_on_bit_for_bit(federated, monkeypatch):
    pytest.importorskip("opacus")
    whole = federated(*CLIENTS, "run_dir=whole", rounds=4)
    train, trained = LocalTraining.train, []

    class Killed(BaseException):
        """As by kill -9."""

    def dying(self, order):
        trained.append(order)
        if len(trained) == 3:
            raise Killed
        train(self, order)

    monkeypatch.setattr(LocalTraining, "train", dying)
    with pytest.raises(Killed):
        federated(*CLIENTS, "run_dir=parts", rounds=4)
    parts = federated(*CLIENTS, "run_dir=parts", rounds=4)
    assert files("parts") == files("whole")
    assert parts.data["privacy"] == whole.data["privacy"]
    assert parts.extensions["federated"]["rounds"] == whole.extensions["federated"]["rounds"]


REFUSED = [
    (["peft=dora"], "cannot be averaged"),
    (["privacy=dp"], "privacy.unit=client"),
    ([*CLIENTS, "data.duplicates=drop"], "those of others"),
    ([*CLIENTS, "budget.train_examples=null", "budget.per_class=2"], "by the others"),
    (["regularizer=[ema]"], "from step to step"),
    (["regularizer=[l2_sp]"], "refers to the weights"),
    (["augment=[mention]"], "examples of all clients"),
    (["task.class_weights=balanced"], "counting the labels"),
    (["task=multilabel", "task.pos_weight=balanced"], "counting the labels"),
    (["task=regression"], "task.mean=... task.sd=..."),
    (["data.labels=null"], "data.labels=null"),
    (["trainer.devices=2"], "takes one device"),
    (["trainer.cache_activations=true"], "does without"),
    (["federated=local", "federated.only=3"], "numbered from 0"),
]


def test_what_does_not_go_together_with_clients_is_refused(federated):
    for overrides, message in REFUSED:
        local = ["federated.rounds=null", "budget.max_steps=2"] if "federated=local" in overrides else []
        with pytest.raises(ConfigError, match=message):
            federated(*overrides, *local)


def test_processes_make_the_same_and_one_that_is_killed_in_each_round_loses_nothing(federated, monkeypatch):
    whole = federated("run_dir=whole", rounds=3)
    send, killed = Worker.send, set()

    def killing(self, order):
        send(self, order)
        if order.round not in killed:
            killed.add(order.round)
            os.kill(self.process.pid, signal.SIGKILL)

    monkeypatch.setattr(Worker, "send", killing)
    parts = federated("federated.processes=2", "run_dir=parts", rounds=3)
    assert killed == {0, 1, 2}
    assert files("parts") == files("whole")
    assert parts.data["metrics"] == whole.data["metrics"]
    assert parts.data["cost"]["train_flops"] == whole.data["cost"]["train_flops"]
    monkeypatch.setattr(Worker, "send", lambda self, order: (send(self, order), os.kill(self.process.pid, 9)))
    with pytest.raises(RunError, match="ended 3 times"):
        federated("federated.processes=2", "run_dir=dead", rounds=3)


def test_steps_that_clients_leave_out_are_told_of_and_the_loss_is_that_of_the_others(federated):
    """By the round and the client, wherever it trains; a client all of whose steps were left out has no loss."""
    Path("spoilt.py").write_text(
        """
import math
from peftlab.tasks.ner import Ner
from peftlab.tasks.task import spec

@spec
class Spoilt(Ner):
    def loss(self, outputs, batch):
        is_bad = batch.split == "train" and any(example.id in ("train:3", "train:11") for example in batch.examples)
        return super().loss(outputs, batch) * (math.nan if is_bad else 1.0)
"""
    )
    chosen = ["allow=[spoilt]", "task._target_=spoilt.Spoilt", "trainer.on_nan=skip_batch", "data.batch_size=64"]
    records = [federated(*chosen, f"federated.processes={n}", f"run_dir=of_{n}", rounds=1) for n in (0, 1)]
    here, there = (record.events("step left out") for record in records)
    assert [{**event, "at": ""} for event in here] == [{**event, "at": ""} for event in there]
    clients = [event["client"] for event in here]
    assert 0 < len(clients) < 3
    assert all(event["step"] == event["client_step"] == 1 for event in here)
    losses = [record.extensions["federated"]["rounds"][0]["loss"] for record in records]
    assert 0 < losses[0] == losses[1]
