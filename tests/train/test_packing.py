"""Several runs in one process: each is what it would be alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file

from peftlab.devices.process_state import restored
from peftlab.errors import ConfigError
from peftlab.one_run import run
from peftlab.packing.pack import Pack, Seat
from peftlab.runs.record import RunRecord

pytestmark = pytest.mark.slow

Configured = Callable[..., DictConfig]


@pytest.fixture
def configured(compose_config: Configured, tiny_model: Path, tiny_data: Path) -> Configured:
    def compose(*overrides: str) -> DictConfig:
        tiny = ["model=folder", f"model.path={tiny_model}", "data=files", f"data.path={tiny_data}", "data.batch_size=8"]
        tiny += ["trainer=cpu", "trainer.precision=32-true", "trainer.trail_every=1", "budget=smoke", "callbacks=[]"]
        return compose_config(*tiny, "budget.max_steps=4", *overrides)

    return compose


def alone(config: DictConfig) -> RunRecord:
    with restored():
        return run(config)


def packed(*configs: DictConfig) -> list[Seat]:
    def work(config: DictConfig) -> Callable[[Seat], RunRecord]:
        return lambda seat: run(config, seat=seat)

    with restored():
        return Pack([work(config) for config in configs]).run()


def trail(record: Any) -> list[Any]:
    points = [json.loads(line) for line in (record.folder / "trail.jsonl").read_text().splitlines()[1:]]
    return [(point["step"], point["loss"], point["hashes"]) for point in points]


def test_runs_that_take_turns_have_the_bits_of_runs_alone(configured, tmp_path):
    runs = [["seed=1"], ["seed=2", "peft=prefix_tuning", "optimizer.lr=1e-2", "budget.max_steps=6"], ["peft.r=3000000"]]
    solo = [alone(configured(*each, f"run_dir={tmp_path / 'alone' / str(n)}")) for n, each in enumerate(runs[:2])]
    seats = packed(*(configured(*each, f"run_dir={tmp_path / str(n)}") for n, each in enumerate(runs)))
    assert isinstance(seats[2].turns.error, ConfigError)  # which leaves the others alone
    for one, seat in zip(solo, seats, strict=False):
        assert seat.turns.error is None
        record: Any = seat.turns.result
        assert record.data["identity"] == one.data["identity"]
        assert trail(record) == trail(one)
        assert record.data["metrics"] == one.data["metrics"]
        packing = record.extensions["packing"]
        assert packing["runs"] == 3
        assert 0 < packing["seconds"] < packing["clock_seconds"] < record.data["cost"]["wall_seconds"]
        assert record.seconds_on_device() < record.data["cost"]["wall_seconds"]
        log = (record.folder / "log.txt").read_text()
        assert log.count("run folder: ") == 2  # its own lines only
    assert seats[0].turns.context.handlers is not seats[1].turns.context.handlers


def test_steps_that_are_computed_together_are_those_of_runs_alone_up_to_rounding(configured, tmp_path):
    runs = [
        ["seed=1", "optimizer.lr=1e-2"],
        ["seed=2", "budget.max_steps=8", "peft.r=4", "optimizer.weight_decay=0.1"],  # of another length, and rank
        ["seed=3", "data.batch_size=5", "scheduler=constant"],
        ["seed=4", "regularizer=[rdrop]"],  # several passes: alone
    ]
    solo = [alone(configured(*each, f"run_dir={tmp_path / 'alone' / str(n)}")) for n, each in enumerate(runs)]
    seats = packed(*(configured(*each, f"run_dir={tmp_path / str(n)}") for n, each in enumerate(runs)))
    for one, seat in zip(solo, seats, strict=True):
        assert seat.turns.error is None
        record: Any = seat.turns.result
        assert record.data["identity"] == one.data["identity"]
        assert record.data["cost"]["train_flops"] == one.data["cost"]["train_flops"]
        losses = [[float(loss) for _, loss, _ in trail(each)[1:]] for each in (record, one)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
        for ours, theirs in zip(record.data["metrics"], one.data["metrics"], strict=True):
            assert ours == theirs | {"value": pytest.approx(theirs["value"], rel=1e-4)}
        ours, theirs = (load_file(each.folder / "checkpoints" / "best.safetensors") for each in (record, one))
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-4)
    facts = [seat.facts() for seat in seats]
    assert [each["joint_steps"] for each in facts] == [2, 2, 2, 0]
    assert facts[3]["alone"] == "regularizer.rdrop changes the passes of a step"
