"""peftlab from Python: `run` and `compose`."""

from __future__ import annotations

import csv
import logging
import os
import random
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hydra import compose as hydra_compose
from hydra import initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import peftlab
from peftlab.composing.compose import compose, composed_keys
from peftlab.errors import ConfigError
from peftlab.runs.record import RunRecord


def of_the_process():
    """Return what a process shares, and a run may set."""
    loggers = [logging.getLogger(name) for name in ("peftlab", "lightning.pytorch", "lightning.fabric", "")]
    return {
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "environment": {key: value for key, value in os.environ.items() if key != "WANDB_ERROR_REPORTING"},
        "filters": list(warnings.filters),
        "loggers": [(one.level, one.propagate, list(one.handlers)) for one in loggers],
        "transformers": (transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()),
        "csv": csv.field_size_limit(),
        "folder": os.getcwd(),
    }


@pytest.mark.slow
def test_run_does_one_run_and_leaves_the_process_as_it_was(tiny_overrides, monkeypatch):
    for name in ("lightning.pytorch", "peftlab"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.INFO)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    transformers.logging.enable_progress_bar()
    torch.use_deterministic_algorithms(False)
    before = of_the_process()
    record = peftlab.run("experiment=ner_lora", *tiny_overrides, "budget.max_steps=2", "run_dir=run")
    after = of_the_process()
    assert {key for key in before if before[key] != after[key]} == set()
    assert record.data["status"] == "completed"
    assert record.data["overrides"][0] == "experiment=ner_lora"
    assert RunRecord.load(Path("run")).data == record.data
    (answer,) = peftlab.load("run").predict(["Marie moved to Paris."])
    assert answer.keys() == {"text", "entities"}


@pytest.mark.parametrize("plus", ["", "+"])
def test_an_experiment_needs_no_plus(plus):
    assert compose(f"{plus}experiment=ner_full").peft.name == "full"


def test_a_folder_of_ones_own_comes_beside_ours(tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "my_own.yaml").write_text("# @package _global_\nname: my_own\nseed: 7\n")
    cfg = compose("experiment=my_own", "peft=head", config_dir="mine")
    assert (cfg.name, cfg.seed, cfg.peft.name) == ("my_own", 7, "head")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("peft=lorra", "Did you mean 'lora'?"),
        ("optimizer.lrr=1", "Did you mean 'optimizer.lr'?"),
        ("experiment=ner_lorra", "Did you mean 'ner_lora'?"),
    ],
)
def test_a_mistake_is_a_config_error(override, part):
    with pytest.raises(ConfigError, match="there is no") as error:
        compose(override)
    assert part in str(error.value)


@pytest.mark.slow
def test_two_compositions_do_not_disturb_each_other():
    assert compose("seed=1").seed == 1
    assert compose("seed=2").seed == 2


@pytest.fixture
def theirs(tmp_path):
    """A Hydra of the caller's own, initialised as in a notebook."""
    (tmp_path / "their_conf").mkdir()
    (tmp_path / "their_conf" / "theirs.yaml").write_text("mine: 1\n")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(tmp_path / "their_conf"), version_base="1.2"):
        yield
    GlobalHydra.instance().clear()


def refused():
    with pytest.raises(ConfigError):
        compose("peft=lorra")


@pytest.mark.one_in(5, "slow")
@pytest.mark.parametrize(
    "act",
    [
        lambda: compose("seed=3"),
        refused,
        lambda: composed_keys(["peft=lora"]),
        lambda: [compose("seed=3"), refused(), compose("seed=4")],
        lambda: compose("+experiment=ner_lora", "peft=head"),
    ],
)
def test_a_hydra_of_the_callers_own_goes_on(theirs, act):
    hydra, base = GlobalHydra.instance().hydra, version.getbase()
    OmegaConf.register_new_resolver("theirs", lambda: 5, replace=True)
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": {"job": {"name": "theirs"}}})
    act()
    assert GlobalHydra.instance().hydra is hydra
    assert version.getbase() == base
    assert HydraConfig.get().job.name == "theirs"
    assert hydra_compose("theirs", overrides=["mine=2", "+other=${theirs:}"]) == {"mine": 2, "other": 5}
    HydraConfig.instance().cfg = None


@pytest.mark.slow
def test_it_composes_in_threads():
    found: dict[int, int] = {}

    def work(seed):
        found[seed] = compose(f"seed={seed}").seed

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {seed: seed for seed in range(4)}
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.slow
def test_runs_of_threads_take_turns(monkeypatch):
    at_once: list[int] = []
    inside = threading.Semaphore(1)

    def run(*_):
        at_once.append(inside.acquire(blocking=False))
        random.random()
        inside.release()

    monkeypatch.setattr("peftlab.python_api.run_composed", run)
    threads = [threading.Thread(target=peftlab.run, args=[f"seed={seed}"]) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert at_once == [True] * 3
