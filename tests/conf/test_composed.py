"""The configurations of tests, put together from sections that are composed once, are those that Hydra composes."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf
from tests.conftest import composed_by

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "choices",
    [
        ["peft=head", "callbacks=[]", "optimizer=sgd", "data=csv", "regularizer=[rdrop,ema]", "privacy=dp"],
        ["+experiment=ner_lora", "peft=full", "logger=[]"],
    ],
)
def test_they_are_those_of_hydra(compose_config, choices):
    ours, expected = compose_config(*choices), composed_by(*choices)
    assert list(ours) == list(expected)
    assert OmegaConf.to_container(ours) == OmegaConf.to_container(expected)
    for config in (ours, expected):
        config.task.selection.metric = config.peft.name  # references refer to it, not to what it was put together from
        assert OmegaConf.is_struct(config)
        if "early_stopping" in config.get("callbacks", {}):
            assert config.callbacks.early_stopping.monitor == f"validation/{config.peft.name}"
