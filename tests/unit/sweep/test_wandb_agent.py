"""The overrides that ``wandb agent`` passes, made by wandb's own code, and the run that they give."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from peftlab.sweep.wandb_agent import SWEEP_ID, read_arguments

VALUES = {
    "optimizer.lr": 3.0000000000000001e-05,
    "optimizer.weight_decay": 0.1,
    "peft": "dora",
    "peft.r": 4,
    "budget.train_examples": None,
    "trainer.deterministic": False,
    "model.dropout": 0.0,
    "data.max_tokens": 64,
    "name": "a-name.of_mine",
    "logger": ["csv"],
    "trainer.cache_activations": True,
}


def passed(values):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args  # takes two seconds

    return create_sweep_command_args({"args": {key: {"value": value} for key, value in values.items()}})[
        "args_no_hyphens"
    ]


@pytest.mark.slow
def test_every_value_that_an_agent_passes_arrives(compose_config):
    cfg = compose_config(*read_arguments(passed(VALUES), {SWEEP_ID: "abc"}))
    expected = VALUES | {"peft": cfg.peft, "logger": cfg.logger}
    found = {key: OmegaConf.select(cfg, key) for key in VALUES}
    assert found == expected
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in expected.items()}
    assert cfg.peft._target_ == compose_config("peft=dora").peft._target_
    assert list(cfg.logger) == ["csv"]


def test_none_is_a_word_where_no_agent_is():
    assert read_arguments(["name=None"], {}) == ["name=None"]


@pytest.mark.parametrize("text", ["name=NotNone", "name=[None]", "None=1"])
def test_only_none_itself_is_null(text):
    assert read_arguments([text], {SWEEP_ID: "abc"}) == [text]
