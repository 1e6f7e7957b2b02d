"""Several runs in one process: each is what it would be alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from peftlab.devices.process_state import restored
from peftlab.errors import ConfigError
from peftlab.one_run import run
from peftlab.packing.pack import Pack, Seat
from peftlab.runs.record import RunRecord

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
        assert record.extensions["packing"]["runs"] == 3
        log = (record.folder / "log.txt").read_text()
        assert log.count("run folder: ") == 2  # its own lines only
    assert seats[0].turns.context.handlers is not seats[1].turns.context.handlers
